"""The contract of a head, over all that are registered, and the registry's messages."""

import dataclasses
import inspect
import math
import re
from typing import Annotated, Literal

import pytest
import torch
from pydantic import Field
from torch import nn

from features_store.errors import UsageError
from tests.batches import small_tail
from train.data.batch import Batch, HeadOutput, InputShape
from train.fitting.losses import sequence_cross_entropy
from train.fitting.state import training_loss
from train.fitting.tasks import MULTI_LABEL
from train.heads import (
    Head,
    build_head,
    declared_head,
    head_class,
    head_options,
    list_heads,
    register_head,
)
from train.heads.blocks.recurrent import StackedLSTM
from train.heads.blocks.standardise import Standardise
from train.heads.names import MODULES
from train.heads.registry import option_types

NUM_CLASSES, DIM, DIFF_GRID = 5, 8, 4
# Every head that has them sees its cells in one of these ways too, in turn.
INPUTS = [
    {"motion": "both", "input": "standardise"},
    {"motion": "cubes", "appearance": False, "input": "l2+pca:3"},
    {"motion": "frames"},
]
SEEING = [name for name in list_heads() if not head_class(name).takes_tail]
PARTS = ("weight", "bias")
VARIANTS = [
    *((name, {}) for name in list_heads()),
    *((name, INPUTS[i % len(INPUTS)]) for i, name in enumerate(SEEING)),
    ("max-lstm", {"layers": 2}),
    ("soft-attention", {"attention": "content"}),
    ("soft-attention", {"layers": 3, "doubly_stochastic": 1.0}),
    ("soft-attention", {"query": "bottom", "layers": 2, "scaling": "code"}),
    ("soft-attention", {"query": "own", "attention": "content", "layers": 3}),
    ("soft-attention", {"attention": "content", "attention_layers": 3, "output_layers": 2}),
    ("soft-attention", {"selector": True, "query": "own", "layers": 2, "context_to_output": True}),
    ("hm-an", {"attention": "soft", "boundary": "slope", "layers": 2, "top_boundary": True}),
    ("hm-an", {"temperature": "annealed", "query": "all"}),
    ("hm-an", {"temperature": "constant", "query": "top", "layers": 1}),
    ("hm-an", {"attend": "layers", "layers": 2, "initial_boundary": 1}),
    ("hm-an", {"attend": "layers", "attention": "soft", "boundary_bias": 0.5}),
    ("hm-an", {"choices": "relaxed", "boundary_rate_weight": 1.0}),
    ("hm-an", {"boundary": "zeros", "read_out": "concat"}),
    ("hm-an", {"boundary": "ones", "top_down": False, "read_out": "top"}),
    ("saliency-convlstm", {"energy": "linear", "scaling": "code"}),
    ("saliency-convlstm", {"energy": "detached"}),
    ("saliency-convlstm", {"attention": "spatial"}),
    ("saliency-convlstm", {"attention": "temporal"}),
    ("saliency-convlstm", {"temporal": "after", "mask_l1": 1e-5}),
    ("saliency-convlstm", {"temporal": "after", "attention": "spatial"}),
    ("saliency-convlstm", {"recurrence": "vector"}),
    ("saliency-convlstm", {"recurrence": "vector", "temporal": "after"}),
    ("pyramid-attention", {"attention": "spatio-temporal", "fusion": "max"}),
    ("pyramid-attention", {"fusion": "product", "bases": 3}),
    ("pyramid-attention", {"sampling": "max", "centre": True}),
    ("self-attention-pool", {"attention": "spatio-temporal"}),
    ("m2a-head", {"mechanism": "motion", "last": "zero"}),
    ("m2a-head", {"mechanism": "attention", "shift": True}),
    ("m2a-head", {"last": "replicate", "shift": True}),
    ("m2a-head", {"mechanism": "attention+motion", "scale": "size"}),
    ("m2a-tail", {"mechanism": "motion", "shift": True}),
]
# Parameters that get no gradient, and are meant to: the docstring of the head says why.
DEAD_PARAMETERS = {
    "saliency-convlstm-detached": ["energy.keys.weight"],
    "hm-an-zeros-concat": [f"lstm.layers.{i}.linear.{part}" for i in (1, 2) for part in PARTS],
}
LABELS = torch.tensor([0, 4, 2])


