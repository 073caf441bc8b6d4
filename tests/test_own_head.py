"""A head of one's own: the code of docs/own-head.md as it stands, and what is refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from features_store.errors import UsageError
from tests.clips import write_classes
from tests.test_docs import calls_of
from train import TrainConfig, load_checkpoint
from train.heads import HeadChoice, head_class
from train.heads.own import own_name
from train.protocol.table import folder_name

PAGE = (Path(__file__).parents[1] / "docs" / "own-head.md").read_text()
MODULE, LOOP = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
CHECKPOINT = Path("RUN/checkpoints/my_heads-TwoLayers/fold0-seed0.json")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the page's module in `modules`, and the store that its commands name."""
    from pipelines.extraction.extract import extract
    from pipelines.extraction.options import ExtractionOptions

    folder = tmp_path_factory.mktemp("own")
    (folder / "modules").mkdir()
    (folder / "modules" / "my_heads.py").write_text(MODULE)
    videos = write_classes(folder / "videos")
    for label, named, prefix in (("dark", "fight", "fi"), ("bright", "calm", "ca")):
        (videos / label).rename(videos / named)
        for video in sorted((videos / named).iterdir()):
            video.rename(video.with_name(f"{prefix}00{video.name}"))
    manifest = (videos / "manifest.csv").read_text()
    manifest = manifest.replace("dark/", "fight/fi00").replace("bright/", "calm/ca00")
    (videos / "manifest.csv").write_text(manifest)
    options = ExtractionOptions(backbone="tiny:conv", fps="10")
    extract(videos, out=folder / "fight.cubes", options=options)
    return folder


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """An empty folder on Python's path, whose modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def _forget():
    sys.modules.pop("my_heads", None)


def test_the_commands_of_the_page_run(cubereel, place, monkeypatch):
    monkeypatch.chdir(place)
    calls = [words for _, words in calls_of(PAGE)]
    assert [words[0] for words in calls] == ["train", "eval", "explain"]

    with monkeypatch.context() as patch:
        patch.syspath_prepend(place / "modules")
        for words in calls:
            _forget()  # as a new process would
            assert cubereel(*words) == 0, cubereel.err
            if words[0] != "train":
                expected = f"head my_heads:TwoLayers comes from {place}/modules/my_heads.py"
                assert expected in cubereel.err
        assert cubereel("optimise-attention", CHECKPOINT, "fight.cubes") == 0
        assert (place / "where.png").stat().st_size > 1000
    results = json.loads((place / "RUN" / "results.json").read_text())
    assert [row["head"] for row in results["heads"]] == [
        "mean-pool", "my_heads:TwoLayers", "my_heads:TwoLayers:hidden=64,activation=tanh",
    ]  # fmt: skip
    assert json.loads(CHECKPOINT.read_text())["head"] == "my_heads:TwoLayers"
    _forget()
    assert cubereel("eval", CHECKPOINT, "fight.cubes") == 2
    assert cubereel.err == (
        "error: no module 'my_heads' for head 'my_heads:TwoLayers'; install it or put its folder "
        "on PYTHONPATH\n"
    )


def test_the_loop_of_the_page_learns(place):
    code = f"{LOOP}\nprint(sum(losses[:3]) / 3, sum(losses[-3:]) / 3)\n"
    path = os.pathsep.join([str(place / "modules"), str(Path(__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip

    first, last = map(float, done.stdout.split())
    assert last < first / 2


def test_a_table_names_one_too(cubereel, place, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(place / "modules")
    table = tmp_path / "mine.toml"
    table.write_text('[[rows]]\nhead = "my_heads:TwoLayers:hidden=4"\nepochs = 1\n')
    arguments = ("train", place / "fight.cubes", "--table", table, "--out", tmp_path / "run")

    assert cubereel(*arguments) == 0
    assert (tmp_path / "run" / "checkpoints" / "my_heads-TwoLayers-hidden-4").is_dir()
    assert cubereel(*arguments, "--set", "hiden=3") == 2
    assert "'my_heads:TwoLayers' has no option 'hiden'; did you mean 'hidden'" in cubereel.err
    _forget()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a:B", "a:B"), ("a.b_1:C:x=1", "a.b_1:C"), ("mean-pool:motion=both", None), ("a", None),
        ("transformer:Head", None), ("../a:B", None), ("a/b:C", None), ("a:b=c", None),
        (".a:B", None), ("a..b:C", None),
    ],
)  # fmt: skip
def test_what_names_a_module(text, name):
    assert own_name(text) == name
    choice = HeadChoice.parse(text)
    assert not set(folder_name(choice.label)) & set("/:=, ") or name is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os:PathLike", "os, a module of Python itself"),
        ("json.decoder:JSONDecoder", "json.decoder, a module of Python itself"),
        ("sys:X", "a module of Python itself"),
        ("nosuch_module:X", "install it or put its folder on PYTHONPATH"),
        ("__main__:X", "install it or put its folder on PYTHONPATH"),
        ("mine.below:X", "install it or put its folder on PYTHONPATH"),
        ("mine:Haed", r"mine\.py defines no class 'Haed'; did you mean 'Head1'"),
        ("mine:Plain", "'mine:Plain' is no head; write 'class Plain"),
        ("broken:X", r"module broken cannot be read: .*broken\.py:1"),
    ],
)
def test_what_is_no_head_is_refused_and_not_run(modules, name, message):
    ran = modules / "ran"
    (modules / "mine.py").write_text(
        f"open({str(ran)!r}, 'w')\nclass Head1(dict): pass\nclass Plain: pass\n"
    )
    (modules / "broken.py").write_text("class X(\n")

    for ask in (HeadChoice(name).check, lambda: head_class(name)):
        with pytest.raises(UsageError, match=message):
            ask()
    assert not ran.exists()


def test_packages_above_a_module_are_not_run_either(modules):
    package = modules / "lab"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(modules / 'ran')!r}, 'w')\n")
    (package / "heads.py").write_text("class A: pass\n")

    with pytest.raises(UsageError, match=r"'lab\.heads:A' is no head"):
        head_class("lab.heads:A")
    assert not (modules / "ran").exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("class A(dict): pass", "'own1:A' is no head"),
        ("from train import Head\nclass A(Head): pass", "'own1:A' is no head"),  # no forward
        ("\nimport nosuch_thing\nclass A(dict): pass", r"No module named 'nosuch_thing' .*py:2\)"),
    ],
)
def test_a_module_that_was_run_and_has_no_head(modules, code, message):
    (modules / "own1.py").write_text(code)

    HeadChoice("own1:A").check()
    with pytest.raises(UsageError, match=message):
        head_class("own1:A")


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("size", "option 'size' needs a default"),
        ("size=3", "option 'size' must be annotated as bool, int, float, str or Literal"),
        ("size: list = ()", "option 'size' must be annotated as .* got <class 'list'>"),
    ],
)
def test_options_that_no_word_can_be_read_as(modules, parameter, message):
    (modules / "own2.py").write_text(
        "from train import Head\nclass A(Head):\n"
        f"    def __init__(self, *, shape, num_classes, {parameter}): ...\n"
        "    def forward(self, batch, *, attention=None): ...\n"
    )

    with pytest.raises(UsageError, match=message):
        HeadChoice("own2:A").build(clips=_Nothing, num_classes=2)


class _Nothing:
    """Clips of which nothing is asked, as the head is refused before."""

    input_shape = None


def test_a_stranger_s_checkpoint_runs_no_module_of_python(place, tmp_path):
    from pipelines.training.train import train

    train(place / "fight.cubes", heads=["mean-pool"], out=tmp_path, config=TrainConfig(epochs=1))
    path = tmp_path / "checkpoints" / "mean-pool" / "fold0-seed0.json"
    assert load_checkpoint(path)[1].head == "mean-pool"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"head": "antigravity:Head"}))

    with pytest.raises(UsageError, match="antigravity, a module of Python itself"):
        load_checkpoint(path)
    assert "antigravity" not in sys.modules
