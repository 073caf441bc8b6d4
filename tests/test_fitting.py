"""The loop: fits that share a read, the order of batches, epochs that validation chooses."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from features_store.store import Store
from tests.stores import header, make_store
from train.data.clips import Clips
from train.data.order import shuffled_batches
from train.data.windows import WindowPlan
from train.fitting.config import TrainConfig
from train.fitting.loop import fit_together
from train.fitting.predicting import predict, predict_together
from train.fitting.schedules import PLATEAU_EPOCHS, PLATEAU_FACTOR, Schedule
from train.fitting.state import Candidate, FitState
from train.fitting.tasks import SINGLE_LABEL
from train.heads import HeadChoice
from train.protocol.jobs import FitJob, group_jobs, select
from train.protocol.splits import Split

CONFIG = TrainConfig(clip_frames=5, epochs=3, batch_size=4)
HEADS = [
    "mean-pool", "soft-attention:hidden=4,dropout=0.5", "hm-an:hidden=4", "attentive-probe",
    "attentive-probe:hidden=8,motion=cubes,input=sqrt+standardise",
]  # fmt: skip
TRAIN, VALIDATION = np.arange(8), np.arange(8, 12)
LABELS = np.arange(12) % 2


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "s.cubes"
    make_store(path, {f"v{i}": 3 + i % 4 for i in range(12)}, store_header=header())
    with Store(path) as store:
        yield Clips(store, store.ids, windows=WindowPlan("even", num_steps=5))


def states(clips, head, points, config=CONFIG, **said):
    choice = HeadChoice.parse(head)
    return [
        FitState(
            lambda: choice.build(clips, 2),
            seed=seed, candidate=Candidate(rate, 0.01), config=config, device=clips.device, **said,
        )
        for seed, rate in points
    ]  # fmt: skip


def fitted(clips, head, points, config=CONFIG, num_epochs=None, **said):
    made = states(clips, head, points, config, **said)
    fit_together(
        made, clips, LABELS, train=TRAIN, config=config, validation=VALIDATION,
        num_epochs=num_epochs,
    )  # fmt: skip
    return made


@pytest.mark.parametrize("head", HEADS)
def test_fits_that_share_a_read_are_those_that_are_alone(clips, head):
    points = [(0, 0.01), (1, 0.01), (0, 0.1)]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    together = fitted(clips, head, points)
    assert torch.equal(torch.get_rng_state(), before)
    for one, point in zip(together, points, strict=True):
        (alone,) = fitted(clips, head, [point])
        assert (one.losses, one.curve) == (alone.losses, alone.curve)
        for name, value in alone.head.state_dict().items():
            assert torch.equal(value, one.head.state_dict()[name])
    assert together[0].losses != together[1].losses != together[2].losses


def test_what_is_kept_is_what_validation_liked_best(clips):
    config = CONFIG.model_copy(update={"epochs": 12, "learning_rates": (3.0,)})
    (state,) = fitted(clips, "mean-pool", [(0, 3.0)], config, patience=2)
    (whole,) = fitted(clips, "mean-pool", [(0, 3.0)], config)

    best, probs = state.best
    assert len(whole.curve) == 12
    assert state.curve == whole.curve[: len(state.curve)]
    assert len(state.curve) == min(12, best + 2)
    assert state.curve[best - 1][0] == max(score for score, _ in state.curve)
    # The refit has the same rates, as if all epochs were to come, and so the same weights.
    (again,) = fitted(clips, "mean-pool", [(0, 3.0)], config, num_epochs=best)
    np.testing.assert_array_equal(predict(again.head, clips, VALIDATION, config), probs)


def test_a_fit_that_diverges_ends(clips, monkeypatch):
    monkeypatch.setattr("train.fitting.state.training_loss", lambda *_: torch.tensor(math.nan))
    monkeypatch.setattr(torch.autograd, "backward", lambda _: None)
    (state,) = fitted(clips, "mean-pool", [(0, 0.1)])
    assert len(state.losses) == 1


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=60),
    batch_size=st.integers(1, 7),
    seed=st.integers(0, 9),
)
def test_an_epoch_has_every_clip_once_in_batches_of_near_length(lengths, batch_size, seed):
    lengths = np.array(lengths)
    positions = np.arange(len(lengths))[::2]
    batches = list(
        shuffled_batches(positions, lengths, batch_size=batch_size, rng=np.random.default_rng(seed))
    )
    assert sorted(np.concatenate(batches)) == sorted(positions)
    assert max(map(len, batches)) <= batch_size
    assert len(batches) == math.ceil(len(positions) / batch_size)


def test_batches_are_hardly_padded():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 17, 1000)
    batches = list(shuffled_batches(np.arange(1000), lengths, batch_size=32, rng=rng))
    padded = sum(len(b) * lengths[b].max() for b in batches)
    assert padded < 1.15 * lengths.sum()
    assert np.corrcoef([lengths[b].mean() for b in batches], range(len(batches)))[0, 1] < 0.5


def test_a_batch_is_as_long_as_its_longest_clip(clips):
    lengths = clips.lengths
    short, long = int(lengths.argmin()), int(lengths.argmax())
    assert clips.batch([short]).top.shape[1] == 3
    both = clips.batch([short, long])
    assert both.top.shape[:2] == both.mask.shape == (2, 5)
    assert torch.equal(both.top[0, :3], clips.batch([short]).top[0])
    assert not both.top[0, 3:].any()


def test_gradients_are_clipped_to_a_norm_and_no_further(clips):
    def norms(limit):
        config = CONFIG.model_copy(update={"clip_gradients": limit})
        (state,) = fitted(clips, HEADS[1], [(0, 0.01)], config)
        grads = [p.grad for p in state.head.parameters()]
        return state.losses, float(torch.nn.utils.get_total_norm(grads))

    free, norm = norms(None)
    assert norms(0.01 * norm)[1] == pytest.approx(0.01 * norm, rel=1e-3)
    assert norms(1e6)[0] == free != norms(0.01 * norm)[0]


def test_means_of_maps_are_over_all_valid_frames(clips):
    (state,) = fitted(clips, "hm-an:hidden=4,layers=3", [(0, 0.01)])
    head, asked = state.head.eval(), np.arange(12)
    (said,) = predict_together([head], clips, asked, CONFIG)
    with torch.inference_mode():
        batch = clips.batch(asked)
        boundary = head(batch).maps["boundary"][batch.mask]
    assert said.map_means.keys() == {"boundary"}
    np.testing.assert_allclose(said.map_means["boundary"], boundary.mean(0), atol=1e-6)
    assert np.ptp(said.map_means["boundary"]) > 0


def test_a_constant_rate_stays_and_a_plateau_cuts_it():
    constant, plateau = Schedule("constant", 9), Schedule("plateau", 9)
    assert [constant.next_share() for _ in range(3)] == [1, 1, 1]
    shares = []
    for loss in [1.0, 0.5, *[0.5] * PLATEAU_EPOCHS, 0.4, 0.39]:
        shares.append(plateau.next_share())
        plateau.end_epoch(loss)
    assert shares == [1] * (2 + PLATEAU_EPOCHS) + [PLATEAU_FACTOR] * 2


@pytest.mark.parametrize("batch_size", [1, 8, 32])
def test_a_rare_class_has_half_of_the_gradient_whatever_the_batch(batch_size):
    labels = np.repeat([0, 1], [200, 20])
    order = np.random.default_rng(0).permutation(220)
    weights = SINGLE_LABEL.class_weights(labels, 2)
    shares = np.zeros(2)
    for start in range(0, 220, batch_size):
        chosen = torch.from_numpy(labels[order[start : start + batch_size]])
        logits = torch.zeros(len(chosen), 1, 2, requires_grad=True)
        mask = torch.ones(len(chosen), 1, dtype=torch.bool)
        loss = SINGLE_LABEL.loss(logits, chosen, mask, weights)
        (grad,) = torch.autograd.grad(loss, logits)
        for label in (0, 1):
            shares[label] += grad[chosen == label].abs().sum() * len(chosen)
    assert shares[1] / shares.sum() == pytest.approx(0.5, abs=0.02)


def test_jobs_that_see_the_same_videos_are_grouped():
    jobs = [
        FitJob("h", fold, inner, Candidate(rate, 0.0), epochs=epochs)
        for fold, inner, rate, epochs in itertools.product(
            (0, 1), (0, None), (1.0, 2.0, 3.0), (None, 4)
        )
    ]
    groups = group_jobs(jobs, most=2)
    assert sorted(str(j) for g in groups for j in g.jobs) == sorted(map(str, jobs))
    for group in groups:
        assert len({(j.head, j.fold, j.inner, j.epochs) for j in group.jobs}) == 1
        assert len(group.jobs) <= 2


def test_epochs_are_chosen_by_the_mean_of_the_rounds():
    sides = (np.arange(2), np.arange(2, 4))
    splits = [Split(np.arange(4), (sides, sides), np.arange(4, 6))]
    slow, fast = Candidate(0.1, 0.0), Candidate(1.0, 0.0)
    curves = {
        (0.1, 0): [(0.5, 1.0), (0.7, 1.0), (0.6, 1.0)],
        (0.1, 1): [(0.5, 1.0), (0.6, 1.0)],  # ended before
        (1.0, 0): [(0.6, 1.0), (0.6, 0.9)],
        (1.0, 1): [(0.7, 1.0), (0.6, 0.9)],
    }

    def curve_of(job):
        return copy.copy(curves[job.candidate.learning_rate, job.inner])

    (chosen,) = select("h", [slow, fast], splits, chooses_epochs=True, curve_of=curve_of)
    assert (chosen.candidate, chosen.epochs) == (slow, 2)
    assert chosen.validation_score == pytest.approx(0.65)
    (last,) = select("h", [slow, fast], splits, chooses_epochs=False, curve_of=curve_of)
    assert (last.candidate, last.epochs) == (slow, None)
