"""Weights over six quantile models at 99 levels, exactly, beside the linear program of HiGHS.

Both solve the same problem in the form that suits them: HiGHS the dual, which has one row per
weight and is ten times faster than the primal. `loss` is the mean pinball loss on the training
rows, `gap` its certified relative distance from the optimum. Coarse weights stack all levels into
one program of 495 000 rows. R's quantreg takes one level per call, quantgen needs minutes at a
tenth of these rows, and neither is a Python package.
"""

from collections.abc import Iterator

import numpy as np
from case import Case

from reweight import QuantileAggregator, make_quantile_models

N_ROWS = 5000


def judge(aggregator: QuantileAggregator) -> dict[str, float]:
    return {
        "loss": aggregator.objective_,
        "gap": float(np.max(aggregator.optimality_gap_)),
    }


def cases(quick: bool) -> Iterator[Case]:
    data = make_quantile_models(N_ROWS, n_quantiles=9 if quick else 99, random_state=0)
    n, models, levels = data.Q.shape
    for granularity in ("coarse", "medium", "fine"):
        rows = n * levels if granularity == "coarse" else n
        columns = models * levels if granularity == "fine" else models
        programs = 1 if granularity == "coarse" else levels
        size = {"programs": programs, "rows": rows, "columns": columns}
        for library, solver in (("counterpoise", "ipm"), ("HiGHS (scipy)", "highs")):
            if granularity == "fine" and solver == "highs":
                continue

            def run(granularity=granularity, solver=solver):
                aggregator = QuantileAggregator(
                    data.quantiles, granularity=granularity, solver=solver
                )
                return aggregator.fit(data.Q, data.y)

            yield Case(library, size, run, judge)
