"""Tables of heads, and runs that go on where they were stopped."""

import dataclasses
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from features_store.errors import ContractError, UsageError
from features_store.format.layout import LayerShape
from features_store.manifest import ManifestRow, write_manifest
from features_store.store import Store
from pipelines.training.train import train
from tests.stores import header, make_store
from train.data.clips import Clips
from train.data.windows import WindowPlan
from train.fitting.config import TrainConfig
from train.fitting.state import Candidate, FitState
from train.heads import HeadChoice, head_class
from train.protocol.jobs import FitJob
from train.protocol.run_folder import RunFolder
from train.protocol.runs import Fit
from train.protocol.table import Row, load_table, parse_table, table_names

LAYERS = tuple(LayerShape(name, 2, dim) for name, dim in (("low", 8), ("mid", 4), ("top", 6)))
GROUPS = 6
TWO = TrainConfig(clip_frames=3, epochs=2, batch_size=4)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "s.cubes"
    videos = {f"{label}/{i}": 4 for label in ("a", "b") for i in range(GROUPS)}
    make_store(path, videos, store_header=header(layers=LAYERS))
    lines = [f"{video},{video},{video[0]},g{video[2:]},\n" for video in videos]
    (path / "manifest.csv").write_text("video_id,path,label,group,split\n" + "".join(lines))
    return path


def _run(store, out, **said):
    said = {"heads": ["mean-pool", "avg-lstm:hidden=3"], "config": TWO, "folds": 2} | said
    return train(store, out=out, device="cpu", **said)


@pytest.mark.parametrize("name", table_names())
def test_every_table_of_ours_has_heads_that_can_be_built(name, tmp_path):
    layers = tuple(LayerShape(name, 7, 64) for name in "abcd")
    make_store(tmp_path / "s", {"v": 2}, store_header=header(layers=layers))
    with Store(tmp_path / "s") as opened:
        clips = Clips(opened, opened.ids, windows=WindowPlan(num_steps=3))
    rows = load_table(name)

    assert table_names()[name]
    for row in rows:
        row.config(TrainConfig())
        choice, part = row.choice, clips.of_layers(row.layer_names(clips.layers))
        if head_class(choice.name).takes_tail:
            choice = replace(choice, tail=nn.Identity())
        choice.build(part, 2)


PAPERS = ["soft-attention", "hm-an", "pyramid-attention", "saliency-convlstm", "m2a"]


@pytest.mark.parametrize("name", PAPERS)
def test_every_ablation_of_a_paper_runs(name, tmp_path):
    layers = tuple(LayerShape(layer, 4, 16) for layer in "abc")
    videos = [f"{split}/{label}{i}" for split in ("train", "val", "test") for label in "ab"
              for i in range(2)]  # fmt: skip
    make_store(tmp_path / "s", dict.fromkeys(videos, 3), store_header=header(layers=layers))
    rows = [ManifestRow(v, v, label=v[-2], group=v, split=v.split("/")[0]) for v in videos]
    write_manifest(tmp_path / "s" / "manifest.csv", rows)
    config = TrainConfig(clip_frames=3, epochs=1, learning_rates=(1e-3,), last_n=2)

    report = train(
        tmp_path / "s", heads=load_table(name), out=tmp_path / "run", device="cpu", config=config
    )

    assert len(report.heads) == len(load_table(name))
    assert all(0 <= row.balanced_accuracy <= 1 for row in report.heads)


