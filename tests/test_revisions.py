"""Training reads one revision of a store, whatever others add meanwhile, and can read it again."""

import json

import pytest

from features_store.manifest import ManifestRow, write_manifest
from features_store.store import Store
from pipelines.training import planned
from tests.stores import add_unit, make_store

VIDEOS = {f"{label}/{i}.mp4": 3 for label in ("walk", "run") for i in range(6)}
QUICK = ("--head", "mean-pool", "--folds", 2, "--epochs", 2, "--clip-frames", 2)


def results(run):
    document = json.loads((run / "results.json").read_text())
    for head in document["heads"]:
        head.pop("seconds")
    return document["revision"], document["heads"], document["split_hashes"]


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "s.cubes"
    make_store(path, VIDEOS)
    return path


def write_rows(store, ids):
    rows = [ManifestRow(i, i, label=i.split("/")[0], group=i) for i in ids]
    write_manifest(store / "manifest.csv", rows)


def test_a_run_names_one_revision_and_can_be_had_again(cubereel, store, tmp_path, monkeypatch):
    loaded = planned.load_labelled

    def add_then_load(*arguments, **options):
        """Another process adds a video, and replaces one, when the store has been opened."""
        add_unit(store, {"walk/new.mp4": 4, "run/0.mp4": 5}, run_id="meanwhile")
        write_rows(store, [*VIDEOS, "walk/new.mp4"])
        return loaded(*arguments, **options)

    with Store(store) as opened:
        before = opened.revision
    monkeypatch.setattr(planned, "load_labelled", add_then_load)
    assert cubereel("train", store, *QUICK, "--out", tmp_path / "during") == 0
    monkeypatch.undo()
    assert cubereel("train", store, *QUICK, "--out", tmp_path / "now") == 0
    again = (*QUICK, "--revision", before[:12])
    assert cubereel("train", store, *again, "--out", tmp_path / "again") == 0

    assert results(tmp_path / "during")[0] == before
    assert results(tmp_path / "again") == results(tmp_path / "during")
    assert results(tmp_path / "now")[0] != before
    checkpoint = tmp_path / "during" / "checkpoints" / "mean-pool" / "fold0-seed0.json"
    assert json.loads(checkpoint.read_text())["revision"] == before


def test_a_revision_that_is_none_is_refused(cubereel, store, tmp_path):
    unknown = (*QUICK, "--revision", "0" * 64)
    assert cubereel("train", store, *unknown, "--out", tmp_path / "x") == 2
    assert "--revision" in cubereel.err
    assert not (tmp_path / "x").exists()


def test_a_checkpoint_says_when_the_store_has_changed(cubereel, store, tmp_path, caplog):
    run = tmp_path / "run"
    assert cubereel("train", store, *QUICK, "--out", run) == 0
    checkpoint = run / "checkpoints" / "mean-pool" / "fold0-seed0.json"
    assert cubereel("eval", checkpoint, store) == 0
    assert "revision" not in caplog.text
    add_unit(store, {"walk/new.mp4": 4}, run_id="later")
    assert cubereel("eval", checkpoint, store) == 0
    assert "fitted on revision" in caplog.text
