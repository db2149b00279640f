"""Long tails: class weights, adjusted logits, focal losses, the equiangular classifier."""

import copy
import pickle

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.testing import assert_close

from reweight.torch import ClassBalancedWeighter, ETFClassifier, FocalLoss, LogitAdjustment

COUNTS = [500, 90, 12, 3]


@pytest.fixture
def rows(device):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(12, 4, generator=generator, dtype=torch.float64)
    target = torch.randint(4, (12,), generator=generator)
    return logits.to(device), target.to(device)


def weights_of(beta, counts=COUNTS):
    return ClassBalancedWeighter(counts, beta).class_weights_


@pytest.mark.parametrize("beta", [0.1, 0.9, 0.99, 0.9999])
def test_class_weights_follow_the_formula(beta):
    raw = torch.tensor([(1 - beta) / (1 - beta**n) for n in COUNTS])
    assert_close(weights_of(beta), raw / raw.sum() * 4)
    assert (weights_of(beta).diff() >= 0).all()


def test_limits_of_class_weights():
    assert_close(weights_of(0.0), torch.ones(4))
    assert_close(weights_of(0.999, [7, 7, 7]), torch.ones(3))
    inverse = 1 / torch.tensor(COUNTS)
    inverse = inverse / inverse.mean()
    assert_close(weights_of(1.0), inverse)
    assert_close(weights_of(1 - 1e-10), inverse, rtol=1e-6, atol=0)
    assert_close(weights_of(1 - 1e-16, [10**9, 10**6]), weights_of(1.0, [10**9, 10**6]))


def test_loss_divides_by_rows_or_by_weights(rows):
    logits, target = rows
    losses = cross_entropy(logits, target, reduction="none")
    weigh = ClassBalancedWeighter(COUNTS, 0.99).to(logits.device)
    w = weigh.class_weights_.double()[target]
    assert_close(weigh(losses, target=target), (w * losses).mean())
    by_sum = ClassBalancedWeighter(COUNTS, 0.99, normalize="batch").to(logits.device)
    expected = cross_entropy(logits, target, weight=weigh.class_weights_.double())
    assert_close(by_sum(losses, target=target), expected)


def test_warm_up_defers_and_masked_labels_may_be_anything(rows):
    logits, target = rows
    losses = cross_entropy(logits, target, reduction="none")
    weigh = ClassBalancedWeighter(COUNTS, 0.99, warmup_steps=1).to(logits.device)
    assert_close(weigh(losses, target=target), losses.mean())
    mask = torch.arange(12, device=logits.device) < 8
    found = weigh(losses, target=torch.where(mask, target, -100), mask=mask)
    w = weigh.class_weights_.double()[target[:8]]
    assert_close(found, (w * losses[:8]).mean())


def test_tokens_have_weights_of_their_labels(rows):
    logits, target = rows
    losses = cross_entropy(logits, target, reduction="none").reshape(3, 4)
    target = target.reshape(3, 4)
    weigh = ClassBalancedWeighter(COUNTS, 0.99, unit="token").to(logits.device)
    mask = torch.arange(4, device=logits.device) < torch.tensor([[4], [2], [1]]).to(logits.device)
    expected = (weigh.class_weights_.double()[target] * losses)[mask].mean()
    found = weigh(losses, target=torch.where(mask, target, -100), mask=mask)
    assert_close(found, expected)


def test_additive_adjustment_in_training_and_after_it(rows):
    logits, target = rows
    adjust = LogitAdjustment(COUNTS, tau=0.7).to(logits.device)
    pi = torch.tensor(COUNTS, device=logits.device).double() / sum(COUNTS)
    losses = cross_entropy(adjust.train_logits(logits), target, reduction="none")
    scores = logits.exp() * pi**0.7
    expected = -(scores / scores.sum(1, keepdim=True)).gather(1, target[:, None]).log().squeeze(1)
    assert_close(losses, expected, rtol=1e-6, atol=1e-6)
    assert_close(adjust.predict_logits(adjust.train_logits(logits)), logits)
    assert_close(adjust(logits), adjust.train_logits(logits))
    assert_close(adjust.eval()(logits), logits)


def test_a_calibrated_posterior_becomes_that_of_balanced_classes(device):
    generator = torch.Generator().manual_seed(1)
    likelihood = torch.rand(50, 4, generator=generator, dtype=torch.float64).to(device)
    pi = torch.tensor(COUNTS, device=device).double() / sum(COUNTS)
    posterior = likelihood * pi / (likelihood @ pi)[:, None]
    adjusted = LogitAdjustment(COUNTS).to(device).predict_logits(posterior.log())
    assert torch.equal(adjusted.argmax(1), likelihood.argmax(1))
    balanced = likelihood / likelihood.sum(1, keepdim=True)
    assert_close(adjusted.softmax(1), balanced, rtol=1e-5, atol=1e-6)
    assert (posterior.argmax(1) != likelihood.argmax(1)).any()


