"""Information matrices of fitted linear models."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import expit, softmax
from sklearn.linear_model import (
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
from sklearn.preprocessing import label_binarize
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from reweight.parameters._tensors import check_options
from reweight.parameters.views import final_estimator, preprocessing_steps
from reweight.validation import check_sample_weight, validate_features

Array = NDArray[np.float64]

GAUSSIAN = (BayesianRidge, ElasticNet, ElasticNetCV, LassoCV, LinearRegression, Ridge, RidgeCV)
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
    check_options(
        "fisher_information", kind=(kind, ("diag", "full")), reduction=(reduction, ("sum", "mean"))
    )
    last, diagonal = _known(final_estimator(model)), kind == "diag"
    for step in preprocessing_steps(model):
        X = step.transform(X)
    X = validate_features(last, X, reset=False, accept_sparse="csr")
    X = sparse.csr_array(X) if sparse.issparse(X) else X
    weight = check_sample_weight(sample_weight, X)
    theta, intercept = np.atleast_2d(last.coef_), getattr(last, "fit_intercept", True)
    if intercept:
        theta = np.column_stack([theta, np.ravel(last.intercept_)])
    Y = None if y is None else _responses(last, y, X)
    variance = _noise_variance(last, X, Y, weight, theta.size, noise_variance)
    if not 0 < variance < np.inf or (empirical and Y is None):
        raise ValueError(
            f"fisher_information: noise_variance is {variance:.3g} with {X.shape[0]} rows and "
            f"{theta.size} parameters; it must be positive, and empirical=True needs y"
        )
    C, p = theta.shape
    H = np.zeros((C, p) if diagonal else (C, p, C, p))
    for start in range(0, X.shape[0], CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        D = X[part]
        if intercept:
            D = (sparse if sparse.issparse(X) else np).hstack([D, np.ones((D.shape[0], 1))])
        mean = _mean(last, safe_sparse_dot(D, theta.T, dense_output=True))
        residual = Y[part] - mean if empirical else None
        for c in range(C):
            for d in range(c, c + 1 if diagonal else C):
                v = weight[part] * _curvature(last, mean, residual, c, d, variance)
                if diagonal:
                    H[c] += (D * D).T @ v
                else:
                    H[c, :, d] += safe_sparse_dot(D.T, D * v[:, None], dense_output=True)
                    H[d, :, c] = H[c, :, d]
    if reduction == "mean":
        H /= weight.sum()
    if not diagonal:
        return H.reshape(C * p, C * p)
    coef, of_intercept = (H[:, :-1], H[:, -1]) if intercept else (H, np.zeros(C))
    return {
        "coef_": coef.reshape(np.shape(last.coef_)),
        "intercept_": of_intercept.reshape(np.shape(last.intercept_)),
    }


def _known(model: Any) -> Any:
    """The model, if its likelihood is known."""
    check_is_fitted(model)
    known = isinstance(model, (*GAUSSIAN, LogisticRegression, PoissonRegressor))
    if isinstance(model, SGDClassifier):
        known = model.loss == "log_loss" and len(model.coef_) == 1
    if not known or (isinstance(model, GAUSSIAN) and len(np.atleast_2d(model.coef_)) > 1):
        raise TypeError(
            f"fisher_information: the information of {type(model).__name__} is not known; pass a "
            "least-squares model of one output, a Poisson or a logistic one"
        )
    return model


def _noise_variance(model, X, Y, weight, n_parameters: int, given: float | None) -> float:
    """Error variance of a least-squares regressor, one for the others."""
    if given is not None or not isinstance(model, GAUSSIAN):
        return 1.0 if given is None else given
    if Y is None:
        raise ValueError("fisher_information: pass y or noise_variance for a regressor")
    degrees = weight.sum() - n_parameters
    return weight @ (Y[:, 0] - model.predict(X)) ** 2 / degrees if degrees > 0 else 0.0


def _mean(model: Any, eta: Array) -> Array:
    if isinstance(model, GAUSSIAN):
        return eta
    if isinstance(model, PoissonRegressor):
        return np.exp(eta)
    return softmax(eta, axis=1) if eta.shape[1] > 1 else expit(eta)


def _curvature(model, mean: Array, residual: Array | None, c: int, d: int, variance: float) -> Any:
    """Factor of x x' for two rows of parameters."""
    if residual is not None:
        return residual[:, c] * residual[:, d] / variance**2
    if isinstance(model, GAUSSIAN):
        return 1 / variance
    return mean[:, c] * ((c == d) - (0 if isinstance(model, PoissonRegressor) else mean[:, d]))


def _responses(model: Any, y: ArrayLike, X: Any) -> Array:
    """Responses as a column, or as indicators of the classes."""
    y = column_or_1d(y)
    check_consistent_length(X, y)
    if not hasattr(model, "classes_"):
        return y.astype(np.float64)[:, None]
    if not np.isin(y, model.classes_).all():
        raise ValueError(f"fisher_information: y has classes that are not in {model.classes_}")
    return label_binarize(y, classes=model.classes_).astype(np.float64)
