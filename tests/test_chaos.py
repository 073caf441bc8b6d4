"""Nothing is lost and nothing is twice, whatever dies: one run here, fifty by

pytest -n 0 -s -m slow tests/test_chaos.py
"""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from features_store.store import Store
from pipelines.extraction.planning import plan_store
from tests.chaos.processes import may_unshare
from tests.chaos.trial import LEASE, Trial
from tests.clips import write_classes
from tests.test_many_writers import OPTIONS, extract


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = write_classes(tmp_path_factory.mktemp("videos"), per_class=16)
    shutil.copy(folder / "dark" / "0.mp4", folder / "dark" / "segfault.mp4")
    with (folder / "manifest.csv").open("a") as manifest:
        manifest.write("dark/segfault.mp4,dark,g9,train\n")
    return folder


@pytest.fixture(scope="module")
def alone(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "s.cubes"
    extract(videos, out=out, options=OPTIONS)  # in which nothing crashes
    return out


def require_sound(videos, alone, folder, *, seed, seconds):
    store = folder / f"{seed}.cubes"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.extraction.plan.UNIT_SECONDS", 30.0)
        plan = plan_store(videos, store, replace(OPTIONS, lease_seconds=LEASE), frame_seconds=1.0)
    outcome = Trial(videos, store, seed=seed, has_hosts=may_unshare()).run(seconds=seconds)
    assert outcome.problems == [], (outcome, [p.read_text()[-3000:] for p in folder.glob("*.log")])
    require_same_rows(store, alone)
    shutil.rmtree(store)
    return outcome, plan


def require_same_rows(store, alone):
    with Store(store) as ours, Store(alone) as theirs:
        for video_id in ours.ids:
            for array in ours.header.arrays:
                rows = (each.read(video_id, array.path) for each in (ours, theirs))
                np.testing.assert_array_equal(*rows)


def test_nothing_is_lost_and_nothing_is_twice(videos, alone, tmp_path):
    outcome, _ = require_sound(videos, alone, tmp_path, seed=1, seconds=12.0)
    assert len(outcome.faults) >= 3


@pytest.mark.slow
def test_fifty_runs(videos, alone, tmp_path):
    if not may_unshare():
        pytest.skip("no process may be given a host of its own here")
    num_faults = repeated = 0
    for seed in range(100, 150):
        outcome, _ = require_sound(videos, alone, tmp_path, seed=seed, seconds=20.0)
        num_faults += len(outcome.faults)
        repeated += outcome.repeated
        print(f"{seed}: {outcome.seconds:.0f} s, repeated {outcome.repeated}, {outcome.faults}")
    print(f"{num_faults} faults, {repeated} units were begun again")
