"""`cubereel store export` as one function: store in, folder out, safe to run again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from features_store.errors import UsageError
from features_store.exchange.export_folder import ExportFolder
from features_store.exchange.formats.registry import find_format
from features_store.exchange.selection import KEEPS_ALL, Selection, check_pool
from features_store.store import Store


@dataclass
class ExportReport:
    """What one run of `export_store` did; files of an earlier, killed run are not written again."""

    folder: str
    kind: str
    num_videos: int
    num_frames: int
    num_files_written: int
    notes: list[str] = field(default_factory=list)


def export_store(
    store_path: str | Path,
    folder: str | Path,
    *,
    kind: str,
    layer: str | None = None,
    video: Sequence[str] | None = None,
    pool: str | None = None,
) -> ExportReport:
    """Export videos of a store in another format; see `cubereel store export --help`.

    Args:
        kind: of the format.
        layer: None is the top one, or all where the format keeps all.
        video: ids; None is all videos.
        pool: how cubes become one vector, where the format has no cells.

    Raises:
        UsageError: format, layer, video or way of pooling do not exist or do not fit, or the
            folder holds something else.
        StoreError: the store is damaged.
    """
    layout = find_format(kind)
    with Store(store_path) as store:
        selection = Selection(
            store,
            layer=layer,
            all_layers=KEEPS_ALL in layout.keeps,
            ids=video,
            pool=check_pool(pool),
        )
        if layout.has_cells and pool is not None:
            raise UsageError(f"`pool` is for formats without cells; {kind!r} keeps all cells")
        if not layout.has_cells:
            selection.require_vectors()
        layout.check_export(selection)
        with ExportFolder(Path(folder), {"format": kind} | selection.describe()) as target:
            layout.export(selection, target)
        return ExportReport(
            str(folder),
            kind,
            len(selection.ids),
            sum(map(selection.num_rows, selection.ids)),
            target.num_written,
            selection.notes(layout.keeps),
        )
