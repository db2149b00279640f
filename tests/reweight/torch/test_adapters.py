"""Trainers of other libraries, each against the real library."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_predict
from torch.nn.functional import cross_entropy, mse_loss
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from reweight.exceptions import WeightWarning
from reweight.torch import (
    IndexWeighter,
    LossBasedWeighter,
    WeightedCriterion,
    WeightedNetMixin,
    WithIndex,
    trainer_compute_loss,
)


def test_a_criterion_is_built_or_taken_and_reduced():
    logits, target = torch.randn(6, 3, requires_grad=True), torch.tensor([0, 1, 2, 0, -100, 1])
    weigh = LossBasedWeighter(temperature=0.5)
    losses = cross_entropy(logits, target, reduction="none")
    expected = weigh(losses, mask=target != -100)
    for criterion in (torch.nn.CrossEntropyLoss, torch.nn.CrossEntropyLoss(reduction="none")):
        assert_close(WeightedCriterion(criterion, weigh)(logits, target), expected)
    function = partial(cross_entropy, reduction="none")
    assert_close(WeightedCriterion(function, weigh, ignore_index=-100)(logits, target), expected)
    masked = WeightedCriterion(function, weigh, ignore_index=-100)
    mask = torch.tensor([1, 1, 0, 1, 1, 1])
    both = (target != -100) & (mask == 1)
    assert_close(masked(logits, target, mask=mask), weigh(losses, mask=both))
    with pytest.raises(ValueError, match="the criterion has reduction='mean'"):
        WeightedCriterion(torch.nn.MSELoss(), weigh)
    with pytest.raises(TypeError, match="weighter is a list"):
        WeightedCriterion(torch.nn.MSELoss, [1.0, 2.0])


class Linear(torch.nn.Module):
    def __init__(self, n_outputs=1):
        super().__init__()
        self.linear = torch.nn.Linear(3, n_outputs, bias=False, dtype=torch.float64)
        torch.nn.init.zeros_(self.linear.weight)

    def forward(self, X):
        return self.linear(X)


@pytest.fixture
def regression(rng):
    X = rng.normal(size=(60, 3))
    y = X @ [1.0, -2.0, 0.5] + X[:, 0] ** 2
    return X, y, rng.exponential(size=60)


@pytest.fixture
def skorch():
    return pytest.importorskip("skorch")


@pytest.fixture
def helper(skorch):
    return pytest.importorskip("skorch.helper")


def regressor(skorch, weigh):
    class WeightedRegressor(WeightedNetMixin, skorch.NeuralNetRegressor):
        pass

    return WeightedRegressor(
        Linear,
        criterion=WeightedCriterion,
        criterion__criterion=torch.nn.MSELoss,
        criterion__weighter=weigh,
        optimizer=torch.optim.LBFGS,
        optimizer__max_iter=50,
        lr=1.0,
        max_epochs=3,
        batch_size=-1,
        train_split=None,
        verbose=0,
    )


def test_skorch_trains_with_weights_by_index(regression, skorch, helper):
    X, y, weights = regression
    inputs = helper.SliceDict(X=X, index=np.arange(60))
    net = regressor(skorch, IndexWeighter(weights)).fit(inputs, y[:, None])
    expected = Ridge(alpha=0, fit_intercept=False).fit(X, y, sample_weight=weights)
    assert_allclose(net.module_.linear.weight.detach().numpy()[0], expected.coef_, rtol=1e-4)
    assert_allclose(net.predict({"X": X}).ravel(), expected.predict(X), rtol=1e-3, atol=1e-3)

    out_of_fold = cross_val_predict(clone(net), inputs, y[:, None], cv=3)
    by_hand = cross_val_predict(
        Ridge(alpha=0, fit_intercept=False), X, y, cv=3, params={"sample_weight": weights}
    )
    assert_allclose(out_of_fold.ravel(), by_hand, rtol=1e-3, atol=1e-3)


def test_skorch_says_what_is_missing(regression, skorch):
    X, y, weights = regression
    with pytest.raises(ValueError, match="WeightedRegressor: X has no entry 'index'"):
        regressor(skorch, IndexWeighter(weights)).fit({"X": X}, y[:, None])


def test_skorch_needs_no_mixin_without_an_index(regression, skorch):
    X, y, _ = regression
    net = skorch.NeuralNetClassifier(
        partial(Linear, 2),
        criterion=WeightedCriterion,
        criterion__criterion=torch.nn.CrossEntropyLoss,
        criterion__weighter=LossBasedWeighter(temperature=0.5),
        predict_nonlinearity=partial(torch.softmax, dim=-1),
        lr=0.5,
        max_epochs=30,
        verbose=0,
    )
    net.fit(X, (y > 0).astype(np.int64))
    assert net.score(X, y > 0) > 0.8
    assert_allclose(net.predict_proba(X).sum(1), 1.0, rtol=1e-5)
    weigh = net.criterion_.weighter
    assert int(weigh.step) == 30
    assert not weigh.training


def test_lightning_needs_no_adapter(regression, tmp_path):
    lightning = pytest.importorskip("lightning")
    X, y, weights = (torch.tensor(part) for part in regression)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Linear()
            self.weigh = IndexWeighter(weights, warmup_steps=3)

        def training_step(self, batch):
            index, x, target = batch
            loss = mse_loss(self.model(x)[:, 0], target, reduction="none")
            return self.weigh(loss, index=index)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05)

    trainer = lightning.Trainer(
        max_epochs=40,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Module()
    loader = DataLoader(WithIndex(TensorDataset(X, y)), batch_size=20)
    trainer.fit(module, loader)
    assert int(module.weigh.step) == 120
    exact = Ridge(alpha=0, fit_intercept=False).fit(X, y, sample_weight=weights).coef_
    plain = Ridge(alpha=0, fit_intercept=False).fit(X, y).coef_
    reached = module.model.linear.weight.detach().numpy()[0]
    assert abs(reached - exact).max() < 0.2 * abs(plain - exact).max()
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = Module.load_from_checkpoint(tmp_path / "model.ckpt")
    assert_close(loaded.weigh.state_dict(), module.weigh.state_dict(), rtol=0, atol=0)


@pytest.fixture
def transformers():
    pytest.importorskip("accelerate")
    return pytest.importorskip("transformers")


def language_model(transformers):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=17,
        n_positions=12,
        n_embd=16,
        n_layer=1,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


@pytest.fixture
def sentences():
    """Token sequences of unequal length, padded by -100 in the labels."""
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, 17, (8, 12), generator=generator)
    labels = tokens.clone()
    for row, length in enumerate([12, 3, 7, 12, 5, 9, 2, 11]):
        labels[row, length:] = -100
    return [{"input_ids": t, "labels": y} for t, y in zip(tokens, labels, strict=True)]


def arguments(transformers, tmp_path, **settings):
    return transformers.TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=1,
        optim="sgd",
        learning_rate=1.0,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        save_strategy="no",
        train_sampling_strategy="sequential",
        **settings,
    )


def step_of(trainer):
    """How the parameters moved."""
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    return {name: before[name] - p.detach() for name, p in trainer.model.named_parameters()}


def token_losses(model, sentences):
    tokens = torch.stack([sentence["input_ids"] for sentence in sentences])
    labels = torch.stack([sentence["labels"] for sentence in sentences])[:, 1:]
    logits = model(input_ids=tokens).logits[:, :-1]
    losses = cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return losses, labels != -100


def n_labels(sentences):
    """What the Trainer divides by: it counts the labels before they are shifted."""
    return sum(int((sentence["labels"] != -100).sum()) for sentence in sentences)


@pytest.mark.parametrize("settings", [{"unit": "token"}, {"aggregate": "token"}])
def test_transformers_with_unit_weights_trains_as_without(
    settings, transformers, sentences, tmp_path
):
    class Uniform(LossBasedWeighter):
        def raw_weights(self, loss, **context):
            return torch.full_like(loss, 7.0)

    common = {
        "args": arguments(transformers, tmp_path),
        "train_dataset": sentences,
        "eval_dataset": sentences,
    }
    plain = transformers.Trainer(language_model(transformers), **common)
    compute = trainer_compute_loss(Uniform(**settings))
    weighted = transformers.Trainer(
        language_model(transformers), compute_loss_func=compute, **common
    )
    expected, found = step_of(plain), step_of(weighted)
    assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert max(step.abs().max() for step in expected.values()) > 1e-3
    losses, mask = token_losses(weighted.model, sentences)
    evaluated = weighted.evaluate()["eval_loss"]
    assert evaluated == pytest.approx(losses[mask].mean().item(), rel=1e-5)


def test_transformers_accumulates_the_weighted_token_mean(transformers, sentences, tmp_path):
    weigh = LossBasedWeighter(temperature=0.3, unit="token")
    trainer = transformers.Trainer(
        language_model(transformers),
        args=arguments(transformers, tmp_path),
        train_dataset=sentences,
        compute_loss_func=trainer_compute_loss(weigh),
    )
    model = language_model(transformers)
    total = 0.0
    for part in (sentences[:2], sentences[2:4]):
        losses, mask = token_losses(model, part)
        weights = LossBasedWeighter(temperature=0.3, unit="token").weights(losses, mask=mask)
        total = total + (weights * losses).sum()
    (total / n_labels(sentences[:4])).backward()
    found = step_of(trainer)
    assert_close(
        found, {name: p.grad for name, p in model.named_parameters()}, rtol=1e-3, atol=1e-5
    )
    assert int(weigh.step) == 2


def test_transformers_with_weights_by_index(transformers, sentences, tmp_path):
    """The recipe of the docstring."""
    row_weights = torch.tensor([0.5, 2.0, 1.0, 0.0, 3.0, 1.0, 0.2, 0.3])
    compute = trainer_compute_loss(IndexWeighter(row_weights, aggregate="token"))

    class WeightedTrainer(transformers.Trainer):
        loss_is_scaled_for_ga = True

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            index, labels = inputs.pop("index"), inputs.pop("labels")
            outputs = model(**inputs)
            loss = compute(outputs, labels, num_items_in_batch, index=index)
            if num_items_in_batch is not None and self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes
            return (loss, outputs) if return_outputs else loss

    trainer = WeightedTrainer(
        language_model(transformers),
        args=arguments(transformers, tmp_path, remove_unused_columns=False),
        train_dataset=WithIndex(sentences),
    )
    model = language_model(transformers)
    losses, mask = token_losses(model, sentences[:4])
    weights = row_weights[:4, None] / row_weights.mean()
    ((weights * losses * mask).sum() / n_labels(sentences[:4])).backward()
    assert_close(
        step_of(trainer),
        {name: p.grad for name, p in model.named_parameters()},
        rtol=1e-3,
        atol=1e-5,
    )


def test_a_trainer_of_classifiers_and_regressors():
    logits, labels = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 2, 1, 1])
    weigh = LossBasedWeighter(temperature=0.5)
    losses = cross_entropy(logits, labels, reduction="none")
    expected = (weigh.weights(losses) * losses).sum() / 10
    for outputs in ({"logits": logits}, (logits,), SimpleNamespace(logits=logits)):
        found = trainer_compute_loss(weigh)(outputs, labels, num_items_in_batch=torch.tensor(10))
        assert_close(found, expected)
    targets = torch.tensor([0.5, -1.0, 2.0])
    values = torch.zeros(3, 1, requires_grad=True)
    compute = trainer_compute_loss(weigh, criterion=lambda z, y: (z[:, 0] - y) ** 2)
    assert_close(compute((values,), targets, 3), weigh(targets**2))


def test_what_a_trainer_cannot_count_is_refused_or_said():
    with pytest.raises(ValueError, match="the Trainer cannot call finish_step"):
        trainer_compute_loss(LossBasedWeighter(normalize="deferred"))
    logits = torch.randn(2, 5, 3, requires_grad=True)
    labels = torch.zeros(2, 5, dtype=torch.int64)
    with pytest.raises(ValueError, match="the Trainer counts tokens, but the weighter counts rows"):
        trainer_compute_loss(LossBasedWeighter())({"logits": logits}, labels, 8)
    with pytest.warns(WeightWarning, match="num_items_in_batch is None"):
        trainer_compute_loss(LossBasedWeighter(unit="token"))({"logits": logits}, labels)
