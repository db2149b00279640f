"""What the kernel mean matching weighters share."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from reweight.kernels.bandwidth import N_NEIGHBORS, resolve_bandwidth
from reweight.kernels.kernel_sums import kernel_matrix
from reweight.validation import warn_user, warn_weights
from shift._target_rows import ShiftWeighter
from shift.covariate._matching import solve_matching
from shift.covariate._matching_problem import Matching, MatchingProblem

KERNEL_SAMPLE = 500
DEGENERATE = 1e-6
DEGENERATE_SHARE = 0.99
# In units of 1/n + 1/t: far below what blurs the match, enough to spread flat solutions.
AUTO_RIDGE = 0.1


class MatchingWeighter(ShiftWeighter):
    """Base class of the kernel mean matching weighters."""

    _parameter_constraints = {
        "bandwidth": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"knn50", "median", "scott", "silverman"}),
            "array-like",
        ],
        "kernel": [StrOptions({"rbf", "laplacian", "matern"})],
        "max_weight": [Interval(Real, 0, None, closed="neither")],
        "mean_tolerance": [Interval(Real, 0, None, closed="left"), None],
        "alpha": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "exponent": [Interval(Real, 0, 1, closed="both")],
        "solver": [StrOptions({"auto", "exact", "gradient", "landmarks", "cvxpy"})],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "certify": [StrOptions({"auto", "kernel", "landmarks"})],
        "random_state": ["random_state"],
    }

    def _match(
        self, X: NDArray, X_target: NDArray, share: NDArray[np.float64], D: float
    ) -> Matching:
        """Solve the matching problem and store what every matching weighter stores."""
        rng = check_random_state(self.random_state)
        rows = np.concatenate([X, X_target])
        self.bandwidth_ = self._resolve_bandwidth(rows, rng)
        noise = float(share @ share) + 1.0 / len(X_target)
        problem = MatchingProblem(
            X,
            X_target,
            share,
            float(D),
            float(self.max_weight),
            self._mean_tolerance(len(X), len(X_target), D),
            AUTO_RIDGE * noise if self.alpha == "auto" else float(self.alpha),
            self.kernel,
            self.bandwidth_,
        )
        self._check_reachable(problem)
        matching = solve_matching(
            problem,
            solver=self.solver,
            n_components=self.n_components,
            tol=self.tol,
            max_iter=self.max_iter,
            certify=self.certify,
            random_state=rng,
        )
        self._problem = problem
        self._store_result(matching)
        return matching

    def __getstate__(self):
        # The problem serves the fit itself; a pickle carries only what later calls need.
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_problem"}

    def _resolve_bandwidth(self, rows: NDArray, rng: np.random.RandomState) -> Any:
        name = type(self).__name__
        if (
            isinstance(self.bandwidth, str)
            and self.bandwidth == "knn50"
            and len(rows) < N_NEIGHBORS
        ):
            warn_weights(
                f"{name}: bandwidth='knn50' looks at the 50th neighbour, but source and target "
                f"have {len(rows)} rows together; the furthest one is used; pass a number or "
                "bandwidth='median'"
            )
        try:
            bandwidth = resolve_bandwidth(rows, self.bandwidth, random_state=rng)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        some = rng.permutation(len(rows))[:KERNEL_SAMPLE]
        if len(some) > 2:
            self._warn_of_degenerate_kernel(rows[some], bandwidth)
        return bandwidth

    def _warn_of_degenerate_kernel(self, rows: NDArray, bandwidth: Any) -> None:
        K = kernel_matrix(rows, rows, self.kernel, bandwidth)[~np.eye(len(rows), dtype=bool)]
        for extreme, remedy in ((K < DEGENERATE, "larger"), (K > 1 - DEGENERATE, "smaller")):
            if extreme.mean() >= DEGENERATE_SHARE:
                distance = resolve_bandwidth(rows, "median")
                warn_weights(
                    f"{type(self).__name__}: with bandwidth {np.asarray(bandwidth).tolist()} the "
                    f"kernel is {'0' if remedy == 'larger' else '1'} between almost all rows, so "
                    f"it cannot tell the samples apart; their median distance is {distance:.4g}; "
                    f"pass a {remedy} bandwidth"
                )

    def _mean_tolerance(self, n: int, t: int, D: float) -> float:
        if self.mean_tolerance is not None:
            return float(self.mean_tolerance)
        return 1.0 - 1.0 / np.sqrt(t if np.isinf(D) else n)

    def _check_reachable(self, problem: MatchingProblem) -> None:
        if np.isinf(problem.D):
            return
        root = np.sqrt(problem.D)
        least = 1.0 - problem.mean_tolerance * root
        if problem.max_weight < least:
            raise ValueError(
                f"{type(self).__name__}: max_weight={problem.max_weight:g} keeps the mean source "
                f"weight further than mean_tolerance={problem.mean_tolerance:g} below the mean "
                f"target weight; it must be at least sqrt(D) * (1 / sqrt(D) - mean_tolerance) = "
                f"{least:.4g}; pass a larger max_weight or mean_tolerance"
            )

    def _store_result(self, matching: Matching) -> None:
        result = matching.result
        self.solver_result_ = result
        self.optimality_gap_ = result.optimality_gap
        self.objective_ = result.objective
        self.n_iter_ = result.n_iter
        if result.converged:
            return
        name = type(self).__name__
        found = (
            f"{name}: objective {result.objective:.6g} is certified only to "
            f"{result.optimality_gap:.3g} of the sampling noise 1/n + 1/t = "
            f"{self._problem.noise:.3g}, above tol={self.tol:g}"
        )
        if result.n_iter >= self.max_iter:
            warn_user(f"{found}; raise max_iter={self.max_iter}", ConvergenceWarning)
        elif self.n_components < len(self._problem.rows):
            warn_weights(
                f"{found}, because {self.n_components} landmarks stand for the kernel; raise "
                "n_components or tol"
            )
        else:
            warn_user(f"{found}; raise tol or pass alpha > 0", ConvergenceWarning)

    def _fit_no_shift(self, X: NDArray) -> None:
        from reweight.solvers.result import SolverResult

        self.bandwidth_ = None
        self.objective_ = self.optimality_gap_ = 0.0
        self.n_iter_ = 0
        self.solver_result_ = SolverResult(
            np.ones(len(X)), None, 0.0, 0.0, "duality_gap", 0, True, "none"
        )
