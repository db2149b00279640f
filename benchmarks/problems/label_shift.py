"""Target priors by maximum likelihood among ten classes, calibration and intervals included.

Beside `abstention` where it is installed, whose EM stops after a number of steps, and whose
calibrator is applied first since its own option leaves target probabilities uncalibrated. `gap` is
how far the mean log-likelihood is from its maximum at most, judged with our calibration, or the
peer's, on its own probabilities; `error` is the largest error of a class weight.
"""

from collections.abc import Iterator

import numpy as np
from case import Case
from scipy.special import softmax

from shift import MLLS

N_CLASSES = 10
N_HELD_OUT = 20_000


def draw(n_target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Held-out probabilities and classes, target probabilities, and the true class weights."""
    rng = np.random.default_rng(0)
    prior = np.full(N_CLASSES, 1 / N_CLASSES)
    shifted = np.linspace(1, 3, N_CLASSES)
    shifted = shifted / shifted.sum()

    def rows(n, p):
        y = rng.choice(N_CLASSES, n, p=p)
        logits = rng.normal(size=(n, N_CLASSES))
        logits[np.arange(n), y] += 2.0
        # Bayes rule has 2 logits here; 3 make the probabilities overconfident.
        return softmax(3 * logits, axis=1), y

    P, y = rows(N_HELD_OUT, prior)
    return P, y, rows(n_target, shifted)[0], shifted / prior


def cases(quick: bool) -> Iterator[Case]:
    for n_target in [100_000] if quick else [100_000, 1_000_000]:
        P, y, P_target, truth = draw(n_target)
        size = {"target_rows": n_target, "classes": N_CLASSES, "held_out_rows": len(P)}

        def judge(fitted, truth=truth, y=y):
            weights, target = fitted
            ratios = target / (np.bincount(y) / len(y))
            priors = weights * np.bincount(y) / len(y)
            gradient = (ratios / (ratios @ priors)[:, None]).mean(axis=0)
            return {
                "gap": float(max(gradient.max() / priors.sum() - 1, 0.0)),
                "error": float(np.abs(weights - truth).max()),
            }

        def ours(P=P, y=y, P_target=P_target):
            return MLLS().fit(P, y, X_target=P_target)

        def judge_ours(weighter, P_target=P_target, judge=judge):
            z = np.log(np.maximum(P_target, 1e-12)) * weighter.scale_ + weighter.bias_
            return judge((weighter.class_weights_, softmax(z, axis=1)))

        yield Case("counterpoise", size, ours, judge_ours)
        yield from peers(P, y, P_target, size, judge)


def peers(P: np.ndarray, y: np.ndarray, P_target: np.ndarray, size: dict, judge) -> Iterator[Case]:
    try:
        from abstention.calibration import TempScaling
        from abstention.label_shift import EMImbalanceAdapter
    except ImportError:
        print("abstention is not installed: pip install abstention")
        return
    labels = np.eye(N_CLASSES)[y]

    def run():
        calibrate = TempScaling(verbose=False, bias_positions="all")(
            valid_preacts=np.log(np.maximum(P, 1e-12)), valid_labels=labels
        )
        valid, target = (calibrate(np.log(np.maximum(rows, 1e-12))) for rows in (P, P_target))
        found = EMImbalanceAdapter(verbose=False)(
            valid_labels=labels, tofit_initial_posterior_probs=target, valid_posterior_probs=valid
        )
        return np.ravel(found.multipliers), target

    yield Case("abstention", size, run, judge)
