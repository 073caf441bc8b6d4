"""The same mistake has the same exit code and the same words in every verb that there is."""

import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import typer.main

from features_store import paths
from features_store.exchange import export_store
from features_store.manifest import ManifestRow, write_manifest
from features_store.paths import FOLDER, NewKind
from pipelines.cli.main import app
from pipelines.training.train import train
from tests.mistakes import EMPTY, FORBIDDEN, MISSING, NO_NUMBER, OTHER, TAKEN, UNKNOWN, table
from tests.stores import make_store
from tests.verbs import all_verbs
from train.fitting.config import TrainConfig

ROOT, PROGRAM = Path(__file__).parents[1], typer.main.get_command(app)
VERBS = list(all_verbs())
WRONG, HEAD, VIDEO = "nosuch", "soft-attention:hidden=4", "dark/0.mp4"
ANY_TEXT = ("licence", "origin", "citation", "name")
NEEDED = {
    "folds": 2, "test": 0.5, "what": "heads", "kind": "npz", "heads": HEAD, "video": VIDEO,
}  # fmt: skip
TINY = {"backbone": "tiny:conv", "fps": "10"}
BESIDE = {
    "extract": TINY, "plan": TINY, "bench extract": TINY, "train": {"heads": HEAD},
    "store import": {"name": "x"}, "store describe": {"licence": "MIT"},
    "store export": {"pool": "mean"},
}  # fmt: skip
TOGETHER = {  # with what else a name is given
    "optimise-attention label": {"video": VIDEO},
    "runs compare head_a": {"head_b": HEAD},
    "runs compare head_b": {"head_a": HEAD},
}


def cases(choose):
    """Return verbs with those of their parameters that are chosen."""
    return [
        pytest.param(verb, each, id=f"{verb} {each.name}")
        for verb in VERBS
        for each in verb.parameters
        if choose(each)
    ]


@pytest.fixture(autouse=True)
def _the_command_is_made_once(monkeypatch):
    monkeypatch.setattr(sys.modules["pipelines.cli.main"], "app", PROGRAM)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with one thing of every kind, by its name."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "source" / "dark").mkdir(parents=True)
    (folder / "source" / VIDEO).write_text("no video")
    splits = {f"{label}/{i}.mp4": s for i, s in enumerate(("train", "val", "test"))
              for label in ("dark", "bright")}  # fmt: skip
    make_store(folder / "store", dict.fromkeys(splits, 3))
    rows = [ManifestRow(i, i, i.split("/")[0], i, split) for i, split in splits.items()]
    write_manifest(folder / "store" / "manifest.csv", rows)
    config = TrainConfig(epochs=1, learning_rates=(1e-3,), clip_frames=2)
    train(folder / "store", heads=[HEAD], out=folder / "run folder", config=config, device="cpu")
    export_store(folder / "store", folder / "features", kind="npz", pool="mean")
    for name in ("weights", "list of ids", "annotations", "other"):
        (folder / name).write_text("x")
    (folder / "configuration").touch()
    return folder


@pytest.fixture
def values(place, tmp_path):
    """Return what to give a verb for what it needs; new paths are new ones each time."""
    number = count()
    checkpoint = "run folder/checkpoints/soft-attention-hidden-4/fold0-seed0.json"
    known = {
        "store": place / "store", "run folder": place / "run folder", "manifest": place / "store",
        "checkpoint": place / checkpoint, "video": place / "source" / VIDEO,
    }  # fmt: skip

    def of(verb):
        source = place / ("features" if str(verb) == "store import" else "source")
        found = {}
        for each in verb.parameters:
            if each.is_needed and each.is_path:
                new = tmp_path / f"new{next(number)}.png"
                found[each.name] = {**known, "source": source}.get(each.kind.name, new)
            elif each.is_needed and each.name != "options":
                found[each.name] = NEEDED[each.name]
        if str(verb) == "manifest apply":  # the store itself is its other path
            found["source"] = place / "store" / "manifest.csv"
        return found | BESIDE.get(str(verb), {})

    return of


