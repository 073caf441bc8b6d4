"""`cubereel train` as one function: a store in, a run folder with results and checkpoints out."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from extract.allocator import keep_freed_memory
from features_store.disk import write_atomically
from features_store.errors import UsageError
from features_store.store import Store
from pipelines.extraction import choose_device
from pipelines.labels import label_rows
from pipelines.predictions import write_predictions
from pipelines.progress import ProgressLog
from train.checkpoint import Checkpoint, library_versions, save_checkpoint
from train.clips import Clips
from train.config import TrainConfig
from train.metrics import bootstrap_standard_error, score
from train.protocol import (
    FoldResult,
    HeadChoice,
    Labelled,
    run_folds,
    warn_of_missing_classes,
)
from train.splits import Split, make_folds, split_by_manifest, split_hash

logger = logging.getLogger("cubereel")


@dataclass(frozen=True)
class HeadRow:
    """One head in a table of results; balanced accuracy of pooled test predictions, seed mean."""

    head: str
    balanced_accuracy: float
    standard_error: float
    accuracy: float
    mean_average_precision: float
    validation_balanced_accuracy: float
    num_parameters: int
    seconds: float
    seeds: list[dict[str, Any]]
    selections: list[dict[str, Any]]


@dataclass
class TrainReport:
    """What `train` did; also ``results.json`` in the run folder."""

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
    heads: list[HeadRow] = field(default_factory=list)
    chosen: dict[str, Any] = field(default_factory=dict)


def train(
    store: str | Path,
    *,
    heads: Sequence[str],
    options: Sequence[tuple[str, str]] = (),
    folds: int | None = None,
    seeds: int = 1,
    out: str | Path | None = None,
    device: str = "auto",
    config: TrainConfig | None = None,
) -> TrainReport:
    """Select, fit and test heads on the videos of a store.

    Args:
        heads: as ``NAME`` or ``NAME:option=value,…``.
        options: given to every head.
        folds: cross-validate over groups; None takes the column ``split`` of the manifest.
        out: run folder; by default a dated one below ``runs``.

    Raises:
        UsageError: an unknown head or option, before anything is read.
        ContractError: videos without labels, or an empty split.
    """
    config = config or TrainConfig()
    keep_freed_memory()
    choices = [HeadChoice.parse(head, options) for head in heads]
    if not choices or seeds < 1:
        raise UsageError(f"at least one head and one seed are needed: {list(heads)}, {seeds}")
    with Store(store) as opened:
        data, groups_said, unlabelled, missing = load_labelled(opened, config, device)
        for choice in choices:
            choice.build(data.clips, len(data.classes))
        splits = make_splits(opened, data, folds=folds, config=config)
        run = Path(out) if out is not None else default_run_folder(opened.path)
        if (run / "results.json").exists():
            raise UsageError(f"{run} holds a result already; give --out another folder")
        ids = data.clips.video_ids
        report = TrainReport(
            run=str(run),
            store=str(store),
            spec_digest=opened.header.spec.digest,
            num_videos=len(ids),
            num_groups=len(np.unique(data.groups)),
            classes=list(data.classes),
            split_hashes=[split_hash(ids, split) for split in splits],
            unlabelled=unlabelled,
            missing=missing,
            config=config.model_dump(),
            num_seeds=seeds,
            versions=library_versions(),
            warnings=warn_of_missing_classes(data, splits),
        )
        if not groups_said:
            report.warnings.append("the manifest has no groups: each video is its own")
            logger.warning("%s", report.warnings[-1])
        results = {
            choice.label: _run_head(choice, data, splits, report, config, seeds, opened)
            for choice in choices
        }
        if len(choices) > 1:
            report.chosen = chosen_by_validation(results, data, splits, num_seeds=seeds)
        write_predictions(run / "predictions.csv", results, data, splits)
        document = json.dumps(asdict(report), indent=1).encode()
        write_atomically(run / "results.json", document)
    return report


def load_labelled(
    store: Store, config: TrainConfig, device: str
) -> tuple[Labelled, bool, int, list[str]]:
    """Return the labelled videos of a store, whether groups are said, and what is left out.

    Raises:
        ContractError: the store's manifest has labels of fewer than two classes.
    """
    manifest = store.manifest
    known = label_rows(
        (manifest[video_id] for video_id in store.ids if video_id in manifest),
        manifest=store.path / "manifest.csv",
        num_videos=len(store),
    )
    missing = sorted(video_id for video_id in manifest if video_id not in store)
    if missing:
        logger.warning(
            "%d of %d videos of the manifest are not in the store (first: %s)",
            len(missing), len(manifest), missing[0],
        )  # fmt: skip
    unlabelled = len(store) - len(known.rows)
    if unlabelled:
        logger.warning("%d videos of the store have no label and are left out", unlabelled)
    clips = Clips(
        store,
        known.ids,
        windows=config.window_plan,
        layers=config.layers,
        device=choose_device(device),
    )
    data = Labelled(clips, known.labels, known.groups, known.classes)
    return data, any(row.group for row in known.rows), unlabelled, missing


def make_splits(
    store: Store, data: Labelled, *, folds: int | None, config: TrainConfig
) -> list[Split]:
    """Return the folds, or the one split that the manifest says."""
    if folds is not None:
        return make_folds(
            data.labels,
            data.groups,
            num_folds=folds,
            inner_folds=config.inner_folds,
            seed=config.split_seed,
        )
    manifest = store.manifest
    said = [manifest[video_id].split for video_id in data.clips.video_ids]
    if unused := said.count(""):
        logger.warning("%d labelled videos have no split and are used nowhere", unused)
    split = split_by_manifest(
        said,
        data.labels,
        data.groups,
        inner_folds=config.inner_folds,
        seed=config.split_seed,
    )
    return [split]


def default_run_folder(store: Path) -> Path:
    """Return a dated folder of the store's name."""
    return Path("runs") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{store.stem}"


