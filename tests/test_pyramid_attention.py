"""Interaction-aware pyramid attention, and the two poolings that it is compared with."""

import math

import pytest
import torch
from einops import rearrange, reduce
from torch import nn

from benchmarks.pyramid_weights import MOST_OVERLAP, measure
from features_store.errors import UsageError
from tests import planted
from tests.batches import batch_of
from tests.oracles import TIGHT, load_oracle
from train.data.batch import Batch, InputShape
from train.heads import build_head
from train.heads.blocks.cells import pool_to_grid
from train.heads.blocks.interaction import (
    INITIAL_SPREAD,
    CellAttention,
    InteractionAttention,
    complementary_term,
    orthogonality_term,
    variance_term,
)

EXTENTS = ["spatial", "spatio-temporal"]
CELLS = {"spatial": "b t m h w -> b t m (h w)", "spatio-temporal": "b t m h w -> b m (t h w)"}


def random_cubes(*, grid=3, dim=6, num_frames=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, num_frames, grid, grid, dim)
    return torch.randn(shape, generator=generator, dtype=torch.float64).relu()


def build(name, *cubes, num_classes=3, **options):
    """A head in float64 with weights that matter, for layers of the shapes of `cubes`."""
    torch.manual_seed(1)
    layers = {f"layer{i}": (c.shape[2], c.shape[4]) for i, c in enumerate(cubes)}
    head = build_head(name, shape=InputShape(layers), num_classes=num_classes, **options)
    nn.init.normal_(head.classify.linear.weight)
    return head.double().eval()


def pyramid(*cubes, **options):
    return build("pyramid-attention", *cubes, **{"bases": 5} | options)


def without_scores(head):
    """The same head, but no cell has a score above another."""
    for name, parameter in head.named_parameters():
        if "score" in name or "query" in name:
            nn.init.zeros_(parameter)
    return head


# --- Agreement with independent code -------------------------------------------------------------


@pytest.fixture
def oracle():
    return load_oracle("pyramid_attention")


def oracle_cubes(oracle):
    return [rearrange(oracle[f"cubes{i}"], "b t (h w) d -> b t h w d", h=3) for i in range(3)]


def oracle_head(oracle, extent):
    """The oracle's weights; its biases have no place here. The classifier is the identity."""
    head = pyramid(*oracle_cubes(oracle), attention=extent, num_classes=6)
    own = {f"attend.score.{i}.weight": oracle[f"weight{i}"] for i in range(3)}
    rest = head.load_state_dict(own, strict=False)
    assert all(key.startswith(("classify", "standardise")) for key in rest.missing_keys)
    nn.init.eye_(head.classify.linear.weight)
    return head


FORMS = [("spatial", "spatial", 9), ("spatio-temporal", "spatiotemporal", 36)]


@pytest.mark.parametrize(("extent", "prefix", "num_cells"), FORMS)
def test_agrees_with_independent_code(oracle, extent, prefix, num_cells):
    head = oracle_head(oracle, extent)

    output = head(batch_of(*oracle_cubes(oracle)))

    bases = rearrange(output.maps["bases"], CELLS[extent])
    pooled = oracle[f"{prefix}_output"].mean(-2) / math.sqrt(num_cells)
    torch.testing.assert_close(bases, oracle[f"{prefix}_attention"], **TIGHT)
    torch.testing.assert_close(output.logits, pooled.reshape(2, -1, 6), **TIGHT)
    for name in ("variance", "orthogonality"):
        expected = oracle[f"{prefix}_{name}_term"].mean()
        torch.testing.assert_close(output.losses[name], expected, **TIGHT)


def test_complementary_loss_agrees_with_independent_code(oracle):
    output = oracle_head(oracle, "spatio-temporal")(batch_of(*oracle_cubes(oracle)))

    expected = oracle["spatiotemporal_l_attn"].mean()
    torch.testing.assert_close(output.losses["complementary"], expected, **TIGHT)


def test_terms_of_each_frame_agree_with_independent_code(oracle):
    rows, cells = oracle["spatial_attention"].flatten(0, 1), oracle["cubes2"].flatten(0, 1)

    variance, overlap = variance_term(rows, cells), orthogonality_term(rows)

    torch.testing.assert_close(variance, oracle["spatial_variance_term"].flatten(), **TIGHT)
    torch.testing.assert_close(overlap, oracle["spatial_orthogonality_term"].flatten(), **TIGHT)


