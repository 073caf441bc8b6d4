"""Stores made to harm whoever opens them: each is refused, with a message of its own."""

import json
import os
from dataclasses import replace

import h5py
import numpy as np
import pytest

from features_store.catalogue import Catalogue, Identity, write_catalogue
from features_store.errors import CubereelError, DamageError, StoreError, UnsafeStoreError
from features_store.format.records import record_checksum
from features_store.format.safety import MAX_JSON_BYTES
from features_store.index import write_index
from features_store.metadata import read_header
from features_store.session import StoreSession
from features_store.store import Store
from features_store.verbs.info import store_info
from features_store.verbs.merge import merge_stores
from features_store.verbs.repair import repair_store
from features_store.verbs.reshape import RepackOptions, repack_store
from features_store.verbs.verify import verify_store
from tests.stores import HEADER, catalogue_of, header, make_store, relist

hdf5plugin = pytest.importorskip("hdf5plugin")  # absent where GPU tests alone are run
LENGTHS = {"walk/a.mp4": 5, "run/b.mp4": 1, "walk/ü c.mp4": 12}
CUBES = "cubes/center/top"
COMPACT = {"dtype": "8bit", "compression": "zstd"}


@pytest.fixture
def store(tmp_path):
    make_store(tmp_path / "s", LENGTHS)
    return tmp_path / "s"


def _shard(store):
    (shard,) = (store / "shards").glob("*.h5")
    return shard


def _replaced(store, make):
    """Let `make(file, shape, dtype)` put something else where the cubes are."""
    with h5py.File(_shard(store), "a") as file:
        shape, dtype = file[CUBES].shape, file[CUBES].dtype
        del file[CUBES]
        make(file, shape, dtype)


def _read_all(store):
    with Store(store) as opened:
        for video_id in opened.ids:
            opened.cubes(video_id)


def _assert_refused(store, error, words):
    """Reading, verifying and copying: none follows, and none ends in another error.

    The catalogue is the hostile store's own too, so that it lists what is there.
    """
    if not _shard(store).is_symlink():
        relist(store)
    with pytest.raises(error, match=words):
        _read_all(store)
    assert verify_store(store, full=True).problems
    with pytest.raises(CubereelError):
        merge_stores([store], store.parent / "merged")


