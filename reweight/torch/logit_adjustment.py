"""Logits adjusted to how common classes are, in training or after it."""

import math

from numpy.typing import ArrayLike
from torch import Tensor, nn

from reweight.torch._class_counts import check_counts, check_share, effective_number_weights

KINDS = ("additive", "multiplicative", "class_balanced")


class LogitAdjustment(nn.Module):
    r"""Logits that aim at balanced classes although the training data are not.

    With :math:`\pi` the class shares, "additive" trains on
    :math:`z + \tau \log \pi`, whose plain z then suits balanced classes; or, after
    plain training, predicts by :math:`z - \tau \log \pi`. Do one of the two.
    "multiplicative" predicts by :math:`z_c \pi_c^{-\tau}`. "class_balanced" trains on
    :math:`z_c / w_c` with the effective-number weights w of `ClassBalancedWeighter`,
    so that the logits of rare classes, whose w is above one, must grow.

    Parameters
    ----------
    class_counts : array-like or Tensor of shape (n_classes,)
        Number of training rows of each class.
    tau : float, default=1.0
        Strength, 0 or more; not for "class_balanced".
    kind : {"additive", "multiplicative", "class_balanced"}, default="additive"
        Which of the three.
    beta : float, default=0.97
        That of the effective number of rows, from 0 to 1; for "class_balanced".

    Attributes
    ----------
    adjustment : Tensor of shape (n_classes,)
        What is added or multiplied in training, or after it: tau log pi, pi^-tau or
        1 / w; a float32 buffer.

    Notes
    -----
    Multiplying a negative logit by a large factor makes it less likely: the
    multiplicative kind is meant for heads without bias such as `ETFClassifier`, and
    its tau for choice on validation data (0.65 in the source). Shares are of the
    classes counted and sum to one.

    References
    ----------
    Menon, A. K., Jayasumana, S., Rawat, A. S., Jain, H., Veit, A. and Kumar, S.
    (2021). Long-tail learning via logit adjustment. ICLR.

    Hasegawa, N. and Sato, I. (2024). Exploring weight balancing on long-tailed
    recognition problem. ICLR.

    Wang, F.-Y., Zhou, D.-W., Ye, H.-J. and Zhan, D.-C. (2022). FOSTER: feature
    boosting and compression for class-incremental learning. ECCV.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import LogitAdjustment
    >>> adjust = LogitAdjustment([900, 100])
    >>> posterior = torch.tensor([[0.8, 0.2]])
    >>> adjust.predict_logits(posterior.log()).softmax(1)
    tensor([[0.3077, 0.6923]])
    """

    adjustment: Tensor

    def __init__(
        self,
        class_counts: ArrayLike | Tensor,
        tau: float = 1.0,
        kind: str = "additive",
        *,
        beta: float = 0.97,
    ) -> None:
        super().__init__()
        counts = check_counts("LogitAdjustment", class_counts)
        if kind not in KINDS:
            raise ValueError(f"LogitAdjustment: kind={kind!r}; choose one of {list(KINDS)}")
        if not 0 <= tau < math.inf:
            raise ValueError(f"LogitAdjustment: tau={tau}; it must be finite and not negative")
        self.tau = float(tau)
        self.kind = kind
        self.beta = check_share("LogitAdjustment", "beta", beta)
        shares = counts / counts.sum()
        if kind == "additive":
            adjustment = self.tau * shares.log()
        elif kind == "multiplicative":
            adjustment = shares**-self.tau
        else:
            adjustment = 1.0 / effective_number_weights(counts, self.beta)
        self.register_buffer("adjustment", adjustment.float())

    def train_logits(self, logits: Tensor) -> Tensor:
        """Logits to take the cross-entropy of, in training.

        Parameters
        ----------
        logits : Tensor of shape (n_rows, n_classes, ...)
            Scores.

        Returns
        -------
        Tensor in the shape of `logits`

        Raises
        ------
        ValueError
            If the kind adjusts predictions alone, or the classes do not fit.
        """
        if self.kind == "multiplicative":
            raise ValueError(
                "LogitAdjustment: kind='multiplicative' adjusts predictions of a model trained on "
                "plain logits; use kind='additive' or 'class_balanced' in training"
            )
        adjustment = self._fitting(logits)
        return logits + adjustment if self.kind == "additive" else logits * adjustment

    def predict_logits(self, logits: Tensor) -> Tensor:
        """Logits to predict by, of a model trained on plain logits.

        Parameters
        ----------
        logits : Tensor of shape (n_rows, n_classes, ...)
            Scores.

        Returns
        -------
        Tensor in the shape of `logits`

        Raises
        ------
        ValueError
            If the kind adjusts training alone, or the classes do not fit.
        """
        if self.kind == "class_balanced":
            raise ValueError(
                "LogitAdjustment: kind='class_balanced' adjusts training; predict by the plain "
                "logits, or use kind='additive' after plain training"
            )
        adjustment = self._fitting(logits)
        return logits - adjustment if self.kind == "additive" else logits * adjustment

    def forward(self, logits: Tensor) -> Tensor:
        """What `train_logits` gives in training mode, and plain logits in evaluation mode.

        As a last layer it is the form for training, after which nothing is adjusted.

        Parameters
        ----------
        logits : Tensor of shape (n_rows, n_classes, ...)
            Scores.

        Returns
        -------
        Tensor in the shape of `logits`
        """
        return self.train_logits(logits) if self.training else logits

    def _fitting(self, logits: Tensor) -> Tensor:
        """The adjustment in the shape of the logits' second dimension."""
        n_classes = len(self.adjustment)
        if logits.dim() < 2 or logits.shape[1] != n_classes:
            raise ValueError(
                f"LogitAdjustment: logits have shape {tuple(logits.shape)} for {n_classes} "
                "classes; pass one score a class in the second dimension"
            )
        return self.adjustment.to(logits).view(-1, *[1] * (logits.dim() - 2))

    def extra_repr(self) -> str:
        """Number of classes and settings of the kind.

        Returns
        -------
        str
        """
        own = f"beta={self.beta}" if self.kind == "class_balanced" else f"tau={self.tau}"
        return f"n_classes={len(self.adjustment)}, {own}, kind={self.kind!r}"
