"""A damaged store after repair: what was sound is there, what was not is named and gone."""

import errno
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from features_store.catalogue import Catalogue, ShardEntry, write_catalogue
from features_store.errors import DamageError
from features_store.session import StoreSession
from features_store.shards.sealing import describe_shard
from features_store.store import Store
from features_store.verbs.repair import repair_store
from features_store.verbs.verify import verify_store
from tests.stores import (
    add_unit,
    add_video,
    catalogue_of,
    frames,
    header,
    killed_before_the_rename,
    killed_partial,
    make_store,
)

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
        StoreSession(store, store_header, run_id="refill") as writer,
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


@pytest.mark.parametrize("content", [None, "", "[]", '{"spec_digest": 1}'])
def test_a_lost_catalogue_loses_no_video(store, content):
    catalogue = store / "catalogue.json"
    if content is None:
        catalogue.unlink()
    else:
        catalogue.write_text(content)
    report = repair_store(store)

    assert report.lost == []
    assert report.adopted == [_shard(store).name]
    assert verify_store(store, full=True).problems == []
    with Store(store) as opened:
        assert len(opened) == 3


def test_damage_outside_the_rows_loses_no_video(store):
    catalogue = catalogue_of(store)
    entries = (replace(catalogue.entries[0], xxh3_128="0" * 32),)
    write_catalogue(store, Catalogue(catalogue.spec_digest, entries))

    assert verify_store(store).problems == []
    assert "outside them" in verify_store(store, full=True).problems[0]
    assert repair_store(store).lost == []
    assert verify_store(store, full=True).problems == []


def test_a_replaced_video_does_not_come_back_when_its_replacement_is_lost(tmp_path):
    make_store(tmp_path / "s", LENGTHS)
    _replace_video(tmp_path / "s").write_bytes(b"")
    report = repair_store(tmp_path / "s")

    assert report.lost == ["walk/a.mp4"]
    assert verify_store(tmp_path / "s", full=True).problems == []
    with Store(tmp_path / "s") as opened:
        assert "walk/a.mp4" not in opened


def test_repair_salvages_what_a_killed_run_left(tmp_path):
    make_store(tmp_path / "s", LENGTHS)
    killed_partial(tmp_path / "s", "new.mp4", frames(2, seed=9), name="killed.0001-1")
    report = repair_store(tmp_path / "s")

    assert report.salvaged == ["killed.0001-1.h5"]
    assert report.num_videos == 4


def test_a_repair_is_written_down(store):
    _damage(store, "run/b.mp4")
    report = repair_store(store)

    document = json.loads((store / "runs" / f"{report.run_id}.json").read_text())
    assert (document["verb"], document["lost"]) == ("repair", ["run/b.mp4"])


def test_a_partial_that_cannot_be_read_is_not_deleted_but_set_aside(store):
    partial = store / "shards" / "killed.0001-1.h5.partial"
    partial.write_bytes(b"a disk that forgot" * 1000)
    with Store(store) as opened:
        store_header = opened.header

    with (
        pytest.raises(DamageError, match="cannot be read as HDF5"),
        StoreSession(store, store_header, run_id="r"),
    ):
        pass
    assert partial.exists()
    report = repair_store(store)
    assert (list(report.damaged), report.lost, report.num_videos) == ([partial.name], [], 3)
    assert (store / "damaged" / partial.name).exists()
    assert verify_store(store, full=True).unfinished == []


def _replace_video(store, run_id="second"):
    """Supersede walk/a.mp4 by one of two frames; return its shard."""
    return add_unit(store, {"walk/a.mp4": 2}, run_id=run_id)


def _assert_mended(store, expected):
    """The store is sound, opens, and mending again changes nothing."""
    assert verify_store(store, full=True).problems == []
    assert repair_store(store).damaged == {}
    with Store(store) as opened:
        assert {i: opened.num_frames_of(i) for i in opened.ids} == expected


@pytest.mark.parametrize("has_index", [True, False])
def test_a_replacement_stays_the_current_one_when_the_catalogue_is_lost(tmp_path, has_index):
    """Names of shards begin with the time of their run."""
    make_store(tmp_path / "s", LENGTHS, run_id="20260101T000000Z-ffff")
    _replace_video(tmp_path / "s", run_id="20260102T000000Z-0000")
    (tmp_path / "s" / "catalogue.json").unlink()
    if not has_index:
        (tmp_path / "s" / "index.h5").unlink()
    report = repair_store(tmp_path / "s")

    assert report.lost == []
    _assert_mended(tmp_path / "s", LENGTHS | {"walk/a.mp4": 2})


@pytest.mark.parametrize("which", ["old", "new", "both"])
def test_a_chain_of_replacements_with_damage(tmp_path, which):
    make_store(tmp_path / "s", LENGTHS, run_id="a")
    new = _replace_video(tmp_path / "s", "b")
    old = tmp_path / "s" / "shards" / "a.0001-1.h5"
    for shard in {"old": [old], "new": [new], "both": [old, new]}[which]:
        shard.write_bytes(shard.read_bytes()[:3000])
    report = repair_store(tmp_path / "s")

    kept = {"old": {"walk/a.mp4": 2}, "new": {i: n for i, n in LENGTHS.items() if "a.mp4" not in i}}
    assert report.lost == sorted(set(LENGTHS) - set(kept.get(which, {})))
    _assert_mended(tmp_path / "s", kept.get(which, {}))


