"""Every vignette runs from its first cell to its last, as the notebook it is."""

import importlib.util
import re
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "vignettes"
VIGNETTES = [path for path in sorted(FOLDER.glob("*.py")) if "# %%" in path.read_text()]
# Ten million rows on a cluster; the site runs it, too.
SLOW = {"scale_out"}
USES_TORCH = re.compile(r"^(import torch|from (torch|reweight\.torch)\b)", re.MULTILINE)


def case(path):
    """A vignette as a test; those that need PyTorch are named so, and skipped without it."""
    if path.stem in SLOW:
        return pytest.param(path, id=path.stem, marks=pytest.mark.slow)
    if not USES_TORCH.search(path.read_text()):
        return pytest.param(path, id=path.stem)
    missing = importlib.util.find_spec("torch") is None
    skip = pytest.mark.skipif(missing, reason="needs PyTorch; run `make test-torch`")
    return pytest.param(path, id=f"{path.stem}-torch", marks=skip)


def test_there_are_vignettes():
    assert VIGNETTES


@pytest.mark.parametrize("path", [case(path) for path in VIGNETTES])
def test_vignette_runs(path, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    notebook = jupytext.read(path)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert shown
    assert not [output for output in shown if output.get("name") == "stderr"]
