"""8-bit and compressed cubes: what comes back, from which processes, and what damage is found."""

import multiprocessing
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features_store.errors import StoreError
from features_store.format.eight_bit import channel_scales, dequantise, quantise
from features_store.format.encodings import Compression, Dtype, Encoding
from features_store.format.layout import ArraySpec, LayerShape
from features_store.format.plain import all_finite
from features_store.shards.reader import ShardReader
from features_store.shards.sealing import seal_by_copy
from features_store.store import Store
from features_store.verbs.diff import diff_stores, frame_cosines
from features_store.verbs.verify import verify_store
from tests.stores import HEADER, SPEC, add_unit, frames, header, killed_partial, make_store

LENGTHS = {"walk/a.mp4": 5, "run/b.mp4": 1, "walk/ü c.mp4": 40}
ENCODINGS = [
    {"dtype": dtype, "compression": compression}
    for dtype in get_args(Dtype)
    for compression in get_args(Compression)
]
COMPACT = {"dtype": "8bit", "compression": "zstd"}


def _name(encoding):
    return "-".join(encoding.values())


@pytest.fixture(params=ENCODINGS, ids=_name)
def store(request, tmp_path):
    written = make_store(tmp_path / "s", LENGTHS, store_header=header(**request.param))
    return tmp_path / "s", written


def test_what_is_read_is_what_was_written_as_far_as_the_encoding_holds_it(store):
    path, written = store
    assert verify_store(path, full=True).problems == []

    with Store(path) as opened:
        is_encoded = opened.header.dtype == "8bit"
        for video_id, rows in written.items():
            for array in opened.header.arrays:
                read = opened.read(video_id, array.path)
                assert read.dtype == array.dtype
                if array.is_encoded:
                    assert np.abs(read - rows[array.path]).max() <= 0.51 / 255 + 2**-11
                    assert frame_cosines(read, rows[array.path]).min() > 0.9999
                else:
                    np.testing.assert_array_equal(read, rows[array.path].astype(array.dtype))
        assert is_encoded == any(array.is_encoded for array in opened.header.arrays)


def test_a_window_is_the_slice_of_the_whole(store):
    with Store(store[0]) as opened:
        whole = opened.cubes("walk/ü c.mp4")
        for start, stop in [(0, 1), (3, 17), (39, 40), (5, 5), (30, 99)]:
            window = opened.cubes("walk/ü c.mp4", start=start, stop=stop)
            np.testing.assert_array_equal(window, whole[start:stop])
            window[...] = 0  # a window is the caller's own


def test_windows_across_chunks_that_lie_apart(tmp_path):
    """Cubes of a megabyte: every row is a chunk, and B-tree nodes lie between them."""
    big = header(dtype="float32", layers=(LayerShape("top", 16, 1024),))
    written = make_store(tmp_path / "s", {"a": 80}, store_header=big)["a"]["cubes/center/top"]

    with Store(tmp_path / "s") as opened:
        for start, stop in [(0, 80), (0, 1), (40, 75), (79, 80)]:
            np.testing.assert_array_equal(
                opened.cubes("a", start=start, stop=stop), written[start:stop]
            )


def _sum_of(store, queue):
    queue.put(float(store.cubes("walk/a.mp4").astype(np.float64).sum()))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_store_reads_in_other_processes(store, method):
    opened = Store(store[0])
    expected = float(opened.cubes("walk/a.mp4").astype(np.float64).sum())
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=_sum_of, args=(opened, queue))
    process.start()

    assert queue.get(timeout=60) == expected
    process.join()


def test_a_store_reads_in_threads_and_after_pickling(store):
    opened = Store(store[0])
    whole = opened.cubes("walk/ü c.mp4")
    again = pickle.loads(pickle.dumps(opened))

    def read(start):
        one = opened if start % 2 else again
        return np.array_equal(
            one.cubes("walk/ü c.mp4", start=start, stop=start + 7), whole[start : start + 7]
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, list(range(33)) * 10))


