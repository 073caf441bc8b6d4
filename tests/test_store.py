import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from features_store import store as store_module
from features_store.catalogue import write_catalogue
from features_store.errors import SpecMismatchError, StoreError, UsageError
from features_store.ledger import append_failure, new_failure, read_failures
from features_store.metadata import read_header
from features_store.session import StoreSession
from features_store.shards.reader import ShardReader
from features_store.shards.writer import ShardWriter
from features_store.spec import Spec
from features_store.store import Store
from features_store.verbs.diff import diff_stores, frame_cosines
from features_store.verbs.verify import verify_store
from tests.small_disks import needs_namespaces, run_in_namespace
from tests.stores import (
    HEADER,
    SPEC,
    add_video,
    catalogue_of,
    commit,
    frames,
    header,
    killed_partial,
    make_store,
    relist,
)

LENGTHS = {"walk/a.mp4": 5, "run/b.mp4": 1, "walk/ü c.mp4": 12}


@pytest.fixture
def store(tmp_path):
    make_store(tmp_path / "s", LENGTHS)
    return tmp_path / "s"


def test_a_reader_with_h5py_alone_gets_the_cubes(store):
    """The five lines of the README."""
    (shard,) = (store / "shards").glob("*.h5")
    with h5py.File(shard) as file:
        video = next(v for v in file["videos"][:] if v["id"] == b"walk/a.mp4")
        start, stop = video["offset"], video["offset"] + video["length"]
        cubes = file["cubes/center/top"][start:stop]

    with Store(store) as opened:
        np.testing.assert_array_equal(cubes, opened.cubes("walk/a.mp4"))


def test_partial_videos_are_found_once_and_shards_in_use_stay_open(tmp_path, monkeypatch):
    def add(run_id, statuses):
        with StoreSession(tmp_path / "s", HEADER, run_id=run_id) as writer:
            for video_id, status in statuses.items():
                with writer.unit(rows=2, video_ids=[video_id]) as unit:
                    unit.write_rows(frames(2, seed=0))
                    commit(unit, video_id, status=status)

    add("r1", {"a": "ok", "b": "partial", "c": "partial", "d": "ok"})
    monkeypatch.setattr(store_module, "MAX_OPEN_SHARDS", 1)
    with Store(tmp_path / "s") as opened:
        opened.cubes("d")
        in_use = list(opened._opened().shards)
        assert opened.partial_ids == ["b", "c"]
        opened.partial_ids.append("not ours")
        monkeypatch.setattr(store_module, "open_shard", None)  # no shard is opened once more
        assert opened.partial_ids == ["b", "c"]
        assert list(opened._opened().shards) == in_use
        np.testing.assert_array_equal(opened.cubes("d"), opened.cubes("d"))
    monkeypatch.undo()

    add("r2", {"b": "ok"})  # which supersedes the partial one
    with Store(tmp_path / "s") as opened:
        assert opened.partial_ids == ["c"]


def test_a_missing_video_and_a_missing_array_are_named(store):
    with Store(store) as opened:
        with pytest.raises(UsageError, match=r"no video 'x' in .*; There are: "):
            opened.cubes("x")
        with pytest.raises(UsageError, match="no layer 'tip' in this store; did you mean 'top'"):
            opened.cubes("run/b.mp4", layer="tip")


@pytest.mark.parametrize("content", [None, b"", b"not hdf5"])
def test_an_index_that_is_missing_or_damaged_is_rebuilt(store, content):
    (store / "index.h5").unlink()
    if content is not None:
        (store / "index.h5").write_bytes(content)

    with Store(store) as opened:
        assert len(opened) == 3
    with h5py.File(store / "index.h5") as file:
        assert len(file["ids"]) == 3


def test_a_stale_index_is_rebuilt(store):
    with StoreSession(store, HEADER, run_id="second") as writer:
        index = (store / "index.h5").read_bytes()
        with writer.unit(rows=2, video_ids=["new.mp4"]) as unit:
            add_video(unit, "new.mp4", frames(2, seed=9))
    (store / "index.h5").write_bytes(index)

    with Store(store) as opened:
        assert "new.mp4" in opened


