"""Pickles of strangers, seen before they are read: a few bytes can name an object without end.

A tuple that holds another twice, which holds a third twice, and so on, takes a line each, and its
hash as a key of a dict takes twice as long with each.
"""

import pickletools
import zipfile
from pathlib import Path
from typing import Any

MAX_OBJECTS = 2**22  # in one, each counted as often as it is reached
MAX_PICKLE_BYTES = 2**26
_NUM_LEGACY = 5  # pickles at the beginning of a file of before torch 1.6


class NotTakenError(ValueError):
    """A file as torch.save can write it, but none that is loaded here; the text says why."""


def refuse_endless(path: Path, *, is_archive: bool) -> None:
    """Raise `NotTakenError` for what `torch.save` wrote of more objects than a network has."""
    if not is_archive:
        with path.open("rb") as file:
            for _ in range(_NUM_LEGACY):
                _walk(file)
        return
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".pkl"):
                if info.file_size > MAX_PICKLE_BYTES:
                    raise NotTakenError(f"hold {info.filename!r} of {info.file_size} bytes")
                with archive.open(info) as member:
                    _walk(member)


def _walk(file: Any) -> None:
    """Count what each object on the stack of a pickle reaches, as its instructions put it there."""
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[object, int] = {}
    for code, argument, _ in pickletools.genops(file):
        name = code.name
        if "GET" in name:
            stack.append(memo.get(argument, 1))
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif "PUT" in name:
            memo[argument] = stack[-1]
        elif name == "MARK":
            marks.append(len(stack))
        else:
            has_mark = pickletools.markobject in code.stack_before
            num_plain = code.stack_before.index(pickletools.markobject) if has_mark else None
            if num_plain is None:
                start = len(stack) - len(code.stack_before)
            else:
                start = marks.pop() - num_plain
            taken, stack[start:] = sum(stack[start:]), []
            stack += [1 + taken] * len(code.stack_after)
        if stack and stack[-1] > MAX_OBJECTS:
            raise NotTakenError(f"hold an object that reaches more than {MAX_OBJECTS} others")
