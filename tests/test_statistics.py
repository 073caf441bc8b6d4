"""Statistics of a store: exact against float64 numpy, each chunk read once, wherever they run."""

import json
import pickle
from collections import Counter
from dataclasses import replace

import dask
import numpy as np
import pytest
from scipy.linalg import subspace_angles
from threadpoolctl import threadpool_limits

from features_store.errors import ContractError, DamageError, UsageError
from features_store.format.layout import LayerShape
from features_store.manifest import ManifestRow, write_manifest
from features_store.session import StoreSession
from features_store.shards.reader import ShardReader
from features_store.store import Store
from features_store.verbs.options import RepackOptions
from features_store.verbs.reshape import repack_store
from pipelines.statistics import run
from pipelines.statistics.arrays import as_dask, store_array
from pipelines.statistics.memory import Shares
from pipelines.statistics.result import load_statistics, save_statistics
from pipelines.statistics.rows import cubes_of, plan_rows
from pipelines.statistics.run import store_statistics
from tests.stores import add_unit, header

DIM, GRID = 64, 8
HEADER = header(layers=(LayerShape("top", GRID, DIM),), dtype="float16", has_diffs=False)
ROW_BYTES = GRID * GRID * DIM * 2  # 128 rows are a chunk
UNITS = ({"a": 170, "b": 40, "c": 150}, {"b": 90, "d": 200})  # b is superseded
SPLITS = {"a": "train", "b": "train", "c": "test", "d": "test"}
SMALL = Shares(block_bytes=2**20, threads=2, batch_rows=9000)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """For matrices this small, a second thread of LAPACK only waits for the first."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def plain_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("statistics") / "plain.cubes"
    for number, videos in enumerate(UNITS):
        add_unit(path, videos, run_id=f"run{number}", store_header=HEADER, seed=number)
    rows = [ManifestRow(i, i, split=split) for i, split in SPLITS.items()]
    write_manifest(path / "manifest.csv", rows)
    return path


@pytest.fixture(scope="module", params=["plain", "zstd", "8bit"])
def store_path(request, plain_path):
    if request.param == "plain":
        return plain_path
    packed = plain_path.with_name(f"{request.param}.cubes")
    dtype = "8bit" if request.param == "8bit" else "float16"
    repack_store(plain_path, packed, RepackOptions(dtype=dtype, compression="zstd"))
    add_unit(packed, {"e": 30}, run_id="more", store_header=Store(packed).header)
    return packed


@pytest.fixture
def empty_store(tmp_path):
    with StoreSession(tmp_path / "empty.cubes", HEADER, run_id="run"):
        pass
    return tmp_path / "empty.cubes"


def cells_of(path, ids=None):
    """Return all cells (n, D) of a store, in float64, in the order of ids."""
    with Store(path) as store:
        cubes = [store.cubes(i) for i in (ids or store.ids)]
    return np.concatenate(cubes).reshape(-1, DIM).astype(np.float64)


@pytest.fixture
def read_chunks(monkeypatch):
    """Count how often each chunk of cubes is read."""
    chunks, stored_rows = Counter(), ShardReader.stored_rows

    def counted(shard, array, start, stop):
        size = shard.chunk_rows_of(array)
        chunks.update((shard.path.name, chunk) for chunk in range(start // size, -(-stop // size)))
        return stored_rows(shard, array, start, stop)

    monkeypatch.setattr(ShardReader, "stored_rows", counted)
    return chunks


def test_mean_and_variance_are_those_of_float64(store_path):
    found, cells = store_statistics(store_path), cells_of(store_path)

    np.testing.assert_allclose(found.mean, cells.mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.variance, cells.var(0), rtol=1e-12)
    with Store(store_path) as store:
        assert (found.of.revision, found.of.num_videos) == (store.revision, len(store))
        assert (found.of.num_frames, found.of.num_rows) == (store.num_frames, len(cells))
    assert (found.of.spec_digest, found.of.layer) == (HEADER.spec.digest, "top")


def test_a_split_is_its_videos_alone(store_path):
    found, cells = store_statistics(store_path, splits=["train"]), cells_of(store_path, "ab")

    np.testing.assert_allclose(found.mean, cells.mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.variance, cells.var(0), rtol=1e-12)
    assert (found.of.num_videos, found.of.splits) == (2, ("train",))


@pytest.mark.parametrize("of", ["cells", "frames"])
def test_components_span_what_those_of_all_rows_span(store_path, of, monkeypatch):
    shares = replace(SMALL, batch_rows=9000 if of == "cells" else 150)
    monkeypatch.setattr(run, "share_memory", lambda *_, **__: shares)
    # As many are kept as there are channels, so that no step loses anything.
    pca = store_statistics(store_path, pca=DIM // 2, pca_of=of).pca
    rows = cells_of(store_path)
    if of == "frames":
        rows = rows.reshape(-1, GRID**2, DIM).mean(1)
    _, singular, exact = np.linalg.svd(rows - rows.mean(0), full_matrices=False)

    assert subspace_angles(pca.components.T, exact[: DIM // 2].T).max() < 1e-6
    variance = singular**2 / (len(rows) - 1)
    np.testing.assert_allclose(pca.explained_variance, variance[: DIM // 2], rtol=1e-9)
    np.testing.assert_allclose(pca.mean, rows.mean(0), rtol=1e-12)
    assert pca.explained_share == pytest.approx(variance[: DIM // 2].sum() / variance.sum())
    assert (pca.of, pca.num_rows) == (of, len(rows))


def test_the_same_command_gives_the_same_numbers(plain_path, monkeypatch):
    monkeypatch.setattr(run, "share_memory", lambda *_, **__: SMALL)
    one, other = (store_statistics(plain_path, pca=5) for _ in range(2))

    assert one.of == other.of
    assert np.array_equal(one.mean, other.mean)
    assert np.array_equal(one.variance, other.variance)
    assert np.array_equal(one.pca.components, other.pca.components)


@pytest.mark.parametrize("options", [{}, {"pca": 5}, {"pca": 5, "pca_of": "frames"}])
@pytest.mark.parametrize("splits", [(), ("test",)])
def test_no_chunk_is_read_twice(store_path, read_chunks, options, splits, monkeypatch):
    monkeypatch.setattr(run, "share_memory", lambda *_, **__: SMALL)
    store_statistics(store_path, splits=splits, **options)

    assert len(read_chunks) >= 3
    assert set(read_chunks.values()) == {1}


def test_the_array_is_the_rows_of_the_videos_in_the_order_of_the_plan(store_path):
    with Store(store_path) as store:
        rows = plan_rows(store, cubes_of(store), block_bytes=2**20)
        expected = np.concatenate([store.cubes(video_id) for video_id in rows.video_ids])
        lengths = tuple(map(store.num_frames_of, rows.video_ids))
        assert sorted(rows.video_ids) == store.ids
    cubes = as_dask(rows)

    assert rows.lengths == lengths
    assert cubes.numblocks[0] > len({block.shard for block in rows.blocks})
    assert (cubes.shape, cubes.dtype) == (expected.shape, expected.dtype)
    assert np.array_equal(cubes.compute(), expected)
    assert np.array_equal(cubes[3:200, 0].compute(scheduler="sync"), expected[3:200, 0])


def test_tasks_are_small(plain_path):
    with Store(plain_path) as store:
        cubes = store_array(store, block_bytes=2**20)
    tasks = dict(cubes.__dask_graph__())

    assert max(len(pickle.dumps(task)) for task in tasks.values()) < 2000


def test_what_is_added_later_is_not_seen(tmp_path):
    path = tmp_path / "s.cubes"
    add_unit(path, {"a": 20, "b": 10}, run_id="one", store_header=HEADER)
    with Store(path) as store:
        cubes, before = store_array(store), np.concatenate([store.cubes("a"), store.cubes("b")])
    add_unit(path, {"a": 30, "c": 10}, run_id="two", store_header=HEADER, seed=4)

    assert np.array_equal(cubes.compute(), before)
    assert store_statistics(path).of.num_frames == 50


def test_damage_is_named_by_whoever_meets_it(tmp_path):
    path = tmp_path / "s.cubes"
    shard = add_unit(path, {"a": 20}, run_id="one", store_header=HEADER)
    with Store(path) as store:
        cubes = store_array(store)
    shard.write_bytes(shard.read_bytes()[:-8])

    with pytest.raises(DamageError, match="the catalogue says"):
        cubes.compute()


@pytest.mark.slow
def test_a_worker_process_of_a_cluster_finds_the_same(plain_path):
    distributed = pytest.importorskip("distributed")
    alone = store_statistics(plain_path, pca=5)
    with (
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "1MB"}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        there = store_statistics(plain_path, pca=5)

    assert there.of == alone.of
    for name in ("mean", "variance"):
        np.testing.assert_array_equal(getattr(there, name), getattr(alone, name))
    np.testing.assert_array_equal(there.pca.components, alone.pca.components)


def test_the_verb_says_and_keeps_what_it_found(cubereel, plain_path, tmp_path):
    out = tmp_path / "s.safetensors"
    assert cubereel("store", "statistics", plain_path, "--pca", 3, "--out", out, "--json") == 0
    said, found = json.loads(cubereel.out), load_statistics(out)

    assert "statistics: " in cubereel.err
    assert said["mean"] == found.mean.tolist()
    assert said["revision"] == found.of.revision
    assert said["pca"]["explained_variance"] == found.pca.explained_variance.tolist()
    assert found.pca.components.shape == (3, DIM)
    assert cubereel("store", "statistics", plain_path, "--split", "test") == 0
    assert "2 videos, 350 frames; layer top, view center" in cubereel.out
    assert "not written; give --out" in cubereel.out


def test_a_file_that_is_none_is_named(plain_path, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"no tensors")
    for path in (other, tmp_path / "missing.safetensors"):
        with pytest.raises(ContractError, match=r"is no file that 'cubereel store statistics'"):
            load_statistics(path)
    save_statistics(other, store_statistics(plain_path))
    assert load_statistics(other).pca is None


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--layer", "topp"), 2, "no layer 'topp' in"),
        (("--view", "flip"), 2, "no view 'flip' in"),
        (("--split", "val"), 2, "has no split 'val'"),
        (
            ("--pca", DIM + 1),
            2,
            "--pca must be between 1 and 64 (64 channels, 192 rows)",
        ),
        (("--pca", 0), 2, "got 0"),
        (("--pca", 5, "--memory", "300MB"), 2, "--memory must be at least"),
        (("--memory", "much"), 2, "--memory must be a size such as 500MB or 8GB, got 'much'"),
        (("--out", "s.npz"), 2, "--out must end in .safetensors"),
        (("--out", "no/s.safetensors"), 2, "--out must be a file in a folder that is there"),
    ],
)
def test_what_cannot_be_is_said(cubereel, tmp_path, flags, code, said):
    path = tmp_path / "s.cubes"
    add_unit(path, {"a": 3}, run_id="one", store_header=HEADER)
    write_manifest(path / "manifest.csv", [ManifestRow("a", "a", split="train")])

    assert cubereel("store", "statistics", path, *flags) == code
    assert said in cubereel.err
    assert "Traceback" not in cubereel.err


def test_more_components_than_frames_are_refused(tmp_path):
    path = tmp_path / "s.cubes"
    add_unit(path, {"a": 3}, run_id="one", store_header=HEADER)

    assert store_statistics(path, pca=3, pca_of="frames").pca.num_rows == 3
    with pytest.raises(UsageError, match=r"between 1 and 3 \(64 channels, 3 rows\), got 4"):
        store_statistics(path, pca=4, pca_of="frames")


def test_a_store_without_frames_and_a_video_that_is_not_there_are_named(empty_store):
    with pytest.raises(ContractError, match="holds no frames"):
        store_statistics(empty_store)
    with Store(empty_store) as store, pytest.raises(UsageError, match="no video 'x'"):
        store_array(store, video_ids=["x"])
