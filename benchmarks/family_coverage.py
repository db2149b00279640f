"""How often intervals for shifted data, pooled estimates and uniform-transform effects cover.

    python benchmarks/family_coverage.py [--replications 400] [--jobs 2]

Writes benchmarks/results/family_coverage.csv, a row for each interval: what it is about, its level,
the share of simulated studies in which it covers the truth, and the Monte-Carlo error of that.
The intervals of weighted effects and of double machine learning have scripts of their own.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression
from threadpoolctl import threadpool_limits

from causal import UniformTransformerEffect
from reweight import KalmanLinearRegression, pool_estimates
from shift import BBSE, MLLS, RLLS, ReTaSA, make_target_shift

HERE = Path(__file__).parent
LEVEL = 0.95
Z = stats.norm.ppf(0.5 + LEVEL / 2)
TARGET_PRIOR = np.array([0.15, 0.25, 0.6])
OUTCOMES = np.array([-0.25, 0.5, 1.25])


def label_shift(seed: int) -> dict[str, np.ndarray]:
    """Shares of three classes in the target, from a black box that never saw these rows."""
    train = make_target_shift(1_000, design="classes", random_state=2 * seed)
    data = make_target_shift(1_000, 1_000, design="classes", random_state=2 * seed + 1)
    model = LinearDiscriminantAnalysis().fit(train.X, train.y)
    source, target = model.predict_proba(data.X), model.predict_proba(data.X_target)
    covered = {}
    for weighter in (BBSE(), RLLS(), MLLS()):
        ends = weighter.fit(source, data.y, X_target=target).target_prior_interval(LEVEL)
        covered[f"{type(weighter).__name__}.target_prior_interval"] = inside(ends, TARGET_PRIOR)
    return covered


def target_shift(seed: int) -> dict[str, np.ndarray]:
    """Weights at three outcomes of the target, by the bootstrap."""
    data = make_target_shift(500, design="tanh", random_state=seed)
    fit = ReTaSA(n_resamples=100, random_state=seed).fit(data.X, data.y, X_target=data.X_target)
    truth = stats.norm.pdf(OUTCOMES, 0.5, 0.5) / stats.norm.pdf(OUTCOMES, 0.0, 2.0)
    return {"ReTaSA.weight_interval": inside(fit.weight_interval(OUTCOMES, LEVEL), truth)}


def pooled_sites(seed: int) -> dict[str, np.ndarray]:
    """Coefficients of four sites of different size, pooled by their estimated precisions."""
    rng = np.random.default_rng(seed)
    truth, estimates, precisions = np.array([1.0, -0.5, 0.0]), [], []
    for n in (50, 100, 200, 400):
        X = np.column_stack([np.ones(n), rng.standard_normal((n, 2))])
        y = X @ truth + rng.standard_normal(n)
        fit = LinearRegression(fit_intercept=False).fit(X, y)
        estimates.append(fit.coef_)
        precisions.append(X.T @ X / (((y - fit.predict(X)) ** 2).sum() / (n - 3)))
    pooled = pool_estimates(estimates, precisions)
    ends = pooled.mean[:, None] + Z * pooled.stderr[:, None] * np.array([-1.0, 1.0])
    return {"pool_estimates, mean ± z stderr": inside(ends, truth)}


def stream(seed: int) -> dict[str, np.ndarray]:
    """A new outcome after a hundred rows, noise variance known and estimated."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((101, 3))
    y = X @ [1.0, -1.0, 0.5] + rng.standard_normal(101)
    covered = {}
    for name, variance in (("known noise", 1.0), ("estimated noise", None)):
        model = KalmanLinearRegression(**({} if variance is None else {"noise_variance": variance}))
        ends = model.fit(X[:-1], y[:-1]).predict_interval(X[-1:], LEVEL)
        key = f"KalmanLinearRegression.predict_interval, {name}"
        covered[key] = inside(np.asarray(ends), y[-1:])
    return covered


def uniform_effect(seed: int) -> dict[str, np.ndarray]:
    """An effect that does not vary, of a treatment that depends on one covariate."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(400)
    t = (rng.random(400) < 1 / (1 + np.exp(-0.8 * x))).astype(int)
    y = np.sin(2 * x) + 2.0 * t + 0.5 * rng.standard_normal(400)
    covered = {}
    for estimand in ("ATT", "ATE"):
        effect = UniformTransformerEffect(estimand=estimand, random_state=seed)
        ends = effect.fit(x[:, None], y, treatment=t).confint(LEVEL)
        covered[f"UniformTransformerEffect.confint, {estimand}"] = inside(ends, np.array([2.0]))
    return covered


def inside(ends: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which intervals hold their truth."""
    return (ends[:, 0] <= truth) & (truth <= ends[:, 1])


def replicate(seed: int) -> dict[str, np.ndarray]:
    """All studies with one seed."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        studies = (label_shift, target_shift, pooled_sites, stream, uniform_effect)
        return {key: hit for study in studies for key, hit in study(seed).items()}


def coverage_table(n_replications: int, n_jobs: int | None = None) -> pd.DataFrame:
    """Coverage of every interval, over its components, with the error between studies."""
    runs = Parallel(n_jobs=n_jobs)(delayed(replicate)(seed) for seed in range(n_replications))
    rows = {}
    for name in runs[0]:
        share = np.array([run[name].mean() for run in runs])
        rows[name] = {
            "level": LEVEL,
            "coverage": share.mean(),
            "coverage_error": share.std(ddof=1) / np.sqrt(n_replications),
        }
    return pd.DataFrame(rows).T.rename_axis("interval")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    table = coverage_table(arguments.replications, arguments.jobs).round(4)
    table.to_csv(HERE / "results" / "family_coverage.csv", lineterminator="\n")
    print(table.to_string())
