"""Facts about weights and selection by the ratio of losses, for arrays and tensors."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from reweight import (
    loss_ratio_distance,
    loss_ratio_weights,
    majority_vote,
    select_by_loss_ratio,
)
from reweight.selection import loss_ratio

CAPS = {"max_weight": 2.0, "max_distance": 5.0}


@pytest.fixture
def losses(rng):
    return rng.gamma(4.0, 0.25, 200)


@pytest.fixture
def val_losses(rng):
    return rng.gamma(4.0, 0.25, 40)


def source_code(losses, val_losses, keep):
    """The filter as the source's code runs it, written out row by row."""
    weights = [min(max(np.mean(val_losses) / loss, 0), 2) if loss > 0 else 0.0 for loss in losses]
    distances = [w if w > 1 else min(1 / w, 5) if w > 0 else np.inf for w in weights]
    ordered = sorted(d for d, w in zip(distances, weights, strict=True) if w > 0)
    threshold = ordered[math.floor(len(ordered) * keep)]
    return [d < threshold and w > 0 for d, w in zip(distances, weights, strict=True)]


def test_each_weighted_loss_is_the_trusted_mean(losses, val_losses):
    weights = loss_ratio_weights(losses, val_losses)
    assert_allclose(weights * losses, val_losses.mean())
    capped = loss_ratio_weights(losses, val_losses, max_weight=1.2)
    assert_array_equal(capped, np.minimum(weights, 1.2))


def test_zeros_have_no_weight_and_lie_infinitely_far():
    assert_array_equal(loss_ratio_weights([0.0, 2.0], [1.0, 3.0]), [0, 1])
    assert_array_equal(loss_ratio_distance([0.0, 2.0], [1.0, 3.0]), [np.inf, 1])
    assert_array_equal(loss_ratio_distance([0.0, 2.0], [1.0, 3.0], **CAPS), [5, 1])
    assert_array_equal(loss_ratio_weights([1.0, 2.0], [0.0]), [0, 0])


def test_distance_is_that_of_the_logarithm_both_ways(losses, val_losses):
    distance = loss_ratio_distance(losses, val_losses)
    mean = val_losses.mean()
    assert_allclose(distance, np.exp(abs(np.log(losses / mean))))
    factors = np.array([1.0, 1.5, 3.0, 40.0])
    above, below = (loss_ratio_distance(mean * f, val_losses) for f in (factors, 1 / factors))
    assert_allclose(above, factors)
    assert_allclose(below, factors)


def test_scale_of_the_losses_does_not_matter(losses, val_losses):
    for a in (1e-3, 7.0):
        assert_allclose(
            loss_ratio_distance(a * losses, a * val_losses), loss_ratio_distance(losses, val_losses)
        )
        assert_allclose(
            loss_ratio_weights(a * losses, a * val_losses, method="density"),
            loss_ratio_weights(losses, val_losses, method="density"),
            rtol=1e-6,
        )


def test_caps_tie_both_ends():
    mean = 1.0
    small, large = np.array([0.01, 0.2, 0.5]), np.array([5.0, 6.0, 100.0])
    assert_array_equal(loss_ratio_distance(small, [mean], **CAPS), 2)
    assert_array_equal(loss_ratio_distance(large, [mean], **CAPS), 5)


