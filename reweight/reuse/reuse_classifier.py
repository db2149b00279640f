"""Grades predicted from field features, with thresholds learned from a residual metric."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from reweight.reuse._gate import warn_about_weights
from reweight.reuse._levels import (
    check_enough,
    check_residual,
    check_threshold_prior,
    chosen_thresholds,
    observed_levels,
    warn_about_cuts,
)
from reweight.reuse._prediction import cut_levels, soft_base_mass, soft_levels
from reweight.reuse._residual_answers import ResidualAnswers
from reweight.reuse._rows import split_features
from reweight.reuse.horseshoe_classifier import HorseshoeMultinomialClassifier
from reweight.validation import check_sample_weight, warn_user

Array = NDArray[np.float64]

MAX_INCOHERENCE = 0.05


class BayesianReuseClassifier(ResidualAnswers, HorseshoeMultinomialClassifier):
    r"""Predict the grade of an untested element, where tests define the grades.

    Tested specimens have a residual R, such as the performance left relative to
    unexposed controls; falling thresholds on R separate K grades, 0 the best.
    New elements are known by field features alone. A sparse multinomial logit
    (the gate, see `HorseshoeMultinomialClassifier`) gives the probabilities of
    the grades from the features, and the thresholds are sampled jointly with it:
    given grade k, R has the base distribution of residuals weighted by
    :math:`h_k(r)`, the difference of two normal distribution functions around
    the thresholds. Thresholds so move to where features separate grades best,
    held by their prior; if the features carry no information, the posterior of
    the thresholds is their prior.

    Parameters
    ----------
    thresholds : {"joint", "fixed", "quantile"} or array-like, default="joint"
        "joint" samples them, with `threshold_mean` and `threshold_sd` as prior;
        "fixed" cuts R at `threshold_mean`, an array at its values; "quantile"
        cuts R into grades of equal size.
    n_classes : int, default=3
        Number of grades.
    threshold_mean : array-like of shape (n_classes - 1,), default=(0.90, 0.75)
        Prior means of the thresholds, falling.
    threshold_sd : float or array-like of shape (n_classes - 1,), default=(0.03, 0.05)
        Their prior standard deviations.
    softness : float, default=0.01
        Prior median of the width over which one grade passes into the next, in
        units of R.
    softness_sd : float, default=0.5
        Prior standard deviation of its logarithm.
    base_residuals : array-like of shape (m,), default=None
        Sample of the distribution of residuals before grading; None takes the
        residuals of `fit`.
    unlabeled : int, default=-1
        Value in y of a row whose grade is unknown; NaN is one too.
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
        one, so that it is in or out for all grades.
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
        "last" gives the last grade a linear predictor of zero; "none" gives
        every grade coefficients, identified by the prior alone.
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
        Loss of each action (column) for each true grade (row); `predict` then
        takes the grade of least expected loss.
    random_state : int, RandomState instance or None, default=None
        Seed of the chains. The same seed, sampler and versions give the same
        draws.
    verbose : int, default=0
        Whether to show the progress of sampling.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Grades 0 to n_classes - 1, 0 the best.
    thresholds_ : ndarray of shape (n_classes - 1,)
        Posterior means of the thresholds, or those given.
    thresholds_interval_ : ndarray of shape (n_classes - 1, 2)
        Their 95 % posterior intervals.
    threshold_draws_ : ndarray of shape (n_draws, n_classes - 1)
        Their draws.
    softness_ : float
        Posterior mean of the softness, zero where thresholds are fixed.
    coherence_ : float
        Largest difference between the mean probability of a grade by the gate
        and its share by the thresholds, as posterior mean.
    idata_ : arviz.InferenceData
        Draws in standardised units, statistics of the sampler, the observed
        grades and residuals, and the log likelihood of each row.
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
        grades together.
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
    ResidualPerformance : The residual of a specimen relative to controls.

    Notes
    -----
    Rows may have a grade, a residual, or both; a row with neither is left out.
    Where only arrays X and y travel, as in `GridSearchCV` without metadata
    routing, y may have the two columns grade and residual. Unknown grades are
    then -1, as scikit-learn's searches refuse NaN in y.

    The likelihood takes the base distribution as known. With the observed
    residuals in its place, thresholds are biased by a few thousandths where the
    gate's average and the shares of the grades disagree; `coherence_` shows it.

    References
    ----------
    Probabilistic assessment of engineered timber reusability after moisture
    exposure (2025). Preprint. The model class is theirs; the likelihood of the
    thresholds is this package's.

    Piironen, J., Vehtari, A. (2017). Sparsity information and regularization
    in the horseshoe and other shrinkage priors. Electronic Journal of
    Statistics, 11(2), 5018-5051.

    Examples
    --------
    >>> from reweight import BayesianReuseClassifier, make_timber_reuse
    >>> data = make_timber_reuse((40, 40, 40), random_state=0)
    >>> tested = ~data.is_control
    >>> model = BayesianReuseClassifier(
    ...     draws=100,
    ...     tune=200,
    ...     chains=2,
    ...     random_state=0,
    ...     on_nonconvergence="ignore",
    ... )
    >>> model = model.fit(
    ...     data.X[tested], residual=data.residual[tested], groups=data.cycles[tested]
    ... )
    >>> proba = model.predict_proba(data.X[tested][:2], groups=data.cycles[tested][:2])
    >>> proba.shape, bool(model.thresholds_[0] > model.thresholds_[1])
    ((2, 3), True)
    """

    __metadata_request__fit = {"residual": True, "groups": True}
    __metadata_request__predict = {"residual": True, "groups": True}
    __metadata_request__predict_proba = {"residual": True, "groups": True}
    __metadata_request__score = {"groups": True}
    _parameter_constraints = {
        **HorseshoeMultinomialClassifier._parameter_constraints,
        "thresholds": [StrOptions({"joint", "fixed", "quantile"}), "array-like"],
        "n_classes": [Interval(Integral, 2, None, closed="left")],
        "threshold_mean": ["array-like"],
        "threshold_sd": ["array-like", Interval(Real, 0, None, closed="neither")],
        "softness": [Interval(Real, 0, None, closed="neither")],
        "softness_sd": [Interval(Real, 0, None, closed="neither")],
        "base_residuals": ["array-like", None],
        "unlabeled": [Integral],
    }

    def __init__(
        self,
        *,
        thresholds: str | ArrayLike = "joint",
        n_classes: int = 3,
        threshold_mean: ArrayLike = (0.90, 0.75),
        threshold_sd: float | ArrayLike = (0.03, 0.05),
        softness: float = 0.01,
        softness_sd: float = 0.5,
        base_residuals: ArrayLike | None = None,
        unlabeled: int = -1,
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
        super().__init__(
            expected_nonzero=expected_nonzero,
            horseshoe=horseshoe,
            slab_scale=slab_scale,
            slab_df=slab_df,
            local_df=local_df,
            global_df=global_df,
            local_scales=local_scales,
            tau0=tau0,
            intercept_scale=intercept_scale,
            group_scale=group_scale,
            standardize=standardize,
            reference=reference,
            groups=groups,
            new_groups=new_groups,
            sampler=sampler,
            draws=draws,
            tune=tune,
            chains=chains,
            cores=cores,
            target_accept=target_accept,
            on_nonconvergence=on_nonconvergence,
            keep_log_likelihood=keep_log_likelihood,
            keep_auxiliary=keep_auxiliary,
            loss_matrix=loss_matrix,
            random_state=random_state,
            verbose=verbose,
        )
        self.thresholds = thresholds
        self.n_classes = n_classes
        self.threshold_mean = threshold_mean
        self.threshold_sd = threshold_sd
        self.softness = softness
        self.softness_sd = softness_sd
        self.base_residuals = base_residuals
        self.unlabeled = unlabeled

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        residual: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Sample the posterior of the gate, and of the thresholds where they are free.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, 2), default=None
            Grades, `unlabeled` or NaN where unknown; None if none is known. Two
            columns are grade and residual.
        residual : array-like of shape (n_samples,), default=None
            Residual of each row, NaN where it was not measured.
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
            If grades or residuals are missing, out of range, or too few.
        ConvergenceError
            If the chains do not agree and ``on_nonconvergence="raise"``.
        """
        self._validate_params()
        name = type(self).__name__
        mean, sd = check_threshold_prior(self)
        X, groups = split_features(self, X, groups, reset=True)
        y, residual = observed_levels(self, y, residual, len(X), self.n_classes)
        weight = check_sample_weight(sample_weight, X)
        warn_about_weights(name, weight)
        self.classes_ = np.arange(self.n_classes)
        joint = isinstance(self.thresholds, str) and self.thresholds == "joint"
        empty = (y < 0) & np.isnan(residual)
        if empty.any():
            warn_user(
                f"{name}: {int(empty.sum())} of {len(X)} rows have neither a grade nor a "
                "residual and are left out; pass one of them",
                UserWarning,
            )
        kept = (weight > 0) & ~empty
        X, y, residual, weight = X[kept], y[kept], residual[kept], weight[kept]
        groups = None if groups is None else groups[kept]
        check_enough(self, y, residual)
        cuts = mean if joint else chosen_thresholds(self, mean, residual, weight)
        levels = y.copy()
        unknown = y < 0
        levels[unknown] = cut_levels(residual[unknown], cuts)
        warn_about_cuts(self, levels, y, joint)
        shares = np.bincount(levels, weight, minlength=self.n_classes)
        if not joint:
            self._fixed = cuts
            self._fit_gate(X, levels, groups, weight, shares=shares)
        else:
            self._fixed = None
            prior = {
                "cut_mean": tuple(mean),
                "cut_sd": tuple(sd),
                "softness": self.softness,
                "softness_sd": self.softness_sd,
            }
            base = None
            if self.base_residuals is not None:
                base = check_residual(self.base_residuals, None, name, "base_residuals")
            self._fit_gate(
                X,
                y,
                groups,
                weight,
                shares=shares,
                residual=residual,
                base_residuals=base,
                cut_prior=prior,
            )
        self._set_coherence(shares / shares.sum())
        return self

    def _set_coherence(self, shares: Array) -> None:
        """Compare the gate's average with the masses of the levels."""
        weight, total = self._data.weight, 0.0
        for rows, log_pi, _ in self._training_chunks():
            total = total + np.einsum("snk,n->sk", np.exp(log_pi), weight[rows])
        mass = shares if self._fixed is not None else np.exp(self._log_mass())
        self.coherence_ = float(np.abs(total / weight.sum() - mass).mean(axis=0).max())
        if self.coherence_ > MAX_INCOHERENCE:
            warn_user(
                f"{type(self).__name__}: the gate's average probability of a grade and its share "
                f"by the thresholds differ by {self.coherence_:.3f}; thresholds may be biased, so "
                "pass base_residuals= from the population before grading",
                UserWarning,
            )

    def _log_mass(self) -> Array:
        """Log Q_k at each draw."""
        if not hasattr(self, "_log_mass_draws") or self._log_mass_draws[0] is not self._data:
            values = soft_base_mass(
                self._data.points, self._data.base, self._draw("thresholds"), self._draw("softness")
            )
            self._log_mass_draws = (self._data, values)
        return self._log_mass_draws[1]

    def _log_ratio(self, residual: Array | None) -> Array | None:
        if residual is None or not np.isfinite(residual).any():
            return None
        seen = np.isfinite(residual)
        n_draws, n_classes = len(self._new_effects), len(self.classes_)
        out = np.zeros((n_draws, len(residual), n_classes))
        if self._fixed is not None:
            out[:, seen] = -np.inf
            out[:, np.flatnonzero(seen), cut_levels(residual[seen], self._fixed)] = 0.0
        else:
            log_h = soft_levels(residual[seen], self._draw("thresholds"), self._draw("softness"))
            out[:, seen] = log_h - self._log_mass()[:, None, :]
        return out

    @property
    def threshold_draws_(self) -> Array:
        """Draws of the thresholds."""
        check_is_fitted(self, "idata_")
        if self._fixed is not None:
            return np.tile(self._fixed, (len(self._new_effects), 1))
        return self._draw("thresholds")

    @property
    def thresholds_(self) -> Array:
        """Posterior means of the thresholds."""
        check_is_fitted(self, "idata_")
        return self._fixed if self._fixed is not None else self._draw("thresholds").mean(axis=0)

    @property
    def thresholds_interval_(self) -> Array:
        """Posterior intervals of the thresholds, at 95 %."""
        return np.quantile(self.threshold_draws_, self._tails(0.95), axis=0).T

    @property
    def softness_(self) -> float:
        """Posterior mean of the softness."""
        check_is_fitted(self, "idata_")
        return 0.0 if self._fixed is not None else float(self._draw("softness").mean())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        return tags
