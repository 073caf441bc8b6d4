"""A server for the commands of a module, and a small store to do harm to."""

import shutil

import pytest

from tests.hostile.server import Server
from tests.stores import make_store

LENGTHS = {"walk/a.mp4": 5, "run/b.mp4": 1}


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="session")
def sound_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "s"
    make_store(path, LENGTHS)
    return path


@pytest.fixture
def store(sound_store, tmp_path):
    return shutil.copytree(sound_store, tmp_path / "s")
