"""Weights of a shifted continuous outcome beside skada's, from a few hundred rows to a million."""

from collections.abc import Iterator

import numpy as np
from case import Case

from shift import ReTaSA, TargetKernelMeanMatching, make_target_shift


def cases(quick: bool) -> Iterator[Case]:
    yield from small(200 if quick else 400)
    for n_rows in [10_000] if quick else [10_000, 100_000, 1_000_000]:
        data = make_target_shift(n_rows, random_state=0)
        size = {"rows": n_rows, "target_rows": n_rows}
        yield Case("counterpoise", size, weigh(ReTaSA(), data), judge(data))


def small(n_rows: int) -> Iterator[Case]:
    """All that a peer can do: it needs all pairs of rows in one quadratic program."""
    data = make_target_shift(n_rows, random_state=0)
    size = {"rows": n_rows, "target_rows": n_rows}
    weighters = {
        "counterpoise": ReTaSA(solver="binned"),
        "counterpoise, exact": ReTaSA(solver="exact"),
        "counterpoise, constrained": ReTaSA(nonnegative="constrained"),
        "counterpoise, kernel mean matching": TargetKernelMeanMatching(),
    }
    for library, weighter in weighters.items():
        yield Case(library, size, weigh(weighter, data), judge(data))
    yield from peer(data, size)


def weigh(weighter, data):
    return lambda: weighter.fit(data.X, data.y, X_target=data.X_target).weights_


def judge(data):
    """Mean squared distance to the true weights, 0 being best and `unweighted` doing nothing."""

    def figures(weights):
        weights = weights / weights.mean()
        return {
            "weight_error": float(np.mean((weights - data.density_ratio) ** 2)),
            "unweighted_error": float(np.mean((1 - data.density_ratio) ** 2)),
        }

    return figures


def peer(data, size: dict) -> Iterator[Case]:
    try:
        from skada import MMDTarSReweightAdapter
    except ImportError:
        print("skada is not installed: pip install 'counterpoise[bench]'")
        return
    X = np.concatenate([data.X, data.X_target])
    y = np.concatenate([data.y, np.zeros(len(data.X_target))])
    domain = np.r_[np.ones(len(data.X)), -np.ones(len(data.X_target))].astype(int)

    def run(alpha):
        adapter = MMDTarSReweightAdapter(gamma=1.0, reg=alpha)
        return adapter.fit(X, y, sample_domain=domain).source_weights_

    # Its default ridge, 1e-10, and the best of those tried.
    for alpha in (1e-2, 1e-10):
        yield Case(f"skada, reg={alpha:g}", size, lambda alpha=alpha: run(alpha), judge(data))
