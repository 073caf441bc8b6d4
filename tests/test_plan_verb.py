"""`cubereel plan`: what it says is what extraction then writes."""

import json
import os
from fractions import Fraction
from pathlib import Path

import h5py
import pytest

from extract.video.counts import count_frames
from extract.video.header import VideoHeader
from features_store.spec import Sampling
from features_store.store import Store
from pipelines.machine.cache_folder import cache_folder
from tests.clips import write_classes
from tests.synthetic import cut_off, numbered_frames, write_audio, write_video

TINY = ("--backbone", "tiny:conv")


@pytest.fixture
def folder(tmp_path):
    return write_classes(tmp_path / "videos")


@pytest.fixture
def plan(cubereel, tmp_path):
    """Run `cubereel plan --json` without timing anything; return its report."""

    def run(source, *arguments, code=0):
        cache = ("--header-cache", tmp_path / "cache", "--calibrate", 0)
        assert cubereel("plan", source, *TINY, *cache, *arguments, "--json") == code, cubereel.err
        return json.loads(cubereel.out)

    return run


@pytest.fixture
def extracted_frames(cubereel, tmp_path):
    """Extract a source; return how many frames each of its videos has."""

    def run(source, *arguments, code=0):
        out = tmp_path / "s.cubes"
        assert cubereel("extract", source, "--out", out, *TINY, *arguments) == code
        with Store(out) as store:
            return {video_id: store.num_frames_of(video_id) for video_id in store.ids}

    return run


def test_bytes_of_draws_are_counted(plan, extracted_frames, tmp_path):
    folder = write_classes(tmp_path / "videos", num_frames=40)
    options = ("--segments", 4, "--jitter", 1000, "--seed", 3)  # more than unused rows take
    report = plan(folder, *options)
    extracted_frames(folder, *options)
    (shard,) = (tmp_path / "s.cubes/shards").glob("*.h5")

    with h5py.File(shard) as file:
        table = file["videos"].size * file["videos"].dtype.itemsize
    assert report["bytes"]["float16"]["rest"] >= table


def test_a_span_that_ends_behind_the_video_takes_no_more_room():
    header = VideoHeader(0, 0, Fraction(25), Fraction(1, 25), 10.0, 250, True, "")

    assert count_frames(header, Sampling("stride", "1"), 2.0, 9999.0).most < 300


def test_without_a_home_a_folder_for_headers_is_asked_for(cubereel, folder, tmp_path, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    for verb in (("plan", folder), ("extract", folder, "--out", tmp_path / "s.cubes")):
        assert cubereel(*verb, *TINY) == 2
        assert "give --header-cache FOLDER" in cubereel.err
        assert cubereel(*verb, *TINY, "--header-cache", tmp_path / "headers") == 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "8bit"])
def test_bytes_are_those_of_the_store(plan, extracted_frames, tmp_path, dtype):
    folder = write_classes(tmp_path / "videos", num_frames=40)
    options = ("--layer", "stem", "--layer", "top", "--dtype", dtype)
    report = plan(folder, *options)
    frames = extracted_frames(folder, *options)
    written = sum(shard.stat().st_size for shard in (tmp_path / "s.cubes/shards").glob("*.h5"))

    assert (report["videos"], report["frames"]) == (8, sum(frames.values())) == (8, 320)
    assert report["bytes"][dtype]["total"] == pytest.approx(written, rel=0.05)
    value = {"float16": 2, "float32": 4, "8bit": 1}[dtype]
    assert report["bytes"][dtype]["stem"] == 320 * 14 * 14 * 8 * value
    assert report["bytes"][dtype]["differences"] == 320 * 14 * 14 * 3 * 2


@pytest.mark.parametrize(
    "sampling", [("--fps", 10), ("--fps", 24), ("--fps", "29.97"), ("--stride", 7)]
)
@pytest.mark.parametrize(
    ("name", "codec", "rate", "is_counted"),
    [
        ("v.mp4", "libx264", 25, True),
        ("v.mp4", "libx264", "30000/1001", True),
        ("v.avi", "mpeg4", 25, True),
        ("v.mkv", "libx264", 30, False),  # it tells a duration, no count
    ],
)
def test_frames_are_those_that_are_written(
    tmp_path, plan, extracted_frames, sampling, name, codec, rate, is_counted
):
    write_video(tmp_path / "v" / name, numbered_frames(61), fps=rate, codec=codec)
    report = plan(tmp_path / "v", *sampling)

    assert report["frames"] == sum(extracted_frames(tmp_path / "v", *sampling).values())
    assert report["decoded"] == 61
    assert report["frames_estimated"] == (0 if is_counted else report["frames"])


