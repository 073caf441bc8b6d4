"""A reader by somebody who read FORMAT.md and nothing else, against what the store says itself."""

import json
import shutil

import numpy as np
import pytest

from features_store.spec import Sampling
from features_store.store import Store
from tests import format_reader
from tests.stores import SPEC, add_unit, header, make_store
from tests.test_encodings import ENCODINGS

LENGTHS = {"walk/a.mp4": 5, "run/b.mp4": 1, "walk/ü c.mp4": 40}
KINDS = {
    **{"-".join(encoding.values()): encoding for encoding in ENCODINGS},
    "views": {"views": ("center", "flip"), "has_diff_cubes": True},
    "no diffs": {"has_diffs": False},
    "windows": {"has_windows": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_reader_reads_what_the_store_reads(tmp_path, kind):
    told = header(**KINDS[kind])
    make_store(tmp_path / "s", LENGTHS, store_header=told)
    add_unit(tmp_path / "s", {"walk/a.mp4": 6, "new.mp4": 2}, run_id="again", store_header=told)

    with Store(tmp_path / "s") as ours:
        ids, revisions = ours.ids, ours.catalogue.revisions
        rows = {(i, a.path): ours.read(i, a.path) for i in ids for a in told.arrays}

    theirs = format_reader.open_store(tmp_path / "s")
    videos = format_reader.list_videos(theirs)

    for name in theirs.shards:
        format_reader.check_whole_file(theirs, name)
    assert format_reader.check_index(theirs, videos) is True
    assert (list(videos), theirs.revisions) == (ids, revisions)
    for video_id, video in videos.items():
        arrays = format_reader.read_video(theirs, video)
        assert list(arrays) == [array.path for array in told.arrays]
        for path, read in arrays.items():
            np.testing.assert_array_equal(read, rows[video_id, path])


def test_the_reader_reads_draws(tmp_path):
    draws = ((0, 1, 3), (0, 2, 3), (1, 1, 2))
    sampling = Sampling.parse(segments=3, jitter=2, seed=5)
    told = header(spec=type(SPEC)(**{**vars(SPEC), "sampling": sampling}))
    make_store(tmp_path / "s", {"a": 4}, store_header=told, draws=draws)

    theirs = format_reader.open_store(tmp_path / "s")
    ((_, video),) = format_reader.list_videos(theirs).items()
    assert format_reader.read_video(theirs, video)["draws"].tolist() == [list(d) for d in draws]


def test_the_reader_reads_an_older_revision(tmp_path):
    make_store(tmp_path / "s", LENGTHS)
    with Store(tmp_path / "s") as before:
        revision, cubes = before.revision, before.cubes("walk/a.mp4")
    add_unit(tmp_path / "s", {"walk/a.mp4": 6}, run_id="again")

    theirs = format_reader.open_store(tmp_path / "s", revision)
    video = format_reader.list_videos(theirs)["walk/a.mp4"]
    np.testing.assert_array_equal(
        format_reader.read_video(theirs, video)["cubes/center/top"], cubes
    )


def read_all(store):
    theirs = format_reader.open_store(store)
    for video in format_reader.list_videos(theirs).values():
        format_reader.read_video(theirs, video)
    for name in theirs.shards:
        format_reader.check_whole_file(theirs, name)


@pytest.mark.parametrize("damage", ["gone", "extra", "catalogue", "byte"])
def test_the_reader_refuses_what_the_page_says(tmp_path, damage):
    store = tmp_path / "s"
    make_store(store, LENGTHS)
    (shard,) = (store / "shards").glob("*.h5")
    if damage == "gone":
        shard.unlink()
    elif damage == "extra":
        shutil.copy(shard, shard.with_name("other.0001-1.h5"))
    elif damage == "catalogue":
        document = json.loads((store / "catalogue.json").read_text())
        document["entries"][0]["bytes"] += 1
        (store / "catalogue.json").write_text(json.dumps(document))
    else:
        content = bytearray(shard.read_bytes())
        content[content.index(np.arange(3).astype("<f8").tobytes()[8:])] ^= 1
        shard.write_bytes(content)

    with pytest.raises(format_reader.StoreError):
        read_all(store)
