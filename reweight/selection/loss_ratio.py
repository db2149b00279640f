"""Weights and selection of training data by their losses beside those of trusted data.

Functions of arrays and tensors alike: what goes in as tensor comes out as tensor on its device.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.kernels.bandwidth import resolve_bandwidth
from reweight.kernels.kernel_sums import kernel_matrix
from reweight.kernels.leave_pair_out import leave_pair_out_scores

METHODS = ("mean", "density")
MEDIAN_MULTIPLES = (0.25, 0.5, 1.0, 2.0)
ALPHAS = np.logspace(-3, 1, 9)
N_CENTERS = 100
# What rounding may add to a whole number of rows.
ROUNDING = 1e-9


def loss_ratio_weights(
    losses: Any,
    val_losses: Any,
    *,
    max_weight: float | None = None,
    method: str = "mean",
) -> Any:
    r"""Weights that bring the losses of training rows to those of trusted rows.

    With :math:`\bar L_v` the mean loss of the trusted rows, "mean" gives
    :math:`w_i = \bar L_v / L_i`, so that each weighted loss is the trusted
    mean. That is one moment of what importance weights do, and no density
    ratio: judge rows by it with `loss_ratio_distance`, do not expect unbiased
    means of it. "density" estimates the ratio of the densities of trusted and
    training losses by least squares on Gaussians around trusted losses, whose
    width and ridge are chosen by leaving pairs out.

    Parameters
    ----------
    losses : array-like or tensor of shape (n_samples,)
        Loss of each training row under the current model, such as the mean
        cross-entropy over its tokens; a sum over tokens would measure length.
    val_losses : array-like or tensor of shape (n_val,)
        Losses of the trusted rows under the same model.
    max_weight : float, default=None
        Largest weight, in the units of the ratio; None is no cap. The source's
        code has 2.
    method : {"mean", "density"}, default="mean"
        Which of the two.

    Returns
    -------
    ndarray or tensor of shape (n_samples,)
        Weights on the scale of the ratio, not of mean one; zero where a loss is
        zero or the trusted mean is. Tensors stay on their device, though
        "density" is computed on the host.

    Raises
    ------
    ValueError
        If losses are missing, negative or not finite, or a parameter is out of
        range.

    References
    ----------
    Jiang, C., Chan, C.-M., Xue, W., Liu, Q., Guo, Y. (2025). Importance
    weighting can help large language models self-improve. AAAI.

    Fang, T., Lu, N., Niu, G., Sugiyama, M. (2020). Rethinking importance
    weighting for deep learning under distribution shift. NeurIPS.

    Examples
    --------
    >>> from reweight import loss_ratio_weights
    >>> loss_ratio_weights([0.5, 1.0, 2.0, 4.0], [0.8, 1.2])
    array([2.  , 1.  , 0.5 , 0.25])
    """
    caller = "loss_ratio_weights"
    losses, val_losses = _check_losses(caller, losses, val_losses)
    _check_options(caller, method, max_weight=max_weight)
    return _weights(losses, val_losses, max_weight, method)


def loss_ratio_distance(
    losses: Any,
    val_losses: Any,
    *,
    max_weight: float | None = None,
    max_distance: float | None = None,
) -> Any:
    r"""How far the loss of each training row is from that of trusted rows, both ways.

    :math:`\max(w_i, 1 / w_i)` with :math:`w_i = \bar L_v / L_i`: at least one,
    and the same for a loss that is twice and half the trusted mean.

    Parameters
    ----------
    losses : array-like or tensor of shape (n_samples,)
        Loss of each training row under the current model.
    val_losses : array-like or tensor of shape (n_val,)
        Losses of the trusted rows under the same model.
    max_weight : float, default=None
        Cap of the weight, at least one, where all rows of smaller losses tie.
        None is no cap. The source's code has 2, which lets memorised rows pass.
    max_distance : float, default=None
        Cap of the distance of large losses, at least one; None is no cap. The
        source's code has 5.

    Returns
    -------
    ndarray or tensor of shape (n_samples,)
        Infinite, or `max_distance`, where the weight is zero.

    Raises
    ------
    ValueError
        If losses are missing, negative or not finite, or a cap is below one.

    References
    ----------
    Jiang, C., Chan, C.-M., Xue, W., Liu, Q., Guo, Y. (2025). Importance
    weighting can help large language models self-improve. AAAI.

    Examples
    --------
    >>> from reweight import loss_ratio_distance
    >>> loss_ratio_distance([0.5, 1.0, 2.0, 4.0], [0.8, 1.2])
    array([2., 1., 2., 4.])
    """
    caller = "loss_ratio_distance"
    losses, val_losses = _check_losses(caller, losses, val_losses)
    _check_caps(caller, max_weight, max_distance)
    return _distance(losses, val_losses, max_weight, max_distance)


def select_by_loss_ratio(
    losses: Any,
    val_losses: Any,
    *,
    keep: float = 0.8,
    eligible: Any = None,
    method: str = "mean",
    max_weight: float | None = None,
    max_distance: float | None = None,
    strict: bool = False,
) -> Any:
    """Training rows whose losses are most like those of trusted rows.

    Made for data that a model has generated itself: a sample that looks right
    may still be far from the task, and its loss shows it.

    Parameters
    ----------
    losses : array-like or tensor of shape (n_samples,)
        Loss of each training row under the current model, such as the mean
        cross-entropy over its tokens.
    val_losses : array-like or tensor of shape (n_val,)
        Losses of a few trusted rows under the same model.
    keep : float, default=0.8
        Share of the eligible rows to keep, above 0 and at most 1, rounded up to a whole
        number of rows.
    eligible : array-like or tensor of bool of shape (n_samples,), default=None
        Rows to choose from, such as those of `majority_vote`; None is all.
    method : {"mean", "density"}, default="mean"
        Keep rows of the smallest distance of `loss_ratio_distance`, or of the
        largest density ratio of `loss_ratio_weights`.
    max_weight : float, default=None
        Cap of the weight, for "mean"; with 2, a `max_distance` of 5 and
        `strict` the selection is that of the source's code.
    max_distance : float, default=None
        Cap of the distance, for "mean".
    strict : bool, default=False
        Whether to keep only rows closer than the one after those to keep, as
        the source's code does, so that ties at the threshold are all dropped,
        and never rows of zero loss. If not, ties go by order.

    Returns
    -------
    ndarray or tensor of bool of shape (n_samples,)
        True for the rows to keep.

    Raises
    ------
    ValueError
        If losses are missing, negative or not finite, no row is eligible, or a
        parameter is out of range.

    References
    ----------
    Jiang, C., Chan, C.-M., Xue, W., Liu, Q., Guo, Y. (2025). Importance
    weighting can help large language models self-improve. AAAI.

    Examples
    --------
    >>> from reweight import select_by_loss_ratio
    >>> select_by_loss_ratio([0.1, 0.9, 1.0, 1.3, 6.0], [0.8, 1.2], keep=0.6)
    array([False,  True,  True,  True, False])
    """
    caller = "select_by_loss_ratio"
    losses, val_losses = _check_losses(caller, losses, val_losses)
    _check_options(caller, method)
    _check_caps(caller, max_weight, max_distance)
    if not 0 < keep <= 1:
        raise ValueError(f"{caller}: keep={keep} must lie above 0 and be at most 1")
    if method == "density":
        if max_weight is not None or max_distance is not None or strict:
            raise ValueError(
                f"{caller}: max_weight, max_distance and strict belong to method='mean', but "
                "method='density' is asked for; leave them out"
            )
        distance = -_weights(losses, val_losses, None, method)
    else:
        distance = _distance(losses, val_losses, max_weight, max_distance)
    mask = _check_eligible(caller, eligible, losses)
    if strict:
        # A loss of zero has no weight, and the source's code leaves such rows out.
        usable = losses > 0
        return _closest_strictly(distance, usable if mask is None else usable & mask, keep)
    return _closest(distance, mask, keep)


def majority_vote(answers: Any, groups: Any) -> Any:
    """Rows whose answer is the most common one of their group.

    The usual test of self-consistency: several answers to each question are
    sampled, and those that most samples agree on are taken for right.

    Parameters
    ----------
    answers : array-like or tensor of shape (n_samples,)
        Answer of each row, of any kind; None and NaN are no answer, and do not
        count.
    groups : array-like or tensor of shape (n_samples,)
        Question that each row answers.

    Returns
    -------
    ndarray or tensor of bool of shape (n_samples,)
        True for rows with the majority's answer. Of answers that are equally
        common, that which comes first in the group wins.

    Raises
    ------
    ValueError
        If there is not one answer and one group per row, or a group is missing.

    References
    ----------
    Wang, X., Wei, J., Schuurmans, D., Le, Q., Chi, E., Narang, S., Chowdhery,
    A., Zhou, D. (2023). Self-consistency improves chain of thought reasoning in
    language models. ICLR.

    Examples
    --------
    >>> from reweight import majority_vote
    >>> majority_vote(["4", "5", "4", "7", None], ["a", "a", "a", "b", "b"])
    array([ True, False,  True,  True, False])
    """
    codes = _codes("majority_vote", "answers", answers)
    groups_of = _codes("majority_vote", "groups", groups)
    if codes.shape != groups_of.shape:
        raise ValueError(
            f"majority_vote: there are {len(codes)} answers and {len(groups_of)} groups; pass one "
            "of each per row"
        )
    if (groups_of < 0).any():
        raise ValueError(
            f"majority_vote: groups has {int((groups_of < 0).sum())} missing entries; pass the "
            "question of each row"
        )
    voting = np.flatnonzero(codes >= 0)
    # Pairs of group and answer, numbered from 0, with the row in which each comes first.
    keys = groups_of[voting] * (codes.max(initial=0) + 1) + codes[voting]
    _, first, pair, votes = np.unique(
        keys, return_index=True, return_inverse=True, return_counts=True
    )
    group = groups_of[voting][first]
    order = np.lexsort((first, -votes, group))
    leads = np.ones(len(order), dtype=bool)
    leads[1:] = group[order][1:] != group[order][:-1]
    wins = np.zeros(len(order), dtype=bool)
    wins[order[leads]] = True
    mask = np.zeros(len(codes), dtype=bool)
    mask[voting] = wins[pair]
    return answers.new_tensor(mask).bool() if _is_tensor(answers) else mask


def _is_tensor(thing: Any) -> bool:
    return hasattr(thing, "new_tensor")


def _to_numpy(thing: Any) -> Any:
    return thing.detach().cpu().numpy() if _is_tensor(thing) else np.asarray(thing)


def _on_host(losses: Any) -> Any:
    # Numpy has no counterpart of some of the floating types of tensors.
    return losses.cpu().double().numpy() if _is_tensor(losses) else losses


def _codes(caller: str, name: str, labels: Any) -> Any:
    """Code of each label, -1 for a missing one."""
    import pandas as pd

    array = _to_numpy(labels)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{caller}: {name} has shape {array.shape}; pass one per row")
    return pd.factorize(array)[0].astype(np.int64)


def _check_losses(caller: str, losses: Any, val_losses: Any) -> tuple[Any, Any]:
    """Losses as floating arrays, or as tensors on the device of the training losses."""
    losses = _check_one(caller, "losses", losses)
    val_losses = _check_one(caller, "val_losses", val_losses)
    if not _is_tensor(losses):
        return losses, _to_numpy(val_losses).astype(np.float64)
    losses = losses if losses.is_floating_point() else losses / 1
    if _is_tensor(val_losses):
        return losses, val_losses.to(losses)
    return losses, losses.new_tensor(val_losses)


def _check_one(caller: str, name: str, given: Any) -> Any:
    losses = given.detach() if _is_tensor(given) else np.asarray(given, dtype=np.float64)
    if losses.ndim != 1 or losses.shape[0] == 0:
        raise ValueError(
            f"{caller}: {name} has shape {tuple(losses.shape)}; pass one loss per row, at least one"
        )
    # Written so that NaN fails; one look at the answer is all that a device is waited for.
    right = (losses >= 0) & (losses < float("inf"))
    if not bool(right.all()):
        raise ValueError(
            f"{caller}: {name} has {int((~right).sum())} entries that are negative, NaN or "
            "infinite; losses must be finite and >= 0; for log-likelihoods pass their negative"
        )
    return losses


def _check_options(caller: str, method: str, max_weight: float | None = None) -> None:
    if method not in METHODS:
        raise ValueError(f"{caller}: method={method!r} must be one of {list(METHODS)}")
    if max_weight is not None and not max_weight > 0:
        raise ValueError(f"{caller}: max_weight={max_weight} must be positive, or None for no cap")


def _check_caps(caller: str, max_weight: float | None, max_distance: float | None) -> None:
    for name, cap in (("max_weight", max_weight), ("max_distance", max_distance)):
        if cap is not None and not cap >= 1:
            raise ValueError(
                f"{caller}: {name}={cap} must be at least 1, where a row is like the trusted ones; "
                "None is no cap"
            )


def _check_eligible(caller: str, eligible: Any, losses: Any) -> Any:
    if eligible is None:
        return None
    mask = eligible if _is_tensor(eligible) else np.asarray(eligible)
    if "bool" not in str(mask.dtype) or tuple(mask.shape) != tuple(losses.shape):
        raise ValueError(
            f"{caller}: eligible must be {losses.shape[0]} booleans, one per row, got "
            f"{mask.dtype} of shape {tuple(mask.shape)}; pass a mask, such as that of majority_vote"
        )
    if not bool(mask.any()):
        raise ValueError(
            f"{caller}: no row is eligible; pass a mask with True for the rows to choose from"
        )
    if not _is_tensor(losses):
        return _to_numpy(mask)
    if _is_tensor(mask):
        return mask.to(losses.device)
    return losses.new_tensor(mask).bool()


def _weights(losses: Any, val_losses: Any, max_weight: float | None, method: str) -> Any:
    if method == "density":
        ratio = _density_ratio(*(_on_host(given) for given in (losses, val_losses)))
        weights = losses.new_tensor(ratio) if _is_tensor(losses) else ratio
    else:
        zero = losses == 0
        weights = val_losses.mean() / (losses + 1.0 * zero)
        weights[zero] = 0.0
    return weights if max_weight is None else weights.clip(0.0, max_weight)


def _distance(
    losses: Any, val_losses: Any, max_weight: float | None, max_distance: float | None
) -> Any:
    weights = _weights(losses, val_losses, max_weight, "mean")
    none = weights == 0
    inverse = 1.0 / (weights + 1.0 * none)
    inverse[none] = float("inf")
    if max_distance is not None:
        inverse = inverse.clip(None, max_distance)
    above = weights >= 1
    inverse[above] = weights[above]
    return inverse


def _density_ratio(
    losses: NDArray[np.float64], val_losses: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Ratio of the densities of trusted and training losses, at the training losses."""
    rng = np.random.RandomState(0)
    source, target = losses[:, None], val_losses[:, None]
    if np.ptp(np.concatenate([source, target])) == 0:
        return np.ones(len(source))
    few = min(len(target), N_CENTERS)
    centers = target if len(target) <= few else target[rng.choice(len(target), few, replace=False)]
    median = resolve_bandwidth(np.concatenate([source, target]), "median", random_state=rng)
    order, order_target = rng.permutation(len(source)), rng.permutation(len(target))
    best = (np.inf, None, None)
    for multiple in MEDIAN_MULTIPLES if min(len(source), len(target)) > 1 else (1.0,):
        F, F_target = (
            kernel_matrix(rows, centers, "rbf", multiple * median) for rows in (source, target)
        )
        scores = np.zeros(len(ALPHAS))
        if min(len(source), len(target)) > 1:
            scores = leave_pair_out_scores(F[order], F_target[order_target], ALPHAS)
        k = int(np.argmin(scores))
        if scores[k] < best[0]:
            best = (scores[k], (F, F_target), ALPHAS[k])
    (F, F_target), alpha = best[1:]
    H = F.T @ F / len(F) + alpha * np.eye(few)
    return F @ np.maximum(np.linalg.solve(H, F_target.mean(axis=0)), 0.0)


def _closest(distance: Any, mask: Any, keep: float) -> Any:
    """The share of smallest distance, ties by order."""
    n_eligible = distance.shape[0] if mask is None else int(mask.sum())
    n_kept = max(math.ceil(keep * n_eligible - ROUNDING), 1)
    order = distance.argsort(stable=True)
    if mask is not None:
        # Rows that are not eligible come after all others, those infinitely far included.
        order = order[(~mask)[order].argsort(stable=True)]
    kept = distance != distance
    kept[order[:n_kept]] = True
    return kept


def _closest_strictly(distance: Any, mask: Any, keep: float) -> Any:
    """Those closer than the row after the share, all of them if there is no such row."""
    values = distance[mask]
    place = math.floor(keep * values.shape[0] + ROUNDING)
    if place >= values.shape[0]:
        return mask
    ordered = values[values.argsort()]
    return mask & (distance < ordered[place])
