"""One of two processes that does all that needs two: python two_processes.py RANK FOLDER."""

import sys
from pathlib import Path

import gloo_worker
import observing_worker

if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    for worker in (gloo_worker, observing_worker):
        worker.main(rank, folder / worker.__name__)
