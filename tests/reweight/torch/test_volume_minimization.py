"""The transition matrix of smallest volume: recovery, likelihood, volume, bad input."""

import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch.testing import assert_close

from reweight.torch import volmin_transition

T = torch.tensor([[0.7, 0.1, 0.05], [0.2, 0.6, 0.15], [0.1, 0.3, 0.8]], dtype=torch.float64)


def make(n, device, sharp=4.0):
    generator = torch.Generator().manual_seed(0)
    logits = sharp * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    noisy = torch.multinomial(torch.softmax(logits, 1) @ T.T, 1, generator=generator).squeeze(1)
    return logits.to(device), noisy.to(device)


def test_recovers_the_matrix_from_clean_posteriors(device):
    logits, noisy = make(20_000, device)
    found = volmin_transition(logits, noisy)
    assert found.dtype == torch.float64
    assert_close(found.sum(0), torch.ones(3, device=device).double())
    # Entries are proportions from about 6000 rows a class.
    assert (found.cpu() - T).abs().max() < 4 * (0.25 / 6000) ** 0.5


def test_it_is_the_most_likely_matrix():
    logits, noisy = make(2000, "cpu")
    found = volmin_transition(logits, noisy, alpha=0.0)
    f = torch.softmax(logits, 1)
    likelihood = lambda t: (f @ t.T).gather(1, noisy[:, None]).log().mean()
    generator = torch.Generator().manual_seed(1)
    for _ in range(30):
        step = 1e-3 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
        other = found + step - step.mean(0)
        assert likelihood(other) < likelihood(found)


def test_penalty_shrinks_the_volume():
    logits, noisy = make(2000, "cpu", sharp=1.0)
    volumes = [
        torch.linalg.det(volmin_transition(logits, noisy, alpha=a)) for a in (0.0, 1e-3, 4e-3)
    ]
    assert volumes[0] > volumes[1] > volumes[2]


def test_bad_input_and_too_few_steps():
    logits, noisy = make(200, "cpu")
    with pytest.raises(ValueError, match="alpha=-1; it must be >= 0"):
        volmin_transition(logits, noisy, alpha=-1)
    with pytest.raises(ValueError, match="pass logits of shape"):
        volmin_transition(logits[0], noisy)
    with pytest.raises(ValueError, match="target holds 3"):
        volmin_transition(logits, noisy + 1)
    with pytest.raises(ValueError, match=r"with alpha=0\.5 the volume of the matrix vanishes"):
        volmin_transition(logits, noisy, alpha=0.5)
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        volmin_transition(logits, noisy, max_iter=1)
