"""A fitted estimator that is pickled answers in another process as it does in this one."""

import pickle
import subprocess
import sys
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
from sklearn.base import clone

ROOT = Path(__file__).parents[2]
METHODS = ("predict", "predict_proba", "decision_function", "transform", "weights_")
# What the other process runs: it sees the packages, and nothing of the tests.
ANSWER = """
import pickle, sys, warnings
warnings.simplefilter("ignore")
with open(sys.argv[1], "rb") as file:
    fitted = pickle.load(file)
answers = {}
for name, (estimator, X, methods) in fitted.items():
    for method in methods:
        value = getattr(estimator, method)
        answers[name, method] = value if method == "weights_" else value(X)
with open(sys.argv[2], "wb") as file:
    pickle.dump(answers, file)
"""


def load_problems():
    path = ROOT / "tests" / "fuzz" / "fuzz_problems.py"
    spec = spec_from_file_location("problems_for_pickles", path)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_fitted_estimators_answer_alike_in_a_new_process(tmp_path):
    problems = load_problems()
    fitted, expected = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in problems.ESTIMATORS:
            problem = problems.make_problem(name)
            X = problem.arguments[problem.features]
            estimator = clone(problem.estimator).fit(**problem.arguments)
            methods = []
            for method in METHODS:
                try:
                    value = getattr(estimator, method)
                    expected[name, method] = value if method == "weights_" else value(X)
                except (AttributeError, TypeError, ValueError):
                    continue  # not offered, or asks for more than rows
                methods.append(method)
            fitted[name] = (estimator, X, methods)
    (tmp_path / "fitted").write_bytes(pickle.dumps(fitted))
    subprocess.run(
        [sys.executable, "-c", ANSWER, tmp_path / "fitted", tmp_path / "answers"],
        cwd=ROOT,
        check=True,
    )
    answers = pickle.loads((tmp_path / "answers").read_bytes())
    assert answers.keys() == expected.keys()
    for key, value in expected.items():
        # Pickling may turn the memory layout of a matrix, and with it the last bits.
        if np.asarray(value).dtype.kind in "fc":
            np.testing.assert_allclose(answers[key], value, rtol=1e-10, atol=1e-12, err_msg=key)
        else:
            np.testing.assert_array_equal(answers[key], value, err_msg=key)
