"""What the fits of a run have in common: its rows as they are fitted, its videos, its splits.

`FitSettings` says it in plain data, from which any process makes the same `Table`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from features_store.errors import UsageError
from features_store.spec import Spec
from features_store.store import Store
from pipelines.machine.devices import choose_device
from pipelines.training.tails import give_tail
from train.data.pages import SharedPages
from train.fitting.checkpoint import Checkpoint, library_versions
from train.fitting.config import TrainConfig, parse_config
from train.fitting.state import Candidate, candidates
from train.fitting.tasks import task_of
from train.heads import HeadChoice, head_class, head_options
from train.protocol.jobs import FitJob, verdict_thresholds
from train.protocol.labelled import LoadedVideos, load_labelled, make_splits
from train.protocol.runs import Labelled
from train.protocol.splits import Split, split_hash
from train.protocol.table import Row


@dataclass(frozen=True)
class RowSettings:
    """A row as plain data; see `train.protocol.table.Row`."""

    label: str
    head: str
    layers: tuple[str | int, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, row: Row) -> RowSettings:
        """Return what says the same as a row."""
        return cls(row.label, row.choice.label, row.layers, row.settings)

    @property
    def row(self) -> Row:
        """The row."""
        return Row(self.label, HeadChoice.parse(self.head), self.layers, self.settings)


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """What a process must know to do any fit of a run.

    Attributes:
        config: options of `TrainConfig` that the user gave.
        epochs: of heads whose epochs follow from a budget, by label.
        memory_bytes: of clips that are kept in memory; None is what `Clips` takes by default.
        pages: descriptor of the file in which the clips lie; None where each process reads them.
    """

    store: str
    revision: str
    rows: tuple[RowSettings, ...]
    folds: int | None
    config: Mapping[str, Any]
    device: str
    weights: str | None
    run: str
    epochs: Mapping[str, int] = field(default_factory=dict)
    memory_bytes: int | None = None
    pages: int | None = None

    @classmethod
    def of(
        cls,
        store: Store,
        rows: Sequence[Row],
        config: TrainConfig,
        *,
        folds: int | None,
        device: str,
        weights: str | Path | None,
        run: Path,
        memory: float | None = None,
    ) -> FitSettings:
        """Return the settings of a run; `UsageError` where there is no such device."""
        return cls(
            store=str(store.path),
            revision=store.revision,
            rows=tuple(RowSettings.of(row) for row in rows),
            folds=folds,
            config=config.model_dump(exclude_unset=True),
            device=str(choose_device(device)),
            weights=None if weights is None else str(weights),
            run=str(run),
            memory_bytes=None if memory is None else int(memory * 1e9),
        )


@dataclass(frozen=True)
class PlannedHead:
    """A row of the table with the clips and the configuration that are its own."""

    label: str
    choice: HeadChoice
    data: Labelled
    config: TrainConfig

    def data_of(self, layer: str | None) -> Labelled:
        """Return its videos with the layers that a candidate reads."""
        if layer is None:
            return self.data
        return replace(self.data, clips=self.data.clips.of_layers([layer]))

    @property
    def candidates(self) -> list[Candidate]:
        """What validation chooses from."""
        return candidates(head_class(self.choice.name), self.config)

    @property
    def document(self) -> dict[str, Any]:
        """What its fits are made from, as JSON."""
        return {
            "head": self.choice.name,
            "label": self.label,
            "options": head_options(self.choice.name) | dict(self.choice.options),
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "config": self.config.model_dump(),
        }


@dataclass(frozen=True)
class Table:
    """All that the names in a job stand for."""

    loaded: LoadedVideos
    heads: dict[str, PlannedHead]
    splits: list[Split]

    @classmethod
    def load(cls, store: Store, settings: FitSettings, pages: SharedPages | None) -> Table:
        """Read labels and clips, and split the videos.

        Args:
            pages: in which the clips lie, or are to lie.

        Raises:
            UsageError: a head cannot be built, or a row's options do not go together.
            ContractError: videos without labels, or an empty split.
        """
        config = parse_config(dict(settings.config))
        loaded = load_labelled(
            store, config, choose_device(settings.device),
            pages=pages, memory_bytes=settings.memory_bytes,
        )  # fmt: skip
        heads = [_plan(each.row, loaded.data, config, settings.weights) for each in settings.rows]
        splits = make_splits(store, loaded.data, folds=settings.folds, config=config)
        table = cls(loaded, {head.label: head for head in heads}, splits)
        return table.with_epochs(settings.epochs)

    def with_epochs(self, epochs: Mapping[str, int]) -> Table:
        """Return the table with other numbers of epochs for some heads."""
        heads = {
            label: replace(head, config=head.config.model_copy(update={"epochs": epochs[label]}))
            if label in epochs
            else head
            for label, head in self.heads.items()
        }
        return replace(self, heads=heads)

    def checkpoint(
        self, job: FitJob, store: Store, *, probs_of: Callable[[FitJob], np.ndarray]
    ) -> Checkpoint:
        """Return what is said of the head that a job fits.

        Args:
            probs_of: what validation's fits said, which are done.
        """
        head, split = self.heads[job.head], self.splits[job.fold]
        clips, spec = head.data_of(job.candidate.layer).clips, store.header.spec
        return Checkpoint(
            head=head.choice.name,
            options=dict(head.choice.options),
            layers=clips.input_shape.layers,
            diff_grid=clips.input_shape.diff_grid,
            classes=head.data.classes,
            config=head.config,
            spec=spec.to_json(),
            spec_digest=spec.digest,
            revision=store.revision,
            fold=job.fold,
            seed=job.seed,
            split_hash=split_hash(clips.video_ids, split),
            test_ids=tuple(clips.video_ids[i] for i in split.test),
            versions=library_versions(),
            thresholds=verdict_thresholds(
                job.head, job.fold, job.candidate, split,
                labels=head.data.labels, task=task_of(head.config), probs_of=probs_of,
            ),
        )  # fmt: skip


def _plan(row: Row, data: Labelled, config: TrainConfig, weights: str | None) -> PlannedHead:
    """Return a row as it will be fitted.

    Args:
        config: what the whole run is told.
        weights: of the store's backbone, for a head that takes a tail.
    """
    layers = row.layer_names(data.clips.layers)
    own = replace(data, clips=data.clips.of_layers(layers))
    spec: Spec = data.clips.store.header.spec
    own_config = row.config(config).model_copy(update={"layers": tuple(layers)})
    if own_config.choose_layer and head_class(row.choice.name).takes_tail:
        raise UsageError(
            f"{row.label} trains what follows one layer, and goes without `choose_layer`; "
            "say which by `layers`"
        )
    choice = give_tail(row.choice, spec, layer=layers[-1], weights=weights)
    task_of(own_config)  # a row may ask for votes where there are none
    head = PlannedHead(row.label, choice, own, own_config)
    for layer in dict.fromkeys(candidate.layer for candidate in head.candidates):
        choice.build(head.data_of(layer).clips, len(data.classes))
    return head
