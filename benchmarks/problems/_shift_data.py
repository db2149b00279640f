"""The design of the covariate shift benchmarks, and judges that share no code with the solvers."""

import numpy as np
from scipy.spatial.distance import cdist

BANDWIDTH = 1.5


def two_samples(n_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Source N(0, I) and target N(0.7, 0.64 I) in five dimensions."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (n_rows, 5)), rng.normal(0.7, 0.8, (n_rows, 5))


def discrepancy(X: np.ndarray, X_target: np.ndarray, beta: np.ndarray) -> float:
    """Squared distance of the kernel means of the source, weighted by beta, and the target."""
    rows = np.concatenate([X, X_target])
    v = np.concatenate([beta / len(X), np.full(len(X_target), -1 / len(X_target))])
    total = 0.0
    for start in range(0, len(rows), 1000):
        part = slice(start, start + 1000)
        K = np.exp(-cdist(rows[part], rows, "sqeuclidean") / (2 * BANDWIDTH**2))
        total += v[part] @ K @ v
    return float(total)
