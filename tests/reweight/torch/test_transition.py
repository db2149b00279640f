"""Weights for noisy labels: formula, bounds, moments of the draws, state."""

import copy
import pickle

import pytest
import torch
from torch.testing import assert_close

from reweight.torch import IndexWeighter, TransitionWeighter
from reweight.torch._random import dirichlet_shares, log_gamma_draws

T = torch.tensor([[0.7, 0.1, 0.0], [0.2, 0.6, 0.2], [0.1, 0.3, 0.8]], dtype=torch.float64)
N_DRAWS = 100_000


@pytest.fixture
def rows(device):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(8, 3, generator=generator, dtype=torch.float64)
    target = torch.randint(3, (8,), generator=generator)
    loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    return loss.to(device), {"logits": logits.to(device), "target": target.to(device)}


def by_hand(logits, target):
    f = torch.softmax(logits.cpu(), 1)
    return torch.stack([row[y] / (T @ row)[y] for row, y in zip(f, target.cpu(), strict=True)])


def test_weights_follow_the_formula(rows, device):
    loss, context = rows
    expected = by_hand(**context)
    for matrix, convention in ((T, "columns"), (T.T, "rows"), (T.tolist(), "columns")):
        weigh = TransitionWeighter(matrix, "reweight", convention=convention, normalize="none").to(
            device
        )
        found = weigh.weights(loss, **context).cpu()
        assert_close(found, expected, rtol=1e-6, atol=1e-7)
    value = TransitionWeighter(T, "reweight").to(device)(loss, **context)
    assert_close(value.cpu(), (expected * loss.cpu()).sum() / expected.sum())


def test_no_noise_gives_weight_one_and_weights_are_bounded(rows):
    loss, context = rows
    device = loss.device
    weigh = TransitionWeighter(torch.eye(3), "reweight", normalize="none").to(device)
    assert_close(weigh.weights(loss, **context).cpu(), torch.ones(8).double())
    weigh = TransitionWeighter(T, "reweight", normalize="none").to(device)
    for scale in (0.1, 1.0, 100.0):
        w = weigh.weights(loss, logits=context["logits"] * scale, target=context["target"])
        assert (w >= 0).all()
        assert (w.cpu() <= (1 + 1e-6) / T.diagonal()[context["target"].cpu()]).all()


def draws(method, rows, n=N_DRAWS, **settings):
    """Shares of many draws, from rows repeated as separate batches would be."""
    loss, context = rows
    weigh = TransitionWeighter(
        T, method, generator=torch.Generator(loss.device).manual_seed(1), **settings
    ).to(loss.device)
    w = weigh.raw_weights(loss, **context) * 0 + by_hand(**context).to(loss.device)
    shares = w / w.sum()
    return shares.cpu(), torch.stack(
        [weigh._one_draw(shares, w.new_tensor(8)) for _ in range(n)]
    ).cpu()


