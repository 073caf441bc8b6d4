"""`cubereel train` as one function: a store in, a run folder with results and checkpoints out."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from extract.compute.machine import keep_freed_memory
from features_store.format.disk import check_folder, write_atomically
from features_store.store import Store
from pipelines.machine.devices import choose_device
from pipelines.training.planned import PlannedHead, fit_planned, plan_head
from pipelines.training.predictions import write_predictions
from pipelines.training.report import TrainReport, begin_report, identity
from pipelines.training.request import check_request
from pipelines.training.tails import refuse_idle_weights
from train.fitting.config import TrainConfig
from train.fitting.tasks import task_of
from train.heads.registry import refuse_wrong_options
from train.protocol.grid import Row
from train.protocol.labelled import load_labelled, make_splits
from train.protocol.results import Pooled, chosen_by_validation, head_row, pool_tests
from train.protocol.run_folder import claim
from train.protocol.runs import FoldResult, Labelled
from train.protocol.splits import Split

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
) -> TrainReport:
    """Select, fit and test heads on the videos of a store; called again, it goes on.

    Args:
        heads: as ``NAME`` or ``NAME:option=value,…``, or rows of a grid (`load_grid`); the first is
            what others are compared with.
        folds: cross-validate over groups; None takes the column ``split`` of the manifest.
        out: run folder; by default a dated one below ``runs``. Fits that it holds are not done
            again.
        weights: of the store's backbone, for heads that train its last layers.
        revision: of the store, by its first digits; None is the newest. What others add meanwhile
            is not seen.

    Raises:
        UsageError: an unknown head or option, before anything is read; fits of something else in
            the run folder; no layer that could be trained.
        ContractError: videos without labels, an empty split, or weights that are not the store's.
    """
    config = config or TrainConfig()
    config.check()
    rows = [head if isinstance(head, Row) else Row.parse(head) for head in heads]
    check_request(rows, folds=folds, seeds=seeds)
    for row in rows:
        refuse_wrong_options(row.choice.name, dict(row.choice.options))
    refuse_idle_weights([row.choice for row in rows], weights)
    keep_freed_memory()
    with Store(store, revision=revision) as opened:
        opened.check_shards()
        loaded = load_labelled(opened, config, choose_device(device))
        data = loaded.data
        planned = [plan_head(row, data, config=config, weights=weights) for row in rows]
        splits = make_splits(opened, data, folds=folds, config=config)
        run = Path(out) if out is not None else default_run_folder(opened.path)
        report = begin_report(opened, loaded, splits, run=run, config=config, num_seeds=seeds)
        check_folder(run)
        claim(run / "run.json", identity(report, data))
        if out is None:
            logger.info("run folder %s; with `out` %s a run that was stopped goes on", run, run)
        results = _fit_all(planned, data, splits, report, config)
        write_predictions(run / "predictions.csv", results, data, splits, task=task_of(config))
        document = json.dumps(asdict(report), indent=1).encode()
        write_atomically(run / "results.json", document)
    return report


def _fit_all(
    heads: Sequence[PlannedHead],
    data: Labelled,
    splits: Sequence[Split],
    report: TrainReport,
    config: TrainConfig,
) -> dict[str, list[FoldResult]]:
    """Fit and test every head; write its row into the report, and what validation chose."""
    task = task_of(config)
    results: dict[str, list[FoldResult]] = {}
    reference: Pooled | None = None
    for head in heads:
        fits, seconds = fit_planned(head, splits, report)
        pooled = pool_tests(fits, data, splits, task=task)
        reference = reference or pooled
        report.heads.append(
            head_row(
                head.label, fits, pooled,
                reference=reference, layers=head.data.clips.layers, seconds=seconds,
                settings=head.differs_from(config),
            )
        )  # fmt: skip
        results[head.label] = fits
    if len(heads) > 1:
        assert reference is not None
        report.chosen = chosen_by_validation(results, data, splits, task=task, reference=reference)
    return results


def default_run_folder(store: Path) -> Path:
    """Return a dated folder of the store's name."""
    return Path("runs") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{store.stem}"
