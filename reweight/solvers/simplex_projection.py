"""Euclidean projection of rows onto the simplex."""

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray


@njit(cache=True)
def _project_row(v, total, out):
    """Project one row by the pivot search of Condat's algorithm; `out` is scratch, then the answer.

    The candidates for the support are kept in the front of `out`; the threshold
    only rises, so candidates that fall below it are dropped until none does.
    """
    out[0] = v[0]
    count = 1
    threshold = v[0] - total
    waiting = v.shape[0]
    for j in range(1, v.shape[0]):
        value = v[j]
        if value > threshold:
            threshold += (value - threshold) / (count + 1)
            if threshold > value - total:
                out[count] = value
                count += 1
            else:
                # The candidates so far wait at the back; they may belong after all. The last
                # moves first: front and back may overlap.
                for i in range(count - 1, -1, -1):
                    waiting -= 1
                    out[waiting] = out[i]
                out[0] = value
                count = 1
                threshold = value - total
    for i in range(waiting, v.shape[0]):
        value = out[i]
        if value > threshold:
            out[count] = value
            count += 1
            threshold += (value - threshold) / count
    changed = True
    while changed:
        changed = False
        kept = 0
        before = count
        for i in range(before):
            value = out[i]
            if value <= threshold:
                changed = True
                count -= 1
                threshold += (threshold - value) / count
            else:
                out[kept] = value
                kept += 1
        count = kept
    # Summing the support afresh removes the round-off of the running updates.
    sum_ = 0.0
    for i in range(count):
        sum_ += out[i]
    threshold = (sum_ - total) / count
    for j in range(v.shape[0]):
        out[j] = max(v[j] - threshold, 0.0)


@njit(cache=True, parallel=True)
def _project_rows(V, total, out):
    for i in prange(V.shape[0]):
        _project_row(V[i], total, out[i])


def project_simplex(V: ArrayLike, total: float = 1.0) -> NDArray[np.float64]:
    """Nearest point of the simplex {w >= 0, sum w = total} to each row.

    Parameters
    ----------
    V : array-like of shape (n, d) or (d,)
        Rows to project.
    total : float, default=1
        Sum of each projected row.

    Returns
    -------
    ndarray of the shape of `V`

    Raises
    ------
    ValueError
        If `total` is not positive, a row is empty or an entry is not finite.

    References
    ----------
    Condat, L. (2016). Fast projection onto the simplex and the l1 ball.
    Mathematical Programming, 158, 575-585.

    Examples
    --------
    >>> from reweight.solvers.simplex_projection import project_simplex
    >>> project_simplex([[0.5, 0.75, -1.0]])
    array([[0.375, 0.625, 0.   ]])
    """
    V = np.ascontiguousarray(V, dtype=np.float64)
    if V.ndim not in (1, 2) or V.shape[-1] == 0:
        raise ValueError(f"project_simplex: V has shape {V.shape}; pass rows of at least one entry")
    if not (np.isfinite(total) and total > 0):
        raise ValueError(f"project_simplex: total must be positive, got {total}")
    if not np.isfinite(V).all():
        raise ValueError(
            f"project_simplex: V has {int((~np.isfinite(V)).sum())} entries that are NaN or "
            "infinite; pass finite rows"
        )
    rows = np.atleast_2d(V)
    out = np.empty_like(rows)
    if len(rows) == 1:
        _project_row(rows[0], float(total), out[0])
    else:
        _project_rows(rows, float(total), out)
    return out.reshape(V.shape)
