"""Gradient matching beside full matrices, task arithmetic and Fisher averaging."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight import average_parameters, gradient_matching_weights, pool_estimates


@pytest.fixture
def tasks(rng):
    base = {"w": rng.normal(size=5)}
    models = [{"w": rng.normal(size=5)} for _ in range(3)]
    H = [{"w": rng.uniform(0.5, 2, size=5)} for _ in range(3)]
    return base, models, H, {"w": rng.uniform(0.5, 2, size=5)}


def merge(base, models, *arguments, **options):
    weights = gradient_matching_weights(*arguments, **options)
    return average_parameters([base, *models], weights)["w"]


@pytest.mark.parametrize("alpha", [1.0, [0.3, 0.9, 0.5]])
def test_beside_full_matrices(tasks, alpha):
    base, models, H, H_0 = tasks
    pooled = pool_estimates(
        [m["w"] for m in models],
        [np.diag(h["w"]) for h in H],
        anchor=base["w"],
        anchor_precision=np.diag(H_0["w"]),
        weights=np.broadcast_to(alpha, 3),
    )
    found = merge(base, models, H, H_0, task_weights=alpha, damping=0.0)
    assert_allclose(found, pooled.mean, rtol=1e-9)


def test_the_formula_with_scales_and_damping(tasks):
    base, models, H, H_0 = tasks
    alpha, delta, s_0, s = 0.4, 0.1, 3.0, [10.0, 20.0, 30.0]
    below = s_0 * H_0["w"] + alpha * sum(si * h["w"] for si, h in zip(s, H, strict=True)) + delta
    expected = base["w"] + alpha * sum(
        (s_0 * H_0["w"] + si * h["w"] + delta) / below * (m["w"] - base["w"])
        for si, h, m in zip(s, H, models, strict=True)
    )
    options = {"task_weights": alpha, "scale": s, "base_scale": s_0, "damping": delta}
    assert_allclose(merge(base, models, H, H_0, **options), expected, rtol=1e-10)


def test_without_curvature_of_tasks_it_is_task_arithmetic(tasks):
    base, models, _, H_0 = tasks
    alpha = [0.5, -0.2, 1.1]
    zero = [{"w": np.zeros(5)}] * 3
    expected = base["w"] + sum(a * (m["w"] - base["w"]) for a, m in zip(alpha, models, strict=True))
    assert_allclose(merge(base, models, zero, H_0, task_weights=alpha), expected, rtol=1e-9)
    # Nor is there any with neither: differences add up.
    assert_allclose(merge(base, models, zero, task_weights=alpha), expected, rtol=1e-9)
    scalar = average_parameters([base, *models], [1 - sum(alpha), *alpha])["w"]
    assert_allclose(scalar, expected, rtol=1e-9)


def test_without_that_of_the_base_it_is_fisher_averaging(tasks):
    base, models, H, _ = tasks
    found = merge(base, models, H, damping=0.0)
    assert_allclose(found, average_parameters(models, H)["w"], rtol=1e-9)
    pooled = pool_estimates([m["w"] for m in models], [h["w"] for h in H])
    assert_allclose(found, pooled.mean, rtol=1e-9)


def test_a_task_taken_out_leaves_the_fit_of_the_rest(rng):
    H = [rng.uniform(1, 2, size=4) for _ in range(3)]
    H_0, theta_0 = rng.uniform(1, 2, size=4), rng.normal(size=4)
    minima = rng.normal(size=(3, 4))

    def joint(tasks):
        top = H_0 * theta_0 + sum(H[t] * minima[t] for t in tasks)
        return {"w": top / (H_0 + sum(H[t] for t in tasks))}

    found = merge(
        {"w": theta_0},
        [joint([0, 1, 2]), joint([1])],
        [{"w": sum(H)}, {"w": H[1]}],
        {"w": H_0},
        task_weights=[1, -1],
        damping=0.0,
    )
    assert_allclose(found, joint([0, 2])["w"], rtol=1e-9)


def test_equal_curvature_gives_the_weighted_mean(tasks):
    base, models, H, _ = tasks
    alpha = [0.2, 0.3, 0.5]
    found = merge(base, models, [H[0]] * 3, H[0], task_weights=alpha)
    assert_allclose(found, average_parameters(models, alpha)["w"], rtol=1e-9)


def test_bad_input_is_refused(tasks):
    base, models, H, _ = tasks
    with pytest.raises(ValueError, match="at least one task"):
        gradient_matching_weights([])
    with pytest.raises(ValueError, match="could not be broadcast"):
        gradient_matching_weights(H, task_weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="must be finite"):
        gradient_matching_weights(H, scale=np.nan)
    with pytest.raises(ValueError, match="damping not negative"):
        gradient_matching_weights(H, damping=-1.0)
    with pytest.raises(KeyError, match="w"):
        gradient_matching_weights(H, {"v": 1.0})
    with pytest.raises(ValueError, match=r"'w' are .* a negative sum"):
        merge(base, models, H, task_weights=-1.0)
