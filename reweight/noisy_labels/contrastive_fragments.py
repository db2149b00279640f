"""Select rows whose labels experts for distant fragments of the label confirm."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_consistent_length

from reweight.base import Weighter
from reweight.cross_fitting import cross_fit
from reweight.noisy_labels._folds import make_folds, restrict_folds
from reweight.noisy_labels._fragments import (
    cut_fragments,
    draw_window,
    match_fragments,
    mixing_weights,
    neighbor_votes,
    neighborly_agreement,
)
from reweight.normalization import normalize_weights
from reweight.outcomes import check_outcomes
from reweight.parallel import parallel_map
from reweight.validation import check_sample_weight, validate_features
from reweight.weighted_fit import weight_key

Array = NDArray[np.float64]


class ContrastiveFragmentSelector(Weighter):
    r"""Probability that the ordered label of each row is right, by contrast of distant fragments.

    The range of the labels is cut into fragments, and fragments far apart are
    paired. A classifier for each pair learns to tell its two fragments: so
    different are they that even labels of which many are wrong suffice. A row
    is kept if the fragment of its label is confirmed by its classifier and that
    of a fragment next to it by theirs (ConFrag), or if its nearest rows say the
    same. The range is moved a little between rounds, and each row is judged by
    classifiers that have not learned from it.

    It is made for regressions in which a large share of the labels, 20 to 80 %,
    is wrong, and for features of a trained network, which order images or texts
    as their labels do. On tables with up to a fifth of wrong labels
    `ResponseErrorDetector` selects better. From two fifths on it can no longer
    say where to stop, and models fitted to the rows selected here err least.

    Parameters
    ----------
    classifier : estimator, default=None
        Tells the two fragments of a pair; None is
        `HistGradientBoostingClassifier`.
    n_fragments : int, default=4
        Number of fragments, even, from 4 to 16. With two, no fragment would
        have a neighbour on the side of the other.
    n_neighbors : int, default=3
        Number of nearest rows of a pair that vote on a row.
    min_agree : int, default=2
        Votes with which they take a row for a fragment.
    n_jitters : int, default=10
        Number of rounds.
    jitter : float, default=0.05
        Share of distinct labels that a round leaves out, at the ends of the
        range.
    cv : int, cross-validation generator or iterable of (train, test), default=5
        Folds. A number forms folds of each pair, in which both fragments have
        equal shares; others are folds of all rows, and must predict every row.
    featurizer : transformer, default=None
        What to judge nearness in; None is standardised features. Pass one that
        normalises rows for the cosine of embeddings.
    selection : {"probability", "sample"}, default="probability"
        Whether `support_` holds the rows of at least `threshold`, or is drawn
        row by row with the probability found.
    threshold : float, default=0.5
        Smallest probability to be selected.
    edge_correction : bool, default=False
        Whether to raise the probabilities in the first and the last fragment,
        which have one neighbour only, to the mean of the others.
    random_state : int, RandomState instance or None, default=0
        Seeds rounds, folds and the draw. Randomness of `classifier` is its own.
    n_jobs : int, default=None
        Number of jobs over classifiers, through joblib; it does not change the
        result.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        `selection_probability_` times `sample_weight`, mean one.
    ess_ : float
        Effective sample size of `weights_`.
    selection_probability_ : ndarray of shape (n_samples,)
        Mean over rounds of 1 - (1 - p_pred)(1 - p_knn).
    support_ : ndarray of bool of shape (n_samples,)
        The selected rows.
    p_pred_ : ndarray of shape (n_samples,)
        Agreement of classifiers, mean over rounds.
    p_knn_ : ndarray of shape (n_samples,)
        Agreement of nearest rows, mean over rounds.
    fragment_edges_ : ndarray of shape (n_fragments - 1,)
        Smallest label of each fragment but the first, without jitter.
    pairs_ : list of (int, int)
        Fragments that are told apart, without jitter.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Their names, if X has any.

    See Also
    --------
    ResponseErrorDetector : For single errors, and for tables.
    Reweighted : Fits any regressor with these weights.
    error_residual_ratio : How much error a selection leaves.

    Notes
    -----
    The cost is `n_jitters` times `n_fragments` / 2 times `cv` fits on about
    2 / `n_fragments` of the rows. The authors retrain a network and select anew
    in every epoch; here every classifier is fitted once a round, to rows other
    than those that it judges, and the label is scaled to a range of 100 before
    the mixing weights, so that its unit does not matter.

    References
    ----------
    Kim, C., Moon, S., Moon, J., Woo, D., Kim, G. (2024). Sample selection via
    contrastive fragmentation for noisy label regression. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from reweight import ContrastiveFragmentSelector, error_residual_ratio
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(size=(600, 2))
    >>> truth = 10 * X[:, 0]
    >>> y = np.where(rng.uniform(size=600) < 0.4, rng.permutation(truth), truth)
    >>> selector = ContrastiveFragmentSelector(LogisticRegression(), n_jitters=3).fit(X, y)
    >>> print(round(error_residual_ratio(y, truth, selector.support_), 1))
    0.4
    """

    _parameter_constraints = {
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
        "n_fragments": [Interval(Integral, 4, 16, closed="both")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "min_agree": [Interval(Integral, 1, None, closed="left")],
        "n_jitters": [Interval(Integral, 1, None, closed="left")],
        "jitter": [Interval(Real, 0, 0.5, closed="left")],
        "cv": [Interval(Integral, 2, None, closed="left"), "cv_object"],
        "featurizer": [HasMethods(["fit", "transform"]), None],
        "selection": [StrOptions({"probability", "sample"})],
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "edge_correction": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }
    # Rows of each fragment that a fold should have.
    _rows_per_fold = 5

    def __init__(
        self,
        classifier: Any = None,
        *,
        n_fragments: int = 4,
        n_neighbors: int = 3,
        min_agree: int = 2,
        n_jitters: int = 10,
        jitter: float = 0.05,
        cv: int = 5,
        featurizer: Any = None,
        selection: str = "probability",
        threshold: float = 0.5,
        edge_correction: bool = False,
        random_state: Any = 0,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.classifier = classifier
        self.n_fragments = n_fragments
        self.n_neighbors = n_neighbors
        self.min_agree = min_agree
        self.n_jitters = n_jitters
        self.jitter = jitter
        self.cv = cv
        self.featurizer = featurizer
        self.selection = selection
        self.threshold = threshold
        self.edge_correction = edge_correction
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(
        self, X: Any, y: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> "ContrastiveFragmentSelector":
        """Find the probability that each label is right.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Labels as recorded, numbers whose order means something.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights. Rows of weight zero are judged, but not learned from.

        Returns
        -------
        ContrastiveFragmentSelector
            The fitted selector.

        Raises
        ------
        ValueError
            If fragments are odd in number, labels or rows are too few for them,
            or votes are more than neighbours.
        """
        self._validate_params()
        X, y, s, rows = self._check_data(X, y, sample_weight)
        low, high = y[rows].min(), y[rows].max()
        scaled = 100 * (y - low) / (high - low)
        labels = np.unique(scaled[rows])
        lower, upper, _ = cut_fragments(labels, self.n_fragments)
        self.fragment_edges_ = low + lower[1:] * (high - low) / 100
        self.pairs_ = match_fragments(lower, upper)
        rng = check_random_state(self.random_state)
        rounds = [draw_window(labels, self.jitter, rng) for _ in range(self.n_jitters)]
        given = None if sample_weight is None else s / s[rows].mean()
        p_pred, p_knn = self._judge(X, scaled, given, rows, rounds, rng)
        self.p_pred_, self.p_knn_ = p_pred.mean(axis=0), p_knn.mean(axis=0)
        probability = (1 - (1 - p_pred) * (1 - p_knn)).mean(axis=0)
        if self.edge_correction:
            probability = self._correct_edges(probability, y, rows)
        self.selection_probability_ = probability
        if self.selection == "sample":
            self.support_ = rng.uniform(size=len(y)) < probability
        else:
            self.support_ = probability >= self.threshold
        if not (probability * s).any():
            raise ValueError(
                f"{self._name}: no label is confirmed, so that no row has weight; the features do "
                "not follow the order of the labels; pass other features or another classifier"
            )
        self._set_weights(normalize_weights(probability, sample_weight=s))
        return self

    def _check_data(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[Array, Array, Array, NDArray[np.intp]]:
        """Features, labels, weights, and the rows of positive weight."""
        F = self.n_fragments
        K = self.cv if isinstance(self.cv, Integral) else 2
        if F % 2:
            raise ValueError(
                f"{self._name}: n_fragments={F} is odd, and fragments are paired; pass {F - 1} or "
                f"{F + 1}"
            )
        if self.min_agree > self.n_neighbors:
            raise ValueError(
                f"{self._name}: min_agree={self.min_agree} votes of n_neighbors={self.n_neighbors} "
                "cannot be had; pass a smaller min_agree"
            )
        y = check_outcomes(self._name, y)
        X = validate_features(self, X)
        check_consistent_length(X, y)
        if sample_weight is not None:
            weight_key(self._expert, owner=self._name)
        s = check_sample_weight(sample_weight, X)
        rows = np.flatnonzero(s > 0)
        needed = self._rows_per_fold * F * K
        if len(rows) < needed:
            raise ValueError(
                f"{self._name}: n_samples = {len(rows)} rows of positive weight are too few for "
                f"{F} fragments and {K} folds, which need {needed}; pass a smaller n_fragments or "
                "cv, or more rows"
            )
        n_labels = len(np.unique(y[rows]))
        left = n_labels - int(self.jitter * n_labels)
        if left < F:
            raise ValueError(
                f"{self._name}: {n_labels} distinct labels, {left} of them a round, are too few "
                f"for {F} fragments; pass a smaller n_fragments or jitter"
            )
        return X, y, s, rows

    def _judge(
        self,
        X: Array,
        y: Array,
        weights: Array | None,
        rows: NDArray[np.intp],
        rounds: list[Array],
        rng: np.random.RandomState,
    ) -> tuple[Array, Array]:
        """Agreement of classifiers and of nearest rows, for each round and row."""
        featurizer = StandardScaler() if self.featurizer is None else clone(self.featurizer)
        Z = np.asarray(featurizer.fit(X[rows], y[rows]).transform(X), dtype=np.float64)
        folds = None
        if not isinstance(self.cv, Integral):
            folds = make_folds(self._name, self.cv, X, y, None, 0)
        plans, tasks = [], []
        for window in rounds:
            lower, upper, centers = cut_fragments(window, self.n_fragments)
            code = np.searchsorted(lower, y, side="right") - 1
            inside = np.zeros(len(y), dtype=bool)
            inside[rows] = (y[rows] >= window[0]) & (y[rows] <= window[-1])
            pairs = match_fragments(lower, upper)
            plans.append((centers, pairs))
            for pair in pairs:
                members = np.flatnonzero(inside & np.isin(code, pair))
                self._check_pair(code[members], pair)
                seed = int(rng.randint(np.iinfo(np.int32).max))
                cv = self.cv if folds is None else restrict_folds(folds, members, len(y))
                tasks.append((X, Z, members, code[members] == pair[1], weights, cv, seed))
        votes = iter(
            parallel_map(
                self._ask_pair,
                tasks,
                total=len(tasks),
                n_jobs=self.n_jobs,
                verbose=self.verbose,
                name=f"{self._name}: pairs",
            )
        )
        agreed: tuple[list[Array], list[Array]] = ([], [])
        for centers, pairs in plans:
            claims = np.zeros((2, len(y), self.n_fragments), dtype=bool)
            for first, second in pairs:
                probability, upper_votes = next(votes)
                # Both fragments claim a tie.
                claims[0, :, first], claims[0, :, second] = probability <= 0.5, probability >= 0.5
                claims[1, :, first] = self.n_neighbors - upper_votes >= self.min_agree
                claims[1, :, second] = upper_votes >= self.min_agree
            mixing = mixing_weights(y, centers)
            for found, claim in zip(agreed, claims, strict=True):
                found.append(neighborly_agreement(claim, mixing))
        return np.array(agreed[0]), np.array(agreed[1])

    def _check_pair(self, codes: NDArray[np.intp], pair: tuple[int, int]) -> None:
        fewest = min(int((codes == fragment).sum()) for fragment in pair)
        needed = self.cv if isinstance(self.cv, Integral) else 2
        if fewest < needed or len(codes) <= self.n_neighbors:
            raise ValueError(
                f"{self._name}: fragments {pair} have {len(codes)} rows, one of them {fewest}, and "
                f"need more than n_neighbors={self.n_neighbors} and each {needed}; labels are "
                "tied unevenly, or rows are few; pass a smaller n_fragments or cv"
            )

    def _ask_pair(
        self,
        X: Array,
        Z: Array,
        members: NDArray[np.intp],
        is_upper: NDArray[np.bool_],
        weights: Array | None,
        cv: Any,
        seed: int,
    ) -> tuple[Array, NDArray[np.intp]]:
        """Probability of the upper fragment for every row, and the votes of nearest rows for it."""
        crossed = cross_fit(
            self._expert,
            X[members],
            is_upper.astype(int),
            cv=cv,
            method="predict_proba",
            sample_weight=None if weights is None else weights[members],
            random_state=seed,
        )
        probability = np.empty(len(X))
        probability[members] = crossed.predictions[:, 1]
        outside = np.setdiff1d(np.arange(len(X)), members)
        if len(outside):
            probability[outside] = crossed.predict(X[outside])[:, 1]
        return probability, neighbor_votes(Z, members, is_upper, self.n_neighbors)

    def _correct_edges(self, probability: Array, y: Array, rows: NDArray[np.intp]) -> Array:
        """Probabilities in the outer fragments, raised to the mean of the inner ones."""
        code = np.searchsorted(self.fragment_edges_, y, side="right")
        last = self.n_fragments - 1
        inner = probability[rows][(code[rows] > 0) & (code[rows] < last)].mean()
        corrected = probability.copy()
        for edge in (0, last):
            own = probability[rows][code[rows] == edge].mean()
            if 0 < own < inner:
                corrected[code == edge] *= inner / own
        return corrected.clip(0, 1)

    @property
    def _expert(self) -> Any:
        return HistGradientBoostingClassifier() if self.classifier is None else self.classifier

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
