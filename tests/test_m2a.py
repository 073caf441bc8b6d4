import math

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
from train.heads.blocks.m2a import M2ABlock, frame_motion
from train.heads.temporal_shift import temporal_shift

LASTS = ["faithful", "zero", "replicate"]


def random_cubes(*, num_frames=4, grid=3, dim=8):
    generator = torch.Generator().manual_seed(0)
    shape = (2, num_frames, grid, grid, dim)
    return torch.randn(shape, generator=generator, dtype=torch.float64).relu()


def block(*, dim=8, **options):
    torch.manual_seed(1)
    return M2ABlock(dim, **options).double()


def transparent_block(dim, **options):
    """A block without reduction whose convolutions do nothing, so that out = x + x ⊙ σ(v)."""
    transparent = block(dim=dim, reduction=1, **options)
    for linear in (transparent.down, transparent.up):
        nn.init.eye_(linear.weight)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
    return transparent


def inner(transparent, cubes):
    """What stands before the up-convolution: (B, T, E)."""
    gate = transparent(cubes, all_valid(cubes)).cubes / cubes - 1
    return gate.logit().flatten(2)


def m2a_head(*, num_classes=3, dim=8, diff_grid=None, **options):
    torch.manual_seed(1)
    shape = InputShape({"top": (3, dim)}, diff_grid=diff_grid)
    head = build_head("m2a-head", shape=shape, num_classes=num_classes, **options)
    nn.init.normal_(head.classify.linear.weight)
    return head.double().eval()


# --- Agreement with the official code ------------------------------------------------------------

ORACLES = [
    ("m2a", "motion+attention"),
    ("m2a_motion_only", "motion"),
    ("m2a_attention_only", "attention"),
]
MECHANISMS = [*(mechanism for _, mechanism in ORACLES), "attention+motion"]


def official(name, mechanism):
    oracle = load_oracle(name)
    ours = block(dim=32, mechanism=mechanism)
    weights = {
        f"{part}.{kind}": oracle[f"{part}_{kind}"]
        for part in ("down", "up")
        for kind in ("weight", "bias")
    }
    ours.load_state_dict(weights)
    cubes = rearrange(oracle["cubes_bt_chw"], "b t c h w -> b t h w c")
    return oracle, ours(cubes, all_valid(cubes))


@pytest.mark.parametrize(("name", "mechanism"), ORACLES)
def test_agrees_with_the_official_block(name, mechanism):
    oracle, output = official(name, mechanism)

    expected = rearrange(oracle["output_bt_chw"], "b t c h w -> b t h w c")
    torch.testing.assert_close(output.cubes, expected, **TIGHT)


def test_shows_what_the_official_code_shows():
    oracle, output = official("m2a", "motion+attention")

    torch.testing.assert_close(output.activation, oracle["attention_term"].abs().mean(2), **TIGHT)


# --- Motion --------------------------------------------------------------------------------------

MOTION = [
    ("faithful", [3, -4, -2, 0]),
    ("zero", [3, -4, 0, 0]),
    ("replicate", [3, -4, -4, 0]),
]


@pytest.mark.parametrize(("last", "expected"), MOTION)
def test_motion_is_the_next_frame_minus_this_one_and_the_last_valid_frame_has_a_rule(
    last, expected
):
    frames = torch.tensor([3.0, 6.0, 2.0, 99.0]).reshape(1, 4, 1)
    mask = torch.tensor([[True, True, True, False]])

    assert frame_motion(frames, mask, last=last).flatten().tolist() == expected


@pytest.mark.parametrize(("last", "expected"), [("faithful", -3), ("zero", 0), ("replicate", 0)])
def test_a_single_frame_moves_only_by_the_faithful_rule(last, expected):
    mask = torch.tensor([[True, False]])

    motion = frame_motion(torch.tensor([[[3.0], [99.0]]]), mask, last=last)

    assert motion.flatten().tolist() == [expected, 0]


@pytest.mark.parametrize("last", LASTS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_last_valid_frame_is_the_last_frame(mechanism, last):
    cubes, ours = random_cubes(), block(mechanism=mechanism, last=last)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])

    padded = ours(cubes, mask)

    alone = ours(cubes[1:, :2], mask[1:, :2])
    torch.testing.assert_close(padded.cubes[1:, :2], alone.cubes)
    torch.testing.assert_close(padded.activation[1:, :2], alone.activation)
    assert padded.cubes[1, 2:].abs().max() == 0
    assert padded.activation[1, 2:].abs().max() == 0


# --- Properties of the block ---------------------------------------------------------------------


def identical_frames(*, num_frames=4, dim=8):
    frame = random_cubes(num_frames=1, grid=1, dim=dim) + 0.1
    return frame.expand(-1, num_frames, -1, -1, -1)


