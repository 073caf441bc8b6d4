"""A damaged store after repair: what was sound is there, what was not is named and gone."""

import errno
import json
import shutil

import numpy as np
import pytest

from features_store.errors import DamageError
from features_store.session import StoreWriter
from features_store.shards.writer import ShardWriter
from features_store.store import Store
from features_store.verbs.repair import repair_store
from features_store.verbs.verify import verify_store
from tests.stores import HEADER, SPEC, add_video, frames, header, make_store

LENGTHS = {"walk/a.mp4": 5, "run/b.mp4": 1, "walk/ü c.mp4": 12}


@pytest.fixture(params=[{}, {"dtype": "8bit", "compression": "zstd"}], ids=["raw", "compact"])
def store(request, tmp_path):
    make_store(tmp_path / "s", LENGTHS, store_header=header(**request.param))
    return tmp_path / "s"


def _shard(store):
    (shard,) = (store / "shards").glob("*.h5")
    return shard


def _flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def _damage(store, video_id):
    """Flip a bit in the first pts of a video; they lie raw in every encoding."""
    with Store(store) as opened:
        record = opened.video(video_id)
        first = opened.read("walk/a.mp4", "pts_seconds").tobytes()
    _flip(_shard(store), _shard(store).read_bytes().index(first) + 8 * record.offset)


def test_a_sound_store_is_left_as_it_is(store):
    before = {path.name: path.read_bytes() for path in (store / "shards").iterdir()}
    report = repair_store(store)

    assert (report.damaged, report.lost, report.num_videos) == ({}, [], 3)
    assert {path.name: path.read_bytes() for path in (store / "shards").iterdir()} == before


@pytest.mark.parametrize("video_id", LENGTHS)
def test_a_damaged_video_is_dropped_and_the_others_stay(store, video_id):
    with Store(store) as opened:
        others = {i: opened.cubes(i) for i in LENGTHS if i != video_id}
    name = _shard(store).name
    _damage(store, video_id)
    report = repair_store(store)

    assert report.lost == [video_id]
    assert video_id in report.damaged[name][0]
    assert (store / "damaged" / name).exists()
    assert verify_store(store, full=True).problems == []
    with Store(store) as opened:
        assert set(opened.ids) == set(others)
        for other, cubes in others.items():
            np.testing.assert_array_equal(opened.cubes(other), cubes)
    assert repair_store(store).damaged == {}


def test_what_was_lost_can_be_refilled(store):
    _damage(store, "run/b.mp4")
    repair_store(store)
    with Store(store) as opened:
        store_header = opened.header
    with (
        StoreWriter(store, store_header, run_id="refill") as writer,
        writer.unit(rows=1, video_ids=["run/b.mp4"]) as unit,
    ):
        assert writer.find("run/b.mp4") is None
        add_video(unit, "run/b.mp4", frames(1, seed=1, store_header=store_header))

    assert verify_store(store, full=True).problems == []
    with Store(store) as opened:
        assert len(opened) == 3


@pytest.mark.parametrize("how", ["emptied", "not hdf5", "cut", "gone"])
def test_videos_of_a_shard_that_cannot_be_opened_are_named(store, how):
    shard = _shard(store)
    if how == "gone":
        shard.unlink()
    elif how == "cut":
        shard.write_bytes(shard.read_bytes()[:3000])
    else:
        shard.write_bytes(b"" if how == "emptied" else b"x" * 10_000)
    report = repair_store(store)

    assert report.lost == sorted(LENGTHS)
    assert report.num_videos == 0
    assert verify_store(store, full=True).problems == []


@pytest.mark.parametrize("content", [None, "", "[]", '{"bytes": 1}'])
def test_a_lost_sidecar_loses_no_video(store, content):
    sidecar = _shard(store).with_suffix(".json")
    if content is None:
        sidecar.unlink()
    else:
        sidecar.write_text(content)
    report = repair_store(store)

    assert report.lost == []
    assert verify_store(store, full=True).problems == []
    with Store(store) as opened:
        assert len(opened) == 3


def test_damage_outside_the_rows_loses_no_video(store):
    sidecar = _shard(store).with_suffix(".json")
    document = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(document | {"xxh3_128": "0" * 32}))

    assert verify_store(store).problems == []
    assert "outside them" in verify_store(store, full=True).problems[0]
    assert repair_store(store).lost == []
    assert verify_store(store, full=True).problems == []


def test_a_replaced_video_does_not_come_back_when_its_replacement_is_lost(tmp_path):
    make_store(tmp_path / "s", LENGTHS)
    with (
        StoreWriter(tmp_path / "s", HEADER, run_id="second") as writer,
        writer.unit(rows=2, video_ids=["walk/a.mp4"]) as unit,
    ):
        add_video(unit, "walk/a.mp4", frames(2, seed=9))
    (tmp_path / "s" / "shards" / "second-0001.h5").write_bytes(b"")
    report = repair_store(tmp_path / "s")

    assert report.lost == ["walk/a.mp4"]
    assert verify_store(tmp_path / "s", full=True).problems == []
    with Store(tmp_path / "s") as opened:
        assert "walk/a.mp4" not in opened


