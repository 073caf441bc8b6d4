"""Stores of strangers: what an index, a file beside the shards, a size or a record may say."""

import json
import os
from dataclasses import replace

import h5py
import numpy as np
import pytest
import xxhash

from features_store.catalogue import Catalogue, write_catalogue
from features_store.errors import DamageError
from features_store.format.records import record_checksum
from features_store.index import write_index
from features_store.store import Store
from features_store.verbs.merge import append_stores
from features_store.verbs.repair import repair_store
from features_store.verbs.verify import verify_store
from tests.hostile.ends import assert_one_line
from tests.stores import add_unit, catalogue_of, make_store, relist

BAD_ID = b"../../x"


def shard_of(store):
    (shard,) = (store / "shards").glob("*.h5")
    return shard


def edit_record(store, **values):
    """Change the second record of a shard, as its author could: with a right checksum."""
    with h5py.File(shard_of(store), "a") as file:
        table = file["videos"][:]
        for name, value in values.items():
            table[name][1] = value
        table["record_checksum"][1] = record_checksum(table[1:2])
        file["videos"][:] = table
    relist(store)


def lying_index(store, **changes):
    """Write an index with a right checksum, of the revision that the store has."""
    (store / "index.h5").unlink(missing_ok=True)
    with Store(store) as opened:
        index = replace(opened.index, **changes)
    write_index(store / "index.h5", index)


def poison(store):
    """Give a video an id that leads out of a store, in the shard and in the index."""
    with Store(store) as opened:
        index = opened.index
    edit_record(store, id=BAD_ID)
    revision = catalogue_of(store).revision
    ids = np.array([BAD_ID if i == b"run/b.mp4" else i for i in index.ids.tolist()])
    order = np.argsort(ids)
    columns = {name: getattr(index, name)[order] for name in ("row", "length", "shard")}
    changed = replace(index, revision=revision, ids=ids[order], **columns)
    write_index(store / "index.h5", changed)


# --- The index -----------------------------------------------------------------------------------


def test_a_lying_index_poisons_no_other_store(server, store, tmp_path):
    make_store(tmp_path / "good", {"walk/c.mp4": 2}, run_id="good")
    before = (tmp_path / "good" / "catalogue.json").read_bytes()
    poison(store)

    for verb in (("ls", store), ("append", tmp_path / "good", store)):
        assert_one_line(server("store", *verb), 3, "could leave the store")
    assert (tmp_path / "good" / "catalogue.json").read_bytes() == before
    assert verify_store(tmp_path / "good", full=True).problems == []


def test_repair_brings_a_poisoned_store_back_to_open(store):
    poison(store)

    assert repair_store(store).lost == []
    assert verify_store(store, full=True).problems == []
    with Store(store) as opened:
        assert opened.ids == ["walk/a.mp4"]


def test_an_index_that_names_another_shard_is_not_believed(store):
    lying_index(store, shards=("../../../etc/x.h5",))

    with Store(store) as opened:
        assert [record.id for record in opened.records()] == ["run/b.mp4", "walk/a.mp4"]


def test_an_index_that_leads_to_an_older_copy_is_not_believed(store):
    with Store(store) as opened:
        old = opened.index
    add_unit(store, {"walk/a.mp4": 5}, run_id="newer")
    with Store(store) as opened:
        new = opened.index
    shard = np.array([new.shards.index(old.shards[0])] * len(new.ids))
    lying_index(store, shard=shard, row=old.row)

    with Store(store) as opened, pytest.raises(DamageError, match="superseded; delete index"):
        opened.cubes("walk/a.mp4")


# --- Files that are none, or have no end ---------------------------------------------------------


@pytest.mark.parametrize("name", ["k.0001-1.h5.partial", "x.h5"])
def test_a_pipe_is_waited_for_nowhere(server, store, name):
    os.mkfifo(store / "shards" / name)

    for verb in ("ls", "repair"):
        ended = server("store", verb, store)
        assert ended.code in (0, 3), ended
        assert "Traceback" not in ended.printed


def test_a_ledger_of_a_terabyte_of_nothing_is_not_read(server, store):
    (store / "failures").mkdir()
    with (store / "failures" / "x.jsonl").open("w") as file:
        file.truncate(2**40)

    assert_one_line(server("store", "info", store), 3, "x.jsonl", "more than")


