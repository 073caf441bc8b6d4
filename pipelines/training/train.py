"""`cubereel train` as one function: a store in, a run folder with results and checkpoints out."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from extract.compute.machine import keep_freed_memory
from features_store.errors import UsageError
from features_store.format.disk import check_folder, write_atomically
from features_store.spec import Spec, canonical_json
from features_store.store import Store
from pipelines.machine.devices import choose_device
from pipelines.progress import ProgressLog
from pipelines.training.predictions import write_predictions
from pipelines.training.tails import give_tail, refuse_idle_weights
from train.fit.checkpoint import Checkpoint, library_versions, save_checkpoint
from train.fit.config import TrainConfig
from train.fit.loop import candidates
from train.fit.tasks import task_of
from train.heads import Head
from train.heads.registry import head_class, head_options
from train.protocol.grid import Row, load_grid
from train.protocol.labelled import load_labelled, make_splits
from train.protocol.results import HeadRow, Pooled, chosen_by_validation, head_row, pool_tests
from train.protocol.run_folder import KeptFits, claim, folder_name
from train.protocol.runs import (
    FoldResult,
    HeadChoice,
    Labelled,
    run_folds,
    warn_of_missing_classes,
)
from train.protocol.splits import Split, split_hash

logger = logging.getLogger("cubereel")


@dataclass
class TrainReport:
    """What `train` did; also ``results.json`` in the run folder.

    Attributes:
        metric: the score that heads are chosen and compared by, a field of every row.
    """

    run: str
    store: str
    spec_digest: str
    num_videos: int
    num_groups: int
    classes: list[str]
    split_hashes: list[str]
    unlabelled: int
    missing: list[str]
    config: dict[str, Any]
    num_seeds: int
    versions: dict[str, str]
    warnings: list[str]
    metric: str
    heads: list[HeadRow] = field(default_factory=list)
    chosen: dict[str, Any] = field(default_factory=dict)


def train(
    store: str | Path,
    *,
    heads: Sequence[str] = (),
    grid: str | None = None,
    options: Sequence[tuple[str, str]] = (),
    folds: int | None = None,
    seeds: int = 1,
    out: str | Path | None = None,
    device: str = "auto",
    config: TrainConfig | None = None,
    weights: str | Path | None = None,
) -> TrainReport:
    """Select, fit and test heads on the videos of a store; called again, it goes on.

    Args:
        heads: as ``NAME`` or ``NAME:option=value,…``; the first is what others are compared with.
        grid: name or file of a grid, whose rows come after `heads`.
        options: given to every head.
        folds: cross-validate over groups; None takes the column ``split`` of the manifest.
        out: run folder; by default a dated one below ``runs``. Fits that it holds are not done
            again.
        weights: of the store's backbone, for heads that train its last layers.

    Raises:
        UsageError: an unknown head or option, before anything is read; fits of something else in
            the run folder; no layer that could be trained.
        ContractError: videos without labels, an empty split, or weights that are not the store's.
    """
    config = config or TrainConfig()
    metric = task_of(config).metric
    keep_freed_memory()
    rows = _rows(heads, grid, options)
    if not rows or seeds < 1:
        raise UsageError(
            f"at least one head (--head or --grid) and one seed are needed, got {len(rows)} heads, "
            f"{seeds} seeds"
        )
    refuse_idle_weights([row.choice for row in rows], weights)
    with Store(store) as opened:
        opened.check_shards()
        data, groups_said, unlabelled, missing = load_labelled(
            opened, config, choose_device(device)
        )
        tasks = [_task(row, data, config, opened.header.spec, weights) for row in rows]
        splits = make_splits(opened, data, folds=folds, config=config)
        run = Path(out) if out is not None else default_run_folder(opened.path)
        ids = data.clips.video_ids
        report = TrainReport(
            run=str(run),
            store=str(store),
            spec_digest=opened.header.spec.digest,
            num_videos=len(ids),
            num_groups=len(set(data.groups.tolist())),
            classes=list(data.classes),
            split_hashes=[split_hash(ids, split) for split in splits],
            unlabelled=unlabelled,
            missing=missing,
            config=config.model_dump(),
            num_seeds=seeds,
            versions=library_versions(),
            warnings=warn_of_missing_classes(data, splits),
            metric=metric,
        )
        if not groups_said:
            report.warnings.append("the manifest has no groups: each video is its own")
            logger.warning("%s", report.warnings[-1])
        if num_partial := len(set(ids).intersection(opened.partial_ids)):
            report.warnings.append(
                f"{num_partial} of {len(ids)} videos are partial: they break off"
            )
            logger.warning("%s", report.warnings[-1])
        check_folder(run)
        claim(run / "run.json", _identity(report, data))
        if out is None:
            logger.info("run folder %s; with --out %s a run that was stopped goes on", run, run)
        results: dict[str, list[FoldResult]] = {}
        reference: Pooled | None = None
        for task in tasks:
            fits, seconds = _run_task(task, splits, report, seeds, opened)
            pooled = pool_tests(fits, data, splits)
            reference = reference or pooled
            report.heads.append(
                head_row(
                    task.label, fits, pooled,
                    reference=reference, layers=task.data.clips.layers, seconds=seconds,
                    settings=task.differs_from(config),
                )
            )  # fmt: skip
            results[task.label] = fits
        if len(tasks) > 1:
            assert reference is not None
            report.chosen = chosen_by_validation(results, data, splits, reference=reference)
        write_predictions(run / "predictions.csv", results, data, splits)
        document = json.dumps(asdict(report), indent=1).encode()
        write_atomically(run / "results.json", document)
    return report


@dataclass(frozen=True)
class _Task:
    """A row of the table with the clips and the configuration that are its own."""

    label: str
    choice: HeadChoice
    data: Labelled
    config: TrainConfig

    def differs_from(self, config: TrainConfig) -> dict[str, Any]:
        """Return the training options in which this row is not what the run was told."""
        own, common = self.config.model_dump(), config.model_dump()
        return {name: own[name] for name in own if own[name] != common[name] and name != "layers"}


def _rows(heads: Sequence[str], grid: str | None, options: Sequence[tuple[str, str]]) -> list[Row]:
    choices = [HeadChoice.parse(head, options) for head in heads]
    rows = [Row(choice.label, choice) for choice in choices]
    rows += load_grid(grid, options) if grid is not None else []
    folders = [folder_name(row.label) for row in rows]
    if double := next((f for f in folders if folders.count(f) > 1), None):
        raise UsageError(
            f"two heads of this table are called {double!r}; each may stand there once"
        )
    return rows


def _task(
    row: Row, data: Labelled, config: TrainConfig, spec: Spec, weights: str | Path | None
) -> _Task:
    """Return a row as it will be fitted; raise `UsageError` when the head cannot be built."""
    layers = row.layer_names(data.clips.layers)
    own = replace(data, clips=data.clips.of_layers(layers))
    choice = give_tail(row.choice, spec, layer=layers[-1], weights=weights)
    choice.build(own.clips, len(data.classes))
    own_config = row.config(config).model_copy(update={"layers": tuple(layers)})
    task_of(own_config)  # a row may ask for votes where there are none
    return _Task(row.label, choice, own, own_config)


def _identity(report: TrainReport, data: Labelled) -> dict[str, Any]:
    """Return what all fits of a run folder have in common: features to the bit, labels, splits."""
    ids, store = data.clips.video_ids, data.clips.store
    records = (store.video(video_id) for video_id in ids)
    return {
        "spec_digest": report.spec_digest,
        "dtype": store.header.dtype,
        "features": _digest([[record.length, *record.checksums] for record in records]),
        "labels": _digest([ids, data.labels.tolist(), list(data.classes)]),
        "split_hashes": report.split_hashes,
        "versions": report.versions,
    }


def _digest(said: Any) -> str:
    return hashlib.sha256(canonical_json(said)).hexdigest()


def default_run_folder(store: Path) -> Path:
    """Return a dated folder of the store's name."""
    return Path("runs") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{store.stem}"


