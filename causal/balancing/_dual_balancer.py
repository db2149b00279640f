"""Base of the methods whose weights are an explicit function of balanced moments."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from causal._estimating_equations import EstimatingEquations
from causal.balancing._base import Arms, BalancingWeighter
from causal.balancing._basis import MomentBasis
from causal.balancing._dual import (
    BalanceTarget,
    DualFit,
    dual_equations,
    relative_weights,
    solve_arm,
)
from reweight.kernels.chunks import row_slices


class DualBalancer(BalancingWeighter):
    """Balances moments of each arm through `divergence_dual`."""

    def _fit_arms(self, arms: Arms, divergence: str, max_smd: float) -> "DualBalancer":
        basis = MomentBasis(self.moments, self.interactions, self.featurizer)
        self._basis = basis.fit(
            arms.X, arms.sample_weight, getattr(self, "feature_names_in_", None)
        )
        A = self._basis.transform(arms.X)
        self._target = BalanceTarget.of(A, arms)
        fits, raw = {}, {}
        for arm, rows, base in arms.problems():
            C = self._target.rows(A[rows])
            fits[arm] = self._solve(C, base, len(C), divergence, max_smd)
            raw[arm] = fits[arm].result.x * (arms.sample_weight * arms.base_weight)[rows].sum()
        self._store_fits(fits, divergence)
        self._finish(arms, raw)
        self.max_imbalance_ = self._imbalance(A, arms, self.raw_weights_)
        implied = divergence == "kl" and arms.estimand != "ATE"
        self.propensity_ = self._implied_propensity(A, arms) if implied else None
        return self

    def _implied_propensity(self, A: NDArray[np.float64], arms: Arms) -> NDArray[np.float64]:
        """The logistic model whose odds of the target arm are the weights of the other."""
        (arm,) = arms.moving_arms
        s, rows = arms.sample_weight, arms.rows(arm)
        dual = self._fits[arm][0]
        odds = np.log(s[~rows].sum() / s[rows].sum()) + dual[0]
        theta = dual[1:] / self._target.scale
        # Centred a chunk at a time, so that no copy of the data is made.
        odds = odds + np.concatenate(
            [(A[part] - self._target.mean) @ theta for part in row_slices(len(A))]
        )
        return expit(odds if arm == 0 else -odds)

    def _solve(self, C, base, n_rows, divergence, max_smd, n_jobs=None) -> DualFit:
        return solve_arm(
            C,
            base,
            owner=type(self).__name__,
            divergence=divergence,
            max_smd=max_smd,
            alpha=None,
            names=self._basis.names_,
            n_rows=n_rows,
            tol=self.tol,
            max_iter=self.max_iter,
            on_infeasible=self.on_infeasible,
            n_jobs=n_jobs,
        )

    def _store_fits(self, fits: dict[int, DualFit], divergence: str) -> None:
        """Set what a user reads off the solutions of the arms."""
        self._divergence = divergence
        self._fits = {arm: (fit.result.dual, fit.tolerance) for arm, fit in fits.items()}
        self._store_results({arm: fit.result for arm, fit in fits.items()})
        relaxed = [fit.tolerance for fit in fits.values() if fit.relaxed]
        self.relaxed_max_smd_ = max(relaxed) if relaxed else None
        self.dual_coef_ = {
            self.classes_[arm]: fit.result.dual[1:] / self._target.scale
            for arm, fit in fits.items()
        }
        exact = [fit for fit in fits.values() if fit.tolerance == 0 and fit.result.n_iter]
        idle = [np.flatnonzero(fit.result.dual[1:] == 0) for fit in exact]
        self.dropped_columns_ = [self._basis.names_[j] for j in sorted(set().union(*idle))]

    def _features(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._basis.transform(X)

    def _predict_dual(self, X: NDArray[np.float64], arm: int) -> NDArray[np.float64]:
        C = self._target.rows(self._basis.transform(X))
        return relative_weights(C, self._fits[arm][0], self._divergence)

    def _dual_equations(self) -> EstimatingEquations:
        return dual_equations(
            self._fitted_arms(),
            self._basis.transform,
            self._target,
            {arm: dual for arm, (dual, _) in self._fits.items()},
            divergence=self._divergence,
            tolerance={arm: tolerance for arm, (_, tolerance) in self._fits.items()},
        )