def test_identical_frames_say_only_which_is_the_last():
    cubes = identical_frames()
    u = cubes[:, 0].flatten(1)
    normed = nn.functional.layer_norm(u, (8,))
    to_itself = normed.square().sum(1, keepdim=True) / math.sqrt(8)  # √E, but for the norm's eps
    weight = to_itself.exp() / (3 + to_itself.exp())

    v = inner(transparent_block(8), cubes)

    torch.testing.assert_close(v[:, :3], (u - normed / 4).unsqueeze(1).expand(-1, 3, -1))
    torch.testing.assert_close(v[:, 3], u - weight * normed)
    torch.testing.assert_close(
        to_itself, torch.full_like(to_itself, math.sqrt(8)), rtol=1e-3, atol=0
    )


def test_identical_frames_without_last_motion_are_gated_alike_by_what_they_are():
    cubes = identical_frames()

    v = inner(transparent_block(8, last="zero"), cubes)

    torch.testing.assert_close(v, cubes.flatten(2))


@pytest.mark.parametrize(("last", "moves"), [("faithful", True), ("zero", False)])
def test_attention_then_motion_sees_no_motion_in_identical_frames(last, moves):
    cubes = identical_frames()
    u = cubes.flatten(2)
    normed = nn.functional.layer_norm(u, (8,))  # what equal weights make of equal frames

    v = inner(transparent_block(8, mechanism="attention+motion", last=last), cubes)

    torch.testing.assert_close(v[:, :3], u[:, :3])
    torch.testing.assert_close(v[:, 3], u[:, 3] - moves * normed[:, 3])


@pytest.mark.parametrize(("scale", "divisor"), [("root", math.sqrt(72)), ("size", 72)])
def test_attention_then_motion_is_the_motion_of_what_was_attended_to(scale, divisor):
    cubes = random_cubes() + 0.1
    u = cubes.flatten(2)  # (b, t, 72)
    normed = nn.functional.layer_norm(u, (72,))
    weights = (normed @ normed.mT / divisor).softmax(-1)
    attended = weights @ normed
    ours = transparent_block(8, mechanism="attention+motion", last="zero", scale=scale)

    v = inner(ours, cubes)

    expected = u + nn.functional.pad(attended.diff(dim=1), (0, 0, 0, 1))
    torch.testing.assert_close(v, expected)
    torch.testing.assert_close(ours(cubes, all_valid(cubes)).frame_attention, weights)


@pytest.mark.parametrize("mechanism", ["motion+attention", "attention"])
def test_scores_divided_by_the_size_are_the_others_divided_by_its_root(mechanism):
    cubes = random_cubes()
    mask = all_valid(cubes)
    by_root, by_size = (block(mechanism=mechanism, scale=scale) for scale in ("root", "size"))

    sharp, flat = (ours(cubes, mask).frame_attention for ours in (by_root, by_size))

    torch.testing.assert_close(flat, (sharp.log() / math.sqrt(9)).softmax(-1))  # E = 9 · 8 / 8
    assert (flat - sharp).abs().max() > 0.1


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_gate_never_suppresses_and_at_most_doubles(mechanism):
    cubes = random_cubes() + 0.01

    ratio = block(mechanism=mechanism)(cubes, all_valid(cubes)).cubes / cubes

    assert ratio.min() > 1
    assert ratio.max() < 2
    assert ratio.std() > 1e-3


def test_a_block_whose_up_convolution_is_zero_scales_by_one_and_a_half():
    cubes, ours = random_cubes(), block()
    for parameter in ours.up.parameters():
        nn.init.zeros_(parameter)

    torch.testing.assert_close(ours(cubes, all_valid(cubes)).cubes, 1.5 * cubes)


@pytest.mark.parametrize(("dim", "reduction"), [(64, 8), (512, 8), (512, 16), (20, 8)])
def test_parameters_are_two_convolutions_with_biases(dim, reduction):
    inner_dim = dim // reduction

    num_parameters = sum(p.numel() for p in M2ABlock(dim, reduction=reduction).parameters())

    assert num_parameters == 2 * dim * inner_dim + inner_dim + dim


@pytest.mark.parametrize("last", LASTS)
def test_motion_alone_has_a_bias_only_where_a_frame_stands_alone(last):
    cubes, ours = random_cubes(), block(mechanism="motion", last=last)
    before = ours(cubes, all_valid(cubes)).cubes

    ours.down.bias = nn.Parameter(torch.full((1,), 5.0, dtype=torch.float64))

    changes = (ours(cubes, all_valid(cubes)).cubes - before).abs().max() > 1e-6
    assert changes == (last == "faithful")
    assert (M2ABlock(8, mechanism="motion", last=last).down.bias is not None) == changes


def test_frame_attention_is_all_but_the_identity_where_every_value_moves_by_itself():
    generator = torch.Generator().manual_seed(0)
    shared, own = (torch.randn(1, n, 7, 7, 512, generator=generator) for n in (1, 8))
    cubes = math.sqrt(0.9) * shared + math.sqrt(0.1) * own  # frames correlate by 0.9; E = 3136

    attention = M2ABlock(512)(cubes, all_valid(cubes)).frame_attention

    assert attention.diagonal(dim1=1, dim2=2).min() > 0.999