@given(
    n=st.integers(1, 40),
    keep=st.sampled_from([0.01, 0.3, 0.5, 0.7, 0.8, 1.0]),
    strict=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_exactly_the_share_of_smallest_distance_is_kept(n, keep, strict, seed):
    rng = np.random.default_rng(seed)
    # Few values, so that ties are common, and zeros, which are infinitely far.
    losses, val_losses = rng.integers(0, 5, n) / 2.0, rng.integers(1, 5, 3) / 2.0
    eligible = rng.uniform(size=n) < 0.6
    eligible[rng.integers(n)] = True
    mask = select_by_loss_ratio(losses, val_losses, keep=keep, eligible=eligible, strict=strict)
    distance = loss_ratio_distance(losses, val_losses)
    assert not mask[~eligible].any()
    if mask.any():
        assert distance[mask].max() <= distance[eligible & ~mask].min(initial=np.inf)
    if strict:
        assert mask.sum() <= math.ceil(round(keep * eligible.sum(), 9))
        return
    assert mask.sum() == math.ceil(round(keep * eligible.sum(), 9))
    # Of ties, the earlier rows are kept.
    tied = eligible & (distance == distance[mask].max())
    assert_array_equal(mask[tied], np.sort(mask[tied])[::-1])


@pytest.mark.parametrize(
    ("n", "keep", "kept"), [(10, 0.7, 7), (10, 0.8, 8), (11, 0.8, 9), (3, 0.1, 1), (5, 1e-12, 1)]
)
def test_shares_are_rounded_up_but_not_by_rounding_errors(rng, n, keep, kept):
    assert select_by_loss_ratio(rng.uniform(size=n), [0.5], keep=keep).sum() == kept


@pytest.mark.parametrize("keep", [0.5, 0.8])
def test_strict_with_caps_is_the_source_code(losses, val_losses, keep):
    losses[:20] = 0.3 * val_losses.mean()
    losses[20:23] = 0.0
    mask = select_by_loss_ratio(losses, val_losses, keep=keep, strict=True, **CAPS)
    assert_array_equal(mask, source_code(losses, val_losses, keep))
    assert not mask.all()
    assert_array_equal(select_by_loss_ratio(losses, val_losses, keep=1, strict=True), losses > 0)


def test_contaminated_rows_are_among_the_dropped():
    """Of 10 % memorised and 10 % off-task rows nine tenths go, but for caps."""
    recall = {"plain": [], "capped": []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        losses, val_losses = rng.gamma(8.0, 1 / 8, 2000), rng.gamma(8.0, 1 / 8, 100)
        losses[:200] /= 5
        losses[200:400] *= 5
        for name, caps in (("plain", {}), ("capped", CAPS)):
            mask = select_by_loss_ratio(losses, val_losses, **caps)
            recall[name].append([1 - mask[:200].mean(), 1 - mask[200:400].mean()])
    assert (np.mean(recall["plain"], axis=0) >= 0.9).all()
    # With the caps of the source's code all memorised rows tie with others.
    assert np.mean(recall["capped"], axis=0)[0] < 0.6


def test_density_ratio_is_that_of_two_gamma_laws():
    rng = np.random.default_rng(0)
    losses, val_losses = rng.gamma(6.0, 0.2, 4000), rng.gamma(4.0, 0.2, 2000)
    found = loss_ratio_weights(losses, val_losses, method="density")
    truth = 0.2**2 * 20 * losses**-2.0
    middle = (losses > 0.5) & (losses < 2)
    assert np.corrcoef(found[middle], truth[middle])[0, 1] > 0.97
    assert_allclose(found[middle], truth[middle], atol=0.25)
    # The first moment comes over, which is all that "mean" asks for, and so does the second.
    for power in (1, 2):
        moment = np.mean(found * losses**power)
        assert_allclose(moment, np.mean(val_losses**power), rtol=0.1)


def test_density_ratio_minimises_its_criterion():
    """At the ridge and width chosen, the coefficients are those of the normal equations."""
    rng = np.random.default_rng(1)
    losses, val_losses = rng.gamma(6.0, 0.2, 300), rng.gamma(4.0, 0.2, 50)
    found = loss_ratio_weights(losses, val_losses, method="density")

    def features(rows, bandwidth):
        return np.exp(-((rows[:, None] - val_losses) ** 2) / (2 * bandwidth**2))

    both = np.concatenate([losses, val_losses])
    gaps = abs(both[:, None] - both)[np.triu_indices(350, 1)]
    candidates = []
    for multiple in loss_ratio.MEDIAN_MULTIPLES:
        F, F_val = (features(rows, multiple * np.median(gaps)) for rows in (losses, val_losses))
        for alpha in loss_ratio.ALPHAS:
            system = F.T @ F / 300 + alpha * np.eye(50)
            theta = np.maximum(np.linalg.solve(system, F_val.mean(axis=0)), 0)
            candidates.append(abs(F @ theta - found).max())
    assert min(candidates) < 1e-6


def test_density_keeps_rows_where_trusted_losses_are_common():
    rng = np.random.default_rng(2)
    # Trusted losses have two modes, whose mean is where no trusted row is.
    val_losses = np.concatenate([rng.normal(1, 0.1, 60), rng.normal(3, 0.1, 60)])
    losses = np.concatenate(
        [rng.normal(1, 0.1, 200), rng.normal(2, 0.1, 200), rng.normal(3, 0.1, 200)]
    )
    shares = {
        method: select_by_loss_ratio(losses, val_losses, keep=2 / 3, method=method)[200:400].mean()
        for method in ("mean", "density")
    }
    assert shares["density"] < 0.05
    assert shares["mean"] > 0.9


def test_density_of_equal_or_single_losses_is_flat_or_finite():
    assert_array_equal(loss_ratio_weights([1.0, 1.0], [1.0], method="density"), 1)
    one = loss_ratio_weights([1.0, 2.0, 3.0], [2.0], method="density")
    assert one.argmax() == 1
    assert np.isfinite(one).all()


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["x", "y", "z", None])), min_size=1))
def test_majority_is_that_of_a_counter(rows):
    groups, answers = zip(*rows, strict=True)
    expected = []
    for group, answer in rows:
        votes = Counter(a for g, a in rows if g == group and a is not None)
        expected.append(bool(votes) and answer == votes.most_common(1)[0][0])
    assert_array_equal(majority_vote(list(answers), list(groups)), expected)