def test_a_row_takes_what_the_user_does_not_say():
    (row,) = parse_table(
        {"defaults": {"epochs": 7, "batch-size": 3}, "rows": [{"head": "mean-pool", "epochs": 5}]},
        name="g",
    )

    assert (row.config(TrainConfig()).epochs, row.config(TrainConfig()).batch_size) == (5, 3)
    assert row.config(TrainConfig(epochs=1)).epochs == 1
    assert row.config(TrainConfig(clip_frames=9)).clip_frames == 9


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((), ["low", "mid", "top"]),
        ((-1,), ["top"]),
        ((-2, -1), ["mid", "top"]),
        (("low",), ["low"]),
    ],
)
def test_layers_are_names_or_counted_from_the_top(layers, expected):
    row = Row("r", HeadChoice("mean-pool"), layers)

    assert row.layer_names(["low", "mid", "top"]) == expected


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"row": []}, r"table g has 'row'; did you mean 'rows'"),
        ({"rows": []}, r"needs \[\[rows\]\]"),
        ({"rows": [{"head": "mean-pool", "epoch": 3}]}, r"row 'mean-pool' has 'epoch'; did you"),
        ({"rows": [{"head": "mean-pool", "epochs": 0}]}, r"`epochs`: .*greater than or equal to 1"),
        ({"rows": [{"head": "mean-pool", "clip_frames": 3}]}, "has 'clip_frames'"),
        ({"rows": [{"head": "mean-pool", "layer": "top"}]}, "must be a list of names or of places"),
        ({"rows": [{"name": "x"}]}, 'needs head = "NAME"'),
        ({"rows": [{"head": "mean-pool"}] * 2}, "has two rows 'mean-pool'"),
        ({"rows": ["mean-pool"]}, r"needs \[\[rows\]\]"),
        ({"rows": [{"head": "mean-pool", "name": ".."}]}, "a name needs a letter"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(document, message):
    with pytest.raises(UsageError, match=message):
        parse_table(document, name="g")


@pytest.mark.parametrize(
    ("layer", "message"),
    [(-4, r"needs layer -4 .* only 3: low, mid, top; extract"), ("to", "did you mean 'top'"),
     (0, "needs layer 0")],
)  # fmt: skip
def test_a_layer_that_is_not_there(layer, message):
    with pytest.raises(UsageError, match=message):
        Row("r", HeadChoice("mean-pool"), (layer,)).layer_names(["low", "mid", "top"])


def test_a_file_is_a_table_too(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[[rows]]\nhead = "avg-lstm:hidden=4"\nname = "small"\n')

    (row,) = load_table(str(path), [("layers", "2")])
    assert row.label == "small"
    assert dict(row.choice.options) == {"layers": "2", "hidden": "4"}
    path.write_text("[[rows]")
    with pytest.raises(UsageError, match=r"mine\.toml cannot be read"):
        load_table(str(path))
    with pytest.raises(UsageError, match="no table 'head'; did you mean 'heads'"):
        load_table("head")


def test_layers_are_taken_from_clips_without_reading_again(store):
    with Store(store) as opened:
        clips = Clips(opened, opened.ids, windows=WindowPlan(num_steps=3))
        part = clips.of_layers(["top", "low"])
        alone = Clips(
            opened, opened.ids, windows=WindowPlan(num_steps=3), layers=["top", "low"],
            memory_bytes=0,
        )  # fmt: skip

        assert list(part.input_shape.layers) == ["top", "low"]
        one, other = part.batch([2, 5]), alone.batch([2, 5])
    for name in ("top", "low"):
        np.testing.assert_array_equal(one.cubes[name], other.cubes[name])
    np.testing.assert_array_equal(one.diffs, other.diffs)


def test_a_run_that_was_stopped_goes_on(store, tmp_path, monkeypatch):
    whole = _run(store, tmp_path / "whole", seeds=2)

    def stop_after(num_fits):
        keep = RunFolder.keep

        def keep_or_stop(self, *done):
            nonlocal num_fits
            num_fits -= 1
            if num_fits < 0:
                raise KeyboardInterrupt
            keep(self, *done)

        monkeypatch.setattr(RunFolder, "keep", keep_or_stop)

    for num_fits in (1, 3, 5):
        with monkeypatch.context() as patch:
            monkeypatch = patch
            stop_after(num_fits)
            with pytest.raises(KeyboardInterrupt):
                _run(store, tmp_path / "parts", seeds=2)
    parts = _run(store, tmp_path / "parts", seeds=2)

    first, second = (tmp_path / name / "predictions.csv" for name in ("whole", "parts"))
    assert first.read_text() == second.read_text()
    assert [row.balanced_accuracy for row in whole.heads] == [
        row.balanced_accuracy for row in parts.heads
    ]
    records = {p: p.stat().st_mtime_ns for p in (tmp_path / "parts" / "fits").rglob("*.json")}
    again = _run(store, tmp_path / "parts", seeds=2)
    assert again.heads == parts.heads
    assert records == {p: p.stat().st_mtime_ns for p in records}


def test_more_seeds_and_heads_are_added_to_a_run(store, tmp_path):
    _run(store, tmp_path, heads=["mean-pool"])
    (fit,) = (tmp_path / "fits" / "mean-pool").glob("fold0-seed0-*.json")
    before = fit.stat().st_mtime_ns

    report = _run(store, tmp_path, heads=["mean-pool", "max-lstm:hidden=3"], seeds=2)
    assert fit.stat().st_mtime_ns == before
    assert [row.head for row in report.heads] == ["mean-pool", "max-lstm:hidden=3"]
    assert len(report.heads[0].seeds) == 2


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"folds": 3}, r"split_hashes\S*: there"),
        ({"config": TrainConfig(clip_frames=3, epochs=3, batch_size=4)}, r"config\.\w+: there"),
        ({"config": TWO.model_copy(update={"learning_rates": (0.1,)})}, "candidates: there"),
    ],
)
def test_fits_of_something_else_are_refused(store, tmp_path, said, message):
    _run(store, tmp_path, heads=["mean-pool"])

    with pytest.raises(UsageError, match=rf"holds fits of another run; .*{message}.*`out`"):
        _run(store, tmp_path, heads=["mean-pool"], **said)