def test_a_video_longer_than_planned_moves_to_a_larger_shard(tmp_path):
    rows = frames(50, seed=1)
    with (
        StoreSession(tmp_path / "s", HEADER, run_id="r") as writer,
        writer.unit(rows=4, video_ids=["a", "b"]) as unit,
    ):
        add_video(unit, "a", frames(3, seed=0))
        for start in range(0, 50, 10):
            unit.write_rows({path: block[start : start + 10] for path, block in rows.items()})
        commit(unit, "b")

    assert verify_store(tmp_path / "s", full=True).problems == []
    with Store(tmp_path / "s") as store:
        assert store.ids == ["a", "b"]
        np.testing.assert_array_equal(store.cubes("b"), rows["cubes/center/top"])


def test_where_all_are_longer_than_planned_shards_stay_few(tmp_path):
    ids = [f"v{i:02}" for i in range(40)]
    with (
        StoreSession(tmp_path / "s", header(), run_id="run") as writer,
        writer.unit(rows=3 * len(ids), video_ids=ids) as unit,
    ):
        for video_id in ids:
            add_video(unit, video_id, frames(30, seed=1))

    with Store(tmp_path / "s") as store:
        assert store.ids == ids
    assert len(list((tmp_path / "s" / "shards").glob("*.h5"))) <= 11


def test_a_signal_just_behind_a_record_leaves_a_store_that_opens(store, monkeypatch):
    """The record is in the file, and the writer has not yet taken note of it."""
    write = ShardWriter._write_record

    def interrupted(writer, position, record):
        write(writer, position, record)
        if position == 16:
            raise KeyboardInterrupt

    with Store(store) as before:
        video_id, num_frames = before.ids[-1], 2
    ids = [*(f"new{i}" for i in range(16)), video_id]
    monkeypatch.setattr(ShardWriter, "_write_record", interrupted)

    def replace_until_interrupted():
        with (
            StoreSession(store, header(), run_id="again") as writer,
            writer.unit(rows=num_frames * len(ids), video_ids=ids) as unit,
        ):
            for each in ids:
                add_video(unit, each, frames(num_frames, seed=2))

    with pytest.raises(KeyboardInterrupt):
        replace_until_interrupted()

    with Store(store) as opened:
        assert opened.shard_of(video_id).startswith("again")
    assert verify_store(store, full=True).problems == []


def test_an_abandoned_video_leaves_no_trace(tmp_path):
    with (
        StoreSession(tmp_path / "s", HEADER, run_id="r") as writer,
        writer.unit(rows=20, video_ids=["a", "b", "c"]) as unit,
    ):
        add_video(unit, "a", frames(3, seed=0))
        unit.write_rows(frames(7, seed=1))
        unit.abandon()
        add_video(unit, "c", frames(4, seed=2))

    assert verify_store(tmp_path / "s", full=True).problems == []
    with Store(tmp_path / "s") as store:
        assert store.ids == ["a", "c"]
        np.testing.assert_array_equal(store.cubes("c"), frames(4, seed=2)["cubes/center/top"])


def test_a_unit_without_a_video_leaves_no_shard(tmp_path):
    with (
        StoreSession(tmp_path / "s", HEADER, run_id="r") as writer,
        writer.unit(rows=20, video_ids=["a"]),
    ):
        pass

    assert list((tmp_path / "s" / "shards").iterdir()) == []


def test_a_replaced_video_supersedes_the_old_one(store):
    with (
        StoreSession(store, HEADER, run_id="second") as writer,
        writer.unit(rows=2, video_ids=["walk/a.mp4"]) as unit,
    ):
        add_video(unit, "walk/a.mp4", frames(2, seed=9))

    assert verify_store(store, full=True).problems == []
    with Store(store) as opened:
        assert len(opened) == 3
        assert opened.num_frames_of("walk/a.mp4") == 2


