"""The average of eight models of 25 million parameters, beside the mean of their stack.

`peak_mb` is what each needs beyond the models; a model has 101 MB.
"""

from collections.abc import Iterator

import numpy as np
from case import Case

from reweight import average_parameters

N_MODELS = 8


def draw(n_parameters: int, n_models: int) -> list[dict[str, np.ndarray]]:
    """Models of a few large and small tensors, in single precision."""
    rng = np.random.default_rng(0)
    rows = n_parameters // 5000
    shapes = {"large": (rows // 2, 5000), "wide": (rows // 5, 4, 2500), "bias": (5000,)}
    shapes["rest"] = ((n_parameters - sum(map(np.prod, shapes.values()))) // 7, 7)
    return [
        {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
        for _ in range(n_models)
    ]


def stacked_mean(models):
    return {name: np.mean(np.stack([m[name] for m in models]), axis=0) for name in models[0]}


def cases(quick: bool) -> Iterator[Case]:
    n_parameters = 1_000_000 if quick else 25_200_000
    models = draw(n_parameters, N_MODELS)
    size = {"models": N_MODELS, "parameters": n_parameters}
    exact = {
        name: np.mean([m[name][:5] for m in models], axis=0, dtype=float) for name in models[0]
    }

    def judge(found):
        return {"error": max(float(np.abs(found[n][:5] - exact[n]).max()) for n in exact)}

    yield Case("counterpoise", size, lambda: average_parameters(models), judge)
    yield Case("numpy, mean of the stack", size, lambda: stacked_mean(models), judge)
