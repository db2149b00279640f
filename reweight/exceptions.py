"""Errors and warnings that scikit-learn has no word for."""

from typing import Any


class InfeasibleError(ValueError):
    """The constraints of a weighting problem cannot be met.

    Parameters
    ----------
    message : str
        What was found, what is needed, and one thing to do.
    worst_column : str or int, optional
        The constraint that is furthest from being met.
    smallest_tolerance : float, optional
        The smallest uniform tolerance, in the units of the solver's scaled
        columns, at which the problem becomes feasible.

    Examples
    --------
    >>> from reweight.exceptions import InfeasibleError
    >>> error = InfeasibleError("cannot balance", worst_column="age", smallest_tolerance=0.13)
    >>> error.worst_column
    'age'
    """

    def __init__(
        self,
        message: str,
        worst_column: str | int | None = None,
        smallest_tolerance: float | None = None,
    ) -> None:
        super().__init__(message)
        self.worst_column = worst_column
        self.smallest_tolerance = smallest_tolerance

    def __reduce__(self) -> tuple:
        return type(self), (self.args[0], self.worst_column, self.smallest_tolerance)


class ConvergenceError(RuntimeError):
    """A computation that was asked to raise when it does not converge did not.

    Parameters
    ----------
    message : str
        What was found, what is needed, and one thing to do.
    diagnostics : object, optional
        The figures that show the failure.
    """

    def __init__(self, message: str, diagnostics: Any = None) -> None:
        super().__init__(message)
        self.diagnostics = diagnostics

    def __reduce__(self) -> tuple:
        return type(self), (self.args[0], self.diagnostics)


class WeightWarning(UserWarning):
    """Weights that will mislead: few effective rows, clipping, no common support."""
