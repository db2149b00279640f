"""Thumbnails of every figure of the executed vignettes, and of plots that no vignette draws.

The directive `vignette-figures` is filled when all pages are read; `other-plots` draws the examples
in the docstrings of those plot functions that no vignette names.
"""

import doctest
import re
from importlib import import_module

import pages
from docutils import nodes
from docutils.parsers.rst import Directive


def plot_functions() -> dict[str, str]:
    """Return the full name of each public plot function by its short one."""
    found = {}
    for package in pages.PACKAGES:
        public = import_module(package)._PUBLIC
        found |= {name: f"{package}.{name}" for name in public if public[name].endswith(".plots")}
    return found


def named_in(source: str) -> list[str]:
    """Return the full names of the plot functions that a piece of code calls."""
    return [full for name, full in plot_functions().items() if re.search(rf"\b{name}\(", source)]


class FiguresOfVignettes(nodes.General, nodes.Element):
    """Stands for the figures until all vignettes have been run."""


class VignetteFigures(Directive):
    """Leave a place for the figures of the vignettes."""

    def run(self):
        """Return the placeholder."""
        return [FiguresOfVignettes()]


class OtherPlots(Directive):
    """Draw the examples of plot functions that no vignette uses."""

    def run(self):
        """Return a grid of cards."""
        sources = "\n".join(path.read_text() for path in pages.vignettes())
        drawn = set(named_in(sources))
        others = [full for full in plot_functions().values() if full not in drawn]
        grid = nodes.container(classes=["figure-grid"])
        folder = pages.DOCS / "drawn"
        folder.mkdir(exist_ok=True)
        for full in others:
            draw_example(full, folder / f"{full}.png")
            card = nodes.container(classes=["figure-card"])
            card += nodes.image(uri=f"/drawn/{full}.png", alt=full)
            card += caption_of(full)
            grid += card
        return [grid]


def caption_of(full: str) -> nodes.paragraph:
    """Return the name, to be linked when pages are written, and what it draws."""
    package, _, name = full.rpartition(".")
    about = getattr(import_module(package), name).__doc__.strip().splitlines()[0]
    paragraph = nodes.paragraph(classes=["figure-caption"])
    paragraph += nodes.literal(full, full, classes=["to-reference"])
    paragraph += nodes.Text(f" {about}")
    return paragraph


def draw_example(full: str, path) -> None:
    """Run the example in the docstring of a plot function and save what it drew."""
    import matplotlib.pyplot as plt

    package, _, name = full.rpartition(".")
    example = doctest.DocTestParser().get_examples(getattr(import_module(package), name).__doc__)
    plt.switch_backend("agg")
    exec("".join(line.source for line in example), {})
    plt.gcf().savefig(path, dpi=120, bbox_inches="tight")
    plt.close("all")


def link_to(app, docname: str, full: str, text: str) -> nodes.Node:
    """Return a link to the reference page of a name, or the bare name where there is none."""
    entry = app.env.get_domain("py").objects.get(full)
    literal = nodes.literal(text, text)
    if entry is None:
        return literal
    uri = app.builder.get_relative_uri(docname, entry.docname) + f"#{entry.node_id}"
    return nodes.reference("", "", literal, refuri=uri, internal=True)


def cards(app, docname: str):
    """Yield one card for each figure of each vignette, in the order of the pages."""
    ordered = [stem for stems in pages.THEMES.values() for stem in stems]
    stems = sorted(
        (path.stem for path in pages.vignettes()),
        key=lambda stem: ordered.index(stem) if stem in ordered else len(ordered),
    )
    for stem in stems:
        source = f"vignettes/{stem}"
        if source not in app.env.found_docs:
            continue
        tree = app.env.get_doctree(source)
        title = next(tree.findall(nodes.title)).astext()
        for image in tree.findall(nodes.image):
            cell, section = image.parent, image.parent
            while cell is not None and "cell" not in cell.get("classes", ()):
                cell = cell.parent
            while not isinstance(section, nodes.section):
                section = section.parent
            uri = app.builder.get_relative_uri(docname, source)
            card = nodes.container(classes=["figure-card"])
            to_section = f"{uri}#{section['ids'][0]}"
            thumbnail = image.deepcopy()
            thumbnail["alt"] = section[0].astext()
            card += nodes.paragraph(
                "", "", nodes.reference("", "", thumbnail, refuri=to_section, internal=True)
            )
            caption = nodes.paragraph(classes=["figure-caption"])
            heading = section[0].astext()
            caption += nodes.reference("", heading, refuri=to_section, internal=True)
            if heading != title:
                caption += nodes.emphasis("", f" {title}")
            for full in named_in(cell.astext() if cell is not None else ""):
                caption += nodes.Text(" ")
                caption += link_to(app, docname, full, full.rpartition(".")[2])
            card += caption
            yield card


def fill(app, doctree, docname):
    """Put the figures in their place, and link captions to the reference."""
    for node in list(doctree.findall(FiguresOfVignettes)):
        grid = nodes.container(classes=["figure-grid"])
        grid += list(cards(app, docname))
        node.replace_self(grid)
    for literal in list(doctree.findall(nodes.literal)):
        if "to-reference" in literal["classes"]:
            full = literal.astext()
            literal.replace_self(link_to(app, docname, full, full.rpartition(".")[2]))


def drop_axes(app, doctree):
    """Leave out the text of axes that a cell ends with: their picture follows."""
    for output in list(doctree.findall(nodes.container)):
        is_bundle = output.get("nb_element") == "mime_bundle"
        if is_bundle and output.astext().startswith(("<Axes", "[<Axes", "array([<Axes")):
            output.parent.remove(output)


def setup(app):
    """Connect directives and hooks."""
    app.add_node(FiguresOfVignettes)
    app.add_directive("vignette-figures", VignetteFigures)
    app.add_directive("other-plots", OtherPlots)
    app.connect("doctree-read", drop_axes)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
