"""A pipe in place of a file is refused, and no verb waits for somebody to write to it."""

import os
from pathlib import Path

import pytest

from pipelines.extraction.header_cache import HeaderCache
from tests.hostile.limits import assert_refused, run_limited
from tests.stores import make_store


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    return tmp_path / "pipe.toml"


def arguments_of(store, pipe):
    train = ("train", store, "--head", "mean-pool")
    return {
        "grid": (*train, "--table", pipe),
        "config": (*train, "--config", pipe),
        "ids": ("store", "subset", store, "--out", store.with_name("o"), "--ids", pipe),
        "manifest": ("manifest", "validate", pipe),
        "source": ("plan", pipe, "--backbone", "tiny:conv"),
        "import": ("store", "import", pipe, "--out", store.with_name("o"), "--format", "arrays",
                   "--name", "x"),
    }  # fmt: skip


@pytest.mark.parametrize("what", arguments_of(Path("s"), None))
def test_a_pipe_in_place_of_a_file(tmp_path, pipe, what):
    make_store(tmp_path / "s", {f"{label}/v{i}": 2 for label in "ab" for i in range(4)})
    if what == "manifest":
        pipe = pipe.rename(pipe.with_suffix(".csv"))

    assert_refused(run_limited(tmp_path, *arguments_of(tmp_path / "s", pipe)[what]), 2, 3)


def test_a_pipe_in_place_of_the_cache_of_headers(tmp_path, caplog):
    path = HeaderCache(tmp_path, tmp_path).path
    os.mkfifo(path)
    cache = HeaderCache(tmp_path, tmp_path)

    assert cache.find("a", tmp_path.stat()) is None
    assert "headers read before cannot be used" in caplog.text
