"""What ReTaSA refuses, and what it warns of."""

from sklearn.base import BaseEstimator

from reweight.validation import warn_weights
from shift.target._retasa_system import Sample, check_grid_size

EXACT_ROWS = 1500
MOST_EXACT_ROWS = 10_000
MANY_ROWS_2D = 5000
SLOW_ROWS = 50_000
MOST_FEATURES = 3


def choose_solver(estimator: BaseEstimator, sample: Sample) -> str:
    """The solver asked for, or the one that suits the sample.

    Parameters
    ----------
    estimator : ReTaSA
        Holds what the user asked for.
    sample : Sample
        The data.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the solver cannot do it.
    """
    n, d = sample.z.shape
    name, solver = type(estimator).__name__, estimator.solver
    if solver == "auto":
        if n <= EXACT_ROWS and estimator.nonnegative == "clip":
            return "exact"
        return "binned" if d == 1 or (d == 2 and n > MANY_ROWS_2D) else "ygrid"
    if solver == "binned" and d > 2:
        raise ValueError(
            f"{name}: solver='binned' takes one or two features, got {d}; use solver='ygrid', or "
            "reduce the features with featurizer"
        )
    if solver == "exact" and estimator.nonnegative == "constrained":
        raise ValueError(
            f"{name}: nonnegative='constrained' pools outcomes at the nodes of a grid, without "
            "which nothing would smooth the weights; use solver='binned' or 'ygrid'"
        )
    return solver


def check_sizes(estimator: BaseEstimator, sample: Sample, solver: str, grid_density: float) -> None:
    """Refuse systems that do not fit into memory.

    Parameters
    ----------
    estimator : ReTaSA
        For its name.
    sample : Sample
        The data.
    solver : str
        Solver.
    grid_density : float
        Nodes a bandwidth.

    Raises
    ------
    ValueError
        If there are too many rows or nodes.
    """
    n, name = len(sample.y), type(estimator).__name__
    if solver == "exact" and n > MOST_EXACT_ROWS:
        raise ValueError(
            f"{name}: solver='exact' keeps matrices of {n} x {n} in memory, and takes at most "
            f"{MOST_EXACT_ROWS} rows; use solver='binned' or 'ygrid'"
        )
    if solver == "ygrid":
        check_grid_size([], sample.outcome_grid(grid_density), name)
    elif solver == "binned":
        check_grid_size(sample.feature_axes(grid_density), sample.outcome_grid(grid_density), name)


def warn_of_doubtful_problem(estimator: BaseEstimator, sample: Sample) -> None:
    """Warn of many features, and of a solver that will take minutes.

    Parameters
    ----------
    estimator : ReTaSA
        The estimator, with its solver chosen.
    sample : Sample
        The data.
    """
    n, d = sample.z.shape
    name = type(estimator).__name__
    if d > MOST_FEATURES and n > 200:
        warn_weights(
            f"{name}: kernel estimates in {d} dimensions are poor however many rows there are; "
            "pass featurizer=, a regressor whose cross-fitted predictions replace the features"
        )
    if estimator.solver_ == "ygrid" and n > SLOW_ROWS:
        warn_weights(
            f"{name}: solver='ygrid' evaluates {n} x {n} kernels, which takes minutes; reduce the "
            "features to one or two with featurizer, so that solver='binned' applies"
        )


def warn_of_doubtful_fit(estimator: BaseEstimator, outside: float) -> None:
    """Warn of weights that mislead.

    Parameters
    ----------
    estimator : ReTaSA
        The fitted estimator.
    outside : float
        Share of the target where the source has hardly any features.
    """
    name = type(estimator).__name__
    if outside > 0.05:
        warn_weights(
            f"{name}: {outside:.0%} of the target features are outside the source's support (its "
            "density there is below 0.001 of its peak); no weights of source rows reach them"
        )
    if estimator.residual_ > 0.5:
        warn_weights(
            f"{name}: the weights leave {estimator.residual_:.0%} of the difference between source "
            "and target features unexplained: it may be mere noise, the features may say little "
            "about y, or more than y moved; see target_shift_test"
        )
    if estimator.negative_mass_ > 0.2:
        warn_weights(
            f"{name}: negative weights of mean size {estimator.negative_mass_:.2f} were clipped, "
            "which points to outcomes that the source lacks or features that say little about y; "
            "use nonnegative='constrained' or a larger alpha"
        )
