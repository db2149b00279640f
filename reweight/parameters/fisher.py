"""Information matrices of fitted linear models."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import expit, softmax
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeCV,
    SGDClassifier,
)
from sklearn.utils.validation import check_is_fitted

from reweight.parameters.views import final_estimator, preprocessing_steps
from reweight.validation import check_sample_weight, validate_features

Array = NDArray[np.float64]

GAUSSIAN = (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    LassoCV,
    LinearRegression,
    Ridge,
    RidgeCV,
)
CHUNK_ROWS = 65_536


def fisher_information(
    model: Any,
    X: Any,
    y: ArrayLike | None = None,
    *,
    kind: str = "diag",
    sample_weight: ArrayLike | None = None,
    empirical: bool = False,
    reduction: str = "sum",
    noise_variance: float | None = None,
) -> dict[str, Array] | Array:
    """Fisher information of the parameters of a fitted linear model.

    It is that of the likelihood alone: a penalty of the fit is an anchor to
    `pool_estimates`.

    Parameters
    ----------
    model : estimator
        Fitted least-squares regressor (plain, ridge, lasso, ...),
        `PoissonRegressor`, `LogisticRegression` of two or more classes, binary
        `SGDClassifier(loss="log_loss")`, or a Pipeline that ends in one.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,), default=None
        Responses, needed for `empirical=True`, and for a regressor whose
        `noise_variance` is not given.
    kind : {"diag", "full"}, default="diag"
        "diag" gives the diagonal as a mapping, for `average_parameters`; "full"
        the matrix, for `pool_estimates`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each row.
    empirical : bool, default=False
        Whether to square the gradients at the responses, rather than to take
        the expectation under the model.
    reduction : {"sum", "mean"}, default="sum"
        Whether to sum over rows, or to divide by the sum of the weights.
    noise_variance : float, default=None
        Error variance of a least-squares regressor; None is its residual sum
        of squares over the weights minus the number of parameters.

    Returns
    -------
    dict of str to ndarray, or ndarray of shape (n_parameters, n_parameters)
        The mapping has the names and shapes of `get_parameters`. The matrix is
        in the order coefficients then intercept, class after class, without an
        intercept if the model has none.

    Raises
    ------
    TypeError
        If the model is of another kind.
    ValueError
        If y is needed and missing, or arguments do not fit.

    References
    ----------
    Fahrmeir, L., Tutz, G. (2001). Multivariate statistical modelling based on
    generalized linear models. Springer.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import fisher_information
    >>> from sklearn.linear_model import LinearRegression
    >>> X, y = np.array([[-1.0], [0.0], [1.0]]), [0.0, 1.0, 1.0]
    >>> fisher_information(LinearRegression().fit(X, y), X, kind="full", noise_variance=1.0)
    array([[2., 0.],
           [0., 3.]])
    """
    for name, value, known in (
        ("kind", kind, ("diag", "full")),
        ("reduction", reduction, ("sum", "mean")),
    ):
        if value not in known:
            raise ValueError(f"fisher_information: {name} must be one of {known}, got {value!r}")
    last = final_estimator(model)
    _check_kind(last)
    for step in preprocessing_steps(model):
        X = step.transform(X)
    X = validate_features(last, X, reset=False, accept_sparse="csr")
    weight = check_sample_weight(sample_weight, X)
    y = None if y is None else _responses(last, y, X.shape[0])
    theta = _coefficients(last)
    rows = _Rows(last, X, y, weight, theta)
    if isinstance(last, GAUSSIAN):
        rows.variance = _noise_variance(rows, noise_variance)
    elif empirical and y is None:
        raise ValueError("fisher_information: empirical=True needs the responses; pass y")
    scale = 1.0 / weight.sum() if reduction == "mean" else 1.0
    if kind == "diag":
        return _diagonal(rows, empirical, scale)
    H = scale * _full(rows, empirical)
    return H if getattr(last, "fit_intercept", True) else _without_intercepts(H, theta.shape)


class _Rows:
    """Rows of a model in chunks: design, weights and curvature by pair of classes."""

    def __init__(self, model: Any, X: Any, y: Array | None, weight: Array, theta: Array) -> None:
        self.model, self.X, self.y, self.weight, self.theta = model, X, y, weight, theta
        self.variance = 1.0

    def chunks(self) -> Iterator[tuple[Any, Array, Array, Array | None]]:
        """Design with a column of ones, weights, means and residuals of some rows."""
        for start in range(0, self.X.shape[0], CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            ones = np.ones((self.X[part].shape[0], 1))
            stack = sparse.hstack if sparse.issparse(self.X) else np.hstack
            D = stack([self.X[part], ones])
            D = D.tocsr() if sparse.issparse(D) else D
            mean = self._mean(D @ self.theta.T)
            residual = None if self.y is None else self.y[part] - mean
            yield D, self.weight[part], mean, residual

    def _mean(self, eta: Array) -> Array:
        if isinstance(self.model, PoissonRegressor):
            return np.exp(eta)
        if isinstance(self.model, GAUSSIAN):
            return eta
        return softmax(eta, axis=1) if eta.shape[1] > 1 else expit(eta)

    def curvature(
        self, mean: Array, residual: Array | None, empirical: bool
    ) -> Callable[[int, int], Array]:
        """Factor of x x' for two rows of parameters."""
        if empirical:
            return lambda c, d: residual[:, c] * residual[:, d] / self.variance**2
        if isinstance(self.model, GAUSSIAN):
            return lambda c, d: np.full(len(mean), 1 / self.variance)
        if isinstance(self.model, PoissonRegressor):
            return lambda c, d: mean[:, 0]
        return lambda c, d: mean[:, c] * ((c == d) - mean[:, d])


