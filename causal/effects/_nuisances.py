"""Every nuisance of a study once: out-of-fold predictions of outcome and treatment.

`cross_fit_nuisances` is the one engine behind `CrossFitter` and the learners. Names of nuisances:
m = E[Y | X], propensity = E[T | X], mu0 and mu1 = E[Y | X, T = 0 or 1]; control_propensity only
where it is not one minus the propensity.
"""

from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from threadpoolctl import ThreadpoolController

from causal.effects._default_models import StandardizedLogistic, StandardizedRidge
from causal.effects._effect_data import EffectData
from causal.effects._folds import Folds, fold_codes, leave_fold_out, make_effect_folds
from causal.effects._linear_nuisances import (
    DEFAULT_LOGISTIC,
    DEFAULT_RIDGE,
    Design,
    LinearSpec,
    RidgeTask,
    linear_spec,
    logistic_by_fold,
    ridge_by_fold,
)
from causal.effects._nuisance_checks import (
    OUTCOMES,
    NuisanceSettings,
    check_nuisance_models,
    is_weighter,
)
from causal.effects._outcome_designs import BothArms, WeighterPropensity, with_treatment_column
from causal.effects._study import seeded_clone
from reweight.cross_fitting import cross_fit
from reweight.validation import warn_weights

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
MUCH_CLIPPED = 0.05
NARROW = 128
ARM = {"m": None, "mu0": 0, "mu1": 1}


@dataclass(frozen=True)
class Nuisances:
    """Out-of-fold nuisances of pseudo rows, in blocks that each hold every row in order.

    Parameters
    ----------
    by_name : dict of ndarray of shape (n_blocks * n_samples,)
        The nuisances.
    row : ndarray of int of shape (n_blocks * n_samples,)
        The row that each pseudo row belongs to.
    n_blocks : int
        Number of repeats, times 1, 2 or 6 for orders 2, 3 and 4.
    fold : ndarray of int of shape (n_repeats, n_samples)
        Fold that tests each row; -1 for nuisances given by the user.
    n_clipped : int
        Number of propensities that were clipped.
    models : dict of list of estimators
        Fitted models by nuisance, over repeats and folds.
    """

    by_name: dict[str, Array]
    row: Codes
    n_blocks: int
    fold: Codes
    n_clipped: int
    models: dict[str, list]


def given_nuisances(data: EffectData) -> Nuisances:
    """Nuisances that came with the outcome, as the engine would return them.

    Parameters
    ----------
    data : EffectData
        Rows with nuisances.

    Returns
    -------
    Nuisances
    """
    n = len(data.y)
    return Nuisances(
        dict(data.nuisances), np.arange(n), 1, np.full((1, n), -1), n_clipped=0, models={}
    )


def cross_fit_nuisances(
    data: EffectData, names: tuple[str, ...], settings: NuisanceSettings
) -> Nuisances:
    """Predict every nuisance asked for by models that have not seen the row.

    Parameters
    ----------
    data : EffectData
        Rows of the study.
    names : tuple of str
        Which of "m", "propensity", "mu0", "mu1".
    settings : NuisanceSettings
        Models and folds.

    Returns
    -------
    Nuisances
    """
    check_nuisance_models(data, names, settings)
    n = len(data.y)
    seeds = np.random.RandomState(settings.random_state).randint(
        np.iinfo(np.int32).max, size=settings.n_repeats + 1
    )
    models_seed = int(seeds[-1])
    blocks: list[dict[str, Array]] = []
    codes, models = [], {}
    for seed in seeds[:-1]:
        folds = make_effect_folds(
            settings.cv,
            data,
            random_state=int(seed),
            cross_fitting=settings.cross_fitting,
            owner=settings.owner,
        )
        repeat = _Repeat(data, folds, settings, models_seed)
        predictions = repeat.predict(names)
        blocks += _combine_parts(predictions, repeat.fold, settings.cross_fitting)
        codes.append(repeat.fold)
        for name, fitted in repeat.models.items():
            models.setdefault(name, []).extend(fitted)
    values = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    n_clipped = _clip(values, data, settings)
    return Nuisances(
        values, np.tile(np.arange(n), len(blocks)), len(blocks), np.stack(codes), n_clipped, models
    )