def test_a_killed_replacement_is_salvaged_and_supersedes(store):
    """A kill after the commit of a changed video, before its shard was sealed."""
    killed_partial(store, "walk/a.mp4", frames(2, seed=9), name="second.0001-1")
    with StoreSession(store, HEADER, run_id="third") as resumed:
        assert [shard.name for shard in resumed.salvaged] == ["second.0001-1.h5"]

    assert verify_store(store, full=True).problems == []
    with Store(store) as opened:
        assert opened.num_frames_of("walk/a.mp4") == 2


def test_a_partial_of_any_name_is_salvaged_under_a_name_for_a_shard(store):
    killed_partial(store, "new.mp4", frames(2, seed=9), name="my own")
    with StoreSession(store, HEADER, run_id="third") as resumed:
        assert [shard.name for shard in resumed.salvaged] == ["third-1.h5"]

    assert verify_store(store, full=True).problems == []
    with Store(store) as opened:
        assert opened.num_frames_of("new.mp4") == 2


def test_a_video_in_two_shards_is_refused(store):
    """The same shard twice, and both are listed."""
    (shard,) = (store / "shards").glob("*.h5")
    shutil.copy(shard, shard.with_stem("copy-1"))
    catalogue = catalogue_of(store)
    write_catalogue(store, catalogue.with_entry(replace(catalogue.entries[0], name="copy-1")))

    with pytest.raises(StoreError, match="neither supersedes the other"):
        Store(store)


def test_another_spec_is_refused_field_by_field(store):
    other = header(spec=replace(SPEC, precision="bf16", weights_sha256="1" * 64))

    with (
        pytest.raises(SpecMismatchError, match=r"(?s)weights_sha256: '0.*precision: '"),
        StoreSession(store, other, run_id="r"),
    ):
        pass


@pytest.mark.parametrize("changes", [{"dtype": "float16"}, {"layers": ()}])
def test_another_content_is_refused(store, changes):
    with (
        pytest.raises(StoreError, match="what is to be added has"),
        StoreSession(store, header(**changes), run_id="r"),
    ):
        pass


def test_a_second_writer_is_refused(store):
    with (
        StoreSession(store, HEADER, run_id="a"),
        pytest.raises(StoreError, match="is being written by process"),
        StoreSession(store, HEADER, run_id="b"),
    ):
        pass


