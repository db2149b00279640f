"""What is a clear error, and what a right answer."""

import inspect
import linecache
import re
import signal
import threading
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning

from reweight.exceptions import ConvergenceError, InfeasibleError

ROOT = Path(__file__).parents[2]
OWN = tuple(str(ROOT / package) for package in ("reweight", "causal", "shift"))
SECONDS = 30
CLEAR = (ValueError, TypeError, NotFittedError, InfeasibleError, ConvergenceError)
# Subclasses of ValueError that come from inside.
BARE = (np.linalg.LinAlgError, UnicodeError)
# Words of numpy and scipy about arrays that users do not know of.
INNER_WORDS = re.compile(
    r"could not be broadcast|zero-size array|must not contain infs|matmul: |out of bounds|"
    r"setting an array element|not aligned|singular|reduction operation|ufunc|invalid literal"
)
# What scikit-learn's validators call what they found.
VALIDATORS_WORDS = re.compile(
    r"Expected 2D array|Found array with|inconsistent numbers of samples|sparse|Complex data|"
    r"could not convert string to float|must be a string or a real number|y should be a 1d array|"
    r"Unknown label type|Input contains|unique|class|fold|n_splits|sample|feature|"
    r"array-like|scalar array|at least 1 dimension|Classification metrics|label input types|"
    r"bytes/strings|an array element with a sequence|Sparse data|Input y_true|1-tuple|"
    r"not supported between instances"
)
METHODS = (
    "adapt_proba",
    "balance_table",
    "confint",
    "decision_function",
    "predict",
    "predict_arm_probability",
    "predict_density_ratio",
    "predict_interval",
    "predict_proba",
    "predict_propensity",
    "predict_ratio",
    "predict_weights",
    "sample_model_weights",
    "score",
    "score_samples",
    "stderr",
    "summary",
    "transform",
)
ONE_EACH_ROW = frozenset(METHODS) - {"balance_table", "confint", "score", "summary"}

# {(estimator, attribute or method): why it may hold NaN or infinity}, None is any.
NOT_FINITE = {
    (None, "balance_table()"): "a column without variance has no ratio of variances",
    (None, "stderr_"): "coefficients of equal columns are not told apart",
    (None, "stderr()"): "effects along directions that no row has",
    (None, "predict_interval()"): "effects along directions that no row has",
    (None, "cov_"): "coefficients of equal columns are not told apart",
    ("Reweighted", "score()"): "R2 of huge outcomes, which the inner model accepts",
    ("WeightedTraining", "score()"): "R2 of huge outcomes, which the inner model accepts",
    ("LocalSurrogateSensitivity", "q_statistic_"): "one setting does not vary",
    (None, "summary()"): "a coefficient that is exact has no z value",
    (None, "alpha_"): "an infinite ridge means equal weights",
    ("CBPS", "j_statistic_"): "just identified models have no test",
    ("ConformalQuantileCalibrator", "offsets_"): "few rows give no finite bound",
    ("ConformalQuantileCalibrator", "predict()"): "few rows give no finite bound",
    ("ConformalQuantileCalibrator", "predict_interval()"): "few rows give no finite bound",
    ("ConformalQuantileCalibrator", "transform()"): "few rows give no finite bound",
    ("LocalSurrogateSensitivity", "tau2_"): "one setting does not vary",
    ("LocalSurrogateSensitivity", "q_pvalue_"): "one setting does not vary",
    ("ReTaSA", "eta_"): "rows without weight are not used",
    ("ResidualPerformance", "control_cov_"): "one control has no covariance",
    ("StructuralReweighter", "edge_prob_source_"): "classes without nodes have no edges",
    ("StructuralReweighter", "edge_prob_target_"): "classes without nodes have no edges",
    ("StructuralReweighter", "ratio_"): "classes without nodes have no edges",
}
# Weights that are a function of the label or outcome.
LABEL_WEIGHTERS = (
    "BBSE", "CoresetWeighter", "L2IWE", "MLLS", "RLLS", "ReTaSA", "TargetKernelMeanMatching",
)  # fmt: skip
# {(estimator, method) that takes rows and does not look at them}
DOES_NOT_READ_ROWS = {(name, "predict_weights") for name in LABEL_WEIGHTERS}
# Where a solver stopped is not the answer.
NOT_COMPARED = re.compile(
    "leaderboard|max_imbalance|solver_result|optimality_gap|n_iter|duality_gap|converged"
)


