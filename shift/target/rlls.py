"""Regularised learning under label shift."""

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq, nnls
from sklearn.utils._param_validation import Interval

from reweight.normalization import effective_sample_size
from reweight.solvers.result import SolverResult
from shift.target._label_shift_weighter import (
    Array,
    Codes,
    LabelShiftWeighter,
    confusion_moments,
    hard_predictions,
    invert_confusion,
    moment_covariances,
)

# Range of the ridge on the path of solutions, relative to the squared size of C.
LEAST_RIDGE, LARGEST_RIDGE = 1e-14, 1e8


class RLLS(LabelShiftWeighter):
    r"""Class weights from regularised moment equations.

    With the confusion matrix C of `BBSE` and :math:`b = \mu_t - \mu_s`, the
    differences of the mean predictions, the weights are
    :math:`w = 1 + s\,\theta` with the strength s and

    .. math:: \theta = \arg\min_{\theta \ge -1}
        \|C\theta - b\|_2 + \rho \|\theta\|_2.

    Norms are not squared, so a small :math:`\rho` changes nothing at all where
    C is well conditioned: the weights are then exactly those of `BBSE`.

    Parameters
    ----------
    soft : bool, default=True
        Whether to average probabilities rather than the most probable class.
    alpha : float, default=0.01
        Factor of the regularisation that the theory asks for,
        :math:`\rho = 3\alpha (2 l / (3n) + \sqrt{2 l / n})` with
        :math:`l = \log(2K / (1 - \text{confidence level}))` and the effective
        number n of held-out rows.
    confidence_level : float, default=0.95
        Probability with which the bound behind `rho` holds.
    strength : float, default=1.0
        How far to follow the estimate, from 0 for no weights to 1.
    rho : float, default=None
        The regularisation itself, in place of the formula.
    classes : array-like of shape (n_classes,), default=None
        Classes in the order of the columns of X; None is the sorted labels of y.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Weight of each row, mean one, sampling weights included.
    ess_ : float
        Effective sample size of `weights_`.
    class_weights_ : ndarray of shape (n_classes,)
        Ratio of the target to the source prior of each class.
    raw_class_weights_ : ndarray of shape (n_classes,)
        The same before it is scaled to mean one over the source.
    source_prior_ : ndarray of shape (n_classes,)
        Share of each class in the source.
    target_prior_ : ndarray of shape (n_classes,)
        Estimated share of each class in the target.
    covariance_ : ndarray of shape (n_classes, n_classes)
        Covariance of the class weights by the delta method, as if they were not
        regularised: too large rather than too small, and blind to the bias.
    target_prior_covariance_ : ndarray of shape (n_classes, n_classes)
        That of the target priors.
    stderr_ : ndarray of shape (n_classes,)
        Standard errors of the class weights.
    confusion_ : ndarray of shape (n_classes, n_classes)
        Joint confusion matrix, predictions by rows.
    rho_ : float
        Regularisation used.
    solver_result_ : SolverResult
        The solution theta and its duality gap.
    optimality_gap_ : float
        Duality gap relative to the length of b.
    n_iter_ : int
        Number of ridge problems solved.
    classes_ : ndarray of shape (n_classes,)
        Classes in the order of the columns.
    n_target_ : int
        Number of target rows.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Azizzadenesheli, K., Liu, A., Yang, F., Anandkumar, A. (2019). Regularized
    learning for domain adaptation under label shifts. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from shift import RLLS
    >>> P = np.array([[0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]])
    >>> weighter = RLLS().fit(P, [0, 0, 1, 1], X_target=[[0.8, 0.2], [0.3, 0.7], [0.3, 0.7]])
    >>> weighter.target_prior_.round(3)
    array([0.333, 0.667])
    """

    _parameter_constraints = {
        **LabelShiftWeighter._parameter_constraints,
        "soft": ["boolean"],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "strength": [Interval(Real, 0, 1, closed="both")],
        "rho": [Interval(Real, 0, None, closed="left"), None],
    }

    def __init__(
        self,
        soft: bool = True,
        *,
        alpha: float = 0.01,
        confidence_level: float = 0.95,
        strength: float = 1.0,
        rho: float | None = None,
        classes: ArrayLike | None = None,
    ) -> None:
        self.soft = soft
        self.alpha = alpha
        self.confidence_level = confidence_level
        self.strength = strength
        self.rho = rho
        self.classes = classes

    def _estimate(self, P: Array, codes: Codes, share: Array, P_target: Array) -> Array:
        F, F_target = (P, P_target) if self.soft else map(hard_predictions, (P, P_target))
        C, source_mean, mu = confusion_moments(F, codes, share, F_target)
        self.confusion_ = C
        self.rho_ = self._rho(len(C), effective_sample_size(share))
        self.solver_result_ = least_norms(C, mu - source_mean, self.rho_)
        self.optimality_gap_ = self.solver_result_.optimality_gap
        self.n_iter_ = self.solver_result_.n_iter
        theta = self.solver_result_.x
        inverse = invert_confusion(C, type(self).__name__)
        covariances = moment_covariances(
            inverse, C, F, codes, share, F_target, 1.0 + theta, self.source_prior_
        )
        self.covariance_, self.target_prior_covariance_ = (
            self.strength**2 * covariance for covariance in covariances
        )
        return 1.0 + self.strength * theta

    def _rho(self, n_classes: int, n: float) -> float:
        if self.rho is not None:
            return float(self.rho)
        bound = np.log(2 * n_classes / (1 - self.confidence_level))
        return float(3 * self.alpha * (2 * bound / (3 * n) + np.sqrt(2 * bound / n)))


