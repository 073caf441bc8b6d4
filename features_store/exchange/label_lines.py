"""Labels in the text files of the Sharma layout: a number a video, or 0 and 1 for every class.

-1 says that nothing is known of a video, in the place of the number or of every 0 and 1.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from features_store.errors import ContractError, UsageError
from features_store.exchange.labels import UNLABELLED, name_label, number_labels
from features_store.exchange.text_files import read_lines
from features_store.labels import SEPARATOR, classes_of, join_label
from features_store.manifest import ManifestRow

MAX_LINES_BYTES = 2**28
NUM_CLASSES = "num_classes"  # column of the manifest: of a set with several labels a video


@dataclass(frozen=True)
class LabelLines:
    """A line for each video; `classes` has their names unless labels are numbers themselves."""

    lines: list[str]
    classes: list[str]


def label_lines(rows: Sequence[ManifestRow]) -> LabelLines:
    """Return the lines for the labels of some videos."""
    labels = [row.label for row in rows]
    said = [
        int(n) for row in rows if (n := row.extra.get(NUM_CLASSES, "")).isdecimal() and len(n) < 10
    ]
    if not said and not any(SEPARATOR in label for label in labels):
        numbers, classes = number_labels(labels, first=0)
        return LabelLines(list(map(str, numbers)), classes)
    of_video = [classes_of(row) for row in rows]
    flat = [name for names in of_video for name in names]
    numbers, classes = number_labels(flat, first=0)
    number_of = dict(zip(flat, numbers, strict=True))
    width = len(classes) or max([*said, *(number + 1 for number in numbers)], default=0)
    if width < 2:
        raise UsageError(
            f"0 and 1 for {width} classes are no line of several labels; say in the column "
            f"{NUM_CLASSES} of manifest.csv how many classes there are, or take another format"
        )
    if 2 * width * len(rows) > MAX_LINES_BYTES:
        raise UsageError(
            f"{len(rows)} videos with 0 and 1 for {width} classes are too much text; correct label "
            f"and {NUM_CLASSES} in manifest.csv, or take another format"
        )
    lines = []
    for label, names in zip(labels, of_video, strict=True):
        has = {number_of[name] for name in names}
        flags = (int(number in has) if label else UNLABELLED for number in range(width))
        lines.append(",".join(map(str, flags)))
    return LabelLines(lines, classes)


def parse_labels(path: Path, classes_path: Path) -> list[tuple[str, Mapping[str, str]]]:
    """Return label and further manifest columns of every video."""
    classes = read_lines(classes_path) if os.path.lexists(classes_path) else []
    lines = read_lines(path)
    is_multi = any("," in line for line in lines)
    width = lines[0].count(",") + 1
    labels: list[tuple[str, Mapping[str, str]]] = []
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        if not is_multi:
            labels.append((name_label(_number(line, where), classes, first=0, where=where), {}))
            continue
        flags = line.split(",")
        is_known = set(flags) != {str(UNLABELLED)}
        if len(flags) != width or (is_known and set(flags) - {"0", "1"}):
            raise ContractError(
                f"{where}: expected {width} times 0 or 1 with commas between them, got {line!r}"
            )
        names = [
            name_label(i, classes, first=0, where=where)
            for i, flag in enumerate(flags)
            if flag == "1"
        ]
        labels.append((join_label(names) if is_known else "", {NUM_CLASSES: str(width)}))
    return labels


def _number(line: str, where: str) -> int:
    try:
        return int(line)
    except ValueError:
        raise ContractError(f"{where}: expected the number of a class, got {line!r}") from None
