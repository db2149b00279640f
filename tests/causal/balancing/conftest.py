"""Studies that several tests of balancing share."""

import numpy as np
import pytest
from scipy.special import expit

from causal import load_lalonde


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(11)
    X = rng.standard_normal((240, 3)) @ np.array([[1.0, 0.4, 0.0], [0, 1, 0.2], [0, 0, 1]])
    treatment = (rng.random(240) < expit(X @ [0.5, -0.4, 0.3] - 0.2)).astype(int)
    return X, treatment, rng.integers(1, 4, 240).astype(float)


@pytest.fixture(scope="module")
def lalonde():
    return load_lalonde()