def test_a_missing_replacement_does_not_bring_the_old_copy_back(tmp_path):
    make_store(tmp_path / "s", LENGTHS)
    _replace_video(tmp_path / "s").unlink()

    assert repair_store(tmp_path / "s").lost == ["walk/a.mp4"]
    _assert_mended(tmp_path / "s", {i: n for i, n in LENGTHS.items() if i != "walk/a.mp4"})


def test_a_copied_shard_is_mended(tmp_path):
    make_store(tmp_path / "s", LENGTHS)
    shard = _shard(tmp_path / "s")
    shutil.copy(shard, shard.with_stem("zz-1"))
    (tmp_path / "s" / "index.h5").unlink()
    report = repair_store(tmp_path / "s")

    assert (list(report.damaged), report.adopted, report.lost) == (["zz-1.h5"], [], [])
    _assert_mended(tmp_path / "s", LENGTHS)


@pytest.mark.parametrize("what", ["catalogue.read_json", "verbs.verify.file_checksum"])
def test_a_disk_that_fails_is_no_damage(store, monkeypatch, what):
    def fail(_):
        raise PermissionError(errno.EACCES, "no permission")

    monkeypatch.setattr(f"features_store.{what}", fail)
    with pytest.raises(PermissionError):
        repair_store(store)
    assert not (store / "damaged").exists()


def test_a_repair_that_was_killed_before_it_renamed_its_shard_loses_nothing(store):
    """It had listed the sound videos' shard, and not yet that the damaged one is removed."""
    _damage(store, "run/b.mp4")
    damaged = _shard(store)

    with killed_before_the_rename():
        repair_store(store)
    (pending,) = (store / "shards").glob("*.sealing")
    report = repair_store(store)

    assert report.salvaged == [pending.name.removesuffix(".sealing")]
    assert (list(report.damaged), report.lost) == ([damaged.name], ["run/b.mp4"])
    _assert_mended(store, {i: n for i, n in LENGTHS.items() if i != "run/b.mp4"})


def test_a_killed_repair_of_a_lost_catalogue_does_not_bring_an_old_copy_back(tmp_path, monkeypatch):
    """Half of a catalogue that is made anew is not taken for the one that was lost."""
    make_store(tmp_path / "s", LENGTHS, run_id="a")
    shard = _replace_video(tmp_path / "s", "b")
    (tmp_path / "s" / "catalogue.json").unlink()

    def killed_at_the_second(path, *arguments, **options):
        if path == shard:
            raise KeyboardInterrupt
        return describe_shard(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("features_store.verbs.mender.describe_shard", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            repair_store(tmp_path / "s")
    report = repair_store(tmp_path / "s")

    assert report.adopted == ["a.0001-1.h5", "b.0001-1.h5"]
    _assert_mended(tmp_path / "s", LENGTHS | {"walk/a.mp4": 2})


def test_a_repair_that_was_killed_before_it_set_a_shard_aside_is_finished(store):
    """It had listed that the shard is removed."""
    shard = _shard(store)
    write_catalogue(store, catalogue_of(store).with_entry(ShardEntry(shard.stem)))
    with Store(store) as opened:
        assert opened.ids == []
    repair_store(store)

    assert not shard.exists()
    assert (store / "damaged" / shard.name).exists()
    _assert_mended(store, {})


@pytest.mark.parametrize("to", ["nowhere", "/dev/zero"])
def test_a_link_under_the_name_of_a_shard_is_set_aside(store, to):
    shard = _shard(store)
    shard.unlink()
    shard.symlink_to(to)
    report = repair_store(store)

    assert report.lost == sorted(LENGTHS)
    assert not shard.is_symlink()
    _assert_mended(store, {})


def test_a_file_that_a_shard_leads_to_is_left_as_it_is(store, tmp_path):
    """It is shorter than the shard that is listed; what was cut off is made longer otherwise."""
    shard = _shard(store)
    shard.unlink()
    (tmp_path / "mine").write_bytes(b"mine")
    shard.symlink_to(tmp_path / "mine")
    repair_store(store)

    assert (tmp_path / "mine").read_bytes() == b"mine"
    _assert_mended(store, {})


def test_a_shard_that_only_adds_videos_is_adopted(tmp_path):
    """As where the catalogue is older than the shards."""
    make_store(tmp_path / "s", LENGTHS)
    before = (tmp_path / "s" / "catalogue.json").read_bytes()
    shard = add_unit(tmp_path / "s", {"new.mp4": 2}, run_id="second")
    (tmp_path / "s" / "catalogue.json").write_bytes(before)
    report = repair_store(tmp_path / "s")

    assert (report.adopted, report.damaged, report.lost) == ([shard.name], {}, [])
    _assert_mended(tmp_path / "s", LENGTHS | {"new.mp4": 2})


def test_a_replacement_that_the_catalogue_does_not_list_is_set_aside(tmp_path):
    """Nobody can tell that it is the newer one."""
    make_store(tmp_path / "s", LENGTHS)
    before = (tmp_path / "s" / "catalogue.json").read_bytes()
    shard = _replace_video(tmp_path / "s")
    (tmp_path / "s" / "catalogue.json").write_bytes(before)
    report = repair_store(tmp_path / "s")

    assert (report.adopted, list(report.damaged)) == ([], [shard.name])
    assert "video 'walk/a.mp4' is in run.0001-1.h5 too" in report.damaged[shard.name][1]
    assert (tmp_path / "s" / "damaged" / shard.name).exists()
    _assert_mended(tmp_path / "s", LENGTHS)
