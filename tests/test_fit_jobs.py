"""Fits as plain data, and a run folder as the jobs that are done: here, or in several processes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from features_store.errors import ContractError, MachineError
from features_store.plain import from_plain, to_plain
from features_store.store import Store
from pipelines.training.budget import ClipCosts, measure_costs
from pipelines.training.planned import FitSettings, RowSettings, Table
from pipelines.training.train import train
from tests.stores import header, make_store
from tests.test_tables import LAYERS
from train.data.clips import Clips
from train.data.pages import SharedPages
from train.fitting.config import MOST_EPOCHS, TrainConfig
from train.fitting.state import Candidate
from train.fitting.tasks import SINGLE_LABEL
from train.protocol.jobs import FitJob, Selection
from train.protocol.results import chosen_by_validation, pool_tests
from train.protocol.runs import Fit, FoldResult, Labelled
from train.protocol.splits import make_folds
from train.protocol.table import Row, load_table, table_names

RATE = st.floats(1e-9, 1e6)
HEADS = ["mean-pool", "soft-attention:hidden=4"]
CONFIG = TrainConfig(clip_frames=3, epochs=2, batch_size=4, learning_rates=(0.01, 0.1))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "s.cubes"
    videos = {f"{label}/{i}": 5 for label in ("a", "b") for i in range(4)}
    make_store(path, videos, store_header=header(layers=LAYERS))
    return path


def _train(store, out, **said):
    options = {"heads": HEADS, "folds": 2, "seeds": 2, "config": CONFIG} | said
    return train(store, out=out, device="cpu", **options)


@given(st.text(max_size=9), st.integers(0, 99), st.none() | st.integers(0, 9), RATE, RATE)
def test_a_job_is_json_and_comes_back(head, fold, inner, rate, decay):
    job = FitJob(head, fold, inner, Candidate(rate, decay), seed=3)
    assert from_plain(FitJob, json.loads(json.dumps(to_plain(job)))) == job


@pytest.mark.parametrize("name", table_names())
def test_rows_of_a_grid_are_json_and_come_back(name):
    rows = load_table(name, [("dropout", "0.25")] if name == "papers" else [])
    settings = FitSettings(
        store="s", revision="r", rows=tuple(map(RowSettings.of, rows)), folds=None,
        config=CONFIG.model_dump(exclude_unset=True), device="cpu", weights=None, run="x",
    )  # fmt: skip
    back = from_plain(FitSettings, json.loads(json.dumps(to_plain(settings))))
    assert back.rows == settings.rows
    assert [each.row for each in back.rows] == [_tuples(row) for row in rows]


def _tuples(row):
    return Row(row.label, row.choice, tuple(row.layers), row.settings)


def test_clips_that_another_process_has_read_are_mapped():
    kinds = [((3, 2), torch.empty(0).numpy().dtype), ((5,), torch.empty(0).byte().numpy().dtype)]

    def fill(blocks):
        blocks[0][:] = 7
        blocks[1][-1] = 9

    def refuse(_):
        raise AssertionError("it is filled already")

    with SharedPages() as pages:
        first = pages.blocks(kinds, fill)
        second = SharedPages(pages.descriptor).blocks(kinds, refuse)
    first[0][0, 0] = 5
    assert second[0].tolist() == [[5, 7], [7, 7], [7, 7]]
    assert second[1].tolist() == [0, 0, 0, 0, 9]


def test_results_do_not_depend_on_the_number_of_processes(store, tmp_path, caplog):
    part = _with_one_unlabelled(store, tmp_path / "s.cubes")
    before = torch.get_num_threads()
    one = _train(part, tmp_path / "1", processes=1)
    caplog.clear()
    two = _train(part, tmp_path / "2", processes=2)

    assert torch.get_num_threads() == before
    # Once, not by every process that sets up the same.
    assert [line for line in caplog.messages if "no label" in line] == [
        "1 videos of the store have no label and are left out"
    ]
    assert _without_seconds(one) == _without_seconds(two)
    for path in sorted((tmp_path / "1").rglob("*")):
        other = tmp_path / "2" / path.relative_to(tmp_path / "1")
        if path.suffix == ".safetensors" or path.name == "predictions.csv":
            assert path.read_bytes() == other.read_bytes()
        assert other.exists()


def _with_one_unlabelled(store, path):
    shutil.copytree(store, path)
    first, second, *rest = (path / "manifest.csv").read_text().splitlines()
    row = dict(zip(first.split(","), second.split(","), strict=True)) | {"label": ""}
    (path / "manifest.csv").write_text("\n".join([first, ",".join(row.values()), *rest]) + "\n")
    return path


def _without_seconds(report):
    return [{k: v for k, v in row.__dict__.items() if k != "seconds"} for row in report.heads]


def test_without_room_to_share_clips_one_process_fits(store, tmp_path, monkeypatch, caplog):
    def no_room(*_, **__):
        raise MachineError("no room for 1 MB of clips")

    shared = _train(store, tmp_path / "shared", heads=HEADS[:1])
    monkeypatch.setattr("train.data.pages.unlinked_file", no_room)
    monkeypatch.setattr("pipelines.training.train.most_processes", lambda _: 2)
    caplog.set_level("INFO")
    alone = _train(store, tmp_path / "alone", heads=HEADS[:1])
    assert _without_seconds(alone) == _without_seconds(shared)
    assert "all fits are done in this process: no room for 1 MB of clips" in caplog.messages
    with pytest.raises(MachineError, match="no room"):
        _train(store, tmp_path / "two", heads=HEADS[:1], processes=2)


def test_the_choice_of_validation_is_of_seeds_that_all_heads_have():
    splits = make_folds(np.arange(8) % 2, np.arange(8), num_folds=2, inner_folds=1, seed=0)
    clips = Clips.__new__(Clips)  # which no score needs
    data = Labelled(clips, np.arange(8) % 2, np.arange(8), ("a", "b"), tuple("abcdefgh"))

    def results(better_in, seeds):
        found = []
        for fold, split in enumerate(splits):
            selection = Selection(Candidate(0.1, 0.0), 1.0, float(fold == better_in))
            for seed in range(seeds):
                probs = np.eye(2)[(np.arange(8) % 2)[split.test]]
                found.append(FoldResult(fold, seed, selection, Fit(probs, [0.0], 1, 0.0, [], 1)))
        return found

    heads = {"first": results(0, 3), "second": results(1, 2)}
    reference = pool_tests(heads["first"], data, splits, task=SINGLE_LABEL)
    chosen = chosen_by_validation(heads, data, splits, task=SINGLE_LABEL, reference=reference)
    assert chosen["head_of_fold"] == ["first", "second"]
    assert chosen["balanced_accuracy"] == 1


def test_a_budget_becomes_epochs_before_the_first_fit_and_they_stay(store, tmp_path, monkeypatch):
    costs = {"mean-pool": ClipCosts(0.01, 0.001, 0.01), "soft-attention": ClipCosts(1, 0.1, 0.1)}
    monkeypatch.setattr(
        "pipelines.training.budget.measure_costs", lambda head, *_: costs[head.choice.name]
    )
    config = TrainConfig(clip_frames=3, batch_size=4, learning_rates=(0.1, 1.0), budget=60)
    report = _train(store, tmp_path, config=config)
    epochs = {row.head: row.settings["epochs"] for row in report.heads}
    # Two folds of four videos: of the other four, three are fitted on and one is for validation.
    per_epoch = 2 * 2 * (3 + 0.1) + 2 * 2 * 4
    fixed = 0.1 * (2 * 2 * 3 + 2 * 2 * 4) + 0.1 * 2 * 2 * 4
    assert epochs == {"mean-pool": MOST_EPOCHS, HEADS[1]: int((60 - fixed) / per_epoch)}
    assert {row["settings"]["epochs"] for row in _results(tmp_path)} == set(epochs.values())

    costs["soft-attention"] = ClipCosts(100, 0.1, 0.1)  # a busy machine finds what was found
    again = _train(store, tmp_path, config=config)
    assert again.heads == report.heads


def test_a_budget_below_one_epoch_is_said(store, tmp_path, caplog):
    config = TrainConfig(clip_frames=3, batch_size=4, learning_rates=(0.1,), budget=1e-6)
    report = _train(store, tmp_path, heads=["mean-pool"], config=config)
    assert report.heads[0].settings["epochs"] == 1
    assert "more than `budget` 1e-06" in caplog.text


def test_what_clips_cost_is_measured(store):
    with Store(store) as opened:
        settings = FitSettings.of(
            opened, [Row.parse("soft-attention:hidden=4")], CONFIG, folds=2, device="cpu",
            weights=None, run=Path("x"),
        )  # fmt: skip
        table = Table.load(opened, settings, None)
        (head,) = table.heads.values()
        costs = measure_costs(head, head.data, table.splits[0].fitting, None)
    assert 0 < costs.predict < costs.step < 1
    assert costs.begin >= 0


def _results(run):
    return json.loads((run / "results.json").read_bytes())["heads"]


def test_an_ensemble_is_the_mean_of_the_heads_that_validation_likes_best(store):
    labels = np.arange(8) % 2
    splits = make_folds(labels, np.arange(8), num_folds=2, inner_folds=1, seed=0)
    data = Labelled(Clips.__new__(Clips), labels, np.arange(8), ("a", "b"), ("",) * 8)
    right = np.eye(2)[labels]
    said = {"right": (right, 0.9), "wrong": (0.9 - 0.8 * right, 0.8), "worst": (1 - right, 0.1)}
    results = {
        head: [
            FoldResult(
                fold, seed, Selection(Candidate(0.1, 0.0), 1.0, validation),
                Fit(probs[split.test], [0.0], 1, 0.0, [], 1),
            )
            for fold, split in enumerate(splits)
            for seed in (0, 1)
        ]
        for head, (probs, validation) in said.items()
    }  # fmt: skip
    reference = pool_tests(results["worst"], data, splits, task=SINGLE_LABEL)
    ensemble = chosen_by_validation(
        results, data, splits, task=SINGLE_LABEL, reference=reference, num_heads=2
    )
    assert ensemble["head_of_fold"] == ["right + wrong", "right + wrong"]
    # (1 + 0.1) / 2 is above (0 + 0.9) / 2: the right one is surer.
    assert (ensemble["balanced_accuracy"], ensemble["difference"]) == (1, 1)


def test_heads_are_added_to_the_table_of_a_run(store, tmp_path):
    first = _train(store, tmp_path, heads=HEADS[:1])
    both = _train(store, tmp_path, heads=["max-lstm:hidden=3"], seeds=1)
    assert [row.head for row in both.heads] == ["mean-pool", "max-lstm:hidden=3"]
    assert both.heads[0] == first.heads[0]
    assert [len(row.seeds) for row in both.heads] == [2, 1]
    assert set(both.chosen["head_of_fold"]) <= {row.head for row in both.heads}
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert len(lines) == 1 + 8 * 2 + 8 * 1

    again = _train(store, tmp_path, heads=["mean-pool"])
    assert [row.head for row in again.heads] == ["mean-pool", "max-lstm:hidden=3"]
    turned = _train(store, tmp_path, heads=["max-lstm:hidden=3", "mean-pool"], seeds=1)
    assert [row.head for row in turned.heads] == ["max-lstm:hidden=3", "mean-pool"]
    assert turned.heads[0].difference == 0


@pytest.mark.parametrize("lost", ["row.json", "fold1-seed1-*.json", "fold0-inner0-*.json"])
def test_a_row_whose_fits_are_gone_is_named(store, tmp_path, lost):
    _train(store, tmp_path, heads=HEADS[:1])
    for path in (tmp_path / "fits" / "mean-pool").glob(lost):
        path.unlink()
    with pytest.raises(ContractError, match=r"fits/mean-pool/.*\.json cannot be read"):
        _train(store, tmp_path, heads=["max-lstm:hidden=3"])
    report = _train(store, tmp_path, heads=["mean-pool", "max-lstm:hidden=3"])
    assert len(report.heads) == 2


def test_a_table_that_cannot_be_read_is_named(store, tmp_path):
    _train(store, tmp_path, heads=HEADS[:1])
    for text in ("{", '{"heads": 3}', '{"heads": [{"head": "x"}]}', "[]"):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(ContractError, match=r"results\.json .*remove it"):
            _train(store, tmp_path, heads=HEADS[:1])


def test_results_are_the_same_where_clips_are_read_as_needed(store, tmp_path, caplog):
    caplog.set_level("INFO")
    reports = [_train(store, tmp_path / str(gb), memory=gb, processes=1) for gb in (None, 0.0)]
    assert _without_seconds(reports[0]) == _without_seconds(reports[1])
    said = [line for line in caplog.messages if line.startswith("clips: 8, whose 0.00 GB")]
    assert [line.split("GB ")[1] for line in said] == [
        "are in memory", "are more than `memory`, and read as needed"
    ]  # fmt: skip
    for path in sorted((tmp_path / "None" / "checkpoints").rglob("*.safetensors")):
        other = tmp_path / "0.0" / path.relative_to(tmp_path / "None")
        assert path.read_bytes() == other.read_bytes()
