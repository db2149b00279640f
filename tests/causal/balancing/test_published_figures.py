"""Figures of other people's analyses of real data, to the digits they print.

NSW + CPS: Dehejia and Wahba's treated men with the CPS controls. NHEFS: Hernan and Robins, Causal
Inference: What If, chapter 12 (inverse-probability weighting of quitting smoking on weight gain).
"""

import causaldata
import numpy as np
import pandas as pd
import pytest

from causal import EntropyBalancing, PropensityWeighting, StableBalancing

# A handful of treated rows stand against many controls; the warning about that is another test's.
pytestmark = pytest.mark.filterwarnings("ignore::reweight.exceptions.WeightWarning")


@pytest.fixture(scope="module")
def nsw_cps():
    nsw = causaldata.nsw_mixtape.load_pandas().data
    cps = causaldata.cps_mixtape.load_pandas().data
    frame = pd.concat([nsw[nsw["treat"] == 1], cps], ignore_index=True)
    columns = ["age", "educ", "black", "hisp", "marr", "nodegree", "re74", "re75"]
    return (
        frame[columns].to_numpy(float),
        frame["treat"].to_numpy(int),
        frame["re78"].to_numpy(float),
    )


@pytest.fixture(scope="module")
def nhefs():
    frame = causaldata.nhefs_complete.load_pandas().data
    number = frame[["age", "wt71", "smokeintensity", "smokeyrs"]].astype(float)
    dummies = [
        pd.get_dummies(frame[name].astype(int), drop_first=True, dtype=float)
        for name in ["sex", "race", "education", "exercise", "active"]
    ]
    X = pd.concat([number, number**2, *dummies], axis=1).to_numpy()
    return X, frame["qsmk"].astype(int).to_numpy(), frame["wt82_71"].to_numpy(float)


def difference(y, treatment, weights=None):
    weights = np.ones(len(y)) if weights is None else weights
    means = [np.average(y[treatment == a], weights=weights[treatment == a]) for a in (0, 1)]
    return means[1] - means[0]


def test_nsw_treated_with_cps_controls(nsw_cps):
    X, treatment, y = nsw_cps
    assert X.shape == (16177, 8)
    assert difference(y, treatment) == pytest.approx(-8497.5, abs=0.05)
    design = np.column_stack([treatment, np.ones(len(X)), X])
    assert np.linalg.lstsq(design, y, rcond=None)[0][0] == pytest.approx(699.13, abs=0.005)
    ipw = PropensityWeighting(estimand="ATT").fit(X, treatment)
    assert difference(y, treatment, ipw.weights_) == pytest.approx(1180.41, abs=0.005)
    entropy = EntropyBalancing("ATT").fit(X, treatment)
    assert difference(y, treatment, entropy.weights_) == pytest.approx(1270.73, abs=0.006)
    assert entropy.ess_[0] == pytest.approx(417.68, abs=0.005)
    stable = StableBalancing("ATT", max_smd=0.0).fit(X, treatment)
    assert difference(y, treatment, stable.weights_) == pytest.approx(1146.64, abs=0.006)
    assert stable.ess_[0] == pytest.approx(526.9, abs=0.05)


def test_nhefs_smoking_cessation(nhefs):
    X, treatment, y = nhefs
    assert difference(y, treatment) == pytest.approx(2.541, abs=5e-4)
    ipw = PropensityWeighting(estimand="ATE").fit_weights(X, treatment)
    assert difference(y, treatment, ipw) == pytest.approx(3.4405, abs=5e-5)
    entropy = EntropyBalancing("ATE").fit_weights(X, treatment)
    assert difference(y, treatment, entropy) == pytest.approx(3.381, abs=5e-4)
