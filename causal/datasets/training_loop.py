"""A recommender under test whose log retrains the models that choose what it shows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch, check_random_state

from causal.experiments.weighted_training import WeightedTraining

Array = NDArray[np.float64]
METHODS = ("weighted", "pooling", "splitting", "snapshot", "global")
FLIP_PROBABILITY = 0.02
LONG = 1


@dataclass(frozen=True)
class _Loop:
    """What stays the same in all rounds."""

    policy_weights: tuple[float, float]
    n_visits: int
    treatment_prob: float
    rng: np.random.Generator

    def visit(self, models: tuple[Any, Any], arm: NDArray[np.intp]) -> tuple[Array, Array, Array]:
        """Features of what is shown, what users do, and the true mean stay."""
        users = self.rng.standard_normal((len(arm), 2))
        scores = np.empty((len(arm), 2))
        for k in (0, LONG):
            X = np.column_stack([users, np.full(len(arm), k)])
            for a in (0, 1):
                rows = arm == a
                if rows.any():
                    finish, stay = models[a].predict(X[rows]).T
                    scores[rows, k] = self.policy_weights[a] * finish + stay
        item = np.argmax(scores, axis=1)
        flipped = self.rng.random(len(arm)) < FLIP_PROBABILITY
        return self.respond(users, np.where(flipped, 1 - item, item))

    def respond(self, users: Array, item: NDArray) -> tuple[Array, Array, Array]:
        """What users do with the items shown to them."""
        X = np.column_stack([users, item])
        mean_stay = expected_stay(X)
        finish = self.rng.random(len(X)) < finish_probability(X)
        return X, np.column_stack([finish, self.rng.exponential(mean_stay)]), mean_stay


def finish_probability(X: Array) -> Array:
    """Probability that a user finishes an item.

    Parameters
    ----------
    X : ndarray of shape (n, 3)
        Two features of the user; 0 for a short item and 1 for a long one.

    Returns
    -------
    ndarray of shape (n,)
    """
    return expit(np.where(X[:, 2] == LONG, 2 * X[:, 1] - 1, 3 * X[:, 0] + 1))


def expected_stay(X: Array) -> Array:
    """Mean time that a user stays with an item.

    Parameters
    ----------
    X : ndarray of shape (n, 3)
        Two features of the user; 0 for a short item and 1 for a long one.

    Returns
    -------
    ndarray of shape (n,)
    """
    u1, u2, item = X.T
    return 0.5 + 2.5 * expit(np.where(item == LONG, 3 * u1 - 2 * u2, 1.5 * u2 - 1.5))


def outcome_features(X: Array) -> Array:
    """Features of the recommender: user, item and their products, a model that is too simple.

    Parameters
    ----------
    X : ndarray of shape (n, 3)
        Two features of the user and the item.

    Returns
    -------
    ndarray of shape (n, 5)
    """
    users, item = X[:, :2], X[:, 2:]
    return np.column_stack([users, item, users * item])


def arm_features(X: Array) -> Array:
    """Features of the classifier of arms: squares and products of the user's, each by item.

    Parameters
    ----------
    X : ndarray of shape (n, 3)
        Two features of the user and the item.

    Returns
    -------
    ndarray of shape (n, 11)
    """
    u1, u2, item = X.T
    q = np.column_stack([u1, u2, u1**2, u2**2, u1 * u2])
    return np.column_stack([q, item, q * item[:, None]])


def recommender() -> Pipeline:
    """Unfitted model of finishing and staying.

    Returns
    -------
    Pipeline
    """
    return make_pipeline(FunctionTransformer(outcome_features), Ridge(1e-3))


def arm_classifier() -> Pipeline:
    """Unfitted classifier of the arm given what was shown to whom.

    Returns
    -------
    Pipeline
    """
    return make_pipeline(
        FunctionTransformer(arm_features), LogisticRegression(solver="newton-cholesky")
    )


def simulate_training_loop(
    method: str = "weighted",
    *,
    policy_weight_control: float = 0.0,
    policy_weight_treatment: float = 3.0,
    treatment_prob: float = 0.5,
    n_rounds: int = 20,
    n_visits: int = 500,
    n_initial: int = 2000,
    n_warmup: int = 3,
    burn_in: int = 10,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    r"""Simulate an A/B test of a recommender that learns from its own log.

    A user with features u ~ N(0, I) visits and is shown a short or a long item.
    She finishes it with a probability, and stays an exponential time with a
    mean, that depend on user and item. A least-squares model predicts both, and
    each arm shows the item with the larger
    policy weight x predicted finishing + predicted stay; 2 % of the choices
    are flipped. The arms differ by the policy weight alone.

    The model starts from `n_initial` random shows and `n_warmup` rounds under
    the control policy. In the experiment users are assigned to arms at random,
    and after every round the models are retrained on all its rows so far. The
    metric is the true mean stay with what was shown, in the rounds after
    `burn_in`.

    Parameters
    ----------
    method : {"weighted", "pooling", "splitting", "snapshot", "global"}, default="weighted"
        How models are retrained: as in `WeightedTraining`; not at all
        ("snapshot"); or in two worlds of their own, where all users are in one
        arm ("global"), whose difference is the effect that the experiment is
        about.
    policy_weight_control, policy_weight_treatment : float, default=0.0, 3.0
        Weight of finishing in the policies.
    treatment_prob : float, default=0.5
        Share of users in the treatment.
    n_rounds : int, default=20
        Rounds of the experiment.
    n_visits : int, default=500
        Visits in a round.
    n_initial : int, default=2000
        Random shows before the experiment, and visits in a warm-up round.
    n_warmup : int, default=3
        Rounds under control before the experiment.
    burn_in : int, default=10
        Rounds whose metric is not counted.
    random_state : int, RandomState instance or None, default=None
        Seeds users, arms, flips and answers.

    Returns
    -------
    Bunch
        estimate : float
            Difference of the mean metric between treatment and control.
        metric : ndarray of shape (n_rounds, 2)
            Mean metric of control and treatment in each round.
        X : ndarray of shape (n_rounds * n_visits, 3)
            Log of the experiment: two features of the user, and 1 for a long
            item. For "global", the control world and then the treatment world.
        y : ndarray of shape (n_rounds * n_visits, 2)
            Whether the item was finished, and the time stayed.
        treatment : ndarray of int of shape (n_rounds * n_visits,)
            Arm of each row.
        round : ndarray of int of shape (n_rounds * n_visits,)
            Round of each row, from 0.

    Raises
    ------
    ValueError
        If the method is unknown, the share is not between 0 and 1, or no round
        is left after `burn_in`.

    See Also
    --------
    WeightedTraining : The methods that are compared.

    References
    ----------
    Si, N. (2023). Tackling interference induced by data training loops in A/B
    tests: a weighted training approach. arXiv:2310.17496.

    Examples
    --------
    >>> from causal import simulate_training_loop
    >>> loop = simulate_training_loop("pooling", random_state=0)
    >>> loop.X.shape, loop.metric.shape
    ((10000, 3), (20, 2))
    """
    _check(method, treatment_prob, n_rounds, burn_in)
    if isinstance(random_state, np.random.Generator):
        seed = int(random_state.integers(2**32))
    else:
        seed = check_random_state(random_state).randint(2**32, dtype=np.uint64)
    policies = policy_weight_control, policy_weight_treatment
    # Both worlds of "global" share their users and their warm-up.
    worlds = [0.0, 1.0] if method == "global" else [treatment_prob]
    logs = []
    for share in worlds:
        loop = _Loop(policies, n_visits, share, np.random.default_rng(seed))
        model = _warm_up(loop, n_initial, n_warmup)
        logs.append(_experiment(loop, method, model, n_rounds))
    return _summarize(
        {name: np.concatenate([log[name] for log in logs]) for name in logs[0]}, burn_in
    )


def _check(method: str, treatment_prob: float, n_rounds: int, burn_in: int) -> None:
    if method not in METHODS:
        raise ValueError(
            f"simulate_training_loop: method is {method!r}; choose one of {list(METHODS)}"
        )
    if not 0 < treatment_prob < 1:
        raise ValueError(
            f"simulate_training_loop: treatment_prob is {treatment_prob!r}; pass a share between "
            "0 and 1"
        )
    if not 0 <= burn_in < n_rounds:
        raise ValueError(
            f"simulate_training_loop: burn_in is {burn_in} but there are {n_rounds} rounds; leave "
            "at least one round to measure"
        )


def _warm_up(loop: _Loop, n_initial: int, n_warmup: int) -> Pipeline:
    """The model at the start of the experiment: random shows, then rounds under control."""
    users = loop.rng.standard_normal((n_initial, 2))
    X, y, _ = loop.respond(users, loop.rng.integers(0, 2, size=n_initial))
    model = recommender().fit(X, y)
    for _ in range(n_warmup):
        X, y, _ = loop.visit((model, model), np.zeros(n_initial, dtype=np.intp))
        model = recommender().fit(X, y)
    return model


def _experiment(loop: _Loop, method: str, model: Pipeline, n_rounds: int) -> dict[str, NDArray]:
    """Log of all rounds, with the true mean stay as its metric."""
    models: tuple[Any, Any] = (model, model)
    rows: dict[str, list] = {"X": [], "y": [], "metric": [], "treatment": [], "round": []}
    for number in range(n_rounds):
        arm = (loop.rng.random(loop.n_visits) < loop.treatment_prob).astype(np.intp)
        X, y, metric = loop.visit(models, arm)
        values = X, y, metric, arm, np.full(loop.n_visits, number)
        for column, value in zip(rows.values(), values, strict=True):
            column.append(value)
        models = _retrain(
            method, models, *(np.concatenate(rows[n]) for n in ("X", "y", "treatment"))
        )
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def _retrain(
    method: str, models: tuple[Any, Any], X: Array, y: Array, arm: NDArray
) -> tuple[Any, Any]:
    """Models of both arms after a round."""
    if method == "snapshot":
        return models
    if method == "global":
        model = recommender().fit(X, y)
        return model, model
    training = WeightedTraining(recommender(), arm_classifier(), method=method)
    training.fit(X, y, treatment=arm)
    return training.control_model_, training.treatment_model_


def _summarize(log: dict[str, NDArray], burn_in: int) -> Bunch:
    """The log, the metric by round and arm, and the estimate."""
    n_rounds = int(log["round"].max()) + 1
    code = 2 * log["round"] + log["treatment"]
    sums = np.bincount(code, log["metric"], minlength=2 * n_rounds).reshape(-1, 2)
    counts = np.bincount(code, minlength=2 * n_rounds).reshape(-1, 2)
    means = sums[burn_in:].sum(axis=0) / counts[burn_in:].sum(axis=0)
    metric = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    rows = {name: log[name] for name in ("X", "y", "treatment", "round")}
    return Bunch(estimate=float(means[1] - means[0]), metric=metric, **rows)
