"""Model Stock of eight models of 25 million parameters, weights and average, beside a loop.

The peer takes offsets, cosines of pairs and the mean as the formula stands, as merging tools do.
`error` is the largest of some entries of each tensor beside the same loop in double precision, in
which its sums over millions of products keep their digits.
"""

from collections.abc import Iterator

import numpy as np
from case import Case
from problems.average_parameters import N_MODELS, draw

from reweight import average_parameters, stock_weights


def pairwise(base, models):
    """The formula as it stands, tensor by tensor."""
    K, merged = len(models), {}
    for name, origin in base.items():
        offsets = [m[name] - origin for m in models]
        cosines = [
            float(np.vdot(offsets[i], offsets[j]))
            / float(np.linalg.norm(offsets[i]) * np.linalg.norm(offsets[j]))
            for i in range(K)
            for j in range(i)
        ]
        c = np.mean(cosines)
        t = origin.dtype.type(K * c / (1 + (K - 1) * c))
        merged[name] = t * (np.stack([m[name] for m in models]).mean(0)) + (1 - t) * origin
    return merged


def ours(base, models):
    return average_parameters([base, *models], stock_weights(base, models))


def cases(quick: bool) -> Iterator[Case]:
    n_parameters = 1_000_000 if quick else 25_200_000
    base, common, *models = draw(n_parameters, N_MODELS + 2)
    for model in models:
        for name in model:
            # Fits share a part of what moved them from the base.
            model[name] += base[name] + common[name]
    del common
    expected = {}
    for name in base:
        exact = [{name: m[name].astype(float)} for m in (base, *models)]
        expected[name] = pairwise(exact[0], exact[1:])[name][:5]
    size = {"models": N_MODELS, "parameters": n_parameters}

    def judge(found):
        return {"error": max(float(np.abs(found[n][:5] - e).max()) for n, e in expected.items())}

    yield Case("counterpoise", size, lambda: ours(base, models), judge)
    yield Case("numpy, pairwise loop", size, lambda: pairwise(base, models), judge)
