"""append, merge, subset, repack: the same videos, encoded as asked, nothing twice, nothing lost."""

import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features_store.errors import ContractError, SpecMismatchError, StoreError, UsageError
from features_store.format.layout import LayerShape
from features_store.manifest import ManifestRow, read_store_manifest, write_manifest
from features_store.session import StoreSession
from features_store.sources import new_source
from features_store.store import Store
from features_store.verbs.diff import diff_stores
from features_store.verbs.merge import append_stores, merge_stores
from features_store.verbs.reshape import RepackOptions, repack_store, subset_store
from features_store.verbs.verify import verify_store
from tests.stores import HEADER, SPEC, add_video, frames, header, make_store

A = {"walk/a.mp4": 5, "run/b.mp4": 3}
B = {"walk/c.mp4": 4, "sit/d.mp4": 9, "sit/e.mp4": 2}
LAB = new_source("videos", licence="MIT", origin="lab A", citation="A 2020")
WEB = new_source("web", licence="CC-BY-4.0")


@pytest.fixture
def two(tmp_path):
    make_store(tmp_path / "a", A, store_header=header(sources=(LAB,)))
    make_store(tmp_path / "b", B, store_header=header(sources=(WEB,)), run_id="other")
    return tmp_path / "a", tmp_path / "b"


def _cubes(path):
    with Store(path) as store:
        return {video_id: store.cubes(video_id) for video_id in store.ids}


def _assert_same(found, expected):
    assert set(found) == set(expected)
    for video_id, cubes in expected.items():
        np.testing.assert_array_equal(found[video_id], cubes)


def _licences(path):
    with Store(path) as store:
        return {i: store.header.source(store.video(i).source).licence for i in store.ids}


def test_a_merged_store_holds_all_videos_and_their_terms(two, tmp_path):
    report = merge_stores(two, tmp_path / "c")

    assert (report.num_videos, report.num_there_before, report.num_shards) == (5, 0, 1)
    assert verify_store(tmp_path / "c", full=True).problems == []
    _assert_same(_cubes(tmp_path / "c"), _cubes(two[0]) | _cubes(two[1]))
    with Store(tmp_path / "c") as merged:
        assert merged.header.sources == (LAB, WEB)
        assert merged.manifest["sit/d.mp4"].label == "sit"
    assert _licences(tmp_path / "c") == dict.fromkeys(A, "MIT") | dict.fromkeys(B, "CC-BY-4.0")


def test_merging_again_adds_nothing(two, tmp_path):
    merge_stores(two, tmp_path / "c")
    report = merge_stores(two, tmp_path / "c")

    assert (report.num_videos, report.num_there_before) == (0, 5)
    with Store(tmp_path / "c") as merged:
        assert len(merged) == 5


def test_appending_leaves_the_source_as_it_was(two):
    before = _cubes(two[1])
    append_stores(two[0], [two[1]])

    assert set(_cubes(two[0])) == {*A, *B}
    _assert_same(_cubes(two[1]), before)
    assert verify_store(two[0], full=True).problems == []


def test_paths_of_a_store_with_another_root_stay_right(two, tmp_path):
    far = header(sources=(new_source("/data/far"),))
    make_store(tmp_path / "far", {"x.mp4": 2}, store_header=far, run_id="far")
    append_stores(two[0], [tmp_path / "far"])

    with Store(two[0]) as store:
        paths = {
            i: Path(store.header.source(store.video(i).source).root, store.manifest[i].path)
            for i in ("x.mp4", "walk/a.mp4")
        }
    assert paths == {"x.mp4": Path("/data/far/x.mp4"), "walk/a.mp4": Path("videos/walk/a.mp4")}


