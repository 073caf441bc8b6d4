"""Labels as numbers and back. Names come with the numbers, so that labels return as names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from features_store.errors import ContractError
from features_store.labels import check_class_name
from features_store.manifest import SPLITS

UNLABELLED = -1
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
