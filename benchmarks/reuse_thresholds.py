"""Thresholds recovered with and without labels, and by which base distribution.

    python benchmarks/reuse_thresholds.py [--quick]

Five standard normal features; the gate has logits 0.8 + 1.5 x_0 - 1.0 x_1, 0.3 + 0.3 x_0 and 0;
given its level, a residual is drawn from N(0.84, 0.1) weighted by the soft cuts at 0.90 and 0.75
with softness 0.01. The posterior mode is taken without a prior of the thresholds, with standard
normal coefficients, N(0, 2.5) intercepts and a log-normal softness. Mean and standard deviation
over six seeds. Then the default model's interval of the thresholds, and log losses on real data
beside logistic regression and ordinal probit. Written to benchmarks/results/reuse_thresholds.md.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import ndtr
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight import BayesianReuseClassifier, HorseshoeMultinomialClassifier, make_timber_reuse
from reweight.reuse._log_density import log_density
from reweight.reuse._model import GateData, GateModel, place_residuals

CUTS, SOFTNESS = np.array([0.90, 0.75]), 0.01
BASE = (0.84, 0.1)
SEEDS = 6
MADE_BY = (
    "Made by `python benchmarks/reuse_thresholds.py`. Truth: c = (0.90, 0.75), softness 0.01, "
    "coefficients 1.5 and -1. Posterior modes, mean ± standard deviation over six seeds."
)
LOSSES = (
    "Log loss on held-out rows, real data by five shuffled folds, timber by 3000 new rows for each "
    "of ten draws. Residuals are not used; grades of timber cut them at the true thresholds:"
)
COVERAGE = (
    "Share of 90 % intervals of grade probabilities, thresholds fixed, that hold the truth of "
    "simulated timber, whose truth is no multinomial logit:"
)


def chances(r: np.ndarray) -> np.ndarray:
    below = ndtr((r[:, None] - CUTS) / SOFTNESS)
    return np.c_[below[:, 0], below[:, 1] - below[:, 0], 1 - below[:, 1]]


def draw(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    X = rng.normal(size=(n, 5))
    eta = np.c_[0.8 + 1.5 * X[:, 0] - X[:, 1], 0.3 + 0.3 * X[:, 0], np.zeros(n)]
    level = (eta + rng.gumbel(size=eta.shape)).argmax(axis=1)
    residual = np.full(n, np.nan)
    while np.isnan(residual).any():
        rows = np.flatnonzero(np.isnan(residual))
        r = rng.normal(*BASE, len(rows))
        kept = rng.uniform(size=len(rows)) < chances(r)[np.arange(len(rows)), level[rows]]
        residual[rows[kept]] = r[kept]
    return X, level, residual


def mode(n: int, labelled: float, base_size: int | None, seed: int) -> dict[str, float]:
    """Posterior mode with a prior of the thresholds that is flat for all that matters."""
    rng = np.random.default_rng(seed)
    X, level, residual = draw(n, rng)
    y = np.where(rng.uniform(size=n) < labelled, level, -1)
    base = None if base_size is None else rng.normal(*BASE, base_size)
    model = GateModel(
        n_features=5,
        n_classes=3,
        n_groups=0,
        horseshoe=None,
        tau0=1.0,
        slab_scale=1.0,
        joint=True,
        cut_mean=tuple(CUTS),
        cut_sd=(10.0, 10.0),
    )
    places = place_residuals(residual, base, np.ones(n))
    data = GateData(X, y, np.zeros(n, dtype=np.int64), np.ones(n), *places)
    arguments = (*data.kernel_arguments(), *model.kernel_arguments())
    cuts = model.blocks["cuts"]
    # Units of the thresholds' prior are wide; steps are taken in hundredths instead, and the
    # Jacobian of the log gap, which a mode would feel, is taken out.
    unit = np.ones(model.n_parameters)
    unit[cuts] = [0.01 / 10.0, 0.1 * (CUTS[0] - CUTS[1]) / 10.0]
    rate = 10.0 / (CUTS[0] - CUTS[1])

    def loss(x):
        value, gradient = log_density(x * unit, *arguments)
        value -= rate * x[cuts][1] * unit[cuts][1]
        gradient = gradient.copy()
        gradient[cuts.start + 1] -= rate
        return -value, -gradient * unit

    found = minimize(loss, np.zeros(model.n_parameters), jac=True, method="BFGS")
    named = model.constrain(found.x * unit)
    return {
        "c_0": named["thresholds"][0],
        "c_1": named["thresholds"][1],
        "softness": float(named["softness"]),
        "beta_00": named["beta"][0, 0],
        "beta_10": named["beta"][1, 0],
    }


def recovery(quick: bool) -> pd.DataFrame:
    settings = [(300, 1.0, None), (300, 0.2, None), (300, 0.0, None)]
    if not quick:
        settings += [(2000, 1.0, None), (2000, 0.0, None), (2000, 0.0, 4000), (2000, 1.0, 4000)]
    rows = []
    for n, labelled, base in settings:
        found = pd.DataFrame([mode(n, labelled, base, seed) for seed in range(SEEDS)])
        cells = {key: f"{v.mean():.3f} ± {v.std(ddof=0):.3f}" for key, v in found.items()}
        name = "residuals" if base is None else f"{base} draws of the truth"
        rows.append({"n": n, "labelled": labelled, "base": name, **cells})
    return pd.DataFrame(rows)


def sampled(quick: bool) -> pd.DataFrame:
    """The default model on the same design and on simulated timber, without a label."""
    rows = []
    length = {"draws": 250, "tune": 250, "chains": 2} if quick else {"draws": 500, "tune": 500}
    X, _, residual = draw(300, np.random.default_rng(0))
    timber = make_timber_reuse(random_state=0)
    kept = ~timber.is_control
    designs = {
        "gate": (X, residual, None),
        "timber": (timber.X[kept], timber.residual[kept], timber.cycles[kept]),
    }
    for name, (X, residual, groups) in designs.items():
        model = BayesianReuseClassifier(random_state=0, on_nonconvergence="ignore", **length)
        start = time.perf_counter()
        model.fit(X, residual=residual, groups=groups)
        rows.append(
            {
                "design": name,
                "c_0": "{:.3f} [{:.3f}, {:.3f}]".format(
                    model.thresholds_[0], *model.thresholds_interval_[0]
                ),
                "c_1": "{:.3f} [{:.3f}, {:.3f}]".format(
                    model.thresholds_[1], *model.thresholds_interval_[1]
                ),
                "softness": round(model.softness_, 3),
                "coherence": round(model.coherence_, 3),
                "R-hat": round(model.diagnostics_["max_rhat"], 3),
                "divergent": model.diagnostics_["n_divergent"],
                "seconds": round(time.perf_counter() - start, 1),
            }
        )
    return pd.DataFrame(rows)


def coverage(quick: bool) -> pd.DataFrame:
    """How often 90 % intervals of the gate hold the true probability of a grade."""
    hits = []
    for seed in range(3 if quick else 20):
        data = make_timber_reuse(random_state=seed)
        kept = ~data.is_control
        X, cycles, truth = data.X[kept], data.cycles[kept], data.level_probability[kept]
        model = BayesianReuseClassifier(
            thresholds="fixed",
            draws=250,
            tune=250,
            chains=2,
            random_state=seed,
            on_nonconvergence="ignore",
        ).fit(X, residual=data.residual[kept], groups=cycles)
        ends = model.predict_proba_interval(X, groups=cycles, confidence_level=0.9)
        inside = (ends[..., 0] <= truth) & (truth <= ends[..., 1])
        middle = (truth > 0.1) & (truth < 0.9)
        hits.append({"all": inside.mean(), "truth between 0.1 and 0.9": inside[middle].mean()})
    return pd.DataFrame(hits).mean().round(3).rename("coverage").to_frame()


def real_data() -> dict[str, tuple[np.ndarray, np.ndarray, bool]]:
    """Features, codes of classes, and whether these are ordered; what scipy's stack ships."""
    from statsmodels.datasets import anes96, fair

    party = anes96.load_pandas()
    marriage = fair.load_pandas().data.sample(1500, random_state=0)
    columns = ["logpopul", "selfLR", "age", "educ", "income"]
    found = {
        name: (*load(return_X_y=True), False)
        for name, load in {"wine": load_wine, "iris": load_iris}.items()
    }
    found["anes96, party"] = (party.data[columns].to_numpy(), party.endog.to_numpy(int), True)
    rating = marriage.pop("rate_marriage").to_numpy(int)
    found["fair, rating of marriage, 1500 rows"] = (marriage.to_numpy(), rating - 1, True)
    return found


