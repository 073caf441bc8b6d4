"""Times of frames: by how the film was made, read back from the numbers in its pictures."""

import shutil
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from random import Random

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.video import reader
from extract.video.clock import FrameClock, Lead
from extract.video.reader import FrameReader
from extract.video.settings import ReaderSettings
from features_store.errors import DecodeError
from features_store.spec import Sampling
from tests.films import Film
from tests.synthetic import read_numbers
from tests.test_video import preprocessing

STRIDE_1 = Sampling("stride", "1")


def read(path, sampling=STRIDE_1, **span):
    """Return the numbers in the kept pictures, their times and their indices."""
    settings = ReaderSettings(sampling=sampling, preprocessing=preprocessing(fit="stretch"))
    reader = FrameReader(path, settings, **span)
    frames = list(reader)
    numbers = read_numbers(np.stack([frame.pixels for frame in frames]))
    return numbers, np.array([f.pts_seconds for f in frames]), [f.frame_index for f in frames]


def require_true_times(film, path):
    """Every frame's time follows from its number; `--fps` keeps what its rule says of them."""
    rate = Fraction(film.rate)
    numbers, times, indices = read(path)
    is_rounded = bool({path.suffix, film.suffix} & {".mkv", ".webm", ".flv"})  # to milliseconds
    tick = 0.0011 if is_rounded else 0.0002
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert indices == list(range(len(numbers)))
    true = (np.array(numbers) - numbers[0]) / float(rate)
    np.testing.assert_allclose(times - times[0], true, atol=tick)
    assert (np.diff(times) > 0).all()
    with av.open(str(path)) as container:
        time_base = container.streams.video[0].time_base
    is_exact = not is_rounded and (1 / rate / time_base).denominator == 1
    slack = Fraction(0) if is_exact else max(time_base, Fraction(is_rounded, 900))
    for fps in (Fraction(10), Fraction(7, 2)):
        kept, _, _ = read(path, Sampling("fps", str(fps)))
        require_first_after(kept, numbers, fps=fps, rate=rate, half=time_base / 2, slack=slack)
    return len(numbers)


def require_first_after(kept, numbers, *, fps, rate, half, slack):
    """For every k, the first frame that is shown at k/F or, by half a tick at most, before it."""
    for k, number in enumerate(kept):
        wanted = Fraction(k) / fps - half
        assert Fraction(number - numbers[0]) / rate >= wanted - slack
        if number > numbers[0]:
            assert Fraction(number - 1 - numbers[0]) / rate < wanted + slack
    assert Fraction(numbers[-1] - numbers[0]) / rate < Fraction(len(kept)) / fps - half + slack


AVI_H264 = Film(suffix=".avi", rate="30", num_frames=30, b_frames=2, group=250)
TRUE = {
    "AVI has times of decoding alone": AVI_H264,
    "AVI of MPEG-4": replace(AVI_H264, codec="mpeg4"),
    "AVI, copied to MP4": replace(AVI_H264, codec="mpeg4", remux=".mp4"),
    "AVI, copied to Matroska": replace(AVI_H264, remux=".mkv"),
    "AVI without reordering": replace(AVI_H264, b_frames=0),
    "AVI of three B-frames and many groups": replace(AVI_H264, b_frames=3, group=9, num_frames=90),
    "Matroska": replace(AVI_H264, suffix=".mkv"),
    "a film that starts late": replace(AVI_H264, suffix=".mkv", start_seconds=3.37),
}


@pytest.mark.parametrize("film", TRUE.values(), ids=TRUE)
def test_frames_have_the_times_that_their_numbers_say(film, tmp_path):
    assert require_true_times(film, film.write(tmp_path)) == film.num_frames


def test_an_avi_of_thirty_frames_keeps_twenty_five_a_second(tmp_path):
    numbers, times, _ = read(AVI_H264.write(tmp_path), Sampling("fps", "25"))

    assert len(numbers) == 25
    assert times[-1] - times[0] == pytest.approx(numbers[-1] / 30, abs=1e-3)


def test_a_part_of_an_avi_has_the_frames_of_its_times(tmp_path):
    path = replace(AVI_H264, num_frames=90, group=9).write(tmp_path)
    numbers, times, indices = read(path, start_seconds=1.0, end_seconds=2.0)

    assert numbers == indices == list(range(30, 60))
    np.testing.assert_allclose(np.diff(times), 1 / 30, atol=1e-3)


def test_the_end_of_a_span_does_not_hide_that_times_cannot_be_told(tmp_path, monkeypatch):
    """A packet before the span gives no frame, so that times behind it would be a frame early."""
    path = replace(AVI_H264, num_frames=90, group=9).write(tmp_path)
    decode, lost = reader.decode_frames, 20

    def decode_but_one(*args, **kwargs):
        for number, frame in enumerate(decode(*args, **kwargs)):
            if number != lost:
                yield frame

    monkeypatch.setattr(reader, "decode_frames", decode_but_one)
    with pytest.raises(DecodeError, match="so times cannot be told"):
        read(path, start_seconds=1.0, end_seconds=2.0)


