"""Energy balancing of one arm: our exact program beside the same dense program in OSQP."""

from collections.abc import Iterator

import numpy as np
import osqp
import scipy.sparse as sp
from case import Case
from problems._balancing_data import two_arms
from scipy.spatial.distance import cdist

from reweight.solvers.dense_qp import dense_qp

PENALTY = 1e-4


def cases(quick: bool) -> Iterator[Case]:
    for n_rows in [1000] if quick else [1000, 2000, 4000]:
        X, treatment = two_arms(3 * n_rows, 4)
        controls, treated = X[treatment == 0][:n_rows], X[treatment == 1]
        # The kernel |x - z| + |y - z| - |x - y| is definite; weights that sum to one see no z.
        origin = np.linalg.norm(controls - treated.mean(axis=0), axis=1)
        K = 2 * (origin[:, None] + origin - cdist(controls, controls))
        c = 2 * (origin - cdist(controls, treated).mean(axis=1))

        def judge(w, K=K, c=c):
            w = np.maximum(w, 0) / np.maximum(w, 0).sum()
            return {"objective": float(0.5 * w @ K @ w + 0.5 * PENALTY * w @ w - c @ w)}

        def ours(K=K, c=c):
            return dense_qp(K, c, diagonal=PENALTY).x

        def theirs(K=K, c=c):
            n = len(c)
            solver = osqp.OSQP()
            solver.setup(
                sp.csc_matrix(np.triu(K + PENALTY * np.eye(n))),
                -c,
                sp.vstack([np.ones((1, n)), sp.eye(n)], format="csc"),
                np.r_[1.0, np.zeros(n)],
                np.r_[1.0, np.full(n, np.inf)],
                eps_abs=1e-9,
                eps_rel=1e-9,
                polishing=True,
                max_iter=20_000,
                verbose=False,
            )
            return solver.solve().x

        size = {"rows": n_rows}
        yield Case("counterpoise", size, ours, judge)
        yield Case("osqp", size, theirs, judge)
