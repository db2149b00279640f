"""Pages that are written from the packages, the vignettes and the results of the benchmarks."""

import ast
import re
import shutil
from importlib import import_module
from pathlib import Path

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
PACKAGES = ("reweight", "causal", "shift")
# Vignettes that no theme names come last, under a heading of their own.
THEMES = {
    "Comparable groups": ["balancing", "heterogeneous_effects", "ab_test_training"],
    "Other populations": [
        "covariate_shift",
        "target_shift",
        "label_shift",
        "graph_structure_shift",
    ],
    "Wrong values, noisy labels, outliers": [
        "wrong_numbers",
        "noisy_labels",
        "outliers_and_boundaries",
    ],
    "Forecasts, grades and rare events": ["quantile_forecasts", "graded_reuse", "rare_events"],
    "Training loops, models and scale": ["weights_as_losses", "pooling_hospitals", "scale_out"],
}
# The modules of reweight.torch are not in families as those of the other packages are.
TORCH_FAMILIES = {
    "Weights in a loop": "base product schedule index sampler criterion adapters",
    "Weights from losses and gradients": "loss_based influence gradient_alignment",
    "Weights from clean data": "learn_to_reweight meta_weight_net bilevel",
    "Noisy labels": "transition label_correction volume_minimization",
    "Long tails": "class_balanced focal logit_adjustment etf_classifier",
    "Attacks, unlabelled rows, residual maps": "local_pair shrink_match residual",
    "Decay, parametrisations and starts": "regularization initialization",
    "Weights of models": "fisher quantile_aggregator",
}
GROUND = "The ground", "What a weight is, and how to get, use and resample weights."
MISSING_TORCH = "{0}\n{1}\n\nThis site was built without PyTorch.\n"


def vignettes() -> list[Path]:
    """Return the vignettes that are pages: all but the demo and what is private."""
    found = sorted((ROOT / "vignettes").glob("*.py"))
    return [path for path in found if path.stem != "demo" and not path.stem.startswith("_")]


def _fresh(name: str) -> Path:
    folder = DOCS / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _family(package: str, module: str) -> tuple[str, str]:
    """Return heading and description of the family that a public name belongs to."""
    parts = module.removeprefix(f"{package}.").split(".")
    if package == "reweight.torch":
        named = {part: title for title, names in TORCH_FAMILIES.items() for part in names.split()}
        return named.get(parts[0], "More"), ""
    if len(parts) == 1:
        return GROUND
    heading = parts[0].replace("_", " ").capitalize()
    return heading, import_module(f"{package}.{parts[0]}").__doc__.splitlines()[0]


def _listing(package: str, names: list[str], options: str) -> str:
    listed = "".join(f"   {name}\n" for name in names)
    return f".. currentmodule:: {package}\n\n.. autosummary::\n{options}\n{listed}\n"


def _write_package(folder: Path, package: str) -> None:
    """Write the page of a package and one for each of its families."""
    module = import_module(package)
    families: dict[tuple[str, str], list[str]] = {}
    for name in sorted(module._PUBLIC, key=lambda name: ("plots" in module._PUBLIC[name], name)):
        families.setdefault(_family(package, module._PUBLIC[name]), []).append(name)
    order = {title: i for i, title in enumerate([GROUND[0], *TORCH_FAMILIES, "More"])}
    if package != "reweight.torch":
        order = {GROUND[0]: 0}
    page = f"{package}\n{'=' * len(package)}\n\n{module.__doc__.strip()}\n\n"
    children = ""
    for heading, about in sorted(families, key=lambda f: (order.get(f[0], len(order)), f[0])):
        names = families[heading, about]
        stem = f"{package}.{re.sub('[^a-z]+', '_', heading.lower())}"
        children += f"   {stem}\n"
        title = f"{heading}\n{'-' * len(heading)}\n\n{about}\n\n"
        page += title + _listing(package, names, "   :nosignatures:\n")
        own = _listing(package, names, "   :toctree: generated\n   :nosignatures:\n")
        (folder / f"{stem}.rst").write_text(title + own)
    page += f".. toctree::\n   :hidden:\n\n{children}"
    (folder / f"{package}.rst").write_text(page)


def write_reference(packages) -> None:
    """One page a package, listing its public names by family; with PyTorch, its recipes."""
    folder = _fresh("api")
    for package in packages:
        _write_package(folder, package)
    recipes = "Recipes for PyTorch\n===================\n\n"
    recipes += ".. automodule:: reweight.torch.regularization\n   :no-members:\n"
    if "reweight.torch" not in packages:
        recipes = MISSING_TORCH.format("Recipes for PyTorch", "=" * 19)
        (folder / "reweight.torch.rst").write_text(MISSING_TORCH.format("reweight.torch", "=" * 14))
    (folder / "torch_recipes.rst").write_text(recipes)
    index = ["Reference", "=========", "", ".. toctree::", "   :maxdepth: 2", ""]
    index += [f"   {page}" for page in (*PACKAGES, "reweight.torch", "torch_recipes")]
    (folder / "index.rst").write_text("\n".join(index) + "\n")


def _opening(path: Path) -> tuple[str, str]:
    """Return title and first two sentences of a script in the percent format."""
    text = path.read_text().split("# %% [markdown]", 1)[1].split("# %%", 1)[0]
    lines = [line.removeprefix("#").strip() for line in text.splitlines()]
    title = next(line for line in lines if line.startswith("# ")).removeprefix("# ")
    body = "\n".join(lines).split(title, 1)[1].strip().split("\n\n")[0].replace("\n", " ")
    return title, " ".join(re.split(r"(?<=[.?!])\s", body)[:2])


def write_vignettes() -> None:
    """Copy the vignettes, which the build runs, and list them by theme."""
    folder = _fresh("vignettes")
    found = {path.stem: path for path in vignettes()}
    for path in found.values():
        shutil.copy(path, folder)
    named = {stem for stems in THEMES.values() for stem in stems}
    themes = THEMES | {"More": [stem for stem in found if stem not in named]}
    lines = ["# Vignettes", "", "Whole analyses, run when this site is built.", ""]
    for theme, stems in themes.items():
        stems = [stem for stem in stems if stem in found]
        if not stems:
            continue
        lines += [f"## {theme}", ""]
        for stem in stems:
            title, sentence = _opening(found[stem])
            lines += [f"[{title}]({stem})", f": {sentence}", ""]
        lines += ["```{toctree}", ":hidden:", "", *stems, "```", ""]
    (folder / "index.md").write_text("\n".join(lines))


def write_results() -> None:
    """Copy the tables of the benchmarks; plain text is shown as it is, under its script's title."""
    folder = _fresh("results")
    for path in sorted((ROOT / "benchmarks" / "results").iterdir()):
        text = path.read_text()
        if path.suffix == ".txt":
            script = (ROOT / "benchmarks" / path.stem).with_suffix(".py")
            title = ast.get_docstring(ast.parse(script.read_text())).splitlines()[0].rstrip(".")
            text = f"# {title}\n\nWritten by `benchmarks/{script.name}`.\n\n```text\n{text}```\n"
        if path.suffix in (".md", ".txt"):
            (folder / f"{path.stem}.md").write_text(text)
