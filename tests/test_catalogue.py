"""The catalogue: a store is all of its shards and no others, and each state of it has a name."""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features_store import catalogue as catalogue_module
from features_store.errors import DamageError, StoreError, UsageError
from features_store.format.disk import file_checksum
from features_store.session import StoreSession
from features_store.sources import new_source
from features_store.store import Store
from features_store.verbs.merge import append_stores
from features_store.verbs.repair import repair_store
from features_store.verbs.reshape import RepackOptions, repack_store
from features_store.verbs.verify import verify_store
from tests.stores import (
    HEADER,
    SPEC,
    add_unit,
    add_video,
    catalogue_of,
    commit,
    frames,
    header,
    killed_before_the_rename,
)
from tests.stores import make_store as make_first_unit

FIRST, SECOND = {"walk/a.mp4": 5, "run/b.mp4": 3}, {"run/c.mp4": 4}
A, B = "run.0001-1.h5", "second.0001-1.h5"


def make_store(path: Path) -> Path:
    """Write a store of two shards, `A` and `B`."""
    make_first_unit(path, FIRST)
    add_unit(path, SECOND, run_id="second")
    return path


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "s")


def cubes(path: Path, revision: str | None = None) -> dict[str, bytes]:
    with Store(path, revision=revision) as opened:
        return {video_id: opened.cubes(video_id).tobytes() for video_id in opened.ids}


# --- What can happen to a copy of a store --------------------------------------------------------


def _replace_by_older(store: Path) -> None:
    """Put content under a shard's name that differs from it in a record alone."""
    older = store.parent / "older"
    make_first_unit(older, FIRST)
    with (
        StoreSession(older, HEADER, run_id="second") as writer,
        writer.unit(rows=4, video_ids=list(SECOND)) as unit,
    ):
        unit.write_rows(frames(4, seed=9))
        commit(unit, "run/c.mp4", media_sha256="b" * 64)
    _copy_in(older / "shards" / B, store, B)


def _other(store: Path) -> Path:
    """Make another store of the same names, ids, sizes and spec."""
    other = store.parent / "other"
    make_first_unit(other, FIRST, shift=1.0)
    add_unit(other, SECOND, run_id="second", seed=7)
    return other


def _copy_in(file: Path, store: Path, name: str) -> None:
    shutil.copy(file, store / "shards" / name)


def _replace_one_of_no_use(store: Path) -> None:
    """Damage a shard of which every video lies in a newer one."""
    add_unit(store, SECOND, run_id="third")
    _copy_in(_other(store) / "shards" / B, store, B)


def _swap(store: Path) -> None:
    a, b = (store / "shards" / name for name in (A, B))
    content = a.read_bytes()
    b.replace(a)
    b.write_bytes(content)


def _cut(store: Path, by: int) -> None:
    with (store / "shards" / B).open("r+b") as file:
        file.truncate((store / "shards" / B).stat().st_size - by)


def _catalogue_before_b(store: Path) -> None:
    older = store.parent / "before"
    make_first_unit(older, FIRST)
    shutil.copy(older / "catalogue.json", store)


def _catalogue_of_another(store: Path, **options) -> None:
    other = store.parent / "x"
    make_first_unit(other, {"x.mp4": 2}, run_id="elsewhere", **options)
    shutil.copy(other / "catalogue.json", store)


def _copy_another_in(store: Path, **options) -> None:
    other = store.parent / "x"
    make_first_unit(other, {"x.mp4": 2}, run_id="elsewhere", **options)
    _copy_in(other / "shards" / "elsewhere.0001-1.h5", store, "elsewhere.0001-1.h5")


OTHER_SPEC = header(spec=replace(SPEC, precision="bf16"))
OTHER_SOURCE = header(sources=(new_source("elsewhere"),))


@dataclass(frozen=True)
class Damage:
    """One way to damage a copy of a store of `FIRST` and `SECOND`.

    Attributes:
        named: what every message names.
        kept: ids that a repaired store holds.
    """

    do: Callable[[Path], object]
    named: str = B
    kept: tuple[str, ...] = (*FIRST,)


