"""`cubereel train` as one function: a store in, a run folder with results and checkpoints out."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from features_store.errors import MachineError, UsageError
from features_store.format.outputs import write_atomically
from features_store.paths import NEW_FOLDER
from features_store.store import Store
from pipelines.progress import ProgressLog
from pipelines.training.budget import budgeted_epochs
from pipelines.training.executor import FitExecutor, most_processes
from pipelines.training.planned import FitSettings, Table
from pipelines.training.report import TrainReport, begin_report, identity
from pipelines.training.request import check_request
from pipelines.training.table import TableRow, fill_table, rows_of_table
from pipelines.training.tails import refuse_idle_weights
from pipelines.training.work import FitWork
from train.data.pages import SharedPages
from train.fitting.config import TrainConfig
from train.heads.registry import refuse_wrong_options
from train.protocol.jobs import FitJob
from train.protocol.run_folder import RunFolder, claim
from train.protocol.run_log import RunLog
from train.protocol.table import Row

logger = logging.getLogger("cubereel")


def train(
    store: str | Path,
    *,
    heads: Sequence[str | Row],
    folds: int | None = None,
    seeds: int = 1,
    out: str | Path | None = None,
    device: str = "auto",
    config: TrainConfig | None = None,
    weights: str | Path | None = None,
    revision: str | None = None,
    processes: int | None = None,
    cluster: str = "local",
    memory: float | None = None,
) -> TrainReport:
    """Select, fit and test heads on the videos of a store; called again, it goes on.

    Args:
        heads: as ``NAME`` or ``NAME:option=value,…``, or rows of a table (`load_table`); the first
            is what others are compared with.
        folds: cross-validate over groups; None takes the column ``split`` of the manifest.
        out: run folder; by default a dated one below ``runs``. Fits that it holds are not done
            again, and heads of its table stay in it.
        weights: of the store's backbone, for heads that train its last layers.
        revision: of the store, by its first digits; None is the newest. What others add meanwhile
            is not seen.
        processes: that fit side by side; None takes one for each core of a CPU as soon as that is
            worth while. Results do not depend on it.
        cluster: where these processes run, by the name of an executor.
        memory: gigabytes of clips that are kept in memory; where they are more they are read as
            needed. None is a third of the machine's, or of what is free on a GPU.

    Raises:
        UsageError: an unknown head or option, before anything is read; fits of something else in
            the run folder; no layer that could be trained.
        ContractError: videos without labels, an empty split, or weights that are not the store's.
    """
    config = config or TrainConfig()
    config.check()
    rows = [head if isinstance(head, Row) else Row.parse(head) for head in heads]
    check_request(rows, folds=folds, seeds=seeds)
    _check_heads(rows, weights)
    with Store(store, revision=revision) as opened, SharedPages() as pages:
        opened.check_shards()
        run = Path(out) if out is not None else default_run_folder(opened.path)
        settings = FitSettings.of(
            opened, rows, config,
            folds=folds, device=device, weights=weights, run=run, memory=memory,
        )  # fmt: skip
        processes, table = _load(opened, settings, pages, processes=processes)
        data, splits = table.loaded.data, table.splits
        report = begin_report(opened, table.loaded, splits, run=run, config=config, num_seeds=seeds)
        NEW_FOLDER.require(run)
        folder = RunFolder(run)
        claim(run / "run.json", identity(report, data), below=run)
        epochs = _epochs(folder, settings, table, store=opened, num_seeds=seeds)
        table, settings = table.with_epochs(epochs), replace(settings, epochs=epochs)
        for head in table.heads.values():
            claim(folder.row(head.label), head.document, below=run)
        if out is None:
            logger.info("run folder %s; with `out` %s a run that was stopped goes on", run, run)
        table_rows = rows_of_table(folder, list(table.heads.values()), num_seeds=seeds)
        settings = replace(settings, pages=pages.descriptor)
        here = FitWork(settings, store=opened, table=table)
        with FitExecutor(here, settings, processes=processes, cluster=cluster) as executor:
            _fit_all(table_rows, table, folder, executor)
        fill_table(table_rows, folder, report, data=data, splits=splits, config=config)
        write_atomically(run / "results.json", json.dumps(asdict(report), indent=1).encode())
    return report


def _check_heads(rows: Sequence[Row], weights: str | Path | None) -> None:
    for row in rows:
        refuse_wrong_options(row.choice.name, dict(row.choice.options))
    refuse_idle_weights([row.choice for row in rows], weights)


def _load(
    store: Store, settings: FitSettings, pages: SharedPages, *, processes: int | None
) -> tuple[int | None, Table]:
    """Return the table, its clips in shared pages if several processes may fit, and how many may.

    Where nobody says how many and there is no room for such pages, it is this one.
    """
    if (processes or most_processes(settings)) == 1:
        return processes, Table.load(store, settings, None)
    try:
        return processes, Table.load(store, settings, pages)
    except MachineError as err:
        if processes is not None:
            raise
        logger.info("all fits are done in this process: %s", err)
        return 1, Table.load(store, settings, None)


def _epochs(
    folder: RunFolder, settings: FitSettings, table: Table, *, store: Store, num_seeds: int
) -> dict[str, int]:
    """Return the epochs of heads that have a budget; what was found before holds."""
    budgeted = [head for head in table.heads.values() if head.config.budget is not None]
    if not budgeted:
        return {}
    with FitWork(settings, store=store, table=table) as work:
        return {
            head.label: folder.epochs(head.label)
            or budgeted_epochs(head, partial(work.data_of, head), table.splits, num_seeds=num_seeds)
            for head in budgeted
        }


def _fit_all(
    rows: Sequence[TableRow], table: Table, folder: RunFolder, executor: FitExecutor
) -> None:
    """Do what is not done of the rows that are asked for: first what validation chooses by."""
    asked = [row for row in rows if row.label in table.heads]
    splits = table.splits
    validation = [job for row in asked for job in row.validation(splits)]
    num_tests = sum(row.num_seeds for row in asked) * len(splits)
    log = RunLog(folder)
    with ProgressLog("train", total=len(validation) + num_tests, unit="fits") as progress:
        _run(validation, folder, executor, progress, log)
        tests = [j for r in asked for j in r.tests(r.selections(folder.read, splits))]
        _run(tests, folder, executor, progress, log)


def _run(
    jobs: Sequence[FitJob],
    folder: RunFolder,
    executor: FitExecutor,
    progress: ProgressLog,
    log: RunLog,
) -> None:
    """Do those of the jobs that are not done.

    Raises:
        UsageError: a fit diverged that is to be tested.
    """
    log.note(jobs)  # those whose run was ended before it could
    missing = folder.missing(jobs)
    progress.advance(len(jobs) - len(missing))
    with closing(executor.run(missing)) as done:
        for each in done:
            log.note(each.group.jobs)
            progress.advance(len(each.group.jobs) - 1)
            progress.step(each.group.name)
    for job in jobs:
        if job.inner is None and not np.isfinite(folder.read(job).probs).all():
            raise UsageError(
                f"{job.head} diverged in fold {job.fold}, seed {job.seed}, at learning rate "
                f"{job.candidate.learning_rate:g}; give smaller `learning_rates`"
            )


def default_run_folder(store: Path) -> Path:
    """Return a dated folder of the store's name."""
    return Path("runs") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{store.stem}"
