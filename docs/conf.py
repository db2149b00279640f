"""Sphinx configuration; the reference pages are written from the packages' own lists of names."""

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import pages  # noqa: E402

from reweight import __version__  # noqa: E402

HAS_TORCH = find_spec("torch") is not None
USES_TORCH = re.compile(r"^(import torch|from (torch|reweight\.torch)\b)", re.MULTILINE)
ENTRY = re.compile(r"\s*[\w, .*]+ : ")
MARKUP = re.compile(r"(?<=[a-z])_(?![\w`])|(?<!\\)\|")

project = "Counterpoise"
author = "the Counterpoise developers"
copyright = author
release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "numpydoc",
    "myst_nb",
    "sphinx_design",
    "cross_links",
    "figure_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_ext", "conf.py"]
# Names in docstrings stand in single backticks: links where they lead somewhere, code otherwise.
default_role = "py:obj"
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
# Without PyTorch the pages that need it are shown, not run.
nb_execution_excludepatterns = [
    path.name for path in pages.vignettes() if not HAS_TORCH and USES_TORCH.search(path.read_text())
]
# Progress bars write to standard error, and their last state is no output worth showing.
nb_output_stderr = "remove"

html_theme = "pydata_sphinx_theme"
html_title = "Counterpoise"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_context = {"default_mode": "light"}
html_theme_options = {
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_prev_next": False,
    "show_toc_level": 2,
    # The wide tables of the results have no contents beside them.
    "secondary_sidebar_items": {
        page: ["page-toc"] for page in ("which_method", "api/**", "papers/*", "vignettes/*")
    },
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Pages without neighbours below them have no use for an empty sidebar.
html_sidebars = {page: [] for page in ("index", "which_method", "gallery")}
# Kernels of notebooks must find the packages when they are not installed.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)

pages.write_reference([*pages.PACKAGES, *["reweight.torch"] * HAS_TORCH])
autosummary_generate = [str(path) for path in (HERE / "api").glob("*.rst")]
pages.write_vignettes()
pages.write_results()


def skip_members_of_others(app, what, name, member, skip, options):
    """Leave out what classes inherit from scikit-learn and Python."""
    function = getattr(member, "fget", member)
    return skip or (getattr(function, "__module__", None) or "").split(".")[0] not in pages.PACKAGES


def keep_names_from_being_markup(app, what, name, thing, options, lines):
    """Escape what reST would read as markup in prose and types: fitted names_, and |sizes|."""
    inside = None  # indentation of the directive or literal block that a line may belong to
    for i, line in enumerate(lines):
        depth = len(line) - len(line.lstrip())
        if line.strip() and inside is not None and depth <= inside:
            inside = None
        if line.lstrip().startswith(".. ") or line.rstrip().endswith("::"):
            inside = depth
        elif inside is None and not line.lstrip().startswith((">>>", "...", "|", "+")):
            entry = ENTRY.match(line)
            names = entry[0] if entry else ""
            parts = re.split(r"(`+[^`]*`+)", line.removeprefix(names))
            parts[::2] = [MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
            lines[i] = names + "".join(parts)


def setup(app):
    app.connect("autodoc-skip-member", skip_members_of_others)
    app.connect("autodoc-process-docstring", keep_names_from_being_markup, priority=400)