ALL = (*FIRST, *SECOND)
DAMAGES = {
    "a shard is gone": Damage(lambda s: (s / "shards" / B).unlink()),
    "all shards are gone": Damage(lambda s: shutil.rmtree(s / "shards"), A, ()),
    "a shard is cut": Damage(lambda s: _cut(s, by=1000), B, (*FIRST, "run/c.mp4")),
    "a shard is empty": Damage(lambda s: (s / "shards" / B).write_bytes(b"")),
    "a shard has grown": Damage(lambda s: _cut(s, by=-1), B, ALL),
    "a shard is another store's": Damage(lambda s: _copy_in(_other(s) / "shards" / B, s, B)),
    "a shard of no use is another store's": Damage(_replace_one_of_no_use, B, ALL),
    "a shard has older content": Damage(_replace_by_older),
    "a shard is renamed": Damage(
        lambda s: (s / "shards" / B).rename(s / "shards" / "zz-1.h5"), B, ALL
    ),
    "a shard is another one of the store": Damage(lambda s: _copy_in(s / "shards" / A, s, B)),
    "two shards are swapped": Damage(_swap, A, ALL),
    "a shard is there twice": Damage(
        lambda s: _copy_in(s / "shards" / A, s, "zz-1.h5"), "zz-1.h5", ALL
    ),
    "a shard of no such name": Damage(
        lambda s: _copy_in(s / "shards" / A, s, "copy of a.h5"), "copy of a.h5", ALL
    ),
    "another store's shard is there": Damage(
        _copy_another_in, "elsewhere.0001-1.h5", (*ALL, "x.mp4")
    ),
    "a shard from elsewhere is there": Damage(
        lambda s: _copy_another_in(s, store_header=OTHER_SOURCE), "elsewhere.0001-1.h5", ALL
    ),
    "a shard of another spec is there": Damage(
        lambda s: _copy_another_in(s, store_header=OTHER_SPEC), "elsewhere.0001-1.h5", ALL
    ),
    "a shard that is none": Damage(
        lambda s: (s / "shards" / "junk-1.h5").write_bytes(b"junk"), "junk-1.h5", ALL
    ),
    "the catalogue is gone": Damage(
        lambda s: (s / "catalogue.json").unlink(), "catalogue.json", ALL
    ),
    "the catalogue is cut": Damage(
        lambda s: (s / "catalogue.json").write_bytes((s / "catalogue.json").read_bytes()[:-90]),
        "catalogue.json",
        ALL,
    ),
    "the catalogue is older": Damage(_catalogue_before_b, B, ALL),
    "the catalogue is another store's": Damage(
        _catalogue_of_another, "elsewhere.0001-1.h5", ALL
    ),
    "the catalogue is of another spec": Damage(
        lambda s: _catalogue_of_another(s, store_header=OTHER_SPEC), "catalogue.json", ALL
    ),
    "the catalogue is a twin's": Damage(
        lambda s: shutil.copy(_other(s) / "catalogue.json", s), A, ()
    ),
}  # fmt: skip


@pytest.fixture(params=DAMAGES)
def damaged(request, store):
    """Return a damaged store and what was done; with the index, as a copied store has it."""
    damage = DAMAGES[request.param]
    damage.do(store)
    return store, damage


def test_damage_is_named_when_a_store_is_opened_and_checked(damaged):
    store, damage = damaged

    with pytest.raises(DamageError) as caught:
        Store(store).check_shards()
    assert damage.named in str(caught.value)


@pytest.mark.parametrize("full", [False, True])
def test_damage_is_reported_by_verify(damaged, full):
    store, damage = damaged

    assert damage.named in "\n".join(verify_store(store, full=full).problems)


def test_damage_is_named_by_the_command_line(cubereel, damaged, tmp_path):
    store, damage = damaged
    new = tmp_path / "new"
    for arguments in (
        ("store", "ls", store),
        ("train", store, "--head", "mean-pool", "--device", "cpu", "--out", new),
        ("store", "repack", store, "--out", new),
        ("store", "merge", store, "--out", new),
        ("store", "verify", store),
    ):
        assert cubereel(*arguments) == 3, arguments
        assert damage.named in cubereel.err, arguments
        assert not new.exists(), arguments


def test_what_is_read_without_a_check_is_right_or_refused(damaged):
    store, _ = damaged
    whole = cubes(make_store(store.parent / "whole"))
    with suppress(DamageError):
        opened = Store(store)
        for video_id in opened.ids:
            assert opened.cubes(video_id).tobytes() == whole[video_id]