LINKS = {
    "SoftLink": lambda file, *_: file.__setitem__(CUBES, h5py.SoftLink("/diffs/center")),
    "ExternalLink": lambda file, *_: file.__setitem__(CUBES, h5py.ExternalLink("/etc/x.h5", "x")),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_in_a_shard(store, kind):
    _replaced(store, LINKS[kind])
    _assert_refused(store, UnsafeStoreError, f"is a {kind}; a store may not point outside")


def test_rows_in_another_file(store, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(10**5))
    _replaced(
        store,
        lambda file, shape, dtype: file.create_dataset(
            CUBES, shape, dtype, external=[(str(secret), 0, 10**5)]
        ),
    )
    _assert_refused(store, UnsafeStoreError, "lie in another file")


def test_a_virtual_dataset(store):
    def make(file, shape, dtype):
        layout = h5py.VirtualLayout(shape, dtype)
        layout[:] = h5py.VirtualSource("other.h5", "x", shape)
        file.create_virtual_dataset(CUBES, layout)

    _replaced(store, make)
    _assert_refused(store, UnsafeStoreError, "lie in another file")


def test_objects_where_numbers_belong(store):
    _replaced(
        store,
        lambda file, shape, _: file.create_dataset(CUBES, shape[:1], h5py.string_dtype()),
    )
    _assert_refused(store, UnsafeStoreError, "objects of variable size")


def test_more_rows_than_the_file_can_hold(store):
    _replaced(
        store,
        lambda file, shape, dtype: file.create_dataset(
            CUBES, (10**9, *shape[1:]), dtype, chunks=(1, *shape[1:])
        ),
    )
    _assert_refused(store, UnsafeStoreError, r"claims \d+ bytes, the file has \d+")


def test_chunks_too_large_to_read(store):
    _replaced(
        store,
        lambda file, shape, dtype: file.create_dataset(
            CUBES, shape, dtype, chunks=(2**16, 32, 32, 8), maxshape=(None,) * 4
        ),
    )
    _assert_refused(store, UnsafeStoreError, "too large to read")


@pytest.mark.parametrize(
    "options",
    [{"compression": "gzip"}, {"shuffle": True}, {"fletcher32": True}, hdf5plugin.Blosc()],
    ids=["gzip", "shuffle", "fletcher32", "blosc"],
)
def test_filters_that_store_json_does_not_announce(store, options):
    _replaced(
        store,
        lambda file, shape, dtype: file.create_dataset(
            CUBES, shape, dtype, chunks=(1, *shape[1:]), **options
        ),
    )
    _assert_refused(store, UnsafeStoreError, r"HDF5 filters \[\d+\], store.json announces none")


def test_a_chunk_that_skips_the_filter(tmp_path):
    make_store(tmp_path / "s", LENGTHS, store_header=header(**COMPACT))
    with h5py.File(_shard(tmp_path / "s"), "a") as file:
        chunk_bytes = int(np.prod(file[CUBES].chunks))
        file[CUBES].id.write_direct_chunk((0, 0, 0, 0), bytes(chunk_bytes), filter_mask=1)
    _assert_refused(tmp_path / "s", UnsafeStoreError, "a chunk that is not in this file")


def test_a_chunk_that_unpacks_to_more_than_it_may(tmp_path):
    make_store(tmp_path / "s", LENGTHS, store_header=header(**COMPACT))
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        bomb = file.create_dataset(
            "x", data=np.zeros(2**24, np.uint8), chunks=(2**24,), **hdf5plugin.Zstd()
        )
        _, frame = bomb.id.read_direct_chunk((0,))
    with h5py.File(_shard(tmp_path / "s"), "a") as file:
        file[CUBES].id.write_direct_chunk((0, 0, 0, 0), frame)
    _assert_refused(tmp_path / "s", UnsafeStoreError, "unpacks to more bytes than")


def test_a_dataset_that_compresses_too_well_to_be_believed(tmp_path):
    make_store(tmp_path / "s", LENGTHS, store_header=header(**COMPACT))
    _replaced(
        tmp_path / "s",
        lambda file, shape, dtype: file.create_dataset(
            CUBES, (10**11, *shape[1:]), dtype, chunks=(10**6, *shape[1:]), **hdf5plugin.Zstd()
        ),
    )
    _assert_refused(tmp_path / "s", UnsafeStoreError, "more than 20000 to 1 is not believed")


def test_bytes_before_the_hdf5_file(store):
    shard = _shard(store)
    with (
        h5py.File(shard.with_suffix(".tmp"), "w", userblock_size=512) as file,
        h5py.File(shard) as original,
    ):
        for name in original:
            original.copy(name, file)
        for name, value in original.attrs.items():
            file.attrs[name] = value
    shard.with_suffix(".tmp").replace(shard)
    _assert_refused(store, UnsafeStoreError, "begins with 512 bytes that are not HDF5")


def _edit_record(store, **values):
    with h5py.File(_shard(store), "a") as file:
        table = file["videos"][:]
        for name, value in values.items():
            table[name][1] = value
        table["record_checksum"][1] = record_checksum(table[1:2])
        file["videos"][:] = table
    (store / "index.h5").unlink(missing_ok=True)
    relist(store)


@pytest.mark.parametrize(
    "video_id", [b"../../x", b"/etc/passwd", b"a/../../x", b"a\\..\\x", b"a\nb", b"\xff\xfe"]
)
def test_ids_that_leave_the_store(store, video_id):
    _edit_record(store, id=video_id)
    with pytest.raises(UnsafeStoreError, match="video id that could leave the store"):
        Store(store)
    assert verify_store(store).problems


@pytest.mark.parametrize(
    "values",
    [{"offset": -5}, {"offset": 10**6}, {"length": 10**12}, {"length": -1}, {"length": 2**63 - 1}],
    ids=str,
)
def test_records_that_lie_about_their_rows(store, values):
    _edit_record(store, **values)
    with pytest.raises(DamageError, match=r"claims rows|where index.h5 says"):
        _read_all(store)
    assert verify_store(store).problems


def _edit_entry(store, **changes):
    """Change the only entry of a catalogue, and its revision as if it were right."""
    catalogue = catalogue_of(store)
    entries = (replace(catalogue.entries[0], **changes),)
    write_catalogue(store, Catalogue(catalogue.spec_digest, entries))


def test_a_catalogue_that_lies_about_the_size(store):
    _edit_entry(store, bytes=10**15)

    assert "the catalogue says 1000000000000000" in verify_store(store).problems[0]
    with pytest.raises(DamageError, match="the catalogue says 1000000000000000"):
        Store(store)


@pytest.mark.parametrize(
    ("offset", "num_bytes"),
    [(-1, 8), (2**64, 8), (0, 2**64), (0, -1), (-(2**63), -(2**63)), (10**9, 8)],
)
def test_a_catalogue_that_lies_about_the_place_of_a_table(store, offset, num_bytes):
    _edit_entry(store, identity=Identity(offset, num_bytes, "0" * 32))

    with pytest.raises(DamageError, match="is not the shard that the catalogue lists"):
        _read_all(store)
    assert "is not the shard that the catalogue lists" in verify_store(store).problems[0]


@pytest.mark.parametrize("name", ["../x-1", "/etc/passwd-1", "a/b-1", ".-1", "run", "run-0", ""])
@pytest.mark.parametrize("where", ["name", "supersedes"])
def test_a_catalogue_with_names_that_leave_the_store(store, name, where):
    _edit_entry(store, **{where: name if where == "name" else {name: ("walk/a.mp4",)}})

    with pytest.raises(DamageError, match=r"catalogue\.json cannot be read: .* no name of a unit"):
        Store(store)
    assert "no name of a unit" in verify_store(store).problems[0]


def test_a_catalogue_that_supersedes_what_nobody_has(store):
    nobody = {"nowhere-1": ("walk/a.mp4",), "run.0001-1": ("nobody.mp4", "x" * 1000)}
    _edit_entry(store, supersedes=nobody)

    _read_all(store)
    with Store(store) as opened:
        assert opened.ids == sorted(LENGTHS)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b'"x"', b'{"entries": "x"}', b"\x80\x04\x95", b'{"entries": [5]}', b"[" * 10**5,
        b'{"spec_digest": "0", "entries": [], "revision": "0"}',
    ],
)  # fmt: skip
def test_a_catalogue_that_is_none(store, content):
    (store / "catalogue.json").write_bytes(content)

    with pytest.raises(DamageError, match=r"catalogue\.json"):
        Store(store)
    assert "catalogue.json" in verify_store(store).problems[0]
    assert repair_store(store).lost == []
    _read_all(store)


