"""How often the intervals of `PartiallyLinearDML` and `InteractiveDML` cover their effects.

    python benchmarks/double_ml_coverage.py [--replications 1000] [--jobs 2]

Writes benchmarks/double_ml_coverage.csv: one row per effect with the truth, bias, the spread of the
estimates, the mean standard error, and the coverage of 95 % intervals with its own error. Studies
have 500 rows, three normal covariates, a logistic propensity and linear outcomes, fitted with the
default nuisances.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import special
from threadpoolctl import threadpool_limits

from causal import InteractiveDML, PartiallyLinearDML

HERE = Path(__file__).parent
N_SAMPLES = 500
GROUP_SIZE = 5
SLOPES = np.array([0.6, -0.4, 0.3])
INTERCEPT = -0.3
ESTIMANDS = ("ATE", "ATT", "ATC", "ATO")


def true_effect(estimand: str) -> float:
    """1 + E[h x1] / (2 E[h]) with h the density of the target, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = np.sqrt(SLOPES[1] ** 2 + SLOPES[2] ** 2)
    e = special.expit(SLOPES[0] * nodes[:, None] + spread * nodes[None, :] + INTERCEPT)
    h = {"ATE": np.ones_like(e), "ATT": e, "ATC": 1 - e, "ATO": e * (1 - e)}[estimand]
    mass = weights[:, None] * weights[None, :] * h
    return 1 + 0.5 * float((mass * nodes[:, None]).sum() / mass.sum())


def truths() -> dict[str, float]:
    """Effects by name. The mean of a half-normal variable is sqrt(2 / pi)."""
    half = np.sqrt(2 / np.pi)
    return {
        "partially linear": 1.0,
        "partially linear, instrument": 1.0,
        "partially linear, dose": 0.7,
        "partially linear, sampling weights": 1.0,
        "partially linear, groups": 1.0,
        "partially linear, 3 repeats": 1.0,
        **{f"interactive, {name}": true_effect(name) for name in ESTIMANDS},
        "interactive, group x1 < 0": 1 - 0.5 * half,
        "interactive, group x1 > 0": 1 + 0.5 * half,
        "interactive, intercept of linear predictor": 1.0,
        "interactive, slope of linear predictor": 0.5,
    }


def intervals(seed: int) -> np.ndarray:
    """Estimate, standard error and interval of every effect on one study."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N_SAMPLES, 3))
    t = (rng.random(N_SAMPLES) < special.expit(X @ SLOPES + INTERCEPT)).astype(float)
    dose = X @ SLOPES + rng.standard_normal(N_SAMPLES)
    base = X @ [1.0, 2.0, -1.0]
    noise = rng.standard_normal(N_SAMPLES)
    groups = np.arange(N_SAMPLES) // GROUP_SIZE
    # Rows of a group share a part of treatment and noise, which errors without groups miss.
    shared, pushed = rng.standard_normal((2, N_SAMPLES // GROUP_SIZE))[:, groups]
    t_shared = (special.expit(X @ SLOPES + INTERCEPT) > special.ndtr(pushed)).astype(float)
    s = rng.choice([1.0, 3.0], size=N_SAMPLES)

    def plr(y, treatment, *, moment="partialling_out", n_repeats=1, **metadata):
        model = PartiallyLinearDML(moment=moment, n_repeats=n_repeats, random_state=seed)
        return model.fit(X, y, treatment=treatment, **metadata)

    y = base + t + noise
    fits = [
        plr(y, t),
        plr(y, t, moment="iv"),
        plr(base + 0.7 * dose + noise, dose),
        plr(y, t, sample_weight=s),
        plr(base + t_shared + noise + shared, t_shared, groups=groups),
        plr(y, t, n_repeats=3),
    ]
    y = base + (1 + 0.5 * X[:, 0]) * t + noise
    for estimand in ESTIMANDS:
        model = InteractiveDML(estimand=estimand, random_state=seed)
        fits.append(model.fit(X, y, treatment=t))
    rows = [[fit.effect_, fit.stderr_, *fit.confint()[0]] for fit in fits]
    ate = fits[-len(ESTIMANDS)]
    for effects in (ate.group_effects(X[:, 0] > 0), ate.best_linear_predictor(X[:, 0])):
        rows.extend(np.column_stack([effects.coef_, effects.stderr_, effects.confint()]))
    return np.array([np.asarray(row, dtype=float) for row in rows])


def replicate(seed: int) -> np.ndarray:
    """`intervals` on one thread, without warnings."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return intervals(seed)


def coverage_table(n_replications: int, n_jobs: int | None = None) -> pd.DataFrame:
    """Bias, spread and coverage of every effect."""
    runs = Parallel(n_jobs=n_jobs)(delayed(replicate)(seed) for seed in range(n_replications))
    estimate, stderr, lower, upper = np.moveaxis(np.array(runs), -1, 0)
    truth = np.array(list(truths().values()))
    covered = ((lower <= truth) & (truth <= upper)).mean(axis=0)
    return pd.DataFrame(
        {
            "truth": truth,
            "bias": estimate.mean(axis=0) - truth,
            "sd": estimate.std(axis=0, ddof=1),
            "mean_stderr": stderr.mean(axis=0),
            "coverage": covered,
            "coverage_error": np.sqrt(covered * (1 - covered) / n_replications),
        },
        index=pd.Index(truths(), name="effect"),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    table = coverage_table(arguments.replications, arguments.jobs)
    table.round(4).to_csv(HERE / "double_ml_coverage.csv", lineterminator="\n")
    print(table.round(4).to_string())
