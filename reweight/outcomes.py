"""Recorded outcomes as numbers, checked once for all regressions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import column_or_1d

from reweight.validation import check_magnitude


def check_outcomes(owner: str, y: Any, *, allow_nonfinite: bool = False) -> NDArray[np.float64]:
    """Outcomes as float64, with the rows at fault named.

    Parameters
    ----------
    owner : str
        Who is asking, for error messages.
    y : array-like of shape (n_samples,)
        Outcomes.
    allow_nonfinite : bool, default=False
        Whether NaN and infinity pass, for callers that say more about them.

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If they are missing, not numbers, not finite, or too large or small to
        be squared.
    """
    if y is None:
        raise ValueError(
            f"{owner} requires y to be passed, but the target y is None; pass the recorded outcomes"
        )
    y = column_or_1d(y, warn=True)
    # Dates would turn into counts of whatever unit they are stored in.
    if y.dtype.kind in "Mm":
        raise ValueError(
            f"{owner}: y has type {y.dtype} and is not numeric; pass numbers, such as days since "
            "a date"
        )
    try:
        y = y.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{owner}: y has type {y.dtype} and is not numeric; pass numbers as outcomes"
        ) from error
    bad = np.flatnonzero(~np.isfinite(y))
    if len(bad) and not allow_nonfinite:
        kind = "NaN" if np.isnan(y).any() else "inf"
        raise ValueError(
            f"{owner}: Input y contains {kind}: {len(bad)} outcomes are NaN or infinite, the first "
            f"in rows {bad[:5].tolist()}; drop those rows"
        )
    check_magnitude(y[np.isfinite(y)], name=f"{owner}: y")
    return y