def shape_of(grid, *, dim=DIM):
    return InputShape({"mid": (2 * grid, 3), "top": (grid, dim)}, diff_grid=DIFF_GRID)


def clips(*, num_frames=5, grid=7, dim=DIM, num_valid=(5, 3, 1)):
    """Three clips of different length: non-negative cubes, frame differences, a prefix mask."""
    generator = torch.Generator().manual_seed(0)
    cubes = {
        layer: torch.randn(3, num_frames, size, size, width, generator=generator).relu()
        for layer, (size, width) in shape_of(grid, dim=dim).layers.items()
    }
    diffs = torch.randn(3, num_frames, DIFF_GRID, DIFF_GRID, 3, generator=generator)
    diffs[:, 0] = 0
    lengths = torch.tensor(num_valid).clamp(max=num_frames)
    mask = torch.arange(num_frames) < lengths.unsqueeze(1)
    return Batch(cubes=cubes, diffs=diffs, mask=mask)


def cast(batch, dtype):
    cubes = {layer: cubes.to(dtype) for layer, cubes in batch.cubes.items()}
    return Batch(cubes=cubes, diffs=batch.diffs.to(dtype), mask=batch.mask)


def with_garbage(batch):
    """The same clips, but 1e3 in every masked frame."""

    def fill(values):
        return values.masked_fill(~batch.mask.reshape(*batch.mask.shape, 1, 1, 1), 1e3)

    cubes = {layer: fill(cubes) for layer, cubes in batch.cubes.items()}
    return Batch(cubes=cubes, diffs=fill(batch.diffs), mask=batch.mask)


def clip_alone(batch, index):
    """One clip without its padding."""
    valid = slice(0, int(batch.mask[index].sum()))
    cubes = {layer: cubes[index : index + 1, valid] for layer, cubes in batch.cubes.items()}
    diffs, mask = batch.diffs[index : index + 1, valid], batch.mask[index : index + 1, valid]
    return Batch(cubes=cubes, diffs=diffs, mask=mask)


def build(variant, *, grid=7, dim=DIM):
    name, options = variant
    torch.manual_seed(1)
    small = {"hidden": 8} if "hidden" in head_options(name) else {}
    tail = small_tail(dim) if head_class(name).takes_tail else None
    return build_head(
        name, shape=shape_of(grid, dim=dim), num_classes=NUM_CLASSES, tail=tail, **small | options
    )


def stirred(head):
    """The same head with weights that all count: linear layers start at zero or nearly so."""
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.1)
    return head.eval()


def variant_id(variant):
    name, options = variant
    return "-".join([name, *map(str, options.values())])


@pytest.fixture(params=VARIANTS, ids=variant_id)
def variant(request):
    return request.param


def valid_logits(output, batch):
    return output.logits[batch.mask] if output.logits.shape[1] > 1 else output.logits[:, 0]


# --- The contract --------------------------------------------------------------------------------


@pytest.mark.parametrize(("grid", "dim"), [(1, DIM), (7, DIM), (14, DIM), (7, 64), (7, 2048)])
@pytest.mark.parametrize("num_frames", [1, 5])
def test_output_has_the_agreed_shapes_and_is_finite(variant, grid, dim, num_frames):
    head = build(variant, grid=grid, dim=dim)
    batch = clips(num_frames=num_frames, grid=grid, dim=dim)

    output = head(batch)

    assert isinstance(output, HeadOutput)
    assert output.logits.shape in {(3, 1, NUM_CLASSES), (3, num_frames, NUM_CLASSES)}
    assert set(head.loss_weights) <= set(output.losses)
    assert set(output.maps) <= set(head.map_meanings)
    assert bool(output.maps) == bool(head.map_meanings)
    assert all(loss.shape == () for loss in output.losses.values())
    for values in (output.logits, *output.maps.values(), *output.losses.values()):
        assert values.isfinite().all()


