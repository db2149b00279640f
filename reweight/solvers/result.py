"""The record that every solver returns."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class SolverResult:
    """Solution of an optimisation problem together with its certificate.

    Parameters
    ----------
    x : ndarray
        The primal solution, in the solver's own scale.
    dual : ndarray or None
        The dual solution, laid out as the solver's docstring says.
    objective : float
        Value of the objective at `x`.
    optimality_gap : float
        Relative size of what separates `x` from a certified optimum.
    certificate : {"duality_gap", "kkt"}
        What the gap measures: a duality gap or the largest residual of the
        Karush-Kuhn-Tucker conditions.
    n_iter : int
        Iterations taken.
    converged : bool
        Whether `optimality_gap` reached the tolerance asked for.
    solver : str
        Name of the algorithm that produced the solution.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import SolverResult
    >>> result = SolverResult(np.ones(2) / 2, None, 0.0, 0.0, "kkt", 1, True, "by hand")
    >>> result.converged
    True
    """

    x: Any
    dual: Any
    objective: float
    optimality_gap: float
    certificate: Literal["duality_gap", "kkt"]
    n_iter: int
    converged: bool
    solver: str
