"""The command line on videos that show any number of classes, each planted for itself."""

import csv
import json
import re

import numpy as np
import pytest

from features_store.errors import UsageError
from features_store.format.layout import LayerShape
from features_store.labels import join_label, split_label
from features_store.manifest import ManifestRow, read_store_manifest, write_manifest
from features_store.session import StoreSession
from pipelines.training.train import train
from tests.stores import commit, frames, header
from train.fitting.config import TrainConfig

CLASSES = ("run", "sit", "talk")
NUM_VIDEOS, NUM_GROUPS = 96, 24
ROOM = header(layers=(LayerShape("top", 2, 8),), has_diffs=False)
QUICK = ("--multi-label", "--clip-frames", 4, "--epochs", 30, "--lr", 0.1)


def plant(path):
    """Write videos of which every class raises a channel of its own, whatever the others do."""
    shows = np.random.default_rng(0).random((NUM_VIDEOS, len(CLASSES))) < 0.4
    rows = []
    with (
        StoreSession(path, ROOM, run_id="run") as writer,
        writer.unit(rows=5 * NUM_VIDEOS, video_ids=[f"v{i:02}" for i in range(NUM_VIDEOS)]) as unit,
    ):
        for i, shown in enumerate(shows):
            data = frames(5, seed=i, store_header=ROOM)
            data["cubes/center/top"][..., :3] += 0.4 * shown
            unit.write_rows(data)
            commit(unit, f"v{i:02}", media_sha256=f"{i:064x}")
            label = join_label(np.array(CLASSES)[shown].tolist())
            rows.append(ManifestRow(f"v{i:02}", f"v{i:02}", label, group=f"g{i % NUM_GROUPS}"))
    write_manifest(path / "manifest.csv", rows)
    return path


def relabel(store, **labels):
    """Change labels of videos in a store's manifest."""
    rows = read_store_manifest(store).values()
    changed = [
        ManifestRow(r.video_id, r.path, labels.get(r.video_id, r.label), r.group, r.split)
        for r in rows
    ]
    write_manifest(store / "manifest.csv", changed)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("stores") / "s.cubes")


@pytest.fixture
def store(tmp_path):
    return plant(tmp_path / "s.cubes")