# --- The head ------------------------------------------------------------------------------------


def test_an_idle_block_leaves_the_linear_probe():
    cubes = random_cubes()
    batch, head = batch_of(cubes), m2a_head()
    for parameter in head.block.up.parameters():
        nn.init.zeros_(parameter)
    probe = build_head("mean-pool", shape=head.shape, num_classes=3).double()
    for either in (head, probe):
        either.fit_statistics([batch])
    probe.classify.load_state_dict(head.classify.linear.state_dict())

    logits = head(batch).logits

    torch.testing.assert_close(logits, probe(batch).logits)


@pytest.mark.parametrize(
    ("mechanism", "is_blind"), [(mechanism, mechanism == "attention") for mechanism in MECHANISMS]
)
def test_only_motion_tells_a_clip_from_its_reverse(mechanism, is_blind):
    cubes, head = random_cubes(), m2a_head(mechanism=mechanism)

    forwards, backwards = head(batch_of(cubes)).logits, head(batch_of(cubes.flip(1))).logits

    assert ((forwards - backwards).abs().max() < 1e-9) == is_blind


def test_the_shift_comes_before_the_block():
    cubes = random_cubes()
    shifting, plain = m2a_head(shift=True), m2a_head()

    logits = shifting(batch_of(cubes)).logits

    shifted = temporal_shift(cubes, all_valid(cubes))
    torch.testing.assert_close(logits, plain(batch_of(shifted)).logits)
    assert (logits - plain(batch_of(cubes)).logits).abs().max() > 1e-6


def test_frame_attention_is_a_map_where_there_is_one():
    cubes = random_cubes()

    maps = m2a_head()(batch_of(cubes)).maps

    torch.testing.assert_close(
        maps["frame_attention"].sum(-1), torch.ones(2, 4, dtype=torch.float64)
    )
    assert set(m2a_head(mechanism="motion")(batch_of(cubes)).maps) == {"activation"}


def test_the_scale_of_scores_reaches_the_block():
    batch = batch_of(random_cubes())

    by_root, by_size = (
        m2a_head(scale=scale)(batch).maps["frame_attention"] for scale in ("root", "size")
    )

    assert (by_size - by_root).abs().max() > 0.1


BAD_OPTIONS = [
    ({"reduction": 9}, "option 'reduction' must be at least 1 and below 9, got 9"),
    (
        {"mechanism": "both"},
        "must be one of motion.attention, attention.motion, motion, attention, got 'both'",
    ),
    ({"last": "repeat"}, "must be one of faithful, zero, replicate, got 'repeat'"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_a_bad_option_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        m2a_head(**options)


def test_a_shift_of_too_few_channels_is_refused():
    with pytest.raises(
        UsageError, match="moves an eighth of the channels, but the top layer has 7"
    ):
        m2a_head(dim=7, reduction=2, shift=True)


# --- Learning ------------------------------------------------------------------------------------


LEARNERS = [
    ("m2a-head", {"dropout": 0}, True),
    ("m2a-head", {"dropout": 0, "mechanism": "motion"}, True),
    ("m2a-head", {"dropout": 0, "mechanism": "attention"}, False),
    ("mean-pool", {}, False),
]


@pytest.mark.parametrize(("name", "options", "is_readable"), LEARNERS)
def test_the_direction_of_a_blob_is_read_from_motion_alone(name, options, is_readable):
    torch.manual_seed(0)
    shape = InputShape({"top": (planted.PATH_GRID, planted.PATH_DIM)})
    head = build_head(name, shape=shape, num_classes=2, **options)

    accuracy, *_ = planted.evaluate(planted.train(head, planted.moving_blob), planted.moving_blob)

    assert accuracy > 0.95 if is_readable else 0.4 < accuracy < 0.6


def test_gated_frames_have_values_and_gradients_of_the_plain_mean(monkeypatch):
    monkeypatch.setattr("train.heads.blocks.gated_means.BLOCK_BYTES", 1)  # frame by frame
    cubes, inner = randn(2, 3, 2, 2, 8), randn(2, 3, 2, 2, 4, seed=1)
    ours = M2ABlock(8, reduction=2).double()
    leaves = [cubes.requires_grad_(), inner.requires_grad_(), *ours.up.parameters()]

    frames = ours.gated_frames(cubes, inner)
    expected = (cubes + cubes * ours.up(inner).sigmoid()).mean((2, 3))
    torch.testing.assert_close(frames, expected)
    upstream = randn(2, 3, 8, seed=2)
    torch.testing.assert_close(
        torch.autograd.grad(frames, leaves, upstream),
        torch.autograd.grad(expected, leaves, upstream),
    )