def test_a_folder_with_other_things_is_not_taken_for_a_store(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")

    with (
        pytest.raises(UsageError, match=r"other things than a store \('thesis.tex'\)"),
        StoreSession(tmp_path, HEADER, run_id="r"),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_edited_spec_is_noticed(store):
    text = (store / "store.json").read_text()
    (store / "store.json").write_text(text.replace('"fp32"', '"bf16"'))

    with pytest.raises(StoreError, match="was edited"):
        read_header(store)


OTHER_VERSIONS = [
    (1, "is of format version 1, this release reads 2: extract its videos again, or export it"),
    (3, "is of format version 3, this release reads 2: upgrade cubereel"),
    (99, "is of format version 99, this release reads 2: upgrade cubereel"),
]


@pytest.mark.parametrize(("version", "words"), OTHER_VERSIONS)
def test_another_format_is_refused_in_one_line(cubereel, store, version, words):
    document = json.loads((store / "store.json").read_text()) | {"format_version": version}
    (store / "store.json").write_text(json.dumps(document))

    for verb in ("info", "ls", "verify", "repair"):
        assert cubereel("store", verb, store) == 3
        assert f"{store} {words}" in cubereel.err
        assert len(cubereel.err.splitlines()) == 1


@pytest.mark.parametrize(("version", "words"), OTHER_VERSIONS)
def test_a_shard_of_another_format_is_refused(store, version, words):
    (shard,) = (store / "shards").glob("*.h5")
    with h5py.File(shard, "a") as file:
        file.attrs["format_version"] = version
    relist(store)

    assert words in verify_store(store).problems[0]
    with Store(store) as opened, pytest.raises(StoreError, match=words):
        opened.cubes("run/b.mp4")


def test_a_spec_survives_its_json():
    assert Spec.from_json(SPEC.to_json()) == SPEC
    assert replace(SPEC, precision="bf16").digest != SPEC.digest


@pytest.mark.parametrize("cut", [1, 1000, 10**6])
def test_a_shortened_shard_is_found(store, cut):
    (shard,) = (store / "shards").glob("*.h5")
    content = shard.read_bytes()
    shard.write_bytes(content[: max(0, len(content) - cut)])

    assert "bytes, the catalogue says" in verify_store(store).problems[0]


def test_a_lost_shard_is_found(store):
    (shard,) = (store / "shards").glob("*.h5")
    shard.unlink()

    assert verify_store(store).problems[0] == f"shard {shard.name} is missing"


def test_equal_stores_are_equal_and_a_changed_frame_is_not(tmp_path):
    make_store(tmp_path / "a", LENGTHS)
    make_store(tmp_path / "b", LENGTHS, run_id="other")
    changed = {video_id: frames(n, seed=i) for i, (video_id, n) in enumerate(LENGTHS.items())}
    changed["run/b.mp4"]["cubes/center/top"][0, 0, 0, 0] += 1
    with (
        StoreSession(tmp_path / "c", HEADER, run_id="r") as writer,
        writer.unit(rows=18, video_ids=list(LENGTHS)) as unit,
    ):
        for video_id, rows in changed.items():
            add_video(unit, video_id, rows)

    with Store(tmp_path / "a") as a, Store(tmp_path / "b") as b, Store(tmp_path / "c") as c:
        assert diff_stores(a, b).identical
        result = diff_stores(a, c)
    assert [video.video_id for video in result.videos if not video.equal] == ["run/b.mp4"]
    assert not result.equal


def test_two_zero_frames_are_alike_and_one_is_not():
    zero, one = np.zeros((1, 2, 2, 3)), np.ones((1, 2, 2, 3))

    assert frame_cosines(zero, zero)[0] == 1
    assert frame_cosines(zero, one)[0] == 0
    assert frame_cosines(one, 2 * one)[0] == pytest.approx(1)


def test_values_that_a_dtype_cannot_hold_are_refused(tmp_path):
    store_header = header(dtype="float16")
    rows = frames(2, seed=0)
    rows["cubes/center/top"][0, 0, 0, 0] = 1e6
    with (
        StoreSession(tmp_path / "s", store_header, run_id="r") as writer,
        writer.unit(rows=2, video_ids=["a"]) as unit,
        pytest.raises(StoreError, match="1e\\+06, which float16 cannot hold"),
    ):
        unit.write_rows(rows)


def test_a_record_torn_by_a_kill_is_not_a_commit(store):
    (shard,) = (store / "shards").glob("*.h5")
    with h5py.File(shard, "a") as file:
        table = file["videos"][:]
        table["width"][1] += 1
        file["videos"][:] = table
    relist(store)

    assert "record of video number 1 is damaged" in verify_store(store).problems[0]


def test_opening_touches_no_shard(store, monkeypatch):
    with Store(store) as opened:
        ids = opened.ids

    monkeypatch.setattr("features_store.index.ShardReader", None)
    monkeypatch.setattr("features_store.index.check_identity", None)
    with Store(store) as opened:
        assert opened.ids == ids
        assert opened.num_frames_of("walk/a.mp4") == 5


def test_an_index_that_lacks_new_shards_reads_those_alone(store, monkeypatch):
    with StoreSession(store, HEADER, run_id="second") as writer:
        (store / "index.h5").rename(store.parent / "old.h5")
        with writer.unit(rows=4, video_ids=["new.mp4", "walk/a.mp4"]) as unit:
            add_video(unit, "new.mp4", frames(2, seed=9))
            add_video(unit, "walk/a.mp4", frames(2, seed=8))
    (store.parent / "old.h5").rename(store / "index.h5")
    opened_shards = []

    class Reader(ShardReader):
        def __init__(self, path, *arguments, **options):
            opened_shards.append(path.name)
            super().__init__(path, *arguments, **options)

    monkeypatch.setattr("features_store.index.ShardReader", Reader)
    with Store(store) as extended:
        assert opened_shards == ["second.0001-1.h5"]
        assert extended.num_frames_of("walk/a.mp4") == 2
        shutil.copytree(store, store.parent / "fresh")
        (store.parent / "fresh" / "index.h5").unlink()
        with Store(store.parent / "fresh") as fresh:
            assert extended.index.equals(fresh.index)


@needs_namespaces
def test_a_store_on_a_read_only_file_system_is_read(store, tmp_path):
    (store / "index.h5").unlink()
    (tmp_path / "disk").mkdir()
    script = """
    mount -t tmpfs tmpfs "$2" && cp -r "$1" "$2/s" && mount -o remount,ro "$2" || exit 99
    "$3" store verify --full "$2/s"
    "$3" store ls "$2/s"
    "$3" store repair "$2/s"; echo "repair: $?"
    ls -A "$2/s"
    """
    cubereel = Path(sys.executable).with_name("cubereel")
    output = run_in_namespace(script, store, tmp_path / "disk", cubereel)

    assert "1 shards, 3 videos, 18 frames (every byte read)" in output
    assert "walk/a.mp4" in output
    assert "Read-only file system" in output
    assert "repair: 5" in output
    assert "index.h5" not in output


def test_a_ledger_line_that_a_kill_cut_short_is_passed_over(store):
    failure = new_failure(video_id="a", path="a", stage="decode", reason="corrupt", error="e")
    append_failure(store, "run", failure)
    with (store / "failures" / "run.jsonl").open("a") as file:
        file.write('{"video_id": "b", "pa')

    assert list(read_failures(store)) == [failure]


def test_leftovers_of_killed_writes_go_when_they_are_old(store):
    old, new = store / ".index.h5.1.new", store / "shards" / ".x.json.2.new"
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (0, 0))
    with StoreSession(store, HEADER, run_id="r"):
        pass

    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize(
    ("video_id", "num_frames", "words"), [("b", 0, "has no frame"), ("bcd", 1, "was not announced")]
)
def test_a_commit_that_would_damage_the_store_is_refused(tmp_path, video_id, num_frames, words):
    with (
        StoreSession(tmp_path / "s", HEADER, run_id="r") as writer,
        writer.unit(rows=4, video_ids=["a", "b"]) as unit,
    ):
        add_video(unit, "a", frames(3, seed=0))
        unit.write_rows(frames(num_frames, seed=1))
        with pytest.raises(StoreError, match=words):
            commit(unit, video_id)

    assert verify_store(tmp_path / "s", full=True).problems == []
    with Store(tmp_path / "s") as store:
        assert store.ids == ["a"]


def test_a_long_id_is_looked_for_in_no_time(store):
    with Store(store) as opened:
        assert "x" * 1000 not in opened
        assert opened.index.find("x" * 1000) is None


def test_frames_of_the_same_time_are_compared_with_themselves(tmp_path):
    rows = frames(4, seed=0) | {"pts_seconds": np.array([0.0, 0.1, 0.1, 0.2])}
    with (
        StoreSession(tmp_path / "s", HEADER, run_id="r") as writer,
        writer.unit(rows=4, video_ids=["a"]) as unit,
    ):
        add_video(unit, "a", rows)

    with Store(tmp_path / "s") as a, Store(tmp_path / "s") as b:
        assert diff_stores(a, b).identical


@pytest.mark.parametrize("out", ["f", "f/below"])
def test_a_file_in_the_place_of_a_store(tmp_path, out):
    (tmp_path / "f").write_text("x")
    with (
        pytest.raises(UsageError, match="f' is a file, not a folder; give a new folder"),
        StoreSession(tmp_path / out, HEADER, run_id="r"),
    ):
        pass


def test_a_manifest_is_read_once_for_each_state_of_its_file(tmp_path, monkeypatch):
    path = tmp_path / "s"
    make_store(path, {"a": 2})
    read = []
    real = store_module.read_store_manifest
    monkeypatch.setattr(
        store_module, "read_store_manifest", lambda where: read.append(where) or real(where)
    )
    (path / "manifest.csv").write_text("video_id,path,label\na,a.mp4,one\n")
    with Store(path) as store:
        assert [store.manifest["a"].label for _ in range(3)] == ["one"] * 3
        (path / "manifest.csv").write_text("video_id,path,label\na,a.mp4,another\n")
        assert store.manifest["a"].label == "another"
    assert len(read) == 2
