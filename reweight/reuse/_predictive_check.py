"""Posterior predictive checks: what was seen beside what the model replicates."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted


def predictive_check(
    model: Any, statistic: str | Callable[[NDArray], ArrayLike], n_replications: int
) -> dict[str, Any]:
    """Observed and replicated statistics of the classes, and how they compare.

    Parameters
    ----------
    model : GateClassifier
        Fitted.
    statistic : {"class_counts", "group_counts"} or callable
        What to compute from the classes.
    n_replications : int
        Number of replications.

    Returns
    -------
    dict
        `observed`, `replicated` and `p_value`.

    Raises
    ------
    ValueError
        If the statistic is unknown, or groups are asked for and there are none.
    """
    check_is_fitted(model, "idata_")
    name, rows = type(model).__name__, model._kind
    compute = statistic if callable(statistic) else _counts(model, statistic)
    if n_replications < 1:
        raise ValueError(f"{name}: draws={n_replications} replications; pass at least 1")
    total = len(model._new_effects)
    chosen = np.linspace(0, total - 1, n_replications).round().astype(int)
    pi, given = _probabilities(model, chosen)
    rng = np.random.default_rng([total, n_replications])
    known = model._data.y[rows]
    replicated, observed = [], []
    for at in range(n_replications):
        replicated.append(compute(model.classes_[_draw_classes(pi[at][rows], rng)]))
        seen = known
        if (known < 0).any():
            seen = np.where(known < 0, _draw_classes(given[at][rows], rng), known)
        observed.append(compute(model.classes_[seen]))
    replicated, observed = np.asarray(replicated, float), np.asarray(observed, float)
    above = (replicated > observed) + 0.5 * (replicated == observed)
    return {
        "observed": observed.mean(axis=0),
        "replicated": replicated,
        "p_value": above.mean(axis=0),
    }


def _probabilities(model: Any, chosen: NDArray[np.intp]) -> tuple[NDArray, NDArray]:
    """Class probabilities of the rows of `fit`, from features and given the residual."""
    parts = [
        (np.exp(log_pi[chosen]), model._class_draws(log_pi, log_ratio)[chosen])
        for _, log_pi, log_ratio in model._training_chunks()
    ]
    pi, given = zip(*parts, strict=True)
    return np.concatenate(pi, axis=1), np.concatenate(given, axis=1)


def _draw_classes(P: NDArray, rng: np.random.Generator) -> NDArray[np.intp]:
    """One class for each row of probabilities."""
    below = P.cumsum(axis=1)[:, :-1] < rng.uniform(size=(len(P), 1))
    return below.sum(axis=1)


def _counts(model: Any, statistic: str) -> Callable[[NDArray], NDArray]:
    name, classes = type(model).__name__, model.classes_
    if statistic == "class_counts":
        return lambda y: (y[:, None] == classes).sum(axis=0)
    if statistic != "group_counts":
        raise ValueError(
            f"{name}: statistic={statistic!r} is unknown; pass 'class_counts', 'group_counts' or "
            "a callable"
        )
    if model.groups_ is None:
        raise ValueError(
            f"{name}: statistic='group_counts' needs groups; fit with groups=, or pass "
            "statistic='class_counts'"
        )
    member = model._data.groups[model._kind][None, :] == np.arange(len(model.groups_))[:, None]
    return lambda y: member.astype(float) @ (y[:, None] == classes)
