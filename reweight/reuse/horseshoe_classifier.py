"""Sparse Bayesian multinomial logistic regression with groups."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length

from reweight.reuse._gate import GateClassifier, warn_about_weights
from reweight.reuse._rows import split_features
from reweight.validation import check_sample_weight, count_missing

Array = NDArray[np.float64]


class HorseshoeMultinomialClassifier(GateClassifier):
    r"""Multinomial logistic regression whose coefficients are mostly near zero, by sampling.

    Log odds of class k against the last class are
    :math:`\alpha_k + u_{g k} + x'\beta_k`, with features standardised, normal
    intercepts, normal effects u of groups, and a regularised horseshoe prior
    :math:`\beta_{jk} = \tau \tilde\lambda_{jk} z_{jk}`,
    :math:`\tilde\lambda^2 = c^2\lambda^2/(c^2 + \tau^2\lambda^2)`: the global
    scale pulls all coefficients to zero, heavy-tailed local scales let few
    escape, and the slab c keeps those from running away. The scale of tau comes
    from the number of features expected to matter. Probabilities are averages
    over posterior draws.

    Parameters
    ----------
    expected_nonzero : int, default=None
        Number of features expected to matter, below that of all; None is half
        of them. With a single feature the prior is normal.
    horseshoe : {"regularized", "plain"} or None, default="regularized"
        "plain" has no slab; None gives coefficients normal priors with
        standard deviation `slab_scale`.
    slab_scale : float, default=2.0
        Scale of the slab, a bound on large coefficients, per standard deviation
        of the feature.
    slab_df : float, default=4.0
        Degrees of freedom of the slab.
    local_df : float, default=1.0
        Degrees of freedom of the local scales; 1 is the horseshoe.
    global_df : float, default=1.0
        Degrees of freedom of the global scale.
    local_scales : {"coefficient", "feature"}, default="coefficient"
        Whether each coefficient has a local scale, or those of a feature share
        one, so that it is in or out for all classes.
    tau0 : float, default=None
        Scale of tau in place of the one from `expected_nonzero`.
    intercept_scale : float, default=2.5
        Prior standard deviation of the intercepts.
    group_scale : float, default=1.0
        Scale of the half-normal prior of the groups' standard deviation.
    standardize : bool, default=True
        Whether features are brought to mean zero and unit standard deviation
        before; without it the prior is in their own units.
    reference : {"last", "none"}, default="last"
        "last" gives the last class a linear predictor of zero; "none" gives
        every class coefficients, identified by the prior alone. The choice
        affects the prior, not the likelihood.
    groups : int or str, default=None
        Column of X that holds the group of each row and is no feature; an
        alternative to passing `groups` to methods that works in every pipeline.
    new_groups : {"sample", "zero", "error"}, default="sample"
        Effect of a group not seen in `fit`: drawn from the groups'
        distribution, none, or an error.
    sampler : {"auto", "nutpie", "pymc"}, default="auto"
        "nutpie" runs its NUTS on a compiled log density, "pymc" runs PyMC's on
        PyMC's graph, which needs no compiler but is slower; "auto" takes
        nutpie where it is installed.
    draws : int, default=1000
        Draws kept of each chain.
    tune : int, default=1000
        Draws before those, for tuning.
    chains : int, default=4
        Number of chains.
    cores : int, default=None
        Chains sampled at a time; None is as many as there are processors. It
        does not change the result. Pass 1 in searches that run in parallel.
    target_accept : float, default=0.95
        Acceptance rate that tuning aims at; larger takes smaller steps.
    on_nonconvergence : {"warn", "raise", "ignore"}, default="warn"
        What to do if the chains do not agree or draws diverge.
    keep_log_likelihood : bool, default=True
        Whether `idata_` keeps the log likelihood of each row at each draw,
        which `loo` needs.
    keep_auxiliary : bool, default=False
        Whether `idata_` keeps the standard normal z and v from which
        coefficients and group effects are made.
    loss_matrix : array-like of shape (n_classes, n_classes), default=None
        Loss of each action (column) for each true class (row); `predict` then
        takes the class of least expected loss.
    random_state : int, RandomState instance or None, default=None
        Seed of the chains. The same seed, sampler and versions give the same
        draws.
    verbose : int, default=0
        Whether to show the progress of sampling.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes.
    idata_ : arviz.InferenceData
        Draws in standardised units, statistics of the sampler, the observed
        classes and the log likelihood of each row.
    coef_ : ndarray of shape (n_classes - 1, n_features_in_)
        Posterior means in the units of the features; one row more with
        ``reference="none"``.
    intercept_ : ndarray of shape (n_classes - 1,)
        Posterior means of the intercepts in these units.
    coef_draws_ : ndarray of shape (n_draws, n_classes - 1, n_features_in_)
        Coefficients of each draw.
    intercept_draws_ : ndarray of shape (n_draws, n_classes - 1)
        Intercepts of each draw.
    groups_ : ndarray of shape (n_groups,) or None
        Labels of the groups.
    group_effects_ : ndarray of shape (n_groups, n_classes - 1) or None
        Posterior means of the effects.
    tau0_ : float
        Prior scale of tau; NaN without a horseshoe.
    effective_nonzero_ : float
        Posterior mean of the effective number of nonzero coefficients, of all
        classes together.
    effective_nonzero_by_class_ : ndarray of shape (n_classes - 1,)
        The same for each column of coefficients.
    diagnostics_ : dict
        `rhat`, `ess_bulk`, `ess_tail` of each quantity; `max_rhat`,
        `min_ess_bulk`, `min_ess_tail` of the worst; `n_divergent`,
        `max_treedepth_hits` and `bfmi`.
    sampler_ : str
        Sampler used.
    x_mean_, x_scale_ : ndarray of shape (n_features_in_,)
        What features are standardised by.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    See Also
    --------
    BayesianReuseClassifier : Grades whose thresholds are learned too.

    Notes
    -----
    Integer `sample_weight` counts a row that many times, exactly. Other weights
    give a pseudo-posterior whose intervals are approximate, and a warning.

    Cost grows with rows times features times classes times the steps of the
    sampler; beyond about 1e5 rows use
    `sklearn.linear_model.LogisticRegression`.

    References
    ----------
    Piironen, J., Vehtari, A. (2017). Sparsity information and regularization
    in the horseshoe and other shrinkage priors. Electronic Journal of
    Statistics, 11(2), 5018-5051.

    Vehtari, A., Gelman, A., Simpson, D., Carpenter, B., Burkner, P.-C. (2021).
    Rank-normalization, folding, and localization: an improved R-hat. Bayesian
    Analysis, 16(2), 667-718.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import HorseshoeMultinomialClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(2 * X[:, 0] + rng.logistic(size=200) > 0, "a", "b")
    >>> model = HorseshoeMultinomialClassifier(
    ...     expected_nonzero=1,
    ...     draws=200,
    ...     tune=200,
    ...     chains=2,
    ...     random_state=0,
    ...     on_nonconvergence="ignore",
    ... ).fit(X, y)
    >>> int(np.abs(model.coef_[0]).argmax())
    0
    """

    __metadata_request__fit = {"groups": True}
    __metadata_request__predict = {"groups": True}
    __metadata_request__predict_proba = {"groups": True}
    __metadata_request__score = {"groups": True}
    _parameter_constraints = {
        "expected_nonzero": [Interval(Integral, 1, None, closed="left"), None],
        "horseshoe": [StrOptions({"regularized", "plain"}), None],
        "slab_scale": [Interval(Real, 0, None, closed="neither")],
        "slab_df": [Interval(Real, 0, None, closed="neither")],
        "local_df": [Interval(Real, 0, None, closed="neither")],
        "global_df": [Interval(Real, 0, None, closed="neither")],
        "local_scales": [StrOptions({"coefficient", "feature"})],
        "tau0": [Interval(Real, 0, None, closed="neither"), None],
        "intercept_scale": [Interval(Real, 0, None, closed="neither")],
        "group_scale": [Interval(Real, 0, None, closed="neither")],
        "standardize": ["boolean"],
        "reference": [StrOptions({"last", "none"})],
        "groups": [Integral, str, None],
        "new_groups": [StrOptions({"sample", "zero", "error"})],
        "sampler": [StrOptions({"auto", "nutpie", "pymc"})],
        "draws": [Interval(Integral, 8, None, closed="left")],
        "tune": [Interval(Integral, 1, None, closed="left")],
        "chains": [Interval(Integral, 1, None, closed="left")],
        "cores": [Interval(Integral, 1, None, closed="left"), None],
        "target_accept": [Interval(Real, 0, 1, closed="neither")],
        "on_nonconvergence": [StrOptions({"warn", "raise", "ignore"})],
        "keep_log_likelihood": ["boolean"],
        "keep_auxiliary": ["boolean"],
        "loss_matrix": ["array-like", None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        expected_nonzero: int | None = None,
        horseshoe: str | None = "regularized",
        slab_scale: float = 2.0,
        slab_df: float = 4.0,
        local_df: float = 1.0,
        global_df: float = 1.0,
        local_scales: str = "coefficient",
        tau0: float | None = None,
        intercept_scale: float = 2.5,
        group_scale: float = 1.0,
        standardize: bool = True,
        reference: str = "last",
        groups: int | str | None = None,
        new_groups: str = "sample",
        sampler: str = "auto",
        draws: int = 1000,
        tune: int = 1000,
        chains: int = 4,
        cores: int | None = None,
        target_accept: float = 0.95,
        on_nonconvergence: str = "warn",
        keep_log_likelihood: bool = True,
        keep_auxiliary: bool = False,
        loss_matrix: ArrayLike | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.expected_nonzero = expected_nonzero
        self.horseshoe = horseshoe
        self.slab_scale = slab_scale
        self.slab_df = slab_df
        self.local_df = local_df
        self.global_df = global_df
        self.local_scales = local_scales
        self.tau0 = tau0
        self.intercept_scale = intercept_scale
        self.group_scale = group_scale
        self.standardize = standardize
        self.reference = reference
        self.groups = groups
        self.new_groups = new_groups
        self.sampler = sampler
        self.draws = draws
        self.tune = tune
        self.chains = chains
        self.cores = cores
        self.target_accept = target_accept
        self.on_nonconvergence = on_nonconvergence
        self.keep_log_likelihood = keep_log_likelihood
        self.keep_auxiliary = keep_auxiliary
        self.loss_matrix = loss_matrix
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Sample the posterior.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Classes.
        groups : array-like of shape (n_samples,), default=None
            Group of each row, whose intercepts differ.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts, or weights; rows of weight zero are left out.

        Returns
        -------
        Self

        Raises
        ------
        ValueError
            If there are fewer than two classes, or priors do not fit the data.
        ConvergenceError
            If the chains do not agree and ``on_nonconvergence="raise"``.
        """
        self._validate_params()
        name = type(self).__name__
        if y is None:
            raise ValueError(
                f"{name} requires y to be passed, but the target y is None; pass the classes"
            )
        X, groups = split_features(self, X, groups, reset=True)
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        n_missing = count_missing(y)
        if n_missing:
            raise ValueError(f"{name}: y contains {n_missing} missing entries; drop those rows")
        check_classification_targets(y)
        weight = check_sample_weight(sample_weight, X)
        warn_about_weights(name, weight)
        kept = weight > 0
        self.classes_, codes = np.unique(y[kept], return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{name}: y holds one class, {self.classes_[0]!r}; at least two are needed, so "
                "pass rows of another"
            )
        self._fit_gate(
            X[kept],
            codes.astype(np.int64),
            None if groups is None else groups[kept],
            weight[kept],
            shares=np.bincount(codes, weight[kept]),
        )
        return self

    def predict_proba_draws(
        self, X: Any, *, groups: ArrayLike | None = None, max_draws: int | None = None
    ) -> Array:
        """Class probabilities at posterior draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        groups : array-like of shape (n_samples,), default=None
            Group of each row; None is a new one in a model with groups.
        max_draws : int, default=None
            Number of draws to thin to; None takes all.

        Returns
        -------
        ndarray of shape (n_draws, n_samples, n_classes)
        """
        return self._proba_draws(X, groups, None, max_draws)

    def predict_proba(self, X: Any, *, groups: ArrayLike | None = None) -> Array:
        """Posterior mean of the class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        groups : array-like of shape (n_samples,), default=None
            Group of each row; None is a new one in a model with groups.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self._mean_proba(X, groups, None)

    def predict_log_proba(self, X: Any, *, groups: ArrayLike | None = None) -> Array:
        """Logarithms of `predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        groups : array-like of shape (n_samples,), default=None
            Group of each row; None is a new one in a model with groups.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X, groups=groups))

    def predict_proba_interval(
        self, X: Any, *, groups: ArrayLike | None = None, confidence_level: float = 0.95
    ) -> Array:
        """Posterior intervals of the class probabilities, with equal tails.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        groups : array-like of shape (n_samples,), default=None
            Group of each row; None is a new one in a model with groups.
        confidence_level : float, default=0.95
            Posterior probability of each interval.

        Returns
        -------
        ndarray of shape (n_samples, n_classes, 2)
        """
        return self._proba_interval(X, groups, None, confidence_level)

    def predict(self, X: Any, *, groups: ArrayLike | None = None) -> NDArray:
        """Most probable class, or the one of least expected loss.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        groups : array-like of shape (n_samples,), default=None
            Group of each row; None is a new one in a model with groups.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._choose(self.predict_proba(X, groups=groups))

    def score(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
    ) -> float:
        """Accuracy.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.
        groups : array-like of shape (n_samples,), default=None
            Group of each row; None is a new one in a model with groups.

        Returns
        -------
        float
        """
        return float(accuracy_score(y, self.predict(X, groups=groups), sample_weight=sample_weight))

    def log_predictive_density(
        self,
        X: Any,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Mean log posterior predictive probability of the classes; larger is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Classes.
        groups : array-like of shape (n_samples,), default=None
            Group of each row; None is a new one in a model with groups.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If y holds classes that `fit` has not seen.
        """
        y = column_or_1d(y)
        unseen = np.setdiff1d(y, self.classes_)
        if len(unseen):
            raise ValueError(
                f"{type(self).__name__}: y holds classes {unseen[:10].tolist()} that fit has not "
                "seen; leave those rows out"
            )
        return self._mean_density(X, np.searchsorted(self.classes_, y), groups, None, sample_weight)
