"""The integral equation of ReTaSA as a finite system, exactly or on grids."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, distance_transform_edt
from scipy.sparse import csr_array

from reweight.kernels.chunks import row_slices
from reweight.kernels.kernel_sums import kernel_matrix, kernel_mean, kernel_smooth
from reweight.kernels.linear_binning import bin_columns, interpolate_1d

Array = NDArray[np.float64]

# Gaussians are cut off where they are below 1.6e-8 of their peak.
CUT_OFF = 6.0
VANISHING = 1e-300
CHUNK = 512
MAX_OUTCOME_NODES = 5000
MAX_CELLS = 20_000_000


@dataclass(frozen=True)
class System:
    """The operators T and T* between functions of the outcome and functions of the features.

    A function of the outcome is given by its values at `nodes`, a function of
    the features by its values at `places`: the source rows, or nodes of a grid.

    Parameters
    ----------
    nodes : ndarray of shape (n_nodes,)
        Increasing values of the outcome.
    smooth_x : ndarray of shape (n_places, n_nodes)
        T: mean of a function of the outcome given the features.
    smooth_y : ndarray of shape (n_nodes, n_places)
        T*: mean of a function of the features given the outcome.
    eta : ndarray of shape (n_places,)
        Ratio of the target to the source density of the features, minus one.
    mass_x : ndarray of shape (n_places,)
        Share of the source at each place.
    mass_y : ndarray of shape (n_nodes,)
        Share of the source at each node.
    eta_of_row : callable
        eta at each source row from `eta`.
    ratio_function : callable
        Takes values at the nodes, of shape (n_nodes,) or (n_nodes, k), to the
        function x -> 1 + (T rho)(x) of new feature rows.
    outside : float
        Share of the target where the source density is below 0.001 of its peak.
    """

    nodes: Array
    smooth_x: Array
    smooth_y: Array
    eta: Array
    mass_x: Array
    mass_y: Array
    eta_of_row: Callable[[], Array]
    ratio_function: Callable[[Array], "RowRatio | GridRatio"]
    outside: float

    @cached_property
    def operator(self) -> Array:
        """T*T, whose rows sum to one."""
        return self.smooth_y @ self.smooth_x

    @cached_property
    def right(self) -> Array:
        """T* eta."""
        return self.smooth_y @ self.eta


@dataclass(frozen=True)
class Sample:
    """Features and outcomes of the source, features of the target, and bandwidths.

    Parameters
    ----------
    z : ndarray of shape (n, d)
        Features of the source.
    y : ndarray of shape (n,)
        Its outcomes.
    share : ndarray of shape (n,)
        Sampling weights, which sum to one.
    z_target : ndarray of shape (m, d)
        Features of the target.
    target_share : ndarray of shape (m,)
        Weights of the target rows, which sum to one.
    bandwidth_x : ndarray of shape (d,)
        Length of the kernel of the features.
    bandwidth_y : float
        Length of the kernel of the outcome.
    nodes_as : Sample, default=None
        Sample whose range the grids span; None is this one.
    n_jobs : int, default=None
        Number of threads over rows; it does not change the result.
    """

    z: Array
    y: Array
    share: Array
    z_target: Array
    target_share: Array
    bandwidth_x: Array
    bandwidth_y: float
    nodes_as: "Sample | None" = None
    n_jobs: int | None = None

    def reweighted(self, share: Array, target_share: Array) -> "Sample":
        """The same rows with other weights, on the same grids."""
        return replace(self, share=share, target_share=target_share, nodes_as=self.nodes_as or self)

    def rows(self, source: NDArray[np.intp], target: NDArray[np.intp]) -> "Sample":
        """Some rows of both samples."""
        share, target_share = self.share[source], self.target_share[target]
        return Sample(
            self.z[source],
            self.y[source],
            share / share.sum(),
            self.z_target[target],
            target_share / target_share.sum(),
            self.bandwidth_x,
            self.bandwidth_y,
        )

    @property
    def spread(self) -> "Sample":
        """The sample whose range the grids span."""
        return self.nodes_as or self

    def system(self, solver: str, grid_density: float) -> System:
        """The system of a solver."""
        if solver == "binned":
            return binned_system(self, grid_density)
        if solver == "exact":
            return row_system(self, np.unique(self.spread.y))
        return row_system(self, self.outcome_grid(grid_density))

    def outcome_grid(self, grid_density: float) -> Array:
        """Equally spaced nodes over the range of the outcome."""
        y = self.spread.y
        return grid_axis(y.min(), y.max(), self.bandwidth_y / grid_density)

    def feature_axes(self, grid_density: float) -> list[Array]:
        """Equally spaced nodes over the range of each feature in both samples."""
        z, z_target = self.spread.z, self.spread.z_target
        return [
            grid_axis(
                min(z[:, k].min(), z_target[:, k].min()),
                max(z[:, k].max(), z_target[:, k].max()),
                self.bandwidth_x[k] / grid_density,
            )
            for k in range(z.shape[1])
        ]


def grid_axis(low: float, high: float, step: float) -> Array:
    """Equally spaced nodes from `low` to `high`, at most `step` apart."""
    if not high > low:
        low, high = low - 0.5 * step, high + 0.5 * step
    return np.linspace(low, high, max(2, int(np.ceil((high - low) / step - 1e-9)) + 1))


def interpolation_matrix(y: Array, nodes: Array) -> csr_array:
    """Matrix of shape (n, n_nodes) that interpolates values at the nodes linearly at y."""
    left = np.clip(np.searchsorted(nodes, y, side="right") - 1, 0, len(nodes) - 2)
    part = np.clip((y - nodes[left]) / (nodes[left + 1] - nodes[left]), 0.0, 1.0)
    rows = np.arange(len(y))
    return csr_array(
        (np.r_[1.0 - part, part], (np.r_[rows, rows], np.r_[left, left + 1])),
        shape=(len(y), len(nodes)),
    )


def smoothing_weights(at: Array, y: Array, mass: Array, bandwidth: float) -> Array:
    """Rows of Gaussian weights around `at`, which sum to one; far away the nearest y counts."""
    squares = np.subtract.outer(at, y)
    squares /= bandwidth
    squares *= squares
    squares -= squares[:, mass > 0].min(axis=1, keepdims=True)
    squares *= -0.5
    weights = np.exp(np.minimum(squares, 0.0, out=squares), out=squares)
    weights *= mass
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


@dataclass(frozen=True)
class RowRatio:
    """x -> 1 + (T rho)(x) from rho at the source rows.

    Parameters
    ----------
    z : ndarray of shape (n, d)
        Features of the source.
    values : ndarray of shape (n,) or (n, k)
        rho at its rows.
    share : ndarray of shape (n,)
        Its weights.
    bandwidth_x : ndarray of shape (d,)
        Length of the kernel.
    """

    z: Array
    values: Array
    share: Array
    bandwidth_x: Array

    def __call__(self, z: Array) -> Array:
        """Ratio at new rows."""
        return 1.0 + kernel_smooth(
            z, self.z, self.values, "rbf", self.bandwidth_x, weights=self.share
        )


@dataclass(frozen=True)
class GridRatio:
    """x -> 1 + (T rho)(x) from its values on a grid; outside, the nearest edge counts.

    Parameters
    ----------
    axes : list of ndarray
        Nodes of each feature.
    values : ndarray of shape (n_1, ..., n_d) or (n_1, ..., n_d, k)
        T rho at the nodes.
    """

    axes: list[Array]
    values: Array

    def __call__(self, z: Array) -> Array:
        """Ratio at new rows."""
        inside = [np.clip(z[:, k], axis[0], axis[-1]) for k, axis in enumerate(self.axes)]
        if len(self.axes) == 1 and self.values.ndim == 1:
            return 1.0 + interpolate_1d(inside[0], self.axes[0], self.values)
        from scipy.interpolate import RegularGridInterpolator

        return 1.0 + RegularGridInterpolator(self.axes, self.values)(np.column_stack(inside))


def row_system(sample: Sample, nodes: Array) -> System:
    """The system with the source rows as places: exact in the features."""
    z, y, share, h = sample.z, sample.y, sample.share, sample.bandwidth_x
    spread = interpolation_matrix(y, nodes)
    gather = spread.T.tocsr()
    smooth_x = np.empty((len(y), len(nodes)))
    density = np.empty(len(y))

    def fill(rows: slice) -> None:
        K = kernel_matrix(z, z[rows], "rbf", h)
        K *= share[:, None]
        density[rows] = K.sum(axis=0)
        smooth_x[rows] = (gather @ K).T

    Parallel(n_jobs=sample.n_jobs, require="sharedmem")(
        delayed(fill)(rows) for rows in row_slices(len(y), CHUNK)
    )
    # Only rows that a resample leaves out can lie far from all others.
    empty = density < VANISHING
    safe = np.where(empty, 1.0, density)
    smooth_x /= safe[:, None]
    target_density = kernel_mean(
        z, sample.z_target, sample.target_share, "rbf", h, n_jobs=sample.n_jobs
    )
    eta = np.where(empty, 0.0, target_density / safe - 1.0)

    def ratio_function(rho: Array) -> RowRatio:
        return RowRatio(z, spread @ rho, share, h)

    return System(
        nodes=nodes,
        smooth_x=smooth_x,
        smooth_y=smoothing_weights(nodes, y, share, sample.bandwidth_y),
        eta=eta,
        mass_x=share,
        mass_y=gather @ share,
        eta_of_row=lambda: eta,
        ratio_function=ratio_function,
        outside=_share_outside(sample, density.max()),
    )


def _share_outside(sample: Sample, peak: float) -> float:
    """Share of target rows, or of 2000 of them, where the source is below 0.001 of its peak."""
    some = np.linspace(0, len(sample.z_target) - 1, min(len(sample.z_target), 2000)).astype(int)
    density = kernel_mean(sample.z_target[some], sample.z, sample.share, "rbf", sample.bandwidth_x)
    return float(np.mean(density < 1e-3 * peak))


def check_grid_size(axes: list[Array], nodes: Array, owner: str) -> None:
    """Refuse grids that do not fit, which outliers or tiny bandwidths make.

    Parameters
    ----------
    axes : list of ndarray
        Nodes of the features.
    nodes : ndarray of shape (n_nodes,)
        Nodes of the outcome.
    owner : str
        Who is asking, for error messages.

    Raises
    ------
    ValueError
        If there are too many.
    """
    n_places = int(np.prod([float(len(axis)) for axis in axes]))
    if len(nodes) > MAX_OUTCOME_NODES or n_places * len(nodes) > MAX_CELLS:
        raise ValueError(
            f"{owner}: at this grid_density the range of the data takes {n_places} nodes for the "
            f"features and {len(nodes)} for the outcome, of at most {MAX_OUTCOME_NODES} for the "
            f"outcome and {MAX_CELLS} pairs; remove outliers, transform the columns, or pass a "
            "larger bandwidth"
        )


def binned_system(sample: Sample, grid_density: float) -> System:
    """The system with nodes of a grid as places, at a cost linear in the rows."""
    axes = sample.feature_axes(grid_density)
    nodes = sample.outcome_grid(grid_density)
    shape = tuple(len(axis) for axis in axes)
    columns = [np.ascontiguousarray(column) for column in sample.z.T]
    joint = bin_columns([*columns, sample.y], [*axes, nodes], sample.share)
    mass_x, mass_y = joint.sum(axis=-1), joint.reshape(-1, len(nodes)).sum(axis=0)
    target_columns = [np.ascontiguousarray(column) for column in sample.z_target.T]
    target = bin_columns(target_columns, axes, sample.target_share)

    widths = [h / (axis[1] - axis[0]) for h, axis in zip(sample.bandwidth_x, axes, strict=True)]
    density = _blur(mass_x, widths)
    target_density = _blur(target, widths)
    empty = density < VANISHING
    safe = np.where(empty, 1.0, density)
    eta = np.where(empty, 0.0, target_density / safe - 1.0)
    smooth_x = _blur(joint, widths)
    smooth_x /= safe[..., None]
    smooth_x = smooth_x.reshape(-1, len(nodes))
    flat = joint.reshape(-1, len(nodes))
    smooth_y = _smooth_joint(nodes, mass_y, flat, sample.bandwidth_y)

    def ratio_function(rho: Array) -> GridRatio:
        values = (smooth_x @ rho).reshape(*shape, *rho.shape[1:])
        return GridRatio(axes, _fill(values, empty))

    def eta_of_row() -> Array:
        return GridRatio(axes, eta)(sample.z) - 1.0

    return System(
        nodes=nodes,
        smooth_x=smooth_x,
        smooth_y=smooth_y,
        eta=eta.ravel(),
        mass_x=mass_x.ravel(),
        mass_y=mass_y,
        eta_of_row=eta_of_row,
        ratio_function=ratio_function,
        outside=float(target[density < 1e-3 * density.max()].sum() / target.sum()),
    )


def _smooth_joint(nodes: Array, mass_y: Array, joint: Array, bandwidth: float) -> Array:
    """T* on the grid: distribution of the features around each value of the outcome."""
    used = mass_y > 0
    weights = smoothing_weights(nodes, nodes[used], mass_y[used], bandwidth)
    # The weights contain the mass already, which the joint distribution brings along as well.
    weights /= mass_y[used]
    return weights @ joint[:, used].T


def _blur(values: Array, widths: list[float]) -> Array:
    """Convolution with Gaussians along the leading axes, whose widths are in nodes."""
    for axis, width in enumerate(widths):
        radius = min(int(np.ceil(CUT_OFF * width)), values.shape[axis] - 1)
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / width) ** 2)
        values = correlate1d(values, kernel, axis=axis, mode="constant")
    return values


def _fill(values: Array, empty: NDArray[np.bool_]) -> Array:
    """Values with those of empty nodes taken from the nearest node that is not."""
    if not empty.any():
        return values
    nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
    return values[tuple(nearest)]
