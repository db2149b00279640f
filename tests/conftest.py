"""What all tests share, and the gate for doctests of modules that need an extra."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("MPLBACKEND", "agg")

ROOT = Path(__file__).parents[1]
# Modules whose examples need an extra that a default installation does not bring.
NEEDS_EXTRA = {ROOT / "reweight" / "torch": "torch", ROOT / "tests" / "reweight" / "torch": "torch"}


class ExtrasGate:
    """Leave out what needs a library that is not installed, and say so in the header."""

    def __init__(self):
        self.closed = {
            path: library
            for path, library in NEEDS_EXTRA.items()
            if path.exists() and importlib.util.find_spec(library) is None
        }

    def pytest_ignore_collect(self, collection_path):
        return True if collection_path in self.closed else None

    def pytest_report_header(self):
        return [f"not collected, {lib} is missing: {path}" for path, lib in self.closed.items()]


class FigureSweeper:
    """Close what a test or a docstring has drawn; matplotlib warns about twenty open figures."""

    def pytest_runtest_teardown(self):
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")


def pytest_configure(config):
    config.pluginmanager.register(ExtrasGate(), "extras-gate")
    config.pluginmanager.register(FigureSweeper(), "figure-sweeper")


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)
