"""Weights that make the pooled rows of an experiment look like the rows of one arm."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils import ClassifierTags, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from causal.experiments._polynomial_logistic import PolynomialLogistic
from causal.experiments._rows import read_features
from reweight.base import Weighter
from reweight.cross_fitting import cross_fit
from reweight.normalization import normalize_weights
from reweight.validation import check_sample_weight, check_treatment, check_treatment_labels
from reweight.weighted_fit import weighted_fit

Array = NDArray[np.float64]


class ArmWeighter(Weighter):
    r"""Weights under which all rows of an experiment follow the law of one arm.

    Let x be the features of a logged row, what was shown included, z its arm,
    p the share of the treatment and :math:`G(x) = P(z = 1 | x)`. The weights

    .. math:: W_T(x) = G(x) / p, \qquad W_C(x) = (1 - G(x)) / (1 - p)

    turn means over all rows into means over the treatment (control) arm, of
    anything that depends on the arm through x only: arms change what is shown,
    not how users answer. Keeping the rows of one arm does the same, but of all
    weights that do, these vary least. They lie between 0 and 1/p.

    Parameters
    ----------
    arm : {"treatment", "control"}, default="treatment"
        Whose law the rows are to follow.
    weight_estimator : estimator, default=None
        Classifier of the arm given the features, with `predict_proba`. None is
        logistic regression on standardised columns, their squares and products,
        with a slight penalty.
    treatment_prob : float, default=None
        Share p of the treatment, where the design fixes it; None takes the
        share that was seen. It scales `raw_weights_` only.
    cv : int, cross-validation generator or iterable, default=None
        Folds that give each row a probability from models that have not seen
        it, for classifiers that can memorise. None fits and predicts on the
        same rows.
    random_state : int, RandomState instance or None, default=None
        Shuffles rows into the folds of an int `cv`; None leaves them in order.
    n_jobs : int, default=None
        Number of jobs over folds; it does not change the result.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        The weights times the sampling weights, mean one over all rows.
    raw_weights_ : ndarray of shape (n_samples,)
        W of the arm, neither scaled nor multiplied by sampling weights.
    ess_ : float
        Effective sample size.
    arm_probability_ : ndarray of shape (n_samples,)
        G, the probability of treatment of each row; out of fold with `cv`.
    weight_model_ : estimator
        Classifier fitted to all rows.
    treatment_prob_ : float
        The share p that was used.
    classes_ : ndarray of shape (2,)
        Control label, treated label (the larger one).
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str
        Their names, when X has string column names.

    See Also
    --------
    WeightedTraining : One model for each arm, trained with these weights.

    References
    ----------
    Si, N. (2023). Tackling interference induced by data training loops in A/B
    tests: a weighted training approach. arXiv:2310.17496.

    Examples
    --------
    >>> import numpy as np
    >>> from causal import ArmWeighter
    >>> rng = np.random.default_rng(0)
    >>> arm = rng.integers(0, 2, size=1000)
    >>> X = rng.normal(size=(1000, 1)) + arm[:, None]
    >>> weighter = ArmWeighter("treatment").fit(X, arm)
    >>> weighted = np.average(X[:, 0], weights=weighter.weights_)
    >>> bool(abs(weighted - X[arm == 1, 0].mean()) < 0.01)
    True
    """

    _needs_treatment = True
    __metadata_request__fit = {"treatment": True}
    __metadata_request__partial_fit = {"treatment": True}

    _parameter_constraints = {
        "arm": [StrOptions({"treatment", "control"})],
        "weight_estimator": [HasMethods(["fit", "predict_proba"]), None],
        "treatment_prob": [Interval(Real, 0, 1, closed="neither"), None],
        "cv": ["cv_object"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        arm: str = "treatment",
        *,
        weight_estimator: Any = None,
        treatment_prob: float | None = None,
        cv: Any = None,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.arm = arm
        self.weight_estimator = weight_estimator
        self.treatment_prob = treatment_prob
        self.cv = cv
        self.random_state = random_state
        self.n_jobs = n_jobs

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags = ClassifierTags(multi_class=False)
        tags.target_tags.required = True
        if self.weight_estimator is not None:
            tags.input_tags = get_tags(self.weight_estimator).input_tags
        return tags

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "ArmWeighter":
        """Fit the classifier of arms and weigh the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features of the logged rows, including those of what was shown.
        y : array-like of shape (n_samples,), default=None
            The arm of each row, unless `treatment` is given; then it is
            ignored.
        treatment : array-like of shape (n_samples,), default=None
            The arm of each row; the larger label is the treatment.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.

        Returns
        -------
        ArmWeighter

        Raises
        ------
        ValueError
            If there are not two arms, or the classifier cannot take the
            weights.
        """
        self._validate_params()
        X = read_features(self, X, [self.weight_estimator], reset=True)
        labels = self._labels(y, treatment)
        self.classes_, z = check_treatment(labels, X)
        s = None if sample_weight is None else check_sample_weight(sample_weight, X)
        self.weight_model_ = weighted_fit(self._new_model(), X, z, s, owner=type(self).__name__)
        G = self._probability(X)
        if self.cv is not None:
            fit = cross_fit(
                self._new_model(),
                X,
                z,
                cv=self.cv,
                method="predict_proba",
                sample_weight=s,
                random_state=self.random_state,
                n_jobs=self.n_jobs,
            )
            self._check_complete(fit.missing_rows)
            G = fit.predictions[:, 1]
        self.treatment_prob_ = self._share(z, s)
        self.arm_probability_ = G
        self.raw_weights_ = arm_weights(G, self.treatment_prob_, self.arm)
        s = np.ones(len(z)) if s is None else s
        total = s @ self.raw_weights_
        if not total > 0:
            raise ValueError(
                f"{type(self).__name__}: the classifier gives no row a chance to be of the "
                f"{self.arm} arm; choose another weight_estimator"
            )
        self._stream = {"rows": len(z), "weight": s.sum(), "treated": s @ z, "total": total}
        self._factor = len(z) / total
        self._set_weights(normalize_weights(self.raw_weights_, sample_weight=s))
        return self

    def partial_fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "ArmWeighter":
        """Update the classifier with the next rows of a stream, and weigh them.

        Attributes with an entry for each row are those of this batch. Weights
        have mean one over the stream so far, not over the batch.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features of the next rows.
        y : array-like of shape (n_samples,), default=None
            Their arms, unless `treatment` is given.
        treatment : array-like of shape (n_samples,), default=None
            Their arms. The first batch needs rows of both.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.

        Returns
        -------
        ArmWeighter

        Raises
        ------
        ValueError
            If the first batch has rows of one arm only, `cv` is set, or the
            classifier has no `partial_fit`.
        """
        self._validate_params()
        self._check_streams()
        first = not hasattr(self, "weight_model_")
        X = read_features(self, X, [self.weight_estimator], reset=first)
        labels = self._labels(y, treatment)
        if first:
            self.classes_, z = check_treatment(labels, X)
            self.weight_model_ = self._new_model()
            self._stream = {"rows": 0, "weight": 0.0, "treated": 0.0, "total": 0.0}
        else:
            z = self._codes(labels, X)
        s = check_sample_weight(sample_weight, X, allow_zero=not first)
        self._update_model(X, z, None if sample_weight is None else s)
        self.arm_probability_ = self._probability(X)
        stream = self._stream
        stream["rows"] += len(z)
        stream["weight"] += s.sum()
        stream["treated"] += s @ z
        self.treatment_prob_ = float(self.treatment_prob or stream["treated"] / stream["weight"])
        self.raw_weights_ = arm_weights(self.arm_probability_, self.treatment_prob_, self.arm)
        stream["total"] += s @ self.raw_weights_
        self._factor = stream["rows"] / stream["total"]
        self.weights_ = self._factor * s * self.raw_weights_
        return self

    def predict_weights(self, X: Any, y: ArrayLike | None = None) -> Array:
        """Weights of new rows, on the scale of the rows given to `fit`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,), default=None
            Ignored: the weight of a row does not depend on its arm.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self, "weight_model_")
        G = self.predict_arm_probability(X)
        return self._factor * arm_weights(G, self.treatment_prob_, self.arm)

    def predict_arm_probability(self, X: Any) -> Array:
        """Probability that a row with these features is of the treatment arm.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self, "weight_model_")
        return self._probability(read_features(self, X, [self.weight_estimator], reset=False))

    def _new_model(self) -> Any:
        if self.weight_estimator is None:
            return PolynomialLogistic()
        return clone(self.weight_estimator)

    def _labels(self, y: Any, treatment: Any) -> Any:
        labels = y if treatment is None else treatment
        if labels is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None; pass "
                "the arm of each row as the second argument or as treatment="
            )
        return labels

    def _codes(self, labels: Any, X: Any) -> NDArray[np.intp]:
        labels = check_treatment_labels(labels, X)
        unknown = ~np.isin(labels, self.classes_)
        if unknown.any():
            raise ValueError(
                f"{type(self).__name__}: treatment has the value {labels[unknown][0]} that the "
                f"first batch did not have; it knows {list(self.classes_)}"
            )
        return (labels == self.classes_[1]).astype(np.intp)

    def _share(self, z: NDArray[np.intp], s: Array | None) -> float:
        """Share of the treatment: given by the design, or seen."""
        if self.treatment_prob is not None:
            return float(self.treatment_prob)
        share = float(np.average(z, weights=s))
        if not 0 < share < 1:
            raise ValueError(
                f"{type(self).__name__}: sample_weight is zero in every row of one arm; each arm "
                "needs rows of positive weight"
            )
        return share

    def _probability(self, X: Any) -> Array:
        return np.asarray(self.weight_model_.predict_proba(X)[:, 1], dtype=np.float64)

    def _check_complete(self, missing: NDArray[np.intp]) -> None:
        if len(missing):
            raise ValueError(
                f"{type(self).__name__}: {len(missing)} rows are in no test part of cv; pass folds "
                "that test each row"
            )

    def _check_streams(self) -> None:
        name = type(self).__name__
        if self.cv is not None:
            raise ValueError(
                f"{name}: partial_fit passes over each row once, which leaves nothing to cross-fit;"
                " pass cv=None"
            )
        if self.weight_estimator is not None and not hasattr(self.weight_estimator, "partial_fit"):
            raise ValueError(
                f"{name}: weight_estimator {type(self.weight_estimator).__name__} has no "
                "partial_fit; pass one that has it, such as SGDClassifier(loss='log_loss'), or None"
            )

    def _update_model(self, X: Any, z: NDArray[np.intp], s: Array | None) -> None:
        arguments = {} if s is None else {"sample_weight": s}
        self.weight_model_.partial_fit(X, z, classes=np.array([0, 1]), **arguments)


def arm_weights(G: Array, treatment_prob: float, arm: str) -> Array:
    """Density of the rows of one arm relative to that of all rows.

    Parameters
    ----------
    G : ndarray of shape (n_samples,)
        Probability of treatment given the features.
    treatment_prob : float
        Share of the treatment.
    arm : {"treatment", "control"}
        Which arm.

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    if arm == "treatment":
        return G / treatment_prob
    return (1 - G) / (1 - treatment_prob)