def least_norms(C: Array, b: Array, rho: float, *, tol: float = 1e-8) -> SolverResult:
    """Minimise ||C x - b|| + rho ||x|| over x >= -1.

    Two cases have closed forms. Otherwise the solution is that of a ridge
    problem: along the path of ridges lambda, the stationarity condition
    lambda ||x|| = rho ||C x - b|| changes sign once, since the path traces the
    convex frontier of the two norms.

    Parameters
    ----------
    C : ndarray of shape (k, k)
        Matrix of the equations.
    b : ndarray of shape (k,)
        Right-hand side.
    rho : float
        Regularisation, not negative.
    tol : float, default=1e-8
        Duality gap, relative to the length of b, up to which it has converged.

    Returns
    -------
    SolverResult
    """
    size = float(np.linalg.norm(b))
    if size == 0 or np.linalg.norm(C.T @ b) <= rho * size:
        return _certified(C, b, rho, np.zeros(C.shape[1]), 1, "closed-form", tol)
    exact = _exact(C, b, rho)
    if exact is not None:
        return _certified(C, b, rho, exact, 1, "closed-form", tol)
    scale = float(np.linalg.norm(C, 2)) ** 2
    n_solved = 0

    def excess(log_ridge: float) -> float:
        nonlocal n_solved
        n_solved += 1
        ridge = np.exp(log_ridge)
        x = _ridge_path(C, b, ridge)
        return float(ridge * np.linalg.norm(x) - rho * np.linalg.norm(C @ x - b))

    low, high = np.log(LEAST_RIDGE * scale), np.log(LARGEST_RIDGE * scale)
    if excess(low) >= 0:
        best = low
    elif excess(high) <= 0:
        best = high
    else:
        best = brentq(excess, low, high, xtol=1e-13, rtol=1e-14)
    return _certified(C, b, rho, _ridge_path(C, b, np.exp(best)), n_solved + 1, "ridge-path", tol)


def _exact(C: Array, b: Array, rho: float) -> Array | None:
    """The solution of C x = b where no regularisation moves away from it."""
    if np.linalg.cond(C) > 1 / (C.shape[0] * np.finfo(float).eps):
        return None
    x = np.linalg.solve(C, b)
    pull = rho * np.linalg.norm(np.linalg.solve(C.T, x))
    return x if x.min() >= -1 and pull <= np.linalg.norm(x) else None


def _ridge_path(C: Array, b: Array, ridge: float) -> Array:
    """Minimise ||C x - b||^2 + ridge ||x||^2 over x >= -1."""
    root = np.sqrt(ridge) * np.eye(C.shape[1])
    right = np.concatenate([b + C.sum(axis=1), root.sum(axis=1)])
    return nnls(np.vstack([C, root]), right)[0] - 1.0


def _certified(
    C: Array, b: Array, rho: float, x: Array, n_iter: int, solver: str, tol: float
) -> SolverResult:
    """The solution with a point of the dual: max -b'u - sum(nu), C'u + v = nu >= 0, unit balls."""
    residual = C @ x - b
    objective = float(np.linalg.norm(residual) + rho * np.linalg.norm(x))
    size = max(float(np.linalg.norm(b)), np.finfo(float).tiny)
    u, nu = _dual_point(C, b, rho, x, residual, size)
    gap = max(objective + float(b @ u) + float(nu.sum()), 0.0) / size
    return SolverResult(
        x=x,
        dual=u,
        objective=objective,
        optimality_gap=gap,
        certificate="duality_gap",
        n_iter=n_iter,
        converged=bool(gap <= tol),
        solver=solver,
    )


def _dual_point(
    C: Array, b: Array, rho: float, x: Array, residual: Array, size: float
) -> tuple[Array, Array]:
    length = float(np.linalg.norm(residual))
    pull = rho * x / max(float(np.linalg.norm(x)), np.finfo(float).tiny)
    if length > 1e-12 * size:
        u = residual / length
    else:
        u = -np.linalg.lstsq(C.T, pull, rcond=None)[0]
    # A bound that does not bind has no price.
    nu = np.where(x > -1 + 1e-9, 0.0, np.maximum(C.T @ u + pull, 0.0))
    v = nu - C.T @ u
    shrink = max(1.0, float(np.linalg.norm(u)))
    if np.linalg.norm(v) > 0:
        shrink = max(shrink, float(np.linalg.norm(v)) / max(rho, np.finfo(float).tiny))
    return u / shrink, nu / shrink
