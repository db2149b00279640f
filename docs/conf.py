"""Sphinx configuration; the reference pages are written from the packages' own lists of names."""

import re
import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
PACKAGES = ("reweight", "causal", "shift")
HAS_TORCH = find_spec("torch") is not None
USES_TORCH = re.compile(r"^(import torch|from (torch|reweight\.torch)\b)", re.MULTILINE)
ENTRY = re.compile(r"\s*\w+ : ")

project = "Counterpoise"
author = "the Counterpoise developers"
copyright = author
release = import_module("reweight").__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_nb",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "conf.py"]
html_theme = "alabaster"
html_theme_options = {"description": "Weights, and what they cost", "page_width": "1080px"}
autodoc_typehints = "none"
numpydoc_show_class_members = False
myst_enable_extensions = ["dollarmath"]
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
# Without PyTorch the pages that need it are shown, not run.
nb_execution_excludepatterns = [
    path.name
    for path in (ROOT / "vignettes").glob("*.py")
    if not HAS_TORCH and USES_TORCH.search(path.read_text())
]


def write_reference() -> None:
    """One page a package, listing its public names by the module that defines them."""
    folder = HERE / "api"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = [*PACKAGES, "reweight.torch"] if HAS_TORCH else PACKAGES
    missing = "reweight.torch\n==============\n\nThis site was built without PyTorch.\n"
    if not HAS_TORCH:
        (folder / "reweight.torch.rst").write_text(missing)
    recipes = "Recipes for PyTorch\n===================\n\n"
    recipes += ".. automodule:: reweight.torch.regularization\n   :no-members:\n"
    (folder / "torch_recipes.rst").write_text(recipes if HAS_TORCH else missing)
    for package in names:
        module = import_module(package)
        lines = [package, "=" * len(package), "", module.__doc__.strip(), ""]
        lines += [f".. currentmodule:: {package}", ""]
        if module.__all__:
            lines += [".. autosummary::", "   :toctree: generated", ""]
            lines += [f"   {name}" for name in module.__all__]
        (folder / f"{package}.rst").write_text("\n".join(lines) + "\n")


def copy_vignettes() -> None:
    """Vignettes are scripts in the percent format; the build runs them."""
    folder = HERE / "vignettes"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "vignettes", folder, ignore=shutil.ignore_patterns("demo.py", "_*"))


write_reference()
copy_vignettes()


def skip_members_of_others(app, what, name, member, skip, options):
    """Leave out what classes inherit from scikit-learn and Python."""
    function = getattr(member, "fget", member)
    return skip or (getattr(function, "__module__", None) or "").split(".")[0] not in PACKAGES


def escape_fitted_names_in_types(app, what, name, thing, options, lines):
    """Keep reST from reading `n_features_in_` in the type of an entry as a link."""
    for i, line in enumerate(lines):
        if ENTRY.match(line):
            lines[i] = re.sub(r"(?<=[a-z])_(?=[,)])", r"\\_", line)


def setup(app):
    app.connect("autodoc-skip-member", skip_members_of_others)
    app.connect("autodoc-process-docstring", escape_fitted_names_in_types, priority=400)
