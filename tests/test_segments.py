"""`--count`, `--segments` and `--jitter`: which frames, decided by time alone."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.sampling.policy import Extent, Timeline, policy_of
from extract.sampling.segments import drawn_share
from features_store.errors import StoreError, UsageError
from features_store.spec import Sampling, Spec
from tests.stores import SPEC

TICK = Fraction(1, 25)


def sampled(sampling, pts, *, draw_key="v.mp4", extent=None):
    """The kept timestamps, and the draws as timestamps."""
    extent = extent or Extent(pts[0], pts[-1], len(pts))
    sampler = policy_of(sampling).sampler(Timeline(TICK, lambda: extent, draw_key))
    kept = [each for each in pts if sampler.keep(each)]
    kept += pts[-1:] if sampler.keep_last() else []
    return kept, [[kept[row] for row in draw] for draw in sampler.draws]


def every(step, num_frames):
    return [step * n for n in range(num_frames)]


@pytest.mark.parametrize(
    ("sampling", "pts", "expected"),
    [
        pytest.param({"count": 1}, every(1, 9), [4], id="one frame is the middle"),
        pytest.param({"count": 2}, every(1, 9), [0, 8], id="first and last"),
        pytest.param({"count": 5}, every(1, 9), [0, 2, 4, 6, 8], id="evenly"),
        pytest.param({"count": 9}, every(1, 9), every(1, 9), id="as many as there are"),
        pytest.param({"count": 40}, every(1, 9), every(1, 9), id="more than there are"),
        pytest.param({"count": 3}, [0, 1, 2, 50, 98, 100], [0, 50, 100], id="by time"),
        pytest.param({"count": 3}, [0, 1, 2, 60, 100], [0, 60, 100], id="the first not before"),
        pytest.param({"count": 4}, [7], [7], id="one frame in all"),
        pytest.param({"segments": 1}, every(40, 9), [160], id="the centre of an odd number"),
        pytest.param({"segments": 3}, every(40, 9), [40, 160, 280], id="three of nine"),
        pytest.param({"segments": 9}, every(40, 9), every(40, 9), id="a frame a segment"),
        pytest.param({"segments": 4}, every(40, 2), [0, 40], id="more segments than frames"),
        pytest.param({"segments": 2}, [-40, 0, 40, 80], [-40, 40], id="timestamps below zero"),
        pytest.param({"segments": 2}, [0, 10, 20, 90], [0, 90], id="segments are of time"),
        pytest.param({"segments": 3}, [5], [5], id="one frame in three segments"),
    ],
)
def test_the_frames_of_the_table_are_kept(sampling, pts, expected):
    assert sampled(Sampling.parse(**sampling), pts)[0] == expected


times = st.lists(st.integers(-50, 400), unique=True, min_size=1, max_size=30).map(sorted)
samplings = st.one_of(
    st.builds(lambda n: Sampling.parse(count=n), st.integers(1, 40)),
    st.builds(
        lambda s, j, seed: Sampling.parse(segments=s, jitter=j, seed=seed if j else 0),
        st.integers(1, 20),
        st.integers(0, 4),
        st.integers(0, 9),
    ),
)


@given(samplings, times)
def test_each_draw_has_the_first_frame_at_or_after_its_times_or_the_last(sampling, pts):
    wanted = policy_of(sampling).wanted_times(Extent(pts[0], pts[-1], len(pts)), "v.mp4")

    kept, draws = sampled(sampling, pts)

    half = Fraction(1, 2)
    due = [[next((p for p in pts if p >= t - half), pts[-1]) for t in draw] for draw in wanted]
    assert draws == due
    assert kept == sorted({p for draw in due for p in draw})
    assert all(draw == sorted(draw) for draw in draws)


@given(samplings, times)
def test_no_more_frames_are_kept_than_estimated(sampling, pts):
    bounds = [policy_of(sampling).most(num_frames=n, seconds=0.0) for n in (0, len(pts))]

    assert len(sampled(sampling, pts)[0]) <= min(bounds)


def test_packets_that_promise_more_than_is_decoded_lose_no_draw():
    promised = Extent(0, 1000, 26)

    kept, draws = sampled(Sampling.parse(count=6), every(40, 10), extent=promised)

    assert kept == [0, 200, 360]
    assert draws == [[0, 200, 360, 360, 360, 360]]


@pytest.mark.parametrize("ticks", [1, 3600])
@pytest.mark.parametrize("num_segments", [1, 3, 7])
def test_a_random_draw_takes_a_frame_of_each_segment(num_segments, ticks):
    pts = every(ticks, 84)

    for video in range(50):
        sampling = Sampling.parse(segments=num_segments, jitter=3)
        _, draws = sampled(sampling, pts, draw_key=f"{video}")
        for draw in draws:
            assert [p // ticks * num_segments // 84 for p in draw] == list(range(num_segments))


@pytest.mark.parametrize("ticks", [1, 3600])
def test_every_frame_of_a_segment_is_as_likely(ticks):
    sampling = Sampling.parse(segments=2, jitter=1)

    draws = [sampled(sampling, every(ticks, 8), draw_key=f"{i}")[1][1] for i in range(2000)]

    counts = Counter(p // ticks for draw in draws for p in draw)
    assert sorted(counts) == list(range(8))
    assert all(abs(count - 500) < 5 * (500 * 0.75) ** 0.5 for count in counts.values())


def test_draws_depend_on_the_seed_and_the_video_and_nothing_else():
    pts = every(3600, 200)

    def draws(**changes):
        options = {"segments": 8, "jitter": 2, "seed": 3, "draw_key": "a.mp4"} | changes
        draw_key = options.pop("draw_key")
        return sampled(Sampling.parse(**options), pts, draw_key=draw_key)[1]

    first = draws()
    assert first == draws()
    assert first[0] == draws(seed=4)[0] == draws(draw_key="b.mp4")[0]  # the centres
    assert len({str(d) for d in (first, draws(seed=4), draws(draw_key="b.mp4"))}) == 3
    assert first == draws(jitter=5)[:3]
    assert first[1] != first[2]


def test_the_shares_of_draws_never_change():
    assert float(drawn_share(0, "v.mp4", 1, 0)) == 0.7272164209145395
    assert float(drawn_share(7, "ordner/ü.mp4", 2, 5)) == 0.0422816686444874


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "`count` must be at least 1, got 0"),
        ({"segments": -1}, "`segments` must be at least 1, got -1"),
        ({"count": 3, "fps": "5"}, "`fps` and `count` exclude each other"),
        ({"count": 3, "segments": 5}, "`count` and `segments` exclude each other"),
        ({"count": 3, "jitter": 5}, "`jitter` and `seed` are for draws from `segments`"),
        ({"segments": 3, "seed": 5}, "`seed` 5 is for random draws"),
        ({"segments": 3, "jitter": -1}, "must not be negative, got -1 and 0"),
        ({"segments": 3, "jitter": 30000}, "90003 frames are more than"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        Sampling.parse(**options)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling("fps", "10"),
        Sampling("fps", "30000/1001"),
        Sampling("stride", "2"),
        Sampling("count", "16"),
        Sampling("segments", "8"),
        Sampling("segments", "8", jitter=4, seed=2),
    ],
    ids=str,
)
def test_a_sampling_survives_its_options_and_its_json(sampling):
    spec = replace(SPEC, sampling=sampling)

    assert Sampling.parse(**sampling.options) == sampling
    assert Spec.from_json(spec.to_json()) == spec
    assert Spec.from_json(spec.to_json()).digest == spec.digest


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "random", "value": "8"},
        {"kind": "count", "value": 8},
        {"kind": "count", "value": "08"},
        {"kind": "segments", "value": "-8"},
        {"kind": "segments", "value": "8", "jitter": "1"},
        {"kind": "segments", "value": "8", "jitter": 10**12, "seed": 0},
        {"kind": "segments", "value": "8", "jitter": 1, "seed": -1},
        {"kind": "fps", "value": "8", "jitter": 1, "seed": 0},
        {"kind": "segments", "value": "8", "draws": 1},
    ],
    ids=str,
)
def test_a_sampling_of_a_strangers_store_is_checked(document):
    with pytest.raises(StoreError, match=r"the spec in store\.json cannot be read"):
        Spec.from_json(SPEC.to_json() | {"sampling": document})


def test_digests_of_stores_that_are_there_stay():
    at_10 = "5ac2cbce6136045372655e63cca3894281c370932b437ccedbe1a404f477a639"
    every_second = "806300d1fc640150ca017f680c4543b85219dd85d9a38e7f05350c77c758d978"

    assert SPEC.digest == at_10
    assert replace(SPEC, sampling=Sampling("stride", "2")).digest == every_second


def test_another_seed_is_another_spec():
    digests = {
        replace(SPEC, sampling=Sampling.parse(segments=8, jitter=jitter, seed=seed)).digest
        for jitter, seed in ((0, 0), (1, 0), (1, 1), (2, 0))
    }

    assert len(digests) == 4
