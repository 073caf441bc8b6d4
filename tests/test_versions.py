"""Stores of other format versions: refused by every verb, in one line, untouched."""

import json
import shutil
from pathlib import Path

import pytest

from tests.stores import make_store

OLD = Path(__file__).parent / "data" / "version1.zip"  # written by the code of version 1
VERBS = {
    "info": ["store", "info", "STORE"],
    "ls": ["store", "ls", "STORE"],
    "verify": ["store", "verify", "STORE", "--full"],
    "repair": ["store", "repair", "STORE"],
    "describe": ["store", "describe", "STORE", "--licence", "MIT"],
    "append to it": ["store", "append", "STORE", "GOOD"],
    "append it": ["store", "append", "GOOD", "STORE"],
    "merge": ["store", "merge", "STORE", "--out", "OUT"],
    "subset": ["store", "subset", "STORE", "--out", "OUT", "--label", "a"],
    "repack": ["store", "repack", "STORE", "--out", "OUT"],
    "diff": ["store", "diff", "GOOD", "STORE"],
    "export": ["store", "export", "STORE", "--out", "OUT", "--format", "npz"],
    "validate": ["manifest", "validate", "STORE"],
    "folds": ["manifest", "folds", "STORE", "--folds", "2"],
    "leaks": ["manifest", "leaks", "STORE"],
    "counts": ["manifest", "counts", "STORE"],
    "extract": ["extract", "VIDEOS", "--out", "STORE", "--backbone", "tiny:conv"],
    "train": ["train", "STORE", "--head", "mean-pool", "--out", "OUT"],
}


def content(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(params=[1, 3])
def other(request, tmp_path):
    path = tmp_path / "other.cubes"
    if request.param == 1:
        shutil.unpack_archive(OLD, path)
        return path, "is of format version 1, this release reads 2: extract its videos again"
    make_store(path, {"a/x.mp4": 2, "b/y.mp4": 1})
    document = json.loads((path / "store.json").read_text()) | {"format_version": 3}
    (path / "store.json").write_text(json.dumps(document))
    return path, "is of format version 3, this release reads 2: upgrade cubereel"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_another_version_in_one_line(cubereel, other, tmp_path, verb):
    store, said = other
    make_store(tmp_path / "good.cubes", {"a/z.mp4": 2})
    (tmp_path / "v" / "a").mkdir(parents=True)
    (tmp_path / "v" / "a" / "x.mp4").write_bytes(b"no video")
    names = {"STORE": store, "GOOD": tmp_path / "good.cubes", "OUT": tmp_path / "out"}
    before = content(store)

    names["VIDEOS"] = tmp_path / "v"
    code = cubereel(*[names.get(word, word) for word in VERBS[verb]])

    assert code == 3, cubereel.err
    errors = [line for line in cubereel.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert said in errors[0]
    assert content(store) == before
    assert not (tmp_path / "out").exists()