@pytest.mark.parametrize("dim", [64, 2048])
def test_real_channel_counts_work_in_float32_and_bfloat16(variant, dim):
    head, batch = stirred(build(variant, grid=2, dim=dim)), clips(grid=2, dim=dim)
    expected = head(batch)

    output = head.bfloat16()(cast(batch, torch.bfloat16))

    valid = valid_logits(output, batch).float(), valid_logits(expected, batch)
    torch.testing.assert_close(*valid, rtol=0.1, atol=0.1)
    assert all(loss.isfinite() for loss in output.losses.values())


def test_garbage_in_masked_frames_changes_nothing(variant):
    head, batch = stirred(build(variant)), clips()
    garbage = with_garbage(batch)
    head.prepare([batch])
    clean = head(batch)
    head.prepare([garbage])

    dirty = head(garbage)

    torch.testing.assert_close(valid_logits(dirty, batch), valid_logits(clean, batch))
    torch.testing.assert_close(dirty.maps, clean.maps)
    torch.testing.assert_close(dirty.losses, clean.losses)


def test_padding_a_clip_changes_nothing(variant):
    head, batch = stirred(build(variant)), clips()
    padded = head(batch)

    for index in range(3):
        alone = clip_alone(batch, index)
        num_steps = min(padded.logits.shape[1], alone.mask.shape[1])
        torch.testing.assert_close(
            head(alone).logits[0], padded.logits[index, :num_steps], msg=f"clip {index}"
        )


def test_maps_over_time_are_zero_at_masked_frames(variant):
    head, batch = build(variant).eval(), clips()

    for name, values in head(with_garbage(batch)).maps.items():
        if values.shape[:2] == batch.mask.shape:
            assert values[~batch.mask].abs().max() == 0, name


def test_every_parameter_gets_a_gradient(variant):
    # In float64 what cancels, such as a bias before a softmax, cannot pass as a small gradient.
    head, batch = build(variant).double(), cast(clips(), torch.float64)

    output = head(batch)
    loss = sequence_cross_entropy(output.logits, LABELS, batch.mask)
    loss += sum(head.loss_weights.get(name, 0) * value for name, value in output.losses.items())
    loss.backward()

    without = [
        n for n, p in head.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-10
    ]
    assert without == DEAD_PARAMETERS.get(variant_id(variant), [])


def test_a_step_with_several_labels_a_clip_is_finite(variant):
    head, batch = build(variant), clips()
    table = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    weights = MULTI_LABEL.class_weights(table.numpy(), NUM_CLASSES)

    loss = training_loss(head, batch, table, weights, MULTI_LABEL)
    loss.backward()

    assert loss.isfinite()
    grads = [p.grad for p in head.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)
    assert any(grad.abs().max() > 0 for grad in grads)


def test_masked_frames_get_no_gradient(variant):
    batch = clips()
    batch.top.requires_grad_()

    output = stirred(build(variant))(batch)
    sequence_cross_entropy(output.logits, LABELS, batch.mask).backward()

    assert batch.top.grad[~batch.mask].abs().max() == 0
    assert batch.top.grad[batch.mask].abs().max() > 0


def test_a_state_dict_carries_everything(variant):
    fitted, batch = build(variant).eval(), clips()
    fitted.prepare([batch])
    fresh = build(variant).eval()
    for parameter in fresh.parameters():
        nn.init.constant_(parameter, 0.5)

    fresh.load_state_dict(fitted.state_dict())

    torch.testing.assert_close(fresh(batch).logits, fitted(batch).logits)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-4), (torch.bfloat16, 0.1)])
def test_other_precisions_give_nearly_the_same(variant, dtype, tolerance):
    head, batch = stirred(build(variant)), clips()
    expected = head(batch)

    output = head.to(dtype)(cast(batch, dtype))

    assert output.logits.dtype == dtype
    valid = valid_logits(output, batch).float(), valid_logits(expected, batch)
    torch.testing.assert_close(*valid, rtol=tolerance, atol=tolerance)


def test_autocast_to_bfloat16_works_forward_and_backward(variant):
    head, batch = stirred(build(variant)), clips()
    expected = head(batch)

    with torch.autocast("cpu", torch.bfloat16):
        output = head(batch)
    sequence_cross_entropy(output.logits, LABELS, batch.mask).backward()

    valid = valid_logits(output, batch).float(), valid_logits(expected, batch)
    torch.testing.assert_close(*valid, rtol=0.1, atol=0.1)
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


