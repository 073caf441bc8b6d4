"""What a head sees of the stored cells: motion, transforms, and what they are fitted to."""

import dataclasses

import numpy as np
import pytest
import torch
from einops import rearrange
from sklearn.decomposition import PCA

from features_store.errors import UsageError
from features_store.store import Store
from tests.batches import all_valid
from tests.stores import header, make_store
from train.data.batch import Batch, InputShape
from train.data.clips import Clips
from train.data.windows import WindowPlan
from train.fitting.config import TrainConfig
from train.fitting.loop import fit
from train.fitting.state import Candidate
from train.heads import HeadChoice, build_head
from train.heads.cell_inputs import CELL_STRIDE, CellInputs
from train.heads.input_options import InputOptions

B, T, K, D, G = 3, 4, 2, 5, 4
SHAPE = InputShape({"low": (3, 2), "top": (K, D)}, diff_grid=G)


def batch(seed=0, *, lengths=(T, T, 2)):
    generator = torch.Generator().manual_seed(seed)
    cubes = {
        name: torch.randn(B, T, size, size, dim, generator=generator)
        for name, (size, dim) in SHAPE.layers.items()
    }
    diffs = torch.randn(B, T, G, G, 3, generator=generator)
    mask = torch.arange(T) < torch.tensor(lengths).unsqueeze(1)
    return Batch(cubes, diffs, mask)


def inputs(**options):
    return CellInputs(SHAPE, InputOptions.read(options))


def valid_cells(seen):
    return rearrange(seen.top[seen.mask], "n h w d -> (n h w) d")


def test_by_default_a_head_sees_the_batch_itself():
    given = batch()
    assert inputs()(given) is given
    assert inputs().shape == SHAPE


def test_motion_of_cubes_stands_behind_them_and_is_zero_at_the_first_frame():
    given, cells = batch(), inputs(motion="cubes")
    for name, seen in cells(given).cubes.items():
        cubes, dim = given.cubes[name], given.cubes[name].shape[-1]
        assert cells.shape.layers[name] == (cubes.shape[2], 2 * dim)
        assert torch.equal(seen[..., :dim], cubes)
        assert seen[:, 0, ..., dim:].abs().max() == 0
        for t in range(1, T):
            assert torch.equal(seen[:, t, ..., dim:], (cubes[:, t] - cubes[:, t - 1]).abs())


def test_frame_differences_lie_in_the_cells_they_are_of():
    given = batch()
    seen = inputs(motion="frames", appearance=False)(given)
    for row in range(K):
        for column in range(K):
            block = given.diffs[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(seen.top[:, :, row, column], block.abs().flatten(2))
    # Three cells a side do not divide four pixels: what a cell has is a mean.
    assert seen.cubes["low"].shape == (B, T, 3, 3, 3)
    corner = given.diffs.abs()[:, :, :2, :2].mean((2, 3))
    torch.testing.assert_close(seen.cubes["low"][:, :, 0, 0], corner)


def test_both_stand_in_a_fixed_order_and_may_stand_alone():
    given = batch()
    both = inputs(motion="both")(given).top
    parts = [
        given.top,
        inputs(motion="frames", appearance=False)(given).top,
        inputs(motion="cubes", appearance=False)(given).top,
    ]
    assert torch.equal(both, torch.cat(parts, -1))
    alone = inputs(motion="both", appearance=False)
    assert torch.equal(alone(given).top, torch.cat(parts[1:], -1))
    assert alone.shape.top == (K, 12 + D)


def test_roots_keep_signs_and_lengths_become_one():
    given = batch()
    roots = inputs(input="sqrt")(given).top
    torch.testing.assert_close(roots.abs().square(), given.top.abs())
    assert torch.equal(roots.sign(), given.top.sign())
    torch.testing.assert_close(inputs(input="l2")(given).top.norm(dim=-1), torch.ones(B, T, K, K))
    empty = dataclasses.replace(given, cubes={n: c * 0 for n, c in given.cubes.items()}, derived={})
    assert inputs(input="l2")(empty).top.abs().max() == 0


def test_transforms_follow_in_the_order_given():
    given = batch()
    seen = inputs(motion="cubes", input="sqrt+l2")(given).top
    first = inputs(motion="cubes", input="sqrt")(given).top
    torch.testing.assert_close(seen, first / first.norm(dim=-1, keepdim=True))


def test_statistics_are_of_some_cells_of_valid_frames():
    batches = [batch(seed) for seed in range(9)]
    cells = inputs(motion="cubes", input="standardise")
    cells.fit(batches)
    raw = inputs(motion="cubes")
    sampled = torch.cat([valid_cells(raw(each))[::CELL_STRIDE] for each in batches]).double()
    (_, chain), seen = cells.fitted, valid_cells(cells(batches[0])).double()
    mean, std = sampled.mean(0), sampled.std(0, correction=0)
    torch.testing.assert_close(chain[0].mean.double(), mean)
    expected = (valid_cells(raw(batches[0])).double() - mean) / std
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4)


