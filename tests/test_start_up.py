"""Start-up stays light: who asks for help or reads a spec does not wait for torch or h5py."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import extract
import features_store
import pipelines
import train
from features_store.views import VIEWS
from train.data.kinds import View


def _loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import pipelines.cli", {"torch", "h5py", "av", "timm", "sklearn", "numpy"}),
        ("import pipelines.extraction.request", {"torch", "av", "timm", "sklearn"}),
        ("import extract.decode.worker", {"torch", "h5py"}),
        ("import train", {"torch", "numpy", "pydantic", "h5py"}),
        ("import train.heads, train.protocol.grid", {"torch", "numpy", "pydantic"}),
        ("from features_store import Store", {"torch", "av", "timm", "dask", "sklearn"}),
    ],
)
def test_what_is_not_needed_is_not_imported(statement, unwanted):
    assert not _loaded_by(statement) & unwanted


def test_every_public_name_of_the_store_is_there():
    for names in features_store._MODULES.values():
        for name in names:
            assert getattr(features_store, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Shop'"):
        features_store.Shop  # noqa: B018


def test_every_public_name_of_the_trainer_is_there():
    names = {name for names in train._MODULES.values() for name in names}

    assert names <= set(dir(train))
    for name in names:
        assert getattr(train, name).__name__ == name
    assert callable(train.fit)
    with pytest.raises(AttributeError, match="no attribute 'Model'"):
        train.Model  # noqa: B018


def test_heads_and_grids_are_listed_without_torch():
    code = (
        "import sys\nsys.modules['torch'] = sys.modules['numpy'] = None\n"
        "from pipelines.cli import main\nmain()"
    )
    for what, said in (("heads", "diffs=none|frames|cubes|both [none]"), ("grids", "soft-att")):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, "list", what],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert said in done.stdout


def test_the_views_to_choose_from_are_those_of_a_store():
    assert get_args(View) == VIEWS


def test_the_four_packages_are_this_repository_s():
    root = Path(__file__).parent.parent
    for package in (extract, features_store, pipelines, train):
        assert Path(package.__file__).parent.parent == root


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("extract", "nosuch", "--out", "x"), "no source 'nosuch'"),
        (("extract", ".", "--out", "x", "--fps", "ten"), "--fps must be a number"),
        (("extract", ".", "--out", "x", "--workers", "0"), "--workers must be at least 1"),
        (("extract", ".", "--out", "x", "--backbone", "resnet50"), "'resnet50' has no source"),
        (("extract", ".", "--out", "x", "--backbone", "tim:vit"), "did you mean 'timm'"),
        (("train", "nosuch.cubes", "--head", "mean-pool"), "nosuch.cubes is not a feature store"),
        (("eval", "x.json", "nosuch.cubes"), "nosuch.cubes is not a feature store"),
        (("explain", "x.json", "nosuch.cubes", "--video", "a", "--out", "a.png"), "nosuch.cubes"),
        (("optimise-attention", "x.json", "nosuch.cubes"), "nosuch.cubes is not a feature store"),
        (("plan", "nosuch"), "no source 'nosuch'"),
        (("plan", ".", "--backbone", "resnet50"), "'resnet50' has no source"),
        (("train", ".", "--head", "avg-lsmt"), "no head named 'avg-lsmt'; did you mean 'avg-lstm'"),
        (("train", ".", "--head", "avg-lstm:hiden=3"), "no option 'hiden'; did you mean 'hidden'"),
        (("train", ".", "--head", "avg-lstm:hidden=x"), "'hidden' must be a whole number, got 'x'"),
        (("train", ".", "--head", "mean-pool", "--set", "diffs=all"), "none, frames, cubes, both"),
        (("train", ".", "--grid", "heads", "--set", "hidden=3"), "has no option 'hidden'"),
        (("train", ".", "--grid", "heds"), "no grid 'heds'; did you mean 'heads'"),
        (
            ("train", ".", "--head", "mean-pool", "--folds", "1"),
            "--folds must be at least 2, got 1",
        ),
        (("train", ".", "--head", "mean-pool", "--seeds", "0"), "got 1 heads, 0 --seeds"),
        (("train", ".", "--set", "hidden"), "--set must be name=value, got 'hidden'"),
        (("train", ".", "--head", "nosuch_module:Head"), "put its folder on PYTHONPATH"),
        (("train", ".", "--multi-label", "--aggregate", "vote"), "take --aggregate mean"),
    ],
)
def test_what_shows_without_torch_is_said_without_it(arguments, message):
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"  # whoever imports it fails
        "from pipelines.cli import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode in (2, 3)
    assert message in done.stderr
