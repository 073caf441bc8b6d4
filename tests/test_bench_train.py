"""`bench train`: what is measured against computes the same, and all is measured."""

import json

import pytest
import torch

from features_store.errors import UsageError
from features_store.format.encodings import COMPACT
from features_store.store import Store
from pipelines.measure.bench_train import bench_train
from pipelines.measure.plain_training import PlainClips, PlainSoftAttention
from tests.batches import random_batch
from tests.stores import header, make_store
from train.data.batch import InputShape
from train.data.clips import Clips
from train.data.windows import WindowPlan
from train.fitting.config import TrainConfig
from train.heads import build_head, head_class
from train.heads.names import MODULES

VIDEOS = {f"v{i}": 2 + i for i in range(5)}


@pytest.mark.parametrize("stored", [{}, {"dtype": COMPACT[0], "compression": COMPACT[1]}])
def test_the_plain_way_reads_the_same_clips(tmp_path, stored):
    make_store(tmp_path / "s.cubes", VIDEOS, store_header=header(**stored))
    with Store(tmp_path / "s.cubes") as store:
        clips = Clips(store, store.ids, windows=WindowPlan("even", 4))
        plain = PlainClips(clips)
        for position in range(len(clips)):
            arrays, mask = plain[position]
            theirs = plain.batch([each[None] for each in arrays], mask[None])
            ours = clips.batch([position], num_steps=4)
            assert torch.equal(theirs.mask, ours.mask)
            assert torch.equal(theirs.top, ours.top)
            if ours.diffs is not None:
                assert torch.equal(theirs.diffs, ours.diffs)


@pytest.mark.parametrize("layers", [1, 3])
def test_plain_soft_attention_is_ours(layers):
    torch.manual_seed(0)
    batch = random_batch()
    grid, dim = batch.top.shape[2], batch.top.shape[4]
    shape = InputShape({"top": (grid, dim)})
    ours = build_head("soft-attention", shape=shape, num_classes=3, hidden=5, layers=layers)
    ours.to(batch.top.dtype).eval()
    plain = PlainSoftAttention(grid**2, dim, hidden=5, num_layers=layers, num_classes=3)
    plain.to(batch.top.dtype).eval()
    with torch.no_grad():
        plain.attend.weight.copy_(ours.attend.score.weight)
        plain.to_hidden.load_state_dict(ours.initial_state.to_hidden.state_dict())
        plain.to_cell_state.load_state_dict(ours.initial_state.to_cell_state.state_dict())
        plain.output[1].load_state_dict(ours.output.hidden.state_dict())
        plain.output[4].load_state_dict(ours.output.classify.state_dict())
        for cell, layer in zip(plain.cells, ours.lstm.layers, strict=True):
            cell.weight_ih.copy_(layer.from_input.weight)
            cell.weight_hh.copy_(layer.weight_hh)
            cell.bias_ih.copy_(layer.from_input.bias)
            cell.bias_hh.zero_()
    torch.testing.assert_close(plain(batch.top, batch.mask), ours(batch).logits)


def test_every_head_is_measured_on_a_store(cubereel, tmp_path):
    make_store(tmp_path / "s.cubes", VIDEOS, store_header=header())
    names = [name for name in MODULES if not head_class(name).takes_tail]
    heads = [word for name in names for word in ("--head", name)]
    options = ("--clip-frames", 3, "--batch-size", 2, "--seconds", 0.01, "--device", "cpu")
    assert cubereel("bench", "train", tmp_path / "s.cubes", *heads, *options, "--json") == 0
    rows = json.loads(cubereel.out)
    assert [row["head"] for row in rows] == names
    for row in rows:
        assert min(row[name] for name in ("one", "together", "plain", "by_bytes")) > 0
    assert cubereel("bench", "train", tmp_path / "s.cubes", *heads[:2], *options) == 0
    assert "one / plain" in cubereel.out


def test_a_head_that_trains_a_backbone_is_refused(tmp_path):
    with pytest.raises(UsageError, match="'m2a-tail' trains layers of a backbone"):
        bench_train(tmp_path, ["m2a-tail"], config=TrainConfig())
