"""`predictions.csv`: what every head said of every test video, so that tables can be redone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from features_store.format.outputs import write_atomically
from features_store.labels import join_label
from features_store.tables import table_text
from pipelines.training.spreadsheets import quoted
from pipelines.training.verdict import predicted_label
from train.data.labels import as_table
from train.fitting.tasks import Task
from train.protocol.runs import FoldResult, Labelled
from train.protocol.splits import Split


def write_predictions(
    path: Path,
    results: Mapping[str, Sequence[FoldResult]],
    data: Labelled,
    splits: Sequence[Split],
    *,
    thresholds: Mapping[str, Sequence[Sequence[float]]],
    task: Task,
) -> None:
    """Write one line per head, seed and test video, with a column of probability per class.

    What a spreadsheet would run as a formula begins with an apostrophe. Videos of one ``set`` are
    tied, by their group, their file or their content.

    Args:
        thresholds: of every head, fold and class, see `train.fitting.tasks.Task.predicted`.
    """
    labels = as_table(data.labels, len(data.classes))
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ["head", "fold", "seed", "video_id", "group", "set", "label", "prediction"]
    table = [[*columns, *(f"p({name})" for name in data.classes)]]
    for label, folds in results.items():
        for result in folds:
            for video, probs in zip(splits[result.fold].test, result.probs, strict=True):
                ties = [data.group_names[video], str(data.groups[video])]
                said = [data.clips.video_ids[video], *ties]
                truth = join_label(data.classes[i] for i in np.flatnonzero(labels[video]))
                of_classes = thresholds[label][result.fold]
                said_label = predicted_label(probs, data.classes, task, thresholds=of_classes)
                names = [truth, said_label]
                shares = (f"{p:.6f}" for p in probs)
                fit = [quoted(label), str(result.fold), str(result.seed)]
                table.append([*fit, *(quoted(str(text)) for text in (*said, *names)), *shares])
    write_atomically(path, table_text(table).encode())
