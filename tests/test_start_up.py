"""Start-up stays light: who asks for help or reads a spec does not wait for torch or h5py."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import extract
import extract.backbones
import features_store
import features_store.exchange
import pipelines
import train
from pipelines.cli import main  # noqa: F401 (all verbs)


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
        ("import extract, extract.backbones", {"torch", "av", "h5py", "numpy", "timm"}),
        ("import features_store", {"h5py", "numpy", "msgspec"}),
        ("import features_store.format.encodings", {"h5py", "numpy"}),
        ("import extract; extract.FrameReader, extract.probe, extract.DecodePool", {"torch"}),
        ("import features_store; features_store.ImportOptions", {"h5py", "numpy"}),
        ("import extract.decode.worker", {"torch", "h5py"}),
        ("import train", {"torch", "numpy", "pydantic", "h5py"}),
        ("import train.heads, train.protocol.grid", {"torch", "numpy", "pydantic"}),
        ("from features_store import Store", {"torch", "av", "timm", "dask", "sklearn"}),
    ],
)
def test_what_is_not_needed_is_not_imported(statement, unwanted):
    assert not _loaded_by(statement) & unwanted


PACKAGES = (extract, extract.backbones, features_store, features_store.exchange, train)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_is_there_and_completed_by_tab(package):
    listed = {
        alias.asname
        for node in ast.walk(ast.parse(Path(package.__file__).read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert set(dir(package)) == listed  # what type checkers know, and what there is
    for name in dir(package):
        assert getattr(getattr(package, name), "__name__", name) == name
    with pytest.raises(AttributeError, match="no attribute 'Shop'"):
        package.Shop  # noqa: B018


def test_heads_and_grids_are_listed_without_torch():
    code = (
        "import sys\nsys.modules['torch'] = sys.modules['numpy'] = None\n"
        "from pipelines.cli import main\nmain()"
    )
    for what, said in (("heads", "motion=none|frames|cubes|both [none]"), ("grids", "soft-att")):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, "list", what],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert said in done.stdout


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
        (("train", ".", "--head", "avg-lstm:hidden=x"), "a whole number, at least 1, got 'x'"),
        (("train", ".", "--head", "hm-an:tau=0"), "a finite number, at least 0.05, got '0'"),
        (("train", ".", "--head", "mean-pool", "--set", "motion=all"), "none, frames, cubes, both"),
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
