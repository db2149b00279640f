"""Learners are the regressions that they say, with the covariance that theory gives."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, SplineTransformer, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from causal import (
    CrossFitter,
    DRLearner,
    EntropyBalancing,
    PropensityWeighting,
    PseudoOutcomeRegressor,
    RLearner,
    RSLearner,
    SLearner,
    TLearner,
    ULearner,
    XLearner,
    make_cate,
    pseudo_outcome,
    r_score,
)


@pytest.fixture
def study():
    return make_cate(400, setup="C", random_state=0)


@pytest.fixture
def target(study):
    return CrossFitter(random_state=0).fit_transform(study.X, study.y, treatment=study.treatment)


def sandwich(design, response, w, *, groups=None, small_sample=True):
    """Coefficients and covariance of weighted least squares, written out."""
    A = np.linalg.inv(design.T @ (w[:, None] * design))
    theta = A @ design.T @ (w * response)
    score = design * (w * (response - design @ theta))[:, None]
    n, d = design.shape
    factor = n / (n - d) if small_sample else 1.0
    if groups is not None:
        score = pd.DataFrame(score).groupby(groups).sum().to_numpy()
        G = len(score)
        factor = G / (G - 1) * (n - 1) / (n - d) if small_sample else 1.0
    return theta, factor * A @ score.T @ score @ A


def test_r_learner_with_intercept_only_is_the_partially_linear_estimate(study, target):
    y, t, m, e = target[:, :4].T
    learner = RLearner(featurizer=PolynomialFeatures(0), cov_type="HC0").fit(study.X, target)
    tt, yt = t - e, y - m
    theta = tt @ yt / (tt @ tt)
    assert_allclose(learner.predict(study.X), theta, rtol=1e-10)
    psi = (yt - theta * tt) * tt
    stderr = np.sqrt(np.mean(psi**2) / np.mean(tt**2) ** 2 / len(y))
    assert_allclose(learner.stderr(study.X), stderr, rtol=1e-10)


@pytest.mark.parametrize("cov_type", ["HC0", "HC1"])
def test_linear_r_learner_is_least_squares_of_residuals(study, target, cov_type):
    y, t, m, e = target[:, :4].T
    learner = RLearner(cov_type=cov_type).fit(study.X, target)
    design = np.column_stack([np.ones(400), study.X]) * (t - e)[:, None]
    theta, V = sandwich(design, y - m, np.ones(400), small_sample=cov_type == "HC1")
    assert_allclose([learner.intercept_, *learner.coef_], theta, atol=1e-9)
    assert_allclose(learner.cov_, V, atol=1e-10)
    phi = np.column_stack([np.ones(400), study.X])
    se = np.sqrt(np.einsum("ij,jk,ik->i", phi, V, phi))
    low, high = learner.predict_interval(study.X, confidence_level=0.9).T
    assert_allclose(high - low, 2 * 1.6448536269514722 * se, rtol=1e-9)
    assert_allclose((high + low) / 2, phi @ theta, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "weighting"),
    [
        ("dr", "overlap"),
        ("dr", None),
        ("u", "u_marginal"),
        ("cov", "overlap"),
        ("ipw", "overlap"),
        ("dr", "dr_conditional"),
        ("dr", "dr_conditional_sqrt"),
        ("plugin", "none"),
    ],
)
def test_linear_stage_is_weighted_least_squares_with_groups_and_weights(
    study, target, rng, kind, weighting
):
    s, groups = rng.uniform(0.5, 2, 400), rng.integers(0, 50, 400)
    model = PseudoOutcomeRegressor(kind, weighting)
    model.fit(study.X, target, sample_weight=s, groups=groups)
    design = np.column_stack([np.ones(400), study.X])
    theta, V = sandwich(design, model.pseudo_outcome_, model.weights_, groups=groups)
    assert_allclose([model.intercept_, *model.coef_], theta, atol=1e-9)
    assert_allclose(model.cov_, V, atol=1e-9)
    assert_allclose(model.weights_.mean(), 1)
    black_box = model.refit_final(final_estimator=LinearRegression())
    assert_allclose(black_box.predict(study.X), model.predict(study.X), atol=1e-8)


def test_black_box_r_is_u_with_residual_weights_and_the_closed_form(study, target):
    closed = RLearner().fit(study.X, target).predict(study.X)
    for model in (
        RLearner(final_estimator=LinearRegression()),
        PseudoOutcomeRegressor("u", "residual"),
        PseudoOutcomeRegressor("u", final_estimator=LinearRegression()),
    ):
        assert_allclose(model.fit(study.X, target).predict(study.X), closed, atol=1e-8)
    weighting = lambda t, e: (t - e) ** 2
    model = PseudoOutcomeRegressor("u", weighting).fit(study.X, target)
    assert_allclose(model.predict(study.X), closed, atol=1e-8)


def test_named_learners_are_pairs(study, target):
    for learner, kind, weighting in (
        (DRLearner(), "dr", None),
        (ULearner(), "u", None),
        (RLearner(), "u", "residual"),
    ):
        pair = PseudoOutcomeRegressor(kind, weighting).fit(study.X, target)
        assert_allclose(learner.fit(study.X, target).predict(study.X), pair.predict(study.X))


def test_gradient_of_the_linear_stage_vanishes(study, target):
    model = PseudoOutcomeRegressor("dr", "overlap").fit(study.X * [1, 1e3, 1, 1, 1, 1] + 50, target)
    X = study.X * [1, 1e3, 1, 1, 1, 1] + 50
    phi = np.column_stack([np.ones(400), X])
    rest = model.pseudo_outcome_ - model.predict(X)
    gradient = phi.T @ (model.weights_ * rest)
    scale = np.abs(phi).T @ (model.weights_ * np.abs(model.pseudo_outcome_))
    assert np.abs(gradient / scale).max() < 1e-10


def test_nonrobust_covariance_is_that_of_equal_variances(study, target):
    y, t, m, e = target[:, :4].T
    learner = RLearner(cov_type="nonrobust").fit(study.X, target)
    design = np.column_stack([np.ones(400), study.X]) * (t - e)[:, None]
    theta, *_ = np.linalg.lstsq(design, y - m, rcond=None)
    rest = y - m - design @ theta
    expected = rest @ rest / (400 - 7) * np.linalg.inv(design.T @ design)
    assert_allclose(learner.cov_, expected, rtol=1e-8)


@pytest.mark.parametrize("learner", [RLearner, DRLearner, TLearner, XLearner])
def test_effects_follow_affine_changes_of_the_outcome(study, learner):
    models = {"outcome_estimator": LinearRegression()}
    first = learner(**models, random_state=0).fit(study.X, study.y, treatment=study.treatment)
    again = learner(**models, random_state=0).fit(
        study.X, 3 * study.y - 5, treatment=study.treatment
    )
    assert_allclose(again.predict(study.X), 3 * first.predict(study.X), atol=1e-7)


def test_integer_weights_count_as_rows(study, rng):
    s = rng.integers(0, 4, 400)
    index, codes = np.repeat(np.arange(400), s), np.arange(400) % 4
    for make in (RLearner, DRLearner):
        fits = []
        for rows, weight in ((np.arange(400), s.astype(float)), (index, None)):
            own = codes[rows]
            cv = [(np.flatnonzero(own != k), np.flatnonzero(own == k)) for k in range(4)]
            fits.append(
                make(cv=cv).fit(
                    study.X[rows],
                    study.y[rows],
                    treatment=study.treatment[rows],
                    sample_weight=weight,
                )
            )
        assert_allclose(fits[1].predict(study.X), fits[0].predict(study.X), atol=1e-6)
    for make in (SLearner, TLearner, XLearner):
        weighted = make().fit(
            study.X, study.y, treatment=study.treatment, sample_weight=s.astype(float)
        )
        repeated = make().fit(study.X[index], study.y[index], treatment=study.treatment[index])
        assert_allclose(repeated.predict(study.X), weighted.predict(study.X), atol=1e-6)


@pytest.mark.parametrize(("order", "blocks"), [(3, 2), (4, 6)])
@pytest.mark.parametrize("aggregation", ["stack", "average"])
def test_orders_three_and_four(study, order, blocks, aggregation):
    model = PseudoOutcomeRegressor(
        "dr", "overlap", cross_fitting=order, cv=None, fold_aggregation=aggregation, random_state=0
    ).fit(study.X, study.y, treatment=study.treatment)
    assert model.pseudo_outcome_.shape == (400 * blocks,)
    row = model.row_
    expected = pseudo_outcome("dr", study.y[row], study.treatment[row], **model.nuisances_)
    assert_allclose(model.pseudo_outcome_, expected)
    phi = np.column_stack([np.ones(400), study.X])
    if aggregation == "stack":
        theta, V = sandwich(phi[row], model.pseudo_outcome_, model.weights_, groups=row)
        assert_allclose(model.cov_, V, atol=1e-9)
    else:
        thetas = [
            sandwich(phi, f, w)[0]
            for f, w in zip(
                model.pseudo_outcome_.reshape(blocks, 400),
                model.weights_.reshape(blocks, 400),
                strict=True,
            )
        ]
        theta = np.mean(thetas, axis=0)
    assert_allclose([model.intercept_, *model.coef_], theta, atol=1e-9)
    # Rows that belong together may not count as independent.
    single = RLearner(random_state=0).fit(study.X, study.y, treatment=study.treatment)
    assert (model.stderr_ > 0.5 * single.stderr_).all()


def test_averaged_stages_have_the_covariance_of_stacked_ones_where_blocks_are_alike(study):
    tight = {"treatment_estimator": 0.5, "outcome_estimator": Ridge(1e6), "n_repeats": 3}
    stack, average = (
        DRLearner(**tight, fold_aggregation=kind, cov_type="HC0", random_state=0).fit(
            study.X, study.y, treatment=study.treatment
        )
        for kind in ("stack", "average")
    )
    assert_allclose(average.coef_, stack.coef_, atol=1e-10)
    assert_allclose(average.cov_, stack.cov_, rtol=1e-8)


def test_a_search_in_the_final_stage_keeps_pseudo_rows_of_a_row_together(study):
    search = GridSearchCV(DecisionTreeRegressor(random_state=0), {"max_depth": [1, 3]}, cv=3)
    learner = DRLearner(final_estimator=search, cross_fitting=4, cv=None, random_state=0).fit(
        study.X, study.y, treatment=study.treatment
    )
    fitted = learner.final_estimator_
    for train, test in fitted.cv.split(learner.row_, groups=learner.row_):
        assert not set(learner.row_[train]) & set(learner.row_[test])


def test_refit_final_shares_nuisances_and_fits_nothing_else(study, monkeypatch):
    learner = RLearner(fit_nuisances="all", random_state=0)
    learner.fit(study.X, study.y, treatment=study.treatment)
    target = CrossFitter(random_state=0).fit_transform(study.X, study.y, treatment=study.treatment)
    monkeypatch.setattr(
        "causal.effects._pseudo_outcome_base.cross_fit_nuisances",
        lambda *arguments: pytest.fail("nuisances were fitted again"),
    )
    for kind, weighting in (("dr", "overlap"), ("cov", "overlap"), ("u", None)):
        again = learner.refit_final(pseudo_outcome=kind, weighting=weighting)
        expected = PseudoOutcomeRegressor(kind, weighting).fit(study.X, target)
        assert_allclose(again.predict(study.X), expected.predict(study.X), atol=1e-10)
    tree = learner.refit_final(final_estimator=DecisionTreeRegressor(max_depth=2))
    assert isinstance(tree.final_estimator_, DecisionTreeRegressor)
    assert learner.final_estimator == "linear"
    # With the pseudo-outcome changes its natural weighting.
    assert learner.refit_final(pseudo_outcome="dr").weighting == "inverse_variance"
    few = RLearner(random_state=0).fit(study.X, target[:, :4])
    with pytest.raises(ValueError, match=r"needs \['mu0', 'mu1'\].*fit_nuisances='all'"):
        few.refit_final(pseudo_outcome="dr")
    with pytest.raises(ValueError, match="do not concern the final stage"):
        learner.refit_final(cv=3)


def test_effect_columns_and_featurizer(study, target):
    frame = pd.DataFrame(study.X, columns=list("abcdef"))
    learner = RLearner(effect_columns=["b", "d"], featurizer=PolynomialFeatures(2))
    learner.fit(frame, target)
    y, t, m, e = target[:, :4].T
    phi = PolynomialFeatures(2).fit_transform(study.X[:, [1, 3]])
    design = phi * (t - e)[:, None]
    theta, _ = sandwich(design, y - m, np.ones(400))
    # The featurizer's own column of ones leaves its job to the intercept.
    assert_allclose([learner.intercept_, *learner.coef_[1:]], theta, atol=1e-9)
    assert learner.coef_[0] == 0
    assert list(learner.summary().index) == ["intercept", "1", "b", "d", "b^2", "b d", "d^2"]
    places = RLearner(effect_columns=[1, 3], featurizer=PolynomialFeatures(2))
    assert_allclose(
        places.fit(study.X, target).predict(study.X), learner.predict(frame), atol=1e-12
    )
    with pytest.raises(ValueError, match=r"\['z'\]"):
        RLearner(effect_columns=["z"]).fit(frame, target)
    with pytest.raises(ValueError, match="array of 6 columns"):
        RLearner(effect_columns=["b"]).fit(study.X, target)


def test_target_arrays_serve_pipelines_and_searches_without_refitting(study, target, monkeypatch):
    for name in ("_learner", "_pseudo_outcome_base"):
        monkeypatch.setattr(
            f"causal.effects.{name}.cross_fit_nuisances",
            lambda *arguments: pytest.fail("nuisances were fitted again"),
        )
    pipe = Pipeline([("scale", StandardScaler()), ("r", RLearner(DecisionTreeRegressor()))])
    pipe.set_params(r__final_estimator=DecisionTreeRegressor(random_state=0))
    search = GridSearchCV(pipe, {"r__final_estimator__max_depth": [1, 2, 8]}, cv=3)
    search.fit(study.X, target)
    assert search.best_params_["r__final_estimator__max_depth"] == 1
    effect = search.predict(study.X)
    expected = r_score(target[:, 0], target[:, 1], effect, target[:, 2], target[:, 3])
    assert_allclose(search.score(study.X, target), expected)
    kinds = GridSearchCV(
        PseudoOutcomeRegressor(scoring="dr"),
        {"pseudo_outcome": ["dr", "u"], "weighting": ["none", "overlap"]},
    ).fit(study.X, target)
    assert kinds.cv_results_["mean_test_score"].shape == (4,)
    assert cross_val_predict(RLearner(), study.X, target).shape == (400,)


def test_scores_without_nuisances_cross_fit_them_on_the_rows(study):
    learner = RLearner(random_state=0).fit(study.X, study.y, treatment=study.treatment)
    two = np.column_stack([study.y, study.treatment])
    score = learner.score(study.X, two)
    assert score == learner.score(study.X, study.y, treatment=study.treatment)
    target = CrossFitter(outcome_by_arm=False, random_state=0).fit_transform(study.X, two)
    assert_allclose(score, learner.score(study.X, target))
    for other in (SLearner(), TLearner(scoring="dr"), XLearner(), RSLearner()):
        other.fit(study.X, two)
        assert np.isfinite(other.score(study.X, two))
    with pytest.raises(ValueError, match="needs the nuisances"):
        TLearner(scoring="dr").fit(study.X, two).score(study.X, target)


def test_metadata_routing_needs_no_request(study):
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(RLearner(cv=3, random_state=0), {"cov_type": ["HC0"]}, cv=3)
        search.fit(study.X, study.y, treatment=study.treatment)
        assert np.isfinite(search.score(study.X, study.y, treatment=study.treatment))
        asked = TLearner().get_metadata_routing().fit.requests
        assert asked == {"treatment": True, "sample_weight": None}


def test_t_s_and_x_learner_by_hand(study):
    X, y, t = study.X, study.y, study.treatment
    mu0, mu1 = (LinearRegression().fit(X[t == a], y[t == a]) for a in (0, 1))
    tau = mu1.predict(X) - mu0.predict(X)
    assert_allclose(TLearner(LinearRegression()).fit(X, y, treatment=t).predict(X), tau)
    tree = DecisionTreeRegressor(max_depth=4, random_state=0)
    both = clone(tree).fit(np.column_stack([X, t]), y)
    tau = both.predict(np.column_stack([X, np.ones(400)])) - both.predict(
        np.column_stack([X, np.zeros(400)])
    )
    learner = SLearner(tree).fit(X, y, treatment=t)
    assert_allclose(learner.predict(X), tau)
    frame = pd.DataFrame(X, columns=list("abcdef"))
    framed = SLearner(tree).fit(frame, y, treatment=t)
    assert list(framed.outcome_model_.feature_names_in_) == [*"abcdef", "treatment"]
    assert_allclose(framed.predict(frame), tau)
    knn, ridge = KNeighborsRegressor(), Ridge()
    m0, m1 = (clone(knn).fit(X[t == a], y[t == a]) for a in (0, 1))
    tau1 = clone(ridge).fit(X[t == 1], y[t == 1] - m0.predict(X[t == 1]))
    tau0 = clone(ridge).fit(X[t == 0], m1.predict(X[t == 0]) - y[t == 0])
    e = LogisticRegression().fit(X, t).predict_proba(X)[:, 1]
    learner = XLearner(knn, ridge, LogisticRegression()).fit(X, y, treatment=t)
    assert_allclose(learner.predict(X), e * tau0.predict(X) + (1 - e) * tau1.predict(X))
    half = XLearner(knn, ridge, 0.5).fit(X, y, treatment=t)
    assert_allclose(half.predict(X), (tau0.predict(X) + tau1.predict(X)) / 2)


def test_rs_learner_solves_its_lasso(study, target):
    y, t, m, e = target[:, :4].T
    learner = RSLearner(alpha=0.02).fit(study.X, target)
    scale = study.X.std(axis=0)
    Z = (study.X - study.X.mean(axis=0)) / scale
    tt = t - e
    columns = np.column_stack([np.ones(400), tt, tt[:, None] * Z, Z])
    slopes = np.concatenate([learner.coef_ * scale, learner.baseline_coef_ * scale])
    first = learner.intercept_ + study.X.mean(axis=0) @ learner.coef_
    rest = y - m - tt * first - columns[:, 2:] @ slopes
    rest -= rest.mean()
    gradient = columns.T @ rest / 400
    # Optimality: free columns have none, active ones the penalty, the others less.
    assert np.abs(gradient[:2]).max() < 1e-6
    active = np.abs(slopes) > 0
    assert 0 < active.sum() < 12
    assert_allclose(gradient[2:][active], 0.02 * np.sign(slopes[active]), atol=2e-4)
    assert np.abs(gradient[2:][~active]).max() <= 0.02 + 2e-4
    tuned = RSLearner(random_state=0, featurizer=SplineTransformer()).fit(study.X, target)
    assert tuned.penalty_ > 0
    # Setup C is the one where it shines: its error beats that of the R-learner by far.
    error = np.mean((tuned.predict(study.X) - study.effect) ** 2)
    assert error < np.mean((RLearner().fit(study.X, target).predict(study.X) - 1) ** 2)


def test_continuous_treatments(rng):
    X = rng.normal(size=(2000, 3))
    dose = X[:, 0] + rng.normal(size=2000)
    y = X[:, 1] + (1 + X[:, 2]) * dose + 0.1 * rng.normal(size=2000)
    learner = RLearner(quadratic_regression(), LinearRegression(), random_state=0).fit(
        X, y, treatment=dose
    )
    assert_allclose([learner.intercept_, *learner.coef_], [1, 0, 0, 1], atol=0.03)
    assert learner.classes_ is None
    slopes = SLearner(make_pipeline(PolynomialFeatures(2), LinearRegression())).fit(
        X, y, treatment=dose
    )
    assert_allclose(slopes.predict(X), 1 + X[:, 2], atol=0.05)
    for wrong in (
        DRLearner(),
        ULearner(),
        TLearner(),
        XLearner(),
        PseudoOutcomeRegressor("cov"),
        PseudoOutcomeRegressor("u", "overlap"),
    ):
        with pytest.raises(ValueError, match=r"continuous.*RLearner"):
            wrong.fit(X, y, treatment=dose)
    with pytest.raises(ValueError, match="perfectly predicted"):
        RLearner(LinearRegression(), ConstantPlus()).fit(X, y, treatment=X[:, 0])


def quadratic_regression():
    return make_pipeline(PolynomialFeatures(2), LinearRegression())


class ConstantPlus(LinearRegression):
    """Knows the first column, exactly."""

    def predict(self, X):
        return X[:, 0]


def test_weighters_as_weights(study, target):
    t = target[:, 1]
    overlap = PropensityWeighting(estimand="ATO", propensity_clip=0.01)
    model = PseudoOutcomeRegressor("dr", overlap).fit(study.X, target)
    own = overlap.fit(study.X, t.astype(int)).weights_
    assert_allclose(model.weights_, own / own.mean())
    phi = np.column_stack([np.ones(400), study.X])
    theta, _ = sandwich(phi, model.pseudo_outcome_, own)
    assert_allclose([model.intercept_, *model.coef_], theta, atol=1e-9)
    with pytest.raises(ValueError, match="depend on the arm"):
        PseudoOutcomeRegressor("cov", EntropyBalancing("ATE")).fit(study.X, target)
    with pytest.raises(ValueError, match="depend on the arm"):
        PseudoOutcomeRegressor("ipw", "residual").fit(study.X, target)


def test_weighters_as_propensities():
    study = make_cate(4000, setup="B", random_state=0)
    model = PseudoOutcomeRegressor(
        "dr", None, treatment_estimator=EntropyBalancing("ATE"), random_state=0
    ).fit(study.X, study.y, treatment=study.treatment)
    logistic = DRLearner(random_state=0).fit(study.X, study.y, treatment=study.treatment)
    # Balancing and logistic weights are alike in a trial, far within the noise.
    gap = model.predict(study.X) - logistic.predict(study.X)
    assert np.abs(gap).max() < 0.5 * logistic.stderr(study.X).max()
    for kind, weighting in (("u", "residual"), ("dr", "overlap"), ("cov", None)):
        with pytest.raises(ValueError, match="no propensities"):
            PseudoOutcomeRegressor(
                kind, weighting, treatment_estimator=EntropyBalancing("ATE")
            ).fit(study.X, study.y, treatment=study.treatment)


def test_variance_estimator_weights_by_the_modelled_variance(rng):
    X = rng.uniform(-1, 1, size=(3000, 1))
    t = rng.integers(0, 2, 3000)
    spread = np.where(X[:, 0] > 0, 3.0, 0.3)
    y = t * X[:, 0] + spread * rng.normal(size=3000)
    model = PseudoOutcomeRegressor(
        "dr",
        treatment_estimator=0.5,
        random_state=0,
        variance_estimator=DecisionTreeRegressor(max_depth=1),
    ).fit(X, y, treatment=t)
    ratio = model.weights_[X[:, 0] < -0.05].mean() / model.weights_[X[:, 0] > 0.05].mean()
    # The floor of one per cent of the mean variance does not bind.
    assert 70 < ratio < 130
    plain = PseudoOutcomeRegressor("dr", treatment_estimator=0.5, random_state=0)
    assert model.stderr_[0] < plain.fit(X, y, treatment=t).stderr_[0]
    with pytest.raises(ValueError, match="variance_estimator is for"):
        PseudoOutcomeRegressor("u", variance_estimator=Ridge()).fit(X, y, treatment=t)


def test_directions_that_are_not_identified_have_no_error(study, target):
    X = np.column_stack([study.X[:, :2], study.X[:, 0]])
    with pytest.warns(RuntimeWarning, match="1 of 4 directions"):
        learner = RLearner().fit(X, target)
    assert_array_equal(np.isnan(learner.stderr_), [False, True, False, True])
    assert np.isfinite(learner.stderr(X)).all()
    assert np.isnan(learner.stderr(X + [1.0, 0.0, 0.0])).all()
    alone = RLearner().fit(study.X[:, :2], target)
    assert_allclose(learner.predict(X), alone.predict(study.X[:, :2]), atol=1e-8)
    assert_allclose(learner.stderr(X), alone.stderr(study.X[:, :2]), rtol=0.01)


def test_only_linear_final_stages_have_intervals(study, target):
    learner = RLearner(final_estimator=HistGradientBoostingRegressor(max_iter=5))
    learner.fit(study.X, target)
    assert not hasattr(learner, "predict_interval")
    with pytest.raises(AttributeError) as error:
        learner.predict_interval(study.X)
    assert "pass final_estimator='linear'" in str(error.value.__cause__)
    assert list(learner.summary().columns) == ["mean", "sd", "q5", "q25", "q50", "q75", "q95"]
    with pytest.raises(ValueError, match="confidence_level"):
        RLearner().fit(study.X, target).predict_interval(study.X, confidence_level=95)


def test_final_estimators_that_take_no_weights(study, target):
    with pytest.raises(ValueError, match="cannot be weighted"):
        RLearner(final_estimator=KNeighborsRegressor()).fit(study.X, target)
    unweighted = DRLearner(final_estimator=KNeighborsRegressor()).fit(study.X, target)
    assert np.isfinite(unweighted.predict(study.X)).all()
    piped = RLearner(final_estimator=make_pipeline(StandardScaler(), Ridge(1e-8)))
    closed = RLearner().fit(study.X, target).predict(study.X)
    assert_allclose(piped.fit(study.X, target).predict(study.X), closed, atol=1e-6)


@pytest.mark.parametrize(
    "learner",
    [RLearner(random_state=0), TLearner(), SLearner(), XLearner(), RSLearner(random_state=0)],
)
def test_pickle_clone_and_frames(study, learner):
    frame = pd.DataFrame(study.X, columns=list("abcdef"))
    fitted = clone(learner).fit(frame, study.y, treatment=study.treatment)
    assert list(fitted.feature_names_in_) == list("abcdef")
    copy = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(copy.predict(frame), fitted.predict(frame))
    assert not hasattr(copy, "_training")
    again = clone(learner).fit(frame, study.y, treatment=study.treatment)
    assert_array_equal(again.predict(frame), fitted.predict(frame))
    with pytest.raises(AttributeError, match="not in memory"):
        (copy.refit_final if isinstance(copy, RLearner) else copy.summary)()


@pytest.mark.parametrize("order", [2, 3])
def test_polars_frames_pass_through_every_stage(study, order):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({f"c{j}": column for j, column in enumerate(study.X.T)})
    tree = DecisionTreeRegressor(max_depth=3, random_state=0)
    arguments = {"cross_fitting": order, "cv": None if order > 2 else 3, "random_state": 0}
    for make in (
        lambda columns: DRLearner(tree, effect_columns=columns, **arguments),
        lambda columns: DRLearner(
            tree, final_estimator=tree, outcome_model="single", effect_columns=columns, **arguments
        ),
    ):
        named = make(["c1", "c2"]).fit(frame, polars.Series(study.y), treatment=study.treatment)
        placed = make([1, 2]).fit(study.X, study.y, treatment=study.treatment)
        assert_allclose(named.predict(frame), placed.predict(study.X), atol=1e-10)
    for make in (SLearner, TLearner, XLearner):
        named = make(tree).fit(frame, study.y, treatment=study.treatment)
        plain = make(tree).fit(study.X, study.y, treatment=study.treatment)
        assert_allclose(named.predict(frame), plain.predict(study.X))


def test_oracle_nuisances_give_the_parametric_rate():
    """RMSE of the R-learner with a linear basis falls as one over the root of n."""
    errors = []
    for n in (1_000, 4_000, 16_000):
        squares = []
        for seed in range(8):
            study = make_cate(n, setup="A", random_state=seed)
            learner = RLearner().fit(
                study.X, np.column_stack([study.y, study.treatment, study.m, study.propensity])
            )
            squares.append(np.mean((learner.predict(study.X) - study.effect) ** 2))
        errors.append(np.mean(squares) ** 0.5)
    rates = np.diff(np.log(errors)) / np.log(4)
    # The error of a rate from eight replications with seven coefficients is about 0.07.
    assert np.all(np.abs(rates + 0.5) < 0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [RLearner, DRLearner, lambda **k: RLearner(**k, n_repeats=2)],
    ids=["r", "dr", "repeats"],
)
def test_intervals_of_linear_effects_cover(make):
    """The effect is linear, outcomes and log-odds are too; 1000 replications of 500 rows."""
    hits = []
    point = np.array([[1.0, -0.5]])
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(500, 2))
        e = 1 / (1 + np.exp(-0.7 * X[:, 0]))
        t = (rng.uniform(size=500) < e).astype(int)
        y = (
            X @ [1.0, 0.5]
            + t * (1 + 0.5 * X[:, 0])
            + rng.normal(size=500) * (1 + 0.3 * np.abs(X[:, 1]))
        )
        model = make(outcome_estimator=None, random_state=seed).fit(X, y, treatment=t)
        low, high = model.predict_interval(point)[0]
        hits.append(low <= 1.5 <= high)
    # The Monte-Carlo error of a coverage of 0.95 is 0.007.
    assert 0.925 <= np.mean(hits) <= 0.97, np.mean(hits)


def test_rows_without_weight_do_not_fill_folds_of_the_penalty(rng):
    X, t = rng.standard_normal((80, 2)), np.tile([0, 1], 40)
    y = X[:, 0] + t + rng.standard_normal(80)
    target = np.column_stack([y, t, np.zeros(80), np.full(80, 0.5)])
    weight = np.repeat([0.0, 1.0], 40)
    weighted = RSLearner().fit(X, target, sample_weight=weight)
    alone = RSLearner().fit(X[40:], target[40:])
    assert_allclose(weighted.coef_, alone.coef_, atol=1e-6)
