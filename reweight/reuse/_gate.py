"""What the Bayesian classifiers share: from validated rows to draws, and from draws to answers."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from reweight.exceptions import WeightWarning
from reweight.reuse._convergence import check_convergence
from reweight.reuse._model import GateData, GateModel, place_residuals
from reweight.reuse._prediction import draw_slices, log_probabilities, row_log_likelihood
from reweight.reuse._predictive_check import predictive_check
from reweight.reuse._rows import group_codes, merge_rows, split_features, standardization
from reweight.reuse._sampling import (
    SamplerSettings,
    choose_sampler,
    convergence_diagnostics,
    inference_data,
    leave_one_out,
    sample_posterior,
)
from reweight.validation import as_numbers, check_groups, check_sample_weight, warn_user

Array = NDArray[np.float64]
AUXILIARY = ("z", "v")
DIMENSIONS = {
    "alpha": ["class"],
    "z": ["feature", "class"],
    "beta": ["feature", "class"],
    "lam": ["feature", "class"],
    "s": ["class"],
    "v": ["group", "class"],
    "u": ["group", "class"],
    "thresholds": ["threshold"],
    "y": ["row"],
    "residual": ["row"],
}


class GateClassifier(ClassifierMixin, BaseEstimator):
    """Sampling of the gate and predictions at its draws; subclasses say what rows mean."""

    def _check_design(self, n_features: int, n_classes: int) -> None:
        """Refuse priors and losses that do not fit the data."""
        name, p0 = type(self).__name__, self.expected_nonzero
        if self.horseshoe is not None and self.tau0 is None and p0 is not None and p0 >= n_features:
            raise ValueError(
                f"{name}: expected_nonzero={p0} must be below the number of features, "
                f"{n_features}; pass a smaller one, or horseshoe=None for normal priors"
            )
        self._loss(n_classes)

    def _loss(self, n_classes: int) -> Array | None:
        """The loss matrix, if there is one and it is one."""
        if self.loss_matrix is None:
            return None
        name = type(self).__name__
        loss = as_numbers(self.loss_matrix, name=f"{name}: loss_matrix")
        if loss.shape != (n_classes, n_classes) or not np.isfinite(loss).all():
            n_bad = int((~np.isfinite(loss)).sum())
            raise ValueError(
                f"{name}: loss_matrix has shape {loss.shape} and {n_bad} entries that are not "
                f"finite; pass losses of shape ({n_classes}, {n_classes}), one row per true class "
                "and one column per action"
            )
        return loss

    def _fit_gate(
        self,
        X: Array,
        y: NDArray[np.int64],
        groups: NDArray | None,
        weight: Array,
        *,
        shares: Array,
        residual: Array | None = None,
        base_residuals: Array | None = None,
        cut_prior: dict[str, Any] | None = None,
    ) -> None:
        """Sample the posterior and keep what predictions need.

        `y` holds codes of classes, -1 where unknown; `shares` the weight of each class, by which
        the global scale is set; `cut_prior` the prior of thresholds where they are parameters.
        """
        name, n_classes = type(self).__name__, len(self.classes_)
        self._check_design(X.shape[1], n_classes)
        labels, codes = check_groups(groups, len(X))
        self.groups_ = None if groups is None else labels
        kinds = [X, y, codes] + ([] if residual is None else [residual])
        first, self._kind, weight = merge_rows(weight, *kinds)
        X, y, codes = X[first], y[first], codes[first].astype(np.int64)
        self.x_mean_, self.x_scale_ = standardization(self, X, weight)
        places = ()
        if cut_prior is not None:
            places = place_residuals(residual[first], base_residuals, weight)
        self._data = GateData(
            np.ascontiguousarray((X - self.x_mean_) / self.x_scale_), y, codes, weight, *places
        )
        self._model = self._build_model(shares, cut_prior)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self.sampler_ = choose_sampler(self.sampler, name)
        settings = SamplerSettings(
            sampler=self.sampler_,
            draws=self.draws,
            tune=self.tune,
            chains=self.chains,
            cores=self.cores,
            target_accept=self.target_accept,
            seed=seed,
            verbose=self.verbose,
        )
        draws, stats = sample_posterior(self._model, self._data, settings)
        self.diagnostics_ = convergence_diagnostics(draws, stats)
        self._keep(draws, stats, seed)
        check_convergence(self.diagnostics_, settings, self.on_nonconvergence, name)

    def _build_model(self, shares: Array, cut_prior: dict[str, Any] | None) -> GateModel:
        """Sizes and priors, the global scale of eqs. (13) and (14) among them."""
        p, n_classes, n = self._data.X.shape[1], len(self.classes_), shares.sum()
        symmetric = self.reference == "none"
        columns = n_classes if symmetric else n_classes - 1
        smooth = (shares + 0.5) / (n + n_classes / 2)
        self._information = (n * smooth * (1 - smooth))[:columns]
        horseshoe = self.horseshoe
        if p == 1 and self.tau0 is None:
            horseshoe = None
        tau0 = 1.0
        if horseshoe is not None:
            p0 = self.expected_nonzero or max(1, min(p - 1, round(p / 2)))
            tau0 = self.tau0
            if tau0 is None:
                tau0 = p0 / (p - p0) * np.mean(1 / np.sqrt(self._information))
        self.tau0_ = float(tau0) if horseshoe is not None else np.nan
        return GateModel(
            n_features=p,
            n_classes=n_classes,
            n_groups=0 if self.groups_ is None else len(self.groups_),
            horseshoe=horseshoe,
            tau0=float(tau0),
            symmetric=symmetric,
            shared_scales=self.local_scales == "feature",
            intercept_scale=self.intercept_scale,
            group_scale=self.group_scale,
            local_df=self.local_df,
            global_df=self.global_df,
            slab_df=self.slab_df,
            slab_scale=self.slab_scale,
            joint=cut_prior is not None,
            **(cut_prior or {}),
        )

    def _keep(self, draws: dict[str, Array], stats: dict[str, NDArray], seed: int) -> None:
        """Store draws in ArviZ's container, and what is computed from all of them."""
        scales = self._model.scales(draws)
        shrunk = self._information * scales**2
        by_class = (shrunk / (1 + shrunk)).sum(axis=-2).mean(axis=(0, 1))
        self.effective_nonzero_by_class_ = by_class
        self.effective_nonzero_ = float(by_class.sum())
        kept = {
            name: value
            for name, value in draws.items()
            if self.keep_auxiliary or name not in AUXILIARY
        }
        columns = self._model.n_columns
        names = getattr(self, "feature_names_in_", np.arange(self._model.n_features))
        coords = {"class": self.classes_[:columns], "feature": names}
        if self.groups_ is not None:
            coords["group"] = self.groups_
        dims = dict(DIMENSIONS)
        if self._model.shared_scales:
            dims["lam"] = ["feature", "shared"]
        n_chains, n_draws = stats["energy"].shape
        noise = np.random.default_rng([seed, 1])
        self._new_effects = noise.standard_normal((n_chains * n_draws, columns))
        groups = {"posterior": kept, "sample_stats": stats, "observed_data": self._observed()}
        self.idata_ = inference_data(coords, dims, **groups)
        if self.keep_log_likelihood:
            values = self._log_likelihood()[:, self._kind]
            values = values.reshape(n_chains, n_draws, -1)
            groups["log_likelihood"] = {"y": values}
            self.idata_ = inference_data(coords, dims, **groups)

    def _observed(self) -> dict[str, NDArray]:
        """Codes of the classes as they went into the likelihood, and residuals."""
        observed = {"y": self._data.y[self._kind]}
        if self._model.joint:
            seen = np.append(self._data.points, np.nan)
            observed["residual"] = seen[self._data.point][self._kind]
        return observed

    def _draw(self, name: str) -> Array:
        """Draws of one quantity, chains one after the other."""
        values = self.idata_.posterior[name].values
        return values.reshape(-1, *values.shape[2:])

    def _effects(self, codes: NDArray[np.int64] | None) -> Array | None:
        """Group effect of each row at each draw; -1 is a new group, the same in every row."""
        if codes is None:
            return None
        new = self._draw("s") * self._new_effects * (self.new_groups != "zero")
        return np.concatenate([self._draw("u"), new[:, None]], axis=1)[:, codes]

    def _log_ratio(self, residual: Array | None) -> Array | None:
        """What a measured residual adds to the log probabilities of the levels."""
        return None

    def _chunks(
        self, X: Array, codes: NDArray[np.int64] | None, residual: Array | None = None
    ) -> Iterator[tuple[slice, Array, Array | None]]:
        """Rows, their log class probabilities at each draw, and what residuals add."""
        alpha, beta, n_classes = self._draw("alpha"), self._draw("beta"), len(self.classes_)
        for rows in draw_slices(len(X), len(alpha) * n_classes):
            effects = self._effects(None if codes is None else codes[rows])
            log_pi = log_probabilities(alpha, beta, X[rows], n_classes, effects)
            yield rows, log_pi, self._log_ratio(None if residual is None else residual[rows])

    def _new_rows(self, X: Any, groups: Any) -> tuple[Array, NDArray[np.int64] | None]:
        """Standardised features of new rows and the codes of their groups."""
        check_is_fitted(self, "idata_")
        X, groups = split_features(self, X, groups, reset=False)
        return (X - self.x_mean_) / self.x_scale_, group_codes(self, groups, len(X))

    def _training_chunks(self) -> Iterator[tuple[slice, Array, Array | None]]:
        """The same for the rows of `fit`, equal ones once."""
        codes = None if self.groups_ is None else self._data.groups
        residual = None
        if self._model.joint:
            residual = np.append(self._data.points, np.nan)[self._data.point]
        return self._chunks(self._data.X, codes, residual)

    def _log_likelihood(self) -> Array:
        """Log likelihood of each kind of row at each draw, not weighted."""
        parts = [
            row_log_likelihood(log_pi, self._data.y[rows], log_ratio)
            for rows, log_pi, log_ratio in self._training_chunks()
        ]
        return np.concatenate(parts, axis=1)

    def _class_draws(self, log_pi: Array, log_ratio: Array | None) -> Array:
        """Class probabilities at each draw, given the residual where there is one."""
        if log_ratio is None:
            return np.exp(log_pi)
        joint = log_pi + log_ratio
        return np.exp(joint - logsumexp(joint, axis=2, keepdims=True))

    def _proba_draws(
        self, X: Any, groups: Any, residual: Array | None, max_draws: int | None
    ) -> Array:
        if max_draws is not None and max_draws < 1:
            raise ValueError(
                f"{type(self).__name__}: max_draws={max_draws}; pass at least 1, or None for all"
            )
        X, codes = self._new_rows(X, groups)
        total = len(self._new_effects)
        kept = np.arange(total)
        if max_draws is not None and max_draws < total:
            kept = np.linspace(0, total - 1, max_draws).round().astype(int)
        out = np.empty((len(kept), len(X), len(self.classes_)))
        for rows, log_pi, log_ratio in self._chunks(X, codes, residual):
            out[:, rows] = self._class_draws(log_pi, log_ratio)[kept]
        return out

    def _mean_proba(self, X: Any, groups: Any, residual: Array | None) -> Array:
        X, codes = self._new_rows(X, groups)
        out = np.empty((len(X), len(self.classes_)))
        for rows, log_pi, log_ratio in self._chunks(X, codes, residual):
            out[rows] = self._class_draws(log_pi, log_ratio).mean(axis=0)
        return out

    def _proba_interval(
        self, X: Any, groups: Any, residual: Array | None, confidence_level: float
    ) -> Array:
        tails = self._tails(confidence_level)
        X, codes = self._new_rows(X, groups)
        out = np.empty((len(X), len(self.classes_), 2))
        for rows, log_pi, log_ratio in self._chunks(X, codes, residual):
            draws = self._class_draws(log_pi, log_ratio)
            out[rows] = np.moveaxis(np.quantile(draws, tails, axis=0), 0, -1)
        return out

    def _tails(self, confidence_level: float) -> Array:
        """The two probabilities at which an interval with equal tails ends."""
        if not 0 < confidence_level < 1:
            raise ValueError(
                f"{type(self).__name__}: confidence_level={confidence_level} must lie between 0 "
                "and 1; pass for example 0.95"
            )
        return np.array([0.5 - confidence_level / 2, 0.5 + confidence_level / 2])

    def _mean_density(
        self,
        X: Any,
        y: NDArray[np.int64],
        groups: Any,
        residual: Array | None,
        sample_weight: Any,
    ) -> float:
        """Weighted mean over rows of the log of the likelihood (19) averaged over draws."""
        X, codes = self._new_rows(X, groups)
        check_consistent_length(X, y)
        weight = check_sample_weight(sample_weight, X)
        values = np.empty(len(X))
        for rows, log_pi, log_ratio in self._chunks(X, codes, residual):
            terms = row_log_likelihood(log_pi, y[rows], log_ratio)
            values[rows] = logsumexp(terms, axis=0) - np.log(len(terms))
        return float(np.average(values, weights=weight))

    def _choose(self, P: Array) -> NDArray:
        """Most probable class, or that of least expected loss."""
        loss = self._loss(len(self.classes_))
        return self.classes_[P.argmax(axis=1) if loss is None else (P @ loss).argmin(axis=1)]

    def posterior_predictive_check(
        self, statistic: str | Callable[[NDArray], ArrayLike] = "class_counts", *, draws: int = 500
    ) -> dict[str, Any]:
        """Compare a statistic of the classes with what the model replicates.

        Parameters
        ----------
        statistic : {"class_counts", "group_counts"} or callable, default="class_counts"
            "class_counts" counts each class, "group_counts" each class within
            each group; a callable takes the classes of the rows of `fit` that
            have weight, in their order, and returns a number or an array.
        draws : int, default=500
            Number of replications, spread over the posterior draws.

        Returns
        -------
        dict
            `observed`; `replicated`, one entry per replication; `p_value`, the
            share of replications above the observed statistic, ties counted
            half. Levels that nobody has observed are drawn given the residual,
            and `observed` is then the mean over draws.
        """
        return predictive_check(self, statistic, draws)

    def loo(self) -> Any:
        """Approximate leave-one-out cross-validation from the draws.

        Returns
        -------
        arviz.ELPDData
            With `elpd_loo`, its standard error, and `pareto_k` of each row;
            values above 0.7 mean that the approximation fails there.

        Raises
        ------
        ValueError
            If the log likelihood was not kept.
        """
        check_is_fitted(self, "idata_")
        if not hasattr(self.idata_, "log_likelihood"):
            raise ValueError(
                f"{type(self).__name__}: loo needs the log likelihood of each row; fit with "
                "keep_log_likelihood=True"
            )
        return leave_one_out(self.idata_)

    @property
    def coef_draws_(self) -> Array:
        """Coefficients of each draw, in the units of the features."""
        check_is_fitted(self, "idata_")
        return np.swapaxes(self._draw("beta"), 1, 2) / self.x_scale_

    @property
    def intercept_draws_(self) -> Array:
        """Intercepts of each draw, in the units of the features."""
        return self._draw("alpha") - self.coef_draws_ @ self.x_mean_

    @property
    def coef_(self) -> Array:
        """Posterior means of the coefficients."""
        return self.coef_draws_.mean(axis=0)

    @property
    def intercept_(self) -> Array:
        """Posterior means of the intercepts."""
        return self.intercept_draws_.mean(axis=0)

    @property
    def group_effects_(self) -> Array | None:
        """Posterior means of the groups' effects."""
        check_is_fitted(self, "idata_")
        return None if self.groups_ is None else self._draw("u").mean(axis=0)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "idata_")


def warn_about_weights(name: str, weight: Array) -> None:
    """Say that weights that are no counts make a pseudo-posterior.

    Parameters
    ----------
    name : str
        Class to name.
    weight : ndarray of shape (n,)
        Sampling weights.
    """
    if (weight != np.round(weight)).any():
        warn_user(
            f"{name}: sample_weight holds fractions, which give a pseudo-posterior; its point "
            "estimates stand, its intervals are approximate; pass counts for exact ones",
            WeightWarning,
        )
