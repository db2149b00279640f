"""Maximum likelihood under label shift."""

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions

from reweight.solvers.mixture_proportions import mixture_proportions
from reweight.solvers.result import SolverResult
from reweight.validation import warn_user, warn_weights
from shift.target._calibration import (
    CALIBRATIONS,
    FLOOR,
    Calibration,
    fit_calibration,
    tangent_basis,
)
from shift.target._label_shift_weighter import Array, Codes, LabelShiftWeighter

# Of more rows than this, a part gives the point from which Newton steps start.
MANY_ROWS = 100_000
PART_ROWS = 20_000
# Rows that the derivative by the calibration, a mean over the target, is taken over.
DERIVATIVE_ROWS = 20_000
STEP = 1e-5
# A class with a smaller share of the target counts as absent from it.
ABSENT = 1e-8


class MLLS(LabelShiftWeighter):
    r"""Class weights by maximum likelihood, from calibrated probabilities.

    The priors :math:`\pi` of the target maximise the concave likelihood of
    what the classifier says about it,

    .. math:: \frac1m \sum_j \log \sum_k \frac{\pi_k}{\pi_{s,k}} P_{jk},

    over the simplex; the EM algorithm of Saerens et al. has the same solution.
    It is the most precise estimate if the probabilities are calibrated, and
    biased if not, so they are calibrated on the held-out rows first.

    Parameters
    ----------
    calibration : {"bcts", "ts", "vs", "nbvs"} or None, default="bcts"
        How to calibrate, from z = log P: "ts" is softmax(z / T), "bcts" adds a
        bias for each class, "vs" scales each class by its own factor and adds
        a bias, "nbvs" leaves the bias out. None takes probabilities as they are.
    prior : {"probs", "labels"}, default="probs"
        Priors of the source: the mean calibrated probabilities of the held-out
        rows, or the shares of their labels. With a bias both are the same.
    tol : float, default=1e-8
        Duality gap in the mean log-likelihood at which to stop.
    max_iter : int, default=1000
        Largest number of steps.
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
        The same; likelihood leaves nothing negative.
    source_prior_ : ndarray of shape (n_classes,)
        Priors of the source, see `prior`.
    target_prior_ : ndarray of shape (n_classes,)
        Estimated share of each class in the target.
    covariance_ : ndarray of shape (n_classes, n_classes)
        Covariance of the class weights by the delta method: the information of
        the target rows, and what calibration and source priors, estimated from
        the held-out rows, add to it.
    target_prior_covariance_ : ndarray of shape (n_classes, n_classes)
        That of the target priors. Classes estimated at zero have zero here, and
        an interval of no width: normal intervals fail at the edge.
    stderr_ : ndarray of shape (n_classes,)
        Standard errors of the class weights.
    scale_ : ndarray of shape (n_classes,)
        Factors of the log probabilities; 1 / T for "ts" and "bcts".
    bias_ : ndarray of shape (n_classes,)
        Biases of the calibration, summing to zero.
    calibration_result_ : SolverResult or None
        How the calibration was found.
    solver_result_ : SolverResult
        The target priors and their certificate.
    optimality_gap_ : float
        Bound on the distance of the mean log-likelihood from its maximum.
    n_iter_ : int
        Number of steps.
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
    Saerens, M., Latinne, P., Decaestecker, C. (2002). Adjusting the outputs of
    a classifier to new a priori probabilities. Neural Computation, 14(1), 21-41.

    Alexandari, A., Kundaje, A., Shrikumar, A. (2020). Maximum likelihood with
    bias-corrected calibration is hard-to-beat at label shift adaptation. ICML.

    Garg, S., Wu, Y., Balakrishnan, S., Lipton, Z. (2020). A unified view of
    label shift estimation. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from shift import MLLS
    >>> P = np.array([[0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]])
    >>> target = [[0.8, 0.2], [0.3, 0.7], [0.3, 0.7]]
    >>> weighter = MLLS(calibration=None).fit(P, [0, 0, 1, 1], X_target=target)
    >>> weighter.target_prior_.round(3)
    array([0.22, 0.78])
    """

    _parameter_constraints = {
        **LabelShiftWeighter._parameter_constraints,
        "calibration": [StrOptions(set(CALIBRATIONS)), None],
        "prior": [StrOptions({"probs", "labels"})],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        calibration: str | None = "bcts",
        *,
        prior: str = "probs",
        tol: float = 1e-8,
        max_iter: int = 1000,
        classes: ArrayLike | None = None,
    ) -> None:
        self.calibration = calibration
        self.prior = prior
        self.tol = tol
        self.max_iter = max_iter
        self.classes = classes

    def _fit_no_shift(self) -> None:
        self._calibration = None
        self._describe_calibration()

    def _describe_calibration(self) -> None:
        calibration, n_classes = self._calibration, len(self.classes_)
        missing = calibration is None
        self.scale_ = np.ones(n_classes) if missing else calibration.scale
        self.bias_ = np.zeros(n_classes) if missing else calibration.bias
        self.calibration_result_ = None if missing else calibration.result

    def _calibrate(self, P: Array) -> Array:
        return np.maximum(P, FLOOR) if self._calibration is None else self._calibration(P)

    def _estimate(self, P: Array, codes: Codes, share: Array, P_target: Array) -> Array:
        self._calibration = None
        if self.calibration is not None:
            self._calibration = fit_calibration(P, codes, share, self.calibration)
            self._check_calibration(self._calibration)
        self._describe_calibration()
        if self.prior == "probs":
            self.source_prior_ = share @ self._calibrate(P)
            self.source_prior_ = self.source_prior_ / self.source_prior_.sum()
        ratios = self._calibrate(P_target)
        ratios /= self.source_prior_
        self.solver_result_ = self._maximise(ratios)
        self.optimality_gap_ = self.solver_result_.optimality_gap
        self.n_iter_ = self.solver_result_.n_iter
        target_prior = self.solver_result_.x
        self._set_covariances(P, codes, share, P_target, ratios, target_prior)
        return target_prior / self.source_prior_

    def _check_calibration(self, calibration: Calibration) -> None:
        name = type(self).__name__
        if not calibration.result.converged:
            warn_user(
                f"{name}: calibration={self.calibration!r} did not converge, its gradient is "
                f"{calibration.result.optimality_gap:.2g}; with classes that are separated "
                "perfectly pass calibration=None",
                ConvergenceWarning,
            )
        if calibration.scale.max() <= 0:
            warn_weights(
                f"{name}: calibration={self.calibration!r} turns the probabilities round (scale "
                f"{calibration.scale.max():.3g}), since the held-out rows contradict them; check "
                "that the columns of X are in the order of classes"
            )

    def _maximise(self, ratios: Array) -> SolverResult:
        """The likelihood's maximum; of many rows, a part finds where to start."""
        start = None
        if len(ratios) > MANY_ROWS:
            part = ratios[:: len(ratios) // PART_ROWS]
            start = np.maximum(mixture_proportions(part, tol=1e-6).x, 1e-6)
        result = mixture_proportions(ratios, x0=start, tol=self.tol, max_iter=self.max_iter)
        if not result.converged:
            warn_user(
                f"{type(self).__name__}: the likelihood is {result.optimality_gap:.2g} from its "
                f"maximum after max_iter={self.max_iter} steps (tol={self.tol:g}); raise max_iter",
                ConvergenceWarning,
            )
        return result

    def _set_covariances(
        self,
        P: Array,
        codes: Codes,
        share: Array,
        P_target: Array,
        ratios: Array,
        target_prior: Array,
    ) -> None:
        """Stack the equations of calibration, source priors and target priors."""
        prior, m = self.source_prior_, len(ratios)
        A = ratios / (ratios @ target_prior)[:, None]
        information = A.T @ A / m
        gradient = A.mean(axis=0)
        free = np.flatnonzero(target_prior > ABSENT)
        bread = np.zeros_like(information)
        if len(free) > 1:
            basis = tangent_basis(len(free))
            inner = basis.T @ information[np.ix_(free, free)] @ basis
            bread[np.ix_(free, free)] = basis @ np.linalg.pinv(inner, hermitian=True) @ basis.T
        by_prior = information * (target_prior / prior) - np.diag(gradient / prior)

        of_prior = np.eye(len(prior))[codes]
        of_gradient = np.zeros_like(of_prior)
        if self.prior == "probs":
            of_prior = self._calibrate(P)
        of_prior = of_prior - prior
        if self._calibration is not None:
            of_parameters = self._calibration.influence(P, codes, share)
            by_parameters = self._derivatives(P_target, target_prior)
            of_gradient = of_gradient + of_parameters @ by_parameters.T
            if self.prior == "probs":
                of_prior = of_prior + of_parameters @ self._prior_derivatives(P, share).T
        of_target = (of_gradient + of_prior @ by_prior.T) @ bread
        of_weights = of_target / prior - of_prior * (target_prior / prior**2)
        sampling = bread / m
        self.target_prior_covariance_ = sampling + _second_moment(share, of_target)
        self.covariance_ = sampling / np.outer(prior, prior) + _second_moment(share, of_weights)

    def _derivatives(self, P_target: Array, target_prior: Array) -> Array:
        """Derivatives of the likelihood's gradient by the calibration, (n_classes, n_params)."""
        rows = P_target[:: -(-len(P_target) // DERIVATIVE_ROWS)]

        def gradient(calibration: Calibration) -> Array:
            A = calibration(rows) / self.source_prior_
            return (A / (A @ target_prior)[:, None]).mean(axis=0)

        return self._central_differences(gradient)

    def _prior_derivatives(self, P: Array, share: Array) -> Array:
        """Derivatives of the mean calibrated probabilities, (n_classes, n_params)."""
        every = -(-len(P) // DERIVATIVE_ROWS)
        rows, part = P[::every], share[::every] / share[::every].sum()
        return self._central_differences(lambda calibration: part @ calibration(rows))

    def _central_differences(self, function) -> Array:
        steps = STEP * np.eye(self._calibration.design.shape[1])
        moved = self._calibration.moved
        return np.column_stack(
            [(function(moved(h)) - function(moved(-h))) / (2 * STEP) for h in steps]
        )


def _second_moment(share: Array, influence: Array) -> Array:
    """Variance of the mean of influences."""
    weighted = share[:, None] * influence
    return weighted.T @ weighted
