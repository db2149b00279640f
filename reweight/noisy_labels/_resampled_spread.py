"""How far models of subsamples disagree about rows that they have not seen."""

import numpy as np
from numpy.typing import NDArray

# Few of the models have not seen a row, so its spread is pulled to that of all rows by as much as
# so many more predictions would.
PRIOR_PREDICTIONS = 2.0


def pooled_spread(P: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of each column, pulled to that of all columns.

    Parameters
    ----------
    P : ndarray of shape (n_models, n_samples)
        Predictions, NaN by models that have seen the row.

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    count = np.isfinite(P).sum(axis=0)
    mean = np.nansum(P, axis=0) / np.maximum(count, 1)
    squares = np.nansum((P - mean) ** 2, axis=0)
    freedom = np.maximum(count - 1, 0)
    pooled = squares.sum() / max(freedom.sum(), 1)
    return np.sqrt((squares + PRIOR_PREDICTIONS * pooled) / (freedom + PRIOR_PREDICTIONS))
