"""What is fuzzed: small stores, one file of which is changed, and what must hold afterwards."""

import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import xxhash

from features_store.catalogue import FILE_NAME as CATALOGUE
from features_store.catalogue import Catalogue
from features_store.errors import CubereelError
from features_store.index import FILE_NAME as INDEX
from features_store.ledger import append_failure, new_failure
from features_store.metadata import FILE_NAME as STORE
from features_store.plain import from_plain
from features_store.spec import Sampling, canonical_json
from features_store.store import Store
from features_store.verbs.info import store_info
from features_store.verbs.merge import append_stores
from features_store.verbs.repair import repair_store
from features_store.verbs.verify import verify_store
from tests.hostile.mutations import mutate_bytes, mutate_json, mutate_text
from tests.stores import SPEC, add_unit, header, make_store, relist

LENGTHS = {"walk/a.mp4": 5, "run/b.mp4": 1, "walk/c.mp4": 3}
DRAWN = replace(SPEC, sampling=Sampling.parse(segments=2, jitter=1, seed=3))
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "compact": {"dtype": "8bit", "compression": "zstd"},
    "drawn": {"spec": DRAWN, "dtype": "float16", "has_diff_cubes": True},
}
SHARD, LEDGER = "shard", "failures/run.jsonl"
FILES = (SHARD, SHARD, SHARD, INDEX, INDEX, STORE, CATALOGUE, LEDGER)


def make_subjects(folder: Path) -> list[Path]:
    """Make a store of every kind, the first with videos that supersede others."""
    for kind, changes in KINDS.items():
        path, said = folder / kind, header(**changes)
        draws = ((0, 0), (0, 0)) if kind == "drawn" else ()
        make_store(path, LENGTHS, store_header=said, draws=draws)
        if kind == "plain":
            add_unit(path, {"walk/a.mp4": 4}, run_id="again")
        (path / LEDGER).parent.mkdir(exist_ok=True)
        said_of = {"video_id": "x", "path": "x", "stage": "decode", "reason": "corrupt"}
        append_failure(path, "run", new_failure(**said_of, error="e"))
        with Store(path):
            pass  # makes the index
    return [folder / kind for kind in KINDS]


def mutate(rng: random.Random, store: Path) -> str:
    """Change one file of a store and say which; at times with right checksums, on purpose."""
    name = rng.choice(FILES)
    path = rng.choice(sorted((store / "shards").iterdir())) if name == SHARD else store / name
    is_deliberate = rng.random() < 0.7
    if name == SHARD:
        path.write_bytes(mutate_bytes(rng, path.read_bytes()))
        if is_deliberate:
            (store / INDEX).unlink()
            with suppress(CubereelError):
                relist(store)
    elif name == INDEX:
        image = mutate_bytes(rng, path.read_bytes()[:-8])
        path.write_bytes(image + (xxhash.xxh3_64_digest(image) if is_deliberate else bytes(8)))
    elif name == LEDGER or rng.random() < 0.2:
        path.write_bytes(mutate_text(rng, path.read_bytes()))
    else:
        document = mutate_json(rng, json.loads(path.read_bytes()))
        if is_deliberate and isinstance(document, dict):
            with suppress(ValueError, TypeError, AttributeError, KeyError, CubereelError):
                _make_right(document)
        path.write_text(json.dumps(document))
    return name


def _make_right(document: dict[str, Any]) -> None:
    if "spec" in document:
        document["spec_digest"] = sha256(canonical_json(document["spec"])).hexdigest()
    elif "entries" in document:
        plain = {k: v for k, v in document.items() if k != "revision"}
        document["revision"] = from_plain(Catalogue, plain).revision


def check(rng: random.Random, store: Path, make_other: Callable[[], Path]) -> str:
    """Use a store in every way; say how far it came.

    Args:
        make_other: makes a sound store, which it is added to now and then.

    Raises:
        AssertionError: it was said to be sound, and rows are not what their checksums say.
        Exception: whatever is no `CubereelError`.
    """
    outcome = "refused"
    with suppress(CubereelError):
        _read(store)
        outcome = "read"
    with suppress(CubereelError):
        store_info(store)
    with suppress(CubereelError):
        if not verify_store(store, full=True).problems:
            outcome = "sound"
            assert _read(store) == [], "sound rows that differ from their checksums"
    if rng.random() < 0.1:
        other = make_other()
        with suppress(CubereelError):
            append_stores(other, [store])
        assert verify_store(other, full=True).problems == [], "another store was poisoned"
    if rng.random() < 0.1:
        with suppress(CubereelError):
            repair_store(store)
            assert verify_store(store, full=True).problems == [], "repair left it damaged"
            _read(store)
    return outcome


def _read(store: Path) -> list[str]:
    """Read every row; return which arrays are not what the records say."""
    wrong = []
    with Store(store) as opened:
        for record in opened.records():
            arrays = opened.header.arrays
            for array, checksum in zip(arrays, record.checksums, strict=True):
                rows = opened.read(record.id, array.path)
                is_same = xxhash.xxh3_64_intdigest(rows.tobytes()) == checksum
                if not (array.is_encoded or is_same):
                    wrong.append(f"{record.id}: {array.path}")
    return wrong


def fresh(subject: Path, work: Path) -> Path:
    """Return a copy of a subject to do harm to."""
    shutil.rmtree(work, ignore_errors=True)
    return Path(shutil.copytree(subject, work))