def test_a_catalogue_of_more_bytes_than_a_reader_takes(store):
    with (store / "catalogue.json").open("r+b") as file:
        file.truncate(MAX_JSON_BYTES + 1)

    with pytest.raises(DamageError, match=r"catalogue\.json cannot be read: it has \d+ bytes"):
        Store(store)


def test_an_edited_catalogue_is_noticed(store):
    text = (store / "catalogue.json").read_text()
    for old, new in (
        ("run.0001-1", "run.0001-2"),
        ('"bytes": ', '"bytes": 1'),
        ('": {}', '": null'),
    ):
        assert old in text
        (store / "catalogue.json").write_text(text.replace(old, new, 1))
        with pytest.raises(DamageError, match=r"was edited|cannot be read"):
            Store(store)


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "object"}, {"dtype": 5}, {"compression": "pickle"}, {"layers": []},
        {"layers": [{"name": "../x", "grid_size": 2, "dim": 8}]}, {"views": ["a/b"]},
        {"layers": [{"name": "top", "grid_size": -2, "dim": 8}]}, {"layers": "top"},
        {"spec": {}}, {"spec_digest": None}, {"spec": []}, {"has_diffs": "yes"}, {"views": []},
        {"sources": []}, {"sources": [{"id": "0"}]}, {"sources": None}, {"has_windows": 1},
        {"layers": [{"name": "top", "grid_size": 2, "dim": 8, "path": "/x"}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_store_json_that_is_none(store, change):
    path = store / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(StoreError, match=r"store\.json"):
        read_header(store)


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95", b"[" * 10**5, b'"x"', b"\xff\xfe"])
def test_a_store_json_that_is_no_json(store, content):
    (store / "store.json").write_bytes(content)

    with pytest.raises(StoreError, match=r"store\.json"):
        read_header(store)


def test_a_link_under_the_name_of_a_temporary_file_is_not_followed(store, tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda _: "0000")
    (tmp_path / "mine").write_text("mine")
    (store / "index.h5").unlink()
    (store / ".index.h5.0000.new").symlink_to(tmp_path / "mine")

    _read_all(store)
    assert (tmp_path / "mine").read_text() == "mine"


def test_repair_moves_nothing_out_of_the_store(store, tmp_path):
    (tmp_path / "victim").mkdir()
    (store / "damaged").symlink_to(tmp_path / "victim")
    _shard(store).write_bytes(b"junk")

    with pytest.raises(UnsafeStoreError, match="outside the store"):
        repair_store(store)
    assert list((tmp_path / "victim").iterdir()) == []


@pytest.mark.parametrize("name", ["store.json", "catalogue.json", "shard", "index.h5"])
@pytest.mark.parametrize("kind", ["/dev/zero", "pipe"])
def test_devices_and_pipes_are_not_read(store, name, kind):
    path = _shard(store) if name == "shard" else store / name
    (store / "index.h5").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(kind)

    with pytest.raises(UnsafeStoreError, match=r"neither a file|is a link"):
        _read_all(store)


@pytest.mark.parametrize("kind", ["/dev/zero", "pipe"])
def test_a_catalogue_that_lists_a_device_or_a_pipe_does_not_make_one_read_it(store, kind):
    """Of no byte, as both say of themselves."""
    shard = _shard(store)
    shard.unlink()
    os.mkfifo(shard) if kind == "pipe" else shard.symlink_to(kind)
    _edit_entry(store, bytes=0, xxh3_128="0" * 32)

    assert verify_store(store, full=True).problems
    repair_store(store)
    _read_all(store)


@pytest.mark.parametrize("name", ["manifest.csv", "failures", "failures/run.jsonl"])
@pytest.mark.parametrize("kind", ["/dev/zero", "pipe"])
def test_devices_and_pipes_beside_the_shards_are_not_read(store, name, kind):
    path = store / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(kind)

    with pytest.raises(UnsafeStoreError, match=r"neither a file|is a link"):
        store_info(store)


def test_groups_that_are_linked_over_and_over(store):
    with h5py.File(_shard(store), "a") as file:
        group = file
        for _ in range(40):
            below = group.create_group("a")
            group["b"] = below
            group = below
    relist(store)
    _read_all(store)


def test_attributes_that_lie_in_a_heap(store):
    with h5py.File(_shard(store), "a") as file:
        file.attrs["spec_digest"] = str(file.attrs["spec_digest"].decode())
    _assert_refused(store, UnsafeStoreError, "not a text of fixed length")


@pytest.mark.parametrize("name", ["shards", "index.h5", ".lock", "failures", "runs"])
def test_links_out_of_the_store(store, name, tmp_path):
    outside = tmp_path / "outside"
    (store / name).rename(outside) if (store / name).exists() else outside.write_text("mine")
    (store / name).symlink_to(outside)
    before = _content(outside)

    with (
        pytest.raises(UnsafeStoreError, match="outside the store"),
        StoreSession(store, HEADER, run_id="r"),
    ):
        pass
    assert _content(outside) == before


def _content(path):
    return path.read_bytes() if path.is_file() else sorted(path.iterdir())


def test_a_shard_that_is_a_link_out_of_the_store(store, tmp_path):
    shard = _shard(store)
    shard.rename(tmp_path / "elsewhere.h5")
    shard.symlink_to(tmp_path / "elsewhere.h5")
    _assert_refused(store, UnsafeStoreError, "outside the store")


def test_a_store_that_is_itself_a_link_is_read(store, tmp_path):
    (tmp_path / "link").symlink_to(store)

    _read_all(tmp_path / "link")


@pytest.mark.parametrize("column", ["shard", "row"])
def test_an_index_that_lies(store, column):
    """With a right checksum, so on purpose."""
    with Store(store) as opened:
        index = opened.index
    with h5py.File(_shard(store)) as file:
        num_videos = len(file["videos"])
    lies = replace(index, **{column: np.roll(index.row, 1) if column == "row" else index.shard + 9})
    write_index(store / "index.h5", lies)

    if column == "shard":  # no such shard: as if there were no index
        _read_all(store)
    else:
        with pytest.raises(DamageError, match=r"where index\.h5 says"):
            _read_all(store)
        assert "says otherwise than the shards" in verify_store(store).problems[0]
        assert repair_store(store).num_videos == num_videos


def test_a_flipped_byte_of_the_index_is_noticed(store):
    with Store(store) as opened:
        ids = opened.ids
    original = (store / "index.h5").read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(len(original), size=200):
        damaged = bytearray(original)
        damaged[position] ^= 1 << int(rng.integers(8))
        (store / "index.h5").write_bytes(damaged)
        with Store(store) as opened:
            assert opened.ids == ids
        assert (store / "index.h5").read_bytes() == original


def test_a_store_on_a_read_only_file_system(store, tmp_path):
    """Nothing is written by reading, not even the index."""
    (store / "index.h5").unlink()
    for path in [*store.rglob("*"), store]:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        _read_all(store)
        assert verify_store(store, full=True).problems == []
        repack_store(store, tmp_path / "copy", RepackOptions(compression="zstd"))
        if os.getuid():  # root writes where it likes
            assert not (store / "index.h5").exists()
    finally:
        for path in [store, *store.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)


def test_repair_sets_a_hostile_shard_aside(store):
    _replaced(store, LINKS["ExternalLink"])
    report = repair_store(store)

    assert report.lost == sorted(LENGTHS)
    assert verify_store(store, full=True).problems == []
