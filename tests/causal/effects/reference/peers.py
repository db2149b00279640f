"""Numbers of EconML and DoubleML on fixed folds, for tests that run without them.

    python tests/causal/effects/reference/peers.py

Needs `pip install econml doubleml`; writes peers.json next to this file.
"""

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

SIZE, FOLDS = 400, 4


def study():
    """Rows, and the fold of each; drawn from the random numbers of numpy alone."""
    rng = np.random.default_rng(12)
    X = rng.normal(size=(SIZE, 3))
    e = 1 / (1 + np.exp(-0.8 * X[:, 0]))
    t = (rng.uniform(size=SIZE) < e).astype(int)
    y = X @ [1.0, 0.5, -0.5] + t * (1 + 0.5 * X[:, 1]) + rng.normal(size=SIZE)
    return X, y, t, np.arange(SIZE) % FOLDS


def main():
    import doubleml
    from doubleml.data import DoubleMLData
    from econml.dml import LinearDML
    from econml.dr import LinearDRLearner
    from sklearn.linear_model import LinearRegression, LogisticRegression

    warnings.simplefilter("ignore")
    X, y, t, fold = study()
    cv = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(FOLDS)]

    def logistic():
        return LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12, max_iter=500)

    results = {"versions": {name: version(name) for name in ("econml", "doubleml", "scikit-learn")}}
    dml = LinearDML(
        model_y=LinearRegression(), model_t=logistic(), discrete_treatment=True, cv=cv
    ).fit(y, t, X=X)
    results["LinearDML"] = {
        "intercept": float(dml.intercept_),
        "coef": np.ravel(dml.coef_).tolist(),
        "effect": dml.effect(X[:5]).tolist(),
        "stderr": dml.effect_inference(X[:5]).stderr.tolist(),
    }
    dr = LinearDRLearner(
        model_regression=LinearRegression(), model_propensity=logistic(), cv=cv, min_propensity=0.01
    ).fit(y, t, X=X)
    results["LinearDRLearner"] = {
        "intercept": float(dr.intercept_(T=1)),
        "coef": np.ravel(dr.coef_(T=1)).tolist(),
        "effect": dr.effect(X[:5]).tolist(),
        "stderr": dr.effect_inference(X[:5]).stderr.tolist(),
    }
    data = DoubleMLData.from_arrays(X, y, t)
    plr = doubleml.DoubleMLPLR(
        data, LinearRegression(), logistic(), n_folds=FOLDS, draw_sample_splitting=False
    )
    plr.set_sample_splitting([cv]).fit()
    results["DoubleMLPLR"] = {"coef": float(plr.coef[0]), "stderr": float(plr.se[0])}
    irm = doubleml.DoubleMLIRM(
        data, LinearRegression(), logistic(), n_folds=FOLDS, draw_sample_splitting=False
    )
    irm.set_sample_splitting([cv]).fit()
    results["DoubleMLIRM"] = {"coef": float(irm.coef[0]), "stderr": float(irm.se[0])}
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
