"""A small problem that suits each public estimator, for tests that run over all of them.

A new estimator is picked up from its package's `_PUBLIC`; its arguments are made from their names
and from the estimator's tags. What that does not serve is one line in a table here, or in those of
the contract tests.
"""

import inspect
import warnings
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import get_tags

import causal
import reweight
import shift

N_ROWS = 40
FEATURES = frozenset({"X", "Q"})
OTHER_FEATURES = frozenset({"X_target", "X_val", "X_reference", "residual"})


def load_module(path):
    """A test module from its file, as test folders are no packages."""
    spec = spec_from_file_location(f"{path.stem}_of_{path.parent.name}", path)
    module = module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


CONTRACT = load_module(Path(__file__).parents[1] / "contract" / "test_estimators.py")


def labels_of(X, n_labels=2):
    """Labels that loosely follow the first column, each of them in many rows."""
    X = np.asarray(X, dtype=float).reshape(len(X), -1)
    score = X[:, 0] + 2 * np.sin(37.0 * np.arange(len(X)))
    edges = np.quantile(score, np.linspace(0, 1, n_labels + 1)[1:-1])
    return np.searchsorted(edges, score)


def fitted_classifier(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(80, 3))
    return FrozenEstimator(LogisticRegression().fit(X, labels_of(X)))


# Constructor arguments where those of scikit-learn's checks are stand-ins.
CONSTRUCTOR_ARGUMENTS = {
    "BackwardCompatibleClassifier": lambda: {
        "old_estimator": fitted_classifier(1),
        "old_weight": 0.5,
    },
    "CalibratedEnsembleRegressor": lambda: {
        "estimator": DecisionTreeRegressor(max_depth=3, random_state=0),
        "resample": "bootstrap",
    },
    "ConformalQuantileCalibrator": lambda: {"quantiles": [0.05, 0.5, 0.95]},
    "DynamicInterpolationClassifier": lambda: {
        "estimators": [fitted_classifier(1), fitted_classifier(2)]
    },
    "DoubleWeightingClassifier": lambda: {"D": 4.0},
    "KLIEP": lambda: {"n_folds": 2, "n_components": 15},
    "L2IWE": lambda: {"n_folds": 2, "n_components": 15},
    "QuantileStackingRegressor": lambda: {
        **CONTRACT.CONSTRUCTOR_ARGUMENTS["QuantileStackingRegressor"](),
        "quantiles": [0.05, 0.5, 0.95],
    },
    "Reweighted": lambda: {
        "estimator": LinearRegression(),
        "weighter": shift.KernelMeanMatching(),
    },
}


def quantile_rows(rng, n):
    centre = rng.normal(size=n)
    Q = centre[:, None] + [-1.3, 0.0, 1.3]
    return {"Q": Q, "y": centre + rng.normal(size=n)}


def label_shift_rows(rng, n):
    return CONTRACT.make_label_shift(rng, n)


def class_rows(rng, n):
    X = rng.normal(size=(n, 3))
    return {"X": X, "y": labels_of(X)}


def ordinal_rows(rng, n):
    X = rng.normal(size=(n, 3))
    return {"X": X, "y": labels_of(X, 3)}


def reuse_rows(rng, n):
    X = rng.normal(size=(n, 3))
    y = labels_of(X)
    return {"X": X, "y": y, "residual": -0.5 - 0.4 * (2 * y - 1) * rng.uniform(0.3, 1, size=n)}


def positive_rows(rng, n):
    return {"X": rng.gamma(3.0, size=(n, 3))}


def settings_rows(rng, n):
    X = rng.normal(size=(n, 3))
    return {"X": X, "y": X @ [1.0, 0.0, -0.5] + rng.normal(size=n), "groups": np.arange(n) % 2}


def spread_rows(rng, n):
    std = rng.uniform(1, 2, size=n)
    return {"X": std, "y": std * rng.normal(size=n)}