def test_repair_salvages_what_a_killed_run_left(tmp_path):
    make_store(tmp_path / "s", LENGTHS)
    writer = ShardWriter(
        tmp_path / "s" / "shards" / "killed-0001.h5.partial",
        HEADER.arrays,
        rows=9,
        videos=1,
        id_bytes=20,
        spec=SPEC,
    )
    add_video(writer, "new.mp4", frames(2, seed=9))
    writer.close()
    report = repair_store(tmp_path / "s")

    assert report.salvaged == ["killed-0001.h5"]
    assert report.num_videos == 4


def test_a_repair_is_written_down(store):
    _damage(store, "run/b.mp4")
    report = repair_store(store)

    document = json.loads((store / "runs" / f"{report.run_id}.json").read_text())
    assert (document["verb"], document["lost"]) == ("repair", ["run/b.mp4"])


def test_a_partial_that_cannot_be_read_is_not_deleted_but_set_aside(store):
    partial = store / "shards" / "killed-0001.h5.partial"
    partial.write_bytes(b"a disk that forgot" * 1000)
    with Store(store) as opened:
        store_header = opened.header

    with (
        pytest.raises(DamageError, match="cannot be read as HDF5"),
        StoreWriter(store, store_header, run_id="r"),
    ):
        pass
    assert partial.exists()
    report = repair_store(store)
    assert (list(report.damaged), report.lost, report.num_videos) == ([partial.name], [], 3)
    assert (store / "damaged" / partial.name).exists()
    assert verify_store(store, full=True).unfinished == []


def _replace_video(store, run_id="second"):
    """Supersede walk/a.mp4 by one of two frames; return its shard."""
    with (
        StoreWriter(store, HEADER, run_id=run_id) as writer,
        writer.unit(rows=2, video_ids=["walk/a.mp4"]) as unit,
    ):
        add_video(unit, "walk/a.mp4", frames(2, seed=9))
    return store / "shards" / f"{run_id}-0001.h5"


def _assert_mended(store, expected):
    """The store is sound, opens, and mending again changes nothing."""
    assert verify_store(store, full=True).problems == []
    assert repair_store(store).damaged == {}
    with Store(store) as opened:
        assert {i: opened.num_frames_of(i) for i in opened.ids} == expected


@pytest.mark.parametrize("has_index", [True, False])
def test_a_replacement_whose_sidecar_is_lost_stays_the_current_one(tmp_path, has_index):
    make_store(tmp_path / "s", LENGTHS)
    shard = _replace_video(tmp_path / "s")
    shard.with_suffix(".json").unlink()
    if not has_index:
        (tmp_path / "s" / "index.h5").unlink()
    report = repair_store(tmp_path / "s")

    assert report.lost == []
    _assert_mended(tmp_path / "s", LENGTHS | {"walk/a.mp4": 2})


@pytest.mark.parametrize("which", ["old", "new", "both"])
def test_a_chain_of_replacements_with_damage(tmp_path, which):
    make_store(tmp_path / "s", LENGTHS, run_id="a")
    new = _replace_video(tmp_path / "s", "b")
    old = tmp_path / "s" / "shards" / "a-0001.h5"
    for shard in {"old": [old], "new": [new], "both": [old, new]}[which]:
        shard.write_bytes(shard.read_bytes()[:3000])
    report = repair_store(tmp_path / "s")

    kept = {"old": {"walk/a.mp4": 2}, "new": {i: n for i, n in LENGTHS.items() if "a.mp4" not in i}}
    assert report.lost == sorted(set(LENGTHS) - set(kept.get(which, {})))
    _assert_mended(tmp_path / "s", kept.get(which, {}))


def test_a_missing_replacement_does_not_bring_the_old_copy_back(tmp_path):
    make_store(tmp_path / "s", LENGTHS)
    _replace_video(tmp_path / "s").unlink()

    with Store(tmp_path / "s") as opened:
        assert "walk/a.mp4" not in opened
    assert repair_store(tmp_path / "s").lost == ["walk/a.mp4"]
    _assert_mended(tmp_path / "s", {i: n for i, n in LENGTHS.items() if i != "walk/a.mp4"})


def test_a_copied_shard_is_mended(tmp_path):
    make_store(tmp_path / "s", LENGTHS)
    shard = _shard(tmp_path / "s")
    for path in (shard, shard.with_suffix(".json")):
        shutil.copy(path, path.with_stem("zz-copy"))
    (tmp_path / "s" / "index.h5").unlink()
    assert repair_store(tmp_path / "s").lost == []

    _assert_mended(tmp_path / "s", LENGTHS)


def test_a_disk_that_fails_is_no_damage(store, monkeypatch):
    def fail(_):
        raise PermissionError(errno.EACCES, "no permission")

    monkeypatch.setattr("features_store.shards.sidecar.read_json", fail)
    with pytest.raises(PermissionError):
        repair_store(store)
    assert not (store / "damaged").exists()
