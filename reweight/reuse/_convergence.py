"""What to do when draws are not to be believed."""

from typing import Any

from sklearn.exceptions import ConvergenceWarning

from reweight.exceptions import ConvergenceError
from reweight.validation import warn_user

MAX_RHAT = 1.01
MIN_ESS_PER_CHAIN = 100
MAX_DIVERGENT_SHARE = 0.001
MAX_TREEDEPTH_SHARE = 0.01
MIN_BFMI = 0.3


def check_convergence(diagnostics: dict[str, Any], settings: Any, reaction: str, name: str) -> None:
    """Warn or raise where the draws are not to be believed.

    Parameters
    ----------
    diagnostics : dict
        From `convergence_diagnostics`.
    settings : SamplerSettings
        Number of draws and chains.
    reaction : {"warn", "raise", "ignore"}
        What to do.
    name : str
        Class to name.

    Raises
    ------
    ConvergenceError
        With the diagnostics, if asked to.
    """
    total = settings.draws * settings.chains
    least = MIN_ESS_PER_CHAIN * settings.chains
    failed = []
    if not diagnostics["max_rhat"] <= MAX_RHAT:
        name_of, table = diagnostics["max_rhat_of"], diagnostics["rhat"]
        others = _listed("above", [k for k, v in table.items() if k != name_of and v > MAX_RHAT])
        failed.append(
            f"R-hat of {name_of} is {diagnostics['max_rhat']:.3f} (at most {MAX_RHAT}{others})"
        )
    for tail in ("bulk", "tail"):
        value = diagnostics[f"min_ess_{tail}"]
        if not value >= least:
            name_of, table = diagnostics[f"min_ess_{tail}_of"], diagnostics[f"ess_{tail}"]
            others = _listed("below", [k for k, v in table.items() if k != name_of and v < least])
            failed.append(
                f"{tail} sample size of {name_of} is {value:.0f} (at least {least}{others})"
            )
    if diagnostics["n_divergent"] > MAX_DIVERGENT_SHARE * total:
        failed.append(f"{diagnostics['n_divergent']} of {total} draws diverged")
    if diagnostics["bfmi"] < MIN_BFMI:
        failed.append(f"E-BFMI is {diagnostics['bfmi']:.2f} (at least {MIN_BFMI})")
    if diagnostics["max_treedepth_hits"] > MAX_TREEDEPTH_SHARE * total:
        hits = diagnostics["max_treedepth_hits"]
        failed.append(f"{hits} of {total} draws hit the maximum tree depth")
    if not failed or reaction == "ignore":
        return
    message = (
        f"{name}: the chains have not converged: {'; '.join(failed)}; raise tune, draws or "
        "target_accept, or lower expected_nonzero"
    )
    if reaction == "raise":
        raise ConvergenceError(message, diagnostics)
    warn_user(message, ConvergenceWarning)


def _listed(where: str, names: list[str]) -> str:
    """The other quantities at fault: coefficients among them are worse than scales alone."""
    return f"; also {where}: {', '.join(names)}" if names else ""
