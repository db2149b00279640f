"""The map that makes reference rows uniform on the cube: bins of one covariate after another."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

Array = NDArray[np.float64]
SMOOTHINGS = ("constant", "linear", "quadratic")


def smooth_step(position: Array, smoothing: str) -> Array:
    """Distribution function of a bump on [0, 1].

    Parameters
    ----------
    position : ndarray
        Where in its bin a row lies, from 0 (start) to 1 (end).
    smoothing : {"constant", "linear", "quadratic"}
        Degree of the density: flat, a tent, or three parabolas.

    Returns
    -------
    ndarray
        Rises from 0 to 1; value and slope (for all but "constant") are
        continuous across bins.
    """
    if smoothing == "constant":
        return position
    left = np.minimum(position, 1 - position)
    if smoothing == "linear":
        half = 2 * left**2
    else:
        x = left - 0.5
        half = np.where(left < 0.25, 16 / 3 * left**3, 0.5 + 2 * x - 16 / 3 * x**3)
    return np.where(position <= 0.5, half, 1 - half)


def bins_per_column(n: int, d: int, rng: Generator | None) -> NDArray[np.intp]:
    """Numbers of bins that are as equal as may be and whose product is less than n, or n.

    Parameters
    ----------
    n : int
        Number of reference rows.
    d : int
        Number of columns.
    rng : Generator or None
        Permutes the numbers over the columns; None puts the larger ones first.

    Returns
    -------
    ndarray of int of shape (d,)
    """
    root = max(round(n ** (1 / d)), 1)
    # Whole numbers decide, as the floating root of 5^3 may be less than 5.
    while root**d > n:
        root -= 1
    while (root + 1) ** d <= n:
        root += 1
    bins = [root] * d
    for k in range(d):
        if (root + 1) ** (k + 1) * root ** (d - k - 1) >= n:
            break
        bins[k] += 1
    bins = np.array(bins, dtype=np.intp)
    return bins if rng is None else rng.permutation(bins)


@dataclass(frozen=True)
class Splits:
    """Bins of one column in every node of the tree.

    A boundary is a pair (cut, share): a row lies to its right if its value
    exceeds the cut, or equals it and the row's place among the rows that tie is
    at least the share.

    Parameters
    ----------
    cuts : ndarray of shape (n_nodes, n_bins + 1)
        Boundaries of the bins, from the lower to the upper end of the column.
    shares : ndarray of shape (n_nodes, n_bins + 1)
        Share of the rows at a cut that is left of it; 1 between two values.
    levels : ndarray of shape (n_bins + 1,)
        Where the bins begin and end in [0, 1].
    """

    cuts: Array
    shares: Array
    levels: Array

    @property
    def n_bins(self) -> int:
        """Bins per node."""
        return len(self.levels) - 1


@njit(cache=True, nogil=True)
def _locate(x, place, node, cuts, shares, bins, position):
    """Bin of each row within its node, and where it lies in the bin, from 0 to 1."""
    last = cuts.shape[1] - 1
    for i in range(len(x)):
        cut, share = cuts[node[i]], shares[node[i]]
        # Boundaries 1 ... last - 1 are sorted; count those that the row lies right of.
        low, high = 0, last - 1
        while low < high:
            middle = (low + high + 1) // 2
            if x[i] > cut[middle] or (x[i] == cut[middle] and place[i] >= share[middle]):
                low = middle
            else:
                high = middle - 1
        start, end = cut[low], cut[low + 1]
        bins[i] = low
        # A bin of no length is all end.
        position[i] = min(max((x[i] - start) / (end - start), 0.0), 1.0) if end > start else 1.0


@dataclass(frozen=True)
class SortedRows:
    """Rows sorted by node, value and key, with their mass.

    Parameters
    ----------
    order : ndarray of int of shape (n,)
        The sorting permutation.
    x, node : ndarray of shape (n,)
        Sorted values and nodes.
    mass : ndarray of shape (n + 1,)
        Sum of the weights of all rows before.
    first : ndarray of int of shape (n,)
        First row of those with the same node and value.
    after : ndarray of int of shape (n,)
        First row after them.
    """

    order: NDArray[np.intp]
    x: Array
    node: NDArray[np.intp]
    mass: Array
    first: NDArray[np.intp]
    after: NDArray[np.intp]

    @classmethod
    def of(cls, x: Array, node: NDArray[np.intp], key: Array, weight: Array) -> "SortedRows":
        """Sort rows."""
        order = np.lexsort((key, x, node))
        x, node = x[order], node[order]
        new = np.ones(len(x), dtype=bool)
        new[1:] = (x[1:] != x[:-1]) | (node[1:] != node[:-1])
        starts = np.append(np.flatnonzero(new), len(x))
        block = np.cumsum(new) - 1
        mass = np.append(0.0, np.cumsum(weight[order]))
        return cls(order, x, node, mass, starts[block], starts[block + 1])

    def share_below(self, row: NDArray[np.intp], mass: Array) -> Array:
        """Which share of the rows that tie with `row` lies below a given mass."""
        start, end = self.mass[self.first[row]], self.mass[self.after[row]]
        return (mass - start) / (end - start)

    @property
    def places(self) -> Array:
        """Middle of each row's own share of the rows that it ties with, in the given order."""
        middle = (self.mass[:-1] + self.mass[1:]) / 2
        places = np.empty(len(self.x))
        places[self.order] = self.share_below(np.arange(len(self.x)), middle)
        return places


