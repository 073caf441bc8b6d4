import pytest
import torch
from einops import rearrange
from torch import nn

from features_store.errors import UsageError
from tests import planted
from tests.batches import all_valid, batch_of, randn
from tests.oracles import TIGHT, load_oracle
from train.data.batch import InputShape
from train.heads import build_head
from train.heads.blocks.masked import zero_masked
from train.heads.temporal_shift import mix_shifted, temporal_shift


def numbered(*, num_clips=2, num_frames=4, dim=16):
    """Cubes of one cell whose value tells clip and frame: 10 · clip + frame + 1."""
    frames = torch.arange(num_frames) + 1.0 + 10 * torch.arange(num_clips).unsqueeze(1)
    return frames.reshape(num_clips, num_frames, 1, 1, 1).expand(-1, -1, 1, 1, dim)


def test_agrees_with_independent_code():
    oracle = load_oracle("temporal_shift")
    cubes, expected = (
        rearrange(oracle[f"{name}_bt_chw"], "b t c h w -> b t h w c")
        for name in ("cubes", "shifted")
    )

    torch.testing.assert_close(temporal_shift(cubes, all_valid(cubes)), expected, **TIGHT)


def test_an_eighth_comes_from_the_next_frame_an_eighth_from_the_last_and_zeros_at_the_ends():
    shifted = temporal_shift(numbered(), all_valid(numbered())).squeeze((2, 3))

    next_frame, last_frame, same = shifted.split([2, 2, 12], dim=-1)
    assert next_frame[..., 0].tolist() == [[2, 3, 4, 0], [12, 13, 14, 0]]
    assert last_frame[..., 0].tolist() == [[0, 1, 2, 3], [0, 11, 12, 13]]
    assert same[..., 0].tolist() == [[1, 2, 3, 4], [11, 12, 13, 14]]
    for part in (next_frame, last_frame, same):
        assert (part == part[..., :1]).all()


def test_the_clip_ends_at_its_last_valid_frame():
    mask = torch.tensor([[True] * 4, [True, True, False, False]])

    shifted = temporal_shift(numbered(), mask)[1].squeeze((1, 2))

    assert shifted[:, 0].tolist() == [12, 0, 0, 0]
    assert shifted[:, 2].tolist() == [0, 11, 0, 0]
    assert shifted[:, 4].tolist() == [11, 12, 0, 0]


@pytest.mark.parametrize(("dim", "num_moved"), [(8, 2), (20, 4), (23, 4)])
def test_channels_that_make_no_full_eighth_stay(dim, num_moved):
    cubes = numbered(dim=dim)

    shifted = temporal_shift(cubes, all_valid(cubes))

    assert (shifted != cubes).flatten(0, 3).any(0).sum() == num_moved


def test_a_single_frame_loses_what_is_shifted():
    shifted = temporal_shift(numbered(num_frames=1), all_valid(numbered(num_frames=1)))

    assert shifted[..., :4].abs().max() == 0
    assert shifted[..., 4:].min() == 1


def build(name="temporal-shift", **options):
    torch.manual_seed(0)
    shape = InputShape({"top": (planted.PATH_GRID, planted.PATH_DIM)})
    return build_head(name, shape=shape, num_classes=2, **options)


def test_the_head_is_shift_convolution_and_means():
    batch, *_ = planted.moving_blob(3, torch.Generator().manual_seed(0))
    head = build(hidden=4).eval()
    nn.init.normal_(head.classify.linear.weight)
    conv = nn.Conv2d(planted.PATH_DIM, 4, 1)
    conv.load_state_dict({"weight": head.mix.weight[:, :, None, None], "bias": head.mix.bias})
    pictures = rearrange(temporal_shift(batch.top, batch.mask), "b t h w d -> (b t) d h w")

    frames = conv(pictures).relu().mean((2, 3)).unflatten(0, (3, -1))
    per_frame = frames @ head.classify.linear.weight.T + head.classify.linear.bias

    torch.testing.assert_close(head(batch).logits, per_frame.mean(1, keepdim=True))


def test_too_few_channels_are_refused():
    with pytest.raises(UsageError, match=r"the top layer has 7; choose a layer with at least 8"):
        build_head("temporal-shift", shape=InputShape({"top": (3, 7)}), num_classes=2)


LEARNERS = [
    ("temporal-shift", {"hidden": 16, "dropout": 0}, True),
    ("self-attention-pool", {"dropout": 0}, False),
]


@pytest.mark.parametrize(("name", "options", "is_readable"), LEARNERS)
def test_the_direction_of_a_blob_is_read_by_shifted_channels(name, options, is_readable):
    head = planted.train(build(name, **options), planted.moving_blob, learning_rate=0.005)

    accuracy, *_ = planted.evaluate(head, planted.moving_blob)

    assert accuracy > 0.95 if is_readable else 0.4 < accuracy < 0.6


def test_played_backwards_a_clip_has_other_logits():
    batch, *_ = planted.moving_blob(4, torch.Generator().manual_seed(0))
    head = build(hidden=4).eval()
    nn.init.normal_(head.classify.linear.weight)

    backwards = head(batch_of(batch.top.flip(1)))

    assert (backwards.logits - head(batch).logits).abs().max() > 1e-4


def test_what_is_mixed_and_shifted_is_what_is_shifted_and_mixed():
    cubes, mask = randn(3, 4, 2, 2, 16), torch.ones(3, 4, dtype=torch.bool)
    mask[1, 2:] = mask[2, 1:] = False
    mix = nn.Linear(16, 5).double()
    clean = zero_masked(cubes, mask)

    ours, theirs = mix_shifted(clean, mask, mix), mix(temporal_shift(cubes, mask))
    torch.testing.assert_close(ours[mask], theirs[mask])
    weights = list(mix.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(ours[mask].square().sum(), weights),
        torch.autograd.grad(theirs[mask].square().sum(), weights),
    )
