"""The layer that a head reads, chosen by validation: fits, budget, checkpoints, the command."""

import json

import numpy as np
import pytest

from features_store.errors import UsageError
from features_store.format.layout import LayerShape
from features_store.manifest import ManifestRow, write_manifest
from features_store.session import StoreSession
from pipelines.training.budget import ClipCosts
from pipelines.training.train import train
from tests.stores import add_video, frames, header
from train.fitting.config import TrainConfig
from train.fitting.state import Candidate
from train.protocol.jobs import FitJob, group_jobs
from train.protocol.run_folder import RunFolder
from train.protocol.table import parse_table

LAYERS = tuple(LayerShape(name, 2, dim) for name, dim in (("low", 8), ("mid", 4), ("top", 6)))
CONFIG = TrainConfig(
    clip_frames=3, epochs=3, batch_size=4, learning_rates=(0.01, 0.1), layers=("low", "top"),
    choose_layer=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store whose layer "low" shows the label; the others are noise."""
    path = tmp_path_factory.mktemp("stores") / "s.cubes"
    said = header(layers=LAYERS)
    videos = [f"{label}/{i}" for label in ("a", "b") for i in range(6)]
    session = StoreSession(path, said, run_id="run")
    with session as writer, writer.unit(rows=4 * len(videos), video_ids=videos) as unit:
        for seed, video in enumerate(videos):
            rows = frames(4, seed=seed, store_header=said)
            rows["cubes/center/low"] = rows["cubes/center/low"] + 3 * (video[0] == "a")
            add_video(unit, video, rows)
    write_manifest(path / "manifest.csv", [ManifestRow(v, v, label=v[0], group=v) for v in videos])
    return path


def run(store, out, heads=("mean-pool", "soft-attention:hidden=4"), **said):
    options = {"folds": 2, "seeds": 2, "config": CONFIG, "processes": 1} | said
    return train(store, heads=list(heads), out=out, device="cpu", **options)


def test_the_layer_that_shows_it_is_chosen_and_the_checkpoint_reads_it_alone(store, tmp_path):
    report = run(store, tmp_path, heads=["mean-pool"])
    (row,) = report.heads
    assert [each["candidate"]["layer"] for each in row.selections] == ["low", "low"]
    assert row.balanced_accuracy == 1
    assert row.layers == ["low", "top"]
    candidate = Candidate(**row.selections[0]["candidate"])
    path = RunFolder(tmp_path).checkpoint(FitJob("mean-pool", 0, None, candidate, 0))
    said = json.loads(path.with_suffix(".json").read_bytes())
    assert list(said["layers"]) == ["low"]


def test_fits_are_those_of_a_run_that_has_one_layer(store, tmp_path):
    chosen = run(store, tmp_path / "both")
    alone = run(
        store, tmp_path / "low",
        config=CONFIG.model_copy(update={"layers": ("low",), "choose_layer": False}),
    )  # fmt: skip
    for both, low in zip(chosen.heads, alone.heads, strict=True):
        for fold, (one, other) in enumerate(zip(both.selections, low.selections, strict=True)):
            candidate = Candidate(**one["candidate"])
            if candidate.layer != "low":
                continue
            for seed in range(2):
                jobs = [
                    FitJob(both.head, fold, None, each, seed)
                    for each in (candidate, Candidate(**other["candidate"]))
                ]
                fits = [
                    RunFolder(tmp_path / name).read(job)
                    for name, job in zip(("both", "low"), jobs, strict=True)
                ]
                np.testing.assert_array_equal(fits[0].probs, fits[1].probs)
                assert fits[0].train_losses == fits[1].train_losses


def test_processes_and_a_resumed_run_find_the_same(store, tmp_path):
    one = run(store, tmp_path / "1")
    two = run(store, tmp_path / "2", processes=2)
    again = run(store, tmp_path / "2")
    for row, *others in zip(one.heads, two.heads, again.heads, strict=True):
        for other in others:
            assert (row.selections, row.balanced_accuracy) == (
                other.selections, other.balanced_accuracy,
            )  # fmt: skip


def test_no_two_layers_have_the_same_file():
    layers = (None, "a/b", "a-b", "a%2Fb", "inception_4e@avg7")
    names = [Candidate(0.1, 0.0, layer).name for layer in layers]
    assert len(set(names)) == len(layers)
    assert not any("/" in name for name in names)


def test_fits_of_different_layers_share_no_batch():
    jobs = [FitJob("h", 0, 0, Candidate(0.1, 0.0, layer)) for layer in ("low", "top", "low")]
    groups = group_jobs(jobs, most=3)
    assert [[job.candidate.layer for job in group.jobs] for group in groups] == [
        ["low", "low"], ["top"],
    ]  # fmt: skip


def test_a_budget_holds_for_all_layers_and_the_dearest_is_tested(store, tmp_path, monkeypatch):
    costs = {"low": ClipCosts(1.0, 0.1, 0.1), "top": ClipCosts(2.0, 0.2, 0.2)}
    monkeypatch.setattr(
        "pipelines.training.budget.measure_costs", lambda head, data, train, layer: costs[layer]
    )
    config = CONFIG.model_copy(update={"budget": 300.0})
    report = run(store, tmp_path, heads=["mean-pool"], config=config)
    # Two folds of six videos: of the other six, four are fitted on and two are for validation.
    validation = 2 * 2 * (4 * (1.0 + 2.0) + 2 * (0.1 + 0.2))
    tests = 2 * 2 * 6 * 2.0
    fixed = 2 * 2 * 4 * (0.1 + 0.2) + 2 * 2 * 6 * (0.2 + 0.2)
    (row,) = report.heads
    assert row.settings["epochs"] == min(3, int((300 - fixed) / (validation + tests)))


def test_a_head_that_trains_what_follows_a_layer_is_refused(store, tmp_path):
    (row,) = parse_table(
        {"rows": [{"head": "pyramid-attention", "choose-layer": True, "layer": [-3, -1]}]},
        name="g",
    )
    assert row.config(TrainConfig()).choose_layer
    with pytest.raises(UsageError, match="goes without `choose_layer`; say which by `layers`"):
        run(store, tmp_path, heads=["m2a-tail"])


def test_the_command_line_says_which_was_chosen(cubereel, store, tmp_path):
    run_of_two = (
        "train", store, "--head", "mean-pool", "--layer", "low", "--layer", "top",
        "--choose-layer", "--folds", 2, "--clip-frames", 3, "--epochs", 3, "--lr", 0.1,
        "--device", "cpu", "--out", tmp_path / "run",
    )  # fmt: skip
    assert cubereel(*run_of_two) == 0
    assert "layer chosen by validation in each fold: mean-pool: low, low" in cubereel.out
    job = FitJob("mean-pool", 0, None, Candidate(0.1, 0.01, "low"), 0)
    checkpoint = RunFolder(tmp_path / "run").checkpoint(job).with_suffix(".json")
    assert cubereel("eval", checkpoint, store) == 0, cubereel.err
    assert "1.000" in cubereel.out
