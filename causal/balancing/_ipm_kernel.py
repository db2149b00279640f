"""Maximum mean discrepancy of an arm: features of the kernel, and its convex programs."""

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.gaussian_process.kernels import Matern

from causal.balancing._ipm_arm import ArmProblem, Array, Discrepancy
from reweight.kernels.chunks import row_slices
from reweight.kernels.kernel_sums import kernel_matrix
from reweight.kernels.landmarks import choose_landmarks
from reweight.solvers.dense_qp import dense_qp
from reweight.solvers.divergence_dual import divergence_dual
from reweight.solvers.lowrank_qp import lowrank_qp
from reweight.solvers.result import SolverResult

Kernel = Callable[[Array, Array], Array]

EXACT_ROWS = 2000
EXACT_TARGET_ROWS = 10_000
DEFAULT_LANDMARKS = 300
RANK_TOLERANCE = 1e-12
BLOCK = 2048
CLOSED_FORM_NU = (0.5, 1.5, 2.5)


def rbf_kernel(bandwidths: Sequence) -> Kernel:
    """Mean of Gaussian kernels.

    Parameters
    ----------
    bandwidths : sequence of float or of ndarray of shape (p,)
        One bandwidth a kernel.

    Returns
    -------
    callable
        (n, p), (m, p) -> (n, m).
    """
    return _mean_of([partial(kernel_matrix, kernel="rbf", bandwidth=h) for h in bandwidths])


def matern_kernel(bandwidths: Sequence, nu: float) -> Kernel:
    """Mean of Matérn kernels of order `nu`, whose unit balls are those of a Sobolev space.

    Parameters
    ----------
    bandwidths : sequence of float or of ndarray of shape (p,)
        One length scale a kernel.
    nu : float
        Smoothness.

    Returns
    -------
    callable
        (n, p), (m, p) -> (n, m).
    """
    if nu in CLOSED_FORM_NU:
        part = partial(kernel_matrix, kernel="matern", nu=nu)
        return _mean_of([partial(part, bandwidth=h) for h in bandwidths])
    return _mean_of([Matern(length_scale=h, nu=nu) for h in bandwidths])


def _mean_of(kernels: Sequence[Kernel]) -> Kernel:
    if len(kernels) == 1:
        return kernels[0]
    return lambda X, Y: sum(kernel(X, Y) for kernel in kernels) / len(kernels)


class KernelDiscrepancy(Discrepancy):
    """Maximum mean discrepancy to the target.

    The kernel is centred at the target, k(x, y) - m(x) - m(y) + mean m with m the
    mean of k over the target. On weights that sum to one the quadratic form of the
    centred kernel is the squared discrepancy itself, so that no digits are lost to
    a linear term that nearly cancels it.

    Parameters
    ----------
    arm : ArmProblem
        The arm.
    kernel : callable
        (n, p), (m, p) -> (n, m).
    divergence : {"kl", "chi2"}
        What `minimize` regularises by.
    n_components : int or None
        Landmarks; None takes every row of an arm of moderate size.
    rng : numpy.random.RandomState
        Draws the landmarks.
    """

    smooth = True

    def __init__(
        self,
        arm: ArmProblem,
        kernel: Kernel,
        divergence: str,
        n_components: int | None,
        rng: np.random.RandomState,
    ) -> None:
        super().__init__(arm)
        self.kernel, self.divergence = kernel, divergence
        n, m = len(arm.X), len(arm.target)
        small = n <= EXACT_ROWS and m <= EXACT_TARGET_ROWS
        self.n_landmarks = min(n, n_components or (n if small else DEFAULT_LANDMARKS))
        self.whole = small and self.n_landmarks == n
        if not self.whole:
            self.landmarks = choose_landmarks(
                arm.X, self.n_landmarks, sample_weight=arm.base, random_state=rng
            )

    @cached_property
    def gram(self) -> NDArray[np.float64]:
        """Centred kernel matrix of the arm."""
        arm = self.arm
        embedding = self._target_mean(arm.X)
        level = float(arm.target_weight @ self._target_mean(arm.target))
        K = self.kernel(arm.X, arm.X)
        K -= embedding[:, None]
        K -= embedding
        K += level
        return K

    @cached_property
    def features(self) -> NDArray[np.float64]:
        """Rows whose inner products are the centred kernel, or its landmark approximation."""
        return self._spectral_features() if self.whole else self._landmark_features()

    def _spectral_features(self) -> NDArray[np.float64]:
        values, vectors = eigh(self.gram)
        kept = values > RANK_TOLERANCE * max(values[-1], np.finfo(float).tiny)
        return np.ascontiguousarray(vectors[:, kept] * np.sqrt(values[kept]))

    def _landmark_features(self) -> NDArray[np.float64]:
        values, vectors = eigh(self.kernel(self.landmarks, self.landmarks))
        kept = values > 1e-10 * values[-1]
        whiten = vectors[:, kept] / np.sqrt(values[kept])
        mean = np.zeros(int(kept.sum()))
        for rows in row_slices(len(self.arm.target), BLOCK):
            block = self.kernel(self.arm.target[rows], self.landmarks) @ whiten
            mean += self.arm.target_weight[rows] @ block
        features = np.empty((len(self.arm.X), len(mean)))
        for rows in row_slices(len(features), BLOCK):
            features[rows] = self.kernel(self.arm.X[rows], self.landmarks) @ whiten - mean
        return features

    def _target_mean(self, X: Array) -> Array:
        total = np.zeros(len(X))
        for rows in row_slices(len(self.arm.target), BLOCK):
            total += self.kernel(X, self.arm.target[rows]) @ self.arm.target_weight[rows]
        return total

    def value(self, w: Array) -> float:
        """Maximum mean discrepancy at weights that sum to one."""
        if self.whole:
            return float(np.sqrt(max(w @ self.gram @ w, 0.0)))
        return float(np.linalg.norm(w @ self.features))

    def minimize(self, alpha: float, tol: float, max_iter: int) -> SolverResult:
        """Least squared discrepancy / 2 + alpha * divergence."""
        if alpha > 0 and self.divergence == "kl":
            return self._minimize_kl(alpha, tol, max_iter)
        base, upper = self.arm.base, self.arm.upper
        options = {"upper": upper, "diagonal": alpha / base, "tol": tol, "max_iter": max_iter}
        if self.whole:
            return dense_qp(self.gram, np.zeros(len(base)), **options)
        return lowrank_qp(self.features, np.zeros(len(base)), **options)

    def _minimize_kl(self, alpha: float, tol: float, max_iter: int) -> SolverResult:
        """The same with entropy, through its dual: one unknown a feature."""
        return divergence_dual(
            self.features, self.arm.base, alpha=alpha, tol=tol, max_iter=max_iter
        )
