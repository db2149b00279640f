"""Time the methods beside their peers, on one thread, and judge what each returns.

    python benchmarks/run.py [PROBLEM ...] [--repeats 3] [--quick]

Every module of `benchmarks/problems` is a problem: its `cases(quick)` yields `Case`s. The fastest
of the repeats counts, after one run that pays for compilation. Peers come with the `bench` extra.
"""

import argparse
import json
import os
import platform
import sys
import time
import tracemalloc
import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import report
from case import Case
from threadpoolctl import threadpool_limits

HERE = Path(__file__).parent
ROW_FIGURES = ("library", "seconds", "peak_mb")
OPTIONAL = ("torch",)
LIBRARIES = ("numpy", "scipy", "scikit-learn", "numba", "cvxpy")


def measure(case: Case, repeats: int) -> dict:
    """Seconds of the fastest run, memory traced in another, and what judges the result."""
    tracemalloc.start()
    solution = case.run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        solution = case.run()
        seconds.append(time.perf_counter() - start)
    return {
        **case.size,
        "library": case.library,
        "seconds": min(seconds),
        "peak_mb": peak / 1e6,
        **case.quality(solution),
    }


def environment() -> dict:
    """What the figures depend on besides the code."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": 1,
        **{name: version(name) for name in LIBRARIES},
    }


def with_ratios(rows: list[dict]) -> pd.DataFrame:
    """The rows as a table, each library's time over ours at the same size."""
    table = pd.DataFrame(rows)
    sizes = [column for column in table if column not in ROW_FIGURES and table[column].dtype == int]
    ours = table[table["library"] == "counterpoise"].groupby(sizes)["seconds"].min()
    keys = pd.MultiIndex.from_frame(table[sizes]) if len(sizes) > 1 else table[sizes[0]]
    table.insert(
        len(sizes) + 1, "ratio", table["seconds"].to_numpy() / ours.reindex(keys).to_numpy()
    )
    return table


def main() -> None:
    available = sorted(path.stem for path in (HERE / "problems").glob("[!_]*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=", ".join(available))
    parser.add_argument("--repeats", type=int, default=3, help="runs of each case (default 3)")
    parser.add_argument("--quick", action="store_true", help="small sizes only; nothing is written")
    options = parser.parse_args()
    unknown = set(options.problems) - set(available)
    if unknown:
        parser.error(f"unknown problems {sorted(unknown)}; choose from {available}")

    results = {}
    for problem in options.problems or available:
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                module = import_module(f"problems.{problem}")
            except ModuleNotFoundError as error:
                if error.name not in OPTIONAL:
                    raise
                print(f"\n{problem}: left out, it needs {error.name}")
                continue
            results[problem] = [
                measure(case, options.repeats) for case in module.cases(options.quick)
            ]
        print(f"\n{problem}")
        print(with_ratios(results[problem]).to_string(index=False, float_format="{:.3g}".format))
    if not options.quick:
        path = HERE / "results.json"
        kept = json.loads(path.read_text())["problems"] if path.exists() else {}
        record = {"environment": environment(), "problems": {**kept, **results}}
        path.write_text(json.dumps(record, indent=1) + "\n")
        print(f"\nwritten to {path}", file=sys.stderr)
        report.main()


if __name__ == "__main__":
    main()
