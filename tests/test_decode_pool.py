import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest

from extract.decode.connection import receive, send
from extract.decode.messages import (
    Credits,
    Decoded,
    Ended,
    FromWorker,
    Probed,
    Ready,
    ToWorker,
)
from extract.decode.pool import (
    DecodePool,
    DecodeSettings,
    DecodeTask,
    Failed,
    Finished,
    Frames,
)
from extract.video.header import VideoHeader, probe
from extract.video.pictures import PictureStack
from extract.video.reader import FrameReader, VideoSummary
from features_store.errors import MachineError, UsageError
from features_store.plain import PlainError
from features_store.spec import Preprocessing, Sampling
from tests.synthetic import numbered_frames, read_numbers, write_audio, write_video

LENGTHS = [30, 3, 100, 1, 20, 7]
EVERY_FRAME = Sampling("stride", "1")


def preprocessing(resize_size=64):
    return Preprocessing(
        input_size=(48, 64),
        resize_size=resize_size,
        fit="stretch" if resize_size == 64 else "crop",
        interpolation="bilinear",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        pixel_scale=255.0,
        channel_order="rgb",
    )


SETTINGS = DecodeSettings(preprocessing=preprocessing(), sampling=EVERY_FRAME)


def open_pool(**kwargs):
    settings = replace(SETTINGS, slots=kwargs.pop("slots", SETTINGS.slots))
    return DecodePool(settings, **kwargs)


def collect(events):
    """Numbers read from the frames of each video, and how each ended."""
    numbers, ends = {}, {}
    for event in events:
        if isinstance(event, Frames):
            numbers.setdefault(event.index, []).extend(read_numbers(event.pixels))
        else:
            ends[event.index] = event
    return numbers, ends


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return [
        write_video(folder / f"{number}.mp4", numbered_frames(length))
        for number, length in enumerate(LENGTHS)
    ]


def tasks_for(paths):
    return [DecodeTask(10 * number, str(path)) for number, path in enumerate(paths)]


@pytest.mark.parametrize(("workers", "slots"), [(1, 1), (1, 64), (2, 5), (3, 256)])
def test_events_come_in_task_order_and_complete(videos, workers, slots):
    with open_pool(workers=workers, slots=slots) as pool:
        events = list(pool.decode(iter(tasks_for(videos))))

    indices = [event.index for event in events]
    numbers, ends = collect(events)
    assert indices == sorted(indices)
    assert [len(numbers[index]) for index in sorted(numbers)] == LENGTHS
    assert all(found == list(range(len(found))) for found in numbers.values())
    assert all(isinstance(end, Finished) for end in ends.values())
    assert list(ends) == [0, 10, 20, 30, 40, 50]


def test_the_pool_gives_what_the_reader_gives(videos):
    reader = FrameReader(videos[0], SETTINGS, start_seconds=0.2, end_seconds=0.8)
    expected = list(reader)

    with open_pool() as pool:
        *frames, end = pool.decode([DecodeTask(7, str(videos[0]), 0.2, 0.8)])

    assert end == Finished(7, reader.summary)
    np.testing.assert_array_equal(
        np.concatenate([event.pixels for event in frames]),
        np.stack([frame.pixels for frame in expected]),
    )
    pts_seconds = np.concatenate([event.pts_seconds for event in frames])
    assert pts_seconds.tolist() == [frame.pts_seconds for frame in expected]
    assert np.concatenate([event.frame_index for event in frames]).tolist() == list(range(5, 20))


def test_frames_stay_valid_when_their_slots_are_used_again(videos):
    with open_pool(slots=2) as pool:
        frames = [e for e in pool.decode(tasks_for(videos[:1])) if isinstance(e, Frames)]

    assert [number for event in frames for number in read_numbers(event.pixels)] == list(range(30))


def test_one_bad_video_fails_alone(videos, tmp_path):
    bad = write_audio(tmp_path / "bad.m4a")

    with open_pool() as pool:
        _, ends = collect(pool.decode(tasks_for([videos[1], bad, tmp_path / "none", videos[3]])))

    assert isinstance(ends[0], Finished)
    assert ends[10].error.reason == "no video stream"
    assert ends[20].error.reason == "unreadable"
    assert isinstance(ends[30], Finished)


def test_a_pool_serves_several_calls(videos):
    with open_pool() as pool:
        first = collect(pool.decode(tasks_for(videos[:2])))[0]
        second = collect(pool.decode(tasks_for(videos[:2])))[0]
        nothing = list(pool.decode([]))

    assert first == second
    assert nothing == []