def test_fits_of_other_features_are_refused(store, tmp_path):
    _run(store, tmp_path / "run", heads=["mean-pool"])
    videos = {f"{label}/{i}": 5 for label in ("a", "b") for i in range(GROUPS)}
    make_store(tmp_path / "s", videos, store_header=header(layers=LAYERS))
    shutil.copy(store / "manifest.csv", tmp_path / "s")

    with pytest.raises(UsageError, match=r"holds fits of another run; features: there"):
        _run(tmp_path / "s", tmp_path / "run", heads=["mean-pool"])


def test_fits_of_other_defaults_are_refused(store, tmp_path, monkeypatch):
    _run(store, tmp_path, heads=["mean-pool"])

    monkeypatch.setattr(head_class("mean-pool"), "learning_rate", 0.5)
    with pytest.raises(UsageError, match=r"another run; candidates\[0\]\.learning_rate: there"):
        _run(store, tmp_path, heads=["mean-pool"])


def test_a_run_folder_cannot_be_a_file(store, tmp_path):
    (tmp_path / "run").write_text("x")

    with pytest.raises(UsageError, match="run' is a file, not a folder"):
        _run(store, tmp_path / "run")


def test_a_rate_that_diverges_loses_or_is_named(store, tmp_path, monkeypatch):
    def diverge(state, *rest):
        step(state, *rest)
        if state._candidate.learning_rate == 10:
            nn.init.constant_(state.head.classify.weight, torch.nan)

    step = FitState.step
    monkeypatch.setattr(FitState, "step", diverge)
    rates = TrainConfig(clip_frames=3, epochs=2, batch_size=4, learning_rates=(10, 1e-3))
    report = _run(store, tmp_path / "a", heads=["mean-pool"], config=rates)

    chosen = [s["candidate"]["learning_rate"] for s in report.heads[0].selections]
    assert chosen == [1e-3, 1e-3]
    alone = rates.model_copy(update={"learning_rates": (10.0,)})
    with pytest.raises(UsageError, match=r"mean-pool diverged in fold 0, seed 0, .* 10; give"):
        _run(store, tmp_path / "b", heads=["mean-pool"], config=alone)


@pytest.mark.parametrize("option", ["tail", "shape", "num_classes", "name"])
def test_what_is_no_option_of_a_head_is_refused(store, tmp_path, option):
    with pytest.raises(UsageError, match=f"head 'mean-pool' has no option '{option}'"):
        _run(store, tmp_path / "run", heads=[f"mean-pool:{option}=x"])
    assert not (tmp_path / "run").exists()


def test_a_damaged_record_is_named(store, tmp_path):
    _run(store, tmp_path, heads=["mean-pool"])
    (path,) = (tmp_path / "fits" / "mean-pool").glob("fold1-seed0-*.json")

    for text in ("{", "[]", '{"probs": 3}'):
        path.write_text(text)
        with pytest.raises(ContractError, match=r"fold1-seed0-.*\.json .*remove it"):
            _run(store, tmp_path, heads=["mean-pool"])
    path.unlink()
    _run(store, tmp_path, heads=["mean-pool"])


def test_a_fit_comes_back_as_it_was(tmp_path):
    fit = Fit(
        np.random.default_rng(0).random((3, 2)), [0.5, 0.1], 7, 1.25, [(0.5, 0.7), (0.6, 0.6)], 2
    )
    folder, job = RunFolder(tmp_path), FitJob("h", 0, 1, Candidate(0.1, 0.0))
    folder.record(job).parent.mkdir(parents=True)

    folder.keep(job, fit)
    back = folder.read(job)
    np.testing.assert_array_equal(back.probs, fit.probs)
    assert dataclasses.replace(back, probs=fit.probs) == fit


def test_the_first_head_is_what_others_are_compared_with(store, tmp_path):
    report = _run(store, tmp_path, seeds=2)

    first, second = report.heads
    assert (first.difference, first.interval, first.band) == (0, (0, 0), (0, 0))
    assert second.difference == second.balanced_accuracy - first.balanced_accuracy
    assert second.interval[0] <= second.difference <= second.interval[1]
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["heads"][1]["layers"] == ["low", "mid", "top"]