def _run_task(
    task: _Task, splits: Sequence[Split], report: TrainReport, seeds: int, store: Store
) -> tuple[list[FoldResult], float]:
    """Return a head's results and the seconds that its fits took, in this run or before."""
    run = Path(report.run)
    grid = candidates(head_class(task.choice.name), task.config)
    said = {
        "head": task.choice.name,
        "label": task.label,
        "options": head_options(task.choice.name) | dict(task.choice.options),
        "candidates": [asdict(candidate) for candidate in grid],
        "config": task.config.model_dump(),
    }
    claim(run / "fits" / folder_name(task.label) / "row.json", said)

    def save_head(path: Path, head: Head, fold: int, seed: int) -> None:
        save_checkpoint(path, head, _checkpoint(task, splits[fold], report, fold, seed, store))

    fits_of_fold = len(splits[0].inner) * len(grid) + seeds
    progress = ProgressLog(task.label, total=len(splits) * fits_of_fold, unit="fits")
    with progress:
        kept = KeptFits(run, task.label, save_head=save_head, on_fit=progress.step)
        results = run_folds(
            task.choice, task.data, splits, config=task.config, num_seeds=seeds, keeper=kept
        )
    return results, kept.seconds


def _checkpoint(
    task: _Task, split: Split, report: TrainReport, fold: int, seed: int, store: Store
) -> Checkpoint:
    clips = task.data.clips
    return Checkpoint(
        head=task.choice.name,
        options=dict(task.choice.options),
        layers=clips.input_shape.layers,
        diff_grid=clips.input_shape.diff_grid,
        classes=task.data.classes,
        config=task.config,
        spec=store.header.spec.to_json(),
        spec_digest=store.header.spec.digest,
        fold=fold,
        seed=seed,
        split_hash=report.split_hashes[fold],
        test_ids=tuple(clips.video_ids[i] for i in split.test),
        versions=report.versions,
    )
