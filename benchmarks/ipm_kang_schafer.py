"""Bias and error of integral probability metric weights in the simulation of Kang and Schafer.

    python -P benchmarks/ipm_kang_schafer.py [--scale 1.0] [--jobs 2]

`--scale 0.1` runs a tenth of the replications. Printed beside each figure is the one that it is to
reproduce, from an independent prototype with the same random numbers and the replications of the
table, and the Monte-Carlo error of ours. "QP" is the unregularised quadratic program, "Adam" the
early-stopped weights of `ipm_adversarial.py`; the rest are defaults of `IPMBalancing`.
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.linear_model import LinearRegression

from causal import IPMBalancing, make_kang_schafer

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from ipm_adversarial import arm_of, softmax_mmd  # noqa: E402


def minimiser(**parameters):
    """Weights of the controls by `IPMBalancing`, with sum one."""

    def weigh(study):
        balancer = IPMBalancing("ATT", random_state=0, **parameters)
        w = balancer.fit_weights(study.X, study.treatment)[study.treatment == 0]
        return w / w.sum()

    return weigh


def early_stopped(bandwidth):
    """Weights of the controls by the authors' optimiser."""
    return lambda study: softmax_mmd(arm_of(study), [bandwidth])


METHODS = {
    "unweighted": lambda study: arm_of(study).base,
    **{f"QP h={h:g}": minimiser(alpha=0, divergence="chi2", bandwidth=h) for h in (1.0, 3.0, 10.0)},
    **{f"Adam h={h:g}": early_stopped(h) for h in (1.0, 3.0, 10.0)},
    "mmd": minimiser(),
    "mmd, auto": minimiser(alpha="auto"),
    "sobolev": minimiser(ipm="sobolev"),
    "wasserstein": minimiser(ipm="wasserstein"),
    "sipm": minimiser(ipm="sipm"),
    "mmd, linear model": minimiser(weight_model="linear"),
}
NONE = (np.nan,) * 4
# Design -> rows, arguments, replications, method -> (bias, RMSE, RMSE augmented, ESS share).
DESIGNS = {
    "nonlinear, overlap 1": (
        200,
        {"design": "nonlinear"},
        300,
        {
            "unweighted": (-19.7, 20.4, 10.2, 1.0),
            "QP h=1": (-8.85, 9.47, 6.06, 0.26),
            "QP h=3": (-3.18, 4.70, 4.37, 0.12),
            "QP h=10": (-1.59, 4.31, 4.30, 0.095),
            "Adam h=1": (-8.85, 9.47, 6.04, np.nan),
            "Adam h=3": (-3.73, 4.81, 4.38, 0.18),
            "Adam h=10": (-3.06, 4.22, 4.18, 0.25),
            "mmd": NONE,
            "mmd, auto": NONE,
            "sobolev": NONE,
            "wasserstein": NONE,
            "mmd, linear model": NONE,
        },
    ),
    # The search over half-spaces takes seconds a draw.
    "nonlinear, half-spaces": (200, {"design": "nonlinear"}, 40, {"sipm": NONE}),
    "nonlinear, overlap 2": (
        200,
        {"design": "nonlinear", "propensity_scale": 2.0},
        200,
        {
            "QP h=10": (-5.74, 7.58, np.nan, np.nan),
            "Adam h=10": (-6.80, 8.04, np.nan, np.nan),
            "mmd": NONE,
        },
    ),
    "linear": (
        200,
        {"design": "linear"},
        200,
        {
            "QP h=10": (np.nan, 4.17, np.nan, np.nan),
            "Adam h=10": (np.nan, 2.77, np.nan, np.nan),
            "mmd": NONE,
        },
    ),
    "nonlinear, 1000 rows": (
        1000,
        {"design": "nonlinear"},
        20,
        {
            "QP h=3": (-1.50, 2.13, np.nan, np.nan),
            "QP h=10": (-0.55, 2.53, np.nan, np.nan),
            "Adam h=10": (-2.74, 2.86, np.nan, 0.30),
            "mmd": NONE,
        },
    ),
}


def replicate(design: str, seed: int) -> list[dict]:
    """All methods on one draw."""
    n_rows, arguments, _, methods = DESIGNS[design]
    study = make_kang_schafer(n_rows, random_state=seed, **arguments)
    treated = study.treatment == 1
    model = LinearRegression().fit(study.X[~treated], study.y[~treated])
    residual = study.y - model.predict(study.X)
    rows = []
    for method in methods:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            w = METHODS[method](study)
        rows.append(
            {
                "design": design,
                "method": method,
                "plain": study.y[treated].mean() - w @ study.y[~treated],
                "augmented": residual[treated].mean() - w @ residual[~treated],
                "ess": 1 / (w @ w) / len(w),
            }
        )
    return rows


def summarize(frame: pd.DataFrame) -> pd.DataFrame:
    """Bias, RMSE and effective share per design and method, beside the published ones."""
    rows = []
    for (design, method), part in frame.groupby(["design", "method"], sort=False):
        plain, augmented = part["plain"], part["augmented"]
        published = DESIGNS[design][3][method]
        square = plain**2
        rmse = square.mean() ** 0.5
        rows.append(
            {
                "design": design,
                "method": method,
                "runs": len(part),
                "bias": plain.mean(),
                "mc error": plain.std() / len(part) ** 0.5,
                "published bias": published[0],
                "rmse": rmse,
                "rmse mc error": square.std() / len(part) ** 0.5 / (2 * rmse),
                "published rmse": published[1],
                "rmse aug.": (augmented**2).mean() ** 0.5,
                "published aug.": published[2],
                "ess/n0": part["ess"].mean(),
                "published ess": published[3],
            }
        )
    return pd.DataFrame(rows).set_index(["design", "method"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the replications")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    parts = Parallel(n_jobs=options.jobs)(
        delayed(replicate)(design, seed)
        for design, (_, _, replications, _) in DESIGNS.items()
        for seed in range(max(2, round(options.scale * replications)))
    )
    table = summarize(pd.DataFrame([row for part in parts for row in part]))
    text = table.to_string(float_format=lambda value: f"{value:.3g}", na_rep="")
    print(text)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "ipm_kang_schafer.txt").write_text(f"{text}\n")


if __name__ == "__main__":
    main()
