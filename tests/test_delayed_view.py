"""Two hosts that see one folder late and out of order, as on a network disk: nothing twice.

All trials: pytest -n 0 -s -m slow tests/test_delayed_view.py
"""

import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest

from features_store import appending, catalogue
from features_store.appending import Appender
from features_store.claim import new_attempt
from features_store.locking import UNITS
from features_store.parts import UnitParts
from features_store.planned import PLAN_NAME, clear_units
from features_store.session import StoreSession
from features_store.shards.sealing import seal_by_copy
from features_store.shards.writer import ShardWriter
from features_store.store import Store
from features_store.verbs.verify import verify_store
from tests.stores import HEADER, SPEC, add_video, frames

IDS = [f"v{number}" for number in range(6)]
UNIT = "plan.0001-1"
LATEST = 0.06  # seconds after which every host sees a change


class Views:
    """What each host sees: files of others late, each by a delay of its own, its own at once."""

    def __init__(self, seed):
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._host = threading.local()
        self._delays, self._seen = {}, {}
        self._exists, self._glob, self._read = Path.exists, Path.glob, catalogue.read_json

    def enter(self, host):
        self._host.name = host

    def _delay(self, path, state):
        key = (getattr(self._host, "name", None), str(path), state)
        with self._lock:
            if key not in self._delays:
                self._delays[key] = self._random.uniform(0, LATEST)
            return self._delays[key]

    def _is_visible(self, path):
        if getattr(self._host, "name", None) is None or f".by.{self._host.name}" in path.name:
            return True
        try:
            changed = path.stat().st_ctime
        except FileNotFoundError:
            return True
        return time.time() - changed > self._delay(path, 0)

    def exists(self, path):
        return self._exists(path) and (path.suffix != ".h5" or self._is_visible(path))

    def glob(self, path, pattern):
        return (each for each in self._glob(path, pattern) if self._is_visible(each))

    def read(self, path):
        """Return a document, or an older one, or none, if this host does not see it yet."""
        name = getattr(self._host, "name", None)
        if path.name.startswith("after-"):
            if not self._is_visible(path):
                raise FileNotFoundError(path)
            return self._read(path)
        document = self._read(path)
        key = (name, str(path))
        state = path.stat()
        age = time.time() - state.st_ctime
        if name is not None and key in self._seen and age < self._delay(path, state.st_ino):
            return json.loads(self._seen[key])
        self._seen[key] = json.dumps(document)
        return document


@pytest.fixture
def views(monkeypatch):
    def shown(seed):
        views = Views(seed)
        monkeypatch.setattr(Path, "exists", lambda path: views.exists(path))
        monkeypatch.setattr(Path, "glob", lambda path, pattern: views.glob(path, pattern))
        for module in (catalogue, appending):
            monkeypatch.setattr(module, "read_json", lambda path: views.read(path))
        monkeypatch.setattr("features_store.parts.POLL_SECONDS", 0.005)
        return views

    yield shown
    monkeypatch.undo()


def begin(store):
    with StoreSession(store, HEADER, run_id="plan"):
        clear_units(store)
    said = {"id": "plan", "cubereel": version("cubereel"), "spec_digest": SPEC.digest}
    (store / PLAN_NAME).write_text(json.dumps(said))


def work(store, host, views, seed):
    """Do the unit as a worker whose lease saves nothing, in one shard or in several."""
    views.enter(host)
    chance = random.Random(f"{seed} {host}")
    time.sleep(chance.uniform(0, LATEST))
    attempt = new_attempt(UNIT).replace(".by.", f".by.{host}")
    parts = UnitParts(
        store, HEADER, UNIT, supersedes={}, appender=Appender(store, spec_digest=SPEC.digest)
    )
    sealed = parts.finish(attempt)
    left = [i for i in IDS if i not in sealed]
    cut = chance.choice([0, len(left) // 2])
    for number, ids in enumerate(filter(None, (left[:cut], left[cut:]))):
        partial = store / "shards" / f"{attempt}{number}.h5.partial"
        writer = ShardWriter(partial, HEADER.arrays, rows=24, videos=6, id_bytes=2, spec=SPEC)
        for video_id in ids:
            rows = frames(4, seed=int(video_id[1:]))
            add_video(writer, video_id, rows, source=HEADER.sources[0].id)
        writer.close()
        time.sleep(chance.uniform(0, LATEST))
        try:
            shard = seal_by_copy(partial, HEADER.arrays, spec=SPEC)
        except FileNotFoundError:
            continue  # the other one took it over
        if shard is not None:
            parts.publish(shard)


def require_each_once(store):
    with StoreSession(store, HEADER, run_id="after"):
        pass
    assert verify_store(store, full=True).problems == []
    with Store(store) as opened:
        lying = Counter(i for name in opened.index.shards for i in opened.index.of_shard(name))
        assert lying == Counter(IDS)
        names = [entry.name for entry in opened.catalogue.entries]
    assert len(names) == len(set(names))
    return len(names)


def trial(store, seed, views):
    begin(store)
    seen = views(seed)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda host: work(store, host, seen, seed), ("a", "b")))
    assert (store / UNITS).is_dir()
    return require_each_once(store)


@pytest.mark.parametrize("seed", range(12))
def test_no_unit_is_sealed_twice(seed, tmp_path, views):
    trial(tmp_path / "s.cubes", seed, views)


@pytest.mark.slow
def test_no_unit_is_sealed_twice_in_200_trials(tmp_path, views):
    numbers = Counter(trial(tmp_path / f"{seed}.cubes", seed, views) for seed in range(1000, 1200))
    print(f"200 trials; shards of a unit -> trials: {dict(sorted(numbers.items()))}")
    assert len(numbers) > 1  # they did race
