"""Every public name of reweight.torch is documented, typed, shown, and where it says."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
from numpydoc.validate import validate

import reweight.torch

PUBLIC = {name: getattr(reweight.torch, name) for name in reweight.torch._PUBLIC}
# The same checks as for the other packages; where text starts, links and prose are free.
NOT_ASKED = {"GL01", "SS05", "SS06", "ES01", "PR08", "RT03", "RT04", "RT05"}
NOT_ASKED |= {"SA01", "SA02", "SA03", "SA04"}


def methods(cls):
    """Public methods that our packages define for a class, by name."""
    return {
        name: member.fget if isinstance(member, property) else getattr(cls, name)
        for base in cls.__mro__
        if base.__module__.startswith("reweight.")
        for name, member in vars(base).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    }


METHODS = {
    f"{name}.{method}": function
    for name, thing in PUBLIC.items()
    if inspect.isclass(thing)
    for method, function in methods(thing).items()
}


def test_names_are_listed_in_order_and_seen_by_type_checkers():
    assert list(reweight.torch._PUBLIC) == sorted(reweight.torch._PUBLIC)
    assert reweight.torch.__all__ == sorted(reweight.torch._PUBLIC)
    source = Path(reweight.torch.__file__).read_text().split("_PUBLIC = {")[0]
    for name, module in reweight.torch._PUBLIC.items():
        assert f"from {module} import" in source
        assert getattr(import_module(module), name).__module__ == module
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        reweight.torch.no_such_name  # noqa: B018


@pytest.mark.parametrize("path", [*PUBLIC, *METHODS])
def test_docstring_is_complete(path):
    optional = NOT_ASKED if path in PUBLIC else NOT_ASKED | {"EX01"}
    errors = validate(f"reweight.torch.{path}")["errors"]
    assert not [error for error in errors if error[0] not in optional]


@pytest.mark.parametrize("path", [*PUBLIC, *METHODS])
def test_signature_is_typed(path):
    thing = PUBLIC.get(path) or METHODS[path]
    function = thing.__init__ if inspect.isclass(thing) else thing
    if function is object.__init__:
        return
    signature = inspect.signature(function)
    untyped = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.annotation is parameter.empty and name not in ("self", "cls")
    ]
    assert not untyped
    assert signature.return_annotation is not inspect.Signature.empty