def test_a_superseded_video_is_not_copied(two, tmp_path):
    with (
        StoreSession(two[0], header(sources=(LAB,)), run_id="second") as writer,
        writer.unit(rows=2, video_ids=["walk/a.mp4"]) as unit,
    ):
        add_video(unit, "walk/a.mp4", frames(2, seed=99))
    merge_stores([two[0]], tmp_path / "c")

    cubes = _cubes(tmp_path / "c")["walk/a.mp4"]
    np.testing.assert_array_equal(cubes, frames(2, seed=99)["cubes/center/top"])


def test_one_id_for_two_videos_is_refused_before_anything_is_copied(two, tmp_path):
    make_store(tmp_path / "x", {"walk/a.mp4": 7}, run_id="x")

    with pytest.raises(StoreError, match=r"video 'walk/a.mp4' of .* is another one in"):
        merge_stores([*two, tmp_path / "x"], tmp_path / "c")
    with Store(tmp_path / "c") as merged:
        assert len(merged) == 0


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (
            {"spec": replace(SPEC, precision="bf16")},
            SpecMismatchError,
            "precision: 'fp32', not 'bf16'",
        ),
        ({"dtype": "float16"}, StoreError, "dtype float32, .*x has float16; write"),
        ({"layers": (LayerShape("other", 2, 8),)}, StoreError, "layers"),
        ({"has_diffs": False}, StoreError, "has_diffs"),
    ],
)
def test_other_features_are_refused(two, tmp_path, changes, error, words):
    make_store(tmp_path / "x", {"x.mp4": 2}, store_header=header(**changes), run_id="x")
    shards = sorted((two[0] / "shards").iterdir())

    with pytest.raises(error, match=words):
        append_stores(two[0], [tmp_path / "x"])
    assert sorted((two[0] / "shards").iterdir()) == shards


def test_a_store_is_not_added_to_itself(two):
    with pytest.raises(UsageError, match="cannot be added to itself"):
        append_stores(two[0], [two[0].parent / "." / two[0].name])


def test_a_damaged_source_is_named_and_what_was_copied_before_stays(two, tmp_path):
    (shard,) = (two[1] / "shards").glob("*.h5")
    content = bytearray(shard.read_bytes())
    with Store(two[1]) as store:
        row = store.cubes("sit/d.mp4").tobytes()
    content[content.index(row[:64])] ^= 1
    shard.write_bytes(content)

    with pytest.raises(StoreError, match=r"video 'sit/d.mp4': cubes/center/top in .* repair"):
        merge_stores(two, tmp_path / "c")
    assert verify_store(tmp_path / "c", full=True).problems == []
    assert not list((tmp_path / "c" / "shards").glob("*.sealing"))


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"ids": ["sit/d.mp4", "walk/c.mp4"]}, {"sit/d.mp4", "walk/c.mp4"}),
        ({"labels": ["sit"]}, {"sit/d.mp4", "sit/e.mp4"}),
        ({"labels": ["sit", "walk"], "groups": ["walk/c.mp4"]}, {"walk/c.mp4"}),
        ({"splits": ["test"]}, {"sit/e.mp4"}),
    ],
)
def test_a_subset_meets_every_condition(two, tmp_path, conditions, expected):
    write_manifest(
        two[1] / "manifest.csv",
        [
            ManifestRow(i, i, label=i.split("/")[0], group=i, split="test" * i.endswith("e.mp4"))
            for i in B
        ],
    )
    subset_store(two[1], tmp_path / "s", **conditions)

    whole = _cubes(two[1])
    _assert_same(_cubes(tmp_path / "s"), {video_id: whole[video_id] for video_id in expected})
    assert set(read_store_manifest(tmp_path / "s")) == expected


