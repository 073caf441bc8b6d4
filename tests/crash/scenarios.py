"""The ways of writing a store that are killed. Each may be run again on what is left."""

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from features_store.exchange import FORMATS, ImportOptions, export_store, import_features
from features_store.format.layout import LayerShape
from features_store.session import StoreSession
from features_store.shards.writer import ShardWriter
from features_store.store import Store
from features_store.unit_writer import UnitWriter
from features_store.verbs.merge import append_stores, merge_stores
from features_store.verbs.repair import repair_store
from features_store.verbs.reshape import RepackOptions, repack_store
from pipelines.extraction.extract import extract
from pipelines.extraction.options import ExtractionOptions
from tests.clips import textured_frames, write_classes
from tests.stores import (
    add_unit,
    commit,
    frames,
    header,
    killed_before_the_rename,
    make_store,
)
from tests.synthetic import cut_off, write_video

START = "start.cubes"


@dataclass(frozen=True)
class Scenario:
    """One way of writing a store.

    Attributes:
        prepare: fills a folder with what `run` reads and, where the store is to exist before,
            with that store, named `START`.
        run: called with that folder and the store's path.
        mends: the store is damaged before, so that it need not be sound until `run` has ended.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path, Path], None]
    mends: bool = False


def _prepare_videos(folder: Path) -> None:
    write_classes(folder, per_class=3, num_frames=6)
    (folder / "dark" / "broken.mp4").write_bytes(b"no video")
    pictures, front = textured_frames(6, seed=9, speed=2), {"movflags": "faststart"}
    cut = write_video(folder / "dark" / "cut.mp4", pictures, fps=10, container_options=front)
    cut_off(cut, keep=0.7)
    with (folder / "manifest.csv").open("a") as manifest:
        manifest.write("dark/broken.mp4,dark,g9,train\ndark/cut.mp4,dark,g9,train\n")


def _extract(folder: Path, store: Path) -> None:
    options = ExtractionOptions(
        backbone="tiny:conv", fps="10", batch_size=4, device="cpu", partial="keep"
    )
    extract(folder, out=store, options=options)


# About 20 rows a chunk, so that a shard has several. Every length tells its video.
HEADER = header(layers=(LayerShape("top", 7, 256),))
UNITS = [{"run/0": 13, "walk/0": 11, "walk/1": 9}, {"run/1": 17, "run/2": 5, "walk/2": 8}]


def _prepare_replaced(folder: Path) -> None:
    """Make a store with other content of two videos, to be superseded, and one to be kept."""
    make_store(folder / START, {"run/0": 4, "run/1": 6, "kept/0": 7}, store_header=HEADER)


def _write_units(_: Path, store: Path) -> None:
    with StoreSession(store, HEADER, run_id=secrets.token_hex(8)) as writer:
        for share, lengths in zip((0.5, 1), UNITS, strict=True):
            missing = {i: n for i, n in lengths.items() if not _is_there(writer, i, n)}
            if missing:
                # The first is planned too small and moves to a larger shard on its way; the
                # second fits, so that it is sealed as it is.
                rows = int(share * sum(missing.values()))
                with writer.unit(rows=rows, video_ids=list(missing)) as unit:
                    unit.write_rows(frames(2, seed=0, store_header=HEADER))
                    unit.abandon()
                    for video_id, length in missing.items():
                        _add_in_blocks(unit, video_id, length)


def _is_there(writer: StoreSession, video_id: str, length: int) -> bool:
    record = writer.find(video_id)
    return record is not None and record.length == length


def _add_in_blocks(unit: UnitWriter, video_id: str, length: int) -> None:
    rows = frames(length, seed=length, store_header=HEADER)
    for start in range(0, length, 4):
        unit.write_rows({path: array[start : start + 4] for path, array in rows.items()})
    commit(unit, video_id)


def _prepare_sources(folder: Path) -> None:
    make_store(folder / START, {"run/0": 4, "kept/0": 7}, store_header=HEADER)
    make_store(folder / "a.cubes", {"a/0": 13, "run/0": 4, "a/1": 9}, store_header=HEADER)
    make_store(folder / "b.cubes", {"b/0": 21, "a/0": 13}, store_header=HEADER, run_id="other")


def _append(folder: Path, store: Path) -> None:
    for name in ("a.cubes", "b.cubes"):
        append_stores(store, [folder / name])


def _merge(folder: Path, store: Path) -> None:
    merge_stores([folder / "a.cubes", folder / "c.cubes"], store)


def _prepare_merged(folder: Path) -> None:
    make_store(folder / "a.cubes", {"a/0": 13, "run/0": 4, "a/1": 9}, store_header=HEADER)
    make_store(folder / "c.cubes", {"c/0": 21, "c/1": 3}, store_header=HEADER, run_id="other")


def _prepare_arrays(folder: Path) -> None:
    """Make features of another program, one array a video."""
    rng = np.random.default_rng(0)
    (folder / "features").mkdir()
    for i in range(8):
        np.save(folder / "features" / f"{i}.npy", rng.random((5 + i, 256), np.float32))


def _import(folder: Path, store: Path) -> None:
    import_features(folder / "features", store, kind="npy", options=ImportOptions(name="x"))


def _prepare_unindexed(folder: Path) -> None:
    """Lose the index of a store of several shards."""
    _prepare_unlisted(folder)
    _repair(folder, folder / START)
    (folder / START / "index.h5").unlink(missing_ok=True)


def _index(_: Path, store: Path) -> None:
    with Store(store) as opened:
        assert opened.ids


def _export(kind: str) -> Callable[[Path, Path], None]:
    def export(folder: Path, target: Path) -> None:
        export_store(folder / "a.cubes", target, kind=kind)

    return export


def _prepare_exported(folder: Path) -> None:
    one_cell = header(layers=(LayerShape("features", 1, 6),), has_diffs=False)
    make_store(folder / "a.cubes", {"a": 4, "b/c": 4, "b/d": 4}, store_header=one_cell)


def _prepare_repacked(folder: Path) -> None:
    lengths = {f"v{i}": 5 + i for i in range(6)}
    make_store(folder / "a.cubes", lengths, store_header=HEADER)


def _repack(folder: Path, store: Path) -> None:
    row_bytes = sum(array.row_bytes for array in HEADER.arrays) // 4  # of one byte a value
    repack_store(
        folder / "a.cubes",
        store,
        RepackOptions(dtype="8bit", compression="zstd", shard_bytes=15 * row_bytes),
    )


def _prepare_damaged(folder: Path) -> None:
    """Damage rows of two videos, and leave a partial and a shard from elsewhere."""
    store = folder / START
    make_store(store, {"run/0": 4, "kept/0": 7}, store_header=HEADER)
    add_unit(store, {"run/0": 5, "walk/0": 9, "walk/1": 3}, run_id="second", store_header=HEADER)
    for name in ("run.0001-1.h5", "second.0001-1.h5"):
        with h5py.File(store / "shards" / name, "r+") as file:
            file["pts_seconds"][0] += 1
    make_store(folder / "a.cubes", {"run/0": 6}, store_header=HEADER, run_id="other")
    shutil.copy(folder / "a.cubes" / "shards" / "other.0001-1.h5", store / "shards")
    with killed_before_the_rename():
        add_unit(folder / "a.cubes", {"new/0": 4}, run_id="killed", store_header=HEADER)
    (partial,) = (folder / "a.cubes" / "shards").glob("*.partial")
    shutil.copy(partial, store / "shards")


def _prepare_unlisted(folder: Path) -> None:
    """Lose the catalogue of a store whose later shards have newer content of two videos."""
    store = folder / START
    make_store(store, {"run/0": 4, "kept/0": 7}, store_header=HEADER, run_id="1")
    add_unit(store, {"run/0": 5, "walk/0": 9}, run_id="2", store_header=HEADER)
    add_unit(store, {"walk/0": 3}, run_id="3", store_header=HEADER)
    (store / "catalogue.json").unlink()
    (store / "index.h5").unlink()


def _repair(_: Path, store: Path) -> None:
    repair_store(store)


def _write_units_unrecorded(folder: Path, store: Path) -> None:
    """Say that a video is committed and keep its record; in the process that is killed alone."""
    ShardWriter._write_record = lambda *_: None
    _write_units(folder, store)


SCENARIOS = {
    "extract": Scenario(_prepare_videos, _extract),
    "writer": Scenario(_prepare_replaced, _write_units),
    "append": Scenario(_prepare_sources, _append),
    "repack": Scenario(_prepare_repacked, _repack),
    "repair": Scenario(_prepare_damaged, _repair, mends=True),
    "relist": Scenario(_prepare_unlisted, _repair, mends=True),
    "merge": Scenario(_prepare_merged, _merge),
    "import": Scenario(_prepare_arrays, _import),
    "index": Scenario(_prepare_unindexed, _index),
}
# Folders of files instead of a store.
OUTPUTS = {f"export-{kind}": Scenario(_prepare_exported, _export(kind)) for kind in FORMATS}
# Loses what it committed, to show that a trial notices.
CONTROLS = {"unrecorded": Scenario(_prepare_replaced, _write_units_unrecorded)}