def test_a_recording_cut_in_matroska_begins_below_zero(tmp_path):
    """The first half second has no times, since Matroska has none below zero."""
    film = Film(suffix=".mkv", rate="30", num_frames=120, b_frames=2, group=30)
    whole = film.write(tmp_path)
    path = tmp_path / "cut.mkv"
    with (
        av.open(str(whole)) as source,
        av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as sink,
    ):
        video = source.streams.video[0]
        stream = sink.add_stream_from_template(video)
        packets = [packet for packet in source.demux(video) if packet.size]
        first = [i for i, packet in enumerate(packets) if packet.is_keyframe][1]
        shift = round(1.5 / video.time_base)
        for packet in packets[first:]:
            packet.stream = stream
            packet.pts -= shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - shift
            sink.mux(packet)
    numbers, times, _ = read(path)

    assert numbers == list(range(30, 120))
    assert times[0] == pytest.approx(-0.5, abs=2e-3)
    np.testing.assert_allclose(np.diff(times), 1 / 30, atol=2e-3)
    assert len(read(path, Sampling("fps", "10"))[0]) == 30
    spread, _, _ = read(path, Sampling("count", "4"))
    assert spread == [30, 60, 90, 119]


def test_joined_recordings_whose_times_begin_anew_are_refused(tmp_path):
    film = Film("mpeg2video", ".mpg", rate="30", num_frames=30)
    once = film.write(tmp_path).read_bytes()
    joined = tmp_path / "joined.vob"
    joined.write_bytes(once + once)

    with pytest.raises(DecodeError, match="after 30 frames, as where recordings are joined") as why:
        read(joined)
    assert why.value.reason == "times go back"


def test_a_transport_stream_goes_over_the_end_of_its_clock(tmp_path):
    film = Film(suffix=".mp4", rate="30", num_frames=30, b_frames=2)
    path = tmp_path / "wrap.ts"
    with av.open(str(film.write(tmp_path))) as source, av.open(str(path), "w") as sink:
        video = source.streams.video[0]
        stream = sink.add_stream_from_template(video)
        near_the_end = round((2**33 / 90_000 - 1.9) / video.time_base)  # the muxer adds 1.4 s
        for packet in source.demux(video):
            if packet.size:
                packet.stream = stream
                packet.pts += near_the_end
                packet.dts += near_the_end
                sink.mux(packet)

    assert require_true_times(film, path) == 30


@pytest.mark.skipif("dv" not in av.formats_available, reason="this FFmpeg has no DV")
def test_raw_dv_says_its_rate(tmp_path):
    path = tmp_path / "r.dv"
    with av.open(str(path), "w", format="dv") as container:
        stream = container.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for _ in range(25):
            container.mux(stream.encode(av.VideoFrame(720, 576, "yuv420p")))
        container.mux(stream.encode(None))
    video = FrameReader(path, ReaderSettings(sampling=STRIDE_1, preprocessing=preprocessing()))
    times = [frame.pts_seconds for frame in video]

    assert video.summary.fps == 25
    np.testing.assert_allclose(times, np.arange(25) / 25, atol=1e-4)


def try_films(seeds, folder):
    """Return how many films were read with true times, and the refusals by reason."""
    outcomes, wrong = Counter(), []
    for seed in seeds:
        film = Film.random(Random(f"film {seed}"))
        place = folder / str(seed)
        place.mkdir()
        try:
            path = film.write(place)
        except (av.FFmpegError, ValueError) as err:  # not every container takes every stream
            outcomes[f"not made: {film.remux or film.suffix} of {film.codec}: {err}"[:60]] += 1
            continue
        try:
            require_true_times(film, path)
            outcomes["true"] += 1
        except DecodeError as err:
            outcomes[f"refused: {err.reason}: {film.codec} {film.suffix} {film.remux}"] += 1
        except AssertionError as err:
            wrong.append((seed, film, str(err)[:300]))
        shutil.rmtree(place)
    return outcomes, wrong


def test_films_of_every_kind_have_true_times_or_are_refused(tmp_path):
    outcomes, wrong = try_films(range(48), tmp_path)

    assert not wrong
    assert outcomes["true"] >= 40


@pytest.mark.slow
def test_three_hundred_films_have_true_times_or_are_refused(tmp_path):
    outcomes, wrong = try_films(range(1000, 1340), tmp_path)
    for what, count in outcomes.most_common():
        print(f"{count:4d} {what}")

    assert not wrong
    assert outcomes["true"] + sum(n for what, n in outcomes.items() if "refused" in what) >= 300


