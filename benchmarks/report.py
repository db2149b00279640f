"""One table and two figures of all timings: peers beside ours, and time against size.

    python benchmarks/report.py

`run.py` calls it after a full run. It writes results/speed.md, docs/images/speed.png (time of each
peer over ours, at the largest size both were given) and docs/images/scaling.png (our seconds
against the size that varies, on logarithmic scales, with the slope of the last step).
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

HERE = Path(__file__).parent
IMAGES = HERE.parent / "docs" / "images"
OURS = "counterpoise"
MANY = 1_000
MEASURED = ("library", "seconds", "peak_mb")


def read(path: Path) -> tuple[dict, pd.DataFrame]:
    """The environment, and a row for each timing with its size as columns and in words."""
    record = json.loads(path.read_text())
    rows = []
    for problem, cases in record["problems"].items():
        for case in cases:
            size = {key: value for key, value in case.items() if isinstance(value, int)}
            quality = {k: v for k, v in case.items() if k not in size and k not in MEASURED}
            rows.append(
                {
                    "problem": problem.replace("_", " "),
                    "size": ", ".join(f"{value:,} {key}" for key, value in size.items()),
                    "sizes": size,
                    **{key: case[key] for key in MEASURED},
                    "reached": ", ".join(f"{k} {v:.3g}" for k, v in quality.items()),
                }
            )
    return record["environment"], pd.DataFrame(rows)


def with_peers(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each peer and size, beside the variant of ours that has the same name or none."""
    pairs = []
    for (problem, size), group in table.groupby(["problem", "size"], sort=False):
        ours = group[group["library"].str.startswith(OURS)].set_index("library")
        for peer in group[~group["library"].str.startswith(OURS)].itertuples():
            _, _, variant = peer.library.partition(", ")
            name = f"{OURS}, {variant}"
            own = ours.loc[name if name in ours.index else OURS]
            pairs.append(
                {
                    "problem": problem,
                    "size": size,
                    "peer": peer.library,
                    "ratio": peer.seconds / own["seconds"],
                    "ours (s)": own["seconds"],
                    "peer (s)": peer.seconds,
                    "ours (MB)": own["peak_mb"],
                    "peer (MB)": peer.peak_mb,
                    "ours reached": own["reached"],
                    "peer reached": peer.reached,
                }
            )
    return pd.DataFrame(pairs)


def as_markdown(table: pd.DataFrame) -> str:
    """A table of strings and numbers in Markdown."""
    texts = [
        [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row]
        for row in table.itertuples(index=False)
    ]
    lines = [list(table.columns), ["---"] * len(table.columns), *texts]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw_ratios(pairs: pd.DataFrame, environment: dict) -> Figure:
    """Time of each peer over ours at the largest size, on a logarithmic scale."""
    last = pairs.groupby(["problem", "peer"], sort=False).tail(1).sort_values("ratio")
    figure = Figure(figsize=(8, 0.26 * len(last) + 1.2), layout="constrained")
    axes = figure.subplots()
    label = last["problem"] + ", " + last["size"] + ": " + last["peer"]
    colour = np.where(last["ratio"] >= 1, "tab:blue", "tab:red")
    axes.hlines(label, 1.0, last["ratio"], color=colour, linewidth=2)
    axes.scatter(last["ratio"], label, color=colour, s=18, zorder=3)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.tick_params(axis="y", labelsize=7)
    axes.margins(y=0.01)
    axes.set_xlabel("time of the peer over ours (left of 1: the peer is faster)")
    axes.set_title(
        f"{environment['cores']} cores, {environment['machine']}, Python {environment['python']}",
        fontsize=9,
    )
    return figure


def draw_scaling(table: pd.DataFrame) -> Figure:
    """Our seconds against the size that varies, a curve for each problem and variant."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots()
    ours = table[table["library"].str.startswith(OURS)]
    styles = [f"{marker}{line}" for line in ("-", "--", ":") for marker in "osv^D"]
    for (problem, library), group in ours.groupby(["problem", "library"], sort=False):
        sizes = pd.DataFrame(list(group["sizes"]))
        # A size proper spans at least a factor of three; other columns are settings.
        spans = (sizes.max() / sizes.min()).where(sizes.max() >= MANY, 0.0)
        if spans.max() < 3.0:
            continue
        order = np.argsort(sizes[spans.idxmax()].to_numpy())
        size, seconds = sizes[spans.idxmax()].to_numpy()[order], group["seconds"].to_numpy()[order]
        slope = np.diff(np.log(seconds[-2:]))[0] / np.diff(np.log(size[-2:]))[0]
        unit = spans.idxmax().replace("_", " ")
        label = f"{problem}{library.removeprefix(OURS)}: {unit}, slope {slope:.1f}"
        axes.plot(size, seconds, styles[len(axes.lines) % len(styles)], markersize=3, label=label)
    axes.set(xscale="log", yscale="log", xlabel="size", ylabel="seconds, one thread")
    figure.legend(loc="outside right upper", fontsize=7)
    return figure


def main() -> None:
    environment, table = read(HERE / "results.json")
    pairs = with_peers(table)
    versions = ", ".join(f"{key} {value}" for key, value in environment.items())
    text = (
        "# Timings beside peers\n\nWritten by `benchmarks/report.py` from `results.json`; a ratio "
        "is the time of the peer over ours in the same run.\n\n"
        f"{versions}\n\n{as_markdown(pairs)}\n\n"
        "## Ours alone\n\n"
        + as_markdown(
            table[table["library"].str.startswith(OURS)][
                ["problem", "size", "library", "seconds", "peak_mb", "reached"]
            ]
        )
        + "\n"
    )
    (HERE / "results" / "speed.md").write_text(text)
    draw_ratios(pairs, environment).savefig(IMAGES / "speed.png", dpi=120)
    draw_scaling(table).savefig(IMAGES / "scaling.png", dpi=120)


if __name__ == "__main__":
    main()
