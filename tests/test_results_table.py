"""The table of a run: what stands in it, in print and in `results.json`."""

import json
import statistics

import pytest

from features_store.manifest import ManifestRow, write_manifest
from tests.stores import make_store

VIDEOS = {f"{label}/{i}.mp4": 3 for label in ("walk", "run") for i in range(8)}
QUICK = ("--epochs", 1, "--clip-frames", 2, "--processes", 1)
HEADS = ("--head", "mean-pool", "--head", "softmax-regression", "--head", "avg-lstm:hidden=3")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A group has a video of each class; those of one group are for testing."""
    path = tmp_path_factory.mktemp("stores") / "s.cubes"
    make_store(path, VIDEOS)
    rows = [
        ManifestRow(i, i, label=i.split("/")[0], group=i[-5],
                    split="test" if i[-5] == "0" else "train")
        for i in VIDEOS
    ]  # fmt: skip
    write_manifest(path / "manifest.csv", rows)
    return path


def test_seeds_and_a_band_over_all_heads_stand_in_the_table(cubereel, store, tmp_path):
    asked = (*HEADS, "--folds", 2, "--seeds", 2, "--out", tmp_path)
    assert cubereel("train", store, *asked, *QUICK) == 0

    header, first, second, *_ = cubereel.out.splitlines()
    assert header.split("  ")[0] == "head"
    assert all(name in header for name in ("seeds sd", "to the first (95 %)", "all (95 %)"))
    results = json.loads((tmp_path / "results.json").read_text())
    for row, line in zip(results["heads"], (first, second), strict=False):
        of_seeds = [seed["balanced_accuracy"] for seed in row["seeds"]]
        assert row["seeds_deviation"] == pytest.approx(statistics.stdev(of_seeds))
        assert f" {row['seeds_deviation']:.3f} " in line
        low, high = row["band"]
        assert f"[{low:+.3f}, {high:+.3f}]" in line
        assert low <= row["interval"][0] <= row["interval"][1] <= high
    warning = "the test videos are of 8 groups, fewer than 20: take their intervals for rough"
    assert warning in results["warnings"]
    assert warning in cubereel.err
    assert "hence too high" in cubereel.out
    assert "over groups, of these fits: how another training would differ is not" in cubereel.out


def test_of_one_group_there_is_no_interval(cubereel, store, tmp_path):
    assert cubereel("train", store, *HEADS[:4], "--out", tmp_path, *QUICK) == 0

    header, first, *_ = cubereel.out.splitlines()
    assert "all (95 %)" not in header
    assert first.count("–") == 3  # s.e., seeds, interval
    results = json.loads((tmp_path / "results.json").read_text())
    for row in results["heads"]:
        assert [row[name] for name in ("standard_error", "seeds_deviation", "interval")] == [
            None
        ] * 3
    assert results["chosen"]["interval"] is None
    assert "all test videos are of one group: there is no s.e. and no interval" in cubereel.err