class TimeUp(BaseException):
    """The time limit of a case."""


@contextmanager
def time_limit(seconds):
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise TimeUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Outcome:
    """What a fit and the calls after it ended in."""

    estimator: Any
    error: BaseException | None
    step: str
    answer: dict[str, Any]
    warnings: list


def methods_of(estimator, arguments):
    """Calls of methods, with the features and what else they take of the arguments of fit."""
    features = next(iter(arguments))
    for method in METHODS:
        bound = getattr(estimator, method, None)
        if bound is None or not callable(bound):
            continue
        given, rows = {}, []
        for name, parameter in inspect.signature(bound).parameters.items():
            if name in ("X", "Q", "edge_index"):
                rows = [arguments[features]]
            elif name in arguments and name != "sample_weight":
                given[name] = arguments[name]
            elif parameter.default is parameter.empty and parameter.kind not in (
                parameter.VAR_KEYWORD,
                parameter.VAR_POSITIONAL,
            ):
                break
            elif name == "arm":
                given[name] = "treatment"
        else:
            yield method, partial(bound, *rows, **given), bool(rows)


def public_attributes(estimator):
    names = [name for name in vars(estimator) if name.endswith("_") and not name.startswith("_")]
    found = {name: getattr(estimator, name) for name in names}
    if hasattr(estimator, "weights_") and hasattr(estimator, "ess_"):
        found["ess_"] = estimator.ess_
    return found


def run_case(problem, arguments):
    """Fit on the arguments and call what there is to call."""
    estimator, step, answer = clone(problem.estimator), "fit", {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with time_limit(SECONDS):
                estimator.fit(**arguments)
                answer |= public_attributes(estimator)
                for method, call, _ in methods_of(estimator, arguments):
                    step = method
                    answer[f"{method}()"] = call()
            error = None
        except (Exception, TimeUp) as raised:
            error = raised
    return Outcome(estimator, error, step, answer, caught)


def answer_of(problem, arguments):
    outcome = run_case(problem, arguments)
    assert outcome.error is None, f"sound data are refused: {outcome.error!r}"
    return outcome.answer


def judge(problem, outcome, owed):
    """Assert that an outcome is what is owed: "refuse", "same" or "cope"."""
    check_warnings(outcome)
    if outcome.error is not None:
        check_error(problem, outcome)
        assert owed != "same", f"sound data are refused in {outcome.step}: {outcome.error!r}"
        if outcome.step == "fit":
            return
    else:
        assert owed != "refuse", "unsound data are taken without a word"
    check_answer(problem, outcome)


def check_warnings(outcome):
    for warning in outcome.warnings:
        ours = warning.filename.startswith(OWN)
        bad = issubclass(warning.category, RuntimeWarning) and ours
        assert not bad, (
            f"{warning.category.__name__} from our own code at {warning.filename}:"
            f"{warning.lineno}: {warning.message}"
        )


def check_error(problem, outcome):
    """A clear error is raised on purpose, and says what it is about."""
    error = outcome.error
    where = "".join(traceback.format_tb(error.__traceback__)[-3:])
    told = f"{type(error).__name__} in {outcome.step}: {str(error)[:300]}\n{where}"
    assert not isinstance(error, TimeUp), f"took longer than {SECONDS} s in {told}"
    assert isinstance(error, CLEAR), f"a bare {told}"
    assert not isinstance(error, BARE), f"a bare {told}"
    message = str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    by_validator = "sklearn" in Path(frame.filename).parts
    assert by_validator or not INNER_WORDS.search(message), f"inner words: {told}"
    names = {*problem.takes, *problem.estimator.get_params(), type(problem.estimator).__name__}
    names |= {type(outcome.estimator).__name__, *METHODS, "treatment", "propensity", "weights"}
    named = any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message) for name in names)
    assert named or VALIDATORS_WORDS.search(message), f"names nothing: {told}"
    on_purpose = linecache.getline(frame.filename, frame.lineno).strip().startswith("raise")
    ours = frame.filename.startswith(OWN)
    assert on_purpose or not ours, f"not raised on purpose: {told}"