class _Repeat:
    """One draw of the folds: predictions of each nuisance and the models that made them."""

    def __init__(
        self, data: EffectData, folds: Folds, settings: NuisanceSettings, seed: int
    ) -> None:
        self.data, self.folds, self.settings, self.seed = data, folds, settings, seed
        self.fold = fold_codes(folds, len(data.y))
        self.models: dict[str, list] = {}

    def predict(self, names: tuple[str, ...]) -> dict[str, Array]:
        """Predictions, (n,) for order 2, a column for each part that models saw otherwise."""
        done = self._known(names)
        done |= self._linear([name for name in names if name not in done])
        for name in names:
            if name not in done:
                done |= self._generic(name)
        return done

    def _known(self, names: tuple[str, ...]) -> dict[str, Array]:
        known, model = self.data.propensity, self.settings.treatment_estimator
        if known is None and isinstance(model, (int, float)):
            known = np.full(len(self.data.y), float(model))
        if "propensity" not in names or known is None:
            return {}
        if self.settings.cross_fitting > 2:
            known = np.repeat(known[:, None], len(self.folds), axis=1)
        return {"propensity": known}

    def _specs(self, names: list[str]) -> dict[str, LinearSpec]:
        """The nuisances among `names` that linear algebra fits for all folds at once."""
        settings, weighted = self.settings, self.data.sample_weight is not None
        specs: dict[str, LinearSpec | None] = {}
        for name in names:
            if name in OUTCOMES:
                model, default = settings.outcome_estimator, DEFAULT_RIDGE
                if name != "m" and settings.outcome_model == "single":
                    continue
            else:
                model = settings.treatment_estimator
                default = DEFAULT_LOGISTIC if self.data.binary else DEFAULT_RIDGE
            spec = default if model is None else linear_spec(model, weighted=weighted)
            expected = "logistic" if name == "propensity" and self.data.binary else "ridge"
            if spec is not None and spec.kind == expected:
                specs[name] = spec
        return specs

    def _linear(self, names: list[str]) -> dict[str, Array]:
        specs = self._specs(names)
        if not specs:
            return {}
        if self.settings.cross_fitting > 2:
            train = np.eye(len(self.folds), dtype=bool)
        elif leave_fold_out(self.folds, len(self.data.y)):
            train = ~np.eye(len(self.folds), dtype=bool)
        else:
            return {}
        X = dense_matrix(self.data.X)
        if X is None:
            return {}
        # Products of narrow blocks gain nothing from threads, and lose much on busy machines.
        threads = 1 if X.shape[1] < NARROW else None
        with _loaded_libraries().limit(limits=threads, user_api="blas"):
            return self._fit_linear(X, train, specs)

    def _fit_linear(
        self, X: Array, train: NDArray[np.bool_], specs: dict[str, LinearSpec]
    ) -> dict[str, Array]:
        design = Design.of(X, self.data.sample_weight, self.fold, train)
        coefficients: dict[str, Array] = {}
        ridge = [name for name in specs if specs[name].kind == "ridge"]
        if ridge:
            by_arm = "mu0" in ridge or "mu1" in ridge
            fits = ridge_by_fold(
                design,
                np.column_stack([self.data.y, self.data.treatment]),
                self.data.treatment.astype(np.intp) if by_arm else None,
                [
                    RidgeTask(specs[name], int(name == "propensity"), ARM.get(name))
                    for name in ridge
                ],
            )
            coefficients |= {k: B for k, B in zip(ridge, fits, strict=True) if B is not None}
        if specs.keys() - set(ridge):
            coefficients["propensity"] = logistic_by_fold(
                design, self.data.treatment, specs["propensity"], owner=self.settings.owner
            )
        return self._read_linear(coefficients, specs, design)

    def _read_linear(
        self, coefficients: dict[str, Array], specs: dict[str, LinearSpec], design: Design
    ) -> dict[str, Array]:
        """Out-of-fold predictions from the coefficients of all models."""
        predictions = {}
        for name, B in coefficients.items():
            logistic = specs[name].kind == "logistic"
            own = self.settings.cross_fitting == 2
            values = design.predict_own(B) if own else design.predict(B)
            if logistic:
                values = 1.0 / (1.0 + np.exp(-values.clip(-500.0, 500.0)))
            predictions[name] = values
            self.models[name] = [_fitted_linear(b, design.center, logistic) for b in B.T]
        return predictions

    def _generic(self, name: str) -> dict[str, Array]:
        """A nuisance by models of any kind, fitted fold by fold."""
        if name == "propensity":
            return self._generic_propensity()
        if name != "m" and self.settings.outcome_model == "single":
            return self._single_outcome_model()
        model = self.settings.outcome_estimator
        model = StandardizedRidge() if model is None else model
        classifier = is_classifier(model)
        y = self.data.y.astype(int) if classifier else self.data.y
        method = "predict_proba" if classifier else "predict"
        values = self._cross_fit(name, model, self.data.X, y, method, ARM[name])
        return {name: values}

    def _generic_propensity(self) -> dict[str, Array]:
        model, t = self.settings.treatment_estimator, self.data.treatment
        if model is None:
            model = StandardizedLogistic() if self.data.binary else StandardizedRidge()
        if is_weighter(model):
            pair = self._cross_fit("propensity", WeighterPropensity(model), self.data.X, t)
            named = {"propensity": pair[..., 0], "control_propensity": pair[..., 1]}
            if hasattr(model, "predict_propensity"):
                del named["control_propensity"]
            return named
        method = "predict_proba" if self.data.binary else "predict"
        labels = t.astype(int) if self.data.binary else t
        return {"propensity": self._cross_fit("propensity", model, self.data.X, labels, method)}

    def _single_outcome_model(self) -> dict[str, Array]:
        model = self.settings.outcome_estimator
        model = StandardizedRidge() if model is None else model
        X = with_treatment_column(self.data.X, self.data.treatment)
        pair = self._cross_fit("mu", BothArms(model), X, self.data.y)
        return {"mu0": pair[..., 0], "mu1": pair[..., 1]}

    def _cross_fit(
        self, name: str, model: Any, X: Any, y: Array, method: str = "predict", arm: Any = None
    ) -> Array:
        """Out-of-fold values of one model; one more axis over parts for orders 3 and 4."""
        keep = slice(None) if arm is None else self.data.treatment == arm
        mask = np.zeros(len(y), dtype=bool)
        mask[keep] = True
        folds = [(train[mask[train]], test) for train, test in self.folds]
        everyone = np.arange(len(y))
        if self.settings.cross_fitting == 2:
            runs = [folds]
        else:
            runs = [[(test[mask[test]], np.setdiff1d(everyone, test))] for _, test in self.folds]
        results = []
        for run in runs:
            fit = cross_fit(
                seeded_clone(model, self.seed),
                X,
                y,
                cv=run,
                method=method,
                sample_weight=self.data.sample_weight,
                n_jobs=self.settings.n_jobs,
                verbose=self.settings.verbose,
            )
            self.models.setdefault(name, []).extend(fit.estimators)
            values = np.asarray(fit.predictions, dtype=np.float64)
            if method == "predict_proba":
                values = _probability_of_one(values, fit.classes)
            elif values.ndim == 2 and values.shape[1] == 1:
                values = values[:, 0]
            results.append(values)
        return results[0] if self.settings.cross_fitting == 2 else np.stack(results, axis=1)