def _diagonal(rows: _Rows, empirical: bool, scale: float) -> dict[str, Array]:
    total = np.zeros(rows.theta.shape)
    for D, weight, mean, residual in rows.chunks():
        factor = rows.curvature(mean, residual, empirical)
        by_class = np.column_stack([weight * factor(c, c) for c in range(len(total))])
        total += (D.multiply(D) if sparse.issparse(D) else D * D).T.dot(by_class).T
    total *= scale
    if not getattr(rows.model, "fit_intercept", True):
        total[:, -1] = 0.0
    coef, intercept = rows.model.coef_, rows.model.intercept_
    return {
        "coef_": total[:, :-1].reshape(np.shape(coef)),
        "intercept_": total[:, -1].reshape(np.shape(intercept)),
    }


def _full(rows: _Rows, empirical: bool) -> Array:
    C, p = rows.theta.shape
    H = np.zeros((C, p, C, p))
    for D, weight, mean, residual in rows.chunks():
        factor = rows.curvature(mean, residual, empirical)
        for c in range(C):
            for d in range(c + 1):
                v = (weight * factor(c, d))[:, None]
                block = D.T @ (D.multiply(v) if sparse.issparse(D) else D * v)
                H[c, :, d] += block.toarray() if sparse.issparse(block) else block
    for c in range(C):
        for d in range(c):
            H[d, :, c] = H[c, :, d].T
    return H.reshape(C * p, C * p)


def _without_intercepts(H: Array, shape: tuple[int, int]) -> Array:
    kept = (np.arange(shape[0] * shape[1]) + 1) % shape[1] != 0
    return H[np.ix_(kept, kept)]


def _check_kind(model: Any) -> None:
    """Refuse models whose likelihood is another."""
    check_is_fitted(model)
    name = type(model).__name__
    if isinstance(model, SGDClassifier):
        known = model.loss == "log_loss" and len(model.classes_) == 2
    else:
        known = isinstance(model, (*GAUSSIAN, LogisticRegression, PoissonRegressor))
    if not known:
        raise TypeError(
            f"fisher_information: the information of {name} is not known; pass a least-squares, "
            "Poisson or logistic model, or use reweight.torch.fisher_information for a module"
        )
    if not isinstance(model, LogisticRegression) and np.ndim(model.coef_) == 2:
        if len(model.coef_) > 1:
            raise ValueError(
                f"fisher_information: {name} has {len(model.coef_)} outputs; fit one at a time"
            )


def _coefficients(model: Any) -> Array:
    coef = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
    return np.column_stack([coef, np.broadcast_to(np.ravel(model.intercept_), len(coef))])


def _responses(model: Any, y: ArrayLike, n_rows: int) -> Array:
    """Responses as a column, or as indicators of the classes."""
    y = np.asarray(y)
    if y.shape[0] != n_rows or y.size != n_rows:
        raise ValueError(
            f"fisher_information: y has shape {y.shape} but X has {n_rows} rows; pass one response "
            "a row"
        )
    y = y.ravel()
    if not hasattr(model, "classes_"):
        return y.astype(np.float64)[:, None]
    unknown = np.setdiff1d(y, model.classes_)
    if unknown.size:
        raise ValueError(
            f"fisher_information: y has the class {unknown[0]}, which the model does not know; "
            f"its classes are {list(model.classes_)}"
        )
    indicators = (y[:, None] == model.classes_).astype(np.float64)
    return indicators if len(model.coef_) > 1 else indicators[:, 1:]


def _noise_variance(rows: _Rows, given: float | None) -> float:
    if given is not None:
        if not 0 < given < np.inf:
            raise ValueError(
                f"fisher_information: noise_variance must be positive and finite, got {given!r}"
            )
        return float(given)
    if rows.y is None:
        raise ValueError(
            "fisher_information: the error variance of a regressor is not known; pass y or "
            "noise_variance"
        )
    squares = sum(float(w @ r[:, 0] ** 2) for _, w, _, r in rows.chunks())
    n_parameters = rows.theta.shape[1] - (not getattr(rows.model, "fit_intercept", True))
    degrees = rows.weight.sum() - n_parameters
    if degrees <= 0 or squares == 0:
        raise ValueError(
            f"fisher_information: {rows.X.shape[0]} rows leave no residual for {n_parameters} "
            "parameters; pass noise_variance"
        )
    return squares / degrees
