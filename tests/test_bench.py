"""`cubereel bench extract`, through the command line, on small videos."""

import json

import pytest

from pipelines.measure.bench import extraction_floor
from tests.clips import write_classes

RATES = {"decode_floor": 100.0, "backbone": 50.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("source"), per_class=2, num_frames=6)


@pytest.mark.parametrize(("num_cores", "shares", "floor"), [(2, True, 40.0), (2, False, 50.0)])
def test_floor(num_cores, shares, floor):
    assert extraction_floor(RATES, num_cores=num_cores, shares_cores=shares) == floor


def test_decoding_is_the_floor_where_a_gpu_waits_for_it():
    assert extraction_floor(RATES, num_cores=0.25, shares_cores=False) == 25.0


def test_every_part_is_measured_on_the_same_frames(cubereel, source):
    options = ("--backbone", "tiny:conv", "--stride", "2", "--rounds", "1", "--videos", "3")

    assert cubereel("bench", "extract", source, *options, "--json", "--device", "cpu") == 0
    report = json.loads(cubereel.out)

    assert (report["num_videos"], report["num_frames"]) == (3, 9)
    rates = report["rates"]
    assert all(rate > 0 for rate in rates.values())
    assert report["ratios"]["whole / plain"] == pytest.approx(rates["whole"] / rates["plain"])
    assert report["gflop_per_frame"] > 0


def test_the_table_names_every_part(cubereel, source):
    options = ("--backbone", "tiny:conv", "--fps", "5", "--rounds", "1", "--videos", "1")

    assert cubereel("bench", "extract", source, *options) == 0

    for part in ("decode: bare", "decode: ours", "plain loop", "whole / floor", "GFLOP a frame"):
        assert part in cubereel.out


BAD = [
    (("--videos", "0"), "at least 1"),
    (("--rounds", "0"), "at least 1"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_numbers_that_make_no_sense_are_usage_errors(cubereel, source, options, message):
    assert cubereel("bench", "extract", source, "--backbone", "tiny:conv", *options) == 2
    assert message in cubereel.err
    assert "Traceback" not in cubereel.err


def test_a_source_of_spans_is_refused(cubereel, source, tmp_path):
    manifest = tmp_path / "spans.csv"
    manifest.write_text(f"path,start_seconds,end_seconds\n{source}/dark/0.mp4,0,0.5\n")

    assert cubereel("bench", "extract", manifest, "--backbone", "tiny:conv", "--fps", "5") == 2
    assert "whole videos" in cubereel.err


def test_a_broken_video_is_named(cubereel, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.mp4").write_bytes(b"not a video")

    assert cubereel("bench", "extract", tmp_path, "--backbone", "tiny:conv", "--fps", "5") == 3
    assert "broken.mp4" in cubereel.err