@pytest.mark.parametrize("method", ["rent", "dirichlet"])
def test_moments_of_the_draws(method, rows):
    n = 20_000
    shares, drawn = draws(method, rows, n)
    alpha = {"rent": 8 - 1, "dirichlet": 10.0}[method]
    variance = shares * (1 - shares) / (alpha + 1)
    error = (drawn.mean(0) - shares).abs() / (variance / n).sqrt()
    assert (error < 4).all()
    kurtosis = ((drawn - shares) ** 4).mean(0) / variance**2
    deviation = (drawn.var(0) / variance - 1).abs() / ((kurtosis - 1) / n).sqrt()
    assert (deviation < 4).all()
    assert_close(drawn.sum(1), torch.ones(n).double(), rtol=1e-6, atol=0)
    if method == "rent":
        assert_close(8 * drawn, (8 * drawn).round(), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_mean_of_many_draws_of_rows_is_the_weight(rows):
    shares, drawn = draws("rent", rows)
    assert ((drawn.mean(0) - shares).abs() < 4 * drawn.std(0) / N_DRAWS**0.5).all()


def test_mean_of_many_dirichlet_draws_is_the_weight(rows):
    _, context = rows
    weights = by_hand(**context)
    shares = weights / weights.sum()
    generator = torch.Generator().manual_seed(2)
    drawn = dirichlet_shares((10 * shares)[:, None].expand(8, N_DRAWS), generator).T
    assert ((drawn.mean(0) - shares).abs() < 4 * drawn.std(0) / N_DRAWS**0.5).all()


def test_counts_have_the_gradient_of_gathered_rows(rows):
    loss, context = rows
    loss = loss.clone().requires_grad_()
    weigh = TransitionWeighter(T).to(loss.device)
    counts = weigh.weights(loss, **context).detach()
    weigh(loss, **context).backward()
    picked = torch.repeat_interleave(torch.arange(8, device=loss.device), counts.round().long())
    assert len(picked) == 8
    again = loss.detach().requires_grad_()
    again[picked].mean().backward()
    assert_close(loss.grad, again.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("normalize", ["batch", "none", "deferred"])
def test_draws_have_the_scale_of_the_weights(normalize, rows):
    loss, context = rows
    total = by_hand(**context).sum()
    weigh = TransitionWeighter(T, normalize=normalize).to(loss.device)
    assert_close(weigh.raw_weights(loss, **context).sum().cpu(), total, rtol=1e-6, atol=0)


def test_average_of_draws_and_large_concentration_approach_the_weights(rows):
    loss, context = rows
    expected = 8 * by_hand(**context) / by_hand(**context).sum()
    sharp = TransitionWeighter(T, "dirichlet", concentration=1e9).to(loss.device)
    assert_close(sharp.weights(loss, **context).cpu(), expected, rtol=1e-3, atol=1e-3)
    many = TransitionWeighter(T, n_draws=400).to(loss.device)
    assert (many.weights(loss, **context).cpu() - expected).abs().max() < 0.3
    spread = lambda n: (
        TransitionWeighter(T, n_draws=n, generator=torch.Generator().manual_seed(0))
        .weights(loss.cpu(), **{k: v.cpu() for k, v in context.items()})
        .sub(expected)
        .square()
        .sum()
    )
    assert spread(400) < spread(1)


def test_masked_rows_are_never_drawn(rows):
    loss, context = rows
    mask = torch.tensor([1, 0, 1, 1, 0, 1, 1, 1], dtype=torch.bool, device=loss.device)
    context["target"] = torch.where(mask, context["target"], -100)
    weigh = TransitionWeighter(T).to(loss.device)
    for _ in range(20):
        weights = weigh.weights(loss, mask=mask, **context)
        assert (weights[~mask] == 0).all()
        assert_close(weights.sum().item(), 6.0)
        weigh(loss, mask=mask, **context)
    none = torch.zeros_like(mask)
    assert weigh(loss, mask=none, **context) == 0


def test_labels_of_pixels_have_one_weight_each(rows):
    loss, context = rows
    flat = TransitionWeighter(T, "reweight", unit="token").to(loss.device)
    logits = context["logits"].reshape(2, 4, 3).movedim(-1, 1)
    found = flat.weights(loss.reshape(2, 4), logits=logits, target=context["target"].reshape(2, 4))
    plain = TransitionWeighter(T, "reweight").to(loss.device).weights(loss, **context)
    assert_close(found.reshape(-1), plain)


def test_small_gamma_shapes_have_the_right_law():
    generator = torch.Generator().manual_seed(0)
    for shape in (0.01, 0.5, 1.0, 7.0):
        logs = log_gamma_draws(torch.full((50_000,), shape, dtype=torch.float64), generator)
        mean = torch.special.digamma(torch.tensor(shape, dtype=torch.float64))
        variance = torch.special.polygamma(1, torch.tensor(shape, dtype=torch.float64))
        assert abs(logs.mean() - mean) < 4 * (variance / 50_000).sqrt()
        assert_close(logs.var(), variance, rtol=0.05, atol=0)


def test_weights_show_the_next_call_and_change_nothing(rows):
    loss, context = rows
    weigh = TransitionWeighter(T).to(loss.device)
    shown = weigh.weights(loss, **context)
    assert torch.equal(weigh.weights(loss, **context), shown)
    assert_close(weigh(loss, **context), (shown * loss).mean())
    assert not torch.equal(weigh.weights(loss, **context), shown)


def test_resumes_to_the_bit(rows):
    loss, context = rows
    weigh = TransitionWeighter(T, "dirichlet", generator=torch.Generator().manual_seed(5))
    weigh.to(loss.device)
    weigh(loss, **context)
    state = copy.deepcopy(weigh.state_dict())
    twins = [copy.deepcopy(weigh), pickle.loads(pickle.dumps(weigh))]
    fresh = TransitionWeighter(torch.eye(3), "dirichlet").to(loss.device)
    fresh.transition = fresh.transition.double()
    fresh.load_state_dict(state)
    ahead = [weigh(loss, **context) for _ in range(3)]
    for twin in (*twins, fresh):
        assert [twin(loss, **context) for _ in range(3)] == ahead
        assert twin.step == 4


def test_the_default_seed_makes_draws_repeatable(rows):
    loss, context = rows
    shown = []
    for _ in range(2):
        torch.manual_seed(3)
        shown.append(TransitionWeighter(T).to(loss.device).weights(loss, **context))
    assert torch.equal(*shown)


@pytest.mark.parametrize("method", ["rent", "dirichlet", "reweight"])
def test_compiles_in_one_graph(method):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=generator)
    target = torch.randint(3, (6,), generator=generator)
    loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    weigh = TransitionWeighter(T.float(), method)
    compiled = torch.compile(weigh, fullgraph=True, backend="eager")
    value = compiled(loss, logits=logits, target=target)
    if method == "reweight":
        assert_close(
            value, TransitionWeighter(T.float(), method)(loss, logits=logits, target=target)
        )
    assert float(loss.min()) <= float(value) <= float(loss.max())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_the_weights_of_single(dtype, rows):
    loss, context = rows
    weigh = TransitionWeighter(T.float(), "reweight").to(loss.device)
    half = {"logits": context["logits"].to(dtype), "target": context["target"]}
    found = weigh.weights(loss.to(dtype), **half)
    assert found.dtype == torch.float32
    assert (found - weigh.weights(loss.float(), **context)).abs().max() < 2e-2
    huge = torch.full((8,), 1e4, dtype=dtype, device=loss.device)
    assert torch.isfinite(weigh(huge, **half))


def test_it_is_a_factor_of_products(rows):
    loss, context = rows
    given = torch.arange(1.0, 9.0)
    product = IndexWeighter(given) * TransitionWeighter(T, "reweight")
    found = product.to(loss.device).weights(
        loss, index=torch.arange(8, device=loss.device), **context
    )
    expected = given * by_hand(**context)
    assert_close(found.cpu(), expected / expected.mean(), rtol=1e-5, atol=1e-6)


def test_settings_and_context_are_checked(rows):
    loss, context = (rows[0].cpu(), {k: v.cpu() for k, v in rows[1].items()})
    with pytest.raises(ValueError, match="method='resample'; choose one of"):
        TransitionWeighter(T, "resample")
    with pytest.raises(ValueError, match="concentration=0; it must be"):
        TransitionWeighter(T, concentration=0)
    with pytest.raises(ValueError, match="n_draws=0; pass a whole number"):
        TransitionWeighter(T, n_draws=0)
    with pytest.raises(ValueError, match=r"shape \(2, 3\); pass a square matrix"):
        TransitionWeighter(T[:2])
    with pytest.raises(ValueError, match="1 entries that are negative or not finite"):
        TransitionWeighter([[1.1, 0.0], [-0.1, 1.0]])
    with pytest.raises(ValueError, match="its rows do, so pass convention='rows'"):
        TransitionWeighter(T.T)
    with pytest.raises(ValueError, match="nor do its rows; normalise it"):
        TransitionWeighter(2 * T)
    weigh = TransitionWeighter(T)
    with pytest.raises(ValueError, match="the call has no logits; pass logits="):
        weigh(loss, target=context["target"])
    with pytest.raises(ValueError, match="the call has no target; pass target="):
        weigh(loss, logits=context["logits"])
    with pytest.raises(ValueError, match="for 3 classes; pass one score a class"):
        weigh(loss, logits=context["logits"][:, :2], target=context["target"])
    with pytest.raises(ValueError, match="target holds 3, which is not among"):
        weigh(loss, logits=context["logits"], target=context["target"].clamp_min(3))
    with pytest.raises(ValueError, match=r"target has shape \(4,\) for logits of shape \(8, 3\)"):
        weigh(loss, logits=context["logits"], target=context["target"][:4])
    with pytest.raises(ValueError, match="pass labels as integers"):
        weigh(loss, logits=context["logits"], target=context["target"].double())


def test_an_empty_batch_and_arrays_for_tensors():
    for method in ("rent", "dirichlet"):
        weigh = TransitionWeighter(torch.eye(3), method)
        empty = torch.zeros(0, requires_grad=True)
        target = torch.zeros(0, dtype=torch.long)
        value = weigh(empty, target=target, logits=torch.zeros(0, 3))
        value.backward()
        assert value == 0
    with pytest.raises(TypeError, match="target is a ndarray; pass a tensor"):
        weigh(torch.rand(1), target=torch.zeros(1).numpy(), logits=torch.zeros(1, 3))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device of the state is here")
def test_a_generator_of_a_device_that_is_missing_goes_on_repeatably_and_says_so():
    state = TransitionWeighter(torch.eye(3)).state_dict()
    state["_extra_state"] = {**state["_extra_state"], "device": "cuda:0"}
    loss, logits = torch.rand(8), torch.randn(8, 3)
    context = {"target": torch.arange(8) % 3, "logits": logits}
    drawn = []
    for _ in range(2):
        weigh = TransitionWeighter(torch.eye(3))
        with pytest.warns(UserWarning, match="one of cuda:0, which is not here"):
            weigh.load_state_dict(state)
        drawn.append(weigh.weights(loss, **context))
    assert torch.equal(*drawn)
