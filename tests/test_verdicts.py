"""What heads are said to say: a threshold for each class, from validation videos alone."""

import csv
import json

import numpy as np
import pytest

from features_store.format.layout import LayerShape
from features_store.labels import join_label, split_label
from features_store.manifest import ManifestRow, read_store_manifest, write_manifest
from features_store.session import StoreSession
from pipelines.training.train import train
from tests.stores import add_video, frames, header
from train.fitting.checkpoint import load_checkpoint
from train.fitting.config import TrainConfig
from train.fitting.tasks import MULTI_LABEL, SINGLE_LABEL
from train.scores.metrics import aggregate
from train.scores.thresholds import matching_thresholds

# One class

THRESHOLDS = {
    # probabilities, which of them show the class, threshold
    "0.5 is right": ([0.9, 0.6, 0.4], [1, 1, 0], 0.5),
    "0.5 counts as many, of others": ([0.9, 0.6, 0.4], [1, 0, 1], 0.5),
    "too often at 0.5": ([0.9, 0.8, 0.6, 0.3], [1, 0, 0, 0], 0.85),
    "too seldom at 0.5": ([0.4, 0.3, 0.1], [1, 1, 0], 0.2),
    "none shows it": ([0.8, 0.3], [0, 0], 0.9),
    "all show it": ([0.8, 0.3], [1, 1], 0.15),
    "a head that diverged": ([float("nan"), 0.3], [1, 1], 0.5),
}


@pytest.mark.parametrize(("probs", "shown", "expected"), THRESHOLDS.values(), ids=THRESHOLDS)
def test_as_many_are_said_to_show_a_class_as_do(probs, shown, expected):
    probs, table = np.array(probs)[:, None], np.array(shown, bool)[:, None]

    assert matching_thresholds(probs, table) == (pytest.approx(expected),)


def test_each_class_has_its_own_threshold_and_one_label_needs_none():
    probs = np.array([0.6, 0.6, 0.6])

    assert MULTI_LABEL.predicted(probs, (0.7, 0.6, 0.5)) == [1, 2]
    assert MULTI_LABEL.predicted(probs) == [0, 1, 2]
    assert SINGLE_LABEL.thresholds(np.ones((2, 3)), np.array([0, 1])) == ()
    assert SINGLE_LABEL.predicted(np.array([0.1, 0.3, 0.2])) == [1]


# Runs