def test_negative_values_are_kept_in_8_bit(tmp_path):
    store_header = header(**COMPACT)
    make_store(tmp_path / "s", {"a": 3}, store_header=store_header, shift=-0.5)

    with Store(tmp_path / "s") as opened:
        assert opened.cubes("a").min() < -0.3
        (shard,) = (tmp_path / "s" / "shards").glob("*.h5")
    with h5py.File(shard) as file:
        assert file["cubes/center/top"].dtype == np.int8


def test_a_compact_store_is_the_same_features(tmp_path):
    make_store(tmp_path / "a", LENGTHS, store_header=header(dtype="float16"))
    make_store(tmp_path / "b", LENGTHS, store_header=header(**COMPACT))

    with Store(tmp_path / "a") as a, Store(tmp_path / "b") as b:
        result = diff_stores(a, b)
    assert result.equal
    assert not result.identical


@given(
    st.lists(st.floats(0, 2.0**100, width=32), min_size=1, max_size=8),
    st.sampled_from([np.uint8, np.int8]),
)
def test_the_largest_value_of_a_channel_survives(largest, dtype):
    largest = np.array(largest, np.float32)
    scales = channel_scales(largest, np.dtype(dtype))
    cube = largest[None, None, None, :]

    back = dequantise(quantise(cube, scales, np.dtype(dtype)), scales)
    usable = largest > np.iinfo(dtype).max * np.finfo(np.float32).tiny * 2
    np.testing.assert_allclose(back[0, 0, 0, usable], largest[usable], rtol=1e-6)
    assert np.isfinite(back).all()


@given(
    st.lists(st.floats(width=16), max_size=6), st.sampled_from([np.float16, np.float32, np.float64])
)
def test_values_that_are_not_finite_are_seen(values, dtype):
    block = np.array(values, dtype)

    assert all_finite(block) == bool(np.isfinite(block).all())


class Hundredths(Encoding):
    """Cubes in whole hundredths up to 300, cells before channels: as no dtype of the store is."""

    read = written = np.dtype(np.float32)
    stored = (np.dtype(np.int16),)
    largest = 300.0

    def encode(self, rows, stored_as):
        return np.ascontiguousarray(np.rint(rows * 100).astype(stored_as.dtype))

    def decode(self, stored, scales):
        assert scales is None
        return stored.astype(np.float32) / 100


@pytest.mark.parametrize("compressed", [False, True])
def test_another_encoding_needs_its_own_class_alone(tmp_path, compressed):
    arrays = HEADER.arrays
    arrays[0] = ArraySpec(arrays[0].path, arrays[0].row_shape, Hundredths("hundredths"), compressed)
    rows = frames(7, seed=1)
    (tmp_path / "shards").mkdir()
    partial = killed_partial(tmp_path, "a", rows, name="u")

    sealed = seal_by_copy(partial, arrays, spec=SPEC)
    reader = ShardReader(partial.parent / sealed.content, arrays, spec=SPEC)
    assert reader.stored_rows(arrays[0].path, 0, 7).dtype == np.int16
    assert not reader.damaged_arrays(reader.record(0))
    expected = np.rint(rows[arrays[0].path] * 100) / 100
    np.testing.assert_allclose(reader.rows(arrays[0].path, 0, 7), expected, rtol=1e-6)

    rows[arrays[0].path][3] = 301
    partial = killed_partial(tmp_path, "a", rows, name="v")
    with pytest.raises(
        StoreError, match="of 301, which hundredths cannot hold; take `dtype` float3"
    ):
        seal_by_copy(partial, arrays, spec=SPEC)


