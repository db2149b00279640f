"""The uniform transformer: a map under which reference rows are uniform on the cube."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from causal.balancing._uniform_map import SMOOTHINGS, fit_uniform_map, tie_keys
from reweight.validation import unwrap_target, validate_features, warn_weights

LARGEST_DIMENSION = 12
FEW_BINS = 4
OUTSIDE_SHARE = 0.05


class UniformTransformer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Map under which the reference rows are uniform on the unit cube.

    The joint map cuts the first column into bins of equally many reference
    rows, each of those into bins of the second column, and so on; column k of a
    row in bin j of m becomes

    .. math:: \varphi_k(x) = \frac{j - 1 + H((x_k - start) / (end - start))}{m},

    with H a smooth step from 0 to 1. Fitted on the controls of a study, it makes
    their density one everywhere, so that averages over controls near treated
    rows need neither a density ratio nor a propensity.

    Parameters
    ----------
    marginal : bool, default=False
        Whether each column is mapped for itself, with one bin per reference
        row. The margins of the image are then uniform, but not the image as a
        whole unless columns are independent.
    smoothing : {"constant", "linear", "quadratic"}, default="constant"
        Degree of the density with which mass is spread within a bin.
    cut : {"random", "midpoint"}, default="random"
        Where a bin ends between two neighbouring reference rows. "random" draws
        it uniformly and spreads rows that tie at random over the bins of their
        value. "midpoint" draws nothing, and puts rows that tie into the bin of
        their average rank.
    random_state : int, RandomState instance or None, default=None
        Seeds "random".

    Attributes
    ----------
    n_bins_ : ndarray of int of shape (n_features,)
        Bins of each column (in the joint map, within each bin of those before).
        A constant column has one.
    n_reference_ : int
        Number of reference rows.
    data_min_, data_max_ : ndarray of shape (n_features,)
        Range of each column over the reference rows and `X`.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if X has any.

    See Also
    --------
    causal.UniformTransformerEffect : Effect of a treatment by way of this map.
    sklearn.preprocessing.QuantileTransformer : Margins by interpolated quantiles.

    Notes
    -----
    The image of a column runs from 0 to 1 over its range, widened by a random
    (or half) share of one in the number of reference rows; later rows beyond it
    are moved to its ends. A bin without length, between rows that tie, maps to
    its upper end.

    With d columns the joint map has about n^(1/d) bins a column, too few for
    many columns. It refuses more than 12, and warns below four bins.

    References
    ----------
    Yu, R., & Wang, S. (2020). Treatment effects estimation by uniform
    transformer. arXiv:2008.03738.

    Examples
    --------
    >>> import numpy as np
    >>> from causal import UniformTransformer
    >>> X = np.array([[1.0], [2.0], [4.0], [100.0]])
    >>> UniformTransformer(cut="midpoint").fit_transform(X).ravel().round(2)
    array([0.24, 0.33, 0.51, 0.95])
    """

    __metadata_request__fit = {"X_reference": True}

    _parameter_constraints = {
        "marginal": ["boolean"],
        "smoothing": [StrOptions(set(SMOOTHINGS))],
        "cut": [StrOptions({"random", "midpoint"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        marginal: bool = False,
        smoothing: str = "constant",
        cut: str = "random",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.marginal = marginal
        self.smoothing = smoothing
        self.cut = cut
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, *, X_reference: Any = None) -> "UniformTransformer":
        """Learn the bins.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows whose image is to be uniform; if `X_reference` is given, rows
            that widen the range only, such as those to be transformed.
        y : None
            Ignored.
        X_reference : array-like of shape (n_reference, n_features), default=None
            Rows whose image is to be uniform, such as the controls, or other
            rows like them; in a 1-tuple inside cross-validation.

        Returns
        -------
        UniformTransformer

        Raises
        ------
        ValueError
            If there are fewer than two reference rows, or more than 12 columns
            for the joint map.
        """
        self._validate_params()
        X_reference = unwrap_target(X_reference)
        alone = X_reference is None
        X = validate_features(self, X, ensure_min_samples=2 if alone else 1)
        reference = X
        if not alone:
            reference = validate_features(self, X_reference, reset=False)
            if len(reference) < 2:
                raise ValueError(
                    "UniformTransformer: X_reference has 1 row; the bins need at least two"
                )
        pooled = [reference] if alone else [reference, X]
        self.data_min_ = np.min([rows.min(axis=0) for rows in pooled], axis=0)
        self.data_max_ = np.max([rows.max(axis=0) for rows in pooled], axis=0)
        self.n_reference_ = len(reference)
        if not self.marginal:
            check_dimension(type(self).__name__, int((self.data_max_ > self.data_min_).sum()))
        self._seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self._map = fit_uniform_map(
            reference,
            ends=(self.data_min_, self.data_max_),
            marginal=self.marginal,
            smoothing=self.smoothing,
            cut=self.cut,
            seed=self._seed,
            keys=self._keys(reference),
        )
        self.n_bins_ = np.array([split.n_bins for split in self._map.splits])
        if self._map.joint:
            warn_few_bins(type(self).__name__, self.n_bins_[self.data_max_ > self.data_min_])
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Map rows into the unit cube.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Between 0 and 1. Deterministic, but for the rows that tie with
            several reference rows under random cuts: those of one call are
            spread over the bins of their value in an order that depends on
            `random_state` and their position.

        Warns
        -----
        WeightWarning
            If more than 5 % of the rows lie outside the range of a column.
        """
        check_is_fitted(self)
        X = validate_features(self, X, reset=False)
        share = ((self.data_min_ > X) | (self.data_max_ < X)).mean(axis=0)
        if share.max() > OUTSIDE_SHARE:
            column = getattr(self, "feature_names_in_", np.arange(X.shape[1]))[share.argmax()]
            warn_weights(
                f"UniformTransformer: {share.max():.1%} of the rows lie outside the range seen by "
                f"fit in column {str(column)!r} and are mapped to its ends; fit on rows that cover "
                "them, or pass them as X with X_reference="
            )
        return self._map.transform(X, self._keys(X))

    def _keys(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return tie_keys(self._seed, X.shape)


def check_dimension(name: str, d: int) -> None:
    """Refuse a joint map of too many columns.

    Parameters
    ----------
    name : str
        Who is asking.
    d : int
        Number of columns that are not constant.
    """
    if d > LARGEST_DIMENSION:
        raise ValueError(
            f"{name}: X has {d} columns that vary, but the joint map can cut at most "
            f"{LARGEST_DIMENSION} into bins; pass marginal=True, or fewer columns"
        )


def warn_few_bins(name: str, n_bins: NDArray[np.intp]) -> None:
    """Say if a joint map is too coarse to be uniform.

    Parameters
    ----------
    name : str
        Who is asking.
    n_bins : ndarray of int of shape (d,)
        Bins of each column that is not constant.
    """
    fewest = n_bins.min()
    if fewest >= FEW_BINS:
        return
    whole = int((n_bins == 1).sum())
    uncut = f", and {whole} columns are not cut at all" if whole else ""
    warn_weights(
        f"{name}: with {len(n_bins)} columns the joint map has only {fewest} bins in some of them"
        f"{uncut}, so that the image is far from uniform; pass marginal=True, or fewer columns"
    )