def test_a_damaged_store_is_repaired(damaged):
    store, damage = damaged
    report = repair_store(store)

    with Store(store) as opened:
        opened.check_shards()
        assert opened.ids == sorted(damage.kept)
    assert verify_store(store, full=True).problems == []
    assert report.lost == sorted(set(ALL) - set(damage.kept))
    assert repair_store(store).damaged == {}


# --- Revisions -----------------------------------------------------------------------------------


def _revisions(path: Path) -> list[str]:
    """Return the revisions of a store; made as FORMAT.md says, of the files alone."""

    def canonical(document: object) -> bytes:
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")

    document = json.loads((path / "catalogue.json").read_text())
    spec = json.loads((path / "store.json").read_text())["spec"]
    digests = [hashlib.sha256(canonical(spec)).digest()]
    for entry in document["entries"]:
        digests.append(hashlib.sha256(digests[-1] + canonical(entry)).digest())
    assert document["spec_digest"] == digests[0].hex()
    assert document["revision"] == digests[-1].hex()
    return [digest.hex() for digest in digests]


def test_a_revision_is_the_digest_of_the_entries_up_to_it(tmp_path):
    found = []
    for add in (
        lambda: make_first_unit(tmp_path / "s", {"walk/ü c.mp4": 5, "b": 2}),
        lambda: add_unit(tmp_path / "s", {"new": 2}, run_id="second"),
        lambda: add_unit(tmp_path / "s", {"walk/ü c.mp4": 7}, run_id="third"),
    ):
        add()
        with Store(tmp_path / "s") as opened:
            found.append(opened.revision)

    assert found == _revisions(tmp_path / "s")[1:]


def test_an_entry_says_what_the_file_is(store):
    """As somebody finds it who has FORMAT.md, h5py and xxhash."""
    xxhash = pytest.importorskip("xxhash")
    entries = json.loads((store / "catalogue.json").read_text())["entries"]

    assert [f"{entry['name']}.h5" for entry in entries] == [A, B]
    for entry in entries:
        shard = store / "shards" / f"{entry['name']}.h5"
        content = shard.read_bytes()
        with h5py.File(shard) as file:
            offset, size = file["videos"].id.get_offset(), file["videos"].nbytes
        assert (entry["bytes"], entry["supersedes"]) == (len(content), {})
        assert entry["xxh3_128"] == xxhash.xxh3_128_hexdigest(content)
        assert entry["identity"] == {
            "offset": offset,
            "bytes": size,
            "xxh3_128": xxhash.xxh3_128_hexdigest(content[offset : offset + size]),
        }


def test_of_a_long_table_the_first_64_kib_are_the_identity(tmp_path):
    make_first_unit(tmp_path / "s", {f"v{i:03}": 1 for i in range(250)})
    (entry,) = catalogue_of(tmp_path / "s").entries
    (shard,) = (tmp_path / "s" / "shards").glob("*.h5")
    with h5py.File(shard) as file:
        assert file["videos"].nbytes > 2**16

    assert entry.identity.bytes == 2**16
    with Store(tmp_path / "s") as opened:
        opened.check_shards()
        assert len(opened) == 250


def test_an_earlier_revision_is_read_as_it_was(store):
    states = {}
    for run_id, videos in (
        ("third", {"new.mp4": 2}),
        ("fourth", {"walk/a.mp4": 7, "newer.mp4": 1}),  # the first one replaces a video
        ("fifth", {"walk/a.mp4": 2}),
    ):
        with Store(store) as opened:
            states[opened.revision] = cubes(store)
        add_unit(store, videos, run_id=run_id)
    now = cubes(store)

    for revision, content in states.items():
        assert cubes(store, revision) == content
        assert cubes(store, revision[:8]) == content
        with Store(store, revision=revision) as opened:
            assert opened.revision == revision
            opened.check_shards()
    assert cubes(store) == now
    assert cubes(store, SPEC.digest) == {}  # before the first shard


