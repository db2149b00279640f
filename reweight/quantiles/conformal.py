"""Quantiles moved until they cover as often as they say, whatever the law of the data."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from reweight.kernels.isotonic_rows import sweep_rows
from reweight.kernels.order_statistics import RANK_SLACK, conformal_quantile
from reweight.kernels.shifted_lists import kth_of_shifted_lists
from reweight.metrics._quantile_checks import LEVEL_TOLERANCE, central_pairs, check_quantiles
from reweight.outcomes import check_outcomes
from reweight.validation import check_sample_weight, validate_features, warn_user


@dataclass(frozen=True)
class _End:
    """One level as the end of an interval: how it moves, and by which scores."""

    position: int
    sign: float  # 1 moves up by its scores, -1 down
    scores: NDArray  # of the calibration rows
    confidence_level: float


class ConformalQuantileCalibrator(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Quantiles moved by order statistics of their errors on calibration rows.

    If calibration rows and later ones are exchangeable, coverage holds in any
    finite sample, on average over both. Three schemes:

    - intervals (`mode="interval"`): each central interval [l, u] at the levels
      :math:`\alpha/2` and :math:`1 - \alpha/2` becomes
      :math:`[l - R, u + R]`, where R is the
      :math:`\lceil (1 - \alpha)(n + 1) \rceil`-th smallest of
      :math:`\max(l_i - y_i, y_i - u_i)`; it covers with probability at least
      :math:`1 - \alpha`, and less than :math:`1/(n + 1)` above it without ties.
      R may be negative. The median stays;
    - levels (`mode="level"`): each quantile on its own, so that y is at or
      below it with probability at least :math:`\tau` for :math:`\tau \ge 1/2`,
      and at or above it with at least :math:`1 - \tau` otherwise;
    - CV+ (`fit(..., folds=)`): no rows are set aside. The quantiles of each row
      come from models that did not see its fold, and later rows are predicted
      by the models of all folds. Coverage is at least
      :math:`1 - 2\alpha - \sqrt{2/n}`, and close to :math:`1 - \alpha` as a rule.

    Parameters
    ----------
    quantiles : array-like of shape (n_quantiles,)
        Levels, strictly increasing in (0, 1). For intervals each needs its
        partner, 1 - level; 0.5 may be among them.
    symmetric : bool, default=True
        Whether both ends of an interval move by the same. Otherwise each end
        misses with probability at most :math:`\alpha/2`.
    mode : {"interval", "level"}, default="interval"
        What is calibrated.
    postprocess : {"sweep"} or None, default="sweep"
        What puts calibrated quantiles in order. The sweep from the middle
        outwards only enlarges intervals, so that coverage is kept, which
        sorting would not.

    Attributes
    ----------
    offsets_ : ndarray of shape (n_quantiles,)
        What is added to each quantile; with folds, what would be if all folds
        predicted alike. Infinite where there are too few rows.
    n_calibration_ : int
        Number of calibration rows.
    folds_ : ndarray of shape (n_folds,) or None
        Labels of the folds, in the order in which `predict` wants them.
    quantiles_ : ndarray of shape (n_quantiles,)
        Levels.
    n_features_in_ : int
        Number of quantiles.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, when Q is a data frame.

    See Also
    --------
    QuantileAggregator : Quantiles worth calibrating.

    References
    ----------
    Romano, Y., Patterson, E., Candes, E. J. (2019). Conformalized quantile
    regression. NeurIPS.

    Barber, R. F., Candes, E. J., Ramdas, A., Tibshirani, R. J. (2021).
    Predictive inference with the jackknife+. Annals of Statistics, 49(1).

    Tibshirani, R. J., Barber, R. F., Candes, E. J., Ramdas, A. (2019).
    Conformal prediction under covariate shift. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import ConformalQuantileCalibrator
    >>> y = np.arange(1.0, 20.0)
    >>> calibrator = ConformalQuantileCalibrator([0.05, 0.95]).fit(np.zeros((19, 2)), y)
    >>> calibrator.predict([[0.0, 0.0]])
    array([[-18.,  18.]])
    """

    _parameter_constraints = {
        "quantiles": ["array-like"],
        "symmetric": ["boolean"],
        "mode": [StrOptions({"interval", "level"})],
        "postprocess": [StrOptions({"sweep"}), None],
    }

    def __init__(
        self,
        quantiles: ArrayLike,
        *,
        symmetric: bool = True,
        mode: str = "interval",
        postprocess: str | None = "sweep",
    ) -> None:
        self.quantiles = quantiles
        self.symmetric = symmetric
        self.mode = mode
        self.postprocess = postprocess

    def fit(
        self,
        Q: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        folds: ArrayLike | None = None,
    ) -> Self:
        """Learn from rows that the quantiles were not fitted on.

        Parameters
        ----------
        Q : array-like of shape (n_samples, n_quantiles)
            Quantiles of the calibration rows.
        y : array-like of shape (n_samples,)
            Their outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights on any scale, such as ratios of target to source
            density where the rows to predict are distributed otherwise.
        folds : array-like of shape (n_samples,), default=None
            Fold of each row, whose quantiles come from models fitted on the
            others. Given, `predict` takes the quantiles of the models of all
            folds.

        Returns
        -------
        ConformalQuantileCalibrator
            The fitted calibrator itself.
        """
        self._validate_params()
        name = type(self).__name__
        levels = check_quantiles(self.quantiles, name)
        Q = self._read(Q, len(levels), reset=True)
        y = check_outcomes(name, y)
        check_consistent_length(Q, y)
        weights = None if sample_weight is None else check_sample_weight(sample_weight, Q)
        if weights is not None and folds is not None:
            raise ValueError(
                f"{name}: sample_weight and folds were both passed, but CV+ has no weighted form; "
                "set calibration rows aside to weigh them"
            )
        self.quantiles_, self.n_calibration_ = levels, len(y)
        self._ends = self._make_ends(Q, y, levels)
        self._weights = weights
        self.offsets_ = np.zeros(len(levels))
        for end in self._ends:
            moved = conformal_quantile(end.scores, end.confidence_level, weights)
            self.offsets_[end.position] = end.sign * moved
        self.folds_ = None
        if folds is not None:
            self.folds_, self._fold_of_row = _read_folds(name, folds, len(y))
        self._warn_if_infinite()
        return self

    def predict(
        self, Q: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Move the quantiles of further rows.

        Parameters
        ----------
        Q : array-like of shape (n_samples, n_quantiles) or \
                (n_folds, n_samples, n_quantiles)
            Their quantiles; by the models of each fold, in the order of
            `folds_`, if `fit` was given folds.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of these rows on the scale of those given to `fit`; None
            gives each the mean of those.

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles)
            Calibrated quantiles. With folds, those that are not calibrated are
            averages over the folds.
        """
        check_is_fitted(self)
        m = len(self.quantiles_)
        if self.folds_ is not None:
            if sample_weight is not None:
                raise ValueError(
                    f"{type(self).__name__}: sample_weight was passed to predict, but CV+ has no "
                    "weighted form; leave it out"
                )
            moved = self._move_by_folds(self._read_by_folds(Q, m))
        else:
            moved = self._move(self._read(Q, m, reset=False), sample_weight)
        if self.postprocess is None:
            return moved
        middle = min(int(np.searchsorted(self.quantiles_, 0.5 - LEVEL_TOLERANCE)), m - 1)
        return sweep_rows(moved, middle)

    def transform(self, Q: ArrayLike) -> NDArray[np.float64]:
        """Move the quantiles of further rows, as `predict` does.

        Parameters
        ----------
        Q : array-like of shape (n_samples, n_quantiles) or \
                (n_folds, n_samples, n_quantiles)
            Their quantiles.

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles)
            Calibrated quantiles.
        """
        return self.predict(Q)

    def predict_interval(
        self,
        Q: ArrayLike,
        *,
        confidence_level: float = 0.9,
        sample_weight: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Calibrated central intervals of one level.

        Parameters
        ----------
        Q : array-like of shape (n_samples, n_quantiles) or \
                (n_folds, n_samples, n_quantiles)
            Quantiles of the rows.
        confidence_level : float, default=0.9
            Nominal coverage; two quantiles must have this distance and add up to
            one.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of these rows.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Lower and upper ends.
        """
        check_is_fitted(self)
        low, high = find_pair(self.quantiles_, confidence_level, type(self).__name__)
        return self.predict(Q, sample_weight=sample_weight)[:, [low, high]]

    def _read(self, Q: Any, m: int, *, reset: bool) -> NDArray[np.float64]:
        """Quantiles of shape (n, m)."""
        array = validate_features(self, Q, reset=reset)
        if array.shape[1] != m:
            raise ValueError(
                f"{type(self).__name__}: Q has {array.shape[1]} columns, but there are {m} "
                "quantiles; pass one column for each level"
            )
        return array

    def _read_by_folds(self, Q: Any, m: int) -> NDArray[np.float64]:
        """Quantiles of shape (n_folds, n, m)."""
        Q = np.asarray(Q, dtype=np.float64)
        if Q.ndim != 3 or Q.shape[0] != len(self.folds_) or Q.shape[2] != m:
            raise ValueError(
                f"{type(self).__name__}: Q has shape {Q.shape}, but {len(self.folds_)} folds and "
                f"{m} quantiles were fitted; pass an array of shape "
                f"({len(self.folds_)}, n_samples, {m})"
            )
        if not np.isfinite(Q).all():
            raise ValueError(
                f"{type(self).__name__}: Q has {int((~np.isfinite(Q)).sum())} entries that are NaN "
                "or infinite; predict without those rows"
            )
        return Q

    def _make_ends(self, Q: NDArray, y: NDArray, levels: NDArray) -> list[_End]:
        below, above = Q - y[:, None], y[:, None] - Q
        if self.mode == "level":
            return [
                _End(k, 1.0, above[:, k], tau)
                if tau >= 0.5 - LEVEL_TOLERANCE
                else _End(k, -1.0, below[:, k], 1 - tau)
                for k, tau in enumerate(levels.tolist())
            ]
        ends = []
        for low, high in self._pairs(levels):
            coverage = float(levels[high] - levels[low])
            if self.symmetric:
                scores = np.maximum(below[:, low], above[:, high])
                ends += [_End(low, -1.0, scores, coverage), _End(high, 1.0, scores, coverage)]
            else:
                one_sided = 0.5 + coverage / 2
                ends += [
                    _End(low, -1.0, below[:, low], one_sided),
                    _End(high, 1.0, above[:, high], one_sided),
                ]
        return ends

    def _pairs(self, levels: NDArray) -> list[tuple[int, int]]:
        pairs = central_pairs(levels)
        paired = np.zeros(len(levels), bool)
        paired[[k for pair in pairs for k in pair]] = True
        alone = levels[~paired & (np.abs(levels - 0.5) > LEVEL_TOLERANCE)]
        if alone.size or not pairs:
            what = (
                f"levels {alone[:5].tolist()} have no partner" if alone.size else "there are none"
            )
            raise ValueError(
                f"{type(self).__name__}: mode='interval' needs pairs of levels that add up to one, "
                f"but {what}; add them, or pass mode='level'"
            )
        return pairs

    def _move(self, Q: NDArray, sample_weight: Any) -> NDArray[np.float64]:
        """Add the offsets, which depend on the row where it has a weight of its own."""
        if sample_weight is None:
            return Q + self.offsets_
        if self._weights is None:
            raise ValueError(
                f"{type(self).__name__}: sample_weight was passed to predict but not to fit; "
                "weigh both or neither"
            )
        own = check_sample_weight(sample_weight, Q, allow_zero=True)
        moved = Q.copy()
        for end in self._ends:
            order = np.argsort(end.scores, kind="stable")
            mass = np.cumsum(self._weights[order])
            needed = end.confidence_level * (mass[-1] + own) * (1 - RANK_SLACK)
            scores = np.append(end.scores[order], np.inf)
            moved[:, end.position] += end.sign * scores[np.searchsorted(mass, needed)]
        return moved

    def _move_by_folds(self, Q: NDArray) -> NDArray[np.float64]:
        """The order statistic of every fold's quantile moved by the scores of that fold."""
        moved = Q.mean(axis=0)
        n = self.n_calibration_
        order = np.argsort(self._fold_of_row, kind="stable")
        starts = np.searchsorted(self._fold_of_row[order], np.arange(len(self.folds_) + 1))
        for end in self._ends:
            rank = math.ceil(end.confidence_level * (n + 1) * (1 - RANK_SLACK))
            if rank > n:
                moved[:, end.position] = end.sign * np.inf
                continue
            by_fold = np.lexsort((end.scores, self._fold_of_row))
            shifts = end.sign * Q[:, :, end.position].T
            kth = kth_of_shifted_lists(end.scores[by_fold], starts, shifts, rank)
            moved[:, end.position] = end.sign * kth
        return moved

    def _warn_if_infinite(self) -> None:
        infinite = [end for end in self._ends if np.isinf(self.offsets_[end.position])]
        if not infinite:
            return
        levels = [round(float(self.quantiles_[end.position]), 6) for end in infinite[:6]]
        highest = max(end.confidence_level for end in infinite)
        needed = math.ceil(highest / (1 - highest) * (1 - RANK_SLACK))
        if self._weights is not None:
            remedy = "the weights leave too little mass; pass more calibration rows"
        else:
            remedy = f"pass at least {needed} calibration rows"
        warn_user(
            f"{type(self).__name__}: {self.n_calibration_} calibration rows are too few for the "
            f"levels {levels}, whose calibrated quantiles are infinite; {remedy}, or leave out "
            "these levels",
            UserWarning,
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def find_pair(quantiles: NDArray, confidence_level: float, caller: str) -> tuple[int, int]:
    """Positions of the two levels of a central interval.

    Parameters
    ----------
    quantiles : ndarray of shape (m,)
        Levels.
    confidence_level : float
        Nominal coverage.
    caller : str
        What errors name.

    Returns
    -------
    tuple (lower, upper)

    Raises
    ------
    ValueError
        If no two levels have this distance and add up to one.
    """
    pairs = central_pairs(quantiles)
    for low, high in pairs:
        if abs(quantiles[high] - quantiles[low] - confidence_level) <= 2 * LEVEL_TOLERANCE:
            return low, high
    known = [round(float(quantiles[high] - quantiles[low]), 6) for low, high in pairs]
    raise ValueError(
        f"{caller}: confidence_level={confidence_level} is matched by no pair of quantiles; "
        f"available are {known}"
    )


def _read_folds(name: str, folds: Any, n: int) -> tuple[NDArray, NDArray]:
    """Labels of the folds and the code of each row."""
    labels = np.asarray(folds)
    if labels.shape != (n,):
        raise ValueError(
            f"{name}: folds has shape {labels.shape}, but there are {n} rows; pass one per row"
        )
    distinct, codes = np.unique(labels, return_inverse=True)
    if len(distinct) < 2:
        raise ValueError(f"{name}: folds has one label, {distinct[0]}; CV+ needs at least two")
    if labels.dtype.kind in "if" and (labels < 0).any():
        raise ValueError(
            f"{name}: {int((labels < 0).sum())} rows have a negative fold, which marks rows that "
            "were never predicted; leave them out"
        )
    return distinct, codes
