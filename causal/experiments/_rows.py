"""What users pass as features, in the container that their models want."""

from typing import Any

import narwhals.stable.v1 as nw
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import validate_data

from reweight.validation import validate_features


def read_features(estimator: BaseEstimator, X: Any, models: list[Any], *, reset: bool) -> Any:
    """Features for some models: frames as they are, anything else as float64.

    Parameters
    ----------
    estimator : BaseEstimator
        What `n_features_in_` and `feature_names_in_` are set on or checked
        against.
    X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
        Features.
    models : list of estimators
        Who will see the features, None for the default model of arms, which
        needs numbers without gaps.
    reset : bool
        True in `fit`, False for later rows.

    Returns
    -------
    ndarray, sparse matrix or data frame of shape (n_samples, n_features)
    """
    numbers_only = any(model is None for model in models)
    if nw.dependencies.is_into_dataframe(X) and not numbers_only:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        return X
    tags = [get_tags(model).input_tags for model in models if model is not None]
    allow_nan = not numbers_only and all(tag.allow_nan for tag in tags)
    return validate_features(
        estimator,
        X,
        reset=reset,
        accept_sparse=False if numbers_only else "csr",
        ensure_all_finite="allow-nan" if allow_nan else True,
    )
