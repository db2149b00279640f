"""Class weights of abstention 0.1.3.1, for the numbers pinned in the tests.

Run with `pip install abstention`. Its calibrators are applied to the probabilities first, since
`calibrator_factory` would iterate on target probabilities that are not calibrated.
"""

import numpy as np
from abstention.calibration import (
    NoBiasVectorScaling,
    TempScaling,
    VectorScaling,
)
from abstention.label_shift import (
    BBSEImbalanceAdapter,
    EMImbalanceAdapter,
    RLLSImbalanceAdapter,
)
from scipy.special import softmax

from shift import make_target_shift

MEANS = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])


def overconfident(X: np.ndarray) -> np.ndarray:
    logits = X @ MEANS.T - 0.5 * (MEANS**2).sum(axis=1) + np.log([0.5, 0.3, 0.2])
    return softmax(2 * logits + [0, 0.3, -0.2], axis=1)


def main() -> None:
    data = make_target_shift(1000, design="classes", random_state=0)
    P, P_target, labels = overconfident(data.X), overconfident(data.X_target), np.eye(3)[data.y]
    calibrators = {
        "none": None,
        "ts": TempScaling(verbose=False),
        "bcts": TempScaling(verbose=False, bias_positions="all"),
        "vs": VectorScaling(verbose=False),
        "nbvs": NoBiasVectorScaling(verbose=False),
    }
    for name, factory in calibrators.items():
        valid, target = P, P_target
        if factory is not None:
            apply = factory(valid_preacts=np.log(P), valid_labels=labels)
            valid, target = apply(np.log(P)), apply(np.log(P_target))
        adapter = EMImbalanceAdapter(verbose=False, max_iterations=10_000, tolerance=1e-12)
        print("MLLS", name, weights(adapter, labels, target, valid))
    for soft in (True, False):
        print("BBSE", soft, weights(BBSEImbalanceAdapter(soft=soft), labels, P_target, P))
    print("RLLS", weights(RLLSImbalanceAdapter(soft=True), labels, P_target, P))


def weights(adapter, labels: np.ndarray, target: np.ndarray, valid: np.ndarray) -> list[float]:
    found = adapter(
        valid_labels=labels, tofit_initial_posterior_probs=target, valid_posterior_probs=valid
    )
    return [round(float(value), 6) for value in np.ravel(found.multipliers)]


if __name__ == "__main__":
    main()