# --- Attention -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("extent", "num_cells"), [("spatial", 9), ("spatio-temporal", 36)])
def test_bases_are_non_negative_and_of_unit_length(extent, num_cells):
    cubes = random_cubes()

    bases = rearrange(
        pyramid(cubes, attention=extent)(batch_of(cubes)).maps["bases"], CELLS[extent]
    )

    assert bases.min() >= 0
    torch.testing.assert_close(bases.square().sum(-1), torch.ones_like(bases[..., 0]))
    assert bases.sum(-1).min() >= 1
    assert bases.sum(-1).max() <= math.sqrt(num_cells)
    assert bases.std() > 1e-3


@pytest.mark.parametrize(("extent", "num_cells"), [("spatial", 9), ("spatio-temporal", 36)])
def test_without_scores_every_basis_is_the_root_of_n_times_the_mean(extent, num_cells):
    cubes = random_cubes()
    head = without_scores(pyramid(cubes, attention=extent))

    bases = rearrange(head(batch_of(cubes)).maps["bases"], CELLS[extent])

    torch.testing.assert_close(bases, torch.full_like(bases, 1 / math.sqrt(num_cells)))


UNIFORM = [
    *(("pyramid-attention", {"attention": extent}) for extent in EXTENTS),
    *(("self-attention-pool", {"attention": extent}) for extent in EXTENTS),
]


@pytest.mark.parametrize(("name", "options"), UNIFORM)
def test_without_scores_the_mean_of_logits_is_the_linear_probe(name, options):
    fine, cubes = random_cubes(grid=6, dim=4), random_cubes()
    batch = batch_of(fine, cubes)
    head = without_scores(build(name, fine, cubes, **options))
    probe = build_head("mean-pool", shape=head.shape, num_classes=3).double()
    head.fit_statistics([batch])
    probe.fit_statistics([batch])
    probe.classify.load_state_dict(head.classify.linear.state_dict())

    logits = head(batch).logits.mean(1, keepdim=True)

    torch.testing.assert_close(logits, probe(batch).logits)


def test_a_bias_would_cancel_where_scores_are_summed():
    cells, valid = random_cubes().flatten(2, 3).flatten(0, 1), torch.ones(8, 9, dtype=torch.bool)
    attend = InteractionAttention([6, 6], 5, fusion="sum").double()
    expected = attend([cells, cells], valid)
    attend.score[0].bias = nn.Parameter(torch.randn(5).double())

    biased = attend([cells, cells], valid)

    torch.testing.assert_close(biased.rows, expected.rows)
    torch.testing.assert_close(biased.weights_by_scale, expected.weights_by_scale)


HAS_BIAS = [
    ("sum", 1, False),
    ("sum", 2, False),
    ("max", 1, False),
    ("max", 2, True),
    ("product", 2, True),
]


@pytest.mark.parametrize(("fusion", "num_scales", "has_bias"), HAS_BIAS)
def test_scores_have_a_bias_where_it_matters(fusion, num_scales, has_bias):
    cubes = [random_cubes()] * num_scales
    head, batch = pyramid(*cubes, fusion=fusion), batch_of(*cubes)
    before = head(batch).maps["bases"]

    biases = [parameter for name, parameter in head.attend.named_parameters() if "bias" in name]
    for bias in biases[:1]:
        nn.init.constant_(bias, 0.7)

    assert bool(biases) == has_bias
    assert ((head(batch).maps["bases"] - before).abs().max() > 1e-6) == has_bias


FUSE = {"sum": torch.add, "max": torch.maximum, "product": torch.mul}


@pytest.mark.parametrize("fusion", FUSE)
def test_scales_are_fused_before_the_softmax(fusion):
    low, top = random_cubes(dim=4), random_cubes()
    head = pyramid(low, top, fusion=fusion)

    bases = head(batch_of(low, top)).maps["bases"]

    lower, upper = (
        score(cubes) for score, cubes in zip(head.attend.score, (low, top), strict=True)
    )
    softmax = FUSE[fusion](lower, upper).flatten(2, 3).softmax(2).mT
    expected = softmax / softmax.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(bases.flatten(3), expected)


def test_a_layer_of_another_grid_is_averaged_to_that_of_the_top():
    fine, coarse, top = random_cubes(grid=6, dim=4), random_cubes(grid=1, dim=4), random_cubes()
    averaged = reduce(fine, "b t (h x) (w y) d -> b t h w d", "mean", x=2, y=2)
    spread = coarse.expand(2, 4, 3, 3, 4)

    output = pyramid(fine, coarse, top)(batch_of(fine, coarse, top))

    expected = pyramid(averaged, spread, top)(batch_of(averaged, spread, top))
    torch.testing.assert_close(output.logits, expected.logits)
    torch.testing.assert_close(output.losses, expected.losses)


