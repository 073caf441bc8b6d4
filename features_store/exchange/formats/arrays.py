"""`arrays`: one .npz file with all videos, whose rows are vectors: K = 1, the same T for all.

`X` (N, T, D), `label` (N,), `subset` (N,) and `name` (N,), as the UCF101 features in shared
archives have them. `subset` is 1 for train, 2 for test; we add 3 for val and 0 for no split. Labels
are numbers; where a store has names, they are 1 for the first, and `classes` has the names. -1 is
no label. Not kept: times, groups, cells, frame differences, other layers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from features_store.errors import ContractError, StoreError, UsageError
from features_store.exchange.array_files import Blocks, NpzArray, NpzFile, write_npz
from features_store.exchange.export_folder import ExportFolder
from features_store.exchange.features import Features, ForeignVideo, foreign_features, opened
from features_store.exchange.formats.registry import Format
from features_store.exchange.labels import check_num_videos, name_label, number_labels
from features_store.exchange.options import ImportOptions
from features_store.exchange.selection import Selection
from features_store.exchange.timing import timing_from
from features_store.format.safety import check_own
from features_store.labels import SEPARATOR
from features_store.manifest import ManifestRow

FILE_NAME = "features.npz"
SPLITS = {0: "", 1: "train", 2: "test", 3: "val"}


class Arrays(Format):
    """One file of arrays."""

    def check_export(self, selection: Selection) -> None:
        """Raise `UsageError` for several lengths, several labels a video, and unknown splits."""
        lengths = sorted({selection.num_rows(video_id) for video_id in selection.ids})
        if len(lengths) > 1:
            raise UsageError(
                f"videos have {lengths[0]} to {lengths[-1]} frames, one array needs the same of "
                "all; take `kind` npz"
            )
        for video_id in selection.ids:
            if SEPARATOR in (label := selection.rows[video_id].label):
                raise UsageError(
                    f"video {video_id!r} has the label {label!r}, and this format has one class a "
                    "video; take `kind` npz, or sharma"
                )
            if (split := selection.rows[video_id].split) not in SPLITS.values():
                raise UsageError(
                    f"video {video_id!r} has the split {split!r}; this format knows train, test "
                    "and val, edit manifest.csv or take `kind` npz"
                )

    def export(self, selection: Selection, target: ExportFolder) -> None:
        """Write `features.npz`."""
        target.write_source(FILE_NAME, partial(_write, selection))

    @contextmanager
    def open_features(self, source: Path, options: ImportOptions) -> Iterator[Features]:
        """Open a .npz file, or the `features.npz` of an export."""
        path = source / FILE_NAME if source.is_dir() else source
        if source.is_dir():
            check_own(path)
        if not path.is_file():
            raise UsageError(f"{path} is not there; give the .npz file that holds X, label, name")
        with NpzFile(path) as file:
            array = file.array("X")
            if len(array.header.shape) != 3:
                raise StoreError(
                    f"{array.where} has shape {array.header.shape}; expected (N, T, D)"
                )
            num_videos, num_rows, dim = array.header.shape
            check_num_videos(num_videos, str(path))
            timing = timing_from(options.fps, options.feat_stride, options.feat_num_frames)
            videos = [
                ForeignVideo(
                    row,
                    (num_rows, 1, 1, dim),
                    array.header.dtype,
                    f"{path}: video number {position}",
                    opened(partial(_read_vectors, array, position)),
                    timing,
                )
                for position, row in enumerate(_read_rows(file, num_videos))
            ]
            yield foreign_features(videos, source=path)


def _write(selection: Selection, file: IO[bytes]) -> None:
    ids, rows = selection.ids, [selection.rows[i] for i in selection.ids]
    labels, classes = number_labels([row.label for row in rows], first=1)
    subsets = {split: number for number, split in SPLITS.items()}
    first = selection.vectors(ids[0])
    shape = (len(ids), *first.shape)
    arrays = {
        "X": Blocks(shape, first.dtype, _all_vectors(selection)),
        "label": Blocks.of(np.array(labels, np.int64)),
        "subset": Blocks.of(np.array([subsets[row.split] for row in rows], np.int64)),
        "name": Blocks.of(np.array(ids)),
    }
    write_npz(file, arrays | ({"classes": Blocks.of(np.array(classes))} if classes else {}))


def _all_vectors(selection: Selection) -> Iterator[np.ndarray]:
    for video_id in selection.ids:
        yield from selection.vectors(video_id).blocks


def _read_vectors(array: NpzArray, position: int, start: int, stop: int) -> np.ndarray:
    """Return vectors (n, D) of the video at a position."""
    _, num_rows, dim = array.header.shape
    first = position * num_rows
    return array.values((first + start) * dim, (first + stop) * dim).reshape(-1, dim)


def _read_rows(file: NpzFile, num_videos: int) -> list[ManifestRow]:
    names = _texts(file, "name")
    labels, subsets = _numbers(file, "label"), _numbers(file, "subset")
    classes = _texts(file, "classes") if "classes" in file.names else []
    if not len(names) == len(labels) == len(subsets) == num_videos:
        raise ContractError(
            f"{file.path}: X has {num_videos} videos, name {len(names)}, label {len(labels)}, "
            f"subset {len(subsets)}; they must agree"
        )
    rows = []
    for name, label, subset in zip(names, labels, subsets, strict=True):
        if subset not in SPLITS:
            raise ContractError(
                f"{file.path}: video {name!r} has subset {subset}; expected 1 (train), 2 (test), "
                "3 (val) or 0 (none)"
            )
        text = name_label(label, classes, first=1, where=f"{file.path}: video {name!r}")
        rows.append(ManifestRow(name, name, text, split=SPLITS[subset]))
    return rows


def _table(file: NpzFile, name: str) -> np.ndarray:
    values = file.array(name).table()
    check_num_videos(len(values), f"{file.path}: {name!r}")
    return values


def _numbers(file: NpzFile, name: str) -> Sequence[int]:
    values = _table(file, name)
    if values.dtype.kind not in "iu":
        raise ContractError(f"{file.path}: {name!r} has dtype {values.dtype}; expected int64")
    numbers: list[int] = values.tolist()
    return numbers


def _texts(file: NpzFile, name: str) -> Sequence[str]:
    values = _table(file, name)
    if values.dtype.kind not in "US":
        raise ContractError(f"{file.path}: {name!r} has dtype {values.dtype}; expected text")
    if values.dtype.kind == "U" and values.dtype.itemsize:
        values = values.astype(values.dtype.newbyteorder("="))
        if values.view(np.uint32).max(initial=0) > sys.maxunicode:
            raise ContractError(f"{file.path}: {name!r} is no Unicode text")
    try:
        texts: list[str] = values.astype(str).tolist()
    except (UnicodeDecodeError, ValueError) as err:
        raise ContractError(f"{file.path}: {name!r} is not ASCII or Unicode: {err}") from err
    return texts