@pytest.fixture(autouse=True)
def _has_a_folder(tmp_path):
    (tmp_path / "v").mkdir()


def test_spans_are_counted_as_they_are_cut(tmp_path, plan, extracted_frames):
    write_video(tmp_path / "v/a.mp4", numbered_frames(60))
    lines = ["path,start_seconds,end_seconds", "a.mp4,,", "a.mp4,0.5,1.3", "a.mp4,1.7,", "a.mp4,,1"]
    (tmp_path / "v/manifest.csv").write_text("\n".join(lines) + "\n")
    report = plan(tmp_path / "v", "--fps", 7)

    assert report["frames"] == sum(extracted_frames(tmp_path / "v", "--fps", 7).values())
    assert report["headers"]["files_read"] == 1


def test_a_span_without_frames_is_named(tmp_path, plan, extracted_frames):
    write_video(tmp_path / "v/a.mp4", numbered_frames(10))
    lines = ["path,start_seconds,end_seconds", "a.mp4,0,0.2", "a.mp4,7,9"]
    (tmp_path / "v/manifest.csv").write_text("\n".join(lines) + "\n")
    report = plan(tmp_path / "v")

    assert report["frames"] == sum(extracted_frames(tmp_path / "v", code=4).values()) == 5
    assert report["no_frames"] == 1
    assert report["problems"] == [["a.mp4@7-9", "no frame of it is kept"]]


def test_frames_that_do_not_come_evenly_are_an_estimate(tmp_path, plan):
    times = [0.0, 0.04, 0.5, 0.54, 0.58, 2.0]
    write_video(tmp_path / "v/a.mp4", numbered_frames(6), times_seconds=times)

    assert plan(tmp_path / "v", "--fps", 10)["frames_estimated"] > 0
    assert plan(tmp_path / "v", "--stride", 2)["frames_estimated"] == 0


def test_headers_are_read_once(folder, plan):
    first = plan(folder)["headers"]
    again = plan(folder)["headers"]
    os.utime(folder / "dark" / "0.mp4")
    changed = plan(folder)["headers"]

    assert (first["in_cache"], first["files_read"]) == (0, 8)
    assert (again["in_cache"], again["files_read"]) == (8, 0)
    assert (changed["in_cache"], changed["files_read"]) == (7, 1)


def test_extraction_knows_the_headers_that_a_plan_read(folder, cubereel, extracted_frames):
    assert cubereel("plan", folder, *TINY, "--calibrate", 0) == 0
    assert "8 files read" in cubereel.out
    extracted_frames(folder)

    assert "headers:" not in cubereel.err
    assert len(list(cache_folder("headers").glob("*.jsonl"))) >= 1


def test_damaged_lines_of_the_cache_are_read_again(folder, plan, cubereel, tmp_path):
    expected = plan(folder)
    (path,) = (tmp_path / "cache").iterdir()
    lines = path.read_bytes().splitlines()
    lines[1:4] = [b'["../x", -1]', b"{", lines[3].replace(b'"10', b'"1e999999')]
    path.write_bytes(b"\n".join(lines)[:-3])  # and the last one torn, as by a kill
    report = plan(folder)

    assert "4 lines are damaged and left out" in cubereel.err
    assert report["frames"] == expected["frames"]
    assert report["headers"]["files_read"] == 4
    assert plan(folder)["headers"]["in_cache"] == 8


def test_a_cache_that_is_none_of_ours_is_not_believed(folder, plan, cubereel, tmp_path):
    plan(folder)
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(b"\0" * 100)

    assert plan(folder)["headers"]["files_read"] == 8
    assert plan(folder)["headers"]["in_cache"] == 8

    (tmp_path / "elsewhere").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")

    before = (tmp_path / "elsewhere").read_bytes()
    assert plan(folder)["headers"]["files_read"] == 8
    assert "headers read before cannot be used" in cubereel.err
    assert (tmp_path / "elsewhere").read_bytes() == before
    assert not path.is_symlink()


def test_what_a_manifest_says_counts_first(tmp_path, plan):
    text = (
        "path,num_frames,fps\nnot/here.mp4,300,30\nnor/this.avi,250,25.0\nor/that.mkv,60,29.97003\n"
    )
    (tmp_path / "v/manifest.csv").write_text(text)
    report = plan(tmp_path / "v", "--fps", 10)

    assert report["headers"]["in_manifest"] == 3
    assert report["headers"]["files_read"] == 0
    assert (report["frames"], report["decoded"]) == (100 + 100 + 20, 610)
    assert report["frames_estimated"] == 0