def _probability_of_one(values: Array, classes: Any) -> Array:
    """The column of class 1, which a binary outcome may lack in all rows."""
    place = np.flatnonzero(np.asarray(classes) == 1)
    return values[:, place[0]] if len(place) else np.zeros(len(values))


def _combine_parts(
    predictions: dict[str, Array], fold: Codes, cross_fitting: int
) -> list[dict[str, Array]]:
    """Blocks of nuisances whose parts are distinct for treatment and outcome."""
    if cross_fitting == 2:
        return [predictions]
    rows = np.arange(len(fold))
    blocks = []
    for order in permutations(range(1, cross_fitting)):
        parts = [(fold + step) % cross_fitting for step in order]
        block = {}
        for name, values in predictions.items():
            part = parts[0] if name == "propensity" else parts[-1]
            if name == "control_propensity":
                part = parts[-2] if cross_fitting == 4 else parts[0]
            block[name] = values[rows, part]
        if cross_fitting == 4 and "propensity" in block and "control_propensity" not in block:
            block["control_propensity"] = 1.0 - predictions["propensity"][rows, parts[1]]
        blocks.append(block)
    return blocks


def _clip(values: dict[str, Array], data: EffectData, settings: NuisanceSettings) -> int:
    """Move propensities away from 0 and 1, in place, and count how many."""
    if not data.binary or "propensity" not in values:
        return 0
    low = settings.propensity_clip
    # Inverse weights of a balancing method stand for propensities that may exceed one.
    model = settings.treatment_estimator
    high = 1.0 - low
    if is_weighter(model) and not hasattr(model, "predict_propensity"):
        high = np.inf
    moved = np.zeros(len(values["propensity"]), dtype=bool)
    for name in ("propensity", "control_propensity"):
        if name in values:
            clipped = np.clip(values[name], low, high)
            moved |= clipped != values[name]
            values[name] = clipped
    n_clipped = int(moved.sum())
    if n_clipped > MUCH_CLIPPED * len(moved):
        warn_weights(
            f"{settings.owner}: {n_clipped} of {len(moved)} propensities were clipped at "
            f"{low:g}; the arms hardly overlap there, so look at the propensities, drop those rows "
            "or choose overlap weights"
        )
    return n_clipped


@cache
def _loaded_libraries() -> ThreadpoolController:
    """Thread pools of the BLAS of numpy and scipy; to look for them takes as long as a fit."""
    return ThreadpoolController()


def dense_matrix(X: Any) -> Array | None:
    """Covariates as finite float64, None if they are not that."""
    if issparse(X):
        return None
    try:
        matrix = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return matrix if np.isfinite(matrix).all() else None


def _fitted_linear(coefficients: Array, center: Array, logistic: bool) -> Any:
    """A fitted linear model from coefficients for centred columns."""
    slopes, intercept = coefficients[:-1], coefficients[-1] - center @ coefficients[:-1]
    if logistic:
        model = clone(LogisticRegression())
        model.classes_ = np.array([0, 1])
        model.coef_, model.intercept_ = slopes[None, :], np.array([intercept])
    else:
        model = clone(LinearRegression())
        model.coef_, model.intercept_ = slopes, float(intercept)
    model.n_features_in_ = len(slopes)
    return model
