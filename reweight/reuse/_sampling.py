"""Draws from the posterior, and whether to believe them: the one place that touches samplers."""

import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from reweight.reuse._log_density import log_density
from reweight.reuse._model import KINDS, GateData, GateModel

Array = NDArray[np.float64]

MAX_TREEDEPTH = 10
# Compiled graphs of PyMC, by their structure; folds of a cross-validation share one.
GRAPHS: OrderedDict[tuple, Any] = OrderedDict()
MAX_GRAPHS = 8
GRAPH_LOCK = threading.Lock()


@dataclass(frozen=True)
class SamplerSettings:
    """How to sample; the words are PyMC's."""

    sampler: str = "auto"
    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    cores: int | None = None
    target_accept: float = 0.95
    seed: int = 0
    verbose: int = 0

    @property
    def n_parallel(self) -> int:
        """Number of chains to run at a time."""
        return min(self.chains, self.cores or cpu_count())


def choose_sampler(sampler: str, name: str) -> str:
    """The sampler to use: nutpie where it is installed, else PyMC.

    Parameters
    ----------
    sampler : {"auto", "nutpie", "pymc"}
        What the user asked for.
    name : str
        Class to name in the error.

    Returns
    -------
    str

    Raises
    ------
    ImportError
        If nutpie is asked for and missing.
    """
    installed = find_spec("nutpie") is not None
    if sampler == "nutpie" and not installed:
        raise ImportError(
            f"{name}: sampler='nutpie' needs nutpie: pip install \"counterpoise[nutpie]\"; "
            "sampler='auto' does without it"
        )
    if sampler == "auto":
        return "nutpie" if installed else "pymc"
    return sampler


def sample_posterior(
    model: GateModel, data: GateData, settings: SamplerSettings
) -> tuple[dict[str, Array], dict[str, NDArray]]:
    """Draws of the natural parameters and statistics of the sampler.

    Parameters
    ----------
    model : GateModel
        Sizes and priors.
    data : GateData
        Rows.
    settings : SamplerSettings
        With a sampler that is installed.

    Returns
    -------
    draws : dict of str to ndarray of shape (chains, draws, ...)
    stats : dict of str to ndarray of shape (chains, draws)
        "energy", "diverging" and "max_treedepth".
    """
    run = _sample_nutpie if settings.sampler == "nutpie" else _sample_pymc
    return run(model, data, settings)


