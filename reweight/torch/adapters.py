"""Thin adapters to trainers; their libraries are never imported here."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from reweight.exceptions import WeightWarning
from reweight.torch._reduction import n_processes
from reweight.torch.base import LossWeighter
from reweight.validation import warn_user

IGNORED_LABEL = -100


def trainer_compute_loss(
    weighter: LossWeighter,
    *,
    shift: bool = True,
    criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Callable[..., Tensor]:
    """The ``compute_loss_func`` of Hugging Face's `Trainer`, with weights.

    The Trainer counts the labels of all batches that it accumulates, on all
    processes, and expects a sum of losses divided by that count. The weights
    have mean one within each batch (or in the training set, by `normalize` of
    the weighter), so that the accumulated loss is the weighted mean.

    Parameters
    ----------
    weighter : LossWeighter
        What weights the losses. For sequences build it with ``unit="token"``,
        or with ``unit="row", aggregate="token"``, because labels are counted.
    shift : bool, default=True
        Whether the logits of a token predict the next token, as in causal
        language models; without meaning for one label per row.
    criterion : callable, default=None
        ``criterion(logits, labels)`` returns losses in the shape of the labels;
        None is cross-entropy with -100 masked.

    Returns
    -------
    callable
        Function of ``(outputs, labels, num_items_in_batch=None, **context)``.

    Raises
    ------
    ValueError
        If the weighter normalises in a way that the Trainer cannot follow.

    Notes
    -----
    Weights by index need a column that the Trainer removes from its inputs. Set
    ``remove_unused_columns=False``, wrap the data set in `WithIndex`, and with
    ``compute = trainer_compute_loss(IndexWeighter(weights))`` train by::

        class WeightedTrainer(Trainer):
            loss_is_scaled_for_ga = True  # transformers >= 5: the loss is divided below

            def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
                index, labels = inputs.pop("index"), inputs.pop("labels")
                outputs = model(**inputs)
                loss = compute(outputs, labels, num_items_in_batch, index=index)
                if num_items_in_batch is not None and self.args.average_tokens_across_devices:
                    loss = loss * self.accelerator.num_processes
                return (loss, outputs) if return_outputs else loss

    Evaluation, which runs without gradients, gets the plain mean. The Trainer
    does not save the weighter: keep ``weighter.state_dict()`` with your
    checkpoints.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import torch
    >>> from reweight.torch import LossBasedWeighter, trainer_compute_loss
    >>> compute = trainer_compute_loss(LossBasedWeighter(unit="token"))
    >>> outputs = SimpleNamespace(logits=torch.zeros(1, 3, 4, requires_grad=True))
    >>> compute(outputs, torch.tensor([[0, 1, -100]]), num_items_in_batch=1)
    tensor(1.3863, grad_fn=<DivBackward0>)
    """
    if weighter.normalize == "deferred":
        raise ValueError(
            "trainer_compute_loss: the Trainer cannot call finish_step, which normalize='deferred' "
            "needs; use normalize='batch' or 'dataset'"
        )

    def compute_loss(
        outputs: Any, labels: Tensor, num_items_in_batch: Any = None, **context: Tensor
    ) -> Tensor:
        losses, mask = _label_losses(_logits(outputs), labels, shift, criterion)
        if losses.dim() > 1 and weighter.unit == "row" and weighter.aggregate == "row":
            raise ValueError(
                "trainer_compute_loss: the Trainer counts tokens, but the weighter counts rows; "
                "build it with aggregate='token' or unit='token'"
            )
        if weighter.step.device != losses.device:
            weighter.to(losses.device)
        if not torch.is_grad_enabled():
            return _unweighted(weighter, losses, mask)
        value = weighter(losses, mask=mask, **context)
        if num_items_in_batch is None:
            _warn_of_unknown_count()
            return value
        # From the mean that the weighter returns on each process back to a sum of mean-one weights.
        count = weighter._last[2]
        return value * (count / n_processes(weighter.process_group)) / num_items_in_batch

    return compute_loss


class WeightedNetMixin:
    """Mixin that hands the index of each row to the criterion of a skorch net.

    X is a dict (or skorch's `SliceDict`) with an entry "index" that the module
    does not see; the criterion is a `WeightedCriterion`. Weighters that need no
    index need no mixin.

    Notes
    -----
    skorch cannot see the loss inside the criterion, so tell a classifier how its
    outputs become probabilities: ``predict_nonlinearity=partial(torch.softmax,
    dim=-1)``. Validation loss is unweighted.

    Examples
    --------
    >>> from reweight.torch import WeightedNetMixin
    >>> from skorch import NeuralNetRegressor  # doctest: +SKIP
    >>> class WeightedRegressor(WeightedNetMixin, NeuralNetRegressor):  # doctest: +SKIP
    ...     pass
    """

    def infer(self, x: Any, **fit_params: Any) -> Tensor:
        """Outputs of the module, which does not see the index.

        Parameters
        ----------
        x : dict or Tensor
            A batch.
        **fit_params : Any
            Passed on.

        Returns
        -------
        Tensor
        """
        if isinstance(x, Mapping):
            x = {name: value for name, value in x.items() if name != "index"}
        return super().infer(x, **fit_params)

    def get_loss(self, y_pred: Tensor, y_true: Tensor, X: Any = None, **kwargs: Any) -> Tensor:
        """Weighted loss of a batch.

        Parameters
        ----------
        y_pred : Tensor
            Outputs of the module.
        y_true : Tensor
            Targets.
        X : dict
            The batch, with its index.
        **kwargs : Any
            What else skorch passes.

        Returns
        -------
        Tensor of shape ()

        Raises
        ------
        ValueError
            If X has no index.
        """
        if not isinstance(X, Mapping) or "index" not in X:
            raise ValueError(
                f"{type(self).__name__}: X has no entry 'index'; pass "
                "X={'X': features, 'index': np.arange(len(features))}"
            )
        device = y_pred.device
        index = torch.as_tensor(X["index"], device=device)
        return self.criterion_(y_pred, torch.as_tensor(y_true, device=device), index=index)


def _logits(outputs: Any) -> Tensor:
    if isinstance(outputs, Mapping):
        return outputs["logits"]
    return outputs.logits if hasattr(outputs, "logits") else outputs[0]


def _label_losses(
    logits: Tensor, labels: Tensor, shift: bool, criterion: Callable | None
) -> tuple[Tensor, Tensor]:
    """Losses in the shape of the labels, and which of them count."""
    if shift and logits.dim() == 3:
        logits, labels = logits[:, :-1], labels[:, 1:]
    labels = labels.to(logits.device)
    mask = labels != IGNORED_LABEL
    if criterion is not None:
        return criterion(logits, labels), mask
    flat = logits.reshape(-1, logits.shape[-1]).float()
    losses = cross_entropy(flat, labels.reshape(-1), ignore_index=IGNORED_LABEL, reduction="none")
    return losses.reshape(labels.shape), mask


def _unweighted(weighter: LossWeighter, losses: Tensor, mask: Tensor) -> Tensor:
    was_training = weighter.training
    try:
        return weighter.eval()(losses, mask=mask)
    finally:
        weighter.train(was_training)


def _warn_of_unknown_count() -> None:
    warn_user(
        "trainer_compute_loss: num_items_in_batch is None, so the loss is the mean of each batch; "
        "with gradient accumulation the Trainer would add those means up; use one batch a step",
        WeightWarning,
    )