def test_an_earlier_revision_leaves_the_index_alone(store):
    with Store(store) as opened:
        revision = opened.revision
    add_unit(store, {"new.mp4": 2}, run_id="third")
    before = (store / "index.h5").read_bytes()
    assert "new.mp4" not in cubes(store, revision)

    assert (store / "index.h5").read_bytes() == before


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        ("0" * 64, "names 0 of the 3 revisions"),
        ("", "names 3 of the 3 revisions"),
        (SPEC.digest[:7], "names 1 of the 3 revisions of this store; give 8 or more"),
        (SPEC.digest + "0", "names 0 of the 3 revisions"),
        ("latest--", "names 0 of the 3 revisions"),
    ],
)
def test_a_revision_that_is_none_is_refused(store, revision, words):
    with pytest.raises(UsageError, match=words):
        Store(store, revision=revision)


def test_a_revision_that_several_begin_with_is_refused(tmp_path, monkeypatch):
    """Of 17 revisions, two begin with the same digit."""
    make_first_unit(tmp_path / "one", {f"v{i:02}": 1 for i in range(16)})
    repack_store(tmp_path / "one", tmp_path / "s", RepackOptions(shard_bytes=1))
    digits = [revision[0] for revision in _revisions(tmp_path / "s")]
    several = next(digit for digit in digits if digits.count(digit) > 1)
    monkeypatch.setattr(catalogue_module, "MIN_REVISION", 1)

    with pytest.raises(UsageError, match=rf"'{several}' names {digits.count(several)} of the 17"):
        Store(tmp_path / "s", revision=several)


def test_a_reader_that_was_open_before_a_write_does_not_see_it(store):
    with Store(store) as opened:
        ids, revision, before = opened.ids, opened.revision, cubes(store)
        add_unit(store, {"new.mp4": 2, "walk/a.mp4": 9}, run_id="third")

        assert (opened.ids, opened.revision) == (ids, revision)
        assert {i: opened.cubes(i).tobytes() for i in ids} == before
        opened.check_shards()
    assert cubes(store) != before


def test_names_of_shards_are_never_used_twice(store):
    add_unit(store, {"new.mp4": 2}, run_id="second")
    (store / "shards" / "second.0001-2.h5").unlink()
    repair_store(store)
    shard = add_unit(store, {"new.mp4": 2}, run_id="second")

    assert shard.name == "second.0001-3.h5"


# --- Between listing a shard and giving it its name ----------------------------------------------

PENDING = {"new.mp4": 4, "walk/a.mp4": 4}  # one is new, one replaces another


def _in_place(store: Path) -> None:
    add_unit(store, PENDING, run_id="third")


def _by_copy(store: Path) -> None:
    """Write a unit that reserved far more rows than it needs."""
    with (
        StoreSession(store, HEADER, run_id="third") as writer,
        writer.unit(rows=1000, video_ids=list(PENDING)) as unit,
    ):
        for video_id, length in PENDING.items():
            add_video(unit, video_id, frames(length, seed=9))


def _append(store: Path) -> None:
    append_stores(store, [store.parent / "x"])


WRITES = {
    "in place": (_in_place, [".partial"]),
    "by copy": (_by_copy, [".partial", ".sealing"]),
    "append": (_append, [".sealing"]),
}


@pytest.fixture(params=WRITES)
def pending(request, store):
    """Return a store whose last writer was killed there, and its content and revision before."""
    write, ends = WRITES[request.param]
    before = cubes(store), catalogue_of(store).revision
    make_first_unit(store.parent / "x", {"new.mp4": 4}, run_id="x")
    with killed_before_the_rename():
        write(store)
    left = [path.suffix for path in sorted((store / "shards").iterdir()) if path.suffix != ".h5"]
    assert left == ends
    assert len(catalogue_of(store).entries) == 3
    return store, *before


def test_readers_do_not_see_a_shard_that_is_listed_and_has_not_its_name(pending):
    store, content, revision = pending

    assert cubes(store) == content
    with Store(store) as opened:
        assert opened.revision == revision
        opened.check_shards()
    assert verify_store(store, full=True).problems == []


