from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features_store.errors import SpecMismatchError, StoreError, UsageError
from features_store.format.layout import (
    SHARD_BYTES,
    LayerShape,
    chunk_rows,
    shard_arrays,
    split_units,
)
from features_store.format.records import (
    check_id,
    is_committed,
    pack_record,
    record_dtype,
    unpack_record,
)
from features_store.spec import Sampling
from features_store.store import Store
from features_store.verbs.reshape import RepackOptions, repack_store
from features_store.verbs.verify import verify_store
from tests.stores import HEADER, SPEC, header, make_store


@given(st.lists(st.integers(1, 1000)), st.integers(1, SHARD_BYTES // 100))
def test_units_cover_every_video_once_in_order(counts, row_bytes):
    units = list(split_units(counts, row_bytes=row_bytes))

    assert [i for unit in units for i in unit] == list(range(len(counts)))
    for unit in units:
        assert len(unit) >= 1
        if len(unit) > 1:
            assert sum(counts[i] for i in unit) * row_bytes <= SHARD_BYTES


@given(st.integers(1, 2**24), st.integers(1, 10**6))
def test_chunks_are_near_a_megabyte_and_never_empty(row_bytes, num_rows):
    rows = chunk_rows(row_bytes, num_rows)

    assert 1 <= rows <= num_rows
    assert rows == 1 or rows * row_bytes <= 2**20


@pytest.mark.parametrize("name", ["top", "blocks.6", "layer3@avg7", "Mixed_7c"])
def test_layer_names_that_can_be_stored(name):
    assert LayerShape(name, 7, 8).cube_shape == (7, 7, 8)


@pytest.mark.parametrize("name", ["", "..", "a/b", "top@sum7", "a b", "x\n"])
def test_layer_names_that_cannot(name):
    with pytest.raises(UsageError, match="cannot stand in a store"):
        LayerShape(name, 7, 8)


def test_an_empty_cube_is_refused():
    with pytest.raises(StoreError, match="empty cube"):
        LayerShape("top", 0, 8)


def test_an_unknown_dtype_is_refused():
    with pytest.raises(UsageError, match="no dtype named 'float8'"):
        shard_arrays(HEADER.layers, views=["center"], dtype="float8")


@pytest.mark.parametrize(
    "video_id", ["", "/etc/passwd", "../a", "a/../b", "a//b", "a/./b", "a\nb", "a\\b", "x" * 1025]
)
def test_ids_that_could_leave_a_store_are_refused(video_id):
    with pytest.raises(UsageError, match="video id"):
        check_id(video_id)


@pytest.mark.parametrize("video_id", ["a.mp4", "a b/ü@1-2.mp4", "..a/b..", "#1!(x).avi"])
def test_ids_of_awkward_files_are_kept(video_id):
    assert check_id(video_id).decode() == video_id


def test_a_record_survives_packing_and_a_changed_bit_does_not(tmp_path):
    make_store(tmp_path / "s", {"a": 3})
    with Store(tmp_path / "s") as store:
        record = store.video("a")
    dtype = record_dtype(id_bytes=4, num_arrays=len(record.checksums))
    row = pack_record(record, dtype)

    assert repr(unpack_record(row)) == repr(record)
    assert is_committed(row)
    damaged = bytearray(row.tobytes())
    for position in range(len(damaged)):
        damaged[position] ^= 4
        assert not is_committed(np.frombuffer(bytes(damaged), dtype)), position
        damaged[position] ^= 4


def test_a_store_of_windows_says_what_time_each_row_saw(tmp_path):
    """Reserved: nothing writes such a store yet; whoever does finds that it is read and copied."""
    store_header = header(has_windows=True)
    rows = make_store(tmp_path / "s", {"a": 3, "b": 2}, store_header=store_header)
    repack_store(tmp_path / "s", tmp_path / "r", RepackOptions(dtype="8bit", compression="zstd"))

    for path in (tmp_path / "s", tmp_path / "r"):
        assert verify_store(path, full=True).problems == []
        with Store(path) as store:
            window = store.read("b", "window")
            assert (window.shape, window.dtype) == ((2, 2), np.float64)
            np.testing.assert_array_equal(window, rows["b"]["window"])


@pytest.mark.parametrize("rule", ["time_rule", "pixel_rule"])
def test_features_of_other_rules_are_of_another_spec(tmp_path, rule):
    make_store(tmp_path / "s", {"a": 2})
    other = header(spec=replace(SPEC, **{rule: getattr(SPEC, rule) + 1}))

    assert other.spec.digest != SPEC.digest
    with pytest.raises(SpecMismatchError, match=f"{rule}: "):
        make_store(tmp_path / "s", {"b": 2}, store_header=other, run_id="other")


def test_an_empty_row_is_no_commit():
    assert not is_committed(np.zeros(1, record_dtype(id_bytes=4, num_arrays=2)))


@pytest.mark.parametrize(
    ("fps", "value"), [("10", "10"), ("10.0", "10"), ("29.97", "2997/100"), ("30000/1001",) * 2]
)
def test_a_rate_has_one_spelling(fps, value):
    assert Sampling.parse(fps=fps) == Sampling("fps", value)


@pytest.mark.parametrize(
    "options",
    [
        {"fps": "0"},
        {"fps": "-1"},
        {"fps": "x"},
        {"fps": "1/0"},
        {"stride": 0},
        {"fps": "1", "stride": 2},
    ],
)
def test_rates_that_are_none_are_refused(options):
    with pytest.raises(UsageError):
        Sampling.parse(**options)


def test_no_sampling_means_every_frame():
    assert Sampling.parse() == Sampling("stride", "1")
