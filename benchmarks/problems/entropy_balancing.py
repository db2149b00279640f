"""Exact entropy balancing for the ATT: our estimator beside ebal and empirical-calibration.

Our time includes validating the data and the checks of the result. ebal's includes an outcome
regression that it cannot leave out.
"""

from collections.abc import Iterator

import numpy as np
from case import Case
from problems._balancing_data import control_gap, two_arms

from causal import EntropyBalancing


def cases(quick: bool) -> Iterator[Case]:
    for n_rows in [10_000] if quick else [10_000, 100_000, 1_000_000]:
        X, treatment = two_arms(n_rows, 20)
        size = {"rows": n_rows, "columns": 20}

        def judge(weights, X=X, treatment=treatment):
            return {"max_imbalance": control_gap(X, treatment, weights)}

        def ours(X=X, treatment=treatment):
            return EntropyBalancing("ATT").fit_weights(X, treatment)

        yield Case("counterpoise", size, ours, judge)
        yield from peers(X, treatment, size, judge)


def peers(X: np.ndarray, treatment: np.ndarray, size: dict, judge) -> Iterator[Case]:
    try:
        import ebal
        import empirical_calibration
    except ImportError as error:
        print(f"{error.name} is not installed: pip install 'counterpoise[bench]'")
        return
    treated = treatment == 1

    def run_ebal():
        fit = ebal.ebal_bin(effect="ATT", PCA=False, print_level=-1)
        return np.asarray(fit.ebalance(treatment, X.copy(), np.zeros(len(X)))["w"])

    def run_calibrate():
        weights = np.ones(len(X))
        weights[~treated], _ = empirical_calibration.calibrate(
            X[~treated], X[treated], objective=empirical_calibration.core.Objective.ENTROPY
        )
        return weights

    yield Case("ebal", size, run_ebal, judge)
    yield Case("empirical-calibration", size, run_calibrate, judge)
