"""One of two processes that does all that needs two: python two_processes.py RANK FOLDER."""

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    # Found only from a script of this folder, and not by a collector of doctests.
    for name in ("gloo_worker", "observing_worker"):
        import_module(name).main(rank, folder / name)
