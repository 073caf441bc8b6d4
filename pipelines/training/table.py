"""The table of a run, from the fits in its folder: of the heads asked for, and those before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from features_store.errors import ContractError, UsageError
from pipelines.training.planned import PlannedHead
from pipelines.training.predictions import write_predictions
from pipelines.training.report import TrainReport
from train.fitting.config import TrainConfig, parse_config
from train.fitting.state import Candidate
from train.fitting.tasks import task_of
from train.protocol.jobs import (
    FitJob,
    Selection,
    select,
    test_jobs,
    validation_jobs,
    verdict_thresholds,
)
from train.protocol.results import chosen_by_validation, differences, head_row, pool_tests
from train.protocol.run_folder import RunFolder, read_document, understood
from train.protocol.runs import Fit, FoldResult, Labelled
from train.protocol.splits import Split

ENSEMBLE_HEADS = 3


@dataclass(frozen=True)
class TableRow:
    """A row whose fits lie in a run folder.

    Attributes:
        num_seeds: of its tests.
    """

    label: str
    candidates: list[Candidate]
    config: TrainConfig
    num_seeds: int

    @classmethod
    def of(cls, head: PlannedHead, *, num_seeds: int) -> TableRow:
        """Return the row of a head that is asked for."""
        return cls(head.label, head.candidates, head.config, num_seeds)

    @classmethod
    def read(cls, folder: RunFolder, label: str, *, num_seeds: int) -> TableRow:
        """Return a row that was asked for before.

        Raises:
            ContractError: what its fits were made from is not there any more.
        """
        path = folder.row(label)
        document = read_document(path)
        try:
            candidates = understood(list[Candidate], document["candidates"], path, "row of a run")
            return cls(label, candidates, parse_config(document["config"]), num_seeds)
        except (KeyError, TypeError, UsageError) as err:
            raise ContractError(f"{path} cannot be understood ({err}); remove it") from err

    def differs_from(self, config: TrainConfig) -> dict[str, Any]:
        """Return the training options in which this row is not what the run was told."""
        own, common = self.config.model_dump(), config.model_dump()
        return {name: own[name] for name in own if own[name] != common[name] and name != "layers"}

    def validation(self, splits: Sequence[Split]) -> list[FitJob]:
        """Return the fits by which validation chooses."""
        return list(validation_jobs(self.label, self.candidates, splits))

    def selections(self, read: Callable[[FitJob], Fit], splits: Sequence[Split]) -> list[Selection]:
        """Return what validation chose in each fold; `read` gives its fits, which are done."""
        return select(
            self.label, self.candidates, splits,
            chooses_epochs=self.config.patience is not None,
            curve_of=lambda job: read(job).curve,
        )  # fmt: skip

    def thresholds(
        self,
        read: Callable[[FitJob], Fit],
        selections: Sequence[Selection],
        data: Labelled,
        splits: Sequence[Split],
    ) -> list[tuple[float, ...]]:
        """Return by which thresholds the heads of each fold say which classes a video shows."""
        return [
            verdict_thresholds(
                self.label, fold, selection.candidate, splits[fold],
                labels=data.labels, task=task_of(self.config),
                probs_of=lambda job: read(job).probs,
            )
            for fold, selection in enumerate(selections)
        ]  # fmt: skip

    def tests(self, selections: Sequence[Selection]) -> list[FitJob]:
        """Return the fits that are tested."""
        return list(test_jobs(self.label, selections, num_seeds=self.num_seeds))


def rows_of_table(
    folder: RunFolder, heads: Sequence[PlannedHead], *, num_seeds: int
) -> list[TableRow]:
    """Return the rows of the heads asked for, and of those in the table that was written last.

    Others are added behind what stands there; where all that stands there is asked for, the order
    is as asked.
    """
    asked = {head.label: TableRow.of(head, num_seeds=num_seeds) for head in heads}
    table = folder.results()
    before = {row.head: len(row.seeds) for row in table.heads} if table else {}
    if all(label in asked for label in before):
        return list(asked.values())
    rows = [
        asked[label] if label in asked else TableRow.read(folder, label, num_seeds=number)
        for label, number in before.items()
    ]
    return rows + [row for label, row in asked.items() if label not in before]


def fill_table(
    rows: Sequence[TableRow],
    folder: RunFolder,
    report: TrainReport,
    *,
    data: Labelled,
    splits: Sequence[Split],
    config: TrainConfig,
) -> None:
    """Fill in the report's heads, and write their predictions; all fits of all rows are done.

    Args:
        config: what the whole run was told.
    """
    task = task_of(config)
    results: dict[str, list[FoldResult]] = {}
    thresholds: dict[str, list[tuple[float, ...]]] = {}
    seconds = []
    for row in rows:
        read = cache(folder.read)
        selections = row.selections(read, splits)
        tests = row.tests(selections)
        results[row.label] = [
            FoldResult(j.fold, j.seed, selections[j.fold], read(j)) for j in tests
        ]
        thresholds[row.label] = row.thresholds(read, selections, data, splits)
        seconds.append(sum(read(job).seconds for job in [*row.validation(splits), *tests]))
    pooled = [pool_tests(results[row.label], data, splits, task=task) for row in rows]
    to_first = differences([(each, pooled[0]) for each in pooled])
    for row, each, difference, took in zip(rows, pooled, to_first, seconds, strict=True):
        report.heads.append(
            head_row(
                row.label, results[row.label], each,
                difference=difference, layers=row.config.layers, seconds=took,
                settings=row.differs_from(config),
            )
        )  # fmt: skip
    if len(rows) > 1:
        choose = partial(
            chosen_by_validation, results, data, splits, task=task, reference=pooled[0]
        )
        report.chosen = choose()
        if len(rows) > ENSEMBLE_HEADS:
            report.ensemble = choose(num_heads=ENSEMBLE_HEADS)
    write_predictions(
        folder.path / "predictions.csv", results, data, splits, thresholds=thresholds, task=task
    )
