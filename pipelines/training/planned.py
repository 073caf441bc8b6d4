"""A row of the table as it is fitted: a head that can be built, its clips, its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from features_store.spec import Spec
from pipelines.progress import ProgressLog
from pipelines.training.report import TrainReport
from pipelines.training.tails import give_tail
from train.fitting.checkpoint import Checkpoint, save_checkpoint
from train.fitting.config import TrainConfig
from train.fitting.loop import Candidate, candidates
from train.fitting.tasks import task_of
from train.heads import Head, HeadChoice, head_class, head_options
from train.protocol.grid import Row, folder_name
from train.protocol.run_folder import KeptFits, claim
from train.protocol.runs import FoldResult, Labelled, run_folds
from train.protocol.splits import Split


@dataclass(frozen=True)
class PlannedHead:
    """A row of the table with the clips and the configuration that are its own."""

    label: str
    choice: HeadChoice
    data: Labelled
    config: TrainConfig

    @property
    def candidates(self) -> list[Candidate]:
        """What validation chooses from."""
        return candidates(head_class(self.choice.name), self.config)

    def differs_from(self, config: TrainConfig) -> dict[str, Any]:
        """Return the training options in which this row is not what the run was told."""
        own, common = self.config.model_dump(), config.model_dump()
        return {name: own[name] for name in own if own[name] != common[name] and name != "layers"}


def plan_head(
    row: Row, data: Labelled, *, config: TrainConfig, weights: str | Path | None
) -> PlannedHead:
    """Return a row as it will be fitted.

    Args:
        config: what the whole run is told.
        weights: of the store's backbone, for a head that takes a tail.

    Raises:
        UsageError: the head cannot be built, or the row's options do not go together.
    """
    layers = row.layer_names(data.clips.layers)
    own = replace(data, clips=data.clips.of_layers(layers))
    spec = data.clips.store.header.spec
    choice = give_tail(row.choice, spec, layer=layers[-1], weights=weights)
    choice.build(own.clips, len(data.classes))
    own_config = row.config(config).model_copy(update={"layers": tuple(layers)})
    task_of(own_config)  # a row may ask for votes where there are none
    return PlannedHead(row.label, choice, own, own_config)


def fit_planned(
    head: PlannedHead, splits: Sequence[Split], report: TrainReport
) -> tuple[list[FoldResult], float]:
    """Return a head's results and the seconds that its fits took, in this run or before."""
    run, num_seeds = Path(report.run), report.num_seeds
    name = head.choice.name
    said = {
        "head": name,
        "label": head.label,
        "options": head_options(name) | dict(head.choice.options),
        "candidates": [asdict(candidate) for candidate in head.candidates],
        "config": head.config.model_dump(),
    }
    claim(run / "fits" / folder_name(head.label) / "row.json", said)

    def save_head(path: Path, fitted: Head, fold: int, seed: int) -> None:
        save_checkpoint(path, fitted, _checkpoint(head, splits[fold], report, fold, seed))

    fits_of_fold = len(splits[0].inner) * len(head.candidates) + num_seeds
    progress = ProgressLog(head.label, total=len(splits) * fits_of_fold, unit="fits")
    with progress:
        kept = KeptFits(run, head.label, save_head=save_head, on_fit=progress.step)
        results = run_folds(
            head.choice, head.data, splits, config=head.config, num_seeds=num_seeds, keeper=kept
        )
    return results, kept.seconds


def _checkpoint(
    head: PlannedHead, split: Split, report: TrainReport, fold: int, seed: int
) -> Checkpoint:
    clips = head.data.clips
    spec: Spec = clips.store.header.spec
    return Checkpoint(
        head=head.choice.name,
        options=dict(head.choice.options),
        layers=clips.input_shape.layers,
        diff_grid=clips.input_shape.diff_grid,
        classes=head.data.classes,
        config=head.config,
        spec=spec.to_json(),
        spec_digest=spec.digest,
        revision=report.revision,
        fold=fold,
        seed=seed,
        split_hash=report.split_hashes[fold],
        test_ids=tuple(clips.video_ids[i] for i in split.test),
        versions=report.versions,
    )
