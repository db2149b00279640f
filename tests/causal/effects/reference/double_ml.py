"""Average effects by DoubleML and EconML on fixed folds, for `test_peers.py`.

    python tests/causal/effects/reference/double_ml.py

Writes double_ml.json beside this file. The numbers in it come from DoubleML 0.11.4 and EconML
0.17.0 with scikit-learn 1.9.1.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

N_SAMPLES = 600
N_REPEATS = 4


def study() -> dict[str, np.ndarray]:
    """Rows with a binary treatment, a dose, an outcome of each, and groups of rows."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(N_SAMPLES, 4))
    e = 1 / (1 + np.exp(-(0.8 * X[:, 0] - 0.5 * X[:, 1])))
    t = (rng.random(N_SAMPLES) < e).astype(float)
    dose = X[:, 0] + rng.normal(size=N_SAMPLES)
    noise = rng.normal(size=N_SAMPLES)
    y = X[:, 0] + X[:, 2] ** 2 + (1 + 0.5 * X[:, 3]) * t + noise
    z = X[:, 0] + X[:, 2] ** 2 + 0.7 * dose + noise
    return {"X": X, "t": t, "y": y, "dose": dose, "z": z, "group": np.arange(N_SAMPLES) % 3}


def folds(seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Five folds of the rows."""
    code = np.random.default_rng(seed).permutation(N_SAMPLES) % 5
    return [(np.flatnonzero(code != k), np.flatnonzero(code == k)) for k in range(5)]


def models(kind: str) -> tuple:
    """Regressor and classifier."""
    if kind == "linear":
        return Ridge(1.0), LogisticRegression(solver="newton-cholesky", tol=1e-12)
    return KNeighborsRegressor(40), KNeighborsClassifier(40)


def by_double_ml(kind: str) -> dict[str, list[float]]:
    """Estimates and standard errors by DoubleML."""
    from doubleml import DoubleMLBLP, DoubleMLData, DoubleMLIRM, DoubleMLPLR
    from pandas import DataFrame

    data, (outcome, treatment) = study(), models(kind)
    binary = DoubleMLData.from_arrays(data["X"], data["y"], data["t"])
    dose = DoubleMLData.from_arrays(data["X"], data["z"], data["dose"])
    result = {}

    def add(name, model, splits=None):
        model.set_sample_splitting(splits or [folds()])
        model.fit()
        result[name] = [float(model.coef[0]), float(model.se[0])]
        return model

    add("plr", DoubleMLPLR(binary, outcome, treatment))
    add("plr iv", DoubleMLPLR(binary, outcome, treatment, outcome, score="IV-type"))
    add("plr dose", DoubleMLPLR(dose, outcome, outcome))
    repeats = [folds(seed) for seed in range(N_REPEATS)]
    add("plr repeats", DoubleMLPLR(binary, outcome, treatment, n_rep=N_REPEATS), repeats)
    add("irm att", DoubleMLIRM(binary, outcome, treatment, score="ATTE"))
    irm = add("irm ate", DoubleMLIRM(binary, outcome, treatment))
    signal = irm.psi_elements["psi_b"][:, 0, 0]
    indicators = DataFrame({str(g): data["group"] == g for g in range(3)}).astype(float)
    basis = DataFrame({"intercept": 1.0, "x": data["X"][:, 3]})
    for name, columns, cov_type in (("gate", indicators, "HC0"), ("blp", basis, "HC1")):
        blp = DoubleMLBLP(signal, columns, is_gate=name == "gate").fit(cov_type=cov_type)
        (fit,) = np.ravel(blp.blp_model)
        result[name] = [*map(float, fit.params), *map(float, fit.bse)]
    return result


def by_econml(kind: str) -> dict[str, list[float]]:
    """Estimates and standard errors by EconML, whose errors divide by n - 1 and not by n."""
    from econml.dml import LinearDML
    from econml.dr import LinearDRLearner

    data, (outcome, treatment) = study(), models(kind)
    correction = np.sqrt((N_SAMPLES - 1) / N_SAMPLES)
    result = {}
    for name, y, t, model, discrete in (
        ("plr", data["y"], data["t"], treatment, True),
        ("plr dose", data["z"], data["dose"], outcome, False),
    ):
        fit = LinearDML(model_y=outcome, model_t=model, discrete_treatment=discrete, cv=folds())
        fit.fit(y, t, X=None, W=data["X"])
        stderr = float(np.ravel(fit.intercept__inference().stderr)[0])
        result[name] = [float(np.ravel(fit.intercept_)[0]), stderr * correction]
    fit = LinearDRLearner(
        model_propensity=treatment, model_regression=outcome, min_propensity=0.01, cv=folds()
    )
    fit.fit(data["y"], data["t"], X=None, W=data["X"])
    stderr = float(np.ravel(fit.intercept__inference(T=1).stderr)[0])
    result["irm ate, single model"] = [float(np.ravel(fit.intercept_(T=1))[0]), stderr * correction]
    return result


def compute() -> dict:
    """All numbers by library and kind of nuisances."""
    return {
        library: {kind: function(kind) for kind in ("linear", "neighbours")}
        for library, function in (("doubleml", by_double_ml), ("econml", by_econml))
    }


if __name__ == "__main__":
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(compute(), indent=1) + "\n")
