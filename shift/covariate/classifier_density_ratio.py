"""Density ratio from a classifier that tells the target from the source."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse, vstack
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.utils._param_validation import HasMethods, Interval

from reweight.cross_fitting import cross_fit
from reweight.validation import warn_weights
from reweight.weighted_fit import weighted_fit
from reweight.weighters import last_step
from shift._target_rows import RatioWeighter

# Mean ratio over the source rows below which most of the target is out of reach.
LITTLE_COVER = 0.2
CLIPPED_SHARE = 0.05


class ClassifierDensityRatio(RatioWeighter):
    r"""Weights from the odds that a row belongs to the target rather than the source.

    A probabilistic classifier g is fitted on source and target rows together.
    By Bayes' rule the ratio of their densities is

    .. math:: w(x) = \frac{n}{t} \, \frac{g(x)}{1 - g(x)}.

    Any classifier will do, so this scales to any number of rows and takes
    sparse matrices. Its probabilities must mean what they say: wrap forests
    and boosting in `sklearn.calibration.CalibratedClassifierCV` and pass `cv=5`.

    Parameters
    ----------
    estimator : classifier, default=None
        Classifier with `predict_proba`, or a Pipeline that ends in one; None
        is `LogisticRegression()`. With `class_weight` the odds are corrected.
    cv : int, splitter or iterable, default=None
        Cross-fit the weights of the rows given to `fit`, so that no row is
        weighed by a classifier that has seen it; use it with flexible
        classifiers. None weighs them in sample. New rows are weighed by a
        classifier fitted to all rows in either case.
    max_weight : float, default=None
        Cap on the ratio, whose mean over the source is one; None is no cap.
    exponent : float, default=1.0
        Power between 0 and 1 that flattens the weights: 0 gives equal weights.
        It trades bias for variance. Tune it by a score weighted with
        `predict_density_ratio`: `predict_weights`, by which `Reweighted.score`
        weighs, is flattened too.
    random_state : int, RandomState instance or None, default=None
        Shuffles the rows before an integer `cv` forms folds; None leaves them
        in order. Randomness of the estimator is its own.
    n_jobs : int, default=None
        Number of folds that run at a time; it does not change the result.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Mean one, sampling weights included.
    raw_weights_ : ndarray of shape (n_samples,)
        The ratio at each row, times the sampling weights scaled to mean one.
    ess_ : float
        Effective sample size of `weights_`.
    estimator_ : classifier or None
        Fitted to all rows, with class 1 for the target; None without target rows.
    n_target_ : int
        Number of target rows.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Bickel, S., Brueckner, M., Scheffer, T. (2009). Discriminative learning
    under covariate shift. JMLR, 10, 2137-2155.

    Examples
    --------
    >>> import numpy as np
    >>> from shift import ClassifierDensityRatio
    >>> rng = np.random.default_rng(0)
    >>> X, X_target = rng.normal(size=(500, 1)), rng.normal(1.0, 1.0, size=(500, 1))
    >>> weighter = ClassifierDensityRatio().fit(X, X_target=X_target)
    >>> np.log(weighter.predict_weights([[1.0]]) / weighter.predict_weights([[0.0]])).round(1)
    array([1.])
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict_proba"]), None],
        "cv": ["cv_object"],
        "max_weight": [Interval(Real, 0, None, closed="neither"), None],
        "exponent": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }
    _check_params = {"accept_sparse": "csr"}

    def __init__(
        self,
        estimator: Any = None,
        *,
        cv: Any = None,
        max_weight: float | None = None,
        exponent: float = 1.0,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.cv = cv
        self.max_weight = max_weight
        self.exponent = exponent
        self.random_state = random_state
        self.n_jobs = n_jobs

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _fit_ratio(self, X: Any, X_target: Any, share: NDArray[np.float64]) -> NDArray[np.float64]:
        n, t = X.shape[0], X_target.shape[0]
        sparse = issparse(X) or issparse(X_target)
        rows = vstack([X, X_target], "csr") if sparse else np.concatenate([X, X_target])
        is_target = np.repeat([0, 1], [n, t])
        equal = np.ptp(share) <= 1e-12 * share.max()
        weight = None if equal else np.concatenate([n * share, np.ones(t)])
        estimator = LogisticRegression() if self.estimator is None else self.estimator
        owner = type(self).__name__
        self.estimator_ = weighted_fit(clone(estimator), rows, is_target, weight, owner=owner)
        self._log_prior = np.log(n / t) - _class_weight_log_odds(estimator, n, t)
        if self.cv is None:
            return self._checked(_log_odds_of(self.estimator_, X), share)
        with np.errstate(divide="ignore"):
            crossed = cross_fit(
                estimator,
                rows,
                is_target,
                cv=self.cv,
                method=_method(estimator),
                sample_weight=weight,
                random_state=self.random_state,
                n_jobs=self.n_jobs,
            )
        missing = int((crossed.missing_rows < n).sum())
        if missing:
            raise ValueError(
                f"{owner}: cv leaves {missing} source rows out of every test fold, so they get no "
                "weight; pass a cv whose test folds cover all rows"
            )
        return self._checked(_log_odds(np.asarray(crossed.predictions)[:n]), share)

    def _checked(self, log_odds: NDArray, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ratios at the source rows, whose mean is one where the source covers the target."""
        ratio = self._from_log_odds(log_odds)
        covered = float(share @ ratio)
        if covered < LITTLE_COVER:
            warn_weights(
                f"{type(self).__name__}: the density ratio has mean {covered:.2g} over the source "
                "rows where it should be 1; most of the target lies where there are no source "
                "rows, and weights speak for the rest only; look at domain_score_histogram"
            )
        return self._cap(ratio, warn=True)

    def _fit_no_shift(self, X: Any) -> None:
        self.estimator_ = None

    def _ratio(self, X: Any) -> NDArray[np.float64]:
        return self._cap(self._from_log_odds(_log_odds_of(self.estimator_, X)))

    def _from_log_odds(self, log_odds: NDArray) -> NDArray[np.float64]:
        certain = np.isposinf(log_odds)
        if certain.any() and self.max_weight is None:
            raise ValueError(
                f"{type(self).__name__}: the classifier is certain that {int(certain.sum())} "
                "source rows belong to the target, which gives infinite weights; calibrate it, "
                "pass cv=5, or cap the weights with max_weight"
            )
        with np.errstate(over="ignore"):
            ratio = np.exp(np.minimum(log_odds + self._log_prior, 700.0))
        return ratio

    def _cap(self, ratio: NDArray[np.float64], warn: bool = False) -> NDArray[np.float64]:
        if self.max_weight is None:
            return ratio
        clipped = float((ratio > self.max_weight).mean())
        if warn and clipped > CLIPPED_SHARE:
            warn_weights(
                f"{type(self).__name__}: max_weight={self.max_weight:g} caps {clipped:.0%} of the "
                "weights; raise it, or flatten them with exponent < 1"
            )
        return np.minimum(ratio, self.max_weight)


def _method(estimator: Any) -> str:
    """What the classifier's log odds are best computed from."""
    last = last_step(estimator)
    if isinstance(last, LogisticRegression | LogisticRegressionCV):
        return "decision_function"
    return "predict_log_proba" if hasattr(estimator, "predict_log_proba") else "predict_proba"


def _log_odds_of(estimator: Any, X: Any) -> NDArray[np.float64]:
    # A probability of zero is a fact about the classifier, handled where odds become weights.
    with np.errstate(divide="ignore"):
        return _log_odds(getattr(estimator, _method(estimator))(X))


def _log_odds(output: NDArray) -> NDArray[np.float64]:
    """Log odds from decision values, log probabilities or probabilities."""
    output = np.asarray(output, dtype=np.float64)
    if output.ndim == 1:
        return output
    if (output >= 0).all() and np.allclose(output.sum(axis=1), 1.0):
        with np.errstate(divide="ignore"):
            output = np.log(output)
    return output[:, 1] - output[:, 0]


def _class_weight_log_odds(estimator: Any, n: int, t: int) -> float:
    """By how much a class weight shifts the log odds of the classifier."""
    last = last_step(estimator)
    class_weight = getattr(last, "class_weight", None)
    if class_weight is None:
        return 0.0
    if isinstance(class_weight, str):
        return float(np.log(n / t))
    return float(np.log(class_weight.get(1, 1.0) / class_weight.get(0, 1.0)))