def test_attention_is_taken_or_refused(variant):
    head, batch = build(variant), clips()
    uniform = torch.full(batch.top.shape[:4], 1 / 49)

    if head.takes_attention:
        assert head(batch, attention=uniform).logits.isfinite().all()
    else:
        with pytest.raises(UsageError, match=f"{head.head_name!r} has no attention to replace"):
            head(batch, attention=uniform)


@pytest.mark.parametrize("name", [n for n in list_heads() if head_class(n).takes_attention])
def test_attention_of_another_shape_is_refused(name):
    head, batch = build((name, {})), clips()

    with pytest.raises(UsageError, match=r"\(3, 5, 7, 7\) as the cubes, got \(3, 5, 49, 49\)"):
        head(batch, attention=torch.ones(3, 5, 49, 49))


# --- The registry --------------------------------------------------------------------------------


def test_an_unknown_head_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match=r"no head named 'avg-lsmt'; did you mean 'avg-lstm'\?"):
        build_head("avg-lsmt", shape=shape_of(7), num_classes=2)


def test_an_unknown_option_is_refused_with_the_nearest_name():
    message = r"'soft-attention' has no option 'layer'; did you mean 'layers'\?"

    with pytest.raises(UsageError, match=message):
        build_head("soft-attention", shape=shape_of(7), num_classes=2, layer=2)


def test_an_option_of_a_head_without_its_own_is_refused():
    with pytest.raises(
        UsageError, match=r"no option 'hidden'; There are: appearance, input, motion"
    ):
        build_head("softmax-regression", shape=shape_of(7), num_classes=2, hidden=2)


BAD_VALUES = [
    ("layers", "three", "'layers' must be a whole number, at least 1 and at most 64, got 'three'"),
    ("layers", True, "'layers' must be a whole number, at least 1 and at most 64, got True"),
    ("layers", 1.5, "'layers' must be a whole number, at least 1 and at most 64, got 1.5"),
    ("layers", "0", "'layers' must be a whole number, at least 1 and at most 64, got '0'"),
    ("hidden", 0, "'hidden' must be a whole number, at least 1 and at most 65536, got 0"),
    ("dropout", "1", "'dropout' must be a finite number, at least 0 and below 1, got '1'"),
    ("dropout", "nan", "'dropout' must be a finite number, at least 0 and below 1, got 'nan'"),
    ("dropout", math.inf, "'dropout' must be a finite number, at least 0 and below 1, got inf"),
    ("doubly_stochastic", -1, "'doubly_stochastic' must be a finite number, at least 0, got -1"),
    ("inverse_temperature", True, "'inverse_temperature' must be a finite number, .*, got True"),
    ("attention", "both", "'attention' must be one of location, content, got 'both'"),
]


@pytest.mark.parametrize(("option", "value", "message"), BAD_VALUES)
def test_a_bad_value_is_refused_and_named(option, value, message):
    with pytest.raises(UsageError, match=f"head 'soft-attention': option {message}"):
        build_head("soft-attention", shape=shape_of(7), num_classes=2, **{option: value})


def test_no_class_at_all_is_refused():
    with pytest.raises(UsageError, match="'num_classes' must be at least 1, got 0"):
        build_head("mean-pool", shape=shape_of(7), num_classes=0)


def test_frame_differences_that_are_not_read_are_refused():
    shape = InputShape({"top": (7, DIM)}, diff_grid=None)

    with pytest.raises(UsageError, match="use motion=cubes or motion=none"):
        build_head("mean-pool", shape=shape, num_classes=2, motion="frames")


def test_options_are_those_of_the_constructor():
    inputs = {"motion": "none", "appearance": True, "input": "raw"}
    assert head_options("softmax-regression") == inputs
    own = {"hidden": 128, "layers": 1, "dropout": 0.5}
    assert head_options("avg-lstm") == own | inputs


def test_a_name_cannot_be_registered_twice():
    with pytest.raises(
        ValueError, match=r"'mean-pool' is already registered, by train\.heads\.linear"
    ):
        register_head("mean-pool")(Head)