def _boundary_rows(
    rows: SortedRows, counts: NDArray[np.intp], n_bins: int, equal: bool, rng: Generator | None
) -> NDArray[np.intp]:
    """How many rows of each node lie left of each inner boundary, shape (n_nodes, n_bins - 1)."""
    n_nodes = len(counts)
    steps = np.arange(1, n_bins)
    if n_nodes == 1 and n_bins == counts[0]:
        return steps[None]
    if equal and rng is not None:
        # The rows left over by whole division go to randomly chosen bins.
        chance = rng.random((n_nodes, n_bins)).argsort(axis=1).argsort(axis=1)
        sizes = counts[:, None] // n_bins + (chance < (counts % n_bins)[:, None])
        return sizes.cumsum(axis=1)[:, :-1]
    if equal:
        return (2 * counts[:, None] * steps + n_bins) // (2 * n_bins)
    starts = np.append(0, counts.cumsum())
    low, high = rows.mass[starts[:-1]], rows.mass[starts[1:]]
    goals = low[:, None] + (high - low)[:, None] * (steps / n_bins)
    middle = (rows.mass[:-1] + rows.mass[1:]) / 2
    found = np.searchsorted(middle, goals) - starts[:-1, None]
    return np.clip(found, 0, counts[:, None])


def _fractions(boundaries: NDArray[np.intp], n_bins: int, rng: Generator | None) -> Array:
    """Where in the gap between two neighbours each boundary is cut."""
    repeated = np.zeros(boundaries.shape, dtype=bool)
    same = boundaries[:, 1:] == boundaries[:, :-1]
    repeated[:, 1:] |= same
    repeated[:, :-1] |= same
    if rng is None:
        return np.where(repeated, np.arange(1, n_bins) / n_bins, 0.5)
    fractions = rng.random(boundaries.shape)
    # Several cuts in one gap, of an empty bin, are sorted.
    return np.where(repeated, np.sort(boundaries + fractions, axis=1) - boundaries, fractions)


def fit_splits(
    rows: SortedRows,
    n_nodes: int,
    n_bins: int,
    ends: tuple[float, float],
    equal: bool,
    rng: Generator | None,
) -> Splits:
    """Cut one column into bins of equal mass within every node.

    Parameters
    ----------
    rows : SortedRows
        The reference rows.
    n_nodes, n_bins : int
        Nodes of the tree so far, and bins that each is cut into. As many bins
        as rows give each row its own, of the row's mass.
    ends : tuple of float
        Lower and upper end of the column.
    equal : bool
        Whether all rows weigh the same.
    rng : Generator or None
        Draws cuts and which bins are larger by a row; None cuts half-way.

    Returns
    -------
    Splits
    """
    lower, upper = ends
    counts = np.bincount(rows.node, minlength=n_nodes)
    boundaries = _boundary_rows(rows, counts, n_bins, equal, rng)
    fractions = _fractions(boundaries, n_bins, rng)
    starts = np.append(0, counts.cumsum())[:-1, None]
    inner = (boundaries > 0) & (boundaries < counts[:, None])
    right = starts + boundaries
    last = max(len(rows.x) - 1, 0)
    low = np.where(boundaries > 0, rows.x[np.clip(right - 1, 0, last)], lower)
    high = np.where(boundaries < counts[:, None], rows.x[np.clip(right, 0, last)], upper)
    cuts = np.full((n_nodes, n_bins + 1), lower)
    cuts[:, -1] = upper
    cut = low + fractions * (high - low)
    # Rounding must not push a cut onto the value right of it.
    cuts[:, 1:-1] = np.where((cut >= high) | (cut < low), low, cut)
    tied = inner & (low == high)
    shares = np.ones((n_nodes, n_bins + 1))
    shares[:, 1:-1][tied] = rows.share_below(right[tied], rows.mass[right[tied]])
    levels = np.arange(n_bins + 1) / n_bins
    if n_nodes == 1 and n_bins == counts[0] and not equal:
        levels = rows.mass / rows.mass[-1]
    return Splits(cuts, shares, levels)


