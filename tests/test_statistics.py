"""Statistics over stores: lazy arrays cut along chunks, moments, principal components."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from features_store.errors import ContractError, StoreError, UsageError
from features_store.format.layout import LayerShape
from features_store.manifest import ManifestRow, write_manifest
from features_store.store import Store
from pipelines.statistics.arrays import cut_ranges, read_block, store_cubes
from pipelines.statistics.moments import channel_moments, merged, moments_of
from pipelines.statistics.pca import fit_components
from pipelines.statistics.report import store_statistics
from tests.stores import add_unit, header, make_store

LENGTHS = {"a/1": 23, "a/2": 4, "b/1": 31, "b/2": 17}
LAYERS = (LayerShape("low", 3, 6), LayerShape("top", 2, 12))
ENCODINGS = [("float32", "none"), ("float16", "zstd"), ("8bit", "zstd")]


@pytest.fixture(params=ENCODINGS, ids=["plain", "zstd", "8bit"])
def store(request, tmp_path):
    """Three shards, and a video of the first that the third one supersedes."""
    dtype, compression = request.param
    said = header(layers=LAYERS, dtype=dtype, compression=compression)
    path = tmp_path / "s.cubes"
    make_store(path, LENGTHS, store_header=said)
    add_unit(path, {"c/1": 50}, run_id="second", store_header=said)
    add_unit(path, {"a/2": 9}, run_id="third", store_header=said)
    rows = [ManifestRow(i, i, split="test" if i[0] == "b" else "train") for i in (*LENGTHS, "c/1")]
    write_manifest(path / "manifest.csv", rows)
    return path


def all_cubes(path, layer, ids=None):
    with Store(path) as opened:
        chosen = opened.ids if ids is None else ids
        order = sorted(chosen, key=lambda i: (opened.shard_of(i), opened.video(i).offset))
        return np.concatenate([opened.cubes(video_id, layer=layer) for video_id in order])


def test_a_store_is_a_lazy_array(store):
    cubes = store_cubes(store, layer="low", block_bytes=2000)
    np.testing.assert_array_equal(cubes.array.compute(), all_cubes(store, "low"))
    assert cubes.array.numblocks[0] == 3  # one for each shard, which is of one chunk
    assert cubes.num_frames == 23 + 9 + 31 + 17 + 50
    test = store_cubes(store, split="test")
    np.testing.assert_array_equal(test.array.compute(), all_cubes(store, "top", ["b/1", "b/2"]))


def test_each_chunk_is_read_once(store, monkeypatch):
    """By the HDF5 chunks that the rows of each task lie in."""
    from features_store.format.layout import chunk_rows
    from pipelines.statistics import arrays

    chunk = 3
    monkeypatch.setattr(arrays, "chunk_rows", lambda *_, **__: chunk)
    seen = Counter()

    def counted(store, revision, array, block):
        places = {row // chunk for start, stop in block.ranges for row in range(start, stop)}
        seen.update((block.shard, place) for place in places)
        return read_block(store, revision, array, block)

    monkeypatch.setattr(arrays, "read_block", counted)
    store_cubes(store, block_bytes=3000).array.compute(scheduler="synchronous")
    assert set(seen.values()) == {1}
    assert chunk_rows(1, 10) == 10


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30)), max_size=8), st.integers(1, 12))
def test_ranges_are_cut_and_none_is_lost(gaps, step):
    ranges, place = [], 0
    for gap, length in gaps:
        ranges.append((place + gap, place + gap + length))
        place += gap + length
    blocks = list(cut_ranges(ranges, step))
    rows = [row for block in blocks for start, stop in block for row in range(start, stop)]
    assert rows == [row for start, stop in ranges for row in range(start, stop)]
    numbers = [
        {row // step for start, stop in block for row in (start, stop - 1)} for block in blocks
    ]
    assert all(len(each) == 1 for each in numbers)
    assert all(min(a) < min(b) for a, b in pairwise(numbers))


def test_mean_and_variance_are_those_of_all_cells(store):
    for layer in ("low", "top"):
        found = channel_moments(store_cubes(store, layer=layer, block_bytes=3000))
        cells = all_cubes(store, layer).astype(np.float64)
        cells = cells.reshape(-1, cells.shape[-1])
        assert found.count == len(cells)
        np.testing.assert_allclose(found.mean, cells.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.variance, cells.var(0), rtol=1e-12)


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=6), st.floats(-1e6, 1e6), st.integers(0, 99)
)
def test_moments_of_parts_are_merged_without_loss(lengths, shift, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(shift, 1, (n, 1, 1, 3)) for n in lengths]
    found = merged([moments_of(part) for part in parts])
    cells = np.concatenate(parts).reshape(-1, 3)
    np.testing.assert_allclose(found.mean, cells.mean(0), rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(found.variance, cells.var(0), rtol=1e-6, atol=1e-9)


def test_components_span_what_those_of_all_cells_do(store):
    cubes = store_cubes(store, layer="top", block_bytes=3000)
    cells = all_cubes(store, "top").astype(np.float64).reshape(-1, 12)
    cells = cells * 0 + cells  # a copy
    found = fit_components(cubes, 12, memory_bytes=40_000)
    whole = PCA(12).fit(cells)
    assert np.degrees(subspace_angles(found.components[:12].T, whole.components_.T)).max() < 1e-3
    np.testing.assert_allclose(found.mean, cells.mean(0), rtol=1e-9)
    np.testing.assert_allclose(found.variance.sum(), cells.var(0, ddof=1).sum(), rtol=1e-9)


def test_the_command_line_writes_it_all(store, tmp_path, cubereel):
    out = tmp_path / "s.safetensors"
    asked = ("store", "statistics", store, "--pca", "2", "--memory", "1", "--out", out)
    assert cubereel(*asked, "--json") == 0
    said = load_file(out)
    assert {name: each.shape for name, each in said.items()} == {
        "mean": (12,), "variance": (12,), "components": (2, 12), "explained_variance": (2,)
    }  # fmt: skip
    assert cubereel(*asked) == 0
    assert "2 components explain" in cubereel.out


@pytest.mark.parametrize("store", ENCODINGS[:1], indirect=True)
def test_processes_of_a_cluster_compute_the_same(store):
    from distributed import Client, LocalCluster

    cubes = store_cubes(store, block_bytes=3000)
    with (
        LocalCluster(1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        there = channel_moments(cubes, scheduler=client)
    np.testing.assert_array_equal(there.mean, channel_moments(cubes).mean)


def test_what_cannot_be_is_said(store, tmp_path):
    with pytest.raises(StoreError, match="no layer 'middle'"):
        store_cubes(store, layer="middle")
    with pytest.raises(StoreError, match="no view 'left'"):
        store_cubes(store, view="left")
    with pytest.raises(ContractError, match="no video of `split` 'val'; its splits are: test"):
        store_cubes(store, split="val")
    with pytest.raises(UsageError, match="`pca` must be 1 to 12"):
        store_statistics(store, pca=13)
    with pytest.raises(UsageError, match="`memory` of 100 bytes is too little"):
        store_statistics(store, pca=3, memory_bytes=100)
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        store_statistics(store, out=tmp_path / "a.npz")