def test_a_head_of_ours_that_the_table_does_not_have_is_refused():
    class Misnamed(Head):
        __module__ = "train.heads.linear"

    with pytest.raises(ValueError, match=r"train\.heads\.linear registers a head 'mean-pol' that"):
        register_head("mean-pol")(Misnamed)
    with pytest.raises(ValueError, match=r"'hm-an' is already registered, by train\.heads\.hm_an"):
        register_head("hm-an")(Misnamed)
    assert "mean-pol" not in list_heads()


@pytest.mark.parametrize("name", list(MODULES))
def test_the_table_says_which_module_registers_a_head(name):
    cls = head_class(name)

    assert (cls.__module__, cls.head_name) == (MODULES[name], name)


@pytest.mark.parametrize("name", list(MODULES))
def test_what_is_read_without_torch_is_what_the_class_says(name):
    cls, declared = head_class(name), declared_head(name)

    assert declared.types == option_types(cls)
    assert declared.defaults == head_options(name)
    assert list(declared.types) == list(declared.defaults) == list(head_options(name))
    assert declared.about == inspect.getdoc(cls).splitlines()[0]
    assert declared.source == cls.source


@pytest.mark.parametrize("name", list(MODULES))
def test_a_head_says_its_source(name):
    paper = r"[A-Z][^,]+.* \d{4}, arXiv \d{4}\.\d{5}, "
    place = r"(abstract|place not at hand|(equation|section|figure)s? \d[\d.]*( and .*\d)?)"

    assert re.fullmatch(rf"{paper}{place}|no paper: .+", declared_head(name).source)


class OptionTypes(Head):
    """Keeps its options; one of each type that an option may have."""

    def __init__(
        self,
        *,
        shape: InputShape,
        num_classes: int,
        flag: bool = False,
        count: int = 1,
        ratio: float = 0.5,
        word: str = "",
        choice: Literal["a", "b"] = "a",
        level: Literal[1, 2] = 1,
        even: Annotated[int, Field(gt=0, le=8, multiple_of=2)] = 2,
    ) -> None:
        super().__init__(shape=shape, num_classes=num_classes)
        self.options = (flag, count, ratio, word, choice, level, even)

    def forward(self, batch, *, attention=None):
        raise NotImplementedError


@pytest.fixture
def registered_option_types(monkeypatch):
    monkeypatch.setattr("train.heads.names.registered", {})
    register_head("option-types")(OptionTypes)


@pytest.mark.usefixtures("registered_option_types")
def test_words_of_the_command_line_become_values():
    words = {"flag": "yes", "count": "3", "ratio": "1e-2", "word": "7", "choice": "b"}
    words |= {"level": "2", "even": "8"}

    head = build_head("option-types", shape=shape_of(7), num_classes=2, **words)

    assert head.options == (True, 3, 0.01, "7", "b", 2, 8)


@pytest.mark.usefixtures("registered_option_types")
def test_false_is_a_value_and_not_a_refusal():
    falsy = {"flag": "false", "count": 0, "ratio": 0, "word": ""}

    head = build_head("option-types", shape=shape_of(7), num_classes=2, **falsy)

    assert head.options == (False, 0, 0.0, "", "a", 1, 2)
    with pytest.raises(UsageError, match="'flag' must be true or false, got 'maybe'"):
        build_head("option-types", shape=shape_of(7), num_classes=2, flag="maybe")


@pytest.mark.usefixtures("registered_option_types")
@pytest.mark.parametrize("value", [0, "10", 3])
def test_bounds_may_be_written_with_pydantic_s_field(value):
    expected = f"a whole number, above 0 and at most 8 and a multiple of 2, got {value!r}"

    with pytest.raises(UsageError, match=f"'even' must be {expected}"):
        build_head("option-types", shape=shape_of(7), num_classes=2, even=value)


@pytest.mark.usefixtures("registered_option_types")
def test_attention_is_checked_before_a_head_of_one_s_own_is_asked(monkeypatch):
    head, batch = build(("option-types", {})), clips()

    with pytest.raises(UsageError, match="'option-types' has no attention to replace"):
        head(batch, attention=torch.ones(batch.top.shape[:4]))
    monkeypatch.setattr(OptionTypes, "takes_attention", True)
    with pytest.raises(UsageError, match=r"\(3, 5, 7, 7\) as the cubes, got \(3, 5, 49, 49\)"):
        head(batch, attention=torch.ones(3, 5, 49, 49))