@pytest.mark.parametrize(
    ("conditions", "error"),
    [
        ({}, UsageError),
        ({"ids": ["nowhere"]}, UsageError),
        ({"labels": ["dance"]}, UsageError),
        ({"labels": ["sit"], "groups": ["walk/c.mp4"]}, ContractError),
    ],
)
def test_an_empty_subset_is_refused_and_nothing_is_written(two, tmp_path, conditions, error):
    with pytest.raises(error):
        subset_store(two[1], tmp_path / "s", **conditions)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("dtype", ["float16", "float32", "8bit"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_repacked_store_is_the_same_features(two, tmp_path, dtype, compression):
    repack_store(two[1], tmp_path / "r", RepackOptions(dtype=dtype, compression=compression))

    assert verify_store(tmp_path / "r", full=True).problems == []
    with Store(two[1]) as a, Store(tmp_path / "r") as b:
        assert (b.header.dtype, b.header.compression) == (dtype, compression)
        result = diff_stores(a, b)
    assert result.equal
    assert result.identical == (dtype == "float32")


def test_8_bit_is_not_rounded_again(two, tmp_path):
    repack_store(two[1], tmp_path / "r", RepackOptions(dtype="8bit", compression="zstd"))
    repack_store(
        tmp_path / "r", tmp_path / "again", RepackOptions(compression="none", shard_bytes=300)
    )
    subset_store(tmp_path / "r", tmp_path / "some", labels=["sit"])

    whole = _cubes(tmp_path / "r")
    _assert_same(_cubes(tmp_path / "again"), whole)
    _assert_same(_cubes(tmp_path / "some"), {i: whole[i] for i in ("sit/d.mp4", "sit/e.mp4")})
    assert len(list((tmp_path / "again" / "shards").glob("*.h5"))) > 1


def test_merged_8_bit_stores_keep_their_scales(two, tmp_path):
    for path in two:
        repack_store(path, tmp_path / f"{path.name}8", RepackOptions(dtype="8bit"))
    merge_stores([tmp_path / "a8", tmp_path / "b8"], tmp_path / "c")

    _assert_same(_cubes(tmp_path / "c"), _cubes(tmp_path / "a8") | _cubes(tmp_path / "b8"))


def test_values_that_do_not_fit_are_refused_when_repacking(tmp_path):
    make_store(tmp_path / "big", {"a": 2}, shift=1e6)

    with pytest.raises(StoreError, match="which float16 cannot hold"):
        repack_store(tmp_path / "big", tmp_path / "r", RepackOptions(dtype="float16"))
    assert list((tmp_path / "r" / "shards").iterdir()) == []


def test_layers_and_views_can_be_dropped(tmp_path):
    layers = (LayerShape("mid", 4, 3), LayerShape("top", 2, 8))
    wide = header(layers=layers, views=("center", "flip"))
    make_store(tmp_path / "w", {"a": 6}, store_header=wide)
    repack_store(tmp_path / "w", tmp_path / "r", RepackOptions(layers=["mid"], views=["flip"]))

    with Store(tmp_path / "w") as whole, Store(tmp_path / "r") as part:
        paths = [array.path for array in part.header.arrays]
        assert paths == ["cubes/flip/mid", "diffs/flip", "pts_seconds", "frame_index"]
        for path in paths:
            np.testing.assert_array_equal(part.read("a", path), whole.read("a", path))
    with pytest.raises(UsageError, match="no view 'top-left'"):
        repack_store(tmp_path / "w", tmp_path / "x", RepackOptions(views=["top-left"]))
    with pytest.raises(UsageError, match="no layer 'tip'"):
        repack_store(tmp_path / "w", tmp_path / "x", RepackOptions(layers=["tip"]))


def test_small_shards_are_cut_at_videos(two, tmp_path):
    row_bytes = sum(array.row_bytes for array in HEADER.arrays)
    repack_store(two[1], tmp_path / "r", RepackOptions(shard_bytes=11 * row_bytes))

    _assert_same(_cubes(tmp_path / "r"), _cubes(two[1]))
    with Store(tmp_path / "r") as store:
        assert sorted(len(store.index.of_shard(s)) for s in store.index.shards) == [1, 2]


def test_more_shards_than_may_be_open(two, tmp_path, monkeypatch):
    monkeypatch.setattr("features_store.store.MAX_OPEN_SHARDS", 2)
    make_store(tmp_path / "many", {f"v{i:02}": 2 for i in range(12)})
    repack_store(
        tmp_path / "many", tmp_path / "r", RepackOptions(compression="zstd", shard_bytes=1)
    )

    _assert_same(_cubes(tmp_path / "r"), _cubes(tmp_path / "many"))


def test_thousands_of_shards_need_few_open_files(two, tmp_path):
    make_store(tmp_path / "many", {f"v{i:03}": 1 for i in range(90)})
    repack_store(tmp_path / "many", tmp_path / "r", RepackOptions(shard_bytes=1))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 60, before[1])
    )
    try:
        report = repack_store(tmp_path / "r", tmp_path / "one")
        assert len(_cubes(tmp_path / "r")) == 90  # windows too, from maps or without
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert (report.num_videos, report.num_shards) == (90, 1)