def _run_head(
    choice: HeadChoice,
    data: Labelled,
    splits: Sequence[Split],
    report: TrainReport,
    config: TrainConfig,
    seeds: int,
    store: Store,
) -> list[FoldResult]:
    started = time.monotonic()
    progress = ProgressLog(choice.label, total=len(splits) * seeds, unit="fits")

    def on_fold(result: FoldResult) -> None:
        _save(result, choice, data, splits[result.fold], report, config, store)
        progress.step(f"fold {result.fold}, seed {result.seed}")

    with progress:
        results = run_folds(choice, data, splits, config=config, num_seeds=seeds, on_fold=on_fold)
    report.heads.append(
        summarise(choice.label, results, data, splits, seconds=time.monotonic() - started)
    )
    return results


def pool_tests(
    results: Sequence[FoldResult], splits: Sequence[Split], *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the tested videos of all folds and their probabilities by one seed's heads."""
    of_seed = sorted((r for r in results if r.seed == seed), key=lambda r: r.fold)
    videos = np.concatenate([splits[r.fold].test for r in of_seed])
    return videos, np.concatenate([r.probs for r in of_seed])


def summarise(
    label: str,
    results: Sequence[FoldResult],
    data: Labelled,
    splits: Sequence[Split],
    *,
    seconds: float,
) -> HeadRow:
    """Score the pooled test predictions of every seed."""
    seeds = sorted({r.seed for r in results})
    pooled = [pool_tests(results, splits, seed=seed) for seed in seeds]
    videos = pooled[0][0]
    metrics = [score(probs, data.labels[videos]) for _, probs in pooled]
    predictions = np.stack([probs.argmax(1) for _, probs in pooled])
    selections = {r.fold: r.selection for r in results}
    return HeadRow(
        head=label,
        balanced_accuracy=float(np.mean([m.balanced_accuracy for m in metrics])),
        standard_error=bootstrap_standard_error(
            predictions, data.labels[videos], data.groups[videos]
        ),
        accuracy=float(np.mean([m.accuracy for m in metrics])),
        mean_average_precision=float(np.mean([m.mean_average_precision for m in metrics])),
        validation_balanced_accuracy=float(
            np.mean([s.validation_balanced_accuracy for s in selections.values()])
        ),
        num_parameters=sum(p.numel() for p in results[0].head.parameters()),
        seconds=round(seconds, 1),
        seeds=[asdict(m) for m in metrics],
        selections=[asdict(s) for _, s in sorted(selections.items())],
    )


def chosen_by_validation(
    results: dict[str, list[FoldResult]],
    data: Labelled,
    splits: Sequence[Split],
    *,
    num_seeds: int,
) -> dict[str, Any]:
    """Score the head that each fold's own validation videos choose; no test video is asked."""
    heads, pooled = [], []
    for fold in range(len(splits)):
        by_head = {h: [r for r in rs if r.fold == fold] for h, rs in results.items()}
        best = max(by_head, key=lambda h: by_head[h][0].selection.rank)
        heads.append(best)
        pooled += by_head[best]
    row = summarise("chosen by validation", pooled, data, splits, seconds=0.0)
    return {
        "head_of_fold": heads,
        "balanced_accuracy": row.balanced_accuracy,
        "standard_error": row.standard_error,
    }


def _save(
    result: FoldResult,
    choice: HeadChoice,
    data: Labelled,
    split: Split,
    report: TrainReport,
    config: TrainConfig,
    store: Store,
) -> None:
    shape = data.clips.input_shape
    checkpoint = Checkpoint(
        head=choice.name,
        options=dict(choice.options),
        layers=shape.layers,
        diff_grid=shape.diff_grid,
        classes=data.classes,
        config=config,
        spec=store.header.spec.to_json(),
        spec_digest=store.header.spec.digest,
        fold=result.fold,
        seed=result.seed,
        split_hash=report.split_hashes[result.fold],
        test_ids=tuple(data.clips.video_ids[i] for i in split.test),
        versions=report.versions,
    )
    folder = choice.label.replace(":", "-").replace("=", "-").replace(",", "-")
    path = Path(report.run) / "checkpoints" / folder / f"fold{result.fold}-seed{result.seed}"
    save_checkpoint(path, result.head, checkpoint)
