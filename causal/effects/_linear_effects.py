"""Effects that are linear in a basis: estimates, errors, intervals and bands."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
IDENTIFIED = 1e-6
N_DRAWS = 10_000


def check_confidence_level(confidence_level: float, owner: str) -> None:
    """Whether a confidence level is one.

    Parameters
    ----------
    confidence_level : float
        What the user passed.
    owner : str
        Who is asking, for the error message.
    """
    if not 0 < confidence_level < 1:
        raise ValueError(
            f"{owner}: confidence_level is {confidence_level!r}; pass a number between 0 and 1, "
            "such as 0.95"
        )


def median_over_repeats(estimates: Array, variances: Array) -> tuple[Array, Array]:
    """Median estimate of several draws of the folds, and an error that knows their spread.

    Parameters
    ----------
    estimates, variances : ndarray of shape (n_repeats, k)
        Estimates and squared standard errors of each draw.

    Returns
    -------
    estimate : ndarray of shape (k,)
    stderr : ndarray of shape (k,)
        sqrt(median of (variance + squared deviation from the median)).

    References
    ----------
    Chernozhukov, V. et al. (2018). Double/debiased machine learning for
    treatment and structural parameters. Econometrics Journal 21(1), C1-C68.
    """
    estimate = np.median(estimates, axis=0)
    spread = variances + (estimates - estimate) ** 2
    return estimate, np.sqrt(np.median(spread, axis=0))


@dataclass(frozen=True, eq=False, repr=False)
class LinearEffects:
    """Effects z' coef for rows z of a basis, from one or several draws of the folds.

    Parameters
    ----------
    names : list of str
        Names of the coefficients.
    coefs : ndarray of shape (n_repeats, d)
        Coefficients of each draw of the folds.
    covariances : ndarray of shape (n_repeats, d, d)
        Their covariances.
    null_space : ndarray of shape (d, n_unidentified)
        Directions that the data do not determine.
    label : str
        What the coefficients are, the name of the index of tables.
    intercept : bool
        Whether the first coefficient is an intercept, which `predict` adds.
    """

    names: list[str]
    coefs: Array
    covariances: Array
    null_space: Array
    label: str
    intercept: bool = False

    @property
    def coef_(self) -> Array:
        """Coefficients, medians over the draws, of shape (d,)."""
        return self._functional(np.eye(len(self.names)))[0]

    @property
    def stderr_(self) -> Array:
        """Standard errors of the coefficients, of shape (d,)."""
        return self._functional(np.eye(len(self.names)))[1]

    @property
    def covariance_(self) -> Array:
        """Mean over the draws of the covariance of the coefficients, of shape (d, d)."""
        return self.covariances.mean(axis=0)

    def confint(self, confidence_level: float = 0.95, *, simultaneous: bool = False) -> Array:
        """Confidence intervals of the coefficients.

        Parameters
        ----------
        confidence_level : float, default=0.95
            Probability of covering.
        simultaneous : bool, default=False
            Whether all intervals are to cover at once.

        Returns
        -------
        ndarray of shape (d, 2)
        """
        return self._interval(np.eye(len(self.names)), confidence_level, simultaneous)

    def summary(
        self, confidence_level: float = 0.95, *, simultaneous: bool = False
    ) -> "pd.DataFrame":
        """Coefficients, standard errors, tests of zero and intervals.

        Parameters
        ----------
        confidence_level : float, default=0.95
            Level of the intervals.
        simultaneous : bool, default=False
            Whether all intervals are to cover at once.

        Returns
        -------
        pandas.DataFrame
            Columns estimate, stderr, z, p_value (two-sided, normal), lower, upper.
        """
        import pandas as pd

        estimate, stderr = self.coef_, self.stderr_
        interval = self.confint(confidence_level, simultaneous=simultaneous)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = estimate / stderr
        table = pd.DataFrame(
            {
                "estimate": estimate,
                "stderr": stderr,
                "z": z,
                "p_value": 2 * norm.sf(np.abs(z)),
                "lower": interval[:, 0],
                "upper": interval[:, 1],
            },
            index=pd.Index(self.names, name=self.label),
        )
        table.attrs = {"confidence_level": confidence_level, "simultaneous": simultaneous}
        return table

    def predict(self, features: ArrayLike) -> Array:
        """Effects of rows of features.

        Parameters
        ----------
        features : array-like of shape (k, n_columns)
            Rows, without the intercept if one was added.

        Returns
        -------
        ndarray of shape (k,)
        """
        return self._functional(self._rows(features))[0]

    def predict_interval(
        self, features: ArrayLike, confidence_level: float = 0.95, *, simultaneous: bool = False
    ) -> Array:
        """Confidence intervals of the effects of rows of features.

        Parameters
        ----------
        features : array-like of shape (k, n_columns)
            Rows, without the intercept if one was added.
        confidence_level : float, default=0.95
            Probability of covering.
        simultaneous : bool, default=False
            Whether the intervals of all these rows are to cover at once.

        Returns
        -------
        ndarray of shape (k, 2)
        """
        return self._interval(self._rows(features), confidence_level, simultaneous)

    def __repr__(self) -> str:
        return self.summary().to_string(float_format="{:.4g}".format)

    def _rows(self, features: ArrayLike) -> Array:
        rows = np.asarray(features, dtype=np.float64)
        rows = rows.reshape(-1, 1) if rows.ndim == 1 else rows
        if self.intercept:
            rows = np.column_stack([np.ones(len(rows)), rows])
        fitted = self.names[self.intercept :]
        if rows.shape[1] != len(self.names):
            raise ValueError(
                f"features has {rows.shape[1] - self.intercept} columns, but the effects were "
                f"fitted on {len(fitted)}: {fitted}; pass the same columns in the same order"
            )
        return rows

    def _functional(self, rows: Array) -> tuple[Array, Array]:
        """Estimate and standard error of each linear functional, NaN if not determined."""
        estimates = self.coefs @ rows.T
        variances = np.einsum("kd,rde,ke->rk", rows, self.covariances, rows).clip(min=0.0)
        estimate, stderr = median_over_repeats(estimates, variances)
        free = np.abs(rows @ self.null_space).max(axis=1, initial=0.0)
        size = np.abs(rows).max(axis=1, initial=0.0) * np.abs(self.null_space).max(initial=1.0)
        return estimate, np.where(free > IDENTIFIED * size, np.nan, stderr)

    def _interval(self, rows: Array, confidence_level: float, simultaneous: bool) -> Array:
        check_confidence_level(confidence_level, type(self).__name__)
        estimate, stderr = self._functional(rows)
        critical = norm.isf((1 - confidence_level) / 2)
        if simultaneous:
            critical = self._joint_critical_value(rows[np.isfinite(stderr)], confidence_level)
        return np.column_stack([estimate - critical * stderr, estimate + critical * stderr])

    def _joint_critical_value(self, rows: Array, confidence_level: float) -> float:
        """Quantile of the largest |t| of the functionals: the limit of the multiplier bootstrap.

        With normal multipliers the bootstrap of the scores is normal given the
        data, with the covariance at hand, so that it is drawn from directly.
        """
        values, vectors = np.linalg.eigh(self.covariance_)
        factor = rows @ (vectors * np.sqrt(values.clip(min=0.0)))
        length = np.linalg.norm(factor, axis=1)
        factor = factor[length > 0] / length[length > 0, None]
        draws = np.random.default_rng(0).standard_normal((N_DRAWS, len(values)))
        if not len(factor):
            return float(norm.isf((1 - confidence_level) / 2))
        largest = np.zeros(N_DRAWS)
        for direction in factor:
            np.maximum(largest, np.abs(draws @ direction), out=largest)
        return float(np.quantile(largest, confidence_level))
