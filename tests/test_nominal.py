"""Counts by arithmetic are those of the samplers, frame by frame."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.sampling.fps import MAX_STEPS
from extract.sampling.nominal import NominalTiming
from extract.sampling.policy import Extent, Timeline, policy_of
from extract.video.counts import frames_between
from extract.video.spans import span_ticks
from features_store.spec import Sampling

RATES = [
    Fraction(25),
    Fraction(30),
    Fraction(30000, 1001),
    Fraction(24000, 1001),
    Fraction(997, 31),
]
TIME_BASES = [Fraction(1, 1000), Fraction(1, 12800), Fraction(1, 90000), Fraction(1, 25)]
FPS = ["10", "1", "0.1", "7/3", "24", "25", "2997/100", "30000/1001", "30", "60"]

timings = st.builds(
    NominalTiming, st.integers(1, 300), st.sampled_from(RATES), st.sampled_from(TIME_BASES)
)
samplings = st.one_of(
    st.builds(lambda fps: Sampling.parse(fps=fps), st.sampled_from(FPS)),
    st.builds(lambda stride: Sampling.parse(stride=stride), st.integers(1, 9)),
)


@settings(deadline=None)
@given(timings, samplings, st.integers(0, 300), st.integers(0, 300))
def test_counts_are_those_of_the_sampler(timing, sampling, first, length):
    frames = range(timing.num_frames)[first : first + length]
    sampler = policy_of(sampling).sampler(Timeline(timing.time_base, Extent))

    assert policy_of(sampling).count(timing, frames) == sum(
        sampler.keep(timing.tick(frame)) for frame in frames
    )


@settings(deadline=None)
@given(timings, st.floats(0, 14), st.floats(0, 14))
def test_a_span_has_the_frames_that_a_reader_finds(timing, start, end):
    first, stop = (span_ticks(s, time_base=timing.time_base) for s in (start, end))
    inside = [i for i in range(timing.num_frames) if first <= timing.tick(i) < stop]

    assert list(frames_between(timing, start_seconds=start, end_seconds=end)) == inside


def test_ticks_are_those_of_a_container():
    timing = NominalTiming(5, Fraction(30), Fraction(1, 1000))

    assert [timing.tick(i) for i in range(5)] == [0, 33, 67, 100, 133]


@pytest.mark.parametrize("fps", ["29.97", "2999999999/100000000"])
def test_numbers_too_large_for_64_bits_are_counted_too(fps):
    timing = NominalTiming(2000, Fraction(30), Fraction(1, 10**15 + 1))
    sampler = policy_of(Sampling.parse(fps=fps)).sampler(Timeline(timing.time_base, Extent))
    kept = sum(sampler.keep(timing.tick(frame)) for frame in range(2000))

    assert policy_of(Sampling.parse(fps=fps)).count(timing, range(2000)) == kept


def test_a_lying_header_costs_no_memory():
    timing = NominalTiming(10**15, Fraction(30), Fraction(1, 1000))

    kept = policy_of(Sampling.parse(fps="29.97")).count(timing, range(timing.num_frames))

    assert kept == pytest.approx(0.999 * 10**15)
    assert timing.num_frames > MAX_STEPS
