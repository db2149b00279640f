"""Our averages are those of DoubleML and EconML on the same folds."""

import json
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from causal import InteractiveDML, PartiallyLinearDML

FOLDER = Path(__file__).parent / "reference"
PINNED = json.loads((FOLDER / "double_ml.json").read_text())


@pytest.fixture(scope="module")
def reference():
    spec = spec_from_file_location("double_ml_reference", FOLDER / "double_ml.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["linear", "neighbours"])
def ours(request, reference):
    data, (outcome, treatment) = reference.study(), reference.models(request.param)
    X, y, t, dose = data["X"], data["y"], data["t"], data["dose"]
    options = {"cv": reference.folds(), "propensity_clip": 0.01}
    fits = {
        "plr": PartiallyLinearDML(outcome, treatment, **options).fit(X, y, treatment=t),
        "plr iv": PartiallyLinearDML(outcome, treatment, moment="iv", **options).fit(
            X, y, treatment=t
        ),
        "plr dose": PartiallyLinearDML(outcome, outcome, **options).fit(
            X, data["z"], treatment=dose
        ),
        "irm ate": InteractiveDML(outcome, treatment, **options).fit(X, y, treatment=t),
        "irm att": InteractiveDML(outcome, treatment, estimand="ATT", **options).fit(
            X, y, treatment=t
        ),
        "irm ate, single model": InteractiveDML(
            outcome, treatment, outcome_model="single", **options
        ).fit(X, y, treatment=t),
    }
    numbers = {name: [fit.effect_, fit.stderr_] for name, fit in fits.items()}
    gate = fits["irm ate"].group_effects(data["group"])
    blp = fits["irm ate"].best_linear_predictor(X[:, 3])
    numbers["gate"] = [*gate.coef_, *gate.stderr_]
    numbers["blp"] = [*blp.coef_, *blp.stderr_]
    return request.param, numbers


@pytest.mark.parametrize("library", ["doubleml", "econml"])
def test_averages_are_those_of_the_peers(library, ours):
    kind, numbers = ours
    pinned = dict(PINNED[library][kind])
    pinned.pop("plr repeats", None)
    assert len(pinned) >= 3
    for name, value in pinned.items():
        # Both sides solve their logistic regressions to about 1e-9.
        assert_allclose(numbers[name], value, rtol=1e-7, err_msg=name)


@pytest.mark.parametrize("kind", ["linear", "neighbours"])
def test_repeats_are_summarised_by_their_median_as_in_doubleml(kind, reference):
    data, (outcome, treatment) = reference.study(), reference.models(kind)
    effects = [
        PartiallyLinearDML(outcome, treatment, cv=reference.folds(seed))
        .fit(data["X"], data["y"], treatment=data["t"])
        .effect_
        for seed in range(reference.N_REPEATS)
    ]
    assert_allclose(np.median(effects), PINNED["doubleml"][kind]["plr repeats"][0], rtol=1e-7)


@pytest.mark.slow
def test_pinned_numbers_are_what_the_peers_say_today(reference):
    pytest.importorskip("doubleml")
    pytest.importorskip("econml")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        today = reference.compute()
    for library, kinds in PINNED.items():
        for kind, numbers in kinds.items():
            for name, value in numbers.items():
                assert_allclose(today[library][kind][name], value, rtol=1e-7, err_msg=name)
