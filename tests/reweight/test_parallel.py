"""Jobs return in the order of their tasks and work under the caller's configuration."""

import time

import pytest
from joblib import parallel_config
from sklearn import config_context

from reweight.parallel import parallel_map
from reweight.validation import routing_enabled


@pytest.mark.parametrize("n_jobs", [None, 1, 2])
def test_results_come_in_the_order_of_the_tasks(n_jobs):
    def slow_at_first(number):
        time.sleep(0.02 * (number == 0))
        return number**2

    with parallel_config(backend="threading"):
        results = parallel_map(slow_at_first, ((number,) for number in range(6)), n_jobs=n_jobs)
    assert results == [0, 1, 4, 9, 16, 25]


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_the_configuration_holds_in_every_job(backend):
    with parallel_config(backend=backend):
        for enabled in (True, False):
            with config_context(enable_metadata_routing=enabled):
                assert parallel_map(routing_enabled, [()] * 4, n_jobs=2) == [enabled] * 4


def test_a_bar_shows_how_far_it_is(capsys):
    parallel_map(abs, [(1,), (-1,)], total=2, verbose=1, name="Study: folds")
    printed = capsys.readouterr().err
    assert "Study: folds: 100%" in printed
    assert "2/2" in printed


def test_errors_come_through():
    with pytest.raises(ZeroDivisionError):
        parallel_map(divmod, [(1, 1), (1, 0)])