@dataclass(frozen=True)
class UniformMap:
    """A fitted map.

    Parameters
    ----------
    lower, upper : ndarray of shape (d,)
        Ends of the columns, a little outside the rows that set the range.
    splits : tuple of Splits
        One per column. In the joint map those of a column have one node for
        every bin of the columns before.
    joint : bool
        Whether the splits form a tree.
    smoothing : str
        How mass is spread within a bin.
    random_ties : bool
        Whether rows that tie are spread over the bins of their value; otherwise
        they share the bin of their average rank.
    """

    lower: Array
    upper: Array
    splits: tuple[Splits, ...]
    joint: bool
    smoothing: str
    random_ties: bool

    def transform(self, X: Array, keys: Array | None = None, weight: Array | None = None) -> Array:
        """Map rows into the cube.

        Parameters
        ----------
        X : ndarray of shape (n, d)
            Rows; values beyond the ends are moved to the ends.
        keys : ndarray of shape (n, d) or None
            Order of rows that tie; not used unless `random_ties`.
        weight : ndarray of shape (n,) or None
            Mass of the rows among those that they tie with.

        Returns
        -------
        ndarray of shape (n, d)
        """
        mapped = np.empty(X.shape)
        node = np.zeros(len(X), dtype=np.intp)
        for k, split in enumerate(self.splits):
            x = np.clip(X[:, k], self.lower[k], self.upper[k])
            place = self._places(x, node, None if keys is None else keys[:, k], weight)
            bins, mapped[:, k] = _apply(split, x, place, node, self.smoothing)
            if self.joint:
                node = node * split.n_bins + bins
        return mapped

    def _places(
        self, x: Array, node: NDArray[np.intp], key: Array | None, weight: Array | None
    ) -> Array:
        if not self.random_ties:
            return np.full(len(x), 0.5)
        weight = np.ones(len(x)) if weight is None else weight
        return SortedRows.of(x, node, key, weight).places


def _apply(
    split: Splits, x: Array, place: Array, node: NDArray[np.intp], smoothing: str
) -> tuple[NDArray[np.intp], Array]:
    """Bin of each row, and its image."""
    bins, position = np.empty(len(x), dtype=np.intp), np.empty(len(x))
    _locate(x, place, node, split.cuts, split.shares, bins, position)
    start, width = split.levels[bins], np.diff(split.levels)[bins]
    return bins, start + width * smooth_step(position, smoothing)


def tie_keys(seed: int, shape: tuple[int, int]) -> Array:
    """The random order of rows that tie, column by column; the same for the same shape."""
    return default_rng([seed, 1]).random(shape)


def fit_uniform_map(
    reference: Array,
    *,
    ends: tuple[Array, Array],
    marginal: bool,
    smoothing: str,
    cut: str,
    seed: int,
    keys: Array | None = None,
    weight: Array | None = None,
) -> UniformMap:
    """Learn the map that makes reference rows uniform.

    Parameters
    ----------
    reference : ndarray of shape (n, d)
        Rows whose image is to be uniform.
    ends : tuple of ndarray of shape (d,)
        Smallest and largest value of each column. A column where they are equal
        gets a single bin.
    marginal : bool
        Whether columns are mapped one by one, each row with a bin of its own.
    smoothing : str
        How mass is spread within a bin.
    cut : {"random", "midpoint"}
        Where between two neighbours bins are cut.
    seed : int
        Seeds the random cuts.
    keys : ndarray of shape (n, d), default=None
        Random order of rows that tie; needed for random cuts.
    weight : ndarray of shape (n,), default=None
        Positive mass of the rows; None for equal masses.

    Returns
    -------
    UniformMap
    """
    n, d = reference.shape
    rng = default_rng([seed, 0]) if cut == "random" else None
    weight = np.ones(n) if weight is None else weight
    equal = bool(weight.min() == weight.max())
    share = np.full(d, 0.5) if rng is None else rng.random(d)
    margin = share / n * (ends[1] - ends[0])
    lower, upper = ends[0] - margin, ends[1] + margin
    varying = ends[1] > ends[0]
    n_bins = np.ones(d, dtype=np.intp)
    joint = not marginal and varying.sum() > 1
    n_bins[varying] = bins_per_column(n, int(varying.sum()), rng) if joint else n
    splits = []
    node = np.zeros(n, dtype=np.intp)
    n_nodes = 1
    for k in range(d):
        x = reference[:, k]
        # Without random ties, the order of rows must not decide.
        rows = SortedRows.of(x, node, weight if rng is None else keys[:, k], weight)
        split = fit_splits(rows, n_nodes, int(n_bins[k]), (lower[k], upper[k]), equal, rng)
        splits.append(split)
        if joint:
            place = np.full(n, 0.5) if rng is None else rows.places
            bins, _ = _apply(split, x, place, node, "constant")
            node, n_nodes = node * split.n_bins + bins, n_nodes * split.n_bins
    return UniformMap(lower, upper, tuple(splits), joint, smoothing, rng is not None)
