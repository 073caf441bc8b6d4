from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.sampling.policy import Extent, Timeline, policy_of
from extract.video.counts import count_frames
from extract.video.header import VideoHeader
from features_store.spec import Sampling


def fps(value):
    return Sampling("fps", value)


def stride(value):
    return Sampling("stride", value)


def kept(sampling, pts, time_base=Fraction(1, 25)):
    sampler = policy_of(sampling).sampler(Timeline(time_base, Extent))
    return [each for each in pts if sampler.keep(each)]


@pytest.mark.parametrize(
    ("sampling", "pts", "expected"),
    [
        pytest.param(stride("1"), [0, 1, 2], [0, 1, 2], id="every frame"),
        pytest.param(stride("3"), range(7), [0, 3, 6], id="every third frame"),
        pytest.param(stride("2"), [5, 50, 51], [5, 51], id="stride counts frames, not time"),
        pytest.param(fps("25"), range(4), [0, 1, 2, 3], id="the source's own rate"),
        pytest.param(fps("5"), range(11), [0, 5, 10], id="a fifth of the rate"),
        pytest.param(fps("10"), range(8), [0, 2, 5, 7], id="half a tick early is in time"),
        pytest.param(fps("7"), range(8), [0, 4, 7], id="more than half a tick early is not"),
        pytest.param(fps("50"), range(3), [0, 1, 2], id="a slower source keeps each frame once"),
        pytest.param(fps("5"), [7, 8, 12], [7, 12], id="the origin is the first frame"),
        pytest.param(fps("5"), [-3, 1, 2], [-3, 2], id="timestamps below zero"),
        pytest.param(fps("5"), [0, 23, 24, 25], [0, 23, 25], id="after a gap the grid stays"),
        pytest.param(fps("1"), [], [], id="no frames"),
    ],
)
def test_the_frames_of_the_table_are_kept(sampling, pts, expected):
    assert kept(sampling, pts) == expected


def test_timestamps_rounded_to_milliseconds_keep_what_exact_ones_keep():
    exact = [round(Fraction(1001, 30000) * n / Fraction(1, 90000)) for n in range(300)]
    rounded = [round(Fraction(1001, 30) * n) for n in range(300)]  # as Matroska stores them

    exact_kept = kept(fps("30000/1001"), exact, Fraction(1, 90000))
    rounded_kept = kept(fps("30000/1001"), rounded, Fraction(1, 1000))

    assert [exact.index(pts) for pts in exact_kept] == [rounded.index(p) for p in rounded_kept]


times = st.lists(st.integers(-50, 300), unique=True, max_size=30).map(sorted)
rates = st.fractions(Fraction(1, 3), 120, max_denominator=1001)
time_bases = st.sampled_from([Fraction(1, 25), Fraction(1001, 30000), Fraction(1, 1000)])


@settings(deadline=None, max_examples=50)  # the definition, word for word, is slow
@given(times, rates, time_bases)
def test_fps_keeps_the_first_frame_at_or_after_every_target(pts, rate, time_base):
    expected = set()
    if pts:
        last_target = int(rate * (pts[-1] - pts[0] + 1) * time_base) + 1
        for k in range(last_target + 1):
            due = pts[0] + k / rate / time_base - Fraction(1, 2)
            expected |= set([each for each in pts if each >= due][:1])

    assert kept(fps(str(rate)), pts, time_base) == sorted(expected)


@given(times, st.integers(1, 70))
def test_stride_is_a_slice(pts, step):
    assert kept(stride(str(step)), pts) == pts[::step]


@given(times, rates, time_bases)
def test_no_more_frames_are_kept_than_estimated(pts, rate, time_base):
    duration = float((pts[-1] - pts[0] + 1) * time_base) if pts else 0.0
    bound = policy_of(fps(str(rate))).most(num_frames=len(pts), seconds=duration)

    assert len(kept(fps(str(rate)), pts, time_base)) <= bound


@pytest.mark.parametrize(
    ("sampling", "duration", "hint", "source_fps", "least"),
    [
        pytest.param(stride("1"), 10.0, 250, 25.0, 250, id="the header counts frames"),
        pytest.param(stride("1"), 10.0, 0, 25.0, 250, id="frames from duration and rate"),
        pytest.param(stride("4"), 10.0, 250, 25.0, 63, id="stride rounds up"),
        pytest.param(fps("10"), 10.0, 250, 25.0, 101, id="fps by time"),
        pytest.param(fps("50"), 10.0, 250, 25.0, 250, id="never more than there are"),
        pytest.param(fps("10"), 0.0, 250, 0.0, 250, id="no duration"),
        pytest.param(fps("10"), 10.0, 0, 0.0, 101, id="no count"),
    ],
)
def test_the_estimate_is_just_above_the_truth(sampling, duration, hint, source_fps, least):
    header = VideoHeader(
        64, 48, Fraction(source_fps), Fraction(1, 25), duration, hint, True, "h264"
    )

    assert least <= count_frames(header, sampling, None, None).most <= 1.02 * least + 2


def test_a_silent_header_gives_no_estimate():
    assert policy_of(fps("10")).most(num_frames=0, seconds=0.0) == 0


def test_a_stride_of_zero_is_refused():
    with pytest.raises(ValueError, match="stride must be at least 1, got 0"):
        kept(stride("0"), [])
