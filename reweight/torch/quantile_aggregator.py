"""Weights over quantile models as a function of features, by a neural network."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted
from torch import Tensor, nn

from reweight.kernels.isotonic_rows import pava_rows, sort_rows, sweep_rows
from reweight.metrics._quantile_checks import check_quantiles
from reweight.metrics.quantile import pinball_loss, weighted_interval_score
from reweight.outcomes import check_outcomes
from reweight.torch._gate_network import (
    Gate,
    batch_size_for,
    combine,
    crossing_margins,
    gate_objective,
    train_gate,
)
from reweight.validation import check_sample_weight, count_rows, validate_features, warn_user

ORDERS = {"sort": sort_rows, "isotonic": pava_rows, "sweep": sweep_rows}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
# Numbers of a block of rows when weights are applied.
BLOCK = 8_000_000


class DeepQuantileAggregator(BaseEstimator):
    r"""Weights over models that a neural network gives for each row.

    The combined quantiles are those of `QuantileAggregator` with weights
    :math:`w(x) = \mathrm{softmax}(f_\theta(x))`, for all levels at once. Adam minimises
    the pinball loss plus `crossing_penalty` times the mean over rows and pairs
    of levels k < l of :math:`(\hat g_k - \hat g_l + \delta_{kl})_+`. Training stops where
    the loss on rows set aside no longer falls, and is then repeated on all
    rows for as many steps. The network starts from equal weights.

    Rows of `sample_weight` k count as k in the loss, but batches and the rows
    set aside are drawn by row, so that repeating rows trains another network.
    Fit on out-of-fold quantiles, as with `QuantileAggregator`. Choose the
    network by `RandomizedSearchCV`; for few rows `LocalQuantileAggregator` is
    simpler and faster.

    Parameters
    ----------
    quantiles : array-like of shape (n_quantiles,)
        Levels, strictly increasing in (0, 1).
    n_models : int, default=None
        Number of models; None takes it from the shape of Q.
    granularity : {"coarse", "medium", "fine"}, default="medium"
        What weights are for, see `QuantileAggregator`.
    local : bool, default=True
        Whether weights depend on features. Otherwise they are one vector,
        trained the same way.
    hidden_units : int, default=64
        Width of the network.
    n_layers : int, default=2
        Number of hidden layers.
    dropout : float, default=0.0
        Share of hidden units left out at random in training.
    learning_rate : float, default=1e-3
        Of Adam with AMSGrad.
    weight_decay : float, default=1e-7
        Of Adam.
    batch_size : int, default=None
        None takes 2 to the power of 3 plus the digits of n less one.
    max_steps : int, default=5000
        Largest number of steps.
    check_every : int, default=100
        Steps from one look at the rows set aside to the next.
    patience : int, default=500
        Steps without improvement after which training stops.
    validation_fraction : float, default=0.2
        Share of rows set aside to find the number of steps.
    refit : bool, default=True
        Whether to train again on all rows. Otherwise the best network of the
        first training is kept.
    crossing_penalty : float, default=0.0
        Price of crossings.
    margin : float, default=0.0
        Distance that levels are to keep.
    margin_rule : {"single", "adapt"}, default="single"
        Whether `margin` is in standard deviations of y, for all pairs, or
        times the distance of the two levels' quantiles of y minus the models'
        median.
    penalty_pairs : {"all", "adjacent"}, default="all"
        Pairs of levels that are priced.
    postprocess : {"sort", "isotonic", "sweep"} or None, default="sort"
        What puts predicted quantiles in order.
    random_state : int, RandomState instance or None, default=None
        Seeds the network, batches, dropout and the rows set aside.
    device : str, default="cpu"
        Where to train, such as "cuda".
    dtype : {"float32", "float64"}, default="float32"
        Precision of training.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    network_ : torch.nn.Module
        From standardised features to logits.
    n_steps_ : int
        Number of steps of the network that is kept.
    validation_losses_ : list of float
        Pinball loss on the rows set aside at each look, in the units of y.
    model_weights_ : ndarray
        Mean weights over the rows of `fit`, laid out as those of
        `QuantileAggregator`.
    objective_ : float
        Mean pinball loss on the rows of `fit`, before any reordering.
    scaler_ : StandardScaler or None
        What standardised the features.
    quantiles_ : ndarray of shape (n_quantiles,)
        Levels.
    n_models_ : int
        Number of models.
    n_features_in_ : int
        Number of columns of flat Q.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Their names, if Q is a data frame.

    See Also
    --------
    reweight.LocalQuantileAggregator : A linear gate, without PyTorch.

    References
    ----------
    Fakoor, R., Kim, T., Mueller, J., Smola, A. J., Tibshirani, R. J. (2023).
    Flexible model aggregation for quantile regression. JMLR, 24.

    Examples
    --------
    >>> from reweight import make_quantile_models
    >>> from reweight.torch import DeepQuantileAggregator
    >>> data = make_quantile_models(500, n_quantiles=3, design="switch", random_state=0)
    >>> deep = DeepQuantileAggregator(data.quantiles, max_steps=300, random_state=0)
    >>> deep = deep.fit(data.Q, data.y, gate_features=data.X)
    >>> deep.predict(data.Q, gate_features=data.X).shape
    (500, 3)
    """

    __metadata_request__fit = {"gate_features": True}
    __metadata_request__predict = {"gate_features": True}
    __metadata_request__score = {"gate_features": True}

    _parameter_constraints = {
        "quantiles": ["array-like"],
        "n_models": [Interval(Integral, 1, None, closed="left"), None],
        "granularity": [StrOptions({"coarse", "medium", "fine"})],
        "local": ["boolean"],
        "hidden_units": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "check_every": [Interval(Integral, 1, None, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "refit": ["boolean"],
        "crossing_penalty": [Interval(Real, 0, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="left")],
        "margin_rule": [StrOptions({"single", "adapt"})],
        "penalty_pairs": [StrOptions({"all", "adjacent"})],
        "postprocess": [StrOptions(set(ORDERS)), None],
        "random_state": ["random_state"],
        "device": [str],
        "dtype": [StrOptions(set(DTYPES))],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        quantiles: ArrayLike,
        n_models: int | None = None,
        *,
        granularity: str = "medium",
        local: bool = True,
        hidden_units: int = 64,
        n_layers: int = 2,
        dropout: float = 0.0,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-7,
        batch_size: int | None = None,
        max_steps: int = 5000,
        check_every: int = 100,
        patience: int = 500,
        validation_fraction: float = 0.2,
        refit: bool = True,
        crossing_penalty: float = 0.0,
        margin: float = 0.0,
        margin_rule: str = "single",
        penalty_pairs: str = "all",
        postprocess: str | None = "sort",
        random_state: Any = None,
        device: str = "cpu",
        dtype: str = "float32",
        verbose: int = 0,
    ) -> None:
        self.quantiles = quantiles
        self.n_models = n_models
        self.granularity = granularity
        self.local = local
        self.hidden_units = hidden_units
        self.n_layers = n_layers
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_steps = max_steps
        self.check_every = check_every
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.crossing_penalty = crossing_penalty
        self.margin = margin
        self.margin_rule = margin_rule
        self.penalty_pairs = penalty_pairs
        self.postprocess = postprocess
        self.random_state = random_state
        self.device = device
        self.dtype = dtype
        self.verbose = verbose

    def fit(
        self,
        Q: ArrayLike,
        y: ArrayLike | None = None,
        *,
        gate_features: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train the network.

        Parameters
        ----------
        Q : array-like of shape (n_samples, n_models, n_quantiles) or \
                (n_samples, n_models * n_quantiles)
            Quantiles that the models give for rows they were not trained on.
        y : array-like of shape (n_samples,)
            Outcomes.
        gate_features : array-like of shape (n_samples, n_gate_features), default=None
            What weights depend on. None takes the middle quantile of each model
            and the distance of its outermost ones.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights on any scale.

        Returns
        -------
        DeepQuantileAggregator
            The fitted aggregator itself.
        """
        self._validate_params()
        levels = check_quantiles(self.quantiles, self._name)
        Q = self._read(Q, len(levels), self.n_models, reset=True)
        y = check_outcomes(self._name, y)
        check_consistent_length(Q, y)
        weights = check_sample_weight(sample_weight, y)
        self._given_features = gate_features is not None
        raw = self._features(gate_features, Q)
        kept = weights > 0
        Q, y, raw, weights = Q[kept], y[kept], raw[kept], weights[kept]
        if len(y) < 2:
            raise ValueError(
                f"{self._name}: n_samples = {len(y)} with positive weight; at least 2 rows are "
                "needed, one of them to set aside"
            )
        self.quantiles_, self.n_models_ = levels, Q.shape[1]
        self.scaler_ = StandardScaler().fit(raw, sample_weight=weights) if self.local else None
        mean = np.average(y, weights=weights)
        self._center = float(mean)
        self._scale = float(np.sqrt(np.average((y - mean) ** 2, weights=weights))) or 1.0
        self._train(self._standardize(raw), Q, y, weights)
        combined, mean_weights = self._combine(raw, Q, weights)
        self.objective_ = pinball_loss(y, combined, levels, sample_weight=weights)
        self.model_weights_ = mean_weights
        return self

    def predict(self, Q: ArrayLike, *, gate_features: Any = None) -> NDArray[np.float64]:
        """Combine quantiles of the models for further rows.

        Parameters
        ----------
        Q : array-like of shape (n_samples, n_models, n_quantiles) or \
                (n_samples, n_models * n_quantiles)
            Quantiles that the models give.
        gate_features : array-like of shape (n_samples, n_gate_features), default=None
            What weights depend on, if `fit` was given such.

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles)
            Combined quantiles, in order unless `postprocess` is None.
        """
        check_is_fitted(self)
        Q = self._read(Q, len(self.quantiles_), self.n_models_, reset=False)
        if (gate_features is not None) != self._given_features:
            what = "given to fit, not here" if self._given_features else "not given to fit"
            raise ValueError(
                f"{self._name}: gate_features were {what}; pass them to both or to neither"
            )
        combined, _ = self._combine(self._features(gate_features, Q), Q, None)
        return combined if self.postprocess is None else ORDERS[self.postprocess](combined)

    def score(
        self,
        Q: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        gate_features: Any = None,
    ) -> float:
        """Minus the weighted interval score of the predicted quantiles.

        Parameters
        ----------
        Q : array-like of shape (n_samples, n_models, n_quantiles) or \
                (n_samples, n_models * n_quantiles)
            Quantiles that the models give.
        y : array-like of shape (n_samples,)
            Outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights on any scale.
        gate_features : array-like of shape (n_samples, n_gate_features), default=None
            What weights depend on, if `fit` was given such.

        Returns
        -------
        float
            Minus twice the mean pinball loss; larger is better.
        """
        predicted = self.predict(Q, gate_features=gate_features)
        return -weighted_interval_score(y, predicted, self.quantiles_, sample_weight=sample_weight)

    def _read(self, Q: Any, m: int, n_models: int | None, *, reset: bool) -> NDArray[np.float64]:
        """Finite quantiles of shape (n, p, m)."""
        shape = getattr(Q, "shape", ())
        if len(shape) == 3:
            if shape[2] != m or (n_models is not None and shape[1] != n_models):
                raise ValueError(
                    f"{self._name}: Q has shape {tuple(shape)}, but there are {m} quantiles and "
                    f"n_models={n_models}; pass (n_samples, n_models, n_quantiles)"
                )
            Q = np.asarray(Q).reshape(shape[0], -1)
        array = validate_features(self, Q, reset=reset)
        p, rest = divmod(array.shape[1], m)
        if rest or (n_models is not None and p != n_models):
            raise ValueError(
                f"{self._name}: Q has {array.shape[1]} columns, but there are {m} quantiles and "
                f"n_models={n_models}; pass one column for each model and level, model by model"
            )
        return array.reshape(len(array), p, m)

    def _features(self, gate_features: Any, Q: NDArray) -> NDArray[np.float64]:
        """Features of each row, before they are standardised."""
        if not self.local:
            return np.zeros((len(Q), 1))
        if gate_features is None:
            middle = Q[:, :, Q.shape[2] // 2]
            return np.concatenate([middle, Q[:, :, -1] - Q[:, :, 0]], axis=1)
        if count_rows(gate_features) != len(Q):
            raise ValueError(
                f"{self._name}: gate_features has {count_rows(gate_features)} rows, but Q has "
                f"{len(Q)}; pass one row for each"
            )
        values = np.asarray(gate_features, dtype=np.float64)
        values = values[:, None] if values.ndim == 1 else values
        if not np.isfinite(values).all():
            raise ValueError(
                f"{self._name}: {int((~np.isfinite(values)).any(axis=1).sum())} rows of "
                "gate_features are NaN or infinite; drop those rows, or fill them"
            )
        return values

    def _standardize(self, raw: NDArray) -> NDArray[np.float64]:
        if self.scaler_ is None:
            return raw
        if raw.shape[1] != self.scaler_.n_features_in_:
            raise ValueError(
                f"{self._name}: gate_features has {raw.shape[1]} columns, but "
                f"{self.scaler_.n_features_in_} were fitted"
            )
        return self.scaler_.transform(raw)

    def _tensor(self, values: Any) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=DTYPES[self.dtype], device=self.device)

    def _train(self, features: NDArray, Q: NDArray, y: NDArray, weights: NDArray) -> None:
        rng = check_random_state(self.random_state)
        order = rng.permutation(len(y))
        held_out = min(max(1, round(self.validation_fraction * len(y))), len(y) - 1)
        seeds = rng.randint(np.iinfo(np.int32).max, size=2)
        data = tuple(
            self._tensor(part)
            for part in (features, self._scaled(Q), self._scaled(y), weights / weights.mean())
        )
        margins = crossing_margins(
            self._scaled(Q), self._scaled(y), weights, self.quantiles_, self.margin,
            self.margin_rule,
        )  # fmt: skip
        objective = gate_objective(
            self._tensor(self.quantiles_),
            self._tensor(margins),
            self.crossing_penalty,
            adjacent=self.penalty_pairs == "adjacent",
        )
        loss = gate_objective(
            self._tensor(self.quantiles_), self._tensor(margins), 0.0, adjacent=True
        )
        steps = self.max_steps
        settings = {
            "batch_size": self.batch_size or batch_size_for(len(y)),
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "check_every": self.check_every,
            "patience": self.patience,
            "verbose": self.verbose,
            "name": self._name,
        }
        parts = [tuple(t[torch.as_tensor(r, device=self.device)] for t in data)
                 for r in (order[held_out:], order[:held_out])]  # fmt: skip
        network = self._network(features.shape[1], Q.shape[1], int(seeds[0]))
        steps, losses = train_gate(
            network, objective, loss, *parts, steps, seed=int(seeds[0]), **settings
        )
        self.validation_losses_ = [self._scale * loss for loss in losses]
        if steps == self.max_steps:
            warn_user(
                f"{self._name}: the loss on the rows set aside still fell after "
                f"max_steps={self.max_steps}; raise max_steps or learning_rate",
                UserWarning,
            )
        if self.refit and steps > 0:
            network = self._network(features.shape[1], Q.shape[1], int(seeds[1]))
            train_gate(network, objective, loss, data, None, steps, seed=int(seeds[1]), **settings)
        self.network_, self.n_steps_ = network.eval(), steps

    def _scaled(self, values: NDArray) -> NDArray:
        return (values - self._center) / self._scale

    def _network(self, n_features: int, p: int, seed: int) -> nn.Module:
        return Gate(
            n_features if self.local else 0,
            p,
            len(self.quantiles_),
            self.granularity,
            self.hidden_units,
            self.n_layers,
            self.dropout,
            seed,
        ).to(device=self.device, dtype=DTYPES[self.dtype])

    def _combine(
        self, raw: NDArray, Q: NDArray, weights: NDArray | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Combined quantiles, which may cross, and mean weights."""
        features = self._standardize(raw)
        n, p, m = Q.shape
        numbers = p * {"coarse": 1, "medium": m, "fine": m * m}[self.granularity]
        step = max(1, BLOCK // (numbers + p * m))
        share = np.full(n, 1 / max(n, 1)) if weights is None else weights / weights.sum()
        combined, mean = np.empty((n, m)), 0.0
        with torch.no_grad():
            for first in range(0, n, step):
                rows = slice(first, first + step)
                w = self.network_(self._tensor(features[rows]))
                q = combine(w, self._tensor(self._scaled(Q[rows])))
                combined[rows] = q.cpu().double().numpy() * self._scale + self._center
                by_row = torch.tensordot(self._tensor(share[rows]), w, dims=1)
                mean = mean + by_row.cpu().double().numpy()
        return combined, mean

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.non_deterministic = self.random_state is None
        return tags