NUM_VIDEOS, NUM_RARE = 180, 12
ROOM = header(layers=(LayerShape("top", 2, 8),), has_diffs=False)
CONFIG = TrainConfig(multi_label=True, clip_frames=2, epochs=15, learning_rates=(0.1,))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Videos of a frequent class and a rare one, that shows in a channel only more or less."""
    path = tmp_path_factory.mktemp("stores") / "s.cubes"
    rng = np.random.default_rng(0)
    shows = np.zeros((NUM_VIDEOS, 2), bool)
    shows[rng.permutation(NUM_VIDEOS)[:NUM_RARE], 1] = True
    shows[:, 0] = rng.random(NUM_VIDEOS) < 0.5
    rows = []
    with (
        StoreSession(path, ROOM, run_id="run") as writer,
        writer.unit(rows=2 * NUM_VIDEOS, video_ids=[f"v{i}" for i in range(NUM_VIDEOS)]) as unit,
    ):
        for i, shown in enumerate(shows):
            data = frames(2, seed=i, store_header=ROOM)
            data["cubes/center/top"][..., :2] += 1.3 * shown + rng.normal(0, 1, 2)
            add_video(unit, f"v{i}", data)
            label = join_label(np.array(["often", "rare"])[shown].tolist())
            side = ("train", "train", "test")[i % 3]
            rows.append(ManifestRow(f"v{i}", f"v{i}", label, split=side))
    write_manifest(path / "manifest.csv", rows)
    return path


def predictions(run):
    with (run / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def checkpoints(run):
    return sorted((run / "checkpoints/mean-pool").glob("*.json"))


def test_a_rare_class_is_said_about_as_often_as_it_is_there(store, tmp_path):
    train(store, heads=["mean-pool"], folds=3, out=tmp_path / "run", config=CONFIG)

    rows = predictions(tmp_path / "run")
    at_half = sum(float(row["p(rare)"]) >= 0.5 for row in rows)
    said = sum("rare" in split_label(row["prediction"]) for row in rows)
    assert at_half > 3 * NUM_RARE
    assert abs(said - NUM_RARE) <= NUM_RARE / 2
    for path in checkpoints(tmp_path / "run"):
        document = json.loads(path.read_text())
        of_class = dict(zip(document["classes"], document["thresholds"], strict=True))
        for row in rows:
            if int(row["fold"]) == document["fold"]:
                shown = [name for name in of_class if float(row[f"p({name})"]) >= of_class[name]]
                assert split_label(row["prediction"]) == shown


def test_nothing_of_the_test_videos_enters_a_threshold(store, tmp_path):
    before = (store / "manifest.csv").read_text()
    train(store, heads=["mean-pool"], out=tmp_path / "one", config=CONFIG)
    rows = [
        ManifestRow(r.video_id, r.path, ";" if r.split == "test" else r.label, split=r.split)
        for r in read_store_manifest(store).values()
    ]
    rows[2] = ManifestRow("v2", "v2", "rare", split="test")
    write_manifest(store / "manifest.csv", rows)
    train(store, heads=["mean-pool"], out=tmp_path / "other", config=CONFIG)
    (store / "manifest.csv").write_text(before)

    one, other = (json.loads(checkpoints(tmp_path / n)[0].read_text()) for n in ("one", "other"))
    assert one["thresholds"] == other["thresholds"] != [0.5, 0.5]


def test_a_checkpoint_without_thresholds_is_read_and_a_wrong_number_is_refused(
    cubereel, store, tmp_path
):
    train(store, heads=["mean-pool"], out=tmp_path / "run", config=CONFIG)
    (path,) = checkpoints(tmp_path / "run")
    document = json.loads(path.read_text())

    path.write_text(json.dumps(document | {"thresholds": [0.5]}))
    assert cubereel("eval", path, store) == 3
    assert "a threshold for each of 2 classes, or none, got 1" in cubereel.err
    path.write_text(json.dumps(document | {"thresholds": [0.5, 1.5]}))
    assert cubereel("eval", path, store) == 3
    del document["thresholds"]
    path.write_text(json.dumps(document))
    assert load_checkpoint(path)[1].thresholds == ()


# Splits that are scored again


@pytest.fixture(scope="module")
def checkpoint(store, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    train(store, heads=["mean-pool"], out=run, config=CONFIG)
    return checkpoints(run)[0]


@pytest.fixture
def manifest(store):
    """The rows of the manifest, to be written otherwise; it is as it was afterwards."""
    before = (store / "manifest.csv").read_text()
    yield {row.video_id: row for row in read_store_manifest(store).values()}
    (store / "manifest.csv").write_text(before)


def write(store, rows, **changed):
    rows = rows | {i: ManifestRow(i, i, *said) for i, said in changed.items()}
    write_manifest(store / "manifest.csv", rows.values())


def test_a_video_without_a_label_is_left_out_as_by_train(cubereel, store, checkpoint, manifest):
    write(store, manifest, v2=("", "", "test"))

    assert cubereel("eval", checkpoint, store, "--split", "test") == 0
    assert "1 videos of the split 'test' have no label and are left out" in cubereel.err
    assert cubereel.out.startswith(f"{NUM_VIDEOS // 3 - 1} videos:")


def test_val_and_validation_are_one_split(cubereel, store, checkpoint, manifest):
    write(store, manifest, v0=("often", "", "val"), v1=("rare", "", "validation"))

    for name in ("val", "validation"):
        assert cubereel("eval", checkpoint, store, "--split", name) == 0
        assert cubereel.out.startswith("2 videos:")
        assert cubereel("store", "statistics", store, "--split", name) == 0
        assert "2 videos, " in cubereel.out


def test_a_split_that_nobody_has_is_refused_with_the_nearest_name(cubereel, store, checkpoint):
    assert cubereel("eval", checkpoint, store, "--split", "tset") == 2
    assert "has no split 'tset': did you mean 'test'? There are: test, train, val" in cubereel.err
    assert cubereel("eval", checkpoint, store, "--split", "val") == 3
    assert "has no video of the split 'val' that has a label" in cubereel.err


# Votes of clips

VOTES = {
    # probabilities of clips, the class that wins
    "a majority": ([[0.6, 0.4], [0.6, 0.4], [0.0, 1.0]], 0),
    "equal votes, the mean": ([[0.6, 0.4], [0.0, 1.0]], 1),
    "equal votes of three classes": ([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.1, 0.0, 0.9]], 2),
    "equal votes and means, the first": ([[0.75, 0.25], [0.25, 0.75]], 0),
    "a clip that cannot decide votes as the mean": ([[0.5, 0.5], [0.5, 0.5], [0.1, 0.9]], 1),
    "one vote more among thousands": ([[0.51, 0.49]] * 2001 + [[0.0, 1.0]] * 2000, 0),
}


@pytest.mark.parametrize(("clips", "expected"), VOTES.values(), ids=VOTES)
def test_votes_decide_then_the_mean_then_the_first(clips, expected):
    _, probs = aggregate(np.array(clips), np.zeros(len(clips), int), how="vote")

    assert probs[0].argmax() == expected
    assert probs.sum() == pytest.approx(1)
