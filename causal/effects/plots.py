"""Pictures of effects that differ between rows."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Colours of Okabe and Ito, which stay apart for all kinds of colour vision.
BLUE, ORANGE, GREY, LIGHT_GREY = "#0072B2", "#D55E00", "#6B6B6B", "#D9D9D9"


def _axes(ax: "Axes | None", width: float, height: float) -> "Axes":
    """The axes given, or those of a new figure."""
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    ax.grid(axis="y", color=LIGHT_GREY, lw=0.6)
    return ax


def _check_columns(table: "pd.DataFrame", needed: set[str], owner: str, source: str) -> None:
    missing = needed - set(getattr(table, "columns", ()))
    if missing:
        raise ValueError(
            f"{owner}: the table lacks the columns {sorted(missing)}; pass what causal.{source} "
            "returns"
        )


def effect_profile_plot(table: "pd.DataFrame", ax: "Axes | None" = None) -> "Axes":
    """Effect along a covariate, with its pointwise band if there is one.

    Parameters
    ----------
    table : pandas.DataFrame
        What `effect_profile` returns.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If `table` does not come from `effect_profile`.

    Examples
    --------
    >>> from causal import RLearner, effect_profile, effect_profile_plot, make_cate
    >>> study = make_cate(500, setup="A", random_state=0)
    >>> learner = RLearner(random_state=0).fit(study.X, study.y, treatment=study.treatment)
    >>> ax = effect_profile_plot(effect_profile(learner, study.X, 0))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('x0', 'Effect')
    """
    _check_columns(table, {"effect"}, "effect_profile_plot", "effect_profile")
    ax = _axes(ax, 6.4, 4.0)
    x = table.index.to_numpy()
    if {"lower", "upper"} <= set(table.columns):
        level = table.attrs.get("confidence_level", 0.95)
        ax.fill_between(
            x,
            table["lower"],
            table["upper"],
            color=BLUE,
            alpha=0.22,
            lw=0,
            label=f"{level:.0%} pointwise",
        )
    ax.plot(x, table["effect"], color=BLUE, lw=2, label="effect of a typical row")
    ax.axhline(0.0, color=GREY, lw=1, ls="--")
    ax.set_xlabel(str(table.index.name))
    ax.set_ylabel("Effect")
    ax.legend(frameon=False)
    return ax


def sorted_effect_plot(
    effect: ArrayLike, interval: ArrayLike | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Effects of all rows from the smallest to the largest, with their intervals.

    Parameters
    ----------
    effect : array-like of shape (n_samples,)
        Effects, such as `learner.predict(X)`.
    interval : array-like of shape (n_samples, 2), default=None
        Their limits, such as `learner.predict_interval(X)`.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If lengths differ, or an effect is not finite.

    Examples
    --------
    >>> from causal import sorted_effect_plot
    >>> ax = sorted_effect_plot([0.3, -0.1, 0.8])
    >>> ax.get_xlabel()
    'Share of rows with a smaller effect'
    """
    effect = np.asarray(effect, dtype=np.float64)
    if effect.ndim != 1 or not np.isfinite(effect).all():
        raise ValueError(
            f"sorted_effect_plot: effect has shape {effect.shape}; pass one finite number per row"
        )
    order = np.argsort(effect, kind="stable")
    share = (np.arange(len(effect)) + 0.5) / len(effect)
    ax = _axes(ax, 6.4, 4.0)
    if interval is not None:
        limits = np.asarray(interval, dtype=np.float64)
        if limits.shape != (len(effect), 2):
            raise ValueError(
                f"sorted_effect_plot: interval has shape {limits.shape} but there are "
                f"{len(effect)} effects; pass lower and upper limit of each"
            )
        ax.vlines(share, *limits[order].T, color=BLUE, alpha=max(0.02, min(0.5, 60 / len(effect))))
    ax.plot(share, effect[order], color=BLUE, lw=2)
    ax.axhline(0.0, color=GREY, lw=1, ls="--")
    ax.axhline(effect.mean(), color=ORANGE, lw=1.2, label=f"mean {effect.mean():.3g}")
    ax.set_xlim(0, 1)
    ax.set_xlabel("Share of rows with a smaller effect")
    ax.set_ylabel("Effect")
    ax.legend(frameon=False)
    return ax


