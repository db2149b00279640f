"""The picture of a path shows its ends and the point taken."""

import numpy as np
import pytest

from reweight import flip_path_plot

PATH = {
    "old_weight": np.array([0.0, 0.5, 1.0]),
    "negative_flip_rate": np.array([0.02, 0.01, 0.0]),
    "accuracy": np.array([0.95, 0.94, 0.9]),
}


def test_it_draws_the_path_and_the_point_taken():
    ax = flip_path_plot(PATH, 0.5)
    drawn = {line.get_label(): line.get_xydata() for line in ax.lines}
    np.testing.assert_allclose(drawn["interpolated"], [[2, 95], [1, 94], [0, 90]])
    np.testing.assert_allclose(drawn["taken (weight 0.50)"], [[1, 94]])
    np.testing.assert_allclose(drawn["new model"], [[2, 95]])
    np.testing.assert_allclose(drawn["old model"], [[0, 90]])
    again = flip_path_plot(PATH, ax=ax)
    assert again is ax


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="there is no path"):
        flip_path_plot(None)
    with pytest.raises(KeyError, match="negative_flip_rate"):
        flip_path_plot({"accuracy": [1.0]})
    with pytest.raises(ValueError, match=r"0.3 is not in list"):
        flip_path_plot(PATH, 0.3)
