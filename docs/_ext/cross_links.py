"""Links between reference, vignettes and papers, and a check that links lead somewhere."""

import re
from importlib.util import find_spec

import pages
from sphinx.util import logging

logger = logging.getLogger(__name__)


def pages_that_mention(name: str) -> dict[str, list[str]]:
    """Return, by kind, the documents that speak of a public name in full."""
    short = re.compile(rf"\b{name.rpartition('.')[2]}\b")
    imported = re.compile(rf"^from {name.rpartition('.')[0]} import", re.MULTILINE)
    scripts = [(path, path.read_text()) for path in pages.vignettes()]
    papers = sorted((pages.DOCS / "papers").glob("*.md"))
    role = f"`{name}`"
    return {
        "Vignettes": [
            f"/vignettes/{path.stem}"
            for path, text in scripts
            if imported.search(text) and short.search(text)
        ],
        "Papers": [
            f"/papers/{path.stem}"
            for path in papers
            if path.stem != "index" and role in path.read_text()
        ],
    }


def add_see_where(app, what, name, thing, options, lines):
    """End the entry of each public class and function with where it is used and discussed."""
    package = name.rpartition(".")[0]
    if what not in ("class", "function") or package not in (*pages.PACKAGES, "reweight.torch"):
        return
    for kind, documents in pages_that_mention(name).items():
        if documents:
            lines += ["", f".. rubric:: {kind}", ""]
            lines += [f"- :doc:`{document}`" for document in documents] + [""]


def report_missing(app, env, node, contnode):
    """Warn of names of ours that no page documents, outside the reference itself."""
    target = node.get("reftarget", "")
    theirs = target.split(".")[0] not in pages.PACKAGES or node.get("refdoc", "").startswith("api/")
    untold = target.startswith("reweight.torch.") and not app.config.has_torch
    if node.get("refdomain") == "py" and not theirs and not untold:
        logger.warning("no page documents %s", target, location=node)


def setup(app):
    """Connect the hooks."""
    app.add_config_value("has_torch", find_spec("torch") is not None, "env")
    app.connect("autodoc-process-docstring", add_see_where, priority=900)
    app.connect("missing-reference", report_missing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
