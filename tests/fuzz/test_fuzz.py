"""Spoiled data end in a clear error or in a right answer, for every public estimator.

A case is an estimator, an argument of its fit and a fault. New estimators and arguments are picked
up by themselves; what is not owed is excused in a table, with its reason.
"""

import inspect
import re
import zlib

import numpy as np
import pytest
from fuzz_faults import FEW_ROWS, WEIGHT_FAULTS, faults_of, single_precision
from fuzz_oracle import (
    answer_of,
    compare,
    judge,
    judge_new_rows,
    run_case,
    unsound_estimators,
)
from fuzz_problems import ESTIMATORS, FEATURES, N_ROWS, make_problem
from hypothesis import given, settings
from hypothesis import strategies as st

MINIMUM_NUMBER_OF_CASES = 1000

# {(estimator, argument, fault): why what is owed elsewhere is not owed here}, None is any.
NOT_OWED = {
    ("StructuralReweighter", "y", "too_long"): "nodes without edges have labels, too",
    ("StructuralReweighter", "y_target", "too_long"): "nodes without edges have labels, too",
    (None, "residual", "nan"): "NaN stands for a residual that was not measured",
    (None, "residual", "none_in_an_object_array"): "None stands for one that was not measured",
    ("BayesianReuseClassifier", "y", "nan"): "NaN stands for a grade that was not given",
    ("BayesianReuseClassifier", "y", "none_in_an_object_array"): "a grade that was not given",
    ("CalibratedEnsembleRegressor", "X", "none_in_an_object_array"): "trees take missing values",
    ("ResponseErrorDetector", "X", "none_in_an_object_array"): "trees take missing values",
    ("Reweighted", "y", "three_columns"): "regressions take several outcomes",
    ("UniformTransformerEffect", "y", "three_columns"): "takes several outcomes",
    ("WeightedTraining", "y", "three_columns"): "regressions take several outcomes",
    ("WeightedEffect", "y", "three_columns"): "takes several outcomes",
    ("StructuralReweighter", "edge_index", "numbers_as_objects"): "nodes are integers",
    ("StructuralReweighter", "edge_index", "nullable_pandas"): "nodes are integers",
    ("StructuralReweighter", "edge_index_target", "numbers_as_objects"): "nodes are integers",
    ("StructuralReweighter", "edge_index_target", "nullable_pandas"): "nodes are integers",
}


def is_ignored(estimator, argument):
    """Whether the docstring of fit says so."""
    text = inspect.getdoc(type(estimator).fit) or ""
    entry = re.search(rf"^{argument} : .*\n((?:    .*\n|\n)*)", text, flags=re.MULTILINE)
    line = text[entry.start() : entry.end()] if entry else ""
    return bool(re.search(r"gnored|[Nn]ot used|: None\n", line))


def spoiled_arguments():
    """For each estimator, the arguments that faults are put into, sound, with their tables."""
    for name in ESTIMATORS:
        problem = make_problem(name)
        arguments = dict(problem.arguments)
        rows = len(arguments[problem.features])
        if "sample_weight" in problem.takes:
            arguments["sample_weight"] = np.random.default_rng(1).uniform(0.5, 1.5, size=rows)
        for argument, values in arguments.items():
            yield name, argument, values


# Fits that take a tenth of a second or more.
COSTLY = {
    "BayesianReuseClassifier",
    "DoubleKernelMeanMatching",
    "DoubleWeightingClassifier",
    "HorseshoeMultinomialClassifier",
    "LocalQuantileAggregator",
    "RSLearner",
}


def one_in(k, *words):
    """A fixed share of the cases, the same in every run."""
    return zlib.crc32("-".join(words).encode()) % k == 0


def is_quick(name, argument, fault):
    """Whether a case belongs to the default run: errors come before any work, answers after it."""
    if fault.owed == "refuse":
        return one_in(2 if name not in COSTLY else 8, name, argument, fault.name)
    return one_in(8 if name not in COSTLY else 60, name, argument, fault.name)


def make_cases():
    for name, argument, values in spoiled_arguments():
        for fault in faults_of(argument, values).values():
            if np.ndim(values) != 2 and fault.needs_2d:
                continue
            marks = [] if is_quick(name, argument, fault) else [pytest.mark.slow]
            yield pytest.param(
                name, argument, fault, id=f"{name}-{argument}-{fault.name}", marks=marks
            )


CASES = list(make_cases())


def sound_arguments(problem, argument):
    arguments = dict(problem.arguments)
    if argument == "sample_weight":
        rows = len(arguments[problem.features])
        arguments["sample_weight"] = np.random.default_rng(1).uniform(0.5, 1.5, size=rows)
    return arguments


def owed(problem, argument, fault):
    for name in (problem.name, None):
        if (name, argument, fault.name) in NOT_OWED:
            return "cope"
    if fault.owed == "refuse" and is_ignored(problem.estimator, argument):
        return "cope"
    tags = problem.estimator.__sklearn_tags__().input_tags
    if tags.allow_nan and argument in FEATURES | {"X_target"} and fault.name in {"nan", "inf"}:
        return "cope"
    return fault.owed


