"""Windows, splits, scores and clips: the arithmetic of the trainer."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from features_store.errors import ContractError, UsageError
from features_store.store import Store
from tests.stores import make_store
from train.data.clips import Clips
from train.data.labels import missing_classes
from train.data.windows import WindowPlan, even_rows, sliding_rows
from train.fitting.condensed import condensed_for
from train.fitting.config import TrainConfig
from train.fitting.predicting import predict
from train.heads import build_head
from train.protocol.splits import make_folds, split_by_manifest, split_hash
from train.scores.intervals import leave_out_groups, standard_error
from train.scores.metrics import (
    aggregate,
    balanced_accuracy,
    reweighted_accuracies,
    score,
    top5_accuracy,
)


@given(st.integers(1, 500), st.integers(1, 64))
def test_even_rows_are_distinct_ordered_and_centred(num_frames, num_steps):
    rows = even_rows(num_frames, num_steps)

    assert len(rows) == min(num_frames, num_steps)
    assert (np.diff(rows) >= 1).all()
    assert 0 <= rows[0] <= rows[-1] < num_frames
    assert abs(rows[0] - (num_frames - 1 - rows[-1])) <= 1


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 5), st.integers(1, 30))
def test_sliding_windows_stay_within_the_video(num_frames, num_steps, frame_stride, window_stride):
    clips = sliding_rows(
        num_frames, num_steps=num_steps, frame_stride=frame_stride, window_stride=window_stride
    )

    for rows in clips:
        assert 1 <= len(rows) <= num_steps
        assert rows[-1] < num_frames
    if window_stride == 1:
        assert len(clips) == max(1, num_frames - num_steps * frame_stride + 1)


def test_windows_of_nothing_are_refused():
    with pytest.raises(UsageError, match="num_steps must be at least 1, got 0"):
        WindowPlan(num_steps=0)


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(1, 2))
def test_folds_cover_every_video_once_and_share_no_group(seed, num_folds, inner_folds):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 12, 60).astype(str)
    labels = rng.integers(0, 3, 60)
    splits = make_folds(labels, groups, num_folds=num_folds, inner_folds=inner_folds)

    tested = np.sort(np.concatenate([split.test for split in splits]))
    np.testing.assert_array_equal(tested, np.arange(60))
    for split in splits:
        assert not set(groups[split.test]) & set(groups[split.fitting])
        assert len(split.inner) == inner_folds
        for train, validation in split.inner:
            assert not set(groups[train]) & set(groups[validation])
            assert sorted([*train, *validation]) == split.fitting.tolist()


def test_classes_rarer_than_folds_do_not_stop_them():
    labels = np.array([0] * 10 + [1] * 10 + [2])
    groups = np.array([str(i) for i in range(21)])
    splits = make_folds(labels, groups, num_folds=4)

    lacking = [missing_classes(labels, s.test, "abc") for s in splits]
    assert sum("c" in names for names in lacking) == 3


def test_more_folds_than_groups_are_refused():
    with pytest.raises(UsageError, match=r"number of groups \(2\), got 3"):
        make_folds(np.array([0, 1, 0]), np.array(["a", "b", "a"]), num_folds=3)


def test_a_manifest_s_split_is_taken_as_it_is():
    said = ["train", "val", "test", "", "train"]
    split = split_by_manifest(said, np.array([0, 1, 0, 1, 1]), np.array(list("abcde")))

    assert split.fitting.tolist() == [0, 1, 4]
    assert [pair[1].tolist() for pair in split.inner] == [[1]]
    assert split.test.tolist() == [2]
    with pytest.raises(ContractError, match="'dev' in the manifest is none of"):
        split_by_manifest(["dev"], np.array([0]), np.array(["a"]))


def test_the_split_hash_is_of_who_is_where():
    labels, groups = np.arange(12) % 2, np.arange(12).astype(str)
    one, other = make_folds(labels, groups, num_folds=2)
    ids = [f"v{i}" for i in range(12)]

    assert split_hash(ids, one) == split_hash(ids, one) != split_hash(ids, other)


@given(st.integers(0, 10**6))
def test_balanced_accuracy_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(3), rng.integers(0, 3, 20)])
    predictions = rng.integers(0, 3, 23)

    ours = balanced_accuracy(predictions, labels)
    assert ours == pytest.approx(balanced_accuracy_score(labels, predictions))


def test_scores_of_a_small_table():
    probs = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0]])
    metrics = score(probs, np.array([0, 1, 1]))

    assert metrics.confusion == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert metrics.accuracy == pytest.approx(2 / 3)
    assert metrics.balanced_accuracy == pytest.approx(0.75)
    assert metrics.mean_average_precision == 1.0


@given(st.integers(0, 10**6), st.integers(6, 12))
def test_top5_accuracy_is_scikit_learns(seed, num_classes):
    rng = np.random.default_rng(seed)
    labels, probs = rng.integers(0, num_classes, 23), rng.random((23, num_classes))

    theirs = top_k_accuracy_score(labels, probs, k=5, labels=range(num_classes))
    assert score(probs, labels).top5_accuracy == pytest.approx(theirs)


def test_top5_accuracy_is_of_more_than_five_classes_and_ties_go_to_the_first():
    labels = np.arange(6)
    assert top5_accuracy(np.eye(6), labels) == 1
    assert top5_accuracy(np.ones((6, 6)), labels) == pytest.approx(5 / 6)
    assert top5_accuracy(np.eye(5), labels[:5]) is None
    assert score(np.eye(6), np.eye(6, dtype=bool)).top5_accuracy is None


def test_mean_and_vote_can_differ():
    """Two clips weakly for the first class, one strongly for the second (PAPERS §8, row 31)."""
    probs, videos = np.array([[0.55, 0.45], [0.55, 0.45], [0.0, 1.0]]), np.zeros(3, int)

    assert aggregate(probs, videos, how="mean")[1].argmax() == 1
    assert aggregate(probs, videos, how="vote")[1].argmax() == 0


def test_the_standard_error_grows_when_groups_are_alike():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 100)
    right = np.repeat(rng.random(20) < 0.7, 10)
    predictions = np.where(right, labels, 1 - labels)[None]
    alone, together = (
        standard_error(leave_out_groups(reweighted_accuracies, predictions, labels, groups))
        for groups in (np.arange(200), np.repeat(np.arange(20), 10))
    )

    assert together > 2 * alone


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_reweighted_accuracies_are_those_of_videos_drawn_one_by_one(seed):
    rng = np.random.default_rng(seed)
    num_videos, num_classes, num_seeds = rng.integers((1, 1, 1), (60, 30, 12))
    labels = rng.integers(num_classes, size=num_videos)
    shape = (num_seeds, num_videos)
    predictions = np.where(rng.random(shape) < 0.5, labels, rng.integers(num_classes, size=shape))
    drawn = rng.multinomial(num_videos, np.full(num_videos, 1 / num_videos), size=5)

    expected = []
    for counts in drawn:
        videos = np.repeat(np.arange(num_videos), counts)
        expected.append(
            np.mean([balanced_accuracy(row[videos], labels[videos]) for row in predictions])
        )
    assert reweighted_accuracies(predictions, labels, drawn) == pytest.approx(expected)


@pytest.fixture
def store(tmp_path):
    make_store(tmp_path / "s", {"a": 3, "b": 9, "c": 20})
    with Store(tmp_path / "s") as opened:
        yield opened


@pytest.mark.parametrize("memory_bytes", [0, None])
def test_clips_are_rows_of_the_store_in_memory_or_not(store, memory_bytes):
    plan = WindowPlan("sliding", num_steps=4, frame_stride=2, window_stride=3)
    clips = Clips(store, ["c", "a"], windows=plan, memory_bytes=memory_bytes)
    batch = clips.batch(range(len(clips)))

    for i, clip in enumerate(clips.clips):
        video_id = clips.video_ids[clip.video]
        num_rows = len(clip.rows)
        expected = store.cubes(video_id)[clip.rows]
        np.testing.assert_array_equal(batch.top[i, :num_rows].numpy(), expected)
        assert batch.mask[i].tolist() == [True] * num_rows + [False] * (4 - num_rows)
        assert batch.diffs is not None
        diffs = store.read(video_id, "diffs/center")[clip.rows]
        np.testing.assert_array_equal(batch.diffs[i, :num_rows].numpy(), diffs)


def test_a_video_without_clips_gets_no_others_probabilities(store):
    clips = Clips(store, ["a", "b", "c"], windows=WindowPlan(num_steps=5), memory_bytes=0)
    clips.clips = [clip for clip in clips.clips if clip.video != 1]
    head = build_head("mean-pool", shape=clips.input_shape, num_classes=2)

    assert predict(head, clips, np.array([0, 2]), TrainConfig()).shape == (2, 2)
    with pytest.raises(ContractError, match="'b' has no clip to be judged by; 1 of 3 videos"):
        predict(head, clips, np.array([0, 1, 2]), TrainConfig())


@pytest.mark.parametrize("name", ["mean-pool", "avg-lstm", "max-lstm"])
@pytest.mark.parametrize("motion", ["none", "frames", "cubes", "both"])
def test_condensed_clips_give_the_same_logits(store, name, motion):
    clips = Clips(store, ["a", "b", "c"], windows=WindowPlan(num_steps=5))
    head = build_head(name, shape=clips.input_shape, num_classes=2, motion=motion).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    condensed = condensed_for(clips, head, batch_size=2)
    with pytest.raises(ValueError, match="have no layers"):
        condensed.of_layers([])
    positions = [2, 0]

    assert condensed.batch(positions).cubes == {}
    torch.testing.assert_close(
        head(condensed.batch(positions)).logits, head(clips.batch(positions)).logits
    )
