"""What all balancing weighters share: arms, estimands, the basis, scores and tables."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import ClassifierTags, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from causal._estimating_equations import EstimatingEquations
from reweight.base import Weighter
from reweight.kernels.weighted_moments import (
    nonzero_scale,
    standardized_scale,
    weighted_mean,
)
from reweight.solvers.result import SolverResult
from reweight.validation import (
    check_sample_weight,
    check_treatment,
    check_weights,
    validate_features,
    warn_user,
    warn_weights,
)

if TYPE_CHECKING:
    import pandas as pd

MOVING_ARMS = {"ATT": (0,), "ATC": (1,)}
OVERLAP_ESTIMANDS = ("ATO", "ATM", "ATOS", "ATEN")


@dataclass(frozen=True)
class Arms:
    """Two arms, their sampling weights and the distribution they are to resemble.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Covariates.
    treated : ndarray of bool of shape (n_samples,)
        Whether the row is treated.
    classes : ndarray of shape (2,)
        Control label, treated label.
    sample_weight : ndarray of shape (n_samples,)
        Sampling weights.
    base_weight : ndarray of shape (n_samples,)
        Weights that the solution should stay close to.
    estimand : {"ATE", "ATT", "ATC", "ATO", ...}
        Target population.
    """

    X: NDArray[np.float64]
    treated: NDArray[np.bool_]
    classes: NDArray
    sample_weight: NDArray[np.float64]
    base_weight: NDArray[np.float64]
    estimand: str

    @property
    def codes(self) -> NDArray[np.intp]:
        """1 for treated rows, 0 for controls."""
        return self.treated.astype(np.intp)

    @property
    def target(self) -> NDArray[np.float64]:
        """Weight of each row in the target population, summing to one."""
        s = self.sample_weight
        rows = {"ATT": self.treated, "ATC": ~self.treated}.get(self.estimand)
        weight = s if rows is None else np.where(rows, s, 0.0)
        return weight / weight.sum()

    @property
    def moving_arms(self) -> tuple[int, ...]:
        """Codes of the arms that are weighted; the other one is the target itself."""
        return MOVING_ARMS.get(self.estimand, (0, 1))

    def rows(self, arm: int) -> NDArray[np.bool_]:
        """Mask of the rows of an arm."""
        return self.treated if arm else ~self.treated

    def problems(self) -> Iterator[tuple[int, NDArray[np.bool_], NDArray[np.float64]]]:
        """Each arm to be weighted: its code, its rows, its base weights summing to one."""
        for arm in self.moving_arms:
            rows = self.rows(arm)
            base = (self.sample_weight * self.base_weight)[rows]
            yield arm, rows, base / base.sum()


class BalancingWeighter(Weighter):
    """Base class of weighters that make two treatment arms comparable.

    The treatment is the second argument of `fit`, or the keyword `treatment`
    when that place is taken by an outcome, which is then ignored.
    """

    _needs_treatment = True
    _estimands: tuple[str, ...] = ("ATE", "ATT", "ATC")
    __metadata_request__fit = {"treatment": True}
    __metadata_request__score = {"treatment": True}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # scikit-learn's checks then feed a two-valued y, which is what these weighters need.
        tags.classifier_tags = ClassifierTags(multi_class=False)
        tags.target_tags.required = True
        return tags

    def __getstate__(self):
        # The training rows serve tables and standard errors; a pickle does not carry the data.
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_arms"}

    def _validate_params(self) -> None:
        """Say who has an estimand that this class has not, then check as scikit-learn does."""
        if self.estimand not in self._estimands and self.estimand in OVERLAP_ESTIMANDS:
            raise ValueError(
                f"{type(self).__name__}: estimand {self.estimand!r} needs an explicit propensity; "
                f"choose one of {list(self._estimands)}, or use PropensityWeighting"
            )
        super()._validate_params()

    def _validate_arms(
        self,
        X: Any,
        y: ArrayLike | None,
        treatment: ArrayLike | None,
        sample_weight: ArrayLike | None,
        base_weight: ArrayLike | None = None,
    ) -> Arms:
        """Check everything passed to `fit` and store what every balancer stores."""
        self._validate_params()
        name = type(self).__name__
        labels = y if treatment is None else treatment
        if labels is None:
            raise ValueError(
                f"{name} requires y to be passed, but the target y is None; pass the treatment "
                "as fit(X, treatment) or fit(X, y, treatment=treatment)"
            )
        X = validate_features(self, X)
        s = check_sample_weight(sample_weight, X)
        kept = s > 0
        classes, codes = check_treatment(labels, X)
        for arm in (0, 1):
            if not np.any(kept & (codes == arm)):
                raise ValueError(
                    f"{name}: sample_weight is zero in every row with treatment {classes[arm]}; "
                    "each arm needs rows of positive weight"
                )
        base = (
            np.ones(len(X))
            if base_weight is None
            else check_weights(base_weight, name="base_weight")
        )
        if base.size != len(X):
            raise ValueError(
                f"{name}: base_weight has {base.size} entries but X has {len(X)} rows; "
                "pass one per row"
            )
        for arm in MOVING_ARMS.get(self.estimand, (0, 1)):
            if not np.any((s * base)[codes == arm] > 0):
                raise ValueError(
                    f"{name}: base_weight is zero in every row of positive sample_weight with "
                    f"treatment {classes[arm]}; the weights of that arm need a place to start from"
                )
        self.classes_ = classes
        self.estimand_ = self.estimand
        return Arms(X, codes.astype(bool), classes, s, base, self.estimand)

    def _finish(self, arms: Arms, raw: dict[int, NDArray[np.float64]]) -> None:
        """Store the weights of a fit, and the rows for tables and standard errors.

        `raw` holds, for each moving arm, sample_weight * base_weight * g(x) of
        its rows, where g is what `_predict_arm` returns for new rows.
        """
        weights = arms.sample_weight.copy()
        for arm, values in raw.items():
            weights[arms.rows(arm)] = values
        self._arms = arms
        self._finish_rows(weights, arms.codes)

    def _finish_rows(self, weights: NDArray[np.float64], codes: NDArray[np.intp]) -> None:
        """Scale the weights of all rows to mean one per arm and store them."""
        sums = np.bincount(codes, weights)
        scale = np.bincount(codes) / sums
        self._arm_scales = dict(enumerate(scale))
        scaled = weights * scale[codes]
        self.raw_weights_ = scaled
        # An earlier fit may have left weights without a negative one.
        vars(self).pop("weights_", None)
        negative = int((scaled < 0).sum())
        if negative:
            warn_weights(
                f"{type(self).__name__}: {negative} weights are negative, so weights_ is not set; "
                "use raw_weights_ for effects, or ask for non-negative weights"
            )
        else:
            self._set_weights(scaled, codes)

    def _store_results(self, results: dict[int, SolverResult], *, explained: bool = False) -> None:
        """Store the certificates of the arms; not converging is never silent.

        With `explained` a more telling warning has been given already.
        """
        worst = max(results.values(), key=lambda result: result.optimality_gap)
        self.solver_results_ = {self.classes_[arm]: result for arm, result in results.items()}
        self.solver_result_ = worst
        self.optimality_gap_ = worst.optimality_gap
        self.n_iter_ = max(result.n_iter for result in results.values())
        self.converged_ = all(result.converged for result in results.values())
        if not (self.converged_ or explained):
            warn_user(
                f"{type(self).__name__}: not converged after {self.n_iter_} iterations (optimality "
                f"gap {self.optimality_gap_:.2e}); raise max_iter, or relax the balance asked for",
                ConvergenceWarning,
            )

    def _features(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """The functions of the covariates whose balance is judged."""
        return X

    def _imbalance(self, A: NDArray[np.float64], arms: Arms, weights: NDArray[np.float64]) -> float:
        """Largest absolute standardised mean difference between arms and target."""
        scale = standardized_scale(A, arms.treated, arms.sample_weight, arms.estimand)
        means = {}
        for arm in (0, 1):
            means[arm] = weighted_mean(A, np.where(arms.rows(arm), weights, 0.0))
        if arms.estimand in ("ATE", "ATT", "ATC"):
            goal = weighted_mean(A, arms.target)
            differences = [means[arm] - goal for arm in arms.moving_arms]
        else:
            differences = [means[1] - means[0]]
        return float(np.max(np.abs(differences) / nonzero_scale(scale, means[1])))

    def _fitted_arms(self) -> Arms:
        """The training rows, which a pickled copy does not have."""
        check_is_fitted(self, "raw_weights_")
        if not hasattr(self, "_arms"):
            raise AttributeError(
                f"{type(self).__name__}: the training rows are not in memory (fit_chunks and a "
                "pickled copy do not carry them); fit again, or call "
                "reweight.balance_table(X, treatment, weights)"
            )
        return self._arms

    def _require_weights(self) -> None:
        """Refuse what makes no sense for signed weights."""
        check_is_fitted(self, "raw_weights_")
        if not hasattr(self, "weights_"):
            raise AttributeError(
                f"{type(self).__name__}: {int((self.raw_weights_ < 0).sum())} weights are "
                "negative, so that there is no effective sample size or balance table; read "
                "max_imbalance_ and raw_weights_, or ask for non-negative weights"
            )

    @property
    def ess_(self) -> NDArray[np.float64]:
        """Effective sample size of the controls and of the treated."""
        self._require_weights()
        return super().ess_

    def _predict_arm(self, X: NDArray[np.float64], arm: int) -> NDArray[np.float64]:
        """The weight function g of a moving arm at new rows, on the scale of `_finish`."""
        raise AttributeError(f"{type(self).__name__} has no weight function for new rows")

    def _why_no_weight_function(self) -> str | None:
        """Why weights are not a function of new rows, or None if they are."""
        return None

    def _has_weight_function(self) -> bool:
        reason = self._why_no_weight_function()
        if reason is not None:
            raise AttributeError(f"{type(self).__name__} cannot weigh new rows: {reason}")
        return True

    @available_if(_has_weight_function)
    def predict_weights(
        self, X: Any, y: ArrayLike | None = None, *, treatment: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Weights of new rows, on the scale of `fit` and without sampling weights.

        Signed divergences can give negative ones, as in `raw_weights_`; they
        are counted in a warning.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates of the new rows.
        y : array-like of shape (n_samples,), default=None
            Treatment of the new rows, unless `treatment` is given.
        treatment : array-like of shape (n_samples,), default=None
            Treatment of the new rows; `y` is then ignored.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        weights = self._weigh_rows(X, y, treatment)
        negative = int((weights < 0).sum())
        if negative:
            warn_weights(
                f"{type(self).__name__}: {negative} of the {len(weights)} new rows have negative "
                "weights; ask for non-negative weights where that matters"
            )
        return weights

    def _weigh_rows(
        self, X: Any, y: ArrayLike | None, treatment: ArrayLike | None
    ) -> NDArray[np.float64]:
        """The weight function at new rows."""
        check_is_fitted(self, "raw_weights_")
        X = validate_features(self, X, reset=False)
        codes = self._check_labels(X, y, treatment)
        weights = np.empty(len(X))
        for arm in (0, 1):
            rows = codes == arm
            if arm in MOVING_ARMS.get(self.estimand_, (0, 1)):
                weights[rows] = self._arm_scales[arm] * self._predict_arm(X[rows], arm)
            else:
                weights[rows] = self._arm_scales[arm]
        return weights

    def _check_labels(
        self, X: NDArray, y: ArrayLike | None, treatment: ArrayLike | None
    ) -> NDArray[np.intp]:
        """0/1 codes of the treatment of new rows, which may all be of one arm."""
        labels = y if treatment is None else treatment
        if labels is None:
            raise ValueError(
                f"{type(self).__name__}: the weight of a row depends on its arm; pass the "
                "treatment as the second argument or as treatment="
            )
        labels = column_or_1d(labels)
        check_consistent_length(X, labels)
        codes = np.searchsorted(self.classes_, labels).clip(max=1)
        unknown = self.classes_[codes] != labels
        if unknown.any():
            raise ValueError(
                f"{type(self).__name__}: treatment has the value {labels[unknown][0]} that fit "
                f"has not seen; it knows {list(self.classes_)}"
            )
        return codes

    @available_if(_has_weight_function)
    def score(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Negative imbalance of rows under the fitted weight function; larger is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates, usually held out.
        y : array-like of shape (n_samples,), default=None
            Their treatment, unless `treatment` is given.
        treatment : array-like of shape (n_samples,), default=None
            Their treatment; `y` is then ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.

        Returns
        -------
        float
            Minus the largest absolute standardised mean difference of the
            balanced functions, or minus the maximum mean discrepancy if
            `scoring="mmd"`.
        """
        weights = self._weigh_rows(X, y, treatment)
        X = validate_features(self, X, reset=False)
        codes = self._check_labels(X, y, treatment)
        s = check_sample_weight(sample_weight, X)
        arms = Arms(X, codes.astype(bool), self.classes_, s, np.ones(len(X)), self.estimand_)
        if len(np.unique(codes)) < 2:
            raise ValueError(
                f"{type(self).__name__}: the rows to score are all of one arm; stratify the "
                "folds, for example cv=list(StratifiedKFold(5).split(X, treatment))"
            )
        if self.scoring == "mmd":
            return -max(self._discrepancies(arms, s * weights))
        return -self._imbalance(self._features(X), arms, s * weights)

    @staticmethod
    def _discrepancies(arms: Arms, weights: NDArray[np.float64]) -> list[float]:
        """Maximum mean discrepancy of each weighted arm to the target."""
        from reweight.diagnostics.distances import mmd

        goal = arms.target > 0
        return [
            mmd(arms.X[rows], arms.X[goal], weights[rows], arms.target[goal])
            for rows in map(arms.rows, arms.moving_arms)
        ]

    def estimating_equations(self) -> EstimatingEquations | None:
        """Equations that define the weights, for standard errors; None if there are none.

        Returns
        -------
        EstimatingEquations or None
            None for weights that are not a smooth function of finitely many
            parameters; use resampling for those.
        """
        return None

    def balance_table(self, **options: Any) -> "pd.DataFrame":
        """Balance of the training rows before and after weighting.

        Parameters
        ----------
        **options : dict
            Passed on to `reweight.balance_table`.

        Returns
        -------
        pandas.DataFrame
        """
        arms = self._fitted_arms()
        self._require_weights()
        from reweight.diagnostics.balance_table import balance_table

        options.setdefault("feature_names", getattr(self, "feature_names_in_", None))
        return balance_table(
            arms.X,
            arms.classes[arms.codes],
            self.weights_,
            estimand=arms.estimand if arms.estimand in ("ATE", "ATT", "ATC") else "ATO",
            sample_weight=arms.sample_weight,
            **options,
        )

    def love_plot(self, *, threshold: float = 0.1, ax: Any = None, **options: Any) -> Any:
        """Plot of standardised mean differences before and after weighting.

        Parameters
        ----------
        threshold : float, default=0.1
            Where to draw the line of acceptable imbalance, in standard deviations.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None makes a new figure.
        **options : dict
            Passed on to `reweight.balance_table`.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from reweight.diagnostics.plots import love_plot

        return love_plot(self.balance_table(**options), threshold=threshold, ax=ax)