@pytest.mark.parametrize("num_flips", [60, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("encoding", ENCODINGS, ids=_name)
def test_every_flipped_byte_is_found_and_a_video_s_are_named(tmp_path, encoding, num_flips):
    make_store(tmp_path / "s", LENGTHS, store_header=header(**encoding))
    (shard,) = (tmp_path / "s" / "shards").glob("*.h5")
    original = shard.read_bytes()
    spans = chunk_spans(shard)
    rng = np.random.default_rng(0)
    positions = [*rng.integers(len(original), size=num_flips), *(start for start, _ in spans)]
    for position in positions:
        damaged = bytearray(original)
        damaged[position] ^= 1 << int(rng.integers(8))
        shard.write_bytes(damaged)

        problems = verify_store(tmp_path / "s", full=True).problems
        assert problems, f"byte {position} of {len(original)}"
        if any(start <= position < stop for start, stop in spans):
            assert "video '" in problems[0], f"byte {position}: {problems[0]}"
    shard.write_bytes(original)
    assert verify_store(tmp_path / "s", full=True).problems == []


def chunk_spans(shard):
    """Return the byte ranges of all rows that a video has."""
    spans = []
    with h5py.File(shard) as file:
        num_rows = int((file["videos"]["offset"] + file["videos"]["length"]).max())
        for name in ("cubes/center/top", "diffs/center", "pts_seconds", "frame_index"):
            data = file[name]
            row_bytes = int(np.prod(data.shape[1:], dtype=int)) * data.dtype.itemsize
            found = []
            data.id.chunk_iter(found.append)
            for chunk in found:
                used = min(data.chunks[0], num_rows - chunk.chunk_offset[0]) * row_bytes
                size = chunk.size if data.id.get_create_plist().get_nfilters() else used
                spans.append((chunk.byte_offset, chunk.byte_offset + size))
    return spans


PAGE = Path(__file__).parents[1] / "docs" / "sharing.md"
ALONE = ("--no-project", "--isolated", "--python", sys.executable)
WITH = ("--with", "h5py", "--with", "numpy", "--with", "hdf5plugin")


def lines_of_the_page(encoding, store, video_id):
    """The page's lines for an encoding, about another store, and a check of what they give."""
    plain, compact = re.findall("```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    code = compact if encoding["dtype"] == "8bit" else plain
    if encoding["compression"] == "zstd" and "hdf5plugin" not in code:
        code = f"import hdf5plugin\n{code}"
    code = re.sub("(fight|small)\\.cubes", str(store), code)
    code = code.replace("fight/fi001.mp4", video_id).replace("inception_5b", "top")
    assert len(code.splitlines()) <= 13
    return f"{code}\nnumpy_ = __import__('numpy')\nnumpy_.save(r'{store}.npy', cubes)\n"


def test_h5py_alone_reads_every_encoding(tmp_path):
    """In an environment with h5py, numpy and hdf5plugin, and nothing else."""
    scripts, truths = [], []
    for number, encoding in enumerate(ENCODINGS):
        store = tmp_path / f"s{number}"
        make_store(store, {"a.mp4": 3, "b.mp4": 4}, store_header=header(**encoding))
        add_unit(store, {"b.mp4": 6}, run_id="again", store_header=header(**encoding))
        scripts.append(lines_of_the_page(encoding, store, "b.mp4"))
        with Store(store) as opened:
            truths.append((store, opened.cubes("b.mp4", layer="top")))
    check = (
        "import importlib.util as u\nassert not any(map(u.find_spec, ['torch', 'features_store']))"
    )
    (tmp_path / "all.py").write_text("\n".join([check, *scripts]))
    command = ["uv", "run", "--quiet", *ALONE, *WITH, "python", tmp_path / "all.py"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    if "--with` dependencies" in done.stderr:
        pytest.skip("uv cannot get h5py, numpy and hdf5plugin here")
    assert done.returncode == 0, done.stderr
    for store, cubes in truths:
        assert cubes.shape == (6, 2, 2, 8)
        np.testing.assert_array_equal(np.load(f"{store}.npy"), cubes)