def effect_calibration_plot(table: "pd.DataFrame", ax: "Axes | None" = None) -> "Axes":
    """What the data show against what a learner predicts, by groups of its predictions.

    Parameters
    ----------
    table : pandas.DataFrame
        What `effect_calibration` returns.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If `table` does not come from `effect_calibration`.

    Examples
    --------
    >>> import pandas as pd
    >>> from causal import effect_calibration_plot
    >>> table = pd.DataFrame({"predicted": [0, 1], "observed": [0.1, 0.8], "lower": [0, 0.5]})
    >>> ax = effect_calibration_plot(table.assign(upper=[0.2, 1.1]))
    >>> ax.get_xlabel()
    'Mean predicted effect'
    """
    needed = {"predicted", "observed", "lower", "upper"}
    _check_columns(table, needed, "effect_calibration_plot", "effect_calibration")
    ax = _axes(ax, 5.0, 4.6)
    x, y = table["predicted"].to_numpy(), table["observed"].to_numpy()
    below, above = y - table["lower"].to_numpy(), table["upper"].to_numpy() - y
    low = min(x.min(), table["lower"].min())
    high = max(x.max(), table["upper"].max())
    ax.plot([low, high], [low, high], color=GREY, lw=1, ls="--", label="as predicted")
    ax.errorbar(
        x, y, yerr=np.vstack([below, above]), fmt="o", color=BLUE, capsize=3, label="in the data"
    )
    ax.set_xlabel("Mean predicted effect")
    ax.set_ylabel("Mean doubly robust effect")
    ax.legend(frameon=False)
    return ax


def overlap_plot(
    propensity: ArrayLike,
    treatment: ArrayLike,
    cutoff: float = 0.0,
    ax: "Axes | None" = None,
    *,
    bins: int = 30,
) -> "Axes":
    """Propensities of the two arms, mirrored, with what lies beyond a cut-off shaded.

    Parameters
    ----------
    propensity : array-like of shape (n_samples,)
        Probability of treatment of each row.
    treatment : array-like of shape (n_samples,)
        Two-valued treatment; the larger label in sorted order is "treated".
    cutoff : float, default=0.0
        Propensities outside [cutoff, 1 - cutoff] are shaded; `overlap_report`
        finds the one of least variance. 0 shades nothing.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    bins : int, default=30
        Number of bins between 0 and 1.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If propensities are not between 0 and 1, there are not two arms, lengths
        differ, or the cut-off is not between 0 and 0.5.

    Examples
    --------
    >>> from causal import overlap_plot
    >>> ax = overlap_plot([0.2, 0.3, 0.6, 0.9], [0, 0, 1, 1], cutoff=0.1)
    >>> [text.get_text() for text in ax.get_legend().get_texts()][-1]
    'outside [0.1, 0.9]: 0.0% of the rows'
    """
    from matplotlib.transforms import offset_copy

    from reweight.diagnostics.plots import mirrored_propensity_histogram

    if not 0 <= cutoff <= 0.5:
        raise ValueError(f"overlap_plot: cutoff is {cutoff!r}; pass a number between 0 and 0.5")
    ax = mirrored_propensity_histogram(propensity, treatment, ax=ax, bins=bins)
    if cutoff > 0:
        e = np.asarray(propensity, dtype=np.float64)
        share = np.mean((e < cutoff) | (e > 1 - cutoff))
        label = f"outside [{cutoff:.3g}, {1 - cutoff:.3g}]: {share:.1%} of the rows"
        for low, high, name in ((0.0, cutoff, label), (1 - cutoff, 1.0, None)):
            ax.axvspan(low, high, color=GREY, alpha=0.18, lw=0, zorder=0, label=name)
        for edge in (cutoff, 1 - cutoff):
            ax.axvline(edge, color=GREY, lw=1, ls="--")
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, 0.0),
            bbox_transform=offset_copy(ax.transAxes, fig=ax.figure, y=-36, units="points"),
            borderaxespad=0.0,
            frameon=False,
        )
    return ax
