"""Clips whose frames are in another order, a probe of what a head makes of time."""

import numpy as np
import pytest
import torch

from features_store.format.layout import LayerShape
from features_store.store import Store
from tests.stores import header, make_store
from train.data.clips import Clips
from train.data.windows import WindowPlan
from train.fitting.config import TrainConfig
from train.fitting.predicting import predict
from train.heads import build_head

LENGTHS = {"a": 9, "b": 9, "c": 3}
SLIDING = WindowPlan("sliding", num_steps=5, window_stride=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "s.cubes"
    make_store(path, LENGTHS, store_header=header(layers=(LayerShape("top", 2, 8),)))
    with Store(path) as opened:
        yield opened


def clips_of(store, order, **options):
    options = {"windows": WindowPlan(num_steps=5)} | options
    return Clips(store, list(LENGTHS), frame_order=order, **options)


def numbers(rows):
    return sorted(rows.tolist())


@pytest.mark.parametrize("memory_bytes", [None, 0])
@pytest.mark.parametrize("order", ["reversed", "shuffled"])
@pytest.mark.parametrize("windows", [WindowPlan(num_steps=5), SLIDING])
def test_a_clip_has_the_same_frames_in_another_order(store, windows, order, memory_bytes):
    plain = clips_of(store, "forward", windows=windows)
    other = clips_of(store, order, windows=windows, memory_bytes=memory_bytes)
    positions = range(len(plain))

    before, after = plain.batch(positions), other.batch(positions)

    assert torch.equal(before.mask, after.mask)
    for position in positions:
        rows, moved = plain.clips[position].rows, other.clips[position].rows
        assert numbers(moved) == numbers(rows)
        places = np.searchsorted(rows, moved)
        for one, two in ((before.top, after.top), (before.diffs, after.diffs)):
            assert torch.equal(two[position, : len(rows)], one[position, places])


def test_reversed_frames_run_backwards_and_padding_stays_at_the_end(store):
    clip = clips_of(store, "reversed").clips[2]

    assert clip.rows.tolist() == [2, 1, 0]
    padded = clips_of(store, "reversed").batch([2], num_steps=5)
    assert padded.mask.tolist() == [[True] * 3 + [False] * 2]


def test_a_shuffle_is_the_same_each_time_and_another_for_each_clip(store):
    once, again = (
        [clip.rows.tolist() for clip in clips_of(store, "shuffled").clips] for _ in range(2)
    )

    assert once == again
    assert once[0] != once[1]  # of two videos of one length


@pytest.mark.parametrize(("name", "hears"), [("mean-pool", False), ("avg-lstm", True)])
def test_only_a_head_that_knows_time_answers_otherwise(store, name, hears):
    torch.manual_seed(0)
    plain = clips_of(store, "forward")
    head = build_head(name, shape=plain.input_shape, num_classes=3)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)

    for order in ("reversed", "shuffled"):
        forward, other = (
            predict(head, clips, np.arange(3), TrainConfig())
            for clips in (plain, clips_of(store, order))
        )
        assert (np.abs(forward - other).max() > 1e-3) == hears
