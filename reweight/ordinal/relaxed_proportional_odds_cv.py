"""Relaxed proportional odds with a strength chosen by cross-validation."""

import warnings
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedKFold, check_cv
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from reweight.metrics.ordinal import ranked_probability_score
from reweight.ordinal._base import BaseOrdinalClassifier
from reweight.ordinal._cumulative_logit import level_log_probabilities, level_probabilities
from reweight.ordinal._design import OrdinalRows, check_level_weights, make_design, unit_penalty
from reweight.ordinal._path import fit_path, grid, warn_if_separated, warn_unless_converged
from reweight.parallel import parallel_map

Array = NDArray[np.float64]


class RelaxedProportionalOddsCV(BaseOrdinalClassifier):
    """Ordinal regression shrunk towards proportional odds as much as held-out rows ask for.

    The strengths are those of the path on all rows. Each fold is fitted along
    them, and the largest strength with the smallest mean held-out loss is taken.
    Folds keep the shares of the levels, so that a rare one is in each.

    Parameters
    ----------
    alphas : int or array-like of shape (n_alphas,), default=20
        Strengths of the penalty, or their number on a logarithmic grid that starts
        at the smallest one whose penalised coefficients are all zero.
    eps : float, default=1e-2
        Smallest strength over the largest, when `alphas` is a number.
    l1_ratio : float, default=1.0
        Share of the absolute values in the penalty; 0 is a ridge on the differences.
    penalize_first : bool, default=True
        Whether the slopes of the first boundary are penalised too.
    penalty_factors : array-like of shape (n_features,), default=None
        Factor of each feature; None is one for all, 0 no penalty.
    standardize : bool, default=True
        Whether to penalise slopes per standard deviation of the feature.
    categories : array-like of shape (n_classes,), default=None
        Levels from the lowest to the highest. None takes the order of an ordered
        categorical of pandas or an Enum of polars, otherwise the sorted labels.
    cv : int, cross-validation splitter or iterable, default=5
        Folds; a number gives shuffled folds that keep the shares of the levels.
    scoring : {"brier", "ranked_probability_score", "log_loss"}, default="brier"
        Held-out loss: squared errors of the probabilities of levels, those of the
        cumulative probabilities, or minus the log-probability, which is infinite for
        a row whose level lies between boundaries that cross.
    solver : {"auto", "newton-cd", "fista"}, default="auto"
        As in `RelaxedProportionalOdds`.
    domain : {"observed", "all"}, default="observed"
        As in `RelaxedProportionalOdds`.
    max_iter : int, default=100
        Largest number of Newton steps, or of hundreds of gradient steps.
    tol : float, default=1e-7
        Largest violation of the optimality conditions.
    n_jobs : int, default=None
        Number of jobs, over folds.
    random_state : int, RandomState instance or None, default=None
        Shuffles rows before they are cut into folds.
    verbose : int, default=0
        Whether to show the progress over folds.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Levels from the lowest to the highest.
    alpha_ : float
        The strength chosen.
    alphas_ : ndarray of shape (n_alphas,)
        Strengths, descending.
    cv_losses_ : ndarray of shape (n_alphas, n_folds)
        Mean held-out loss.
    cv_path_ : DataFrame
        By strength: mean and standard error of the losses of the folds, and how many
        slopes differ from those of the boundary before, in the fit on all rows.
    path_ : OrdinalPath
        Fits on all rows.
    intercept_ : ndarray of shape (n_classes - 1,)
        Intercepts of the boundaries.
    coef_ : ndarray of shape (n_classes - 1, n_features)
        Slopes of the log-odds of lying at or below each level.
    exceedance_coef_ : ndarray of shape (n_classes - 1, n_features)
        Minus `coef_`, the slopes of the log-odds of lying above.
    differences_ : ndarray of shape (n_classes - 1, n_features)
        Slopes of the first boundary, then what each adds to the one before.
    loglik_ : float
        Log-likelihood of the training rows, each times its sample weight.
    objective_ : float
        Mean negative log-likelihood plus penalty.
    optimality_gap_ : float
        Largest violation of the optimality conditions on all rows, at `alpha_`.
    n_iter_ : int
        Steps of the solver over the path of all rows.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    See Also
    --------
    RelaxedProportionalOdds : The model for one strength.
    validation_path_plot : Picture of `cv_path_`.

    References
    ----------
    Faletto, G., Bien, J. (2023). Predicting rare events by shrinking towards
    proportional odds. ICML, PMLR 202.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import RelaxedProportionalOddsCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 2))
    >>> y = np.digitize(X[:, 0] + rng.logistic(size=500), [0.0, 3.0])
    >>> model = RelaxedProportionalOddsCV(random_state=0).fit(X, y)
    >>> model.predict_exceedance([[-1.0, 0.0], [2.0, 0.0]]).round(2)
    array([[0.21, 0.03],
           [0.92, 0.24]])
    """

    _parameter_constraints = {
        **BaseOrdinalClassifier._parameter_constraints,
        "alphas": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "eps": [Interval(Real, 0, 1, closed="neither")],
        "cv": ["cv_object"],
        "scoring": [StrOptions({"brier", "ranked_probability_score", "log_loss"})],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        alphas: int | ArrayLike = 20,
        *,
        eps: float = 1e-2,
        l1_ratio: float = 1.0,
        penalize_first: bool = True,
        penalty_factors: ArrayLike | None = None,
        standardize: bool = True,
        categories: ArrayLike | None = None,
        cv: Any = 5,
        scoring: str = "brier",
        solver: str = "auto",
        domain: str = "observed",
        max_iter: int = 100,
        tol: float = 1e-7,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.alphas = alphas
        self.eps = eps
        self.l1_ratio = l1_ratio
        self.penalize_first = penalize_first
        self.penalty_factors = penalty_factors
        self.standardize = standardize
        self.categories = categories
        self.cv = cv
        self.scoring = scoring
        self.solver = solver
        self.domain = domain
        self.max_iter = max_iter
        self.tol = tol
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Choose the strength, and keep the fit on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Levels.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights, of the fits and of the held-out losses.

        Returns
        -------
        Self

        Raises
        ------
        TypeError
            If rows are not numeric.
        ValueError
            If a parameter, the rows or the weights cannot be used, there are fewer
            than three levels, or a level has no rows in all or in the training rows
            of a fold.
        """
        self._validate_params()
        rows = self._check_rows(X, y, sample_weight)
        design = make_design(rows, self.standardize)
        unit = unit_penalty(self, design.problem.size)
        self.alphas_ = grid(self, design, self.alphas, self.eps, unit)
        folds = self._folds(rows, X, sample_weight)
        tasks = [(self, rows, train, test, unit) for train, test in folds]
        path, *others = parallel_map(
            _fold_losses,
            [(self, rows, None, None, unit), *tasks],
            total=len(tasks) + 1,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
            name="folds",
        )
        self._keep(path, np.column_stack([losses for losses, _ in others]), rows)
        gaps = np.concatenate([path.optimality_gap, *(gap for _, gap in others)])
        warn_unless_converged(self, gaps)
        warn_if_separated(self, design.from_original(self.intercept_, self.coef_))
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Classes without an order, on which scikit-learn's checks grade, are not its business.
        tags.classifier_tags.poor_score = True
        return tags

    def _folds(
        self, rows: OrdinalRows, X: Any, sample_weight: Any
    ) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Training and held-out rows among those of positive weight."""
        if isinstance(self.cv, Integral):
            seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
            cv = StratifiedKFold(self.cv, shuffle=True, random_state=seed)
            with warnings.catch_warnings():
                # A level with fewer rows than folds is in all training sets but one at least.
                warnings.filterwarnings("ignore", "The least populated class")
                folds = list(cv.split(rows.X, rows.codes))
        else:
            # A splitter or a list of rows speaks of all rows, those of weight zero included.
            folds = list(check_cv(self.cv, classifier=True).split(*self._all_rows(rows, X)))
            folds = self._of_positive_weight(folds, sample_weight)
        for number, (train, test) in enumerate(folds):
            if not len(test):
                raise ValueError(
                    f"{type(self).__name__}: fold {number} holds out no row of positive weight"
                )
            check_level_weights(
                type(self).__name__,
                rows.classes,
                rows.codes[train],
                rows.weights[train],
                f" in the training rows of fold {number}",
            )
        return folds

    @staticmethod
    def _all_rows(rows: OrdinalRows, X: Any) -> tuple[Any, Any]:
        n = len(X) if hasattr(X, "__len__") else len(rows.X)
        codes = rows.codes if n == len(rows.codes) else np.zeros(n, dtype=int)
        return np.empty((n, 1)), codes

    @staticmethod
    def _of_positive_weight(folds: list, sample_weight: Any) -> list:
        if sample_weight is None:
            return folds
        kept = np.broadcast_to(np.asarray(sample_weight), len(sample_weight)) > 0
        place = np.cumsum(kept) - 1
        return [tuple(place[part[kept[part]]] for part in fold) for fold in folds]

    def _keep(self, path: Any, losses: Array, rows: OrdinalRows) -> None:
        import pandas as pd

        self.path_ = path
        self.cv_losses_ = losses
        mean = losses.mean(axis=1)
        # Strengths descend, so that the first minimum is the largest of them.
        best = int(np.argmin(mean))
        spread = np.full(len(mean), np.nan)
        finite = np.isfinite(mean)
        if losses.shape[1] > 1:
            spread[finite] = losses[finite].std(axis=1, ddof=1)
        self.cv_path_ = pd.DataFrame(
            {
                "alpha": self.alphas_,
                "mean_loss": mean,
                "stderr": spread / np.sqrt(losses.shape[1]),
                "n_relaxed": path.n_relaxed,
            }
        )
        self.classes_ = rows.classes
        self.alpha_ = float(self.alphas_[best])
        self._store(path.intercept[best], path.coef[best], path.differences[best])
        self.loglik_ = float(-rows.weights.sum() * path.loss[best])
        self.objective_ = float(path.objective[best])
        self.optimality_gap_ = float(path.optimality_gap[best])
        self.n_iter_ = int(path.n_iter.sum())


def _fold_losses(
    estimator: RelaxedProportionalOddsCV,
    rows: OrdinalRows,
    train: NDArray[np.intp] | None,
    test: NDArray[np.intp] | None,
    unit: Array,
) -> Any:
    """The path on all rows, or held-out losses of the path on some with its optimality gaps."""
    part = rows if train is None else rows.take(train)
    design = make_design(part, estimator.standardize)
    path = fit_path(estimator, design, estimator.alphas_, unit, rows.classes)
    if test is None:
        return path
    held_out = rows.take(test)
    losses = [
        held_out_loss(held_out.X @ coef.T + intercept, held_out, estimator.scoring)
        for intercept, coef in zip(path.intercept, path.coef, strict=True)
    ]
    return np.array(losses), path.optimality_gap


def held_out_loss(eta: Array, rows: OrdinalRows, scoring: str) -> float:
    """Mean loss of the predictions from these logits."""
    w = rows.weights / rows.weights.sum()
    own = np.arange(len(eta)), rows.codes
    if scoring == "log_loss":
        return float(-(w @ level_log_probabilities(eta)[own]))
    P = level_probabilities(eta)
    if scoring == "ranked_probability_score":
        return ranked_probability_score(
            rows.codes, P, labels=np.arange(P.shape[1]), sample_weight=rows.weights
        )
    P[own] -= 1.0
    return float(w @ (P**2).sum(axis=1))
