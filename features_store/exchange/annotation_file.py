"""`annotations.json`: what ActionFormer and OpenTAD must know of videos to place rows in time.

As in ActivityNet, `database` has for each video `subset` (our split), `duration` in seconds, `fps`,
`frame` (frames of the video, OpenTAD), and `annotations`: a list of `segment` (start and end in
seconds), `label` and `label_id`. Ours are `feat_stride` and `feat_num_frames` (frames behind a row)
for each video, which both projects otherwise take from their configuration, where ActionFormer
calls the latter `num_frames` and OpenTAD has half of it as `offset_frames`.

A store says one thing of a whole video. So labels of segments become the video's label, joined by
`;` where they differ; a list that says more is kept in the manifest's column `annotations`. A video
without segments has no label, unless `has_no_class` (ours) says that it shows none of the classes.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from features_store.errors import ContractError, UsageError
from features_store.exchange.labels import split_of
from features_store.exchange.options import ImportOptions
from features_store.exchange.selection import Selection
from features_store.exchange.timing import Timing, number_text, timing_from
from features_store.format.records import VideoRecord
from features_store.format.safety import read_json
from features_store.labels import NONE_OF_THEM, check_class_name, join_label, split_label
from features_store.manifest import ManifestRow
from features_store.paths import ANNOTATIONS

FILE_NAME = "annotations.json"
COLUMN = "annotations"
HAS_NO_CLASS = "has_no_class"
Segments = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Annotation:
    """What is said of one video; None, 0 and nan are not said.

    Attributes:
        segments: empty when they say no more than the label.
    """

    fps: float | None = None
    feat_stride: float | None = None
    feat_num_frames: int | None = None
    num_frames: int = 0
    duration_seconds: float = math.nan
    split: str = ""
    label: str = ""
    segments: Segments = field(default_factory=list)

    @property
    def timing(self) -> Timing | None:
        """How the rows lie in time."""
        return timing_from(self.fps, self.feat_stride, self.feat_num_frames)

    def row(self, video_id: str) -> ManifestRow:
        """Return the line of the manifest."""
        extra = {}
        if self.timing is not None:
            extra["feat_stride"] = number_text(self.timing.feat_stride)
            extra["feat_num_frames"] = str(self.timing.feat_num_frames)
        if self.segments and not self.is_too_long:
            extra[COLUMN] = self._compact
        return ManifestRow(video_id, video_id, self.label, split=self.split, extra=extra)

    @property
    def _compact(self) -> str:
        return json.dumps(self.segments, separators=(",", ":"))

    @property
    def is_too_long(self) -> bool:
        """Whether the segments are more than a field of a manifest can be."""
        return len(self._compact) > csv.field_size_limit()


def read_annotations(
    folder: Path, options: ImportOptions
) -> tuple[dict[str, Annotation], list[str]]:
    """Return what is said of videos by id, and warnings; options win over the file.

    Without `options.annotations` it is the folder's `annotations.json`, if there is one.
    """
    if options.annotations is None and not os.path.lexists(folder / FILE_NAME):
        return {}, []
    path = folder / FILE_NAME
    if options.annotations is not None:
        path = ANNOTATIONS.require(options.annotations).resolve()
    try:
        document = read_json(path)
    except (OSError, ValueError) as err:
        raise ContractError(f"annotations {path} cannot be read: {err}") from err
    database = document.get("database") if isinstance(document, dict) else None
    if not isinstance(database, dict):
        raise ContractError(f"{path} has no object 'database' with an entry for each video")
    said = {i: _parse(entry, options, f"{path}: {i!r}") for i, entry in database.items()}
    numbers = _number_names([one.label for one in said.values()])
    for video_id, one in said.items():
        if one.segments == _segments_of(one.label, one.duration_seconds, numbers):
            said[video_id] = replace(one, segments=[])
    long = [video_id for video_id, one in said.items() if one.is_too_long]
    warnings = [
        f"{path}: {video_id!r} has too many segments for a manifest; only its labels are kept"
        for video_id in long
    ]
    return said, warnings


def _parse(entry: Any, options: ImportOptions, where: str) -> Annotation:
    if not isinstance(entry, dict):
        raise ContractError(f"{where} is {entry!r}, expected an object")
    segments = entry.get("annotations", [])
    if not isinstance(segments, list) or not all(
        isinstance(s, dict) and isinstance(s.get("label"), str) for s in segments
    ):
        raise ContractError(f"{where}: annotations must be a list of objects with a 'label'")
    if not isinstance(entry.get("subset", ""), str):
        raise ContractError(f"{where}: subset must be a text, got {entry['subset']!r}")
    behind = _whole(entry, "feat_num_frames", where)
    said = Annotation(
        options.fps or _number(entry, "fps", where),
        options.feat_stride or _number(entry, "feat_stride", where),
        options.feat_num_frames or behind,
        _whole(entry, "frame", where) or 0,
        _number(entry, "duration", where) or math.nan,
        split_of(entry.get("subset", "")),
        _label(segments, where) or (NONE_OF_THEM if entry.get(HAS_NO_CLASS) is True else ""),
        segments,
    )
    if said.fps is not None and said.feat_stride is None:
        raise UsageError(f"{where} has a frame rate and no feat_stride; give `feat_stride`")
    return said


def _number(entry: Mapping[str, Any], name: str, where: str) -> float | None:
    value = entry.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 < value < 2**53:
        raise ContractError(f"{where}: {name} must be a positive number, got {value!r}")
    return float(value)


def _whole(entry: Mapping[str, Any], name: str, where: str) -> int | None:
    value = _number(entry, name, where)
    if value is not None and not value.is_integer():
        raise ContractError(f"{where}: {name} must be a whole number, got {value}")
    return None if value is None else int(value)


def _label(segments: Segments, where: str) -> str:
    names = dict.fromkeys(str(segment["label"]).strip() for segment in segments)
    said = [check_class_name(name, where=where) for name in names if name]
    return join_label(said) if said else ""


def to_json(selection: Selection) -> str:
    """Return the file's content for some videos of a store."""
    numbers = _number_names([selection.rows[i].label for i in selection.ids])
    database = {i: _entry(selection, selection.store.video(i), numbers) for i in selection.ids}
    return json.dumps({"database": database}, indent=1)