@pytest.fixture(scope="module")
def run(planted, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    config = TrainConfig(multi_label=True, clip_frames=4, epochs=30, learning_rates=(0.1,))
    train(planted, heads=["mean-pool", "self-attention-pool"], folds=3, out=path, config=config)
    return path


def results(run):
    return json.loads((run / "results.json").read_text())


def predictions(run, head):
    with (run / "predictions.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["head"] == head]


def test_classes_that_are_shown_together_are_told_apart(run):
    row = results(run)["heads"][0]

    assert row["head"] == "mean-pool"
    assert row["mean_average_precision"] > 0.95
    assert row["validation_score"] > 0.95
    assert 0 < row["standard_error"] < 0.05
    assert all(ap > 0.9 for ap in row["seeds"][0]["average_precisions"])


def test_no_single_label_could_say_what_is_predicted(run):
    """Several classes above their thresholds, or none, are no distribution over classes."""
    rows = predictions(run, "mean-pool")
    right = [row for row in rows if row["label"] == row["prediction"]]

    assert len(rows) == NUM_VIDEOS
    assert len(right) > 0.75 * NUM_VIDEOS
    assert {len(split_label(row["prediction"])) for row in right} == {0, 1, 2, 3}
    for row in right:
        checkpoint = run / "checkpoints/mean-pool" / f"fold{row['fold']}-seed0.json"
        thresholds = json.loads(checkpoint.read_text())["thresholds"]
        by_class = zip(CLASSES, thresholds, strict=True)
        shown = [name for name, least in by_class if float(row[f"p({name})"]) >= least]
        assert split_label(row["label"]) == shown


def test_scores_that_need_one_class_a_video_are_null(run):
    report = results(run)

    assert report["metric"] == "mean_average_precision"
    assert report["config"]["multi_label"] is True
    assert report["chosen"]["mean_average_precision"] > 0.9
    for row in report["heads"]:
        assert row["balanced_accuracy"] is None
        assert row["accuracy"] is None
        assert row["seeds"][0]["confusion"] is None


def test_a_table_of_several_labels_begins_with_mean_average_precision(cubereel, planted, tmp_path):
    heads = ("--head", "mean-pool", "--head", "mean-pool:motion=none")
    arguments = (*heads, "--folds", 2, "--out", tmp_path / "run")

    assert cubereel("train", planted, *arguments, *QUICK) == 0
    columns = re.split("  +", cubereel.out.splitlines()[0])
    compared = ["mAP", "s.e.", "seeds sd", "to the first (95 %)", "validation"]
    assert columns == ["head", *compared, "parameters", "seconds"]
    assert "): mAP " in cubereel.out


def test_a_checkpoint_scores_several_labels_again(cubereel, run, planted):
    checkpoint = run / "checkpoints" / "mean-pool" / "fold0-seed0.json"

    assert cubereel("eval", checkpoint, planted, "--json") == 0
    again = json.loads(cubereel.out)
    assert again["balanced_accuracy"] is None
    assert again["classes"] == list(CLASSES)
    assert again["mean_average_precision"] > 0.9
    assert cubereel("eval", checkpoint, planted) == 0
    first, columns, *lines = cubereel.out.splitlines()
    assert first.startswith(f"{again['num_videos']} videos: mAP ")
    assert columns.split() == ["class", "videos", "AP"]
    assert [line.split()[0] for line in lines] == list(CLASSES)


def test_labels_that_a_checkpoint_cannot_score_are_said(cubereel, run, store):
    checkpoint = run / "checkpoints" / "mean-pool" / "fold0-seed0.json"
    tested = json.loads(checkpoint.read_text())["test_ids"][0]

    relabel(store, **{tested: "run;jump"})
    assert cubereel("eval", checkpoint, store) == 3
    assert "label 'jump'" in cubereel.err
    assert "run, sit, talk" in cubereel.err
    relabel(store, **{tested: ""})
    assert cubereel("eval", checkpoint, store) == 3
    assert f"video {tested!r} in" in cubereel.err


def test_labels_of_several_classes_need_the_flag(cubereel, planted, tmp_path):
    for arguments in (
        ("train", planted, "--head", "mean-pool", "--folds", 3, "--out", tmp_path / "run"),
        ("manifest", "folds", planted, "--folds", 3),
        ("manifest", "split", planted, "--test", 0.25),
    ):
        assert cubereel(*arguments) == 3
        assert "which means" in cubereel.err
        assert "give --multi-label, or take the ';' out of the label" in cubereel.err
    assert not (tmp_path / "run").exists()


def test_labels_that_are_written_wrongly_are_named(cubereel, store, tmp_path):
    relabel(store, v03="run;;sit")

    assert cubereel("train", store, "--head", "mean-pool", "--folds", 3, "--multi-label") == 3
    assert "video 'v03': label 'run;;sit' has an empty name" in cubereel.err
    assert cubereel("manifest", "validate", store) == 3
    assert "line 5: label 'run;;sit' has an empty name" in cubereel.out


def test_votes_over_several_labels_are_refused_before_anything_is_read(cubereel, store, tmp_path):
    arguments = ("train", store, "--head", "mean-pool", "--multi-label", "--aggregate", "vote")

    assert cubereel(*arguments) == 2
    assert "take --aggregate mean" in cubereel.err
    with pytest.raises(UsageError, match="`aggregate` vote"):
        train(tmp_path, heads=["mean-pool"], config=TrainConfig(multi_label=True, aggregate="vote"))


def test_a_video_of_which_nothing_is_said_is_left_out_and_one_of_no_class_is_not(
    cubereel, store, tmp_path
):
    rows = read_store_manifest(store).values()
    nothing = [row.video_id for row in rows if row.label == ";"]
    relabel(store, **{nothing[0]: ""})

    arguments = ("--head", "mean-pool", "--folds", 2, "--out", tmp_path / "run", *QUICK)
    assert cubereel("train", store, *arguments) == 0
    assert "1 videos of the store have no label and are left out" in cubereel.err
    tested = {row["video_id"]: row["label"] for row in predictions(tmp_path / "run", "mean-pool")}
    assert len(tested) == NUM_VIDEOS - 1
    assert nothing[0] not in tested
    assert tested[nothing[1]] == ";"


def test_folds_and_splits_of_several_labels_are_those_that_train_uses(cubereel, store, run):
    assert cubereel("manifest", "folds", store, "--folds", 3, "--multi-label", "--json") == 0
    folds = json.loads(cubereel.out)["folds"]
    assert [fold["split_hash"] for fold in folds] == results(run)["split_hashes"]

    flags = ("--multi-label", "--test", 0.25, "--write", "--json")
    assert cubereel("manifest", "split", store, *flags) == 0
    report = json.loads(cubereel.out)
    config = TrainConfig(multi_label=True, clip_frames=4, epochs=1)
    trained = train(store, heads=["mean-pool"], out=store.parent / "run", config=config)
    assert trained.split_hashes == [report["split_hash"]]
    assert cubereel("manifest", "leaks", store) == 0


def test_a_video_of_two_classes_is_counted_under_both(cubereel, planted):
    labels = [row.label for row in read_store_manifest(planted).values()]

    assert cubereel("manifest", "counts", planted, "--json") == 0
    report = json.loads(cubereel.out)
    counted = {cell["label"]: cell["counts"]["videos"] for cell in report["cells"]}
    expected = {name: sum(name in label for label in labels) for name in CLASSES}
    assert counted == expected | {";": labels.count(";")}
    assert report["total"]["videos"] == NUM_VIDEOS
    assert cubereel("manifest", "counts", planted) == 0
    assert "(none of the classes)" in cubereel.out
    assert cubereel("manifest", "validate", planted) == 0