def test_components_are_those_of_scikit_learn():
    batches = [batch(seed) for seed in range(12)]
    for each in batches:
        each.top.add_(50.0).mul_(torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5]))
    cells = inputs(input="sqrt+pca:2")
    cells.fit(batches)
    roots = inputs(input="sqrt")
    sampled = np.concatenate([valid_cells(roots(b))[::CELL_STRIDE].numpy() for b in batches])
    theirs = PCA(2, svd_solver="full").fit(sampled.astype(np.float64))
    expected = theirs.transform(valid_cells(roots(batches[0])).numpy())
    ours = valid_cells(cells(batches[0])).numpy()
    signs = np.sign((expected * ours).sum(0))
    np.testing.assert_allclose(ours, expected * signs, rtol=2e-3, atol=2e-3)
    # Whichever solver it was, the sign is the same.
    directions = cells.fitted[1][0].directions
    assert (directions.gather(0, directions.abs().argmax(0, keepdim=True)) > 0).all()


def test_a_fitted_transform_sees_what_the_one_before_it_gives():
    batches = [batch(seed) for seed in range(9)]
    cells = inputs(input="standardise+pca:2")
    cells.fit(batches)
    assert cells.fitted[1][1].mean.abs().max() < 1e-5  # of standardised cells


def test_heads_that_see_alike_share_what_has_no_statistics():
    given = batch()
    first, second = inputs(motion="cubes"), inputs(motion="cubes")
    assert first(given) is second(given)
    assert first(given) is not inputs(motion="cubes", appearance=False)(given)
    fitted = [inputs(motion="cubes", input="sqrt+standardise") for _ in range(2)]
    fitted[0].fit([batch(1)])
    seen = [each(given).top for each in fitted]
    assert not torch.equal(*seen)
    assert torch.equal(seen[1], inputs(motion="cubes", input="sqrt")(given).top)


def test_what_is_fitted_is_not_condensed_for_all_fits():
    shape = InputShape({"top": (K, D)}, diff_grid=G)
    given = batch()
    given = Batch({"top": given.top}, given.diffs, given.mask)
    plain = build_head("mean-pool", shape=shape, num_classes=2, motion="both", input="sqrt")
    assert plain.condense_stored(given)["features"].shape == (B, D + 12 + D)
    fitted = build_head("mean-pool", shape=shape, num_classes=2, input="pca:2")
    assert fitted.condense_stored(given) is None
    fitted.prepare([given])
    assert fitted(given).logits.shape == (B, 1, 2)
    assert set(fitted.state_dict()) >= {"inputs.fitted.0.0.directions", "inputs.fitted.0.0.mean"}


def test_no_valid_frame_is_refused():
    given = batch(lengths=(0, 0, 0))
    for transform in ("standardise", "pca:2"):
        with pytest.raises(ValueError, match="at least one valid frame, got none"):
            inputs(input=transform).fit([given])


REFUSED = [
    ({"motion": "all"}, "'motion' must be one of none, frames, cubes, both, got 'all'"),
    ({"appearance": False}, "leave the head no cells; give it motion=frames, cubes or both"),
    ({"input": "sqr"}, r"has no transform 'sqr'; did you mean 'sqrt'\?"),
    ({"input": "raw+l2"}, "has no transform 'raw'"),
    ({"input": ""}, "has no transform ''"),
    ({"input": "pca"}, "wants pca:N, N a whole number above 0, got 'pca'"),
    ({"input": "pca:0"}, "wants pca:N, .* got 'pca:0'"),
    ({"input": "pca:²"}, "wants pca:N, .* got 'pca:²'"),
    ({"input": "sqrt:2"}, "sqrt takes no number, got 'sqrt:2'"),
    ({"input": "pca:6"}, "pca:6 of layer 'top', whose cells have 5 values; at most that many"),
    ({"input": "pca:4+pca:5"}, "pca:5 of layer 'top', whose cells have 4 values"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_no_head_can_see_is_refused(options, message):
    shape = InputShape({"top": (K, D)}, diff_grid=G)
    with pytest.raises(UsageError, match=f"head 'mean-pool': .*{message}"):
        build_head("mean-pool", shape=shape, num_classes=2, **options)


def test_most_of_it_is_refused_before_any_cube_is_seen():
    with pytest.raises(UsageError, match="head 'mean-pool': option 'input' has no transform 'x'"):
        HeadChoice.parse("mean-pool:input=x").check()
    with pytest.raises(UsageError, match="head 'm2a-tail' has no option 'motion'"):
        HeadChoice.parse("m2a-tail:motion=cubes").check()


def test_frame_differences_that_the_batch_lacks_are_refused():
    given = batch()
    with pytest.raises(ValueError, match=r"needs batch\.diffs, got None"):
        inputs(motion="frames")(Batch(given.cubes, None, all_valid(given.top)))


def test_transforms_are_fitted_to_the_training_clips_alone(tmp_path):
    make_store(tmp_path / "s.cubes", {f"v{i}": 4 for i in range(4)}, store_header=header())
    with Store(tmp_path / "s.cubes") as store:
        clips = Clips(store, store.ids, windows=WindowPlan("even", 3))
        train = np.array([0, 2])
        options = {"motion": "cubes", "input": "sqrt+standardise+pca:2"}
        head = build_head("soft-attention", shape=clips.input_shape, num_classes=2, **options)
        config = TrainConfig(clip_frames=3, epochs=1, batch_size=2)
        candidate, labels = Candidate(1e-3, 0.0), np.array([0, 0, 1, 1])
        fit(head, clips, labels, train=train, candidate=candidate, config=config, seed=0)
        expected = CellInputs(clips.input_shape, InputOptions.read(options))
        expected.fit([clips.batch(train)])
        others = CellInputs(clips.input_shape, InputOptions.read(options))
        others.fit([clips.batch(range(4))])
    ours, theirs = head.inputs.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not all(torch.equal(ours[name], others.state_dict()[name]) for name in ours)