def shifted_rows(rng, n):
    X = rng.normal(size=(n, 3))
    y = X @ [1.0, -1.0, 0.5] + rng.normal(size=n)
    return {"X": X, "y": y, "X_target": rng.normal(0.3, 1, size=(n - 10, 3))}


def graph(rng, n):
    source = shift.make_block_model(n // 3, (0.3, 0.1), (0.2, 0.2), random_state=0)
    return {name: source[name] for name in ("edge_index", "y", "edge_index_target", "y_target")}


# Functions of a random generator and the number of rows to the arguments of fit.
ARGUMENTS = {
    "BBSE": label_shift_rows,
    "BayesianReuseClassifier": reuse_rows,
    "ConformalQuantileCalibrator": quantile_rows,
    "CoresetWeighter": class_rows,
    "LocalSurrogateSensitivity": settings_rows,
    "MLLS": label_shift_rows,
    "RLLS": label_shift_rows,
    "RelaxedProportionalOdds": ordinal_rows,
    "RelaxedProportionalOddsCV": ordinal_rows,
    "ResidualPerformance": positive_rows,
    "Reweighted": shifted_rows,
    "StdCalibrator": spread_rows,
    "StructuralReweighter": graph,
}


def guessed_rows(estimator, rng, n):
    """Arguments of fit made from their names and the estimator's tags."""
    taken = inspect.signature(estimator.fit).parameters
    tags = get_tags(estimator)
    X = rng.normal(size=(n, 3))
    labels = labels_of(X)
    arguments = {"Q" if "Q" in taken else "X": X}
    if "y" in taken:
        arguments["y"] = X @ [1.0, -1.0, 0.5] + 0.3 * rng.normal(size=n)
        if tags.estimator_type == "classifier" or getattr(estimator, "_needs_treatment", False):
            arguments["y"] = labels
    if "treatment" in taken and not getattr(estimator, "_needs_treatment", False):
        arguments["treatment"] = labels_of(X[:, ::-1])
    if "X_target" in taken:
        arguments["X_target"] = rng.normal(0.3, 1.0, size=(n - 10, 3))
    if "residual" in taken:
        arguments["residual"] = rng.normal(size=n)
    return arguments


@dataclass(frozen=True)
class Problem:
    """An estimator that is not fitted yet, and what its fit and its methods take."""

    name: str
    estimator: BaseEstimator
    arguments: dict[str, Any]

    @property
    def features(self):
        return next(iter(self.arguments))

    @property
    def takes(self):
        """All arguments of fit, those that are left out too."""
        return set(inspect.signature(self.estimator.fit).parameters) - {"weighter_params"}


def public_estimators():
    public = [
        getattr(package, name) for package in (reweight, causal, shift) for name in package._PUBLIC
    ]
    return {
        thing.__name__: thing
        for thing in public
        if inspect.isclass(thing)
        and issubclass(thing, BaseEstimator)
        and thing is not reweight.Weighter
    }


ESTIMATORS = public_estimators()


def build(name):
    """An estimator that accepts few rows, with a fixed seed."""
    cls = ESTIMATORS[name]
    required = {**CONTRACT.CONSTRUCTOR_ARGUMENTS, **CONSTRUCTOR_ARGUMENTS}.get(name, dict)()
    estimator = cls(**required)
    choices = {key: choose(name) for key, choose in CONTRACT.FOR_TOY_DATA.items()}
    # Arms of real data can be balanced, and a treatment need not be two-valued.
    choices |= {"on_infeasible": None, "on_nonconvergence": None, "discrete_treatment": None}
    choices |= {"random_state": 0}
    known = estimator.get_params(deep=False)
    estimator.set_params(
        **{key: value for key, value in choices.items() if value is not None and key in known}
    )
    return estimator


def make_problem(name, seed=20240229, n=N_ROWS):
    rng = np.random.default_rng(seed)
    estimator = build(name)
    if name in ARGUMENTS:
        return Problem(name, estimator, ARGUMENTS[name](rng, n))
    return Problem(name, estimator, guessed_rows(estimator, rng, n))
