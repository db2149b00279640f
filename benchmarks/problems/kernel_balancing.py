"""Kernel balancing of many rows through 300 landmarks; no Python peer offers it."""

from collections.abc import Iterator

import numpy as np
from case import Case
from problems._balancing_data import control_gap, two_arms

from causal import KernelBalancing
from reweight import effective_sample_size, mmd


def cases(quick: bool) -> Iterator[Case]:
    for n_rows in [5_000] if quick else [10_000, 100_000]:
        X, treatment = two_arms(n_rows, 4)
        size = {"rows": n_rows, "columns": 4}

        def judge(weights, X=X, treatment=treatment):
            treated = treatment == 1
            arms = X[~treated], X[treated]
            return {
                "max_imbalance": control_gap(X, treatment, weights),
                "mmd": mmd(*arms, weights[~treated], bandwidth=2.0),
                "mmd_before": mmd(*arms, bandwidth=2.0),
                "ess_share": effective_sample_size(weights, treatment)[0] / np.sum(~treated),
            }

        def ours(X=X, treatment=treatment):
            balancer = KernelBalancing("ATT", bandwidth=3.0, alpha=1e-5, random_state=0)
            return balancer.fit_weights(X, treatment)

        yield Case("counterpoise", size, ours, judge)
