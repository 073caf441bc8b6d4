"""The small reader of HDF5 against libhdf5: what h5py writes by default, both read alike."""

import h5py
import numpy as np
import pytest

from features_store.errors import DamageError, UnsafeStoreError
from features_store.exchange.hdf5_rows import Hdf5Rows, fletcher32
from features_store.format.chunks import RawRows
from features_store.format.hdf5.file import Hdf5File
from features_store.format.layout import LayerShape, split_units
from features_store.format.records import record_dtype
from features_store.format.regular_file import RegularFile
from features_store.store import Store
from tests.stores import header, make_store


def opened(path):
    return Hdf5File(RegularFile(path), str(path))


def test_names_shapes_and_types_are_those_of_libhdf5(tmp_path):
    kinds = [
        "<f2",
        "<f4",
        "<f8",
        "u1",
        "i1",
        "<i8",
        "<u8",
        "S5",
        record_dtype(id_bytes=9, num_arrays=3),
    ]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for number, kind in enumerate(kinds):
            file.create_dataset(f"a/{number}", (3, 4), kind)
            file.create_dataset(f"a/b/{number}", (3, 4), kind, chunks=(2, 4))
        for number in range(300):  # a tree of names of several levels
            file.create_dataset(f"many/{number:03}", (), "i1")
        said = {name: (node.shape, node.dtype, node.chunks)
                for name, node in _datasets(file).items()}  # fmt: skip
        file["a/0"].attrs["number"], file["a/0"].attrs["text"] = 7, np.bytes_("words")

    read = opened(tmp_path / "x.h5")
    found = {name: read.dataset(name) for name in read.datasets}
    assert {name: (d.shape, d.dtype, d.chunks) for name, d in found.items()} == said
    assert read.attribute("number", of=found["a/0"]).item() == 7
    assert read.text("text", of=found["a/0"]) == "words"
    assert read.text("other", of=found["a/0"]) is None


def _datasets(file):
    found = {}
    file.visititems(
        lambda name, node: found.update({name: node} if isinstance(node, h5py.Dataset) else {})
    )
    return found


def test_rows_of_a_tree_of_several_levels_are_those_of_libhdf5(tmp_path):
    rows = np.random.default_rng(0).random((9001, 3))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=rows, chunks=(2, 3))

    with RegularFile(tmp_path / "x.h5") as file:
        hdf5 = Hdf5File(file, "x.h5")
        read = RawRows(file, hdf5, hdf5.dataset("x"))
        for part in (slice(0, 9001), slice(127, 129), slice(8999, 9001), slice(5, 5)):
            np.testing.assert_array_equal(read[part], rows[part])
            np.testing.assert_array_equal(read.window(part), rows[part])


@pytest.mark.parametrize(
    "options",
    [
        {}, {"chunks": (4, 5)}, {"chunks": (7, 3), "compression": "gzip"}, {"chunks": (17, 2)},
        {"chunks": (3, 10), "shuffle": True, "fletcher32": True},
        {"chunks": (6, 4), "compression": "gzip", "shuffle": True, "fletcher32": True},
    ],
    ids=str,
)  # fmt: skip
def test_tables_of_others_are_read_through_their_filters(tmp_path, options):
    rows = np.random.default_rng(0).random((17, 10)).astype(np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=rows, **options)

    read = Hdf5Rows(tmp_path / "x.h5", "x")
    for part in (slice(0, 17), slice(3, 8), slice(16, 17)):
        np.testing.assert_array_equal(read[part], rows[part])


def test_a_flipped_bit_behind_a_checksum_of_hdf5_is_damage(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("x", data=np.ones((8, 4)), chunks=(8, 4), fletcher32=True)
        place = data.id.get_chunk_info(0).byte_offset
    content = bytearray((tmp_path / "x.h5").read_bytes())
    content[place + 9] ^= 1
    (tmp_path / "x.h5").write_bytes(content)

    with pytest.raises(DamageError, match="chunk 0 of 1 is not what was written"):
        Hdf5Rows(tmp_path / "x.h5", "x")[0:8]
    assert fletcher32(b"\0\0\0") == 0


@pytest.mark.parametrize("libver", ["v108", "v110", "latest"])
def test_newer_structures_are_refused_in_words(tmp_path, libver):
    with h5py.File(tmp_path / "x.h5", "w", libver=libver) as file:
        file["x"] = np.ones((3, 4))

    with pytest.raises(UnsafeStoreError, match=r"x\.h5: .*only newer HDF5.*`libver` earliest"):
        opened(tmp_path / "x.h5")


def test_rows_are_taken_by_their_numbers(tmp_path):
    written = make_store(tmp_path / "s", {"a": 9, "b": 3})

    with Store(tmp_path / "s") as store:
        for rows in ([0, 1, 2], [8, 3, 3, 4], [5], []):
            numbers = np.array(rows, np.int64)
            taken = store.take("a", "cubes/center/top", numbers)
            np.testing.assert_array_equal(taken, written["a"]["cubes/center/top"][numbers])


def test_a_shard_of_a_great_many_small_arrays_is_read(tmp_path):
    layers = tuple(LayerShape(f"layer{number}", 1, 2) for number in range(300))
    make_store(tmp_path / "s", {"a": 2}, store_header=header(layers=layers, has_diffs=False))

    with Store(tmp_path / "s") as store:
        assert store.cubes("a", layer="layer299").shape == (2, 1, 1, 2)


def test_no_unit_has_more_videos_than_a_table_may_hold():
    units = split_units([1] * 10, row_bytes=1, most_videos=4)

    assert [len(unit) for unit in units] == [4, 4, 2]
