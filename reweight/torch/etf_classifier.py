"""A last layer that is fixed, with classes as far apart as can be."""

import math

import torch
from torch import Tensor, nn


class ETFClassifier(nn.Module):
    r"""Fixed linear classifier whose class vectors form a simplex equiangular tight frame.

    Features of balanced data end up in this arrangement; on long tails the vectors
    of rare classes collapse unless it is given. The vectors are the columns of
    :math:`\sqrt{C / (C - 1)} U (I - 1 1^T / C)` with U a random matrix of
    orthonormal columns: they have length one and cosines of -1 / (C - 1).

    Parameters
    ----------
    n_features : int
        Number of features, at least that of classes.
    n_classes : int
        Number of classes C, at least 2.
    generator : torch.Generator, default=None
        Source of U; None is the default generator.

    Attributes
    ----------
    weight : Tensor of shape (n_classes, n_features)
        The vectors, a buffer that is not trained.

    References
    ----------
    Yang, Y., Chen, S., Li, X., Xie, L., Lin, Z. and Tao, D. (2022). Inducing neural
    collapse in imbalanced learning: do we really need a learnable classifier at the
    end of deep neural network? NeurIPS.

    Hasegawa, N. and Sato, I. (2024). Exploring weight balancing on long-tailed
    recognition problem. ICLR.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import ETFClassifier
    >>> head = ETFClassifier(8, 3)
    >>> head(torch.zeros(2, 8)).shape
    torch.Size([2, 3])
    >>> torch.allclose(head.weight @ head.weight.T, 1.5 * torch.eye(3) - 0.5, atol=1e-6)
    True
    """

    weight: Tensor

    def __init__(
        self, n_features: int, n_classes: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if not (isinstance(n_classes, int) and n_classes >= 2):
            raise ValueError(f"ETFClassifier: n_classes={n_classes!r}; pass a whole number >= 2")
        if not (isinstance(n_features, int) and n_features >= n_classes):
            raise ValueError(
                f"ETFClassifier: n_features={n_features!r} for n_classes={n_classes}; pass a whole "
                "number of features, at least one a class"
            )
        device = None if generator is None else generator.device
        draws = torch.randn(
            n_features, n_classes, generator=generator, dtype=torch.float64, device=device
        )
        basis = torch.linalg.qr(draws).Q
        frame = math.sqrt(n_classes / (n_classes - 1)) * (basis - basis.mean(1, keepdim=True))
        self.register_buffer("weight", frame.T.contiguous().float())

    def forward(self, features: Tensor) -> Tensor:
        """Scores of the classes.

        Parameters
        ----------
        features : Tensor of shape (..., n_features)
            Features.

        Returns
        -------
        Tensor of shape (..., n_classes)
        """
        return nn.functional.linear(features, self.weight.to(features.dtype))

    def extra_repr(self) -> str:
        """Numbers of features and classes.

        Returns
        -------
        str
        """
        return f"n_features={self.weight.shape[1]}, n_classes={self.weight.shape[0]}"