@pytest.mark.parametrize("sampling", ["average", "max"])
def test_a_finer_layer_comes_to_the_top_by_the_mean_or_the_maximum_of_its_cells(sampling):
    fine, top = random_cubes(grid=6, dim=4), random_cubes()
    operation = {"average": "mean", "max": "max"}[sampling]
    sampled = reduce(fine, "b t (h x) (w y) d -> b t h w d", operation, x=2, y=2)

    output = pyramid(fine, top, sampling=sampling)(batch_of(fine, top))

    expected = pyramid(sampled, top)(batch_of(sampled, top))
    torch.testing.assert_close(output.logits, expected.logits)
    torch.testing.assert_close(output.maps, expected.maps)


@pytest.mark.parametrize("grid", [1, 6])
def test_the_maximum_of_a_constant_layer_is_its_mean(grid):
    constant = random_cubes(grid=1, dim=4).expand(2, 4, grid, grid, 4)

    sampled = [pool_to_grid(constant, 3, sampling=kind) for kind in ("average", "max")]

    torch.testing.assert_close(sampled[1], sampled[0])
    torch.testing.assert_close(sampled[1], constant[:, :, :1, :1].expand(2, 4, 3, 3, 4))


def test_grids_that_do_not_divide_are_averaged_over_overlapping_cells():
    cubes = random_cubes(grid=3)

    pooled = pool_to_grid(cubes, 2)

    torch.testing.assert_close(pooled[:, :, 0, 1], cubes[:, :, :2, 1:].mean((2, 3)))


def test_the_clips_attention_does_not_know_the_order_of_frames():
    low, top = random_cubes(dim=4), random_cubes()
    head = pyramid(low, top, attention="spatio-temporal")
    order = [2, 0, 3, 1]

    before, after = head(batch_of(low, top)), head(batch_of(low[:, order], top[:, order]))

    torch.testing.assert_close(after.maps["bases"], before.maps["bases"][:, order])
    torch.testing.assert_close(after.logits, before.logits)
    torch.testing.assert_close(after.losses, before.losses)


HEADS = [
    *(("pyramid-attention", {"attention": extent, "bases": 5}) for extent in EXTENTS),
    *(("self-attention-pool", {"attention": extent}) for extent in EXTENTS),
    ("non-local", {"hidden": 4}),
]


@pytest.mark.parametrize(("name", "options"), HEADS)
def test_permuting_cells_permutes_the_map_and_leaves_the_logits(name, options):
    cubes = random_cubes()
    head = build(name, cubes, **options)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    permuted = cubes.flatten(2, 3)[:, :, order].reshape(cubes.shape)

    before, after = head(batch_of(cubes)), head(batch_of(permuted))

    spatial = before.maps["spatial"]
    assert spatial.std() > 1e-3
    torch.testing.assert_close(after.maps["spatial"].flatten(2), spatial.flatten(2)[:, :, order])
    torch.testing.assert_close(after.logits, before.logits)


@pytest.mark.parametrize(("name", "options"), HEADS)
def test_its_own_weights_given_back_change_nothing_and_can_be_optimised(name, options):
    cubes = random_cubes() + 0.1
    head, batch = build(name, cubes, **options), batch_of(cubes)
    computed = head(batch)
    free = computed.maps["spatial"].detach().requires_grad_()

    replaced = head(batch, attention=free)
    replaced.logits.square().sum().backward()

    torch.testing.assert_close(replaced.logits, computed.logits)
    torch.testing.assert_close(replaced.maps["spatial"], free)
    assert free.grad.abs().min() > 0


@pytest.mark.parametrize("option", ["variance", "orthogonality", "complementary"])
def test_a_negative_weight_of_a_loss_is_refused(option):
    with pytest.raises(UsageError, match=f"'{option}' must be .* at least 0, got -1"):
        pyramid(random_cubes(), **{option: -1})


# --- Losses --------------------------------------------------------------------------------------


