"""Which videos can be learnt from: those with a label, with their classes and groups.

`train` and `manifest` both ask here, so that they speak of the same splits.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features_store.errors import ContractError
from features_store.manifest import ManifestRow

logger = logging.getLogger("cubereel")


@dataclass(frozen=True)
class LabelledRows:
    """Rows that have a label.

    Attributes:
        labels: positions in `classes`.
        groups: what the manifest says; a file without a group is one of its own.
    """

    rows: tuple[ManifestRow, ...]
    labels: np.ndarray
    groups: np.ndarray
    classes: tuple[str, ...]

    @property
    def ids(self) -> list[str]:
        """Their video ids."""
        return [row.video_id for row in self.rows]


def label_rows(rows: Iterable[ManifestRow], *, manifest: Path, num_videos: int) -> LabelledRows:
    """Return the rows that have a label, in their order.

    Args:
        manifest, num_videos: where the rows are from and of how many videos, for the error.

    Raises:
        ContractError: there are labels of fewer than two classes.
    """
    labelled = tuple(row for row in rows if row.label)
    classes = tuple(sorted({row.label for row in labelled}))
    if len(classes) < 2:
        said = f"only the label {classes[0]!r}" if classes else "no labels"
        raise ContractError(
            f"{manifest} has {said} for its {num_videos} videos; "
            "fill its column 'label' with two classes or more"
        )
    labels = np.array([classes.index(row.label) for row in labelled])
    return LabelledRows(labelled, labels, np.array(group_names(labelled)), classes)


def group_names(rows: Iterable[ManifestRow]) -> list[str]:
    """Return the group of each row; spans of a file without a group share one."""
    return [row.group or f"video {row.path}" for row in rows]


def warn_of_groups(rows: Sequence[ManifestRow]) -> None:
    """Say of how many videos the manifest says no group."""
    if ungrouped := sum(1 for row in rows if not row.group):
        logger.warning("%d of %d videos have no group: each file is its own", ungrouped, len(rows))
