"""Six effect estimators on boosted nuisances: ours share one pass, peers fit their own.

`one shared pass` is `CrossFitter` alone; six estimators are to take at most 1.1 times as long.
"""

from collections.abc import Callable, Iterator

import numpy as np
from case import Case
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from causal import (
    CrossFitter,
    DRLearner,
    InteractiveDML,
    PartiallyLinearDML,
    PseudoOutcomeRegressor,
    RLearner,
    ULearner,
    make_cate,
)

FOLDS = 5


def models(n_trees: int) -> tuple:
    settings = {"max_iter": n_trees, "early_stopping": False, "random_state": 0}
    return HistGradientBoostingRegressor(**settings), HistGradientBoostingClassifier(**settings)


def cases(quick: bool) -> Iterator[Case]:
    n_rows, n_trees = (2_000, 20) if quick else (20_000, 100)
    study = make_cate(n_rows, setup="A", n_features=20, random_state=0)
    X, y, t = study.X, study.y, study.treatment
    size = {"rows": n_rows, "columns": 20}
    overlap = study.propensity * (1 - study.propensity)
    truth = {
        "ate": study.effect.mean(),
        "ato": np.average(study.effect, weights=overlap),
        "effect": study.effect,
    }

    def one_pass():
        return CrossFitter(*models(n_trees), cv=FOLDS, random_state=0).fit_transform(
            X, y, treatment=t
        )

    def six():
        target = one_pass()
        effects = {
            "r": RLearner().fit(X, target).predict(X),
            "dr": DRLearner().fit(X, target).predict(X),
            "dr, overlap": PseudoOutcomeRegressor("dr", "overlap").fit(X, target).predict(X),
            "u": ULearner().fit(X, target).predict(X),
        }
        plr, irm = (kind().fit(X, target) for kind in (PartiallyLinearDML, InteractiveDML))
        return {"ato": plr.effect_, "ate": irm.effect_, "effect": effects["r"]}

    yield Case("counterpoise", size, six, judge(truth))
    yield Case("one shared pass", size, one_pass)
    yield from peers(X, y, t, n_trees, size, judge(truth))


def judge(truth: dict) -> Callable:
    """Errors of the average effects and of the linear R-learner."""

    def quality(found: dict) -> dict[str, float]:
        return {
            "ate_error": float(abs(found["ate"] - truth["ate"])),
            "ato_error": float(abs(found["ato"] - truth["ato"])),
            "effect_rmse": float(np.mean((found["effect"] - truth["effect"]) ** 2) ** 0.5),
        }

    return quality


def peers(X, y, t, n_trees: int, size: dict, quality: Callable) -> Iterator[Case]:
    try:
        import doubleml
        from doubleml.data import DoubleMLData
        from econml.dml import LinearDML
        from econml.dr import LinearDRLearner
        from econml.metalearners import TLearner, XLearner
    except ImportError:
        print("EconML and DoubleML are not installed: pip install econml doubleml")
        return

    def six():
        regressor, classifier = models(n_trees)
        dml = LinearDML(
            model_y=regressor, model_t=classifier, discrete_treatment=True, cv=FOLDS
        ).fit(y, t, X=X)
        LinearDRLearner(model_regression=regressor, model_propensity=classifier, cv=FOLDS).fit(
            y, t, X=X
        )
        TLearner(models=regressor).fit(y, t, X=X)
        XLearner(models=regressor, propensity_model=classifier).fit(y, t, X=X)
        data = DoubleMLData.from_arrays(X, y, t)
        plr = doubleml.DoubleMLPLR(data, regressor, classifier, n_folds=FOLDS).fit()
        irm = doubleml.DoubleMLIRM(data, regressor, classifier, n_folds=FOLDS).fit()
        return {"ato": plr.coef[0], "ate": irm.coef[0], "effect": dml.effect(X)}

    yield Case("econml + doubleml", size, six, quality)