def scene(*, num_cells=9, dim=6):
    """Non-negative cells at unit Frobenius norm, and the spectrum of XXᵀ, largest first."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.rand(1, num_cells, dim, generator=generator, dtype=torch.float64)
    cells /= cells.norm()
    values, vectors = torch.linalg.eigh(cells[0] @ cells[0].T)
    return cells, values.flip(0), vectors.T.flip(0)


def test_one_basis_captures_most_at_the_leading_eigenvector_which_attention_can_reach():
    cells, values, vectors = scene()
    others = nn.functional.normalize(torch.randn(1000, 1, 9, dtype=torch.float64), dim=-1)

    leading = variance_term(vectors[:1].unsqueeze(0), cells)

    torch.testing.assert_close(leading, -values[:1])
    assert variance_term(others, cells.expand(1000, -1, -1)).min() > leading.item()
    assert vectors[0].sign().unique().numel() == 1  # Perron and Frobenius: of one sign


def test_bases_at_the_leading_eigenvectors_capture_their_eigenvalues_and_do_not_overlap():
    cells, values, vectors = scene()

    rows = vectors[:4].unsqueeze(0)

    torch.testing.assert_close(variance_term(rows, cells), -values[:4].sum().unsqueeze(0))
    torch.testing.assert_close(orthogonality_term(rows), torch.zeros(1, dtype=torch.float64))


def test_bases_that_collapse_pay_more_than_they_gain():
    cells, values, vectors = scene()
    collapsed, apart = vectors[:1].expand(1, 4, -1), vectors[:4].unsqueeze(0)

    def loss(rows):
        return (variance_term(rows, cells) + orthogonality_term(rows)).item()

    assert loss(collapsed) == pytest.approx(-4 * values[0].item() + 4 * 3)
    assert loss(collapsed) > loss(apart)


def test_the_variance_term_does_not_depend_on_the_scale_of_cubes():
    cells, _, vectors = scene()
    rows = vectors[:4].unsqueeze(0)

    torch.testing.assert_close(variance_term(rows, 100 * cells), variance_term(rows, cells))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_about_their_mean_cells_that_are_all_alike_have_no_variance(dtype):
    cells, _, vectors = scene()
    alike = cells[:, :1].to(dtype).expand(1, 9, 6)
    rows, valid = vectors[:4].to(dtype).unsqueeze(0), torch.ones(1, 9, dtype=torch.bool)

    term = variance_term(rows, alike, about_mean_of=valid)

    assert abs(term.item()) < 1e-4
    assert variance_term(rows, alike).item() < -0.5


def test_about_their_mean_cells_have_the_variance_of_what_is_left():
    cells, _, vectors = scene()
    rows, valid = vectors[:4].unsqueeze(0), torch.arange(9).expand(1, 9) < 7
    left = cells[:, :7] - cells[:, :7].mean(1, keepdim=True)

    term = variance_term(rows, cells, about_mean_of=valid)

    torch.testing.assert_close(term, variance_term(rows[..., :7], left))
    torch.testing.assert_close(variance_term(rows, cells + 3, about_mean_of=valid), term)


@pytest.mark.parametrize("extent", EXTENTS)
def test_centred_cells_are_less_the_mean_of_their_frame_or_clip(extent):
    cubes = random_cubes()
    over = (2, 3) if extent == "spatial" else (1, 2, 3)
    left = cubes - cubes.mean(over, keepdim=True)
    plain, centred = pyramid(cubes, attention=extent), pyramid(cubes, attention=extent, centre=True)

    output, expected = centred(batch_of(cubes)), plain(batch_of(cubes))

    bases = rearrange(output.maps["bases"], CELLS[extent])
    cells = left.reshape(*bases.shape[:-2], -1, 6)
    captured = (bases @ cells).square().sum((-1, -2)) / cells.square().sum((-1, -2))
    torch.testing.assert_close(output.losses["variance"], -captured.mean())
    assert abs(output.losses["variance"] - expected.losses["variance"]) > 0.1
    torch.testing.assert_close(output.logits, expected.logits)


def test_scales_that_agree_have_the_largest_complementary_loss():
    cubes = random_cubes(grid=7)
    head, batch = (
        pyramid(cubes, cubes, cubes, bases=49, fusion="max"),
        batch_of(cubes, cubes, cubes),
    )
    scores = head.attend.score
    apart = head(batch).losses["complementary"].item()
    for score in scores[1:]:
        score.load_state_dict(scores[0].state_dict())

    agreed = head(batch).losses["complementary"].item()

    assert agreed == pytest.approx(math.sqrt(3 * 49 * 49), rel=1e-12)  # 84.87
    assert apart < agreed - 1e-3


def test_complementary_loss_falls_as_a_scale_departs_from_the_others():
    uniform = torch.full((1, 2, 9), 1 / 9)
    sharper = [(k * torch.arange(9.0)).softmax(-1).expand(1, 2, 9) for k in (0, 0.1, 0.5, 2)]
    valid = torch.ones(1, 9, dtype=torch.bool)

    losses = [complementary_term(CellAttention(uniform, [s]), valid).item() for s in sharper]

    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 4


@pytest.mark.parametrize("extent", EXTENTS)
def test_losses_are_the_mean_over_clips_of_the_mean_over_valid_frames(extent):
    low, top = random_cubes(dim=4), random_cubes()
    head = pyramid(low, top, attention=extent)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    padded = head(Batch(cubes=batch_of(low, top).cubes, diffs=None, mask=mask)).losses

    first, second = head(batch_of(low[:1], top[:1])), head(batch_of(low[1:, :2], top[1:, :2]))

    for name, loss in padded.items():
        torch.testing.assert_close(loss, (first.losses[name] + second.losses[name]) / 2)


@pytest.mark.parametrize("extent", EXTENTS)
def test_cubes_of_zeros_and_clips_without_frames_have_finite_losses_and_gradients(extent):
    cubes = torch.zeros(2, 4, 3, 3, 6, dtype=torch.float64)
    head = pyramid(cubes, cubes, attention=extent)
    mask = torch.tensor([[True] * 4, [False] * 4])

    output = head(Batch(cubes=batch_of(cubes, cubes).cubes, diffs=None, mask=mask))
    (output.logits.sum() + sum(output.losses.values())).backward()

    assert all(loss.isfinite() for loss in output.losses.values())
    assert all(p.grad.isfinite().all() for p in head.parameters())


# --- The block it is compared with ---------------------------------------------------------------


def test_non_local_is_the_mean_of_the_block_written_out():
    cubes = random_cubes()
    head = build("non-local", cubes, hidden=4)
    x = cubes.flatten(1, 3)  # (b, n, d)

    weights = (head.query(x) @ head.key(x).mT).softmax(-1)
    z = x + head.output(weights @ head.value(x))

    torch.testing.assert_close(head(batch_of(cubes)).logits[:, 0], head.classify(z).mean(1))


# --- Learning ------------------------------------------------------------------------------------


def trained(name, draw, *, dims, learning_rate=0.05, **options):
    torch.manual_seed(0)
    layers = {f"layer{i}": shape for i, shape in enumerate(dims)}
    head = build_head(
        name, shape=InputShape(layers), num_classes=planted.NUM_CLASSES, dropout=0, **options
    )
    return planted.train(head, draw, learning_rate=learning_rate)


MARKED, FINE, TOP = (
    (planted.GRID, planted.NUM_CLASSES + 1),
    (14, 2),
    (planted.GRID, planted.NUM_CLASSES),
)


@pytest.mark.parametrize("extent", EXTENTS)
def test_pyramid_attention_finds_the_planted_cell(extent):
    # Of several the losses send some elsewhere.
    options = {"bases": 1, "attention": extent}
    head = trained("pyramid-attention", planted.hidden_cell, dims=[MARKED], **options)

    accuracy, output, marked = planted.evaluate(head, planted.hidden_cell)

    # A basis has unit length, so that its squares are shares.
    shares = output.maps["bases"].square()
    over = (3, 4) if extent == "spatial" else (1, 3, 4)
    assert accuracy > 0.95
    assert planted.share_on(marked.unsqueeze(2), shares, axes=over) > 0.8


def test_self_attention_pooling_finds_the_planted_cell():
    head = trained("self-attention-pool", planted.hidden_cell, dims=[MARKED], learning_rate=0.1)

    accuracy, output, marked = planted.evaluate(head, planted.hidden_cell)

    assert accuracy > 0.95
    assert planted.share_on(marked, output.maps["spatial"], axes=(2, 3)) > 0.8


def test_at_the_default_weights_the_bases_differ_and_the_class_is_found():
    accuracy, overlap, _ = measure(3e-3, {}, spread=INITIAL_SPREAD)

    assert accuracy > 0.95
    assert overlap <= MOST_OVERLAP


@pytest.mark.parametrize(("dims", "is_readable"), [([FINE, TOP], True), ([TOP], False)])
def test_what_the_fine_layer_shows_is_lost_on_the_top_alone(dims, is_readable):
    def draw(num_clips, generator):
        clips = planted.cell_hidden_in_fine_layer(num_clips, generator)
        return clips._replace(batch=batch_of(*list(clips.batch.cubes.values())[-len(dims) :]))

    accuracy, *_ = planted.evaluate(trained("pyramid-attention", draw, dims=dims, bases=4), draw)

    assert accuracy > 0.95 if is_readable else accuracy < 0.5
