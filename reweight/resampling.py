"""Resampling by weights: bootstraps, multipliers and subsamples of rows or of whole groups."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from reweight.parallel import parallel_map
from reweight.validation import check_groups, warn_weights

KINDS = ("multinomial", "exponential", "rademacher", "subsample")
# What a statistic may raise on an unlucky resample; anything else is a mistake in its code.
EXPECTED_ERRORS = (ValueError, ArithmeticError, RuntimeError)


def resample_weights(
    n_samples: int,
    n_resamples: int,
    kind: str = "multinomial",
    *,
    groups: ArrayLike | None = None,
    subsample_size: int | float | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> Iterator[NDArray[np.float64]]:
    """Weights that turn the sample into resamples of itself, one vector at a time.

    Multiply the sampling weights by each vector and compute the statistic
    again. The unit that is drawn is the row, or the group if `groups` is given:
    then all rows of a group share one weight, as rows within it depend on each
    other.

    Parameters
    ----------
    n_samples : int
        Number of rows.
    n_resamples : int
        Number of weight vectors.
    kind : {"multinomial", "exponential", "rademacher", "subsample"}, default="multinomial"
        How units are drawn.

        - "multinomial": how often each unit comes up when as many are drawn
          with replacement as there are (Efron's bootstrap). Variance
          1 - 1/n_units.
        - "exponential": independent standard exponentials divided by their
          mean (Rubin's Bayesian bootstrap). Every weight is positive, so no
          category is ever lost. Variance (n_units - 1)/(n_units + 1).
        - "rademacher": independent signs. These are multipliers with mean
          zero for the influence function (the multiplier, or wild, bootstrap)
          and no `sample_weight`.
        - "subsample": one for `subsample_size` units drawn without replacement,
          zero for the others. A deviation from the full sample is then too
          large by the factor sqrt(n_units/subsample_size - 1).

        Weights of the first two have mean one over the units.
    groups : array-like of shape (n_samples,), default=None
        Group of each row; None draws rows.
    subsample_size : int or float, default=None
        Units in a subsample, as a number or as a share between 0 and 1; None
        means ceil(n_units^(2/3)). Only for "subsample".
    random_state : int, RandomState instance or None, default=None
        Seeds the draws. Each vector has its own stream: asking for more
        resamples leaves the first ones unchanged.

    Returns
    -------
    iterator of ndarray of shape (n_samples,)
        The `n_resamples` weight vectors.

    Raises
    ------
    ValueError
        If `kind` is unknown, there are fewer than two units, or
        `subsample_size` does not leave a proper subsample.

    References
    ----------
    Efron, B. (1979). Bootstrap methods: another look at the jackknife. Annals
    of Statistics 7(1), 1-26.

    Rubin, D. B. (1981). The Bayesian bootstrap. Annals of Statistics 9(1),
    130-134.

    Politis, D. N. and Romano, J. P. (1994). Large sample confidence regions
    based on subsamples under minimal assumptions. Annals of Statistics 22(4),
    2031-2050.

    Examples
    --------
    The standard error of a mean:

    >>> import numpy as np
    >>> from reweight import resample_weights
    >>> y = np.arange(10.0)
    >>> means = [np.average(y, weights=w) for w in resample_weights(10, 2000, random_state=0)]
    >>> bool(abs(np.std(means) - y.std() / np.sqrt(10)) < 0.05)
    True

    Rows of one group stay together:

    >>> next(resample_weights(6, 1, groups=["a", "a", "b", "b", "c", "c"], random_state=2))
    array([1., 1., 0., 0., 2., 2.])
    """
    plan = _plan(n_samples, n_resamples, kind, groups, subsample_size, random_state)
    return map(plan.weights, range(n_resamples))


@dataclass(frozen=True, eq=False)
class ResampledStatistic:
    """A statistic in resamples.

    Parameters
    ----------
    values : ndarray of shape (n_successful, ...)
        The statistic in the resamples that gave one, in their order.
    failures : dict of int to str
        Why the other resamples, by number, gave none.
    """

    values: NDArray[np.float64]
    failures: dict[int, str]

    @property
    def n_failed(self) -> int:
        """How many resamples gave no statistic."""
        return len(self.failures)


def bootstrap_statistic(
    function: Callable[[NDArray[np.float64]], ArrayLike],
    n_samples: int,
    *,
    n_resamples: int = 500,
    kind: str = "multinomial",
    groups: ArrayLike | None = None,
    subsample_size: int | float | None = None,
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    name: str = "bootstrap_statistic",
) -> ResampledStatistic:
    """Compute a statistic in every resample, in parallel.

    A resample fails if the function raises a `ValueError`, an
    `ArithmeticError` or a `RuntimeError`, or returns numbers that are not
    finite. Failures, and warnings of the function, are counted and reported
    once.

    Parameters
    ----------
    function : callable
        Takes a weight vector of shape (n_samples,) and returns a number or an
        array, always of the same shape.
    n_samples : int
        Number of rows.
    n_resamples : int, default=500
        Number of resamples.
    kind : {"multinomial", "exponential", "rademacher", "subsample"}, default="multinomial"
        How rows or groups are drawn, see `resample_weights`.
    groups : array-like of shape (n_samples,), default=None
        Groups of rows that are drawn together.
    subsample_size : int or float, default=None
        See `resample_weights`.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws.
    n_jobs : int, default=None
        Number of jobs, through joblib; it does not change the result.
    verbose : int, default=0
        Whether to show a progress bar.
    name : str, default="bootstrap_statistic"
        Who is asking: the label of the progress bar and of messages.

    Returns
    -------
    ResampledStatistic

    Raises
    ------
    ValueError
        If every resample fails, or an argument of `resample_weights` is wrong.

    Warns
    -----
    WeightWarning
        If some resamples fail, or the function warns.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.resampling import bootstrap_statistic
    >>> y = np.arange(10.0)
    >>> draws = bootstrap_statistic(lambda w: w @ y / w.sum(), 10, random_state=0)
    >>> draws.values.shape, draws.n_failed
    ((500,), 0)
    """
    plan = _plan(n_samples, n_resamples, kind, groups, subsample_size, random_state)
    outcomes = parallel_map(
        _evaluate,
        ((function, plan, number) for number in range(n_resamples)),
        total=n_resamples,
        n_jobs=n_jobs,
        verbose=verbose,
        name=f"{name}: resamples",
    )
    failures = {number: why for number, (_, why, _) in enumerate(outcomes) if why}
    warned = [warning for _, _, warning in outcomes if warning]
    values = [value for value, why, _ in outcomes if not why]
    _report(name, n_resamples, failures, warned)
    return ResampledStatistic(np.array(values), failures)


def _report(name: str, n_resamples: int, failures: dict[int, str], warned: list[str]) -> None:
    """Say once how many resamples failed or warned, and why the first did."""
    if failures:
        first = next(iter(failures.values()))
        found = f"{name}: {len(failures)} of {n_resamples} resamples failed, the first with {first}"
        if len(failures) == n_resamples:
            raise ValueError(f"{found}; no resample gave a statistic; mend its cause first")
        warn_weights(
            f"{found}; what rests on the others is probably too certain; mend the cause, or draw "
            "by kind='exponential', which leaves no row out"
        )
    if warned:
        warn_weights(
            f"{name}: {len(warned)} of {n_resamples} resamples warned, the first with {warned[0]}"
        )


def _evaluate(
    function: Callable, plan: "_Plan", number: int
) -> tuple[NDArray[np.float64] | None, str, str]:
    """The statistic of one resample, why there is none, and the first warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = np.asarray(function(plan.weights(number)), dtype=np.float64)
        except EXPECTED_ERRORS as error:
            return None, f"{type(error).__name__}: {error}", ""
    if not np.isfinite(value).all():
        return None, "a statistic that is not finite", ""
    return value, "", f"{caught[0].category.__name__}: {caught[0].message}" if caught else ""


@dataclass(frozen=True)
class _Plan:
    """What is needed to draw any one resample."""

    kind: str
    n_units: int
    codes: NDArray[np.intp] | None
    size: int
    seed: SeedSequence

    def weights(self, number: int) -> NDArray[np.float64]:
        """Weights of the rows in a resample."""
        # The children of a seed sequence are told apart by this key alone, so that a job can draw
        # its resample without those before it.
        child = SeedSequence(self.seed.entropy, spawn_key=(*self.seed.spawn_key, number))
        units = self._units(default_rng(child))
        return units if self.codes is None else units[self.codes]

    def _units(self, rng: Generator) -> NDArray[np.float64]:
        """Weights of the units."""
        n = self.n_units
        if self.kind == "multinomial":
            return np.bincount(rng.integers(n, size=n), minlength=n).astype(np.float64)
        if self.kind == "exponential":
            draws = rng.standard_exponential(n)
            return draws * (n / draws.sum())
        if self.kind == "rademacher":
            return 2.0 * rng.integers(2, size=n) - 1.0
        units = np.zeros(n)
        units[rng.choice(n, self.size, replace=False, shuffle=False)] = 1.0
        return units


def _plan(
    n_samples: int,
    n_resamples: int,
    kind: str,
    groups: ArrayLike | None,
    subsample_size: int | float | None,
    random_state: int | np.random.RandomState | None,
) -> _Plan:
    """Check the arguments of `resample_weights`, before any work."""
    for label, value in (("n_samples", n_samples), ("n_resamples", n_resamples)):
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{label} is {value!r}; pass a whole number of at least 1")
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; choose one of {list(KINDS)}")
    codes, n_units = None, int(n_samples)
    if groups is not None:
        labels, codes = check_groups(groups, n_samples)
        n_units = len(labels)
    if n_units < 2:
        raise ValueError(
            f"there is only {n_units} {'row' if groups is None else 'group'} to resample; "
            "at least two are needed"
        )
    if subsample_size is not None and kind != "subsample":
        raise ValueError(
            f"subsample_size is {subsample_size!r} but kind is {kind!r}; it goes with "
            "kind='subsample' only"
        )
    size = _resolve_size(subsample_size, n_units)
    # An integer seed gives the same entropy on every platform.
    entropy = check_random_state(random_state).randint(2**32, size=4, dtype=np.uint64)
    return _Plan(kind, n_units, codes, size, SeedSequence([int(word) for word in entropy]))


def _resolve_size(subsample_size: int | float | None, n_units: int) -> int:
    """Units in a subsample."""
    if subsample_size is None:
        # Rounding first: 8^(2/3) is 4, and not a little more.
        return min(int(np.ceil(round(n_units ** (2 / 3), 9))), n_units - 1)
    whole = isinstance(subsample_size, Integral)
    size = int(subsample_size) if whole else round(subsample_size * n_units)
    if not 1 <= size < n_units:
        raise ValueError(
            f"subsample_size is {subsample_size!r}, which makes {size} of {n_units} units; pass "
            "a number, or a share between 0 and 1, that leaves some in and some out"
        )
    return size
