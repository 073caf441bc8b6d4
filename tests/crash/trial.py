"""One trial: a scenario killed once or twice and resumed, and what has to be true in between."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from features_store.format.disk import file_checksum
from features_store.ledger import read_failures
from features_store.metadata import StoreHeader
from features_store.store import Store
from features_store.verbs.diff import diff_stores
from features_store.verbs.verify import verify_store
from tests.crash.client import ForkServer
from tests.crash.runs import NEVER, Kill, Outcome
from tests.crash.scenarios import CONTROLS, SCENARIOS, START, Scenario

KILLED = -9


@dataclass(frozen=True)
class Case:
    """A scenario with its inputs, and the store and the outcome of an undisturbed run.

    Attributes:
        files: digests of what the scenario reads; no run may change them.
        videos: what the shards say of every video, as it was at the start and as it will be.
    """

    scenario: str
    inputs: Path
    undisturbed: Path
    outcome: Outcome
    files: dict[str, str]
    videos: tuple[dict[str, str], dict[str, str]]


def prepare_case(server: ForkServer, scenario: str, folder: Path) -> Case:
    """Make the inputs of a scenario and run it to its end."""
    inputs, undisturbed = folder / "inputs", folder / "undisturbed.cubes"
    inputs.mkdir()
    _scenario(scenario).prepare(inputs)
    for path in (undisturbed, before := folder / "before.cubes"):
        _copy_start(inputs, path)
    # Of a copy, because reading a store writes its index.
    has_start = before.exists() and not _scenario(scenario).mends
    start, files = _videos(before) if has_start else {}, digests(inputs)
    outcome = server.run(scenario, inputs=inputs, store=undisturbed, kill=NEVER)
    assert outcome.status == 0, server.printed
    _require_clean(undisturbed)
    return Case(scenario, inputs, undisturbed, outcome, files, (start, _videos(undisturbed)))


def run_trial(server: ForkServer, case: Case, store: Path, kills: Iterable[Kill]) -> list[Outcome]:
    """Run a case once for each kill, then to its end; fail where anything committed is lost."""
    _copy_start(case.inputs, store)
    committed: set[str] = set()
    outcomes = []
    for kill in [*kills, NEVER]:
        outcome = server.run(case.scenario, inputs=case.inputs, store=store, kill=kill)
        expected = (0,) if kill == NEVER else (0, KILLED)
        assert outcome.status in expected, f"{kill}: {outcome}\n{server.printed}"
        again = committed.intersection(outcome.committed)
        assert not again, f"{kill}: committed before, and done again: {sorted(again)}"
        committed.update(outcome.committed)
        if kill != NEVER and not _scenario(case.scenario).mends:
            _require_sound(case, store, kill)
        outcomes.append(outcome)
    _require_clean(store)
    _require_undisturbed(case, store)
    assert digests(case.inputs) == case.files
    return outcomes


def digests(folder: Path) -> dict[str, str]:
    """Return the checksum of every file below a folder, by its path there."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): file_checksum(path) for path in files}


def _scenario(name: str) -> Scenario:
    return (SCENARIOS | CONTROLS)[name]


def _copy_start(inputs: Path, store: Path) -> None:
    if (inputs / START).exists():
        shutil.copytree(inputs / START, store)


def _videos(path: Path) -> dict[str, str]:
    """Return all records, with the checksums of their rows.

    But for where in a shard they lie, and the id of their source, which is drawn by chance.
    """
    with Store(path) as store:
        records = [replace(record, offset=0, source="") for record in store.records()]
    return {record.id: repr(record) for record in records}


def _header(store: Store) -> StoreHeader:
    sources = tuple(replace(source, id="") for source in store.header.sources)
    return replace(store.header, sources=sources)


def _require_sound(case: Case, store: Path, kill: Kill) -> None:
    """Check a killed run's store: every video is the old one or the new one, and right.

    A copy is checked, so that the index that a reader makes does not help the run that resumes.
    """
    old, new = case.videos
    if not (store / "store.json").exists():
        assert not old, f"{kill}: store.json is lost"
        return
    copy = store.with_suffix(".copy")
    shutil.copytree(store, copy)
    assert verify_store(copy, full=True).problems == [], kill
    list(read_failures(copy))
    found = _videos(copy)
    lost = old.keys() - found.keys()
    assert not lost, f"{kill}: these were in the store before: {sorted(lost)}"
    wrong = found.items() - old.items() - new.items()
    assert not wrong, f"{kill}: not what was written: {sorted(wrong)}"
    shutil.rmtree(copy)


def _require_clean(store: Path) -> None:
    report = verify_store(store, full=True)
    assert (report.problems, report.unfinished) == ([], [])
    assert list(store.rglob("*.sealing")) == []


def _require_undisturbed(case: Case, store: Path) -> None:
    with Store(store) as a, Store(case.undisturbed) as b:
        assert diff_stores(a, b).identical
        assert (_header(a), a.manifest) == (_header(b), b.manifest)
    assert _videos(store) == case.videos[1]
