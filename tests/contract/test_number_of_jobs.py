"""The number of jobs changes no bit of what an estimator finds."""

import sys
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone


def load(name):
    path = Path(__file__).parents[1] / "fuzz" / f"{name}.py"
    spec = spec_from_file_location(f"{name}_for_jobs", path)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PROBLEMS, ORACLE = load("fuzz_problems"), load("fuzz_oracle")
WITH_JOBS = [name for name in PROBLEMS.ESTIMATORS if "n_jobs" in PROBLEMS.build(name).get_params()]
# Columns of a table that say how long models took.
TIMES = {"leaderboard_"}


@pytest.mark.parametrize("name", WITH_JOBS)
def test_two_jobs_find_the_bits_of_one(name):
    problem = PROBLEMS.make_problem(name)
    found = []
    for n_jobs in (1, 2):
        estimator = clone(problem.estimator).set_params(n_jobs=n_jobs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(**problem.arguments)
        found.append(ORACLE.public_attributes(estimator))
    alone, shared = found
    assert alone.keys() == shared.keys()
    for attribute in alone.keys() - TIMES:
        pairs = zip(
            ORACLE.numbers_in(alone[attribute]), ORACLE.numbers_in(shared[attribute]), strict=True
        )
        for one, two in pairs:
            assert_array_equal(one, two, err_msg=attribute)
