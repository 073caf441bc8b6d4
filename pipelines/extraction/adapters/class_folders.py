"""A folder of class folders: each video's label is the name of the folder that it lies in."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from features_store.manifest import ManifestRow
from pipelines.extraction.adapters import Listed

# Of what FFmpeg demuxes; a name that is more often that of something else is not here.
VIDEO_SUFFIXES = (
    *(".264", ".265", ".3g2", ".3gp", ".3gp2", ".3gpp", ".amv", ".asf", ".av1", ".avi", ".bik"),
    *(".dav", ".divx", ".dv", ".dvr-ms", ".evo", ".f4v", ".flc", ".fli", ".flv", ".gif", ".gxf"),
    *(".h261", ".h263", ".h264", ".h265", ".hevc", ".ismv", ".ivf", ".ivr", ".m1v", ".m2p"),
    *(".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mk3d", ".mkv", ".mlv"),
    *(".mod", ".mov", ".mp4", ".mp4v", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nsv"),
    *(".nut", ".obu", ".ogg", ".ogm", ".ogv", ".ogx", ".pva", ".qt", ".rm", ".rmvb", ".roq"),
    *(".smk", ".swf", ".tod", ".tp", ".trp", ".ts", ".vc1", ".viv", ".vob", ".vro", ".webm"),
    *(".wm", ".wmv", ".wtv", ".xmv", ".y4m"),
)
MOST_KINDS = 6  # of files that are passed over, in a message


def recognises(source: Path) -> bool:
    """Whether the source is of this form."""
    return source.is_dir()


def read(source: Path) -> Listed:
    """Return every video below a folder, labelled by the folder it lies in."""
    rows = []
    seen = set()
    passed_over: Counter[str] = Counter()
    top = str(source)
    for parent, folders, files in os.walk(top, followlinks=True, onerror=_raise):
        if (real := os.path.realpath(parent)) in seen:
            continue  # links that lead round in a circle
        seen.add(real)
        passed_over["hidden folder"] += sum(1 for name in folders if name.startswith("."))
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        below = parent[len(top) :].strip("/")
        for name in sorted(files):
            if (kind := _kind_of_other(name)) is not None:
                passed_over[kind] += 1
                continue
            path = f"{below}/{name}" if below else name
            rows.append(ManifestRow("", path, label=below.rpartition("/")[2]))
    return Listed(rows, frozenset({"path", "label"}), _notes(+passed_over))


def _kind_of_other(name: str) -> str | None:
    """Return what a file is that is not taken; None for a video."""
    if name.startswith("."):
        return "hidden file"
    suffix = Path(name).suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return None
    return suffix or "without a suffix"


def _notes(passed_over: Counter[str]) -> tuple[str, ...]:
    """Say in one line what was passed over and why."""
    if not passed_over:
        return ()
    kinds = [f"{count} {kind}" for kind, count in passed_over.most_common(MOST_KINDS)]
    if (more := len(passed_over) - MOST_KINDS) > 0:
        kinds.append(f"and {more} other kinds")
    note = (
        f"{passed_over.total()} files and folders are passed over, whose names are not those of "
        f"videos: {', '.join(kinds)}; to take some of them, list them in a CSV or a text list"
    )
    return (note,)


def _raise(error: OSError) -> None:
    raise error