def check(cubereel, line, mistake, *, kind="", path=""):
    """Run a command line; it says the mistake in one line and has its exit code."""
    code = cubereel(*line)
    errors = [said for said in cubereel.err.splitlines() if said.startswith("error: ")]
    begins = mistake.says.replace("KIND", kind).replace("PATH", str(path))

    assert "Traceback" not in cubereel.err
    assert [said[: len(begins) + 7] for said in errors] == [f"error: {begins}"], cubereel.err
    assert code == mistake.error.exit_code


@pytest.mark.parametrize(("verb", "parameter"), cases(lambda each: each.is_path))
def test_every_path_is_checked_before_anything_else(verb, parameter):
    assert parameter.kind is not None, "give it a kind of features_store.paths"


@pytest.mark.parametrize(
    ("verb", "parameter"), cases(lambda each: each.kind and not isinstance(each.kind, NewKind))
)
def test_nothing_lies_at_a_path(cubereel, values, tmp_path, verb, parameter):
    path = tmp_path / "missing.json"
    line = verb.line(values(verb) | {parameter.name: path})
    check(cubereel, line, MISSING, kind=parameter.kind.name, path=path)


@pytest.mark.parametrize(
    ("verb", "parameter"), cases(lambda each: each.kind and len(each.kind.takes) == 1)
)
def test_something_else_lies_there(cubereel, values, place, tmp_path, verb, parameter):
    kind = parameter.kind
    is_of_files = "file" in kind.takes or kind.holds
    mistake, path = (OTHER, tmp_path / "a") if is_of_files else (TAKEN, place / "other")
    (tmp_path / "a").mkdir()
    line = verb.line(values(verb) | {parameter.name: path})
    check(cubereel, line, mistake, kind=kind.name, path=path)


@pytest.mark.parametrize(("verb", "parameter"), cases(lambda each: each.kind and each.kind.is_data))
def test_a_source_is_empty(cubereel, values, tmp_path, verb, parameter):
    folder, file = tmp_path / "empty", tmp_path / "empty.csv"
    folder.mkdir()
    file.touch()
    for path in (folder, file):
        line = verb.line(values(verb) | {parameter.name: path})
        check(cubereel, line, EMPTY, kind=parameter.kind.name, path=path)


@pytest.mark.parametrize(("verb", "parameter"), cases(lambda each: each.kind))
def test_there_is_no_permission(cubereel, values, place, tmp_path, monkeypatch, verb, parameter):
    kind, given = parameter.kind, values(verb)
    path = place / "source" if kind is FOLDER else given.get(parameter.name, place / kind.name)
    barred, mistake = path, FORBIDDEN
    if isinstance(kind, NewKind):
        barred, path = tmp_path / "mine", tmp_path / "mine" / "new.png"
        barred.mkdir()
        mistake = replace(FORBIDDEN, says=FORBIDDEN.says.replace("read", "write"))
    # The tests may run as a user whom nothing is forbidden.
    monkeypatch.setattr(paths.os, "access", lambda at, _: Path(at) != barred)
    line = verb.line(given | {parameter.name: path})
    check(cubereel, line, mistake, kind=kind.name, path=path)


@pytest.mark.parametrize(
    ("verb", "parameter"), cases(lambda each: each.is_free and each.name not in ANY_TEXT)
)
def test_a_name_that_there_is_not_is_a_mistake_of_the_command(cubereel, values, verb, parameter):
    together = TOGETHER.get(f"{verb} {parameter.name}", {})

    code = cubereel(*verb.line(values(verb) | together | {parameter.name: WRONG}))

    assert (code, cubereel.err.count("Traceback")) == (UNKNOWN.error.exit_code, 0), cubereel.err
    assert f"'{WRONG}'" in cubereel.err.splitlines()[-1]


@pytest.mark.parametrize(("verb", "parameter"), cases(lambda each: each.type in (int, float)))
def test_a_text_is_no_number(cubereel, values, verb, parameter):
    code = cubereel(*verb.line(values(verb) | {parameter.name: "x"}))

    said = NO_NUMBER.says.replace("--FLAG", parameter.flag)
    assert cubereel.err.splitlines()[-1].startswith(f"Error: {said}"), cubereel.err
    assert code == NO_NUMBER.error.exit_code


def test_the_page_has_the_table_that_is_tested():
    assert table() in (ROOT / "docs" / "exit-codes.md").read_text()
