"""Entropy balancing of means: our dual Newton solver beside the same program in cvxpy, and ebal."""

from collections.abc import Iterator

import numpy as np
from case import Case

from reweight.solvers.divergence_dual import divergence_dual
from reweight.solvers.reference import divergence_reference


def problem(n_rows: int, n_columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Controls and treated with normal covariates whose means differ by 0.3 sd."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_columns))
    treated = rng.uniform(size=n_rows) < 0.3
    X[treated] += 0.3
    return X, treated


def figures(C: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Largest imbalance, and the divergence from equal weights."""
    w = weights / weights.sum()
    positive = w[w > 0]
    return {
        "max_imbalance": float(np.abs(w @ C).max()),
        "entropy": float(positive @ np.log(positive * len(w))),
    }


def cases(quick: bool) -> Iterator[Case]:
    for n_rows in [1_000] if quick else [1_000, 10_000, 100_000]:
        X, treated = problem(n_rows, 10)
        C = X[~treated] - X[treated].mean(axis=0)
        size = {"rows": n_rows, "columns": 10}
        ones = np.ones(len(C))

        def judge(result, C=C):
            return figures(C, np.asarray(result.x))

        yield Case("counterpoise", size, lambda C=C, q=ones: divergence_dual(C, q), judge)
        if n_rows <= 10_000:
            yield Case("cvxpy", size, lambda C=C, q=ones: divergence_reference(C, q), judge)
        yield from peer(X, treated, C, size)


def peer(X: np.ndarray, treated: np.ndarray, C: np.ndarray, size: dict[str, int]) -> Iterator[Case]:
    """The ebal package at its default tolerance; its time includes an outcome regression."""
    try:
        import ebal
    except ImportError:
        print("ebal is not installed: pip install 'counterpoise[bench]'")
        return
    outcome = np.zeros(len(X))

    def run():
        return ebal.ebal_bin(effect="ATT", PCA=False, print_level=-1).ebalance(
            treated.astype(int), X.copy(), outcome
        )

    yield Case("ebal", size, run, lambda result: figures(C, np.asarray(result["w"])[~treated]))
