"""`sharma`: the layout of Sharma, Kiros and Salakhutdinov, "Action Recognition using Visual
Attention" (2015).

For each split, `<prefix>_features.h5` with a dataset `features` (all frames, K·K·D) float32, and
with one line a video `<prefix>_framenum.txt`, `<prefix>_filename.txt`, `<prefix>_labels.txt`: a
number, or 0 and 1 for every class separated by commas. Their files come from MATLAB: their
data_handler.py reads a row as ``reshape(49, 1024, order="F")``, and their pictures draw position p
of the 49 at row p // 7, column p % 7. So the value of cell (y, x), channel c stands at
c·K·K + y·K + x.

Not kept: times, groups, frame differences, other layers. Ours alone is `<prefix>_classes.txt`, the
names of classes in the order of their numbers. A label -1 says that none is known; with 0 and 1 for
every class, -1 for each of them. In the manifest such labels have `;` between the classes, and all
0 is a lone `;`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import h5py
import numpy as np
from einops import rearrange

from features_store.errors import ContractError, UsageError
from features_store.exchange.export_folder import ExportFolder
from features_store.exchange.features import Features, ForeignVideo, foreign_features, opened
from features_store.exchange.formats.registry import Format
from features_store.exchange.hdf5_rows import Hdf5Rows
from features_store.exchange.labels import label_lines, parse_labels, read_lines, split_of
from features_store.exchange.options import ImportOptions
from features_store.exchange.selection import Selection
from features_store.exchange.timing import timing_from
from features_store.format.layout import LIBVER, chunk_rows
from features_store.format.safety import check_own
from features_store.manifest import ManifestRow

DATASET = "features"
GRID_SIZE = 7  # of GoogLeNet, which they used
_H5 = "_features.h5"
NO_SPLIT = "all"
_PREFIX_OF_SPLIT = {"": NO_SPLIT, "val": "valid", "validation": "valid"}
_SAFE = re.compile(r"[A-Za-z0-9_.-]+")
_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3  # filters that every HDF5 library has


def to_rows(cubes: np.ndarray) -> np.ndarray:
    """Return rows (n, K·K·D) of cubes (n, K, K, D).

    >>> to_rows(np.arange(8).reshape(1, 2, 2, 2)).tolist()
    [[0, 2, 4, 6, 1, 3, 5, 7]]
    """
    rows: np.ndarray = rearrange(cubes, "n y x d -> n (d y x)")
    return rows


def to_cubes(rows: np.ndarray, grid_size: int) -> np.ndarray:
    """Return cubes (n, K, K, D) of rows (n, K·K·D)."""
    cubes: np.ndarray = rearrange(rows, "n (d y x) -> n y x d", y=grid_size, x=grid_size)
    return cubes


class Sharma(Format):
    """Four or five files a split."""

    has_cells = True
    options = (*Format.options, "grid_size")

    def check_export(self, selection: Selection) -> None:
        """Raise `UsageError` for splits that name no file and ids that cannot stand on a line."""
        for prefix in _by_prefix(selection):
            if not _SAFE.fullmatch(prefix):
                raise UsageError(f"the split {prefix!r} cannot name files; edit it in manifest.csv")
        label_lines([selection.rows[i] for i in selection.ids])
        for video_id, row in selection.rows.items():
            for text in (video_id, row.label):
                if text != text.strip() or len(text.splitlines()) > 1:
                    raise UsageError(
                        f"{text!r} of video {video_id!r} cannot stand on a line of a file"
                    )

    def export(self, selection: Selection, target: ExportFolder) -> None:
        """Write four or five files a split."""
        labels = label_lines([selection.rows[i] for i in selection.ids])
        line_of = dict(zip(selection.ids, labels.lines, strict=True))
        for prefix, ids in _by_prefix(selection).items():
            target.write_source(prefix + _H5, partial(_write_h5, selection, ids))
            columns = {
                "framenum": (str(selection.num_rows(i)) for i in ids),
                "filename": ids,
                "labels": (line_of[i] for i in ids),
            }
            for name, lines in columns.items():
                target.write_small(f"{prefix}_{name}.txt", _text(lines))
            if labels.classes:
                target.write_small(f"{prefix}_classes.txt", _text(labels.classes))

    @contextmanager
    def open_features(self, source: Path, options: ImportOptions) -> Iterator[Features]:
        """Open one `<prefix>_features.h5`, or all in a folder; the prefix becomes the split."""
        paths = sorted(source.glob(f"*{_H5}")) if source.is_dir() else [source]
        if not paths or not all(path.name.endswith(_H5) for path in paths):
            raise UsageError(
                f"{source} is or holds no file named <prefix>{_H5}, such as train{_H5}"
            )
        if source.is_dir():
            for path in paths:
                check_own(path)
        videos = [video for path in paths for video in _open_videos(path, options)]
        yield foreign_features(videos, source=source)


def _by_prefix(selection: Selection) -> dict[str, list[str]]:
    ids: dict[str, list[str]] = {}
    for video_id in selection.ids:
        split = selection.rows[video_id].split
        ids.setdefault(_PREFIX_OF_SPLIT.get(split, split), []).append(video_id)
    return ids


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _write_h5(selection: Selection, ids: list[str], target: IO[bytes]) -> None:
    row_values = int(np.prod(selection.layer.cube_shape))
    num_rows = sum(map(selection.num_rows, ids))
    chunk = (chunk_rows(4 * row_values, num_rows), row_values)
    with h5py.File(target, "w", libver=LIBVER) as file:
        dataset = file.create_dataset(DATASET, (num_rows, row_values), "<f4", chunks=chunk)
        start = 0
        for video_id in ids:
            selection.sound_record(video_id)
            for block in selection.cubes(video_id).blocks:
                dataset[start : start + len(block)] = to_rows(block)
                start += len(block)


def _read_cubes(
    dataset: Hdf5Rows, offset: int, grid_size: int, start: int, stop: int
) -> np.ndarray:
    """Return cubes (n, K, K, D) of the video that begins at an offset."""
    return to_cubes(dataset[offset + start : offset + stop], grid_size)


def _open_videos(path: Path, options: ImportOptions) -> list[ForeignVideo]:
    prefix = path.name.removesuffix(_H5)
    names = read_lines(path.with_name(f"{prefix}_filename.txt"))
    lengths = _read_lengths(path.with_name(f"{prefix}_framenum.txt"))
    labels = parse_labels(
        path.with_name(f"{prefix}_labels.txt"), path.with_name(f"{prefix}_classes.txt")
    )
    if not len(names) == len(lengths) == len(labels):
        raise ContractError(
            f"beside {path} there are {len(lengths)} lengths, {len(names)} file names and "
            f"{len(labels)} labels; each of the text files must have one line a video"
        )
    grid_size = GRID_SIZE if options.grid_size is None else options.grid_size
    dataset = _open_dataset(path, num_rows=sum(lengths), grid_size=grid_size)
    # A row is a frame here, so a frame rate alone says when.
    stride = 1 if options.feat_stride is None and options.fps else options.feat_stride
    timing = timing_from(options.fps, stride, options.feat_num_frames)
    split = "" if prefix == NO_SPLIT else split_of(prefix)
    offsets = np.cumsum([0, *lengths]).tolist()
    videos = []
    for name, length, (label, extra), offset in zip(names, lengths, labels, offsets, strict=False):
        where = f"{path}: video {name!r}"
        read_cubes = partial(_read_cubes, dataset, offset, grid_size)
        videos.append(
            ForeignVideo(
                ManifestRow(name, name, label, split=split, extra=extra),
                (length, grid_size, grid_size, dataset.shape[1] // grid_size**2),
                dataset.dtype,
                where,
                opened(read_cubes),
                timing,
            )
        )
    return videos


def _read_lengths(path: Path) -> list[int]:
    lengths = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.isascii() or not line.isdigit() or not 0 < len(line) < 10 or int(line) < 1:
            raise ContractError(f"{path}, line {number}: expected a number of frames, got {line!r}")
        lengths.append(int(line))
    return lengths


def _open_dataset(path: Path, *, num_rows: int, grid_size: int) -> Hdf5Rows:
    dataset = Hdf5Rows(path, DATASET)
    if len(dataset.shape) != 2 or dataset.dtype.kind != "f" or dataset.shape[0] != num_rows:
        raise ContractError(
            f"{path}: {DATASET!r} is {dataset.shape} of {dataset.dtype}; expected float32 rows, "
            f"{num_rows} of them, which is the sum of framenum.txt"
        )
    if grid_size < 1 or dataset.shape[1] % grid_size**2:
        raise UsageError(
            f"{path}: rows of {dataset.shape[1]} values are no cubes of {grid_size}×{grid_size} "
            "cells; give `grid_size`"
        )
    return dataset