def _sample_nutpie(
    model: GateModel, data: GateData, settings: SamplerSettings
) -> tuple[dict[str, Array], dict[str, NDArray]]:
    import nutpie

    arguments = (*data.kernel_arguments(), *model.kernel_arguments())

    def make_log_density():
        return lambda theta: log_density(theta, *arguments)

    def make_expand(seed1, seed2, chain):
        return lambda theta: {"theta": theta}

    compiled = nutpie.compiled_pyfunc.from_pyfunc(
        model.n_parameters,
        make_log_density,
        make_expand,
        [np.dtype("float64")],
        [(model.n_parameters,)],
        ["theta"],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = nutpie.sample(
            compiled,
            draws=settings.draws,
            tune=settings.tune,
            chains=settings.chains,
            cores=settings.n_parallel,
            seed=settings.seed,
            target_accept=settings.target_accept,
            maxdepth=MAX_TREEDEPTH,
            save_warmup=False,
            progress_bar=bool(settings.verbose),
        )
    stats = found.sample_stats
    return model.constrain(found.posterior["theta"].values), {
        "energy": stats["energy"].values,
        "diverging": stats["diverging"].values,
        "max_treedepth": stats["maxdepth_reached"].values,
    }


class PyMCGraph:
    """The model as PyMC's graph, compiled once for data of any number of rows.

    Parameters
    ----------
    model : GateModel
        Its structure is compiled; its priors and the rows are shared data.
    """

    def __init__(self, model: GateModel) -> None:
        from pymc.pytensorf import compile as compile_graph

        self.model = _pymc_model(model)
        with self.model:
            self.density = self.model.logp_dlogp_function(ravel_inputs=True, mode="NUMBA")
            self.density.trust_input = True
            self.outputs = [
                variable
                for variable in self.model.unobserved_value_vars
                if not variable.name.endswith("__")
            ]
            self.trace = compile_graph(
                inputs=self.model.value_vars,
                outputs=self.outputs,
                on_unused_input="ignore",
                mode="NUMBA",
            )
            self.trace.trust_input = True

    def set_data(self, model: GateModel, data: GateData) -> None:
        """Put other rows and priors in the place of those there."""
        import pymc as pm

        values = _pymc_data(model, data)
        with self.model:
            pm.set_data(values)


def _pymc_data(model: GateModel, data: GateData) -> dict[str, NDArray]:
    """Values of the shared data of the graph."""
    known = data.y >= 0
    allowed = np.where(known[:, None], np.eye(model.n_classes)[np.maximum(data.y, 0)], 1.0)
    has_point = data.point >= 0
    _, prior, cut_mean, cut_sd = model.kernel_arguments()
    values = {
        "features": data.X,
        "group_codes": data.groups,
        "allowed": allowed,
        "row_weight": data.weight,
        "prior": prior,
    }
    if model.joint:
        values |= {
            "point": np.maximum(data.point, 0),
            "has_point": has_point.astype(float),
            "points": data.points,
            "base": data.base,
            "cut_mean": cut_mean,
            "cut_sd": cut_sd,
        }
    return values


def _pymc_model(gate: GateModel) -> Any:
    """The model of the gate in PyMC's own distributions, written for reading."""
    import pymc as pm
    import pytensor.tensor as pt

    p, columns = gate.n_features, gate.n_columns
    empty = GateData(
        np.zeros((1, p)),
        np.zeros(1, dtype=np.int64),
        np.zeros(1, dtype=np.int64),
        np.ones(1),
        points=np.zeros(1),
        base=np.ones(1),
    )
    with pm.Model() as model:
        data = {name: pm.Data(name, value) for name, value in _pymc_data(gate, empty).items()}
        prior = data["prior"]
        alpha = pm.Normal("alpha", 0, prior[0], shape=columns)
        z = pm.Normal("z", 0, 1, shape=(p, columns))
        beta = pm.Deterministic("beta", _pymc_scales(gate, prior) * z)
        eta = alpha + data["features"] @ beta
        if gate.n_groups:
            s = pm.HalfNormal("s", prior[1], shape=columns)
            v = pm.Normal("v", 0, 1, shape=(gate.n_groups, columns))
            eta = eta + pm.Deterministic("u", s * v)[data["group_codes"]]
        if not gate.symmetric:
            eta = pt.concatenate([eta, pt.zeros((eta.shape[0], 1))], axis=1)
        log_joint = eta - pt.logsumexp(eta, axis=1, keepdims=True)
        if gate.joint:
            log_h = _pymc_levels(gate, data)
            log_q = pt.logsumexp(log_h + pt.log(data["base"])[:, None], axis=0)
            at_row = (log_h - log_q)[data["point"]]
            log_joint = log_joint + pt.switch(data["has_point"][:, None] > 0, at_row, 0.0)
        log_joint = pt.switch(data["allowed"] > 0, log_joint, -1e30)
        rows = pt.logsumexp(log_joint, axis=1)
        pm.Potential("log_likelihood", (data["row_weight"] * rows).sum())
    return model


def _pymc_scales(gate: GateModel, prior: Any) -> Any:
    """Prior standard deviations of the coefficients, eqs. (8) to (12)."""
    import pymc as pm

    if gate.horseshoe is None:
        return prior[6]
    tau = pm.HalfStudentT("tau", nu=prior[4], sigma=prior[2])
    shape = (gate.n_features, 1 if gate.shared_scales else gate.n_columns)
    lam = pm.HalfStudentT("lam", nu=prior[3], sigma=1.0, shape=shape)
    if gate.horseshoe == "plain":
        return tau * lam
    c2 = pm.InverseGamma("c2", alpha=prior[5] / 2, beta=prior[5] * prior[6] ** 2 / 2)
    return tau * lam * (c2 / (c2 + tau**2 * lam**2)) ** 0.5


def _pymc_levels(gate: GateModel, data: dict[str, Any]) -> Any:
    """Log h_k at every point, eq. (16)."""
    import pymc as pm
    import pytensor.tensor as pt

    n_cuts = gate.n_classes - 1
    rising = pm.Normal(
        "rising",
        -data["cut_mean"],
        data["cut_sd"],
        shape=n_cuts,
        initval=np.arange(n_cuts, dtype=float),
        **({"transform": pm.distributions.transforms.ordered} if n_cuts > 1 else {}),
    )
    cuts = pm.Deterministic("thresholds", -rising)
    softness = pm.LogNormal("softness", pt.log(data["prior"][7]), data["prior"][8])
    z = (data["points"][:, None] - cuts) / softness
    below, above = _pymc_log_cdf(z), _pymc_log_cdf(-z)
    middle = pt.switch(
        z[:, 1:] + z[:, :-1] > 0,
        above[:, :-1] + pt.log(-pt.expm1(above[:, 1:] - above[:, :-1])),
        below[:, 1:] + pt.log(-pt.expm1(below[:, :-1] - below[:, 1:])),
    )
    return pt.concatenate([below[:, :1], middle, above[:, -1:]], axis=1)


def _pymc_log_cdf(z: Any) -> Any:
    """Log of the normal distribution function; erfcx keeps the lower tail."""
    import pytensor.tensor as pt

    low = pt.minimum(z, -1.0)
    high = pt.maximum(z, -1.0)
    tail = pt.log(pt.erfcx(-low / np.sqrt(2.0)) / 2.0) - low**2 / 2.0
    return pt.switch(z < -1.0, tail, pt.log1p(-pt.erfc(high / np.sqrt(2.0)) / 2.0))


def _graph_key(model: GateModel) -> tuple:
    """What a compiled graph depends on."""
    return (
        model.n_features,
        model.n_classes,
        model.n_groups,
        KINDS[model.horseshoe],
        model.symmetric,
        model.shared_scales,
        model.joint,
    )


def _graph_of(model: GateModel) -> PyMCGraph:
    key = _graph_key(model)
    if key not in GRAPHS:
        GRAPHS[key] = PyMCGraph(model)
        while len(GRAPHS) > MAX_GRAPHS:
            GRAPHS.popitem(last=False)
    GRAPHS.move_to_end(key)
    return GRAPHS[key]


def _sample_pymc(
    model: GateModel, data: GateData, settings: SamplerSettings
) -> tuple[dict[str, Array], dict[str, NDArray]]:
    import pymc as pm
    from pymc.backends.ndarray import NDArray as Trace
    from pymc.step_methods.hmc.quadpotential import QuadPotentialDiagAdapt

    with GRAPH_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = _graph_of(model)
        graph.set_data(model, data)
        rng = np.random.default_rng(settings.seed)
        with graph.model:
            first = np.concatenate([np.ravel(v) for v in graph.model.initial_point().values()])
            # Compiles before processes fork, which would each compile for themselves.
            graph.density([first], extra_vars={})
            n = len(first)
            step = pm.NUTS(
                logp_dlogp_func=graph.density,
                target_accept=settings.target_accept,
                max_treedepth=MAX_TREEDEPTH,
                potential=QuadPotentialDiagAdapt(n, np.zeros(n), np.ones(n), 10),
            )
            found = pm.sample(
                draws=settings.draws,
                tune=settings.tune,
                chains=settings.chains,
                cores=settings.n_parallel,
                random_seed=settings.seed,
                step=step,
                initvals=[_pymc_start(model, rng) for _ in range(settings.chains)],
                trace=Trace(model=graph.model, vars=graph.outputs, fn=graph.trace),
                progressbar=bool(settings.verbose),
                quiet=not settings.verbose,
                compute_convergence_checks=False,
                return_inferencedata=False,
            )
    names = [variable.name for variable in graph.outputs if variable.name != "rising"]
    draws = {name: np.stack(found.get_values(name, combine=False, squeeze=False)) for name in names}
    renamed = {
        "energy": "energy",
        "diverging": "diverging",
        "max_treedepth": "reached_max_treedepth",
    }
    return draws, {
        name: np.stack(found.get_sampler_stats(theirs, combine=False, squeeze=False)).reshape(
            settings.chains, -1
        )
        for name, theirs in renamed.items()
    }


def _pymc_start(model: GateModel, rng: np.random.Generator) -> dict[str, Array]:
    """A start around the prior's centre, where nutpie starts too."""
    theta = rng.uniform(-1.0, 1.0, model.n_parameters)
    start = model.constrain(theta)
    if model.joint:
        start["rising"] = -start.pop("thresholds")
    return {name: value for name, value in start.items() if name not in ("beta", "u")}


def convergence_diagnostics(draws: dict[str, Array], stats: dict[str, NDArray]) -> dict[str, Any]:
    """The figures that say whether the chains agree, and which quantity is worst.

    Parameters
    ----------
    draws : dict of str to ndarray of shape (chains, draws, ...)
        Natural parameters.
    stats : dict of str to ndarray of shape (chains, draws)
        What `sample_posterior` returns.

    Returns
    -------
    dict
        "rhat", "ess_bulk", "ess_tail": that of the worst entry of each quantity;
        "max_rhat", "min_ess_bulk", "min_ess_tail": the worst of them, each with
        the name of the quantity under the same key with "_of"; "n_divergent",
        "max_treedepth_hits", "bfmi".
    """
    import arviz as az

    if len(stats["energy"]) == 1:
        # R-hat compares chains; the halves of one chain serve as two.
        half = stats["energy"].shape[1] // 2
        draws = {name: value[:, : 2 * half] for name, value in draws.items()}
        draws = {name: v.reshape(2, half, *v.shape[2:]) for name, v in draws.items()}
    container = az.from_dict(posterior=draws)
    found: dict[str, Any] = {}
    # A quantity that does not move has no R-hat, and is the worst that can be.
    measures = {
        "rhat": ("max", az.rhat, {}, np.inf),
        "ess_bulk": ("min", az.ess, {"method": "bulk"}, 0.0),
        "ess_tail": ("min", az.ess, {"method": "tail"}, 0.0),
    }
    for key, (worst, measure, options, undefined) in measures.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            measured = measure(container, **options)
        pick, choose = (np.max, max) if worst == "max" else (np.min, min)
        table = {
            name: float(pick(np.nan_to_num(values.values, nan=undefined, posinf=np.inf)))
            for name, values in measured.items()
        }
        name = choose(table, key=table.get)
        found |= {key: table, f"{worst}_{key}": table[name], f"{worst}_{key}_of": name}
    found["n_divergent"] = int(stats["diverging"].sum())
    found["max_treedepth_hits"] = int(stats["max_treedepth"].sum())
    found["bfmi"] = float(np.min(az.bfmi(stats["energy"])))
    return found


def inference_data(coords: dict[str, Any], dims: dict[str, list[str]], **groups: Any) -> Any:
    """Draws and what belongs to them in ArviZ's container.

    Parameters
    ----------
    coords : dict of str to array-like
        Labels of each dimension.
    dims : dict of str to list of str
        Dimensions of each variable.
    **groups : dict of str to dict of str to ndarray
        Variables of each group, such as `posterior`.

    Returns
    -------
    arviz.InferenceData
    """
    import arviz as az

    return az.from_dict(**groups, coords=coords, dims=dims)


def leave_one_out(container: Any) -> Any:
    """Pareto-smoothed leave-one-out predictive density.

    Parameters
    ----------
    container : arviz.InferenceData
        With the group `log_likelihood`.

    Returns
    -------
    arviz.ELPDData
    """
    import arviz as az

    return az.loo(container, pointwise=True)
