"""Kernel mean matching with a Gaussian kernel: our estimator beside skada's Frank-Wolfe solver.

`objective` is the squared discrepancy of the weights as returned, with the whole kernel; `gap` is
what the library certifies of its distance to the minimum, in units of 1/n + 1/t.
"""

from collections.abc import Iterator

import numpy as np
from case import Case
from problems._shift_data import BANDWIDTH, discrepancy, two_samples

from shift import KernelMeanMatching


def cases(quick: bool) -> Iterator[Case]:
    for n_rows in [1000] if quick else [1000, 5000]:
        X, X_target = two_samples(n_rows)
        size = {"rows": n_rows}

        def judge(fitted, X=X, X_target=X_target):
            beta, gap = fitted
            return {
                "objective": discrepancy(X, X_target, beta),
                "gap": gap,
                "ess_share": float(beta.sum() ** 2 / (beta @ beta) / len(beta)),
            }

        def ours(X=X, X_target=X_target, **options):
            weighter = KernelMeanMatching(BANDWIDTH, random_state=0, **options)
            weighter.fit(X, X_target=X_target)
            return weighter.raw_weights_, weighter.optimality_gap_

        if n_rows > 2000:
            yield Case("counterpoise", size, lambda ours=ours: ours(n_components=300), judge)
            yield Case("counterpoise, 400 landmarks", size, ours, judge)
        else:
            yield Case("counterpoise", size, ours, judge)
        yield from peers(X, X_target, size, judge)


def peers(X: np.ndarray, X_target: np.ndarray, size: dict, judge) -> Iterator[Case]:
    try:
        from skada import KMMReweightAdapter
    except ImportError:
        print("skada is not installed: pip install 'counterpoise[bench]'")
        return
    rows = np.concatenate([X, X_target])
    domain = np.repeat([1, -1], [len(X), len(X_target)])

    def run():
        adapter = KMMReweightAdapter(gamma=1 / (2 * BANDWIDTH**2))
        return adapter.fit(rows, sample_domain=domain).source_weights_, np.nan

    yield Case("skada", size, run, judge)