def test_multiplicative_and_class_balanced_logits(rows):
    logits, _ = rows
    multiply = LogitAdjustment(COUNTS, 0.65, "multiplicative").to(logits.device)
    pi = torch.tensor(COUNTS, device=logits.device).double() / sum(COUNTS)
    assert_close(multiply.predict_logits(logits), logits * pi**-0.65, rtol=1e-6, atol=1e-6)
    balance = LogitAdjustment(COUNTS, kind="class_balanced", beta=0.97).to(logits.device)
    w = ClassBalancedWeighter(COUNTS, 0.97).class_weights_.to(logits.device).double()
    assert_close(balance.train_logits(logits), logits / w, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="kind='multiplicative' adjusts predictions"):
        multiply.train_logits(logits)
    with pytest.raises(ValueError, match="kind='class_balanced' adjusts training"):
        balance.predict_logits(logits)


def test_images_have_classes_in_the_second_dimension(device):
    logits = torch.randn(2, 4, 3, 5).to(device)
    adjust = LogitAdjustment(COUNTS).to(device)
    found = adjust.train_logits(logits)
    assert_close(found[:, :, 1, 2], adjust.train_logits(logits[:, :, 1, 2]))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_focal_loss_by_classes(reduction, rows):
    logits, target = rows
    is_label = torch.nn.functional.one_hot(target, 4).double()
    p = torch.sigmoid(logits)
    p_true = torch.where(is_label == 1, p, 1 - p)
    expected = -((1 - p_true) ** 2 * p_true.log()).sum(1)
    reduce = {"mean": torch.mean, "sum": torch.sum, "none": lambda x: x}[reduction]
    assert_close(FocalLoss(reduction=reduction)(logits, target), reduce(expected))
    plain = FocalLoss(0.0, "none")(logits, target)
    binary = binary_cross_entropy_with_logits(logits, is_label, reduction="none").sum(1)
    assert_close(plain, binary)


def test_focal_loss_stays_finite_at_the_ends():
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    losses = FocalLoss(reduction="none")(logits, torch.tensor([0, 0]))
    losses.sum().backward()
    assert_close(losses, torch.tensor([0.0, 400.0]))
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("n_features", "n_classes"), [(5, 5), (32, 10), (2, 2)])
def test_classes_of_the_frame_are_equally_far_apart(n_features, n_classes):
    head = ETFClassifier(n_features, n_classes, generator=torch.Generator().manual_seed(0))
    gram = head.weight @ head.weight.T
    cosine = -1 / (n_classes - 1)
    expected = (1 - cosine) * torch.eye(n_classes) + cosine
    assert_close(gram, expected, rtol=0, atol=1e-6)
    assert not list(head.parameters())
    again = ETFClassifier(n_features, n_classes, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.weight, head.weight)
    x = torch.randn(3, n_features)
    assert_close(head(x), x @ head.weight.T)


def make_all():
    return [
        (ClassBalancedWeighter(COUNTS), lambda m, z, y: m(z.square().sum(1), target=y)),
        (LogitAdjustment(COUNTS), lambda m, z, y: m(z)),
        (FocalLoss(), lambda m, z, y: m(z, y)),
        (ETFClassifier(4, 3), lambda m, z, y: m(z)),
    ]


@pytest.mark.parametrize("which", range(4))
def test_state_copies_and_compiles(which):
    module, call = make_all()[which]
    z, y = torch.randn(6, 4), torch.randint(4, (6,))
    expected = call(module, z, y)
    other = make_all()[which][0]
    other.load_state_dict(module.state_dict())
    for twin in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(call(twin, z, y), expected)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert_close(call(compiled, z, y), expected)
    assert type(module).__name__ in repr(module)


def test_bad_input_is_named():
    weigh, loss = ClassBalancedWeighter(COUNTS), torch.rand(2)
    with pytest.raises(ValueError, match="the call has no target"):
        weigh(loss)
    with pytest.raises(ValueError, match="target holds 4, which is not among 0"):
        weigh(loss, target=torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="target has dtype torch"):
        weigh(loss, target=torch.tensor([0.0, 1.0]))
    for make in (ClassBalancedWeighter, LogitAdjustment):
        with pytest.raises(ValueError, match="1 entries that are not positive and finite, for ex"):
            make([3, 0, 1])
        with pytest.raises(ValueError, match="class_counts has shape"):
            make(7)
        with pytest.raises(ValueError, match=r"beta=1\.5; it must lie in"):
            make(COUNTS, beta=1.5)
    with pytest.raises(ValueError, match="kind='added'; choose one of"):
        LogitAdjustment(COUNTS, kind="added")
    with pytest.raises(ValueError, match="tau=-1; it must be finite"):
        LogitAdjustment(COUNTS, -1)
    with pytest.raises(ValueError, match=r"logits have shape \(2, 3\) for 4 classes"):
        LogitAdjustment(COUNTS)(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="focusing=-1; it must be finite"):
        FocalLoss(-1)
    with pytest.raises(ValueError, match="reduction='max'; choose one of"):
        FocalLoss(reduction="max")
    with pytest.raises(ValueError, match="target holds 7"):
        FocalLoss()(torch.zeros(1, 3), torch.tensor([7]))
    with pytest.raises(ValueError, match="n_features=2 for n_classes=3"):
        ETFClassifier(2, 3)
    with pytest.raises(ValueError, match="n_classes=1; pass a whole number >= 2"):
        ETFClassifier(4, 1)


def test_labels_of_an_array_are_refused():
    with pytest.raises(TypeError, match="target is a ndarray; pass a tensor"):
        ClassBalancedWeighter(COUNTS)(torch.rand(2), target=torch.zeros(2).long().numpy())