# --- The clock alone ------------------------------------------------------------------------------


def clock_of(**changes):
    return FrameClock(**{"time_base": Fraction(1, 1000), "rate": Fraction(25)} | changes)


def run(clock, events):
    """Return the times of frames; events are ('p', stamp) of packets and ('f', stamp) of frames."""
    times = []
    for kind, stamp in events:
        if kind == "p":
            clock.sent(stamp)
        else:
            times += [pts for _, pts in clock.shown(None, stamp)]
    return times + [pts for _, pts in clock.rest()]


def coded_order(num_frames, b_frames):
    """Return frame numbers in the order in which an encoder with B-frames writes them."""
    order, shown = [0], 1
    while shown < num_frames:
        anchor = min(shown + b_frames, num_frames - 1)
        order += [anchor, *range(shown, anchor)]
        shown = anchor + 1
    return order


def decoder_events(order, stamps, delay):
    """Packets in coded order, frames in shown order as a decoder of this delay gives them."""
    events, sent = [], {}
    frames = sorted(order)
    for place, number in enumerate(order):
        events.append(("p", stamps[place]))
        sent[number] = stamps[place]
        while frames and frames[0] in sent and place >= order.index(frames[0]) + delay:
            events.append(("f", sent[frames.pop(0)]))
    return events + [("f", sent[number]) for number in frames]


@given(
    num_frames=st.integers(1, 60), b_frames=st.integers(0, 4), step=st.integers(1, 50),
    first=st.integers(-500, 500), is_decoding=st.booleans(), plain=st.integers(0, 40),
)  # fmt: skip
def test_stamps_of_decoding_and_of_showing_give_the_same_times(
    num_frames, b_frames, step, first, is_decoding, plain
):
    """As many frames as `plain` come without reordering first, as in a scene that stands still."""
    order = [*range(plain), *(plain + number for number in coded_order(num_frames, b_frames))]
    times = [first + step * number for number in range(len(order))]
    stamps = times if is_decoding else [times[number] for number in order]
    events = decoder_events(order, stamps, delay=b_frames)

    assert run(clock_of(reorders=b_frames > 0), events) == times


def test_the_clock_counts_on_from_the_last_stamp():
    events = [("f", pts) for pts in (100, None, None, None, 300, None)]

    assert run(clock_of(rate=Fraction(30)), events) == [100, 133, 167, 200, 300, 333]


def test_what_comes_before_the_first_stamp_is_counted_back():
    clock = clock_of(find_lead=lambda: Lead(2, 10))

    assert run(clock, [("f", None), ("f", None), ("f", 10), ("f", 50)]) == [-70, -30, 10, 50]


def test_without_timestamps_and_rate_there_is_no_time():
    with pytest.raises(DecodeError, match="no timestamps"):
        clock_of(rate=None).shown(None, None)


@pytest.mark.parametrize("stamps", [(0, 40, 40), (0, 40, 20), (100, None, 120)])
def test_times_that_do_not_rise_are_refused(stamps):
    with pytest.raises(DecodeError) as raised:
        run(clock_of(), [("f", stamp) for stamp in stamps])
    assert raised.value.reason == "times go back"


def test_a_packet_that_shows_nothing_shifts_no_time():
    """Rising stamps of a decoder that may reorder, and one packet without a frame."""
    events = []
    for number in range(40):
        events.append(("p", 10 * number))
        if number != 5:
            events.append(("f", 10 * number))

    assert run(clock_of(reorders=True), events) == [10 * n for n in range(40) if n != 5]


def test_what_could_not_be_decoded_before_the_first_frame_is_no_frame():
    events = [("p", 0), ("p", 10), ("p", 20), ("f", 20), ("p", 30), ("f", 30)]

    assert run(clock_of(reorders=True), events) == [20, 30]


def test_times_of_decoding_with_a_frame_missing_cannot_be_told():
    order = coded_order(12, 2)
    events = decoder_events(order, [10 * place for place in range(12)], delay=2)
    events.remove(("f", 80))

    with pytest.raises(DecodeError, match="gave no frame, so times cannot be told"):
        run(clock_of(reorders=True), events)


def test_more_frames_than_packets_of_decoding_times_are_refused():
    events = [*(("p", n) for n in range(8)), *(("f", n) for n in (1, 2, 0, 4, 5, 3, 7, 6))]

    with pytest.raises(DecodeError, match="more frames came than packets"):
        run(clock_of(reorders=True), events)


def test_times_of_decoding_that_begin_anew_are_refused():
    order = coded_order(9, 2)
    events = decoder_events(order, [10 * place for place in range(9)], delay=2)

    with pytest.raises(DecodeError, match="begin anew"):
        run(clock_of(reorders=True), [*events, ("p", 0)])
