"""What writes files is killed at any write call: each is whole or absent, then all are there.

pytest tests/test_crash_outputs.py -m "slow or not slow"
"""

import random
import shutil

import pytest

from tests.crash.client import ForkServer
from tests.crash.runs import NEVER, Kill
from tests.crash.scenarios import OUTPUTS
from tests.crash.trial import KILLED, digests

WRITE_CALLS, IN_CI = 100, 2
TOLD = {"export.json"}  # says whether the export is finished


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ForkServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.mark.parametrize("scenario", OUTPUTS)
@pytest.mark.parametrize(
    "trials", [IN_CI, pytest.param(WRITE_CALLS, marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_killed_at_a_write_call_no_file_is_half_there(server, tmp_path, scenario, trials):
    inputs, whole = tmp_path / "inputs", tmp_path / "whole"
    inputs.mkdir()
    OUTPUTS[scenario].prepare(inputs)
    list_of_inputs = digests(inputs)
    undisturbed = server.run(scenario, inputs=inputs, store=whole, kill=NEVER)
    assert undisturbed.status == 0, server.printed
    expected = digests(whole)

    rng = random.Random(f"{scenario} {trials}")
    for number in range(trials):
        folder = tmp_path / f"out{number}"
        kill = Kill(call=rng.randint(1, undisturbed.calls), part=rng.randrange(3))
        outcome = server.run(scenario, inputs=inputs, store=folder, kill=kill)
        assert outcome.status == KILLED, f"{kill}: {server.printed}"
        named = {n: d for n, d in digests(folder).items() if not n.split("/")[-1].startswith(".")}
        assert {n: d for n, d in named.items() if n not in TOLD}.items() <= expected.items(), kill
        outcome = server.run(scenario, inputs=inputs, store=folder, kill=NEVER)
        assert outcome.status == 0, f"{kill}: {server.printed}"
        found = digests(folder)
        assert {n: d for n, d in found.items() if not n.split("/")[-1].startswith(".")} == expected
        assert digests(inputs) == list_of_inputs
        shutil.rmtree(folder)