def test_an_abandoned_call_leaves_nothing_behind(videos):
    with open_pool(slots=2) as pool:
        events = pool.decode(tasks_for(videos))
        next(events)
        events.close()
        numbers, _ = collect(pool.decode(tasks_for(videos[1:2])))

    assert numbers == {0: [0, 1, 2]}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_costs_its_video_alone(videos, workers):
    # Few slots: the long video (index 20) cannot be through when its first frames arrive.
    events = []
    with open_pool(workers=workers, slots=4) as pool:
        for event in pool.decode(tasks_for(videos)):
            if event.index == 20 and not any(seen.index == 20 for seen in events):
                for pid in pool.worker_pids:
                    os.kill(pid, signal.SIGKILL)
            events.append(event)

    numbers, ends = collect(events)
    assert isinstance(ends[20], Failed)
    assert ends[20].error.reason == "decoder crashed"
    assert "SIGKILL" in str(ends[20].error)
    assert numbers[20] == list(range(len(numbers[20])))
    finished = [index for index, end in ends.items() if isinstance(end, Finished)]
    assert len(finished) >= 6 - workers  # each killed worker was at one video
    assert list(ends) == [0, 10, 20, 30, 40, 50]
    for index in finished:
        assert numbers[index] == list(range(LENGTHS[index // 10]))


def test_a_worker_that_dies_idle_costs_nothing(videos):
    with open_pool() as pool:
        list(pool.decode(tasks_for(videos[1:2])))
        os.kill(pool.worker_pids[0], signal.SIGKILL)
        wait_until(lambda: not is_running(pool.worker_pids[0]))
        _, ends = collect(pool.decode(tasks_for(videos[1:2])))

    assert isinstance(ends[0], Finished)


def test_a_worker_without_progress_is_killed(videos):
    events = []
    with open_pool(slots=4, timeout_seconds=1.0) as pool:
        for event in pool.decode(tasks_for([videos[2], videos[1]])):
            if not events:
                os.kill(pool.worker_pids[0], signal.SIGSTOP)
            events.append(event)

    _, ends = collect(events)
    assert ends[0].error.reason == "decoder hung"
    assert "no progress for 1 s" in str(ends[0].error)
    assert isinstance(ends[10], Finished)


def test_headers_come_in_order_or_why_there_is_none(videos, tmp_path):
    bad = write_audio(tmp_path / "bad.m4a")

    with open_pool(workers=2) as pool:
        headers = list(pool.probe([videos[0], bad, tmp_path / "none", *videos[1:]]))
        numbers, _ = collect(pool.decode(tasks_for(videos[1:2])))

    assert [headers[0], *headers[3:]] == list(map(probe, videos))
    assert [error.reason for error in headers[1:3]] == ["no video stream", "unreadable"]
    assert numbers == {0: [0, 1, 2]}


def test_a_header_that_takes_for_ever_costs_its_file_alone(videos, tmp_path):
    """All samples of one byte, 80 million of them, in one chunk: FFmpeg lists every one."""
    endless = bytearray(videos[0].read_bytes())
    sizes, chunks = endless.index(b"stsz"), endless.index(b"stsc")
    endless[sizes + 8 : sizes + 16] = struct.pack(">II", 1, 80_000_000)
    endless[chunks + 16 : chunks + 20] = struct.pack(">I", 80_000_000)
    (tmp_path / "endless.mp4").write_bytes(endless)

    with open_pool(timeout_seconds=0.2) as pool:
        headers = list(pool.probe([tmp_path / "endless.mp4", videos[1]]))
        _, ends = collect(pool.decode(tasks_for([tmp_path / "endless.mp4"])))

    assert headers[0].reason == "decoder hung"
    assert headers[1] == probe(videos[1])
    assert ends[0].error.reason == "decoder hung"


def test_a_slow_consumer_is_not_a_hang(videos):
    with open_pool(slots=4, timeout_seconds=1.0) as pool:
        events = pool.decode(tasks_for(videos[:1]))
        first = next(events)
        time.sleep(1.5)
        rest = list(events)

    assert isinstance(first, Frames)
    assert isinstance(rest[-1], Finished)


def test_workers_ignore_the_signals_of_a_scheduler(videos):
    events = []
    with open_pool(slots=4) as pool:
        for event in pool.decode(tasks_for(videos[2:3])):
            if not events:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                    os.kill(pool.worker_pids[0], number)
            events.append(event)

    assert isinstance(events[-1], Finished)


def test_workers_are_replaced_after_some_videos(videos, monkeypatch):
    monkeypatch.setattr("extract.decode.pool.VIDEOS_PER_WORKER", 2)
    pids = set()
    with open_pool(slots=4) as pool:
        numbers, ends = {}, 0
        for event in pool.decode(tasks_for(videos)):
            pids.update(pool.worker_pids)
            ends += isinstance(event, Finished)
            if isinstance(event, Frames):
                numbers.setdefault(event.index, []).extend(read_numbers(event.pixels))

    assert len(pids) >= 3
    assert ends == 6
    assert len(numbers[20]) == 100


def test_leaving_the_pool_ends_its_workers():
    with open_pool(workers=2) as pool:
        pids = pool.worker_pids

    assert len(pids) == 2
    assert not any(is_running(pid) for pid in pids)


PARENT = """
import sys
from extract.decode.pool import DecodePool, DecodeSettings, DecodeTask
from features_store.spec import Preprocessing, Sampling

preprocessing = Preprocessing(
    (48, 64), 64, "stretch", "bilinear", (0.0,) * 3, (1.0,) * 3, 255.0, "rgb"
)
settings = DecodeSettings(
    preprocessing=preprocessing, sampling=Sampling("stride", "1"), slots=4
)
with DecodePool(settings, workers=2) as pool:
    for event in pool.decode([DecodeTask(0, sys.argv[1]), DecodeTask(1, sys.argv[1])]):
        print(*pool.worker_pids, flush=True)
        sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_die_with_their_parent(videos, number):
    # A plain script without a __main__ guard, as a user would write it.
    command = [sys.executable, "-c", PARENT, str(videos[2])]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        os.kill(pids[0], signal.SIGCONT)  # raises if it never ran
        parent.send_signal(number)
        parent.wait(timeout=10)

        wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_workers_that_cannot_start_are_the_machines_fault(videos, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with (
        open_pool() as pool,
        pytest.raises(MachineError, match=r"decode workers do not start \(exit status 1\)"),
    ):
        list(pool.decode(tasks_for(videos)))


def test_an_impossible_crop_is_refused_at_once():
    with pytest.raises(UsageError, match="resize size 32 is below the input size"):
        DecodeSettings(preprocessing=preprocessing(resize_size=32), sampling=EVERY_FRAME)


def test_a_closed_pool_says_how_to_open_it(videos):
    with pytest.raises(ValueError, match="the pool is not open; use it as 'with"):
        next(open_pool().decode(tasks_for(videos)))


# --- What pool and worker tell each other --------------------------------------------------------

HEADER = VideoHeader(64, 48, Fraction(30000, 1001), Fraction(1, 12800), 1.5, 45, True, "h264")
SUMMARY = VideoSummary(25.0, 1.5, 30, 64, 48, 90, (0.0, 1.5, 2.0, 3.0), "bt709", "tv", ((0, 1),))


@pytest.mark.parametrize(
    ("message", "kinds"),
    [
        (SETTINGS, ToWorker),
        (replace(SETTINGS, stack=PictureStack(("flip", "center"), True), slots=9), ToWorker),
        (replace(SETTINGS, decoder="nvdec", device=1), ToWorker),
        (DecodeTask(7, "/v/ü.mp4", 0.5, None, True, "a"), ToWorker),
        (Credits(3), ToWorker),
        (Ready(), FromWorker),
        (Decoded((0.0, 0.04), (0, 1)), FromWorker),
        (Probed(HEADER), FromWorker),
        (Ended(SUMMARY), FromWorker),
        (Ended(None, "corrupt", "it broke off"), FromWorker),
    ],
)
def test_messages_arrive_as_they_were_sent(message, kinds):
    ours, theirs = Pipe()
    send(theirs, message)

    assert receive(ours, kinds) == message


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\x80\x04\x95", "cannot be read"),
        (b"[" * 10**5, "cannot be read"),
        (b'{"kind": "frames"}', "cannot be read"),
        (b'["Credits", {"count": 1}]', "'Credits', expected Ready or Decoded or Probed or Ended"),
        (b'["Decoded", {"pts_seconds": [0.5], "frame_index": []}]', "1 times of 0 frames"),
        (b'["Decoded", {"pts_seconds": [NaN], "frame_index": [1]}]', "expected a finite number"),
        (b'["Decoded", {"pts_seconds": [0.5], "frame_index": [0.5]}]', "expected int"),
        (b'["Ended", {"summary": {}}]', "lacks the field"),
    ],
)
def test_what_no_worker_of_ours_would_say_is_refused(content, complaint):
    ours, theirs = Pipe()
    theirs.send_bytes(content)

    with pytest.raises(PlainError, match=complaint):
        receive(ours, FromWorker)


def test_a_worker_that_talks_nonsense_costs_its_video_alone(videos, tmp_path, monkeypatch):
    """As if a video had taken its decoder over."""
    script = tmp_path / "python"
    script.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "from multiprocessing.connection import Connection\n"
        "connection = Connection(int(sys.argv[4]))\n"
        "connection.send_bytes(b'[\"Ready\", {}]')\n"
        "connection.recv_bytes()\n"
        "connection.recv_bytes()\n"
        "connection.send_bytes(b'[\"Frames\", {}]')\n"
        "connection.recv_bytes()\n"
    )
    script.chmod(0o700)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(script))
        pool = open_pool()
        pool.__enter__()
    with pool:
        _, ends = collect(pool.decode(tasks_for(videos[1:3])))

    assert ends[0].error.reason == "decoder crashed"
    assert isinstance(ends[10], Finished)


def test_there_must_be_slots():
    with pytest.raises(ValueError, match="slots must be positive, got 0"):
        replace(SETTINGS, slots=0)


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        # The first thread is a zombie while others are still on their way out, files open.
        num_threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" or num_threads > 1


def wait_until(condition, *, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
