"""Work spread over jobs, in order, with a progress bar for those who ask."""

from collections.abc import Callable, Iterable
from typing import Any

from joblib.parallel import get_active_backend, parallel_config
from sklearn.utils.parallel import Parallel, delayed


def parallel_map(
    function: Callable[..., Any],
    tasks: Iterable[tuple],
    *,
    total: int | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    name: str = "tasks",
    prefer: str | None = None,
) -> list[Any]:
    """Results of a function on each tuple of arguments, in the order of the tasks.

    scikit-learn's configuration, such as metadata routing, holds in every job.

    Parameters
    ----------
    function : callable
        Called as `function(*task)`.
    tasks : iterable of tuple
        Arguments of each call; read lazily.
    total : int, default=None
        Number of tasks, for the progress bar.
    n_jobs : int, default=None
        Number of jobs, through joblib.
    verbose : int, default=0
        Whether to show a progress bar.
    name : str, default="tasks"
        Label of the progress bar.
    prefer : {"processes", "threads"}, default=None
        What joblib is told to prefer; threads suit code that lets go of the
        interpreter's lock.

    Returns
    -------
    list

    Examples
    --------
    >>> from reweight.parallel import parallel_map
    >>> parallel_map(pow, [(2, 3), (3, 2)])
    [8, 9]
    """
    # joblib's dask backend hands large arguments to one worker, and waits for ever if that one
    # dies. What is inside a tuple travels with the task instead.
    results = Parallel(n_jobs=n_jobs, prefer=prefer, return_as="generator")(
        delayed(_call)((function, task)) for task in tasks
    )
    if verbose:
        from tqdm.auto import tqdm

        results = tqdm(results, total=total, desc=name)
    return list(results)


def _call(job: tuple[Callable[..., Any], tuple]) -> Any:
    function, task = job
    backend, _ = get_active_backend()
    # On a cluster the outer tasks keep all workers busy; tasks of tasks would only wait there.
    if type(backend).__name__ == "DaskDistributedBackend":
        with parallel_config(backend="sequential"):
            return function(*task)
    return function(*task)