# --- Parts ---------------------------------------------------------------------------------------


def test_non_square_cubes_are_refused():
    mask = torch.ones(1, 2, dtype=torch.bool)

    with pytest.raises(ValueError, match=r"'top' must be \(B, T, K, K, D\), got \(1, 2, 3, 4, 6\)"):
        Batch(cubes={"top": torch.zeros(1, 2, 3, 4, 6)}, diffs=None, mask=mask)


def test_a_mask_of_another_length_is_refused():
    mask = torch.ones(1, 3, dtype=torch.bool)

    with pytest.raises(ValueError, match=r"mask must be \(B, T\) = \(1, 2\).* got \(1, 3\)"):
        Batch(cubes={"top": torch.zeros(1, 2, 3, 3, 6)}, diffs=None, mask=mask)


def test_the_last_layer_is_the_top():
    batch = clips(grid=7)

    assert shape_of(7).top == (7, DIM)
    assert batch.top is batch.cubes["top"]


def test_stacked_lstm_is_that_of_torch():
    ours, torchs = (
        StackedLSTM(DIM, 4, num_layers=2),
        nn.LSTM(DIM, 4, num_layers=2, batch_first=True),
    )
    with torch.no_grad():
        for index, layer in enumerate(ours.layers):
            getattr(torchs, f"weight_ih_l{index}").copy_(layer.from_input.weight)
            getattr(torchs, f"weight_hh_l{index}").copy_(layer.weight_hh)
            getattr(torchs, f"bias_ih_l{index}").copy_(layer.from_input.bias)
            getattr(torchs, f"bias_hh_l{index}").zero_()
    inputs, hidden, cell_state = torch.randn(3, 5, DIM), torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    state = list(zip(hidden, cell_state, strict=True))

    outputs = ours(inputs, state)
    step = ours.steps(num_steps=5, num_clips=3)
    for frame in inputs.unbind(1):
        state = step(frame, state)

    torch.testing.assert_close(outputs, torchs(inputs, (hidden, cell_state))[0])
    torch.testing.assert_close(state[-1][0], outputs[:, -1])


def test_average_and_maximum_pooling_agree_only_where_all_cells_are_alike():
    average, maximum, batch = build(("avg-lstm", {})), build(("max-lstm", {})), clips()
    maximum.load_state_dict(average.state_dict())
    alike = {"top": batch.top[:, :, :1, :1].expand_as(batch.top)}
    constant = dataclasses.replace(batch, cubes=alike)
    for head in (average, maximum):
        head.eval()

    torch.testing.assert_close(maximum(constant).logits, average(constant).logits)
    assert (maximum(batch).logits - average(batch).logits).abs().max() > 1e-3


def test_mean_pool_is_a_linear_layer_on_the_standardised_mean():
    head, batch = build(("mean-pool", {})), clips()
    head.prepare([batch])
    means = torch.stack(
        [batch.top[i, : int(batch.mask[i].sum())].mean((0, 1, 2)) for i in range(3)]
    )

    logits = head(batch).logits

    standard = (means - means.mean(0)) / means.std(0, correction=0)
    torch.testing.assert_close(logits[:, 0], head.classify(standard), rtol=1e-4, atol=1e-5)


def test_statistics_do_not_depend_on_how_rows_are_batched():
    rows = 100 + 10 * torch.rand(50, 3)
    at_once, in_parts = Standardise(3), Standardise(3)

    at_once.fit([rows])
    in_parts.fit(iter(rows.split(7)))

    torch.testing.assert_close(in_parts.state_dict(), at_once.state_dict())
    torch.testing.assert_close(at_once(rows).mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(at_once(rows).std(0, correction=0), torch.ones(3))


def test_a_channel_dead_in_training_does_not_explode_later():
    standardise = Standardise(2)
    standardise.fit([torch.tensor([[1.0, 0.0], [3.0, 0.0]])])

    assert standardise(torch.tensor([2.0, 0.5])).tolist() == pytest.approx([0.0, 500.0])


def test_statistics_of_nothing_are_refused():
    with pytest.raises(ValueError, match="at least one valid frame, got none"):
        Standardise(2).fit([])
