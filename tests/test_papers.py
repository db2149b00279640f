"""Pages about papers name things that exist: public names, tests, benchmarks, results."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "papers").glob("*.md"))
NAME = re.compile(r"\{py:(?:class|func|meth)\}`([\w.]+)`")
FILE = re.compile(r"`((?:tests|benchmarks)/[\w/.]+)`")
RESULT = re.compile(r"\(\.\./results/(\w+)\.md\)")


def resolve(name):
    """Return the object of a dotted name."""
    parts = name.split(".")
    depth = 2 if parts[:2] == ["reweight", "torch"] else 1
    thing = import_module(".".join(parts[:depth]))
    for part in parts[depth:]:
        thing = getattr(thing, part)
    return thing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_exists(page):
    text = page.read_text()
    for path in FILE.findall(text):
        assert (ROOT / path).exists(), path
    results = {path.stem for path in (ROOT / "benchmarks" / "results").iterdir()}
    assert set(RESULT.findall(text)) <= results
    names = NAME.findall(text)
    if any(name.startswith("reweight.torch") for name in names):
        pytest.importorskip("torch")
    for name in names:
        assert resolve(name) is not None


def test_the_index_lists_every_page_once():
    index = (ROOT / "docs" / "papers" / "index.md").read_text()
    linked = re.findall(r"^\| \[[^]]*\]\((\w+)\)", index, flags=re.MULTILINE)
    pages = [page.stem for page in PAGES if page.stem != "index"]
    assert sorted(linked) == pages
    assert re.findall(r"^(\w+)$", index.split(":hidden:")[1], flags=re.MULTILINE) == linked