def test_answers_may_be_numbers_with_gaps():
    answers = np.array([1.5, np.nan, np.nan, 1.5, 2.0])
    assert_array_equal(majority_vote(answers, np.zeros(5)), [1, 0, 0, 1, 0])
    assert not majority_vote([None, None], ["q", "q"]).any()


@pytest.mark.parametrize(
    "function", [loss_ratio_weights, loss_ratio_distance, select_by_loss_ratio]
)
@pytest.mark.parametrize(
    ("losses", "val_losses", "message"),
    [
        ([1.0], [], r"val_losses has shape \(0,\)"),
        ([], [1.0], r"losses has shape \(0,\)"),
        ([[1.0]], [1.0], r"losses has shape \(1, 1\)"),
        ([1.0, -0.5], [1.0], "1 entries that are negative.*for log-likelihoods pass"),
        ([1.0], [1.0, np.nan], "val_losses has 1 entries"),
        ([np.inf], [1.0], "losses has 1 entries"),
    ],
)
def test_bad_losses_are_refused(function, losses, val_losses, message):
    with pytest.raises(ValueError, match=f"{function.__name__}: .*{message}|{message}") as caught:
        function(losses, val_losses)
    assert str(caught.value).startswith(function.__name__)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0.0}, "keep=0.0 must lie above 0"),
        ({"keep": 1.2}, "keep=1.2"),
        ({"keep": float("nan")}, "keep=nan"),
        ({"method": "ds"}, r"method='ds' must be one of \['mean', 'density'\]"),
        ({"max_weight": 0.5}, "max_weight=0.5 must be at least 1"),
        ({"max_distance": 0.5}, "max_distance=0.5 must be at least 1"),
        ({"method": "density", "strict": True}, "belong to method='mean'"),
        ({"eligible": [True]}, "eligible must be 2 booleans"),
        ({"eligible": [0, 1]}, "eligible must be 2 booleans"),
        ({"eligible": [False, False]}, "no row is eligible"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        select_by_loss_ratio([1.0, 2.0], [1.5], **options)


def test_bad_votes_are_refused():
    with pytest.raises(ValueError, match="there are 2 answers and 1 groups"):
        majority_vote(["a", "b"], ["q"])
    with pytest.raises(ValueError, match="groups has 1 missing"):
        majority_vote(["a", "b"], ["q", None])
    with pytest.raises(ValueError, match=r"answers has shape \(0,\)"):
        majority_vote([], [])
    with pytest.raises(ValueError, match="max_weight=0 must be positive"):
        loss_ratio_weights([1.0], [1.0], max_weight=0)


class TestTensors:
    """What goes in as tensor comes out as tensor, with the same numbers."""

    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.mark.parametrize("method", ["mean", "density"])
    def test_weights_agree_with_arrays(self, torch, losses, val_losses, method):
        found = loss_ratio_weights(
            torch.tensor(losses, requires_grad=True), torch.tensor(val_losses), method=method
        )
        assert found.dtype == torch.float64
        assert not found.requires_grad
        assert_allclose(found, loss_ratio_weights(losses, val_losses, method=method), rtol=1e-10)

    def test_distances_and_masks_agree_with_arrays(self, torch, losses, val_losses, rng):
        losses[:5] = 0.0
        eligible = rng.uniform(size=200) < 0.7
        tensors = torch.tensor(losses).float(), torch.tensor(val_losses).float()
        for caps in ({}, CAPS):
            distance = loss_ratio_distance(*tensors, **caps)
            assert distance.dtype == torch.float32
            assert_allclose(distance, loss_ratio_distance(losses, val_losses, **caps), rtol=1e-5)
        for options in ({}, {"strict": True}, {"strict": True, **CAPS}, {"method": "density"}):
            expected = select_by_loss_ratio(losses, val_losses, eligible=eligible, **options)
            for given_eligible in (eligible, torch.tensor(eligible)):
                mask = select_by_loss_ratio(*tensors, eligible=given_eligible, **options)
                assert mask.dtype == torch.bool
                assert_array_equal(mask, expected)

    def test_kinds_may_differ_and_integers_become_floats(self, torch):
        assert_allclose(loss_ratio_weights(torch.tensor([1, 2]), np.array([2.0, 2.0])), [2, 1])
        found = loss_ratio_weights(np.array([1.0, 2.0]), torch.tensor([2.0, 2.0]))
        assert isinstance(found, np.ndarray)
        assert_allclose(found, [2, 1])

    def test_votes_of_tensors(self, torch):
        answers, groups = torch.tensor([3, 1, 3, 2]), torch.tensor([0, 0, 0, 1])
        mask = majority_vote(answers, groups)
        assert mask.dtype == torch.bool
        assert mask.tolist() == [True, False, True, True]

    def test_bad_tensors_are_refused(self, torch):
        with pytest.raises(ValueError, match="losses has 1 entries"):
            select_by_loss_ratio(torch.tensor([1.0, float("nan")]), torch.tensor([1.0]))