def _number_names(labels: Sequence[str]) -> dict[str, int]:
    names = {name for label in labels for name in split_label(label)}
    return {name: position for position, name in enumerate(sorted(names))}


def _segments_of(label: str, duration_seconds: float, numbers: Mapping[str, int]) -> Segments:
    """Return one segment over the whole video for each of its labels."""
    known = not math.isnan(duration_seconds)
    segment = {"segment": [0.0, duration_seconds]} if known else {}
    return [segment | {"label": name, "label_id": numbers[name]} for name in split_label(label)]


def _entry(selection: Selection, record: VideoRecord, numbers: Mapping[str, int]) -> dict[str, Any]:
    row = selection.rows[record.id]
    timing = selection.timing(record)
    entry: dict[str, Any] = {"subset": row.split}
    duration = math.nan if _has_span(record) else record.duration_seconds
    if timing is None and duration > 0:
        entry["duration"] = duration
    if timing is not None:
        num_frames, duration = _extent(selection, record, timing)
        entry |= {
            "duration": duration,
            "fps": timing.fps,
            "frame": num_frames,
            "feat_stride": float(timing.feat_stride),
            "feat_num_frames": timing.feat_num_frames,
        }
    if row.label == NONE_OF_THEM:
        entry[HAS_NO_CLASS] = True
    entry["annotations"] = _kept_segments(row) or _segments_of(row.label, duration, numbers)
    return entry


def _extent(selection: Selection, record: VideoRecord, timing: Timing) -> tuple[int, float]:
    """Return frames and seconds of a video, counted in the frames of its timing.

    OpenTAD divides one by the other. Of a time span, and where the video's length is not known,
    they are those that the rows stand for.
    """
    if record.duration_seconds > 0 and not _has_span(record):
        counts_source = timing.fps == record.source_fps and record.num_frames > 0
        frames = record.num_frames if counts_source else round(record.duration_seconds * timing.fps)
        return max(frames, 1), record.duration_seconds
    rows = selection.num_rows(record.id) * timing.feat_stride
    return math.ceil(rows), rows / timing.fps


def _has_span(record: VideoRecord) -> bool:
    return not (math.isnan(record.start_seconds) and math.isnan(record.end_seconds))


def _kept_segments(row: ManifestRow) -> Segments:
    """Return the segments that were imported, unless the label was edited since."""
    try:
        segments = json.loads(row.extra.get(COLUMN, "[]"))
        return segments if _label(segments, COLUMN) == row.label else []
    except (ValueError, TypeError, KeyError, ContractError):
        return []