def members_of(value):
    """What a container holds."""
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return [value[column].to_numpy() for column in value.columns]
    if isinstance(value, pd.Series):
        return [value.to_numpy()]
    if isinstance(value, dict | MappingProxyType):
        return list(value.values())
    if isinstance(value, list | tuple):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    return []


def numbers_in(value):
    """All arrays of floating point numbers in a value."""
    if isinstance(value, np.ndarray | float | np.floating):
        array = np.asarray(value)
        if array.dtype.kind in "fc":
            yield array
    for member in members_of(value):
        yield from numbers_in(member)


def check_answer(problem, outcome):
    """Finite everywhere, one number a row, weights of mean one."""
    arguments_rows = None
    undefined = any(
        issubclass(warning.category, UndefinedMetricWarning) for warning in outcome.warnings
    )
    for name, value in outcome.answer.items():
        excused = (problem.name, name) in NOT_FINITE or (None, name) in NOT_FINITE
        excused |= name == "score()" and undefined
        for numbers in () if excused else numbers_in(value):
            assert np.isfinite(numbers).all(), (
                f"{name} has NaN or infinite entries: {numbers!r:.300}"
            )
    weights = outcome.answer.get("weights_")
    if weights is not None:
        assert weights.min() >= 0
        np.testing.assert_allclose(weights.mean(), 1, rtol=1e-6)
        arguments_rows = len(weights)
    for name, value in outcome.answer.items():
        if name.removesuffix("()") in ONE_EACH_ROW and name.endswith("()") and arguments_rows:
            assert len(value) == arguments_rows, f"{name} has {len(value)} rows"


def compare(expected, answer, *, rtol):
    """The numbers of two answers agree."""
    for name, value in expected.items():
        if NOT_COMPARED.search(name):
            continue
        pairs = zip(numbers_in(value), numbers_in(answer[name]), strict=True)
        for exact, numbers in pairs:
            scale = np.nanmax(np.abs(exact), initial=1e-6)
            np.testing.assert_allclose(
                numbers, exact, rtol=rtol, atol=rtol * scale, err_msg=f"{name} differs"
            )


def judge_new_rows(problem, fault):
    """Fit on sound rows; each method refuses spoiled ones."""
    import fuzz_faults

    estimator = clone(problem.estimator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(**problem.arguments)
    spoil = {**fuzz_faults.FEATURE_FAULTS, **fuzz_faults.TARGET_FAULTS}[fault].spoil
    rows = spoil(problem.arguments[problem.features], np.random.default_rng(7))
    tags = estimator.__sklearn_tags__().input_tags
    spoiled = {**problem.arguments, problem.features: rows}
    for method, call, reads_rows in methods_of(estimator, spoiled):
        if not reads_rows:
            continue
        error = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with time_limit(SECONDS):
                    call()
            except (Exception, TimeUp) as raised:
                error = raised
        outcome = Outcome(estimator, error, method, {}, caught)
        excused = tags.allow_nan and fault in ("nan", "inf")
        excused |= (problem.name, method) in DOES_NOT_READ_ROWS
        assert error is not None or excused, f"{method} takes them without a word"
        check_warnings(outcome)
        if error is not None:
            check_error(problem, outcome)


class Unsound(BaseEstimator):
    """Takes all and does nothing."""

    def fit(self, X, y=None, *, X_reference=None):
        return self


class Bare(Unsound):
    def fit(self, X, y=None, *, X_reference=None):
        np.linalg.inv(np.zeros((2, 2)))


class Accident(Unsound):
    def fit(self, X, y=None, *, X_reference=None):
        return {}["X"]


class SilentNaN(Unsound):
    def fit(self, X, y=None, *, X_reference=None):
        self.value_ = np.nan
        return self


class Vague(Unsound):
    def fit(self, X, y=None, *, X_reference=None):
        raise ValueError("something went wrong")


def unsound_estimators():
    yield Bare(), "a bare LinAlgError"
    yield Accident(), "a bare KeyError"
    yield SilentNaN(), "NaN or infinite"
    yield Vague(), "names nothing"