@pytest.mark.parametrize(("name", "argument", "fault"), CASES)
def test_a_fault_in_one_argument(name, argument, fault):
    problem = make_problem(name)
    arguments = sound_arguments(problem, argument)
    spoiled = fault.spoil(arguments[argument], np.random.default_rng(7))
    outcome = run_case(problem, {**arguments, argument: spoiled})
    expected = owed(problem, argument, fault)
    judge(problem, outcome, expected)
    if expected == "same":
        compare(answer_of(problem, arguments), outcome.answer, rtol=fault.rtol)


ROW_CASES = [
    pytest.param(name, n, marks=[pytest.mark.slow] if name in COSTLY or n in (2, 5) else [])
    for name in ESTIMATORS
    for n in FEW_ROWS
]


@pytest.mark.parametrize(("name", "n"), ROW_CASES)
def test_few_rows(name, n):
    problem = make_problem(name)
    rows = len(problem.arguments[problem.features])
    arguments = {
        argument: values[:n] if len(values) == rows and argument != "X_target" else values
        for argument, values in problem.arguments.items()
    }
    judge(problem, run_case(problem, arguments), "cope")


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name not in COSTLY])
def test_single_precision_is_close_to_double(name):
    problem = make_problem(name)
    rounded = {
        argument: single_precision(values, None) if np.asarray(values).dtype.kind == "f" else values
        for argument, values in problem.arguments.items()
    }
    outcome = run_case(problem, rounded)
    judge(problem, outcome, "same")
    exact = {
        argument: np.asarray(values).astype(float)
        if values is not problem.arguments[argument]
        else values
        for argument, values in rounded.items()
    }
    compare(answer_of(problem, exact), outcome.answer, rtol=1e-3)


PREDICTION_FAULTS = (
    "nan", "inf", "text_column", "one_dimension", "no_rows", "no_columns", "a_number", "a_word",
    "none", "a_column_more", "a_column_less", "lazy_frame", "complex_numbers",
)  # fmt: skip


def with_row_methods():
    for name in ESTIMATORS:
        problem = make_problem(name)
        X = problem.arguments[problem.features]
        if np.ndim(X) == 2 and problem.features != "edge_index":
            yield name


NEW_ROW_CASES = [
    pytest.param(
        name,
        fault,
        marks=[] if one_in(3 if name not in COSTLY else 40, name, fault) else [pytest.mark.slow],
    )
    for name in with_row_methods()
    for fault in PREDICTION_FAULTS
]


@pytest.mark.parametrize(("name", "fault"), NEW_ROW_CASES)
def test_faults_in_new_rows(name, fault):
    judge_new_rows(make_problem(name), fault)


def test_there_are_enough_cases():
    cases = [*CASES, *ROW_CASES, *NEW_ROW_CASES]
    quick = [case for case in cases if pytest.mark.slow not in case.marks]
    assert len(quick) >= MINIMUM_NUMBER_OF_CASES
    assert {case.values[0] for case in quick} == set(ESTIMATORS)
    assert len({case.id for case in CASES}) == len(CASES)


@st.composite
def combinations(draw, name):
    """Arguments of fit with several faults, and rows of any number."""
    n = draw(st.integers(1, 60))
    problem = make_problem(name, seed=draw(st.integers(0, 2**20)), n=max(n, 12))
    rows = len(problem.arguments[problem.features])
    arguments = {
        key: values[:n] if len(values) == rows else values
        for key, values in problem.arguments.items()
    }
    if "sample_weight" in problem.takes and draw(st.booleans()):
        arguments["sample_weight"] = np.ones(len(arguments[problem.features]))
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    spoiled = dict(arguments)
    notes = []
    for key in draw(st.lists(st.sampled_from(sorted(arguments)), max_size=3, unique=True)):
        table = faults_of(key, problem.arguments[key]) if key != "sample_weight" else WEIGHT_FAULTS
        fault = table[draw(st.sampled_from(sorted(table)))]
        try:
            spoiled[key] = fault.spoil(arguments[key], rng)
        except (IndexError, ValueError, TypeError):
            continue  # too few rows to have this fault
        notes.append(f"{key}: {fault.name}")
    return problem, spoiled, notes


def check_combinations(name, examples):
    @settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, print_blob=False
    )
    @given(combinations(name))
    def check(drawn):
        problem, arguments, _ = drawn
        judge(problem, run_case(problem, arguments), "cope")

    check()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COSTLY))
def test_faults_that_come_together_and_cost(name):
    check_combinations(name, 3)


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name not in COSTLY])
def test_faults_that_come_together(name):
    check_combinations(name, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
def test_many_faults_that_come_together(name):
    check_combinations(name, 300)


def test_the_battery_finds_what_it_is_for():
    """Estimators that break each of its rules are found out."""
    for estimator, what in unsound_estimators():
        problem = make_problem("UniformTransformer", n=N_ROWS)
        broken = type(problem)(problem.name, estimator, problem.arguments)
        with pytest.raises(AssertionError, match=what):
            judge(broken, run_case(broken, broken.arguments), "cope")
