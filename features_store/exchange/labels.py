"""Labels as numbers and back. Names come with the numbers, so that labels return as names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from features_store.errors import ContractError, UsageError
from features_store.format.inputs import MAX_JSON_BYTES, read_text
from features_store.format.safety import check_own
from features_store.labels import SEPARATOR, check_class_name, classes_of, join_label
from features_store.manifest import SPLITS, ManifestRow

UNLABELLED = -1
MAX_LINES_BYTES = 2**28
MAX_VIDEOS = 2**18  # of one file: each takes about 2 kB of memory
MAX_CLASSES = 2**16
MAX_LABEL_BYTES = 2**26  # of all videos with several labels, written out
NUM_CLASSES = "num_classes"  # column of the manifest: of a set with several labels a video


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file of bounded size, without blanks around them."""
    check_own(path)
    if not path.is_file():
        raise ContractError(f"{path} is missing or no file; it must have one line a video")
    try:
        text = read_text(path, most_bytes=MAX_JSON_BYTES)
    except ValueError as err:
        raise ContractError(f"{path} is not UTF-8 text, or too much of it: {err}") from err
    check_num_videos(text.count("\n"), str(path))
    return [line.strip() for line in text.rstrip("\r\n").split("\n")]


def check_num_videos(number: int, where: str) -> None:
    """Raise `ContractError` for more videos than a file of many can have."""
    if number > MAX_VIDEOS:
        raise ContractError(
            f"{where} is of {number} videos; a file may be of {MAX_VIDEOS}, divide it into several"
        )


@dataclass(frozen=True)
class LabelLines:
    """A line for each video: a number, or 0 and 1 for every class; −1 where nothing is known.

    `classes` has their names unless labels are numbers themselves.
    """

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
    if width > MAX_CLASSES:
        raise ContractError(f"{path} is of {width} classes, more than {MAX_CLASSES}")
    of_all, num_bytes = {NUM_CLASSES: str(width)}, 0
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
        num_bytes += sum(map(len, names))
        if num_bytes > MAX_LABEL_BYTES:
            raise ContractError(f"{where}: the labels come to more than {MAX_LABEL_BYTES} bytes")
        labels.append((join_label(names) if is_known else "", of_all))
    return labels


def _number(line: str, where: str) -> int:
    try:
        return int(line)
    except ValueError:
        raise ContractError(f"{where}: expected the number of a class, got {line!r}") from None


_WORDS = {
    "train": ("training",),
    "val": ("valid", "validation"),
    "test": ("testing",),
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in (split, *words)}


def number_labels(labels: Sequence[str], *, first: int) -> tuple[list[int], list[str]]:
    """Return a number for each label, and the names of classes in the order of their numbers.

    Labels that are all numbers stay what they are and have no names.

    >>> number_labels(["run", "", "jump"], first=1)
    ([2, -1, 1], ['jump', 'run'])
    >>> number_labels(["7", "12"], first=0)
    ([7, 12], [])
    """
    said = set(labels) - {""}
    if all(_is_number(label) for label in said):
        return [int(label) if label else UNLABELLED for label in labels], []
    classes = sorted(said)
    numbers = {name: first + position for position, name in enumerate(classes)} | {"": UNLABELLED}
    return [numbers[label] for label in labels], classes


def name_label(number: int, classes: Sequence[str], *, first: int, where: str) -> str:
    """Return the label that a number stands for: a name where there are names.

    >>> name_label(2, ["jump", "run"], first=1, where="labels.txt")
    'run'
    """
    if number == UNLABELLED:
        return ""
    if not classes and number >= 0:
        return str(number)
    if not first <= number < first + len(classes):
        raise ContractError(
            f"{where}: label {number} is none of the {len(classes)} classes, which are "
            f"{first} to {first + len(classes) - 1}; {UNLABELLED} stands for no label"
        )
    return check_class_name(classes[number - first], where=where)


def _is_number(label: str) -> bool:
    return len(label) < 19 and label.isascii() and label.isdigit() and str(int(label)) == label


def split_of(word: str) -> str:
    """Return our name of a split that others call by another word; unknown words stay.

    >>> split_of("Validation"), split_of("testing"), split_of("fold 3")
    ('val', 'test', 'fold 3')
    """
    return _SPLIT_OF.get(word.strip().lower(), word.strip())


def unknown_splits(splits: Iterable[str]) -> list[str]:
    """Return a warning when there are splits of other names than ours."""
    unknown = sorted(set(splits) - {"", *SPLITS})
    if not unknown:
        return []
    return [
        f"{unknown[0]!r} is no split that training knows ({', '.join(_WORDS)}); "
        + (f"there are {len(unknown)} such; " if len(unknown) > 1 else "")
        + "edit manifest.csv"
    ]
