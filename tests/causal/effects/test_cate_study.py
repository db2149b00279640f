"""The study of learners and weights reproduces what its papers claim."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "cate_study.py"


@pytest.fixture(scope="module")
def study():
    spec = spec_from_file_location("cate_study", BENCHMARK)
    module = module_from_spec(spec)
    # Workers unpickle functions by the name of their module.
    sys.modules["cate_study"] = module
    spec.loader.exec_module(module)
    return module


def test_claims_are_judged_by_ratios_of_means(study):
    import pandas as pd

    index = pd.MultiIndex.from_product([["A"], range(4)], names=["setup", "seed"])
    names = [*study.PAIRS, "S", "T", "X", "RS (splines)", "R, true nuisances"]
    errors = pd.DataFrame(1.0, index=index, columns=names)
    errors["U / none"] = 4.0
    errors["DR single / overlap"] = 2.0
    table = study.claims(errors).set_index(["better", "at most"])
    assert table.loc[("U / residual (R)", 1.05), "ratio"] == 0.25
    assert bool(table.loc[("U / residual (R)", 1 / 3), "holds"])
    assert not table.loc[("DR single / overlap", 1.05), "holds"]
    summary = study.summarize(errors, study.FISHER)
    assert summary.loc["U / none", "A"] == 4.0
    assert summary.loc["U / none", "A publ."] == 0.519
    assert summary.loc["U / none", "A ±"] == 0.0


@pytest.mark.slow
def test_inverse_variance_weights_rescue_the_u_learner_and_do_not_hurt_the_others(study):
    errors = study.run("ACE", 10)
    assert np.isfinite(errors.to_numpy()).all()
    table = study.claims(errors)
    assert table["holds"].all(), table
