"""Every public name is found where it says, documented, typed, and spelled as the house spells."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate

PACKAGES = ("reweight", "causal", "shift")
NAMES = [
    (package, name) for package in PACKAGES for name in vars(import_module(package))["_PUBLIC"]
]
PUBLIC = {f"{package}.{name}": getattr(import_module(package), name) for package, name in NAMES}
CLASSES = {path: thing for path, thing in PUBLIC.items() if inspect.isclass(thing)}


# What scikit-learn writes onto classes that take metadata.
REQUEST_METHOD = re.compile("set_[a-z_]+_request")


def own_methods(cls):
    """Public methods and properties that our packages define for a class, by name."""
    methods = {}
    for base in reversed(cls.__mro__):
        if base.__module__.split(".")[0] in PACKAGES:
            for name, member in vars(base).items():
                if name.startswith("_") or REQUEST_METHOD.fullmatch(name):
                    continue
                if isinstance(member, property):
                    methods[name] = member.fget
                elif callable(getattr(cls, name)):
                    methods[name] = getattr(cls, name)
    return methods


METHODS = {
    f"{path}.{name}": method
    for path, cls in CLASSES.items()
    for name, method in own_methods(cls).items()
}
CALLABLES = {**PUBLIC, **METHODS}

# Checks of numpydoc that the house does not follow: where text starts (GL01), summaries that name
# the thing given (SS05) or run on (SS06), obligatory prose (ES01, RT03-RT05) and links (SA01-SA04),
# and the capital (PR08) that a library's own name may lack.
NOT_ASKED = {
    "GL01",
    "SS05",
    "SS06",
    "ES01",
    "PR08",
    "RT03",
    "RT04",
    "RT05",
    "SA01",
    "SA02",
    "SA03",
    "SA04",
}

# Spellings that must not appear in a public signature, with the one that must.
SPELLING = {
    "alpha": ["C", "a", "kl_reg", "lam", "lambda_", "mu", "reg", "regularization", "ridge"],
    "bandwidth": ["gamma", "h", "kernel_width", "sigma"],
    "categories": ["levels"],
    "confidence_level": ["conf_level", "coverage", "delta", "level"],
    "cov_type": ["covariance"],
    "estimand, treatment": ["arms", "t", "treat"],
    "featurizer": ["basis", "feature_map", "feature_space", "gate_transformer"],
    "groups": ["group_by", "group_column", "settings"],
    "max_iter": ["n_iter"],
    "max_smd": ["tol_smd"],
    "max_weight": ["B", "clip", "upper", "w_max"],
    "mean one always": ["normalize", "stabilize"],
    "mean_tolerance": ["eps"],
    "n_classes": ["n_levels"],
    "n_components": ["n_centers", "n_landmarks"],
    "n_repeats": ["n_rep"],
    "n_resamples": ["n_boot", "n_bootstrap"],
    "nonnegative": ["nonneg", "signed"],
    "on_infeasible, on_nonconvergence, on_nonfinite": ["missing", "on_bad_convergence"],
    "quantile_groups": ["level_groups"],
    "random_state": ["seed"],
    "standardize": ["scale_features"],
    "stderr": ["standard_error"],
    "verbose": ["progressbar"],
    "weighter": ["balancer"],
    "X_target": ["P_target", "X_tgt", "sample_domain"],
    "X_val": ["X_clean"],
}
# Where a forbidden spelling is the field's own word: (public name, parameter).
SPELLING_EXCEPTIONS = {
    ("reweight.PooledEstimate", "covariance"),  # the matrix itself, a field of the record
    ("reweight.stock_weights", "clip"),  # bounds of an interpolation ratio, not a cap on rows
    ("shift.RobustBiasAwareClassifier", "C"),  # a logistic regression
    ("reweight.RelaxedProportionalOdds", "eps"),  # the length of a path, as in scikit-learn
    ("reweight.RelaxedProportionalOddsCV", "eps"),
    ("reweight.SolverResult", "n_iter"),  # iterations taken, a field of the record
    ("reweight.interval_score", "upper"),  # an end of an interval
}
FITTED_SPELLING = {
    "optimality_gap_": ["dual_gap_", "gap_", "kkt_residual_"],
    "raw_weights_, raw_target_weights_": ["alpha_", "beta_", "target_weights_"],
    "stderr_": ["coef_std_", "standard_error_"],
}
REACTIONS = {"raise", "warn", "ignore", "relax"}


def parameters(function):
    """Parameters of a callable without self."""
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("self", "cls")
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_package_lists_its_names_once_and_in_order(package):
    module = import_module(package)
    names = vars(module)["_PUBLIC"]
    assert list(names) == sorted(names)
    assert module.__all__ == sorted(names)
    assert set(names) <= set(dir(module))
    assert module.__version__ == import_module("reweight").__version__
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute"):
        getattr(module, "no_such_name")  # noqa: B009


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_same_names(package):
    tree = ast.parse(Path(import_module(package).__file__).read_text())
    guarded = next(
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {
        alias.name: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == vars(import_module(package))["_PUBLIC"]


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_name_is_defined_where_the_package_says(package, name):
    thing = getattr(import_module(package), name)
    assert thing.__module__ == vars(import_module(package))["_PUBLIC"][name]
    assert thing.__name__ == name


@pytest.mark.parametrize("path", CALLABLES)
def test_docstring_is_complete(path):
    optional = NOT_ASKED if path in PUBLIC else NOT_ASKED | {"EX01"}
    problems = [error for error in validate(path)["errors"] if error[0] not in optional]
    assert not problems


@pytest.mark.parametrize("path", PUBLIC)
def test_examples_can_be_run(path):
    assert ">>> " in inspect.getdoc(PUBLIC[path]).split("Examples\n--------")[1]


@pytest.mark.parametrize("path", CALLABLES)
def test_signature_is_typed(path):
    function = CALLABLES[path].__init__ if path in CLASSES else CALLABLES[path]
    if function is object.__init__:
        return
    untyped = [name for name, p in parameters(function).items() if p.annotation is p.empty]
    assert not untyped
    assert inspect.signature(function).return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("path", CALLABLES)
def test_parameters_are_spelled_as_the_house_spells(path):
    owner = ".".join(path.split(".")[:2])
    replaced = {wrong: right for right, spellings in SPELLING.items() for wrong in spellings}
    found = {
        name: f"use {replaced[name]}"
        for name in parameters(CALLABLES[path])
        if name in replaced and (owner, name) not in SPELLING_EXCEPTIONS
    }
    assert not found


@pytest.mark.parametrize("path", CLASSES)
def test_fitted_attributes_are_spelled_as_the_house_spells(path):
    replaced = {wrong: right for right, wrongs in FITTED_SPELLING.items() for wrong in wrongs}
    documented = {entry.name for entry in ClassDoc(CLASSES[path])["Attributes"]}
    if {"alpha", "alphas"} & set(inspect.signature(CLASSES[path]).parameters):
        documented -= {"alpha_"}  # the strength chosen, as in scikit-learn
    assert not {name: replaced[name] for name in documented & set(replaced)}


@pytest.mark.parametrize("path", CLASSES)
def test_options_are_spelled_as_the_house_spells(path):
    constraints = getattr(CLASSES[path], "_parameter_constraints", {})
    options = {
        name: set().union(*(getattr(option, "options", set()) for option in allowed))
        for name, allowed in constraints.items()
        if isinstance(allowed, list)
    }
    for name, values in options.items():
        if re.fullmatch("on_(infeasible|nonconvergence|nonfinite)", name):
            assert values <= REACTIONS, name
        if name == "kernel":
            assert not values & {"gaussian", "laplace"}


@pytest.mark.parametrize("path", CLASSES)
def test_fit_and_score_take_what_scikit_learn_hands_them(path):
    methods = own_methods(CLASSES[path])
    if "fit" in methods:
        assert list(parameters(methods["fit"]))[1] == "y"
    if "score" in methods:
        assert parameters(methods["score"])["sample_weight"].default is None
