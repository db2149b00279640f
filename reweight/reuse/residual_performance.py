"""Residual performance: what is left of several measures, relative to unexposed controls."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from reweight.validation import as_numbers, check_groups, validate_features

Array = NDArray[np.float64]


class ResidualPerformance(TransformerMixin, BaseEstimator):
    r"""Weighted mean of a specimen's measures, each relative to that of unexposed controls.

    :math:`R_i = \sum_j \omega_j m_{ij} / \bar m_j` with controls' mean (or
    median) :math:`\bar m_j`. It can exceed one and is not clipped.

    Parameters
    ----------
    metric_weights : array-like of shape (n_metrics,) or None, default=None
        Weights of the measures, non-negative with sum one. None is (0.8, 0.2)
        for two measures, as for flexural modulus and maximum load, and equal
        weights otherwise.
    reference : {"mean", "median"} or array-like of shape (n_metrics,), default="mean"
        Statistic of the controls that counts as 1, or known values of an
        unexposed element, which need no controls.

    Attributes
    ----------
    reference_ : ndarray of shape (n_metrics,) or (n_groups, n_metrics)
        What counts as 1, for each group if there are groups.
    metric_weights_ : ndarray of shape (n_metrics,)
        Weights of the measures.
    control_cov_ : ndarray of shape (n_metrics, n_metrics) or (n_groups, n_metrics, n_metrics)
        Sample covariance of the controls; NaN from a single one, zero for a
        known reference.
    n_controls_ : int or ndarray of shape (n_groups,)
        Number of controls.
    groups_ : ndarray of shape (n_groups,) or None
        Labels of the groups.
    n_features_in_ : int
        Number of measures.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    See Also
    --------
    BayesianReuseClassifier : Grades from residuals and field features.

    References
    ----------
    Probabilistic assessment of engineered timber reusability after moisture
    exposure (2025). Preprint.

    Examples
    --------
    >>> from reweight import ResidualPerformance
    >>> metrics = [[10.0, 4.0], [12.0, 4.0], [9.9, 3.0]]
    >>> residual = ResidualPerformance().fit(metrics, control=[True, True, False])
    >>> residual.transform([[9.9, 3.0]]).round(3)
    array([[0.87]])
    """

    __metadata_request__fit = {"control": True, "groups": True}
    __metadata_request__transform = {"groups": True}
    _parameter_constraints = {
        "metric_weights": ["array-like", None],
        "reference": [StrOptions({"mean", "median"}), "array-like"],
    }

    def __init__(
        self, metric_weights: ArrayLike | None = None, *, reference: str | ArrayLike = "mean"
    ) -> None:
        self.metric_weights = metric_weights
        self.reference = reference

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        control: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Measure the controls.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_metrics)
            Measures, in any units.
        y : None
            Not used.
        control : array-like of bool of shape (n_samples,), default=None
            Which rows are unexposed controls; None means all.
        groups : array-like of shape (n_samples,), default=None
            Groups, each with controls of its own.

        Returns
        -------
        Self

        Raises
        ------
        ValueError
            If a group has no controls, or their reference is not positive.
        """
        self._validate_params()
        name = type(self).__name__
        X = validate_features(self, X)
        self.metric_weights_ = self._check_weights(X.shape[1])
        is_control = self._check_control(control, len(X))
        labels, codes = check_groups(groups, len(X))
        self.groups_ = None if groups is None else labels
        known = None if isinstance(self.reference, str) else self._known_reference(X.shape[1])
        parts = []
        for code, label in enumerate(labels):
            where = "" if groups is None else f" of group {label!r}"
            rows = is_control & (codes == code)
            if known is None and not rows.any():
                raise ValueError(
                    f"{name}: no row{where} is a control; mark some in control=, or pass known "
                    "values as reference="
                )
            part = self._measure(X[rows]) if known is None else known
            self._check_reference(part[0], int(rows.sum()), where)
            parts.append((*part, int(rows.sum())))
        reference, covariance, count = (np.array(values) for values in zip(*parts, strict=True))
        single = groups is None
        self.reference_ = reference[0] if single else reference
        self.control_cov_ = covariance[0] if single else covariance
        self.n_controls_ = int(count[0]) if single else count
        return self

    def _check_weights(self, n_metrics: int) -> Array:
        name = type(self).__name__
        if self.metric_weights is None:
            equal = np.full(n_metrics, 1 / n_metrics)
            return np.array([0.8, 0.2]) if n_metrics == 2 else equal
        weights = as_numbers(self.metric_weights, name=f"{name}: metric_weights")
        if weights.shape != (n_metrics,):
            raise ValueError(
                f"{name}: metric_weights has shape {weights.shape} but X has {n_metrics} measures; "
                "pass one weight for each"
            )
        if not (weights >= 0).all() or abs(weights.sum() - 1) > 1e-8:
            raise ValueError(
                f"{name}: metric_weights={weights.tolist()} must be non-negative with sum 1, got "
                f"the sum {weights.sum():.6g}; divide them by it"
            )
        return weights

    def _check_control(self, control: ArrayLike | None, n_samples: int) -> NDArray[np.bool_]:
        if control is None:
            return np.ones(n_samples, dtype=bool)
        control = np.asarray(control)
        if control.shape != (n_samples,) or not np.isin(control, [0, 1]).all():
            raise ValueError(
                f"{type(self).__name__}: control must be one True or False for each of "
                f"{n_samples} rows, got shape {control.shape} and values "
                f"{np.unique(control.astype(str))[:5].tolist()}; pass for example cycles == 0"
            )
        return control.astype(bool)

    def _known_reference(self, n_metrics: int) -> tuple[Array, Array]:
        name = type(self).__name__
        values = as_numbers(self.reference, name=f"{name}: reference")
        if values.shape != (n_metrics,):
            raise ValueError(
                f"{name}: reference has shape {values.shape} but X has {n_metrics} "
                "measures; pass one value for each"
            )
        return values, np.zeros((n_metrics, n_metrics))

    def _measure(self, controls: Array) -> tuple[Array, Array]:
        """Reference and covariance of the controls of one group."""
        if (controls < 0).any():
            names = getattr(self, "feature_names_in_", np.arange(controls.shape[1]))
            columns = [str(name) for name in np.asarray(names)[(controls < 0).any(axis=0)]]
            raise ValueError(
                f"Negative values in data passed to {type(self).__name__}: "
                f"{int((controls < 0).sum())} entries of the controls in columns {columns}; "
                "measures are shares of the controls', so check units and signs"
            )
        statistic = np.median if self.reference == "median" else np.mean
        covariance = np.full((controls.shape[1],) * 2, np.nan)
        if len(controls) > 1:
            covariance = np.atleast_2d(np.cov(controls, rowvar=False))
        return statistic(controls, axis=0), covariance

    def _check_reference(self, reference: Array, n_controls: int, where: str) -> None:
        bad = ~(np.isfinite(reference) & (reference > 0))
        if bad.any():
            names = getattr(self, "feature_names_in_", np.arange(len(reference)))
            listed = {str(names[j]): float(reference[j]) for j in np.flatnonzero(bad)}
            raise ValueError(
                f"{type(self).__name__}: the reference of the controls{where} "
                f"(n_samples={n_controls}) is not positive: {listed}; a share of it means "
                "nothing, so check units and signs"
            )

    def _row_reference(self, X: Array, groups: ArrayLike | None) -> tuple[Array, Array, Array]:
        """Reference, covariance and number of controls for each row."""
        name = type(self).__name__
        n_controls = np.asarray(self.n_controls_)
        if self.groups_ is None:
            if groups is not None:
                raise ValueError(f"{name}: fitted without groups; leave groups out")
            return self.reference_[None], self.control_cov_[None], n_controls[None]
        if groups is None:
            raise ValueError(f"{name}: fitted with groups; pass groups= for these rows too")
        labels, codes = check_groups(groups, len(X))
        unknown = np.setdiff1d(labels, self.groups_)
        if len(unknown):
            raise ValueError(
                f"{name}: groups {unknown[:10].tolist()} have no controls; known are "
                f"{self.groups_[:10].tolist()}"
            )
        at = np.searchsorted(self.groups_, labels)[codes]
        return self.reference_[at], self.control_cov_[at], n_controls[at]

    def transform(self, X: Any, *, groups: ArrayLike | None = None) -> Array:
        """Residual performance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_metrics)
            Measures.
        groups : array-like of shape (n_samples,), default=None
            Groups, if `fit` had them.

        Returns
        -------
        ndarray of shape (n_samples, 1)
        """
        check_is_fitted(self)
        X = validate_features(self, X, reset=False)
        reference, _, _ = self._row_reference(X, groups)
        return (X / reference) @ self.metric_weights_[:, None]

    def stderr(self, X: Any, *, groups: ArrayLike | None = None) -> Array:
        """Standard error of the residual from the finite number of controls.

        It leaves out the scatter of the specimen's own measures, and takes the
        specimens to be others than the controls. For medians it is a rough
        guide, as it is that of means.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_metrics)
            Measures.
        groups : array-like of shape (n_samples,), default=None
            Groups, if `fit` had them.

        Returns
        -------
        ndarray of shape (n_samples,)
            Zero for a known reference, NaN from a single control.
        """
        check_is_fitted(self)
        X = validate_features(self, X, reset=False)
        reference, covariance, n_controls = self._row_reference(X, groups)
        a = self.metric_weights_ * X / reference**2
        covariance = np.broadcast_to(covariance, (len(X), *covariance.shape[1:]))
        variance = np.einsum("ij,ijk,ik->i", a, covariance, a)
        return np.sqrt(variance / np.maximum(n_controls, 1))

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Name of the one output.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Not used.

        Returns
        -------
        ndarray of str of shape (1,)
        """
        check_is_fitted(self)
        return np.array(["residual_performance"], dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags
