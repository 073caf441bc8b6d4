"""What every test gets: one thread of torch, and its random state put back afterwards."""

import os

import pytest
import torch

from tests.commands import Command

# Tests compute on tensors of a few kilobytes, where a second thread only waits for the first.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _caches_are_the_tests_own(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "caches"))
        yield


def pytest_report_header(config):
    """Say what a plain `pytest` leaves out."""
    if config.option.markexpr == "not slow":
        return "left out: tests that take minutes; 'uv run pytest -m slow' runs them"
    return None


def pytest_runtest_setup(item):
    """Skip what needs a GPU where there is none; on a machine that must have one, let it fail."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        if os.environ.get("FAIL_WITHOUT_CUDA") == "1":
            pytest.fail("torch finds no GPU, and FAIL_WITHOUT_CUDA=1 is set")
        pytest.skip("needs a GPU; 'FAIL_WITHOUT_CUDA=1 pytest -m cuda' where there must be one")


@pytest.fixture(autouse=True)
def _random_state_is_restored():
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture
def cubereel(monkeypatch, capfd):
    return Command(monkeypatch, capfd)
