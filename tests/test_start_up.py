"""Start-up stays light: who asks for help or reads a spec does not wait for torch or h5py."""

import ast
import json
import os
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
from tests.stores import make_store


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
        ("import train.heads, train.protocol.table", {"torch", "numpy", "pydantic"}),
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


def test_heads_and_tables_are_listed_without_torch():
    code = (
        "import sys\nsys.modules['torch'] = sys.modules['numpy'] = None\n"
        "from pipelines.cli import main\nmain()"
    )
    for what, said in (("heads", "motion=none|frames|cubes|both [none]"), ("tables", "soft-att")):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, "list", what],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert said in done.stdout


def test_the_four_packages_are_this_repository_s():
    root = Path(__file__).parent.parent
    for package in (extract, features_store, pipelines, train):
        assert Path(package.__file__).parent.parent == root


SAID_WITHOUT_TORCH = [
    ("extract nosuch --out x", "no source 'nosuch'"),
    ("extract VIDEOS --out x --fps ten", "--fps must be a number"),
    ("extract VIDEOS --out x --workers 0", "--workers must be at least 1"),
    ("extract VIDEOS --out x --backbone resnet50", "'resnet50' has no source"),
    ("extract VIDEOS --out x --backbone tim:vit", "did you mean 'timm'"),
    ("extract VIDEOS --out x --device warp", "no device 'warp'"),
    ("extract VIDEOS --out x --weights nosuch.pth", "no weights 'nosuch.pth'"),
    ("train nosuch.cubes --head mean-pool", "no store 'nosuch.cubes'"),
    ("train VIDEOS --head mean-pool", "is a folder, not a store"),
    ("eval x.json STORE", "no checkpoint 'x.json'"),
    ("eval STORE STORE", "is a store, not a checkpoint: are two arguments swapped?"),
    ("explain x.json STORE --video a --out a.png", "no checkpoint 'x.json'"),
    ("optimise-attention x.json STORE", "no checkpoint 'x.json'"),
    ("predict x.json VIDEOS", "no checkpoint 'x.json'"),
    ("plan nosuch", "no source 'nosuch'"),
    ("plan VIDEOS --backbone resnet50", "'resnet50' has no source"),
    ("train STORE --head avg-lsmt", "no head named 'avg-lsmt'; did you mean 'avg-lstm'"),
    ("train STORE --head avg-lstm:hiden=3", "no option 'hiden'; did you mean 'hidden'"),
    ("train STORE --head avg-lstm:hidden=x", "at least 1 and at most 65536"),
    ("train STORE --head hm-an:tau=0", "a finite number, at least 0.05, got '0'"),
    ("train STORE --head mean-pool --set motion=all", "none, frames, cubes, both"),
    ("train STORE --table heads --set hidden=3", "has no option 'hidden'"),
    ("train STORE --table heds", "no table 'heds'; did you mean 'heads'"),
    ("train STORE --table heads.toml", "no table 'heads.toml'"),
    ("train STORE --head mean-pool --folds 1", "--folds must be at least 2, got 1"),
    ("train STORE --head mean-pool --seeds 0", "got 1 heads, 0 --seeds"),
    ("train STORE --set hidden", "--set must be name=value, got 'hidden'"),
    ("train STORE --head nosuch_module:Head", "put its folder on PYTHONPATH"),
    ("train STORE --multi-label --aggregate vote", "take --aggregate mean"),
    ("train STORE --head mean-pool --layer tip", "no layer 'tip' in this store"),
    ("train STORE --head mean-pool --view flip", "no view 'flip' in this store"),
    ("train STORE --head mean-pool --lr -1", "--lr: Input should be greater than 0"),
    ("train STORE --head mean-pool --device warp", "no device 'warp'"),
    ("train STORE --head mean-pool --config nosuch.toml", "no configuration 'nosuch.toml'"),
    ("bench train STORE --head avg-lsmt", "did you mean 'avg-lstm'"),
    ("bench train STORE --head mean-pool --layer tip", "no layer 'tip' in this store"),
    ("train STORE --table pyramid-attention", "counted from the top, but there are only 1"),
]  # fmt: skip


@pytest.fixture(scope="module")
def said_without_torch(tmp_path_factory):
    """Exit code and errors of every command line, in one process where no torch can be had."""
    place = tmp_path_factory.mktemp("place")
    make_store(place / "STORE", {"a": 2})
    (place / "VIDEOS").mkdir()
    (place / "VIDEOS" / "a.mp4").touch()
    code = (
        "import contextlib, io, json, sys\n"
        "sys.modules['torch'] = None\n"  # whoever imports it fails
        "from pipelines.cli import main\n"
        "for line in json.load(sys.stdin):\n"
        "    sys.argv = ['cubereel', *line.split()]\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as said:\n"
        "        with contextlib.suppress(SystemExit):\n"
        "            main()\n"
        "    print(json.dumps(said.getvalue()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps([line for line, _ in SAID_WITHOUT_TORCH]),
        capture_output=True, text=True, check=True, cwd=place,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONSAFEPATH": "1"},
    )  # fmt: skip
    return dict(
        zip((line for line, _ in SAID_WITHOUT_TORCH), map(json.loads, done.stdout.splitlines()),
            strict=True)
    )  # fmt: skip


@pytest.mark.parametrize(("line", "message"), SAID_WITHOUT_TORCH)
def test_what_shows_without_torch_is_said_without_it(said_without_torch, line, message):
    said = said_without_torch[line]
    assert message in said
    assert said.startswith("error: ")
