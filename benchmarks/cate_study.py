"""Which learner, which weights: errors of estimated effects in six simulated designs.

    python benchmarks/cate_study.py [--replications 50] [--rows 1000] [--jobs 2] [--setups ABCDEF]

Boosted trees everywhere. In each draw every nuisance is fitted once, by `CrossFitter`, and shared
by all pairs of pseudo-outcome and weights, which then differ in nothing else. Printed beside each
mean squared error is its Monte-Carlo error and the published one: of Fisher (2024; 10 columns, 600
seeds, tuned LightGBM) and of Nie and Wager (2021; 6 columns, 200 seeds, tuned XGBoost). Our trees
are others, with early stopping for all tuning, so that directions are to agree and digits nearly:
the claims at the end are tested on paired differences.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.preprocessing import SplineTransformer

from causal import (
    CrossFitter,
    PseudoOutcomeRegressor,
    RSLearner,
    SLearner,
    TLearner,
    XLearner,
    make_cate,
)

# Small trees whose number a fifth of the rows decides: the only tuning.
BOOSTING = {
    "max_iter": 300,
    "learning_rate": 0.05,
    "max_leaf_nodes": 6,
    "min_samples_leaf": 30,
    "early_stopping": True,
    "validation_fraction": 0.2,
    "random_state": 0,
}
N_TEST = 10_000
PAIRS = {
    "U / none": ("u", "none"),
    "U / residual (R)": ("u", "residual"),
    "U / u_marginal": ("u", "u_marginal"),
    "Cov / none": ("cov", "none"),
    "Cov / overlap": ("cov", "overlap"),
    "DR separate / none": ("dr", "none"),
    "DR separate / overlap": ("dr", "overlap"),
    "DR single / none": ("dr", "none"),
    "DR single / overlap": ("dr", "overlap"),
    "DR single / dr_conditional": ("dr", "dr_conditional"),
}
# Mean squared errors of Fisher at n = 1000, p = 10, in the order of the setups A to F.
FISHER = {
    "U / none": (0.519, 0.229, 4.16, 0.975, 0.341, 0.335),
    "U / residual (R)": (0.060, 0.228, 0.033, 0.548, 0.036, 0.015),
    "U / u_marginal": (0.107, 0.229, 0.114, 0.683, 0.099, 0.020),
    "Cov / none": (0.074, 0.226, 0.050, 0.598, 0.034, 0.022),
    "Cov / overlap": (0.065, 0.226, 0.035, 0.564, 0.021, 0.013),
    "DR separate / none": (0.070, 0.225, 0.096, 0.572, 0.035, 0.022),
    "DR separate / overlap": (0.063, 0.225, 0.063, 0.537, 0.023, 0.014),
    "DR single / none": (0.070, 0.222, 0.038, 0.590, 0.034, 0.022),
    "DR single / overlap": (0.064, 0.222, 0.028, 0.554, 0.022, 0.013),
    "DR single / dr_conditional": (0.069, 0.222, 0.185, 0.577, 0.004, 0.004),
    "T": (0.160, 0.415, 0.770, 0.407, 0.031, 0.010),
}
# Of Nie and Wager with boosting at n = 1000, p = 6; RS is their lasso.
NIE_WAGER = {
    "S": (0.09, 0.21, 0.31, 0.39),
    "T": (0.15, 0.33, 0.67, 0.36),
    "X": (0.05, 0.17, 0.14, 0.40),
    "U / none": (0.07, 0.25, 0.82, 0.73),
    "U / residual (R)": (0.05, 0.22, 0.11, 0.46),
    "RS (splines)": (0.06, 0.36, 0.01, 0.87),
    "R, true nuisances": (0.04, 0.19, 0.07, 0.45),
}


def regressor() -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(**BOOSTING)


def targets(study, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two target arrays that share m and e: outcomes by arm, and from one model."""
    fitter = CrossFitter(regressor(), HistGradientBoostingClassifier(**BOOSTING), random_state=seed)
    separate = fitter.fit_transform(study.X, study.y, treatment=study.treatment)
    codes = fitter.folds_
    cv = [(np.flatnonzero(codes != k), np.flatnonzero(codes == k)) for k in np.unique(codes)]
    known = CrossFitter(regressor(), 0.5, outcome_model="single", cv=cv)
    known._fit_nuisances(study.X, study.y, study.treatment, names=("mu0", "mu1"))
    single = separate.copy()
    single[:, 4], single[:, 5] = known.nuisances_["mu0"], known.nuisances_["mu1"]
    return separate, single


