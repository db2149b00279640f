"""Just-identified covariate balancing propensity scores beside the cbps package."""

from collections.abc import Iterator

import numpy as np
from case import Case
from problems._balancing_data import control_gap, two_arms

from causal import CBPS


def cases(quick: bool) -> Iterator[Case]:
    for n_rows in [1_000] if quick else [1_000, 10_000]:
        X, treatment = two_arms(n_rows, 20)
        size = {"rows": n_rows, "columns": 20}

        def judge(weights, X=X, treatment=treatment):
            return {"max_imbalance": control_gap(X, treatment, weights)}

        def ours(X=X, treatment=treatment):
            return CBPS("ATT", over_identified=False).fit_weights(X, treatment)

        yield Case("counterpoise", size, ours, judge)
        yield from peer(X, treatment, size, judge)


def peer(X: np.ndarray, treatment: np.ndarray, size: dict, judge) -> Iterator[Case]:
    try:
        from cbps import cbps_fit
    except ImportError:
        print("cbps is not installed: pip install 'counterpoise[bench]'")
        return
    design = np.column_stack([np.ones(len(X)), X])

    def run():
        fit = cbps_fit(treatment, design, method="exact", att=1)
        e = np.asarray(fit["fitted_values"]).ravel()
        return np.where(treatment == 1, 1.0, e / (1 - e))

    yield Case("cbps", size, run, judge)