@pytest.mark.parametrize("fps", ["abc", "0", "-25", "1e999999999", "nan", "25/0"])
def test_a_wrong_number_in_a_manifest_is_refused(tmp_path, cubereel, fps):
    (tmp_path / "v/manifest.csv").write_text(f"path,num_frames,fps\na.mp4,300,{fps}\n")

    for verb in (("plan",), ("extract", "--out", tmp_path / "s.cubes")):
        assert cubereel(*verb, tmp_path / "v", *TINY) == 3
        assert "video 'a.mp4': fps" in cubereel.err
    assert not (tmp_path / "s.cubes").exists()


def test_a_sample_estimates_and_says_so(tmp_path, plan, cubereel):
    for number in range(12):
        write_video(tmp_path / f"v/{number:02}.mp4", numbered_frames(20 + 5 * (number % 3)))
    report = plan(tmp_path / "v", "--sample", 6)

    assert report["headers"]["files_read"] == report["headers"]["asked"] == 6
    assert report["frames"] == pytest.approx(300, abs=max(report["spread"], 1))
    assert 0 < report["spread"] < 60
    assert plan(tmp_path / "v", "--sample", 12)["frames"] == 300

    cache = tmp_path / "another"
    cubereel(
        "plan", tmp_path / "v", *TINY, "--sample", 1, "--calibrate", 0, "--header-cache", cache
    )

    assert "estimated from 1 of 12 unknown headers; too few to say how far off" in cubereel.out


def test_what_is_no_video_is_counted_and_named(folder, plan, cubereel):
    cut_off(folder / "dark" / "1.mp4", keep=0.5)
    write_audio(folder / "bright" / "3.m4a")
    (folder / "bright" / "3.m4a").replace(folder / "bright" / "3.mp4")
    report = plan(folder)

    assert (report["videos"], report["no_header"], report["frames"]) == (8, 2, 72)
    assert [video_id for video_id, _ in report["problems"]] == ["dark/1.mp4", "bright/3.mp4"]
    assert "no video stream" in report["problems"][1][1]

    assert cubereel("plan", folder, *TINY, "--calibrate", 0) == 0
    assert "2 (25.0%) with no readable header" in cubereel.out


def test_a_source_without_any_frame_is_a_failure(tmp_path, cubereel):
    (tmp_path / "v/a.mp4").write_bytes(b"no video")

    assert cubereel("plan", tmp_path / "v", *TINY, "--calibrate", 0) == 4
    assert "no frame would be kept of 1 videos" in cubereel.err


def test_without_sound_weights_frames_are_said_and_the_rest_is_not(folder, cubereel, tmp_path):
    (tmp_path / "none.pth").write_text("none")
    weights = ("--weights", tmp_path / "none.pth")

    assert cubereel("plan", folder, *TINY, *weights) == 3
    assert "frames   96 of 96" in cubereel.out
    assert "bytes    not known without the backbone" in cubereel.out
    assert "none.pth are neither safetensors nor of torch.save" in cubereel.err
    assert "Traceback" not in cubereel.err


@pytest.mark.parametrize(
    "wrong", [("--backbone", "tiny:cnov"), ("--sample", 0), ("--workers", 0), ("--fps", "x")]
)
def test_wrong_options_are_usage_errors(folder, cubereel, wrong):
    assert cubereel("plan", folder, *TINY, *wrong) == 2


def test_time_is_measured_on_the_source_itself(folder, cubereel):
    assert cubereel("plan", folder, *TINY, "--calibrate", 0.2, "--json") == 0
    time = json.loads(cubereel.out)["time"]

    assert time["seconds"] >= max(time["decode_seconds"], time["backbone_seconds"]) > 0
    assert 1 <= time["decode"]["items"] <= 8
    assert time["decode_seconds"] == pytest.approx(
        96 * time["decode"]["seconds"] / time["decode"]["frames"]
    )

    (folder / "manifest.csv").write_text("path,num_frames,fps\nnot/here.mp4,300,30\n")

    assert cubereel("plan", folder, *TINY, "--calibrate", 0.2) == 0
    assert "time     not estimated: none of the videos that were tried" in cubereel.out


def test_a_plan_of_real_clips_is_exact(plan):
    clips = Path(os.environ.get("CUBEREEL_DATA", "nowhere")) / "fall_rgb"
    if not clips.is_dir():
        pytest.skip("the fall clips are not here; set CUBEREEL_DATA to their folder")
    report = plan(clips, "--fps", 10)

    assert (report["videos"], report["decoded"], report["frames"]) == (288, 66796, 26769)
    assert report["frames_estimated"] == 0
