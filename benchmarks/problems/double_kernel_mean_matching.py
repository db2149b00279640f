"""Double kernel mean matching of 1e5 source and 1e5 target rows through 300 landmarks.

No peer solves it at this size. `gap` is certified for the kernel of the landmarks, in units of
1/n + 1/t; D = 1 is plain kernel mean matching, D = 25 lets target weights fall far.
"""

from collections.abc import Iterator

from case import Case
from problems._shift_data import BANDWIDTH, two_samples

from shift import DoubleKernelMeanMatching


def cases(quick: bool) -> Iterator[Case]:
    n_rows = 10_000 if quick else 100_000
    X, X_target = two_samples(n_rows)

    def judge(weighter):
        return {
            "objective": weighter.objective_,
            "gap": weighter.optimality_gap_,
            "ess_share": weighter.ess_ / n_rows,
            "mean_target_weight": float(weighter.raw_target_weights_.mean()),
        }

    for D in (1, 4, 25):

        def ours(D=D):
            weighter = DoubleKernelMeanMatching(
                D, bandwidth=BANDWIDTH, n_components=300, certify="landmarks", random_state=0
            )
            return weighter.fit(X, X_target=X_target)

        yield Case("counterpoise", {"rows": n_rows, "D": D}, ours, judge)