def test_a_refused_append_changes_nothing(two, tmp_path):
    other = header(sources=(new_source("x", licence="proprietary"),))
    make_store(tmp_path / "x", {"walk/a.mp4": 7}, run_id="x", store_header=other)
    before = (two[0] / "store.json").read_bytes()
    with pytest.raises(StoreError, match="is another one in"):
        append_stores(two[0], [tmp_path / "x"])

    assert (two[0] / "store.json").read_bytes() == before


def test_terms_come_along_into_a_store_that_exists(two, tmp_path):
    subset_store(two[0], tmp_path / "s", labels=["walk"])
    subset_store(two[1], tmp_path / "s", labels=["sit"])

    with Store(tmp_path / "s") as opened:
        assert opened.header.sources == (LAB, WEB)


@pytest.mark.parametrize(
    ("label", "kept"), [("run", (LAB,)), ("sit", (WEB,)), ("walk", (LAB, WEB))]
)
def test_a_subset_takes_along_the_sources_of_its_videos_alone(two, tmp_path, label, kept):
    merge_stores(two, tmp_path / "c")
    subset_store(tmp_path / "c", tmp_path / "s", labels=[label])

    with Store(tmp_path / "s") as opened:
        assert opened.header.sources == kept
    whole = _licences(tmp_path / "c")
    assert _licences(tmp_path / "s") == {i: whole[i] for i in whole if i.startswith(label)}
    assert verify_store(tmp_path / "s", full=True).problems == []


def test_terms_that_disagree_are_refused_and_nothing_is_copied(two, tmp_path):
    says_otherwise = header(sources=(replace(LAB, licence="GPL"),))
    make_store(tmp_path / "x", {"x.mp4": 2}, store_header=says_otherwise, run_id="x")
    before = (two[0] / "store.json").read_bytes()

    with pytest.raises(StoreError, match="the licence of the videos below 'videos' is 'MIT'"):
        append_stores(two[0], [tmp_path / "x"])
    assert (two[0] / "store.json").read_bytes() == before
    assert set(_cubes(two[0])) == set(A)


@pytest.mark.parametrize("dtype", ["float16", "8bit"])
def test_cubes_of_nothing_but_zeros(tmp_path, dtype):
    flat = header(dtype="float16", layers=(LayerShape("top", 7, 1024),))
    rows = {a.path: np.zeros((400, *a.row_shape), a.dtype) for a in flat.arrays}
    rows["pts_seconds"] = np.arange(400) / 10
    with (
        StoreSession(tmp_path / "s", flat, run_id="r") as writer,
        writer.unit(rows=400, video_ids=["a"]) as unit,
    ):
        add_video(unit, "a", rows)
    repack_store(tmp_path / "s", tmp_path / "r", RepackOptions(dtype=dtype, compression="zstd"))

    assert verify_store(tmp_path / "r", full=True).problems == []
    with Store(tmp_path / "s") as a, Store(tmp_path / "r") as b:
        assert diff_stores(a, b).identical
