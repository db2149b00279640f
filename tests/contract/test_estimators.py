"""Every public estimator keeps scikit-learn's contract, every weighter that of `Weighter`.

A new estimator is picked up from its package's `_PUBLIC`. What it needs to be built, to be fed, or
to be excused from is one line in a table below; an excuse states its reason.
"""

import inspect
import pickle
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpydoc.docscrape import ClassDoc
from scipy.special import softmax
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import (
    BayesianRidge,
    LinearRegression,
    LogisticRegression,
    SGDClassifier,
)
from sklearn.metrics import accuracy_score
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import ClassifierTags, column_or_1d
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.multiclass import check_classification_targets, type_of_target

import causal
import reweight
import shift
from reweight import SolverResult, Weighter, effective_sample_size, normalize_weights
from reweight.exceptions import WeightWarning
from reweight.validation import check_sample_weight, validate_features

# Arguments of estimators that cannot be built without.
CONSTRUCTOR_ARGUMENTS = {
    "BayesianReuseClassifier": lambda: {
        "n_classes": 2,
        "threshold_mean": [-0.5],
        "threshold_sd": [0.1],
    },
    "CalibratedEnsembleRegressor": lambda: {"estimator": LinearRegression()},
    "ConformalQuantileCalibrator": lambda: {"quantiles": [0.25, 0.75]},
    "BackwardCompatibleClassifier": lambda: {
        "old_estimator": LogisticRegression(),
        "old_weight": 0.5,
    },
    "ContrastiveFragmentSelector": lambda: {
        "classifier": LogisticRegression(),
        "n_jitters": 2,
        "cv": 2,
    },
    "CoresetWeighter": lambda: {"n_coreset": 0.5},
    "DynamicInterpolationClassifier": lambda: {
        "estimators": [LogisticRegression(), LogisticRegression(C=10.0)]
    },
    "GaussianQuantileAdapter": lambda: {"estimator": BayesianRidge(), "quantiles": [0.25, 0.75]},
    "LabelShiftClassifier": lambda: {"estimator": LogisticRegression()},
    "LocalQuantileAggregator": lambda: {"quantiles": [0.5]},
    "MovingAverageEstimator": lambda: {"estimator": SGDClassifier(random_state=0), "decay": 0.5},
    "QuantileAggregator": lambda: {"quantiles": [0.5]},
    "QuantileStackingRegressor": lambda: {
        "estimators": [("normal", reweight.GaussianQuantileAdapter(BayesianRidge()))],
        "quantiles": [0.25, 0.75],
        "cv": 2,
    },
    "ResponseErrorDetector": lambda: {
        "estimator": LinearRegression(),
        "scale_estimator": DecisionTreeRegressor(max_depth=1, random_state=0),
    },
    "Reweighted": lambda: {"estimator": LinearRegression(), "weighter": NormWeighter()},
    "WeightedEffect": lambda: {"weighter": causal.EntropyBalancing(on_infeasible="relax")},
    "WeightedTraining": lambda: {"estimator": LinearRegression()},
}
# Parameters that suit the few rows and the two-valued y of scikit-learn's checks.
FOR_TOY_DATA = {
    "alpha": lambda name: 1.0 if name == "LocalSurrogateSensitivity" else None,
    "cv": lambda name: 2 if name in CHECKED_AS and not name.startswith("Weighted") else None,
    "chains": lambda name: 1,
    "discrete_treatment": lambda name: True,
    "draws": lambda name: 25,
    "max_iter": lambda name: 2 if name == "NoisyLabelClassifier" else None,
    "n_resamples": lambda name: 3 if name == "UniformTransformerEffect" else None,
    "on_infeasible": lambda name: "relax",
    "on_nonconvergence": lambda name: "ignore",
    "tune": lambda name: 25,
}
# {estimator: why it is fed neither by scikit-learn's checks nor here, and where its tests are}
FED_NO_ROWS = {"StructuralReweighter": "takes the edges of a graph, in tests/shift/structure"}
# {estimator: {check: why scikit-learn's check does not apply}}
EXPECTED_FAILED_CHECKS = {}
# {weighter: function of a random generator to the keyword arguments of fit}, where the features,
# treatment, outcome and target rows of `make_problem` do not do.
PROBLEMS = {}
# Weighters that know two arms, but whose weights have mean one over all rows.
ONE_GROUP = {"ArmWeighter"}
# {weighter: why its weights depend on the order of rows}
ORDER_MATTERS = {
    "ContrastiveFragmentSelector": "folds are drawn by row",
    "KLIEP": "bandwidth chosen by random folds; with a given one a test of its own",
    "L2IWE": "bandwidths and ridges chosen by random folds; with given ones a test of its own",
    "ResponseErrorDetector": "folds are drawn by row; with given ones a test of its own",
    "RuLSIF": "bandwidth and ridge chosen by random folds; with given ones a test of its own",
    "ULSIF": "bandwidth and ridge chosen by random pairs; with given ones a test of its own",
}
# {weighter: why a row of sample_weight k does not count as k rows}
ROWS_DO_NOT_ADD = {
    "ContrastiveFragmentSelector": "a row that is repeated is judged by its copy",
    "CoresetWeighter": "ranks, of which the central ones are chosen, count rows",
    "ClassifierDensityRatio": "its classifier sees source and target in the shares they come in",
    "ResponseErrorDetector": "a row that is repeated is predicted by models that saw its copy",
    "TargetKernelMeanMatching": "its ridge and the slack of its mean are set by the number of rows",
}
# Parameters with which it does, where only the defaults are in the way.
ROWS_ADD_WITH = {
    # Folds, pairs and quantiles of distances count rows.
    "KLIEP": {"bandwidth": 1.0},
    "KernelBalancing": {"bandwidth": 1.5},
    "L2IWE": {"bandwidth_x": 1.0, "bandwidth_y": 0.5, "alpha": 0.1, "witness_alpha": 0.1},
    "RLLS": {"rho": 0.1},
    "ReTaSA": {"bandwidth_x": 0.6, "bandwidth_y": 0.6},
    "RuLSIF": {"bandwidth": 1.0, "alpha": 0.1},
    "ULSIF": {"bandwidth": 1.0, "alpha": 0.1},
    # The rule of the bandwidth counts neighbours, and without a ridge many weights match as well.
    "DoubleKernelMeanMatching": {"bandwidth": 1.0, "alpha": 0.01},
    "KernelMeanMatching": {"bandwidth": 1.0, "alpha": 0.01},
}