@pytest.mark.parametrize("who", ["writer", "repair"])
def test_the_next_writer_gives_it_its_name(pending, who):
    store, content, _ = pending
    listed = catalogue_of(store)
    if who == "writer":
        with StoreSession(store, HEADER, run_id="fourth") as writer:
            salvaged = [shard.name for shard in writer.salvaged]
    else:
        salvaged = repair_store(store).salvaged

    assert salvaged == [listed.entries[-1].file_name]
    assert catalogue_of(store) == listed
    assert {path.name for path in (store / "shards").iterdir()} == set(listed.shards)
    with Store(store) as opened:
        assert opened.revision == listed.revision
        assert set(opened.ids) == {*content, "new.mp4"}
        assert opened.num_frames_of("new.mp4") == 4
    assert verify_store(store, full=True).problems == []


def test_what_is_left_of_a_damaged_one_is_salvaged_under_another_name(store):
    with killed_before_the_rename():
        _in_place(store)
    partial = store / "shards" / "third.0001-1.h5.partial"
    first = frames(4, seed=9)["cubes/center/top"].tobytes()
    content = bytearray(partial.read_bytes())
    content[content.index(first)] ^= 1  # of the video that was written first
    partial.write_bytes(content)

    with StoreSession(store, HEADER, run_id="fourth") as writer:
        assert [shard.name for shard in writer.salvaged] == ["third.0001-2.h5"]
    assert verify_store(store, full=True).problems == []
    with Store(store) as opened:
        assert "new.mp4" not in opened
        assert opened.num_frames_of("walk/a.mp4") == 4


# --- Any sequence of writes ----------------------------------------------------------------------

IDS = st.sampled_from(["a", "b/c", "d"])
STEPS = st.one_of(
    st.tuples(st.just("write"), st.dictionaries(IDS, st.integers(1, 3), min_size=1)),
    st.tuples(st.just("killed"), st.dictionaries(IDS, st.integers(1, 3), min_size=1)),
    st.tuples(st.just("repair"), st.none()),
    st.tuples(st.just("damaged"), IDS),
    st.tuples(st.just("no index"), st.none()),
)


