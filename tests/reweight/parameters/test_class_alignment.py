"""Rows of new classes get the norm of the old, and nothing else changes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight import align_class_weights


def test_mean_norms_are_equal_afterwards(rng):
    W = rng.normal(size=(7, 5)) * np.r_[np.ones(4), np.full(3, 3.0)][:, None]
    old = np.arange(7) < 4
    aligned = align_class_weights(W, old)
    norms = np.linalg.norm(aligned, axis=1)
    assert_allclose(norms[old].mean(), norms[~old].mean(), rtol=1e-12)
    assert_array_equal(aligned[old], W[old])
    X = rng.normal(size=(50, 5))
    for part in (old, ~old):
        assert_array_equal((X @ aligned[part].T).argmax(1), (X @ W[part].T).argmax(1))
    corrected = align_class_weights(W, old, value=1.1)
    assert_allclose(corrected[~old], aligned[~old] * 1.1 ** (4 / 3), rtol=1e-12)


def test_shrink_only_leaves_rows_that_would_grow():
    W, old = np.array([[4.0], [1.0], [2.0]]), np.array([True, False, False])
    assert_array_equal(align_class_weights(W, old, shrink_only=True), W)
    assert_allclose(align_class_weights(W, ~old, shrink_only=True)[0], 1.5)
    assert_allclose(align_class_weights(W, old)[1:].mean(), 4.0)


def test_classifiers_and_tensors():
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    before = pipeline[-1].coef_.copy()
    aligned = align_class_weights(pipeline, [0, 2])
    mask = np.array([True, False, True])
    assert_allclose(aligned[-1].coef_, align_class_weights(before, mask), rtol=1e-12)
    assert_array_equal(aligned[-1].intercept_, pipeline[-1].intercept_)
    assert_array_equal(pipeline[-1].coef_, before)
    torch = pytest.importorskip("torch")
    tensor = align_class_weights(torch.tensor(before), mask)
    assert_allclose(tensor.numpy(), aligned[-1].coef_, rtol=1e-12)


def test_bad_input_is_refused():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(X, y)
    for old in ([], [0, 1, 2]):
        with pytest.raises(ValueError, match="some but not all classes"):
            align_class_weights(model, old)
    with pytest.raises(ValueError, match=r"old_classes \[7\] are not all known"):
        align_class_weights(model, [7])
    with pytest.raises(ValueError, match="value must be positive"):
        align_class_weights(model, [0], value=0.0)
    for other in (LinearRegression().fit(X, y), LogisticRegression().fit(X[:100], y[:100])):
        with pytest.raises(TypeError, match="no row of coefficients for each class"):
            align_class_weights(other, [0])
    with pytest.raises(ValueError, match="boolean mask"):
        align_class_weights(np.ones((3, 2)), [0, 1])
    with pytest.raises(ValueError, match="rows of the new classes are zero"):
        align_class_weights(np.array([[1.0], [0.0]]), [True, False])
