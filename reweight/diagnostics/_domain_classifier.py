"""Cross-validated classification of two samples."""

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, check_cv

from reweight.parallel import parallel_map
from reweight.weighted_fit import weight_key, weighted_fit

Sample = tuple[NDArray[np.float64], NDArray[np.float64]]


def _folds(cv: Any, y: NDArray, rows: NDArray, rng: np.random.RandomState) -> list:
    if not isinstance(cv, Integral):
        return list(check_cv(cv, y, classifier=True).split(rows, y))
    smallest = int(np.bincount(y).min())
    if smallest < cv:
        raise ValueError(
            f"domain_auc: the smaller sample has {smallest} rows of positive weight, fewer than "
            f"cv={cv} folds; pass more rows or a smaller cv"
        )
    return list(StratifiedKFold(cv, shuffle=True, random_state=rng).split(rows, y))


def _fold_auc(
    estimator: Any, rows: NDArray, y: NDArray, w: NDArray, train: NDArray, test: NDArray
) -> float:
    fitted = weighted_fit(clone(estimator), rows[train], y[train], w[train], owner="domain_auc")
    if hasattr(fitted, "predict_proba"):
        score = fitted.predict_proba(rows[test])[:, 1]
    else:
        score = fitted.decision_function(rows[test])
    return float(roc_auc_score(y[test], score, sample_weight=w[test]))


def mean_auc(
    x: Sample,
    z: Sample,
    estimator: Any,
    cv: Any,
    rng: np.random.RandomState,
    n_jobs: int | None,
) -> float:
    """Mean over the folds of the weighted AUC of telling z from x.

    Parameters
    ----------
    x, z : tuple of ndarray
        Rows and positive weights of the two samples.
    estimator : estimator or None
        The classifier.
    cv : int or splitter
        The folds.
    rng : RandomState
        Source of the folds and of the default estimator's seed.
    n_jobs : int or None
        Number of folds that run at a time.

    Returns
    -------
    float
    """
    rows = np.vstack([x[0], z[0]])
    y = np.repeat([0, 1], [len(x[0]), len(z[0])])
    # Weights of mean one, half of them in each sample.
    w = np.concatenate([part / part.sum() for part in (x[1], z[1])]) * len(rows) / 2
    folds = _folds(cv, y, rows, rng)
    if estimator is None:
        estimator = HistGradientBoostingClassifier(
            max_iter=50,
            max_leaf_nodes=15,
            early_stopping=False,
            random_state=rng.randint(np.iinfo(np.int32).max),
        )
    weight_key(estimator, owner="domain_auc")
    tasks = ((estimator, rows, y, w, *fold) for fold in folds)
    return float(np.mean(parallel_map(_fold_auc, tasks, n_jobs=n_jobs)))
