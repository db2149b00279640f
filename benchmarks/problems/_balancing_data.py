"""One design for all balancing benchmarks."""

import numpy as np
from scipy.special import expit


def two_arms(n_rows: int, n_columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Normal covariates and a treatment whose log-odds are linear in them.

    Parameters
    ----------
    n_rows, n_columns : int
        Size.
    seed : int, default=0
        Of the generator.

    Returns
    -------
    X : ndarray of shape (n_rows, n_columns)
    treatment : ndarray of int of shape (n_rows,)
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, n_columns))
    slopes = np.resize([0.3, -0.2, 0.1, 0.0], n_columns)
    return X, (rng.random(n_rows) < expit(X @ slopes - 0.5)).astype(int)


def control_gap(X: np.ndarray, treatment: np.ndarray, weights: np.ndarray) -> float:
    """Largest difference of the weighted control means to the treated means, in sd."""
    treated = treatment == 1
    mean = np.average(X[~treated], axis=0, weights=weights[~treated])
    return float(np.abs((mean - X[treated].mean(axis=0)) / X[treated].std(axis=0)).max())
