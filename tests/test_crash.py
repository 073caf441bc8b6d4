"""Whatever writes a store is killed at any write call and at any instant, and nothing is lost.

CI does the first few trials of each kind. All of them, which takes a quarter of an hour for each
scenario, or one of them, whose seed is its name:

    pytest tests/test_crash.py -m "slow or not slow"
    pytest tests/test_crash.py -m "slow or not slow" -k "write_call and extract-217"

A new way of writing is one more entry in `crash.scenarios`.
"""

import random
import shutil
from functools import cache
from math import ceil

import pytest

from tests.crash.client import ForkServer
from tests.crash.runs import Kill
from tests.crash.scenarios import SCENARIOS
from tests.crash.trial import KILLED, Case, prepare_case, run_trial

IN_CI = 20
WRITE_CALLS, INSTANTS = 300, 200


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ForkServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def case_of(server, tmp_path_factory):
    return cache(lambda name: prepare_case(server, name, tmp_path_factory.mktemp(name)))


def trials(total: int) -> list:
    """Return (scenario, seed) for `total` seeds each; those beyond CI's share are slow."""
    share = ceil(IN_CI / len(SCENARIOS))
    return [
        pytest.param(name, seed, id=f"{name}-{seed}", marks=[pytest.mark.slow] * (seed >= share))
        for name in SCENARIOS
        for seed in range(total)
    ]


def num_kills(seed: int) -> int:
    """Every second trial kills the resumed run too, which salvages what the first one left."""
    return 1 + seed % 2


def at_a_call(rng: random.Random, case: Case) -> Kill:
    return Kill(call=rng.randint(1, case.outcome.calls), part=rng.randrange(3))


def at_an_instant(rng: random.Random, case: Case) -> Kill:
    """A random time after a random event, since most of a small run is waiting for a decoder."""
    times = case.outcome.times
    event = rng.randrange(len(times) - 1)
    return Kill(event=event, delay=rng.uniform(0, times[event + 1] - times[event]))


def survives(server, case: Case, folder, kills: list[Kill]) -> list:
    outcomes = run_trial(server, case, folder / "s.cubes", kills)
    shutil.rmtree(folder)  # there are hundreds; that of a failed trial is kept
    return outcomes


@pytest.mark.parametrize(("scenario", "seed"), trials(WRITE_CALLS))
def test_killed_at_a_write_call_nothing_committed_is_lost(
    server, case_of, tmp_path, scenario, seed
):
    case, rng = case_of(scenario), random.Random(f"call {scenario} {seed}")
    kills = [at_a_call(rng, case) for _ in range(num_kills(seed))]
    outcomes = survives(server, case, tmp_path, kills)
    assert outcomes[0].status == KILLED  # else the counter does not count


@pytest.mark.parametrize(("scenario", "seed"), trials(INSTANTS))
def test_killed_at_an_instant_nothing_committed_is_lost(server, case_of, tmp_path, scenario, seed):
    case, rng = case_of(scenario), random.Random(f"instant {scenario} {seed}")
    kills = [at_an_instant(rng, case) for _ in range(num_kills(seed))]
    survives(server, case, tmp_path, kills)


def test_a_writer_that_keeps_its_records_is_caught(server, case_of, tmp_path):
    after_three_commits = Kill(event=3)
    with pytest.raises(AssertionError, match="committed before, and done again"):
        survives(server, case_of("unrecorded"), tmp_path, [after_three_commits])