def probit(X: np.ndarray, y: np.ndarray, X_new: np.ndarray) -> np.ndarray:
    """Class probabilities of new rows by an ordinal probit model."""
    from statsmodels.miscmodels.ordinal_model import OrderedModel

    scaler = StandardScaler().fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = OrderedModel(y, scaler.transform(X), distr="probit")
        found = model.fit(method="bfgs", maxiter=500, disp=0)
    return found.model.predict(found.params, exog=scaler.transform(X_new))


def losses(quick: bool) -> pd.DataFrame:
    """Held-out log loss beside peers, of which the ordinal one needs an order."""
    rows = []
    ours = HorseshoeMultinomialClassifier(
        draws=250, tune=250, chains=2, random_state=0, on_nonconvergence="ignore"
    )
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))
    for name, (X, y, ordered) in real_data().items():
        if quick and len(y) > 200:
            continue
        found = {"horseshoe": [], "logistic regression": [], "ordinal probit": []}
        # Rows of the survey stand in an order, which would make of folds other populations.
        folds = StratifiedKFold(2 if quick else 5, shuffle=True, random_state=0)
        for train, test in folds.split(X, y):
            P = {
                "horseshoe": clone(ours).fit(X[train], y[train]).predict_proba(X[test]),
                "logistic regression": peer.fit(X[train], y[train]).predict_proba(X[test]),
            }
            if ordered:
                P["ordinal probit"] = probit(X[train], y[train], X[test])
            for model, proba in P.items():
                found[model].append(log_loss(y[test], proba))
        rows.append({"data": name, **{key: mean_or_blank(v) for key, v in found.items()}})
    rows.append({"data": "timber, 300 rows", **timber_losses(ours, peer, 3 if quick else 10)})
    return pd.DataFrame(rows)


