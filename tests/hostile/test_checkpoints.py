"""Checkpoints, weights and run folders of strangers: one line, and memory for what they are."""

import json
import os
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from features_store.errors import ContractError, UsageError
from pipelines.training.compare import compare
from tests.hostile.limits import assert_refused, run_limited
from tests.stores import make_store

TRAIN = ("--head", "mean-pool", "--epochs", 1, "--folds", 2, "--processes", 1)
CHECKPOINT = "checkpoints/mean-pool/fold0-seed0"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store, and a run on it."""
    from pipelines.training.train import train
    from train.fitting.config import TrainConfig

    folder = tmp_path_factory.mktemp("made")
    make_store(folder / "s", {f"{label}/v{i}": 3 for label in "ab" for i in range(4)})
    config = TrainConfig(epochs=1)
    train(folder / "s", heads=["mean-pool"], folds=2, out=folder / "run", config=config,
          processes=1, device="cpu")  # fmt: skip
    return folder


@pytest.fixture
def run(made, tmp_path):
    """A copy of the run, to be spoilt."""
    import shutil

    return shutil.copytree(made / "run", tmp_path / "run")


def deep(levels):
    document = []
    for _ in range(levels):
        document = [document]
    return document


LSTM = {"head": "avg-lstm", "layers": {"top": [2, 8]}}
SAID = {
    "hidden": LSTM | {"options": {"hidden": "1000000000"}},
    "layers": LSTM | {"options": {"layers": str(2**62)}},
    "channels": {"layers": {"top": [2, 10**9]}},
    "cells": {"layers": {"top": [10**5, 8]}},
    "clip frames": {"config": {"clip_frames": 10**12}},
    "epochs": {"config": {"epochs": 10**400}},
    "not a number": {"config": {"clip_gradients": float("nan")}},
    "thresholds": {"thresholds": [float("inf"), 0.5]},
    "a name of 300 characters": {"head": "x" * 300},
    "a backbone that is a number": {"spec": {"backbone": 3}},
    "no fps": {"spec.sampling.value": "1e999999999"},
    "one through nothing": {"spec.sampling.value": "1/0"},
    "depth": {"spec": deep(500)},
    "much depth": {"spec": deep(900)},
}


@pytest.mark.parametrize("what", SAID)
def test_a_checkpoint_that_says_what_cannot_be(made, run, tmp_path, what):
    path = run / f"{CHECKPOINT}.json"
    document = json.loads(path.read_text())
    for name, value in SAID[what].items():
        if name == "spec.sampling.value":
            document["spec"]["sampling"]["value"] = value
        elif isinstance(value, dict) and name in ("config", "spec"):
            document[name] |= value
        else:
            document[name] = value
    path.write_text(json.dumps(document))

    assert_refused(run_limited(tmp_path, "eval", path, made / "s"), 2, 3)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def deep_text(path):
    path.write_text("[" * 10**5)


def empty(path):
    path.write_bytes(b"")


def folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [pipe, deep_text, empty, folder])
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_file_of_a_checkpoint_that_is_none(made, run, tmp_path, suffix, spoil):
    spoil(run / f"{CHECKPOINT}{suffix}")

    done = run_limited(tmp_path, "eval", run / f"{CHECKPOINT}.json", made / "s")
    is_no_file = suffix == ".json" and spoil in (pipe, folder)
    assert_refused(done, 2 if is_no_file else 3)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("run.json", pipe), ("run.json", deep_text), ("run.json", empty), ("results.json", pipe),
        ("results.json", folder), ("log.jsonl", pipe), ("log.jsonl", deep_text),
    ],
)  # fmt: skip
def test_a_file_of_a_run_that_is_none(made, run, tmp_path, name, spoil):
    spoil(run / name)

    done = run_limited(tmp_path, "train", made / "s", *TRAIN, "--out", run)
    if (name, spoil) == ("log.jsonl", deep_text):
        assert done.code == 0, done
    else:
        assert_refused(done, 2, 3)


@pytest.mark.parametrize(
    "table",
    [
        "", "head,fold\n", "head,fold,seed,video_id,set,label\nmean-pool\n",
        "head,fold,seed,video_id,set,label\nmean-pool,x,0,a,b,c\n",
        "head,fold,seed,video_id,set,label\nmean-pool,0,0,a,b,zebra\n",
        "head,fold,seed,video_id,set,label\n" + "x," * 2**18, "\0",
    ],
)  # fmt: skip
def test_predictions_that_are_none(made, run, table):
    (run / "predictions.csv").write_text(table)

    with pytest.raises(ContractError):
        compare(run, made / "run")


@pytest.mark.parametrize(
    "said",
    [
        {"probs": [[0.5], [0.5, 0.5]]}, {"probs": "x"}, {"probs": [["x"]]}, {"train_losses": []},
        {"train_losses": ["x"]}, {"curve": [[1]]}, {"curve": [[1, 2, 3]]}, {"epochs": 10**6},
        {"epochs": "x"}, {"seconds": None}, {"map_means": []},
    ],
)  # fmt: skip
def test_a_record_of_a_fit_that_is_none(cubereel, run, tmp_path, said):
    for path in run.glob("fits/*/fold*-inner*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | said))

    assert cubereel("runs", "plot", run, "--out", tmp_path / "plots") == 3
    assert "is no record of a fit" in cubereel.err


def test_a_table_that_lacks_a_fold(cubereel, run):
    path = run / "results.json"
    table = json.loads(path.read_text())
    for row in table["heads"]:
        row["selections"] = row["selections"][:1]
    path.write_text(json.dumps(table))

    assert cubereel("runs", "compare", run, run) == 3
    assert "has no fold of head 'mean-pool' that tests" in cubereel.err


@pytest.mark.parametrize("shape", [(7, 10**19), (10**10, 8), (0, 8), (7, -1)])
def test_a_head_on_cubes_that_no_store_has(shape):
    from train.data.batch import InputShape
    from train.heads import build_head

    with pytest.raises(UsageError, match="layer 'top' has cubes"):
        build_head("mean-pool", shape=InputShape({"top": shape}), num_classes=2)


@pytest.mark.parametrize("prob", [1e308, float("inf"), -0.5])
def test_a_probability_that_is_none(cubereel, run, prob):
    for path in run.glob("fits/*/fold?-seed*.json"):
        record = json.loads(path.read_text())
        record["probs"][0][0] = prob
        path.write_text(json.dumps(record))

    assert cubereel("runs", "compare", run, run) == 3
    assert "probability that is not between 0 and 1" in cubereel.err


@pytest.mark.parametrize(
    "said",
    [
        {"heads": 3}, {"heads": [{"head": "x"}]}, {"classes": "ab"}, {"classes": ["a"]},
        {"config": []}, {"heads": [{"head": "m", "seeds": [], "selections": [{"epochs": 1}]}]},
    ],
)  # fmt: skip
def test_a_table_that_is_none(cubereel, made, run, tmp_path, said):
    path = run / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | said))

    for verb in (("plot", run, "--out", tmp_path / "plots"), ("compare", run, made / "run")):
        assert cubereel("runs", *verb) == 3
        assert "is no table of results" in cubereel.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rows = " + "[" * 10**4, "nested too deeply"),
        ("x = " + "9" * 4000, "digits"),
        (".".join("a" * 3000) + " = 1", "dots"),
        ("[[rows]]\nhead = 'avg-lstm:hidden=1000000000'", "at most 65536"),
        (f"[[rows]]\nhead = 'mean-pool'\nname = '{'x' * 300}'", "cannot name a folder"),
        ('[[rows]]\nhead = "mean-pool"\nname = "a\\u0000b"', "cannot name a folder"),
        ("[[rows]]\nhead = 'mean-pool'\nclip_gradients = nan", "clip_gradients"),
    ],
)
def test_a_table_of_heads_that_is_none(tmp_path, text, said):
    from features_store.errors import UsageError
    from train.protocol.table import load_table

    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(UsageError, match=said):
        load_table(str(tmp_path / "t.toml"))


@pytest.mark.parametrize(
    "flags",
    [
        ("--clip-frames", 10**12), ("--batch-size", 10**12), ("--epochs", 10**30),
        ("--set", "motion=" + "x" * 300), ("--head", "avg-lstm:hidden=65536,layers=64"),
        ("--head", "avg-lstm:layers=4611686018427387904"), ("--last-n", 10**20),
    ],
)  # fmt: skip
def test_flags_that_would_fill_the_memory(made, tmp_path, flags):
    arguments = ("train", made / "s", *TRAIN, *flags, "--out", tmp_path / "new")

    assert_refused(run_limited(tmp_path, *arguments), 2)
    assert not (tmp_path / "new" / "fits").exists()


def deflated(path, state):
    torch.save(state, path)
    with zipfile.ZipFile(path) as plain:
        members = {info.filename: plain.read(info) for info in plain.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


TENSOR = torch.zeros(3)
STATES = {
    "integer keys": {0: TENSOR},
    "sparse": {"stem.0.weight": torch.zeros(3).to_sparse()},
    "meta": {"stem.0.weight": torch.zeros(3, device="meta")},
    "complex": {"stem.0.weight": torch.zeros(3, dtype=torch.complex64)},
    "a list": [TENSOR],
    "a number": 3,
}


@pytest.mark.parametrize("what", [*STATES, "empty", "deflated", "legacy", "half", "pickle", "pipe"])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_weights_that_are_none(tmp_path, what):
    from extract.backbones.weights import read_state_dict

    path = tmp_path / "w.pth"
    if what in STATES:
        torch.save(STATES[what], path)
    elif what == "deflated":
        deflated(path, {"stem.0.weight": torch.zeros(2**22)})
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "legacy":
        with path.open("wb") as file:
            file.truncate(2**31)
    else:
        torch.save({"a": TENSOR}, path)
        half = path.read_bytes()[: path.stat().st_size // 2]
        path.write_bytes({"empty": b"", "half": half, "pickle": b"\x80\x02}q\x00."}[what])
        if what == "pickle":
            path.write_bytes(b"\x80\x02cos\nsystem\n.")

    with pytest.raises(UsageError if what == "pipe" else ContractError, match=r"w\.pth"):
        read_state_dict(path)


def test_a_large_tensor_takes_memory_only_where_it_fits(tmp_path):
    """3 GB that lie in a hole of the file, of another shape than the network has."""
    from extract.backbones.tiny import load_tiny

    torch.save({"stem.0.weight": TENSOR}, tmp_path / "small.pth")
    header = json.dumps(
        {"stem.0.weight": {"dtype": "F32", "shape": [3 * 2**28], "data_offsets": [0, 3 * 2**30]}}
    ).encode()
    path = tmp_path / "w.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 3 * 2**30)
    before = _peak_bytes()
    with pytest.raises(ContractError, match="do not fit TinyConv"):
        load_tiny("conv", path, True)
    assert _peak_bytes() - before < 2**28


@pytest.mark.parametrize("is_archive", [True, False])
def test_a_key_whose_hash_would_take_for_ever(tmp_path, is_archive):
    from extract.backbones.weights import read_state_dict

    # A dict with one key: 60 tuples, each of which holds the one before twice.
    content = b"\x80\x02}(" + b"(t" + b"".join(b"q%c%b\x86" % (i, b"h%c" % i) for i in range(60))
    path = tmp_path / "w.pth"
    torch.save({"a": TENSOR}, path, _use_new_zipfile_serialization=is_archive)
    if is_archive:
        with zipfile.ZipFile(path) as plain:
            members = {info.filename: plain.read(info) for info in plain.infolist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, each in members.items():
                archive.writestr(name, content + b"Nu." if name.endswith(".pkl") else each)
    else:
        path.write_bytes(content + b"Nu.")

    with pytest.raises(ContractError, match="reaches more than"):
        read_state_dict(path)


def _peak_bytes():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_weights_of_a_checkpoint_of_another_shape(made, run, tmp_path):
    path = run / f"{CHECKPOINT}.safetensors"
    save_file({"other": TENSOR}, path)

    done = run_limited(tmp_path, "eval", run / f"{CHECKPOINT}.json", made / "s")
    assert_refused(done, 3)
    assert "does not hold the weights of head 'mean-pool'" in done.err


def test_a_formula_in_a_table_is_shown_and_read_again(tmp_path):
    from pipelines.training.spreadsheets import quoted, unquoted

    hostile = ["=cmd|' /C calc'!A0", "@SUM(1)", "+1+cmd|'x'!A", "\t=1", "'=x", "-1+2|x"]
    for text in hostile:
        assert quoted(text) == f"'{text}"
        assert unquoted(quoted(text)) == text
    for text in ["walk/a.mp4", "-0aB3_x.mp4", "-1.5", "+1", "'plain", ""]:
        assert quoted(text) == text == unquoted(text)
