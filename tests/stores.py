"""Small stores for tests, made without a video or a network."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from features_store.catalogue import Catalogue, read_catalogue, write_catalogue
from features_store.format.disk import file_checksum
from features_store.format.layout import LayerShape
from features_store.format.records import VideoRecord
from features_store.listing import identify
from features_store.manifest import ManifestRow, write_manifest
from features_store.metadata import StoreHeader, read_header
from features_store.session import StoreSession
from features_store.shards.writer import ShardWriter
from features_store.sources import new_source
from features_store.spec import Preprocessing, Sampling, Spec
from features_store.unit_writer import UnitWriter

PREPROCESSING = Preprocessing(
    input_size=(56, 56),
    resize_size=64,
    fit="crop",
    interpolation="bilinear",
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    pixel_scale=255.0,
    channel_order="rgb",
)
SPEC = Spec("tiny:conv", "0" * 64, PREPROCESSING, Sampling("fps", "10"), "frames", "fp32", "cpu")
Draws = tuple[tuple[int, ...], ...]
HEADER = StoreHeader(
    SPEC, (LayerShape("top", 2, 8),), sources=(new_source("videos"),), dtype="float32"
)


def header(**changes) -> StoreHeader:
    return replace(HEADER, **changes)


def frames(
    num_frames: int, *, seed: int, store_header: StoreHeader = HEADER, shift: float = 0.0
) -> dict:
    """Return random rows of every array of a store; `shift` moves the cubes' values from 0…1."""
    rng = np.random.default_rng(seed)
    rows = {
        array.path: (
            rng.random((num_frames, *array.row_shape)) + shift * array.path.startswith("cubes/")
        ).astype(array.dtype)
        for array in store_header.arrays
    }
    rows["pts_seconds"] = np.arange(num_frames) / 10
    rows["frame_index"] = np.arange(num_frames) * 3
    return rows


def add_video(
    unit: UnitWriter | ShardWriter, video_id: str, rows: dict, *, draws: Draws = (), **said: str
) -> VideoRecord:
    unit.write_rows(rows)
    return commit(unit, video_id, draws=draws, **said)


def commit(
    unit: UnitWriter | ShardWriter,
    video_id: str,
    *,
    media_sha256: str | None = None,
    draws: Draws = (),
    status: str = "ok",
    **said: str,
) -> VideoRecord:
    return unit.commit(
        id=video_id,
        media_sha256=media_sha256 or sha256(video_id.encode()).hexdigest(),
        media_bytes=10,
        media_mtime_ns=5,
        source_fps=30.0,
        duration_seconds=1.5,
        num_frames=45,
        width=320,
        height=240,
        rotation=0,
        crop=(1.0, 2.0, 3.0, 4.0),
        colour_matrix="bt601",
        colour_range="mpeg",
        status=status,
        draws=draws,
        **said,
    )


def add_unit(
    path: Path,
    videos: dict[str, int],
    *,
    run_id: str,
    store_header: StoreHeader = HEADER,
    seed: int = 9,
) -> Path:
    """Add a shard with videos of so many frames to a store; return it."""
    with (
        StoreSession(path, store_header, run_id=run_id) as writer,
        writer.unit(rows=sum(videos.values()), video_ids=list(videos)) as unit,
    ):
        for video_id, length in videos.items():
            add_video(unit, video_id, frames(length, seed=seed, store_header=store_header))
    return path / "shards" / catalogue_of(path).entries[-1].file_name


def killed_partial(path: Path, video_id: str, rows: dict, *, name: str) -> Path:
    """Leave what a run that was killed behind a commit leaves, in a store of `HEADER`."""
    partial = path / "shards" / f"{name}.h5.partial"
    writer = ShardWriter(partial, HEADER.arrays, rows=9, videos=1, id_bytes=20, spec=SPEC)
    add_video(writer, video_id, rows, source=HEADER.sources[0].id)
    writer.close()
    return partial


@contextmanager
def killed_before_the_rename() -> Iterator[None]:
    """Die as a kill would between listing a shard in the catalogue and giving it its name."""
    rename = Path.rename

    def die(path: Path, target: Path) -> Path:
        if target.suffix == ".h5":
            raise KeyboardInterrupt
        return rename(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            yield


def catalogue_of(path: Path) -> Catalogue:
    return read_catalogue(path, spec_digest=read_header(path).spec.digest)


def relist(path: Path) -> None:
    """List the shards of a store as they are now, as somebody would who changed them on purpose."""
    entries = []
    for entry in catalogue_of(path).entries:
        shard, place = path / "shards" / entry.file_name, entry.identity
        identity = identify(shard, offset=place.offset, table_bytes=place.bytes)
        digest = file_checksum(shard)
        entries.append(
            replace(entry, bytes=shard.stat().st_size, xxh3_128=digest, identity=identity)
        )
    write_catalogue(path, Catalogue(read_header(path).spec.digest, tuple(entries)))


def make_store(
    path: Path,
    lengths: dict[str, int],
    *,
    store_header: StoreHeader = HEADER,
    run_id: str = "run",
    shift: float = 0.0,
    draws: Draws = (),
) -> dict[str, dict]:
    """Write a store of one unit; return the rows of each video."""
    written = {
        video_id: frames(length, seed=i, store_header=store_header, shift=shift)
        for i, (video_id, length) in enumerate(lengths.items())
    }
    with (
        StoreSession(path, store_header, run_id=run_id) as writer,
        writer.unit(rows=sum(lengths.values()), video_ids=list(lengths)) as unit,
    ):
        for video_id, rows in written.items():
            add_video(unit, video_id, rows, draws=draws)
    write_manifest(
        path / "manifest.csv",
        [ManifestRow(i, i, label=i.split("/")[0], group=i) for i in lengths],
    )
    return written