def replicate(setup: str, n_rows: int, n_features: int, seed: int) -> list[dict]:
    """Squared errors of all methods on one draw."""
    features = None if setup in "EF" else n_features
    study = make_cate(n_rows, setup=setup, n_features=features, random_state=seed)
    test = make_cate(N_TEST, setup=setup, n_features=features, random_state=1_000_000 + seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        separate, single = targets(study, seed)
        effects = {}
        for name, (kind, weighting) in PAIRS.items():
            model = PseudoOutcomeRegressor(kind, weighting, final_estimator=regressor())
            target = single if "single" in name else separate
            effects[name] = model.fit(study.X, target).predict(test.X)
        truth = np.column_stack([study.y, study.treatment, study.m, study.propensity])
        oracle = PseudoOutcomeRegressor("u", "residual", final_estimator=regressor())
        effects["R, true nuisances"] = oracle.fit(study.X, truth).predict(test.X)
        splines = SplineTransformer(n_knots=5, extrapolation="linear")
        lasso = RSLearner(featurizer=splines, random_state=0)
        effects["RS (splines)"] = lasso.fit(study.X, separate).predict(test.X)
        classifier = HistGradientBoostingClassifier(**BOOSTING)
        for name, learner in {
            "S": SLearner(regressor()),
            "T": TLearner(regressor()),
            "X": XLearner(regressor(), treatment_estimator=classifier),
        }.items():
            effects[name] = learner.fit(study.X, separate).predict(test.X)
    return [
        {"setup": setup, "seed": seed, "method": name, "mse": np.mean((tau - test.effect) ** 2)}
        for name, tau in effects.items()
    ]


def run(
    setups: str, replications: int, n_rows: int = 1000, n_features: int = 10, jobs: int = 1
) -> pd.DataFrame:
    """Squared errors by setup, seed (rows) and method (columns)."""
    parts = Parallel(n_jobs=jobs)(
        delayed(replicate)(setup, n_rows, n_features, seed)
        for setup in setups
        for seed in range(replications)
    )
    frame = pd.DataFrame([row for part in parts for row in part])
    return frame.pivot_table(index=["setup", "seed"], columns="method", values="mse", sort=False)


def summarize(errors: pd.DataFrame, published: dict[str, tuple]) -> pd.DataFrame:
    """Mean squared errors, their Monte-Carlo errors, and the published ones."""
    mean = errors.groupby("setup").mean()
    error = errors.groupby("setup").std() / np.sqrt(errors.groupby("setup").count())
    rows = {}
    for method in [*PAIRS, "S", "T", "X", "RS (splines)", "R, true nuisances"]:
        rows[method] = {
            f"{setup}{kind}": value
            for setup in mean.index
            for kind, value in (
                ("", mean.loc[setup, method]),
                (" ±", error.loc[setup, method]),
                (" publ.", dict(zip("ABCDEF", published.get(method, ()), strict=False)).get(setup)),
            )
        }
    return pd.DataFrame(rows).T


def claims(errors: pd.DataFrame) -> pd.DataFrame:
    """Ratios of mean errors that the theory orders, with Monte-Carlo errors of paired draws."""
    ordered = [
        ("U / residual (R)", "U / none", 1.05, "ACDEF"),
        ("DR separate / overlap", "DR separate / none", 1.05, "ACDEF"),
        ("DR single / overlap", "DR single / none", 1.05, "ACDEF"),
        ("U / residual (R)", "U / none", 1 / 3, "ACE"),
    ]
    rows = []
    for better, worse, bound, setups in ordered:
        for setup in [s for s in setups if s in errors.index.get_level_values("setup")]:
            part = errors.loc[setup]
            ratio = part[better].mean() / part[worse].mean()
            spread = (part[better] - ratio * part[worse]).std() / part[worse].mean()
            mc = spread / np.sqrt(len(part))
            rows.append((better, worse, setup, ratio, mc, bound, ratio <= bound + 2 * mc))
    columns = ["better", "worse", "setup", "ratio", "mc error", "at most", "holds"]
    return pd.DataFrame(rows, columns=columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=50)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--setups", default="ABCDEF")
    options = parser.parse_args()

    def show(table: pd.DataFrame) -> str:
        return table.to_string(float_format=lambda value: f"{value:.3f}", na_rep="", index=True)

    ten = run(options.setups, options.replications, options.rows, 10, options.jobs)
    texts = ["Ten columns; published: Fisher", show(summarize(ten, FISHER)), show(claims(ten))]
    four = [setup for setup in options.setups if setup in "ABCD"]
    if four:
        six = run("".join(four), options.replications, options.rows, 6, options.jobs)
        texts += ["Six columns; published: Nie and Wager", show(summarize(six, NIE_WAGER))]
    text = "\n\n".join(texts)
    print(text)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "cate_study.txt").write_text(
        f"{options.replications} replications, n = {options.rows}\n\n{text}\n"
    )


if __name__ == "__main__":
    main()
