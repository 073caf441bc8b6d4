"""Pictures of a run folder: learning curves of every head, and what its videos are taken for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from features_store.errors import ContractError
from features_store.format.outputs import new_file
from features_store.paths import RUN
from pipelines.lettering import letter
from train.protocol.run_folder import RunFolder, read_fit
from train.protocol.runs import Fit
from train.protocol.table import folder_name

LARGEST_SIDE = 40.0  # inches
LARGEST_NUMBERED = 30  # classes of a matrix whose cells have numbers


def draw_run(run: Path, out: Path) -> Iterator[Path]:
    """Draw what a run folder holds; yield the files.

    Raises:
        ContractError: no fit is done.
    """
    records = RunFolder(RUN.require(run)).records()
    if not records:
        raise ContractError(f"{run} holds no fit that is done yet; run 'cubereel train' on")
    out.mkdir(parents=True, exist_ok=True)
    results = RunFolder(run).results()
    for head, paths in records.items():
        figure = curves_figure(head, [read_fit(path) for path in paths])
        yield _saved(figure, out / f"{head}-curves.png")
    if results is None:
        return
    for row in results.heads:
        confusions = [seed.confusion for seed in row.seeds if seed.confusion is not None]
        if confusions:
            figure = confusion_figure(row.head, np.sum(confusions, axis=0), results.classes)
            yield _saved(figure, out / f"{folder_name(row.head)}-confusion.png")


def curves_figure(head: str, fits: Sequence[Fit]) -> Figure:
    """Return training loss, validation score and validation loss by epoch, a line for each fit.

    Infinite values, of fits that diverged, are left out.
    """
    inner = [fit for fit in fits if fit.curve]
    panels = {
        "training loss": [fit.train_losses for fit in fits],
        "validation score": [[score for score, _ in fit.curve] for fit in inner],
        "validation loss": [[loss for _, loss in fit.curve] for fit in inner],
    }
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    axes: Any = figure.subplots(1, len(panels))
    for axis, (name, curves) in zip(axes, panels.items(), strict=True):
        _draw_curves(axis, curves)
        axis.set(xlabel="epoch", ylabel=name)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(f"{head}: {len(fits)} fits, {len(inner)} of them for validation; thick: mean")
    return figure


def _draw_curves(axis: Axes, curves: Sequence[Sequence[float]]) -> None:
    longest = max(map(len, curves), default=0)
    table = np.full((len(curves), longest), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    table[~np.isfinite(table)] = np.nan
    epochs = np.arange(1, longest + 1)
    for row in table:
        axis.plot(epochs, row, color="tab:blue", alpha=0.25, linewidth=0.8)
    has_value = ~np.isnan(table).all(0)
    means = np.nanmean(table[:, has_value], axis=0)
    axis.plot(epochs[has_value], means, color="tab:blue", linewidth=2.5)


def confusion_figure(head: str, counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Return labels down, predictions across, shaded by the share of a label's videos."""
    totals = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    side = min(max(4.0, 0.45 * len(classes) + 2), LARGEST_SIDE)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of a label's videos", shrink=0.8)
    places = range(len(classes))
    names = [letter(name) for name in classes]
    families = list(dict.fromkeys(family for name in names for family in name.families))
    shown: dict[str, Any] = {
        "labels": [name.text for name in names],
        "family": families,
        "parse_math": False,
    }
    axis.set_xticks(places, rotation=45, ha="right", **shown)
    axis.set_yticks(places, **shown)
    axis.set(xlabel="prediction", ylabel="label", title=f"{head}: {counts.sum()} tests")
    if len(classes) <= LARGEST_NUMBERED:
        for (i, j), count in np.ndenumerate(counts):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axis.text(j, i, str(count), ha="center", va="center", color=colour, fontsize=8)
    return figure


def _saved(figure: Figure, path: Path) -> Path:
    with new_file(path) as file:
        figure.savefig(file, format="png", dpi=120)
    return path