def test_a_table_without_end_is_not_read(server, store):
    """Eight kilobytes on the disk, a gigabyte and more of empty records."""
    shard = shard_of(store)
    with h5py.File(shard, "a") as file:
        dtype = file["videos"].dtype
        del file["videos"]
        space = h5py.h5s.create_simple((4_000_000,))
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        kind = h5py.h5t.py_create(dtype, logical=True)
        h5py.h5d.create(file.id, b"videos", kind, space, properties)
    with shard.open("a") as file:
        file.truncate(2 * 2**30)
    _list_without_reading(store)
    (store / "index.h5").unlink()

    ended = server("store", "verify", store, "--full")
    assert (ended.code, "more than the" in ended.printed) == (3, True), ended


def test_a_shard_that_ends_in_a_hole_is_not_read(server, store):
    with shard_of(store).open("a") as file:
        file.truncate(2**40)
    _list_without_reading(store)

    ended = server("store", "verify", store, "--full")
    assert (ended.code, "what else it holds" in ended.printed) == (3, True), ended


def _list_without_reading(store):
    """List the shard at the size that it has now; its checksum is that of nothing."""
    (entry,) = catalogue_of(store).entries
    entry = replace(entry, bytes=shard_of(store).stat().st_size)
    write_catalogue(store, Catalogue(catalogue_of(store).spec_digest, (entry,)))


@pytest.mark.parametrize("place", ["shards/x.h5", "shard", "damaged/x.h5", "index.h5"])
def test_a_folder_in_the_place_of_a_file_stops_no_repair(server, store, place):
    path = shard_of(store) if place == "shard" else store / place
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)
    if place == "damaged/x.h5":
        (store / "shards" / "x.h5").mkdir()

    ended = server("store", "repair", store)
    assert (ended.code, "Traceback" in ended.printed) == (0, False), ended
    assert verify_store(store, full=True).problems == []


@pytest.mark.parametrize("place", ["damaged", "runs", "units", "catalogue.json", "store.json"])
def test_what_repair_cannot_move_away_is_named(server, store, place):
    path = store / place
    if "." in place:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(b"")

    assert_one_line(server("store", "repair", store), 3, str(path))


# --- A shard that is cut -------------------------------------------------------------------------


def read_from_a_cut_shard(path):
    """Open a store, cut its shard, read on: what the server calls."""
    with Store(path) as store:
        store.cubes("walk/a.mp4")
        os.truncate(shard_of(store.path), 4096)
        store.cubes("walk/a.mp4")


def test_a_shard_that_is_cut_while_it_is_open_ends_in_an_error(server, store):
    ended = server("tests.hostile.test_stores:read_from_a_cut_shard", store)

    assert ended.code == 1, ended  # by the exception; a signal would be below 0
    assert "DamageError" in ended.printed
    assert "was cut off at 4096" in ended.printed


# --- Records and times ---------------------------------------------------------------------------

WRONG = {
    "height": 0, "width": -5, "num_frames": -1, "media_bytes": -1, "status": b"odd",
    "crop": (0, 0, np.nan, 1), "source_fps": -1, "duration_seconds": np.inf, "source": b"\xff",
    "media_sha256": b"zz", "start_seconds": np.inf,
}  # fmt: skip


@pytest.mark.parametrize("field", [*WRONG, "negative crop"])
def test_a_record_that_says_what_cannot_be_is_refused(store, field):
    wrong = {"crop": (0, 0, -1, 1)} if field == "negative crop" else {field: WRONG[field]}
    edit_record(store, **wrong)

    with Store(store) as opened, pytest.raises(DamageError, match="number 1"):
        opened.video("run/b.mp4")
    assert "number 1" in verify_store(store).problems[0]


def test_repair_keeps_the_others_of_a_shard_with_a_wrong_record(store):
    edit_record(store, height=0)

    assert repair_store(store).lost == ["run/b.mp4"]
    with Store(store) as opened:
        assert opened.ids == ["walk/a.mp4"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_times_that_no_frame_has_are_damage(store, value):
    with h5py.File(shard_of(store), "a") as file:
        file["pts_seconds"][2] = value
        position = json.loads(file.attrs["arrays"]).index("pts_seconds")
        table = file["videos"][:]
        rows = file["pts_seconds"][: table["length"][0]]
        table["checksums"][0][position] = xxhash.xxh3_64_intdigest(rows.tobytes())
        table["record_checksum"][0] = record_checksum(table[:1])
        file["videos"][:] = table
    relist(store)

    assert "which no frame has" in verify_store(store, full=True).problems[0]
    make_store(store.with_name("good"), {"walk/c.mp4": 2}, run_id="good")
    with pytest.raises(DamageError, match="which no frame has"):
        append_stores(store.with_name("good"), [store])
