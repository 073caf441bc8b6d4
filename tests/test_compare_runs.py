"""`cubereel runs compare`: heads of two runs on the same test videos."""

import csv
import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from features_store.manifest import ManifestRow, write_manifest
from features_store.store import Store
from tests.stores import make_store

VIDEOS = {f"{label}/{i}.mp4": 3 for label in ("walk", "run") for i in range(8)}
QUICK = ("--folds", 2, "--epochs", 1, "--clip-frames", 2, "--seeds", 2, "--processes", 1)


def write_rows(store, *, label_of=lambda i: i.split("/")[0], group_of=lambda i: i[-5]):
    rows = [ManifestRow(i, i, label=label_of(i), group=group_of(i)) for i in VIDEOS]
    write_manifest(store / "manifest.csv", rows)


def fit(cubereel, store, out, *arguments):
    assert cubereel("train", store, "--out", out, *QUICK, *arguments) == 0
    return out


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two stores of the same videos with other features, and runs of both."""
    place = tmp_path_factory.mktemp("compare")
    for name, order in (("one", VIDEOS), ("two", dict(reversed(VIDEOS.items())))):
        make_store(place / f"{name}.cubes", order)  # whose values are by position
        write_rows(place / f"{name}.cubes")
    return place


@pytest.fixture(scope="module")
def runs(place):
    """The run A has two heads, B one of them and another."""
    from pipelines.training.train import train
    from train.fitting.config import TrainConfig

    config = TrainConfig(epochs=20, clip_frames=2, learning_rates=(0.1,))
    for name, heads in (("one", ["mean-pool", "softmax-regression"]),
                        ("two", ["avg-lstm:hidden=3", "mean-pool"])):  # fmt: skip
        train(place / f"{name}.cubes", heads=heads, folds=2, seeds=2, out=place / name,
              device="cpu", config=config, processes=1)  # fmt: skip
    return place / "one", place / "two"


def score(run, head):
    """Return the balanced accuracy, mean over seeds, from the lines of `predictions.csv`."""
    with (run / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["head"] == head]
    seeds = sorted({row["seed"] for row in rows})
    said = [[(r["label"], r["prediction"]) for r in rows if r["seed"] == s] for s in seeds]
    return np.mean([balanced_accuracy_score(*zip(*each, strict=True)) for each in said])


def test_the_heads_in_both_runs_are_compared(cubereel, runs):
    assert cubereel("runs", "compare", *runs, "--json") == 0
    found = json.loads(cubereel.out)

    (head,) = found["heads"]
    assert (head["head_a"], head["head_b"]) == ("mean-pool", "mean-pool")
    scores = [score(run, "mean-pool") for run in runs]
    assert [head["score_a"], head["score_b"]] == pytest.approx(scores)
    assert head["difference"] == pytest.approx(scores[1] - scores[0])
    assert head["interval"][0] < head["difference"] < head["interval"][1]
    assert found["only_a"] == ["softmax-regression"]
    assert found["only_b"] == ["avg-lstm:hidden=3"]
    assert (found["num_videos"], found["num_groups"]) == (16, 8)
    assert found["differ"] == ["features"]


def test_heads_of_one_run_differ_as_in_its_table(cubereel, runs):
    named = ("--head-a", "mean-pool", "--head-b", "softmax-regression")
    assert cubereel("runs", "compare", runs[0], runs[0], *named, "--json") == 0
    (found,) = json.loads(cubereel.out)["heads"]

    row = json.loads((runs[0] / "results.json").read_text())["heads"][1]
    assert found["score_b"] == row["balanced_accuracy"]
    assert found["difference"] == row["difference"]
    assert found["interval"] == row["interval"]


def test_people_are_told_what_differs(cubereel, runs):
    assert cubereel("runs", "compare", *runs) == 0

    lines = cubereel.out.splitlines()
    assert lines[0].split()[:3] == ["head", "A", "B"]
    assert lines[1].startswith("mean-pool ")
    assert "A and B differ in features, and not in their heads alone" in lines
    assert "only in A: softmax-regression" in lines
    assert "how another training would differ is not in them" in lines[-1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"group_of": lambda i: i[-5] if i[-5] not in "01" else "same"}, "differ in the group of"),
        ({"label_of": lambda i: "run" if i == "walk/3.mp4" else i.split("/")[0]},
         "the label of walk/3.mp4 (walk and run)"),
        ({"label_of": lambda i: i.split("/")[0][:3]}, "differ in classes (run and 1 more and"),
    ],
)  # fmt: skip
def test_runs_on_other_labels_or_groups_are_refused(cubereel, place, runs, tmp_path, changed, said):
    shutil.copytree(place / "one.cubes", tmp_path / "s.cubes")
    write_rows(tmp_path / "s.cubes", **changed)
    other = fit(cubereel, tmp_path / "s.cubes", tmp_path / "run", "--head", "mean-pool")

    assert cubereel("runs", "compare", runs[0], other) == 3
    assert said in cubereel.err
    assert "cannot be compared" in cubereel.err
    assert len(cubereel.err.splitlines()) == 1


def test_runs_on_other_splits_are_refused(cubereel, place, runs, tmp_path):
    seed = ("--head", "mean-pool", "--split-seed", 1)
    other = fit(cubereel, place / "one.cubes", tmp_path / "run", *seed)

    assert cubereel("runs", "compare", runs[0], other) == 3
    assert "differ in splits (" in cubereel.err
    assert "--split-seed" in cubereel.err


def test_what_is_no_finished_run_is_refused(cubereel, runs, tmp_path):
    assert cubereel("runs", "compare", runs[0], tmp_path) == 2
    assert "is a folder, not a run folder (no run.json in it)" in cubereel.err
    (tmp_path / "run.json").touch()
    assert cubereel("runs", "compare", runs[0], tmp_path) == 3
    assert f"{tmp_path} has no results.json" in cubereel.err

    copy = tmp_path / "copy"
    shutil.copytree(runs[0], copy)
    (copy / "predictions.csv").write_text("video\n")
    assert cubereel("runs", "compare", runs[0], copy) == 3
    assert "predictions.csv" in cubereel.err

    shutil.copy(runs[0] / "predictions.csv", copy)
    next((copy / "fits" / "mean-pool").glob("fold1-seed1-*")).unlink()
    assert cubereel("runs", "compare", runs[0], copy) == 3
    assert "fold1-seed1-" in cubereel.err


def test_a_store_with_more_videos_has_the_same_sets(cubereel, place, runs, tmp_path):
    """An unlabelled video before all others, which is left out, has the first number."""
    shutil.copytree(place / "one.cubes", tmp_path / "s.cubes")
    more = tmp_path / "more.cubes"
    make_store(more, {"a.mp4": 3})
    assert (
        cubereel("store", "merge", tmp_path / "s.cubes", more, "--out", tmp_path / "m.cubes") == 0
    )
    write_rows(tmp_path / "m.cubes")
    rows = [ManifestRow("a.mp4", "a.mp4"), *Store(tmp_path / "m.cubes").manifest.values()]
    write_manifest(tmp_path / "m.cubes" / "manifest.csv", rows)
    other = fit(cubereel, tmp_path / "m.cubes", tmp_path / "run", "--head", "mean-pool")

    assert cubereel("runs", "compare", runs[0], other) == 0, cubereel.err


def test_fits_whose_epochs_validation_chose_are_found(cubereel, place, tmp_path):
    chosen = ("--head", "mean-pool", "--patience", 1, "--epochs", 3)
    run = fit(cubereel, place / "one.cubes", tmp_path / "run", *chosen)

    assert cubereel("runs", "compare", run, run, "--json") == 0
    (head,) = json.loads(cubereel.out)["heads"]
    assert head["score_a"] == head["score_b"] == pytest.approx(score(run, "mean-pool"))


def test_heads_that_are_not_there_are_named(cubereel, runs):
    assert cubereel("runs", "compare", *runs, "--head-a", "mean-pool") == 2
    assert "--head-a and --head-b belong together" in cubereel.err
    assert cubereel("runs", "compare", *runs, "--head-a", "mean-pol", "--head-b", "mean-pool") == 2
    assert "did you mean 'mean-pool'" in cubereel.err
