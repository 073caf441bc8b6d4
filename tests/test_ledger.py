"""What becomes of videos that fail: reasons, partial videos, who is tried again."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extract.video.media import media_fields
from features_store.errors import REASONS, DecodeError
from features_store.ledger import append_failure, new_failure, read_failures
from features_store.store import Store
from pipelines.extraction.retries import MAX_TRIES, standing
from tests.clips import textured_frames, write_classes
from tests.synthetic import cut_off, write_video

EXTRACT = ("--backbone", "tiny:conv", "--fps", "10")
FORMAT = Path(__file__).parent.parent / "features_store" / "FORMAT.md"


def failure(reason="corrupt", **said):
    known = {"video_id": "a", "path": "/v/a", "stage": "decode", "error": "e", "reason": reason}
    return new_failure(**known, media_bytes=10, media_mtime_ns=5, **said)


# --- The set of reasons, and the lines -----------------------------------------------------------


def test_the_format_page_lists_exactly_the_reasons_there_are():
    rows = re.findall(r"^\| `([a-z ]+)` \| (file|machine) \| (.+) \|$", FORMAT.read_text(), re.M)

    assert [(name, fault, meaning) for name, fault, meaning in rows] == [
        (name, reason.fault, reason.meaning) for name, reason in REASONS.items()
    ]


def test_a_reason_that_is_not_in_the_set_cannot_be_raised():
    with pytest.raises(ValueError, match=r"reason must be one of .*, got 'bad luck'"):
        DecodeError("x", reason="bad luck")


OLD_LINE = {
    "video_id": "a", "path": "a", "stage": "decode", "reason": "corrupt", "error": "e",
    "host": "h", "time": "t",
}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "is_read"),
    [
        (OLD_LINE, True),
        (OLD_LINE | {"media_bytes": 5, "start_seconds": 1.5}, True),
        (OLD_LINE | {"media_bytes": "5"}, False),
        (OLD_LINE | {"num_frames": None}, False),
        (OLD_LINE | {"video_id": ["a"]}, False),
        (OLD_LINE | {"colour": "red"}, False),
        ([1, 2], False),
    ],
)
def test_lines_of_old_and_strange_ledgers_are_read_or_passed_over(tmp_path, line, is_read):
    append_failure(tmp_path, "run", failure())
    with (tmp_path / "failures" / "run.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n" + "[" * 100_000 + "\n")

    assert len(list(read_failures(tmp_path))) == 1 + is_read


# --- Who is tried again: pure --------------------------------------------------------------------

CRASH, HUNG = failure("decoder crashed"), failure("decoder hung")
BREAK = failure("truncated", num_frames=7)


@pytest.mark.parametrize(
    ("attempts", "partial", "stands"),
    [
        pytest.param([], "drop", False, id="never tried"),
        pytest.param([failure("not a video")], "drop", True, id="the file's fault"),
        pytest.param([CRASH], "drop", False, id="perhaps the machine's"),
        pytest.param([CRASH, HUNG], "drop", False, id="twice"),
        pytest.param([CRASH, HUNG, CRASH], "drop", True, id="it kills decoders"),
        pytest.param([CRASH] * (MAX_TRIES - 1) + [BREAK], "drop", True, id="then the file's"),
        pytest.param([BREAK, CRASH], "drop", False, id="the file's and then the machine's"),
        pytest.param([BREAK], "keep", False, id="its frames are wanted now"),
        pytest.param([failure("truncated")], "keep", True, id="it has no frames"),
        pytest.param([replace(BREAK, outcome="partial")], "drop", True, id="no longer wanted"),
        pytest.param([replace(BREAK, outcome="partial")], "keep", False, id="commit was killed"),
        pytest.param([replace(BREAK, reason="of later")], "drop", False, id="unknown reason"),
    ],
)
def test_which_failures_stand(attempts, partial, stands):
    assert standing(attempts, partial=partial) == (attempts[-1] if stands else None)


# --- Through the command line --------------------------------------------------------------------


def run(cubereel, videos, store, *options):
    code = cubereel("extract", videos, "--out", store, *EXTRACT, *options, "--json")
    return code, json.loads(cubereel.out)


def ids(failures):
    return [failure["video_id"] for failure in failures]


@pytest.fixture
def videos(tmp_path):
    """Two good videos, one that breaks off with its whole twin beside the folder, one text."""
    folder = write_classes(tmp_path / "v", per_class=1)
    (folder / "manifest.csv").unlink()
    frames = textured_frames(60, seed=3, speed=3)
    front = {"movflags": "faststart"}
    write_video(tmp_path / "whole.mp4", frames, fps=20, container_options=front)
    shutil.copy(tmp_path / "whole.mp4", folder / "dark" / "cut.mp4")
    cut_off(folder / "dark" / "cut.mp4", keep=0.6)
    (folder / "dark" / "text.mp4").write_text("no video")
    return folder


def test_what_failed_is_not_tried_again_until_it_is_another_file(cubereel, videos, tmp_path):
    store = tmp_path / "s.cubes"
    code, report = run(cubereel, videos, store)
    assert (code, ids(report["failed"])) == (4, ["dark/cut.mp4", "dark/text.mp4"])

    code, report = run(cubereel, videos, store)
    assert (code, report["failed"]) == (4, [])
    assert ids(report["failed_before"]) == ["dark/cut.mp4", "dark/text.mp4"]
    assert "2 of them in earlier runs; --retry-failed tries again" in cubereel.err
    assert len(list(read_failures(store))) == 2
    assert run(cubereel, videos, store, "--max-failed", 2)[0] == 0
    assert ids(run(cubereel, videos, store, "--retry-failed")[1]["failed"]) == [
        "dark/cut.mp4", "dark/text.mp4",
    ]  # fmt: skip

    shutil.copy(tmp_path / "whole.mp4", videos / "dark" / "text.mp4")
    code, report = run(cubereel, videos, store, "--max-failed", 1)
    assert (code, report["num_extracted"], ids(report["failed_before"])) == (0, 1, ["dark/cut.mp4"])


def test_a_failure_of_which_the_ledger_knows_no_file_is_tried_again(cubereel, videos, tmp_path):
    store = tmp_path / "s.cubes"
    run(cubereel, videos, store)
    (ledger,) = (store / "failures").iterdir()
    new = ("outcome", "num_frames", "media_bytes", "media_mtime_ns", "start_seconds", "end_seconds")
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    old = [{name: line[name] for name in line if name not in new} for line in lines]
    ledger.write_text("".join(json.dumps(line) + "\n" for line in old))

    code, report = run(cubereel, videos, store)
    assert (code, len(report["failed"]), report["failed_before"]) == (4, 2, [])


def test_a_failure_that_may_be_the_machines_is_tried_three_times(cubereel, tmp_path):
    videos = write_classes(tmp_path / "v", per_class=1)
    (videos / "manifest.csv").unlink()
    os.mkfifo(videos / "dark" / "pipe.mp4")
    reports = [run(cubereel, videos, tmp_path / "s.cubes")[1] for _ in range(MAX_TRIES + 1)]

    assert [len(report["failed"]) for report in reports] == [1] * MAX_TRIES + [0]
    assert ids(reports[-1]["failed_before"]) == ["dark/pipe.mp4"]


def test_another_span_of_the_same_file_is_another_attempt(cubereel, videos, tmp_path):
    store = tmp_path / "s.cubes"
    table = "video_id,path,start_seconds,end_seconds\nv,bright/0.mp4,{},{}\n"
    (videos / "m.csv").write_text(table.format(50, 60))
    code, report = run(cubereel, videos / "m.csv", store)
    assert (code, report["failed"][0]["reason"]) == (4, "empty span")
    assert len(run(cubereel, videos / "m.csv", store)[1]["failed_before"]) == 1

    (videos / "m.csv").write_text(table.format(0, 0.5))
    assert run(cubereel, videos / "m.csv", store)[1]["num_extracted"] == 1


def test_a_video_that_breaks_off_can_be_kept(cubereel, videos, tmp_path):
    store = tmp_path / "s.cubes"
    code, report = run(cubereel, videos, store, "--partial", "keep")
    assert (code, ids(report["partial"]), ids(report["failed"])) == (
        4, ["dark/cut.mp4"], ["dark/text.mp4"],
    )  # fmt: skip
    shutil.copy(tmp_path / "whole.mp4", videos / "bright" / "whole.mp4")
    assert run(cubereel, videos, store, "--partial", "keep")[1]["num_partial_before"] == 1

    with Store(store) as opened:
        record = opened.video("dark/cut.mp4")
        cubes, whole = opened.cubes("dark/cut.mp4"), opened.cubes("bright/whole.mp4")
        assert opened.partial_ids == ["dark/cut.mp4"]
    assert (record.status, record.length) == ("partial", len(cubes))
    assert 5 < len(cubes) < len(whole) == 30
    np.testing.assert_array_equal(cubes, whole[: len(cubes)])
    lines = [each for each in read_failures(store) if each.video_id == "dark/cut.mp4"]
    assert [(each.outcome, each.reason, each.num_frames) for each in lines] == [
        ("partial", "truncated", len(cubes))
    ]
    assert cubereel("store", "verify", store, "--full") == 0
    assert cubereel("store", "info", store, "--json") == 0
    info = json.loads(cubereel.out)
    assert (info["videos"], info["partial"], info["failed"]) == (4, 1, 1)
    assert cubereel("store", "ls", store, "--json") == 0
    said = {video["video_id"]: video["status"] for video in json.loads(cubereel.out)}
    assert [video_id for video_id, status in said.items() if status != "ok"] == ["dark/cut.mp4"]


def test_the_policy_may_change_between_runs(cubereel, videos, tmp_path):
    store, text = tmp_path / "s.cubes", "dark/text.mp4"
    run(cubereel, videos, store)
    assert cubereel("extract", videos, "--out", store, *EXTRACT, "--partial", "keep") == 4
    assert "3 of 4 videos are in" in cubereel.out
    assert "2 before\npartial  dark/cut.mp4  [truncated]" in cubereel.out

    dropped = run(cubereel, videos, store, "--partial", "drop")[1]
    assert ids(dropped["failed_before"]) == ["dark/cut.mp4", text]
    again = run(cubereel, videos, store, "--partial", "keep", "--retry-failed")[1]
    assert (ids(again["partial"]), ids(again["failed"])) == (["dark/cut.mp4"], [text])
    shutil.copy(tmp_path / "whole.mp4", videos / "dark" / "cut.mp4")
    mended = run(cubereel, videos, store, "--partial", "keep")[1]
    assert (mended["num_extracted"], mended["partial"]) == (1, [])
    with Store(store) as opened:
        assert opened.partial_ids == []
        assert opened.video("dark/cut.mp4").length == 30


def test_what_an_earlier_run_kept_is_counted_though_it_is_not_wanted(cubereel, videos, tmp_path):
    store = tmp_path / "s.cubes"
    run(cubereel, videos, store, "--partial", "keep")

    assert cubereel("extract", videos, "--out", store, *EXTRACT) == 4
    assert f"3 of 4 videos are in {store} (1 of them partial): 0 extracted now" in cubereel.out
    assert "failed before  dark/cut.mp4" in cubereel.out


def test_a_file_that_changes_while_it_is_read_is_extracted_again(cubereel, videos, tmp_path):
    store, changing = tmp_path / "s.cubes", videos / "dark" / "0.mp4"
    with pytest.MonkeyPatch.context() as patch:

        def replaced_first(path):
            if path == changing:
                shutil.copy(tmp_path / "whole.mp4", changing)
            return media_fields(path)

        patch.setattr("extract.extractor.media_fields", replaced_first)
        report = run(cubereel, videos, store)[1]
    assert {"dark/0.mp4": "unreadable"}.items() <= {
        each["video_id"]: each["reason"] for each in report["failed"]
    }.items()

    run(cubereel, videos, store)
    with Store(store) as opened:
        assert opened.video("dark/0.mp4").length == 30


def test_training_says_how_many_videos_are_partial(cubereel, videos, tmp_path):
    store, out = tmp_path / "s.cubes", tmp_path / "run"
    for label in ("dark", "bright"):
        for i in range(1, 4):
            # A box of i bytes more: files of equal content would be tied.
            content = (videos / label / "0.mp4").read_bytes()
            box = (8 + i).to_bytes(4, "big") + b"free" + bytes(i)
            (videos / label / f"{i}.mp4").write_bytes(content + box)
    run(cubereel, videos, store, "--partial", "keep")
    options = ("--folds", 2, "--epochs", 1, "--lr", 0.01, "--device", "cpu", "--out", out)

    assert cubereel("train", store, "--head", "mean-pool", *options) == 0
    warnings = json.loads((out / "results.json").read_text())["warnings"]
    assert "1 of 9 videos are partial: they break off" in warnings


def test_partial_videos_travel_as_what_they_are(cubereel, videos, tmp_path):
    store, folder, back = tmp_path / "s.cubes", tmp_path / "folder", tmp_path / "back.cubes"
    run(cubereel, videos, store, "--partial", "keep")
    assert cubereel("store", "repack", store, "--out", tmp_path / "small", "--compact") == 0
    assert cubereel("store", "export", store, "--out", folder, "--format", "folder") == 0
    assert cubereel("store", "import", folder, "--out", back, "--format", "folder") == 0

    for path in (tmp_path / "small", back):
        with Store(path) as opened:
            assert opened.partial_ids == ["dark/cut.mp4"]