def timber_losses(ours, peer, n_draws: int) -> dict[str, object]:
    """The same on new rows of simulated timber; groups are dummies for the peers."""
    found = {"horseshoe": [], "logistic regression": [], "ordinal probit": []}
    for seed in range(n_draws):
        parts = []
        for counts, state in ((100, seed), (1000, 1000 + seed)):
            data = make_timber_reuse(counts, random_state=state)
            rows = ~data.is_control
            X, cycles, level = data.X[rows], data.cycles[rows], data.level[rows]
            parts += [X, cycles, level, np.c_[X, cycles == 2, cycles == 3]]
        X, cycles, level, wide, X_new, cycles_new, level_new, wide_new = parts
        model = clone(ours).fit(X, level, groups=cycles)
        P = {
            "horseshoe": model.predict_proba(X_new, groups=cycles_new),
            "logistic regression": peer.fit(wide, level).predict_proba(wide_new),
            "ordinal probit": probit(wide, level, wide_new),
        }
        for name, proba in P.items():
            found[name].append(log_loss(level_new, proba))
    return {key: mean_or_blank(v) for key, v in found.items()}


def mean_or_blank(values: list[float]) -> object:
    return f"{np.mean(values):.4f}" if values else ""


def as_markdown(table: pd.DataFrame, index: bool = False) -> str:
    if index:
        table = table.rename_axis("rows").reset_index()
    lines = ["| " + " | ".join(map(str, table)) + " |", "|" + "---|" * table.shape[1]]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes; nothing is written")
    quick = parser.parse_args().quick
    parts = [
        "# Thresholds with and without labels",
        MADE_BY,
        as_markdown(recovery(quick)),
        "The default model without a label, means and 95 % intervals:",
        as_markdown(sampled(quick)),
        COVERAGE,
        as_markdown(coverage(quick), index=True),
        LOSSES,
        as_markdown(losses(quick)),
    ]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if not quick:
        (Path(__file__).parent / "results" / "reuse_thresholds.md").write_text(text)


if __name__ == "__main__":
    main()
