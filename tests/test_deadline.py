"""A run that ends before its deadline, exit 75, and goes on as if nothing had been."""

import json
import time

import pytest

from features_store.errors import UsageError
from features_store.store import Store
from pipelines.executors.deadline import Deadline, parse_deadline, seconds_until_deadline
from pipelines.extraction.extract import extract
from pipelines.extraction.options import ExtractionOptions
from tests.clips import write_classes

EXTRACT = ("--backbone", "tiny:conv", "--fps", "10")


class Clock:
    """Shows the time that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3h30m", 12600), ("90", 90), ("90s", 90), ("1.5", 1.5), ("2d", 172800),
        ("1d2h3m4s", 93784), ("1970-01-01T00:10:00+00:00", 500), ("1970-01-01T02:00+01:00", 3500),
    ],
)  # fmt: skip
def test_deadlines_are_durations_or_times(text, seconds):
    assert parse_deadline(text, now=100.0) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "soon", "0", "-5", "3h30", "30m3h", "1e3", "nan", "18:00", "1969-01-01", "9999-01-01",
     "9" * 30, "2026-13-01", "0001-01-01T00:00"],
)  # fmt: skip
def test_what_is_no_time_to_come_is_refused(text):
    with pytest.raises(UsageError, match="`deadline`"):
        parse_deadline(text, now=100.0)


@pytest.mark.parametrize(
    ("text", "environment", "seconds"),
    [
        (None, {}, None),
        (None, {"SLURM_JOB_END_TIME": "160"}, 60),
        ("5", {"SLURM_JOB_END_TIME": "160"}, 5),
        (None, {"SLURM_JOB_END_TIME": "90"}, None),  # the job was given more time
        (None, {"SLURM_JOB_END_TIME": "soon"}, None),
        (None, {"SLURM_JOB_END_TIME": "999999999999"}, None),
    ],
)
def test_slurm_says_the_deadline_where_nobody_does(text, environment, seconds):
    assert seconds_until_deadline(text, environment=environment, now=100.0) == seconds


def test_a_margin_is_kept_and_no_video_begins_that_would_come_too_late():
    clock = Clock()
    short, long = Deadline(100, clock=clock), Deadline(3600, clock=clock)
    assert (short.seconds_left, long.seconds_left) == (90, 3540)

    assert short.may_begin()
    clock.now += 40
    assert short.may_begin()  # the first one is still in work
    short.finished()  # after 40 seconds
    assert short.may_begin()  # 50 are left
    clock.now += 11
    assert not short.may_begin()  # 39 are left
    assert long.may_begin()
    assert Deadline(None, clock=clock).may_begin()


class Countdown(Deadline):
    """Is over when a number of videos has begun."""

    def __init__(self, num_videos: int) -> None:
        self._clock = Clock()
        self._left = num_videos
        super().__init__(100, clock=self._clock)

    def may_begin(self) -> bool:
        if self._left == 0:
            self._clock.now += 1000
        self._left -= 1
        return super().may_begin()


@pytest.mark.parametrize("num_videos", [0, 1, 5])
def test_a_run_that_stopped_goes_on_to_what_it_would_have_been(cubereel, tmp_path, num_videos):
    videos = write_classes(tmp_path / "v", per_class=4)
    whole, store = tmp_path / "whole.cubes", tmp_path / "s.cubes"
    options = ExtractionOptions(backbone="tiny:conv", fps="10", workers=2, device="cpu")
    extract(videos, out=whole, options=options)

    report = extract(videos, out=store, deadline=Countdown(num_videos), options=options)
    assert (report.stopped, report.num_extracted) == (True, num_videos)
    assert list((store / "shards").glob("*.partial")) == []
    (document,) = (store / "runs").iterdir()
    assert json.loads(document.read_text())["stopped"]
    rest = extract(videos, out=store, deadline=Countdown(100), options=options)
    assert (rest.stopped, rest.num_extracted) == (False, 8 - num_videos)
    assert cubereel("store", "verify", store, "--full") == 0
    assert cubereel("store", "diff", whole, store) == 0
    assert cubereel.out.splitlines()[-1] == "identical: 8 videos compared, 0 differ"


def test_what_is_in_work_at_the_deadline_is_dropped_and_the_command_says_resume(cubereel, tmp_path):
    videos, store = write_classes(tmp_path / "v", per_class=2), tmp_path / "s.cubes"

    # Less than a decoder takes to start.
    assert cubereel("extract", videos, "--out", store, *EXTRACT, "--deadline", "0.05") == 75
    assert "error: stopped before the deadline; run the same command again" in cubereel.err
    assert "Traceback" not in cubereel.err
    assert cubereel("extract", videos, "--out", store, *EXTRACT, "--deadline", "1h") == 0
    with Store(store) as opened:
        assert len(opened) == 4


def test_worker_processes_keep_the_deadline_of_their_parent(cubereel, tmp_path):
    videos, store = write_classes(tmp_path / "v", per_class=2), tmp_path / "s.cubes"
    options = ExtractionOptions(backbone="tiny:conv", fps="10", device="cpu", processes=2)

    stopped = extract(videos, out=store, deadline=Deadline(0.001), options=options)
    assert (stopped.stopped, stopped.num_extracted) == (True, 0)
    rest = extract(videos, out=store, deadline=Deadline(3600), options=options)
    assert (rest.stopped, rest.num_extracted) == (False, 4)
    assert cubereel("store", "verify", store, "--full") == 0


def test_slurms_end_of_the_job_is_obeyed(cubereel, tmp_path, monkeypatch):
    videos, store = write_classes(tmp_path / "v", per_class=2), tmp_path / "s.cubes"
    monkeypatch.setattr("pipelines.executors.deadline.MAX_MARGIN_SECONDS", 1e9)
    monkeypatch.setattr("pipelines.executors.deadline.MARGIN_SHARE", 0.999_999)
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 1000))

    assert cubereel("extract", videos, "--out", store, *EXTRACT) == 75
    assert cubereel("extract", videos, "--out", store, *EXTRACT, "--deadline", "366d") == 0


def test_a_deadline_that_is_none_changes_nothing(cubereel, tmp_path):
    videos, store = write_classes(tmp_path / "v", per_class=1), tmp_path / "s.cubes"

    assert cubereel("extract", videos, "--out", store, *EXTRACT, "--deadline", "soon") == 2
    assert "--deadline must be a duration such as 3h30m" in cubereel.err
    assert not store.exists()
