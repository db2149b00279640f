"""The main job on real data: from a survey comparison to the effect an experiment found.

Run by `make demo`. The men of the LaLonde study who were trained are compared with men of a
survey; weights make the survey resemble them; an experiment on the same programme tells how
well that went.
"""

import time
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from causal import (
    CBPS,
    EnergyBalancing,
    EntropyBalancing,
    KernelBalancing,
    PropensityWeighting,
    StableBalancing,
    WeightedEffect,
    load_lalonde,
)
from reweight import love_plot, weight_histogram

OUTPUT = Path("demo_output")


def difference(study) -> tuple[float, float]:
    """Difference of the arms' mean outcomes and its standard error."""
    y, t = np.asarray(study.target, dtype=float), np.asarray(study.treatment) == 1
    variance = y[t].var(ddof=1) / t.sum() + y[~t].var(ddof=1) / (~t).sum()
    return y[t].mean() - y[~t].mean(), variance**0.5


def row(effect: float, error: float, **figures: float) -> dict[str, float]:
    """A line of the comparison, with a 95 % interval."""
    half = 1.96 * error
    return {"effect": effect, "lower": effect - half, "upper": effect + half, **figures}


def compare(study) -> tuple[pd.DataFrame, list[str]]:
    """Several weightings of the controls with effects and balance, and what they warn of."""
    weighters = {
        "logistic propensity": PropensityWeighting(estimand="ATT"),
        "CBPS": CBPS("ATT"),
        "stable weights": StableBalancing("ATT"),
        "entropy balancing": EntropyBalancing("ATT"),
        "kernel balancing": KernelBalancing("ATT", random_state=0),
        "energy balancing": EnergyBalancing("ATT", random_state=0),
    }
    rows = {"no weights": row(*difference(study))}
    notes = []
    for name, weighter in weighters.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit = WeightedEffect(weighter, n_resamples=100, random_state=0).fit(
                study.data, study.target, treatment=study.treatment
            )
        notes += [str(warning.message).partition(";")[0] for warning in caught[:1]]
        lower, upper = np.ravel(fit.confint())
        table = fit.weighter_.balance_table()
        rows[name] = {
            "effect": float(fit.effect_),
            "lower": lower,
            "upper": upper,
            "worst imbalance (sd)": table["smd_after"].abs().max(),
            "effective controls": fit.weighter_.ess_[0],
            "interval by": fit.inference_,
        }
    rows["the experiment"] = row(*difference(load_lalonde("experimental")))
    return pd.DataFrame.from_dict(rows, orient="index"), notes


def save(ax, name: str) -> Path:
    """Write the figure of an axes as a PNG."""
    path = OUTPUT / name
    ax.figure.savefig(path, dpi=150, bbox_inches="tight")
    return path


def main() -> None:
    start = time.perf_counter()
    mpl.use("agg")
    OUTPUT.mkdir(exist_ok=True)
    study = load_lalonde()
    print("Did job training raise earnings? 185 trained men, 429 men of a survey as controls.")
    print("Effect on the earnings of the trained in 1978, in dollars:\n")
    table, notes = compare(study)
    print(table.to_string(float_format=lambda value: f"{value:,.2f}", na_rep=""))
    print("", *[f"Note: {note}." for note in notes], sep="\n")

    balancer = EntropyBalancing("ATT").fit(study.data, study.treatment)
    balance = balancer.balance_table()
    print("\nBalance of the covariates before and after entropy balancing:\n")
    print(balance.to_string(float_format=lambda value: f"{value:,.3f}"))
    controls, trained = balancer.ess_
    print(f"\nEffective sample size: {controls:.0f} of 429 controls, {trained:.0f} of 185 trained")
    figures = [
        save(love_plot(balance), "love_plot.png"),
        save(weight_histogram(balancer.weights_, study.treatment), "weights.png"),
    ]
    print("\nFigures:", *figures, sep="\n  ")
    print(f"\nDone in {time.perf_counter() - start:.0f} seconds.")


if __name__ == "__main__":
    main()
