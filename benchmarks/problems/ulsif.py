"""Least-squares density ratio tuned on a grid of 9 bandwidths and 9 ridges, beside densratio.

Both choose by the closed form of leave-one-pair-out errors. `closed_form_error` is the largest
difference of a library's ratios from max((H + alpha I)^-1 h, 0) with its own centres and its own
choice, so that equal solutions show as zeros.
"""

from collections.abc import Iterator

import numpy as np
from case import Case
from problems._shift_data import two_samples
from scipy.spatial.distance import cdist

from shift import ULSIF

GRID = np.logspace(-3, 1, 9)


def closed_form(X, X_target, centers, bandwidth, alpha):
    """The ratio at the source rows by its textbook formula."""
    source, target = (
        np.exp(-cdist(rows, centers, "sqeuclidean") / (2 * bandwidth**2)) for rows in (X, X_target)
    )
    H = source.T @ source / len(X) + alpha * np.eye(len(centers))
    return source @ np.maximum(np.linalg.solve(H, target.mean(axis=0)), 0.0)


def cases(quick: bool) -> Iterator[Case]:
    for n_rows in [1000] if quick else [1000, 5000]:
        X, X_target = two_samples(n_rows)
        size = {"rows": n_rows, "components": 100}

        def judge(fitted, X=X, X_target=X_target):
            ratio, centers, bandwidth, alpha = fitted
            exact = closed_form(X, X_target, centers, bandwidth, alpha)
            return {
                "bandwidth": float(bandwidth),
                "alpha": float(alpha),
                "closed_form_error": float(np.abs(ratio - exact).max()),
            }

        def ours(X=X, X_target=X_target):
            weighter = ULSIF(bandwidth_grid=GRID, alpha_grid=GRID).fit(X, X_target=X_target)
            chosen = weighter.best_params_
            return (
                weighter.raw_weights_,
                weighter.centers_,
                chosen["bandwidth"],
                chosen["alpha"],
            )

        yield Case("counterpoise", size, ours, judge)
        yield from peers(X, X_target, size, judge)


def peers(X: np.ndarray, X_target: np.ndarray, size: dict, judge) -> Iterator[Case]:
    try:
        from densratio import densratio
    except ImportError:
        print("densratio is not installed: pip install 'counterpoise[bench]'")
        return

    def run():
        np.random.seed(0)  # noqa: NPY002
        found = densratio(X_target, X, verbose=False)
        kernel = found.kernel_info
        ratio = np.asarray(found.compute_density_ratio(X)).ravel()
        return ratio, np.asarray(kernel.centers), kernel.sigma, found.lambda_

    yield Case("densratio", size, run, judge)