# Weights have mean one; optimisers stop at about 1e-8 in the units of their own problem.
ATOL = 1e-5


class NormWeighter(Weighter):
    """The least a weighter does; it proves the battery on something that needs no solver.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Proportional to the length of the row.
    ess_ : float
        Effective sample size.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns.
    """

    def fit(self, X, y=None, *, sample_weight=None):
        X = validate_features(self, X)
        lengths = np.hypot(1.0, np.linalg.norm(X, axis=1))
        s = check_sample_weight(sample_weight, X)
        self._scale = len(X) / (lengths * s).sum()
        self._set_weights(normalize_weights(lengths, sample_weight=s))
        return self

    def predict_weights(self, X, y=None):
        X = validate_features(self, X, reset=False)
        return self._scale * np.hypot(1.0, np.linalg.norm(X, axis=1))


def arms_of(y):
    """Two labels as 0 and 1, which estimators that also know doses ask for."""
    return None if y is None else np.unique(np.asarray(y), return_inverse=True)[1]


class StudyOfItself:
    """Hands the one two-valued y that scikit-learn's checks know on as outcome and treatment."""

    def fit(self, X, y, *, sample_weight=None):
        return super().fit(X, y, treatment=arms_of(y), sample_weight=sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags = ClassifierTags(multi_class=False)
        tags.target_tags.multi_output = False
        return tags


class ScoredStudyOfItself(StudyOfItself):
    """The same for estimators with a score."""

    def score(self, X, y, sample_weight=None):
        return super().score(X, y, treatment=arms_of(y), sample_weight=sample_weight)


class TransformedStudyOfItself(StudyOfItself):
    """The same for those that transform."""

    def fit_transform(self, X, y, sample_weight=None):
        return super().fit_transform(X, y, treatment=arms_of(y), sample_weight=sample_weight)


class WeightedTrainingOfItself(causal.WeightedTraining):
    """Draws the arm of each row from its features, and predicts as the treatment does."""

    def fit(self, X, y, *, sample_weight=None):
        values = np.asarray(X)
        arm = np.arange(len(values)) % 2 if values.ndim else values
        if values.ndim == 2 and values.dtype.kind in "fiu" and np.isfinite(values).all():
            arm = (997 * np.abs(values).sum(axis=1)).astype(int) % 2
        return super().fit(X, y, treatment=arm, sample_weight=sample_weight)

    def predict(self, X):
        return super().predict(X, arm="treatment")

    def score(self, X, y, sample_weight=None):
        return super().score(X, y, sample_weight=sample_weight)


class ProbabilitiesOfItself:
    """Makes class probabilities of the features that scikit-learn's checks feed."""

    def _probabilities(self, P, argument):
        n_classes = len(self.classes_)
        padded = np.zeros((len(P), max(n_classes, P.shape[1])))
        padded[:, : P.shape[1]] = P
        return softmax(padded[:, :n_classes], axis=1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags = ClassifierTags(multi_class=False)
        return tags


def probabilities_of_itself(name):
    """Subclass of a weighter of class probabilities that scikit-learn's checks can feed."""
    label = f"{name}OfItself"
    cls = type(label, (ProbabilitiesOfItself, getattr(shift, name)), {"__module__": __name__})
    globals()[label] = cls
    return cls


def make_label_shift(rng, n=60):
    """Class probabilities whose labels are drawn from them, and those of a shifted target."""
    draws = rng.gamma(1.0, size=(2, n, 3)) * [[[1.0, 1.0, 1.0]], [[0.8, 1.0, 1.4]]]
    P, P_target = draws / draws.sum(axis=2, keepdims=True)
    y = (P.cumsum(axis=1) < rng.uniform(size=(n, 1))).sum(axis=1)
    return {"X": P, "y": y, "X_target": P_target[10:]}


class TwoQuantilesOfItself(reweight.ConformalQuantileCalibrator):
    """Takes the first two columns, or the only one twice, as its two quantiles."""

    def _read(self, Q, m, *, reset):
        array = validate_features(self, Q, reset=reset)
        return array[:, [0, min(1, array.shape[1] - 1)]]


class FragmentsOfItself(reweight.ContrastiveFragmentSelector):
    """Makes a label of many values of the features, and is content with few rows."""

    _rows_per_fold = 1

    def fit(self, X, y=None, *, sample_weight=None):
        values, given = np.asarray(X), np.asarray(y)
        usable = values.ndim == 2 and len(values) > 1 and given.shape[:1] == values.shape[:1]
        if usable and values.dtype.kind in "fiu" and given.dtype.kind in "fiu":
            if np.isfinite(values).all() and np.isfinite(given).all():
                y = values.astype(float).sum(axis=1) + np.linspace(0, 1e-3, len(values))
        return super().fit(X, y, sample_weight=sample_weight)


def make_classes(rng, n=60):
    """Features and noisy classes that follow them, with trusted rows."""
    X, X_val = rng.normal(size=(n, 3)), rng.normal(size=(20, 3))
    y = np.where(rng.uniform(size=n) < 0.2, 1, X[:, 0] > 0).astype(int)
    return {"X": X, "y": y, "X_val": X_val, "y_val": (X_val[:, 0] > 0).astype(int)}


PROBLEMS["CoresetWeighter"] = make_classes
PROBLEMS["ContrastiveFragmentSelector"] = lambda rng: make_problem(NormWeighter(), rng, n=120)
PROBLEMS |= dict.fromkeys(("BBSE", "MLLS", "RLLS"), make_label_shift)


def study_of_itself(name):
    """Subclass of a public estimator that scikit-learn's checks can feed, and pickle can find."""
    label = f"{name}OfItself"
    base = getattr(causal, name)
    mixin = ScoredStudyOfItself if hasattr(base, "score") else StudyOfItself
    mixin = TransformedStudyOfItself if hasattr(base, "fit_transform") else mixin
    cls = type(label, (mixin, base), {"__module__": __name__})
    globals()[label] = cls
    return cls


# {estimator: subclass that stands in for it in scikit-learn's checks, as a y alone is no study}
CHECKED_AS = {
    name: study_of_itself(name)
    for name in (
        "CrossFitter",
        "DRLearner",
        "InteractiveDML",
        "PartiallyLinearDML",
        "PseudoOutcomeRegressor",
        "RLearner",
        "RSLearner",
        "SLearner",
        "TLearner",
        "ULearner",
        "UniformTransformerEffect",
        "WeightedEffect",
        "XLearner",
    )
} | {"WeightedTraining": WeightedTrainingOfItself}
CHECKED_AS |= {"ConformalQuantileCalibrator": TwoQuantilesOfItself}
CHECKED_AS["ContrastiveFragmentSelector"] = FragmentsOfItself
CHECKED_AS |= {name: probabilities_of_itself(name) for name in ("BBSE", "MLLS", "RLLS")}


def of_two_levels_too(name):
    """Subclass of an ordinal classifier that takes the two classes of scikit-learn's checks."""
    label = f"{name}OfTwoLevelsToo"
    cls = type(label, (getattr(reweight, name),), {"__module__": __name__, "_min_categories": 2})
    globals()[label] = cls
    return cls


CHECKED_AS |= {
    name: of_two_levels_too(name)
    for name in ("RelaxedProportionalOdds", "RelaxedProportionalOddsCV")
}


class UpdateOfItself(reweight.BackwardCompatibleClassifier):
    """Takes the fit to the same rows as the model in use."""

    def fit(self, X, y, sample_weight=None):
        self._in_use = clone(self.old_estimator).fit(X, y, sample_weight=sample_weight)
        return super().fit(X, y, sample_weight=sample_weight)

    def _deployed(self):
        return self._in_use


class InterpolationOfItself(reweight.DynamicInterpolationClassifier):
    """Interpolates fits to the same rows."""

    def fit(self, X, y):
        self._fitted = [clone(estimator).fit(X, y) for estimator in self.estimators]
        return super().fit(X, y)

    def _checked_models(self):
        return self._fitted

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


CHECKED_AS |= {
    "BackwardCompatibleClassifier": UpdateOfItself,
    "DynamicInterpolationClassifier": InterpolationOfItself,
}


class GradesOfItself(reweight.BayesianReuseClassifier):
    """Makes residuals, whose sign is that of the grade, of the two labels that checks know."""

    def fit(self, X, y, *, sample_weight=None):
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        check_classification_targets(y)
        labels, codes = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(labels) > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is "
                f"{type_of_target(y)}."
            )
        super().fit(X, codes, residual=-codes.astype(float), sample_weight=sample_weight)
        self.classes_ = labels
        return self

    def score(self, X, y, sample_weight=None):
        return accuracy_score(y, self.predict(X), sample_weight=sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.target_tags.required = True
        return tags


CHECKED_AS["BayesianReuseClassifier"] = GradesOfItself


def public_estimators():
    public = [
        getattr(package, name) for package in (reweight, causal, shift) for name in package.__all__
    ]
    return [
        thing
        for thing in public
        if inspect.isclass(thing)
        and issubclass(thing, BaseEstimator)
        and thing is not Weighter
        and thing.__name__ not in FED_NO_ROWS
    ]


def build(cls, **parameters):
    required = CONSTRUCTOR_ARGUMENTS.get(cls.__name__, dict)()
    return cls(**required, **parameters)


def build_for_toy_data(cls):
    """An estimator that accepts few rows, and arms that cannot be balanced, as in the checks."""
    estimator = build(cls)
    if cls.__name__ in CHECKED_AS:
        estimator = CHECKED_AS[cls.__name__](**estimator.get_params(deep=False))
    for parameter, choose in FOR_TOY_DATA.items():
        value = choose(cls.__name__)
        if value is not None and parameter in estimator.get_params(deep=False):
            estimator.set_params(**{parameter: value})
    return estimator


ESTIMATORS = [NormWeighter, *public_estimators()]


@parametrize_with_checks(
    [build_for_toy_data(cls) for cls in ESTIMATORS],
    expected_failed_checks=lambda estimator: EXPECTED_FAILED_CHECKS.get(
        type(estimator).__name__, {}
    ),
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def weighter_cases():
    """Each weighter, once for each estimand that it offers."""
    for cls in ESTIMATORS:
        if issubclass(cls, Weighter):
            for estimand in getattr(cls, "_estimands", [None]):
                parameters = {} if estimand is None else {"estimand": estimand}
                label = cls.__name__ if estimand is None else f"{cls.__name__}-{estimand}"
                yield pytest.param(partial(build, cls, **parameters), id=label)


@pytest.fixture(params=weighter_cases())
def case(request, rng):
    return make_case(request.param, rng)


def make_problem(weighter, rng, n=60):
    """Keyword arguments of fit: features, and whatever else the weighter's fit has a name for."""
    X = rng.normal(size=(n, 3))
    treatment = (rng.uniform(size=n) < 1 / (1 + np.exp(-0.7 * X[:, 0]))).astype(int)
    if getattr(weighter, "_needs_treatment", False):
        return {"X": X, "y": treatment}
    problem = {"X": X, "y": X @ [1.0, -1.0, 0.5] + 0.3 * rng.normal(size=n)}
    if "X_target" in inspect.signature(weighter.fit).parameters:
        problem["X_target"] = rng.normal(0.3, 1.0, size=(n - 10, 3))
    return problem


def balances_arms(weighter):
    return getattr(weighter, "_needs_treatment", False) and type(weighter).__name__ not in ONE_GROUP


def make_case(make, rng):
    weighter = make()
    name = type(weighter).__name__
    problem = PROBLEMS[name](rng) if name in PROBLEMS else make_problem(weighter, rng)
    n = len(problem["X"])
    return SimpleNamespace(
        name=name,
        make=make,
        problem=problem,
        n=n,
        groups=problem["y"] if balances_arms(weighter) else np.zeros(n, int),
        sample_weight=rng.integers(1, 4, size=n).astype(float),
    )


def fit(case, parameters=None, **changes):
    """A fitted weighter; arguments of fit can be replaced."""
    return case.make(**(parameters or {})).fit(**{**case.problem, **changes})


def rows(case, index):
    """The row-aligned arguments of fit at some rows."""
    return {name: case.problem[name][index] for name in ("X", "y")}


def test_weights_are_finite_non_negative_and_mean_one_per_group(case):
    for sample_weight in (None, case.sample_weight):
        weights = fit(case, sample_weight=sample_weight).weights_
        assert weights.shape == (case.n,)
        assert weights.dtype == np.float64
        assert np.isfinite(weights).all()
        assert weights.min() >= 0
        for group in np.unique(case.groups):
            assert_allclose(weights[case.groups == group].mean(), 1, rtol=1e-12)


def test_effective_sample_size_is_that_of_the_weights_per_group(case):
    weighter = fit(case)
    grouped = len(np.unique(case.groups)) > 1
    expected = effective_sample_size(weighter.weights_, case.groups if grouped else None)
    assert_allclose(weighter.ess_, expected)


def test_fit_weights_returns_the_weights(case):
    assert_array_equal(case.make().fit_weights(**case.problem), fit(case).weights_)


def test_fit_is_deterministic(case):
    assert_array_equal(fit(case).weights_, fit(case).weights_)


def test_number_of_jobs_does_not_change_a_bit(case):
    if "n_jobs" not in case.make().get_params():
        return
    alone, shared = (case.make().set_params(n_jobs=n_jobs).fit(**case.problem) for n_jobs in (1, 2))
    assert_array_equal(alone.weights_, shared.weights_)


def test_weights_contain_the_sample_weight(case):
    zero = np.arange(case.n) % 7 == 0
    sample_weight = np.where(zero, 0.0, case.sample_weight)
    weights = fit(case, sample_weight=sample_weight).weights_
    assert_array_equal(weights[zero], 0.0)
    # Rows without weight leave no trace in the others.
    without = fit(case, **rows(case, ~zero), sample_weight=sample_weight[~zero]).weights_
    assert_allclose(
        normalize_weights(weights[~zero], case.groups[~zero]), without, atol=ATOL, rtol=0
    )


def test_the_scale_of_the_sample_weight_does_not_matter(case):
    weights = fit(case, sample_weight=case.sample_weight).weights_
    scaled = fit(case, sample_weight=8 * case.sample_weight).weights_
    assert_allclose(scaled, weights, atol=ATOL, rtol=0)


def test_a_row_of_sample_weight_k_counts_as_k_rows(case):
    if case.name in ROWS_DO_NOT_ADD:
        return
    index = np.repeat(np.arange(case.n), case.sample_weight.astype(int))
    parameters = ROWS_ADD_WITH.get(case.name)
    repeated = fit(case, parameters, **rows(case, index)).weights_
    merged = normalize_weights(np.bincount(index, repeated), case.groups)
    weights = fit(case, parameters, sample_weight=case.sample_weight).weights_
    assert_allclose(merged, weights, atol=ATOL, rtol=0)


def test_predicted_weights_times_sample_weight_are_the_weights(case):
    weighter = fit(case, sample_weight=case.sample_weight)
    if not hasattr(weighter, "predict_weights"):
        return
    predicted = weighter.predict_weights(case.problem["X"], case.problem["y"])
    assert_allclose(predicted * case.sample_weight, weighter.weights_, atol=ATOL, rtol=0)
    # A function of the row: the company in which a row comes does not change its weight.
    some = np.arange(0, case.n, 3)
    alone = weighter.predict_weights(case.problem["X"][some], case.problem["y"][some])
    assert_allclose(alone, predicted[some], rtol=1e-9)


def test_weights_follow_the_rows(case, rng):
    if case.name in ORDER_MATTERS:
        return
    order = rng.permutation(case.n)
    permuted = fit(case, **rows(case, order), sample_weight=case.sample_weight[order]).weights_
    weights = fit(case, sample_weight=case.sample_weight).weights_
    assert_allclose(permuted, weights[order], atol=ATOL, rtol=0)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_give_the_same_weights_and_keep_their_names(case, library):
    frames = pytest.importorskip(library)
    names = [f"column {j}" for j in range(case.problem["X"].shape[1])]

    def frame(array):
        return frames.DataFrame({name: array[:, j] for j, name in enumerate(names)})

    changes = {"X": frame(case.problem["X"]), "y": frames.Series(case.problem["y"])}
    if "X_target" in case.problem:
        changes["X_target"] = frame(case.problem["X_target"])
    weighter = fit(case, **changes)
    assert list(weighter.feature_names_in_) == names
    assert_allclose(weighter.weights_, fit(case).weights_, atol=ATOL, rtol=0)
    if hasattr(weighter, "predict_weights"):
        # Warnings about feature names would say that a frame was taken for an array.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            weighter.predict_weights(changes["X"], changes["y"])


def test_single_precision_gives_double_weights(case):
    weighter = fit(case, X=case.problem["X"].astype(np.float32))
    assert weighter.weights_.dtype == np.float64
    exact = fit(case, X=case.problem["X"].astype(np.float32).astype(np.float64))
    assert_allclose(weighter.weights_, exact.weights_, atol=ATOL, rtol=0)


def test_memory_layout_does_not_matter_and_nothing_is_written(case):
    expected = fit(case, sample_weight=case.sample_weight).weights_
    n, p = case.problem["X"].shape
    wide = np.full((2 * n, 2 * p), np.nan)
    wide[::2, ::2] = case.problem["X"]
    layouts = [np.asfortranarray(case.problem["X"]), wide[::2, ::2], case.problem["X"].copy()]
    for X in layouts:
        arguments = {**case.problem, "X": X, "sample_weight": case.sample_weight.copy()}
        for array in arguments.values():
            array.setflags(write=False)
        weights = case.make().fit(**arguments).weights_
        assert_allclose(weights, expected, atol=ATOL, rtol=0)
        assert weights.flags.writeable


def test_clone_forgets_and_pickle_remembers(case):
    weighter = fit(case)
    assert not hasattr(clone(weighter), "weights_")
    # Estimators among the parameters are equal if they are written alike.
    assert repr(clone(weighter).get_params()) == repr(weighter.get_params())
    copy = pickle.loads(pickle.dumps(weighter))
    assert_array_equal(copy.weights_, weighter.weights_)
    assert_array_equal(copy.ess_, weighter.ess_)
    if hasattr(weighter, "predict_weights"):
        arguments = case.problem["X"], case.problem["y"]
        # Pickling may turn the memory layout of a matrix, and with it the last bits of a product.
        expected = weighter.predict_weights(*arguments)
        assert_allclose(copy.predict_weights(*arguments), expected, rtol=1e-10)


def test_what_fit_stores_is_documented(case):
    columns = {f"column {j}": column for j, column in enumerate(case.problem["X"].T)}
    pandas = pytest.importorskip("pandas")
    weighter = fit(case, X=pandas.DataFrame(columns))
    documented = {entry.name for entry in ClassDoc(type(weighter))["Attributes"]}
    stored = {name for name in vars(weighter) if name.endswith("_") and not name.startswith("_")}
    assert stored - documented == set()
    assert {name for name in documented if not hasattr(weighter, name)} == set()


def test_a_solver_leaves_its_certificate(case):
    weighter = fit(case)
    if not hasattr(weighter, "solver_result_"):
        return
    assert isinstance(weighter.solver_result_, SolverResult)
    assert 0 <= weighter.optimality_gap_ < ATOL
    assert weighter.n_iter_ >= 1


def test_treatment_may_stand_in_either_place_and_bear_any_label(case, rng):
    if not getattr(case.make(), "_needs_treatment", False):
        return
    treatment = case.problem["y"]
    expected = fit(case).weights_
    outcome = rng.normal(size=case.n)
    assert_array_equal(fit(case, y=outcome, treatment=treatment).weights_, expected)
    for labels in (np.array(["control", "drug"]), np.array([False, True]), np.array([2.0, 5.0])):
        assert_array_equal(fit(case, y=labels[treatment]).weights_, expected)
    with pytest.raises(ValueError, match="requires y to be passed"):
        fit(case, y=None)


def test_target_rows_pass_whole_in_a_tuple_and_none_means_no_shift(case):
    if "X_target" not in case.problem:
        return
    wrapped = fit(case, X_target=(case.problem["X_target"],))
    assert_array_equal(wrapped.weights_, fit(case).weights_)
    with pytest.warns(WeightWarning, match="X_target"):
        unshifted = fit(case, X_target=None, sample_weight=case.sample_weight)
    assert_allclose(unshifted.weights_, normalize_weights(case.sample_weight))
