"""Who imports whom, and what importing costs."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("reweight", "causal", "shift")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
CONTRACT_IDS = [contract["id"] for contract in CONTRACTS]

HEAVY = {
    "arviz",
    "cvxpy",
    "dask",
    "distributed",
    "matplotlib",
    "nutpie",
    "pymc",
    "pytensor",
    "torch",
}

# One import a contract that it must refuse: module to write to, what it imports.
VIOLATIONS = {
    "packages": ("shift/covariate/intruder.py", "import causal"),
    "floors": ("reweight/validation.py", "from reweight.solvers import result"),
    "causal-families": ("causal/effects/intruder.py", "def f():\n    import causal.balancing"),
    "shift-families": ("shift/target/intruder.py", "import shift.covariate"),
    "core-only": ("causal/effects/borrower.py", "def f():\n    import reweight.quantiles"),
    "torch": ("causal/balancing/tensors.py", "def f():\n    import torch"),
    "heavy": ("reweight/solvers/heavy.py", "def f():\n    import cvxpy"),
}


def run_python(code, *arguments, cwd=ROOT):
    """What a fresh interpreter prints, as JSON."""
    environment = {**os.environ, "PYTHONPATH": str(cwd)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# For each contract: what linting says before and after the violation is written.
LINT = """
import json, pathlib, sys
from importlinter.cli import lint_imports
status = {}
for contract, (name, code) in json.loads(sys.argv[1]).items():
    path = pathlib.Path(name)
    text = path.read_text() if path.exists() else ""
    path.write_text(text)
    before = lint_imports(limit_to_contracts=(contract,), no_cache=True)
    path.write_text(text + "\\n" + code + "\\n")
    status[contract] = before, lint_imports(limit_to_contracts=(contract,), no_cache=True)
    path.write_text(text)
print("\\n" + json.dumps(status))
"""


@pytest.mark.parametrize("contract", CONTRACT_IDS)
def test_import_contract_is_kept(contract, capsys, monkeypatch):
    from importlinter.cli import lint_imports

    monkeypatch.chdir(ROOT)
    status = lint_imports(limit_to_contracts=(contract,), no_cache=True)
    assert status == 0, capsys.readouterr().out


def test_import_contracts_refuse_what_they_forbid(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignore)
    for family in ("reweight/quantiles", "shift/covariate", "shift/target"):
        (tmp_path / family).mkdir(exist_ok=True)
        (tmp_path / family / "__init__.py").touch()
    status = run_python(LINT, json.dumps(VIOLATIONS), cwd=tmp_path)
    assert status == {contract: [0, 1] for contract in CONTRACT_IDS}


def test_importing_the_packages_loads_nothing_heavy():
    loaded = run_python(
        "import json, sys, reweight, causal, shift; print(json.dumps(sorted(sys.modules)))"
    )
    assert set(loaded).isdisjoint(HEAVY | {"numba", "scipy.optimize", "sklearn"})


IMPORT_EVERYTHING = """
import importlib, json, sys
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", []):
        getattr(module, public)
print(json.dumps(sorted(sys.modules)))
"""


def test_no_submodule_and_no_public_name_loads_a_heavy_library():
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    dotted = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    modules = [name.removesuffix(".__init__") for name in dotted]
    assert {"reweight.base", "causal.balancing"} <= set(modules)
    loaded = run_python(
        IMPORT_EVERYTHING, *(name for name in modules if not name.startswith("reweight.torch"))
    )
    assert set(loaded).isdisjoint(HEAVY)


def test_torch_is_asked_for_only_by_its_own_package_and_by_name():
    message = run_python(
        "import json, sys; sys.modules['torch'] = None\n"
        "import reweight, causal, shift\n"
        "try: import reweight.torch\n"
        "except ImportError as error: print(json.dumps(str(error)))"
    )
    assert message == 'reweight.torch needs PyTorch: pip install "counterpoise[torch]"'


def test_importing_causal_takes_less_than_a_second():
    code = (
        "import json, time; start = time.perf_counter(); import causal; "
        "print(json.dumps(time.perf_counter() - start))"
    )
    assert min(run_python(code) for _ in range(3)) < 1.0