@settings(deadline=None, max_examples=15)
@given(st.lists(STEPS, max_size=7), st.sampled_from([1, 1000]))
def test_after_any_sequence_of_writes_a_store_holds_what_was_written_last(steps, spare):
    model: dict[str, bytes] = {}
    states: dict[str, dict[str, bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        with StoreSession(path, HEADER, run_id="first"):
            pass
        for number, (kind, what) in enumerate(steps):
            if kind in ("write", "killed"):
                _write(path, what, number=number, spare=spare, is_killed=kind == "killed")
                if kind == "killed":
                    assert cubes(path) == model
                    with StoreSession(path, HEADER, run_id=f"after{number}"):
                        pass
                rows = {video_id: _rows(length, number) for video_id, length in what.items()}
                model |= {i: rows[i]["cubes/center/top"].tobytes() for i in rows}
            elif kind == "repair":
                assert repair_store(path).damaged == {}
            elif kind == "no index":
                (path / "index.h5").unlink(missing_ok=True)
            elif what in model:
                _flip_first_cube(path, what)
                assert repair_store(path).lost == [what]
                del model[what]
                states.clear()  # of which a shard is gone
            assert cubes(path) == model
            with Store(path) as opened:
                opened.check_shards()
                states[opened.revision] = dict(model)
        for revision, content in states.items():
            assert cubes(path, revision) == content
        assert verify_store(path, full=True).problems == []


def _rows(num_frames: int, number: int) -> dict:
    return frames(num_frames, seed=100 * number + num_frames)


def _write(
    path: Path, lengths: dict[str, int], *, number: int, spare: int, is_killed: bool
) -> None:
    def write() -> None:
        with (
            StoreSession(path, HEADER, run_id=f"w{number}") as writer,
            writer.unit(rows=spare * sum(lengths.values()), video_ids=list(lengths)) as unit,
        ):
            for video_id, length in lengths.items():
                add_video(unit, video_id, _rows(length, number))

    if is_killed:
        with killed_before_the_rename():
            write()
    else:
        write()


def _flip_first_cube(path: Path, video_id: str) -> None:
    with Store(path) as opened:
        shard = path / "shards" / opened.shard_of(video_id)
        row = opened.video(video_id).offset
    with h5py.File(shard, "r+") as file:
        file["cubes/center/top"][row, 0, 0, 0] += 1


# --- Many shards ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_thousand_shards_are_checked(tmp_path, capsys):
    make_first_unit(tmp_path / "one", {f"v{i:04}": 1 for i in range(1000)})
    repack_store(tmp_path / "one", tmp_path / "s", RepackOptions(shard_bytes=1))
    begin = time.perf_counter()
    with Store(tmp_path / "s") as opened:
        listed = time.perf_counter()
        opened.check_shards()
        checked = time.perf_counter()
    with capsys.disabled():
        print(f"\n1000 shards: opened in {listed - begin:.3f} s, checked {checked - listed:.3f} s")

    shard = sorted((tmp_path / "s" / "shards").iterdir())[700]
    content = bytearray(shard.read_bytes())
    with h5py.File(shard) as file:
        content[file["videos"].id.get_offset()] ^= 1
    shard.write_bytes(content)
    with Store(tmp_path / "s") as opened, pytest.raises(DamageError, match=shard.name):
        opened.check_shards()
    assert file_checksum(shard) != opened.catalogue.shards[shard.name].xxh3_128
    np.testing.assert_equal(len(opened.catalogue.shards), 1000)


def test_shards_that_were_exchanged_get_their_names_back(tmp_path):
    store = tmp_path / "s"
    make_first_unit(store, {"a": 3, "b": 2})
    add_unit(store, {"c": 3, "d": 2}, run_id="more")
    one, two = sorted((store / "shards").glob("*.h5"))
    held = one.with_name("held")
    one.rename(held)
    two.rename(one)
    held.rename(two)

    report = repair_store(store)

    assert report.lost == []
    assert verify_store(store, full=True).problems == []
    with Store(store) as opened:
        assert opened.ids == ["a", "b", "c", "d"]


def test_shards_without_a_store_json_are_not_written_over(tmp_path):
    store = tmp_path / "s"
    make_first_unit(store, {"a": 3})
    for name in ("store.json", "index.h5", "manifest.csv"):
        (store / name).unlink()
    for name in ("failures", "runs"):
        shutil.rmtree(store / name, ignore_errors=True)
    before = (store / "catalogue.json").read_bytes()

    with pytest.raises(StoreError, match=r"has shards and no store\.json"):
        make_first_unit(store, {"b": 2})
    assert (store / "catalogue.json").read_bytes() == before


def test_units_that_are_sealed_at_once_are_all_listed(tmp_path):
    store = tmp_path / "s"
    make_first_unit(store, {"a": 1})
    ids = [f"{number:02}" for number in range(24)]

    def write(video_id, writer):
        with writer.unit(rows=2, video_ids=[video_id]) as unit:
            add_video(unit, video_id, frames(2, seed=0))

    with StoreSession(store, HEADER, run_id="threads") as writer, ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, video_id, writer) for video_id in ids]:
            done.result()
            with Store(store):
                pass

    with Store(store) as opened:
        assert opened.ids == sorted([*ids, "a"])


def test_a_record_that_lost_its_id_hides_no_sound_video(tmp_path):
    store = tmp_path / "s"
    make_first_unit(store, {"a": 2, "b": 3, "c": 4})
    (shard,) = (store / "shards").glob("*.h5")
    with h5py.File(shard, "r+") as file:
        table = file["videos"][:]
        table[1] = np.zeros(1, table.dtype)[0]
        file["videos"][:] = table

    assert repair_store(store).lost == ["b"]
    with Store(store) as opened:
        assert opened.ids == ["a", "c"]


def test_what_is_sound_of_a_damaged_shard_is_kept_without_a_catalogue(tmp_path):
    store = tmp_path / "s"
    make_first_unit(store, {"a": 2, "b": 3, "c": 4})
    (shard,) = (store / "shards").glob("*.h5")
    with h5py.File(shard, "r+") as file:
        file["cubes/center/top"][3] += 1
    (store / "catalogue.json").unlink()

    assert repair_store(store).lost == ["b"]
    assert verify_store(store, full=True).problems == []
    with Store(store) as opened:
        assert opened.ids == ["a", "c"]


def test_a_folder_with_the_name_of_a_shard_stops_no_repair(tmp_path):
    store = tmp_path / "s"
    make_first_unit(store, {"a": 2})
    (store / "shards" / "foo-1.h5").mkdir()

    with pytest.raises(DamageError, match=r"foo-1\.h5"):
        Store(store)
    repair_store(store)
    with Store(store) as opened:
        assert opened.ids == ["a"]
