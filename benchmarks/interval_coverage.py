"""How often the intervals of `WeightedEffect` cover the effect that they are about.

    python benchmarks/interval_coverage.py [--replications 1000] [--jobs 2]

Writes benchmarks/interval_coverage.csv: one row per method and estimand with the truth, bias, the
spread of the estimates, the mean standard error, and the coverage of 95 % intervals with its own
error.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import special
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from threadpoolctl import threadpool_limits

from causal import (
    CBPS,
    EntropyBalancing,
    InverseProbabilityTilting,
    PropensityWeighting,
    WeightedEffect,
)

HERE = Path(__file__).parent
N_SAMPLES = 500
SLOPES = np.array([0.6, -0.4, 0.3])
INTERCEPT = -0.3


def methods() -> dict:
    """Effects by name and estimand, not fitted."""
    ols = LinearRegression()
    quadratic = make_pipeline(PolynomialFeatures(2), LinearRegression())
    found = {}
    for estimand in ("ATE", "ATT"):
        found["entropy balancing", estimand] = WeightedEffect(EntropyBalancing(estimand))
        found["propensity", estimand] = WeightedEffect(PropensityWeighting(estimand=estimand))
        found["CBPS", estimand] = WeightedEffect(CBPS(estimand))
        found["CBPS, just identified", estimand] = WeightedEffect(
            CBPS(estimand, over_identified=False)
        )
        found["tilting", estimand] = WeightedEffect(InverseProbabilityTilting(estimand))
        found["propensity + linear model", estimand] = WeightedEffect(
            PropensityWeighting(estimand=estimand), outcome_estimator=ols
        )
        found["propensity + quadratic model, cross-fitted", estimand] = WeightedEffect(
            PropensityWeighting(estimand=estimand),
            outcome_estimator=quadratic,
            cv=5,
            random_state=0,
        )
        found["entropy balancing + quadratic model", estimand] = WeightedEffect(
            EntropyBalancing(estimand), outcome_estimator=quadratic
        )
    found["propensity", "ATO"] = WeightedEffect(PropensityWeighting(estimand="ATO"))
    found["propensity + linear model", "ATO"] = WeightedEffect(
        PropensityWeighting(estimand="ATO"), outcome_estimator=ols
    )
    return found


def draw(seed: int) -> tuple:
    """Covariates, outcome and treatment of one study."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N_SAMPLES, 3))
    t = (rng.random(N_SAMPLES) < special.expit(X @ SLOPES + INTERCEPT)).astype(int)
    y = X @ [1.0, 2.0, -1.0] + 0.5 * X[:, 0] ** 2 + t * (1 + 0.5 * X[:, 0])
    return X, y + rng.standard_normal(N_SAMPLES), t


def true_effect(estimand: str) -> float:
    """1 + E[h x1] / (2 E[h]) with h the density of the target, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = np.sqrt(SLOPES[1] ** 2 + SLOPES[2] ** 2)
    e = special.expit(SLOPES[0] * nodes[:, None] + spread * nodes[None, :] + INTERCEPT)
    h = {"ATE": np.ones_like(e), "ATT": e, "ATO": e * (1 - e)}[estimand]
    mass = weights[:, None] * weights[None, :] * h
    return 1 + 0.5 * float((mass * nodes[:, None]).sum() / mass.sum())


def replicate(seed: int) -> list:
    """Estimate, standard error and interval of every method on one study."""
    X, y, t = draw(seed)
    rows = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for effect in methods().values():
            effect.fit(X, y, treatment=t)
            rows.append([effect.effect_, effect.stderr_, *effect.confint()[0]])
    return rows


def coverage_table(n_replications: int, n_jobs: int | None = None) -> pd.DataFrame:
    """Bias, spread and coverage of every method."""
    runs = Parallel(n_jobs=n_jobs)(delayed(replicate)(seed) for seed in range(n_replications))
    estimate, stderr, lower, upper = np.moveaxis(np.array(runs), -1, 0)
    names = list(methods())
    truth = np.array([true_effect(estimand) for _, estimand in names])
    covered = ((lower <= truth) & (truth <= upper)).mean(axis=0)
    table = pd.DataFrame(
        {
            "truth": truth,
            "bias": estimate.mean(axis=0) - truth,
            "sd": estimate.std(axis=0, ddof=1),
            "mean_stderr": stderr.mean(axis=0),
            "coverage": covered,
            "coverage_error": np.sqrt(covered * (1 - covered) / n_replications),
        },
        index=pd.MultiIndex.from_tuples(names, names=["method", "estimand"]),
    )
    return table.sort_index()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    table = coverage_table(arguments.replications, arguments.jobs)
    table.round(4).to_csv(HERE / "interval_coverage.csv", lineterminator="\n")
    print(table.round(4).to_string())
