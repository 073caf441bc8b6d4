"""Many writers, one store: claims, seals, listing; by the command line and by real processes."""

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features_store.appending import Appender, with_claimed
from features_store.catalogue import ShardEntry, read_catalogue
from features_store.claim import UnitClaim, read_report
from features_store.errors import (
    BusyError,
    ContractError,
    DamageError,
    UnsafeStoreError,
    UsageError,
)
from features_store.leases import Lease
from features_store.ledger import append_failure, new_failure
from features_store.locking import UNITS, lock_store, share_store
from features_store.metadata import read_header
from features_store.parts import UnitParts
from features_store.planned import PLAN_NAME, clear_units
from features_store.session import StoreSession
from features_store.store import Store
from features_store.verbs.verify import verify_store
from pipelines.extraction.extract import extract
from pipelines.extraction.options import ExtractionOptions
from pipelines.extraction.plan_file import chosen_units, load_plan
from pipelines.extraction.planning import plan_store
from pipelines.extraction.status import status
from pipelines.extraction.work import UnitSettings, UnitWork
from tests.clips import write_classes, write_one_broken
from tests.commands import start

OPTIONS = ExtractionOptions(
    backbone="tiny:conv", fps="10", device="cpu", compile="off", precision="fp32", lease_seconds=2.0
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_one_broken(write_classes(tmp_path_factory.mktemp("videos"), per_class=5))


@pytest.fixture(scope="module")
def alone(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "s.cubes"
    extract(videos, out=out, options=OPTIONS)
    return out


@pytest.fixture
def planned(videos, tmp_path, monkeypatch):
    """A store with a plan of several units."""
    monkeypatch.setattr("pipelines.extraction.plan.UNIT_SECONDS", 30.0)
    out = tmp_path / "s.cubes"
    plan = plan_store(videos, out, OPTIONS, frame_seconds=1.0)
    assert plan is not None
    assert len(plan.units) >= 4
    return out


def same_rows(one, other):
    with Store(one) as a, Store(other) as b:
        assert a.ids == b.ids
        for video_id in a.ids:
            for array in a.header.arrays:
                ours, theirs = (store.read(video_id, array.path) for store in (a, b))
                np.testing.assert_array_equal(ours, theirs)


def require_whole(store, alone):
    assert verify_store(store, full=True).problems == []
    same_rows(store, alone)
    with Store(store) as opened:
        sealed = [i for name in opened.index.shards for i in opened.index.of_shard(name)]
    assert len(sealed) == len(set(sealed))
    assert not list((store / "shards").glob("*.partial")) + list((store / "shards").glob("*.seal*"))


def test_four_shares_in_any_order_are_one_run(videos, alone, planned):
    for share in ("2/4", "0/4", "3/4", "1/4", "1/4"):
        report = extract(videos, out=planned, options=replace(OPTIONS, unit=share))
        assert not report.stopped
    require_whole(planned, alone)
    after = status(planned)
    assert (after.units_done, after.failed, after.stored) == (after.units, 1, 10)
    assert after.reasons == {"not a video": 1}


def test_those_who_join_do_what_is_left(videos, alone, planned):
    extract(videos, out=planned, options=replace(OPTIONS, unit="0/2"))
    before = status(planned)
    assert 0 < before.units_done < before.units
    report = extract(videos, out=planned, options=replace(OPTIONS, join=True))
    require_whole(planned, alone)
    assert (report.num_extracted, report.num_failed, report.num_videos) == (10, 1, 11)


def test_several_workers_at_once(videos, alone, planned):
    workers = [start(*flags(videos, planned), "--join") for _ in range(2)]
    said = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [4] * 2, said  # of the broken video
    require_whole(planned, alone)


def flags(videos, store):
    return [
        *("extract", videos, "--out", store, "--backbone", "tiny:conv", "--fps", "10"),
        *("--device", "cpu", "--lease", "2"),
    ]


def test_a_worker_that_is_killed_is_taken_over(videos, alone, planned):
    """What it had committed is salvaged at once, since it died on this machine."""
    units = chosen_units(load_plan(planned, read_header(planned)), None)
    child = os.fork()
    if not child:
        _work_until_killed(planned, units[:1])
    os.waitpid(child, 0)
    assert list((planned / "shards").glob("*.partial"))
    assert status(planned).workers_lost == 1

    report = extract(videos, out=planned, options=replace(OPTIONS, join=True))
    assert report.num_extracted == 10
    require_whole(planned, alone)


def _work_until_killed(store, units):
    try:
        settings = UnitSettings(
            store=str(store), source=load_plan(store, read_header(store)).source, device="cpu",
            lease_seconds=2.0,
        )  # fmt: skip

        def die(event):
            if type(event).__name__ == "VideoDone":
                os.kill(os.getpid(), signal.SIGKILL)

        with UnitWork(settings) as work:
            list(work.run(iter(units), die))
    finally:
        os._exit(1)


def test_a_worker_that_was_thought_dead_seals_nothing_twice(alone, planned):
    """Two attempts at one unit, the first of them stopped before it seals."""
    store_header = read_header(planned)
    plan = load_plan(planned, store_header)
    settings = UnitSettings(store=str(planned), source=plan.source, device="cpu", lease_seconds=2.0)
    unit = chosen_units(plan, None)[0]
    shares = []

    def publish_later(self, shard):
        shares.append((self, shard))

    with pytest.MonkeyPatch.context() as patch, UnitWork(settings) as work:
        patch.setattr(UnitParts, "publish", publish_later)
        # The store has none of what this attempt wrote, and its report is lost.
        list(work.run([unit], lambda _: None))
    (planned / UNITS / f"{unit.name}.json").unlink()
    with pytest.MonkeyPatch.context() as patch, UnitWork(settings) as work:
        # As if the second one did not see what the first one has written.
        patch.setattr(UnitParts, "_partials_of_others", lambda *_: [])
        list(work.run([unit], lambda _: None))
    for parts, shard in shares:
        parts.publish(shard)
    with Store(planned) as store:
        assert len(store.ids) == sum(job.video_id in store for job in unit.videos)
        assert len(store.index.shards) == 1
    assert verify_store(planned, full=True).problems == []


def test_who_is_second_adds_what_is_missing(videos, alone, planned):
    """The first one sealed half of the unit, after the second one had looked."""
    store_header = read_header(planned)
    plan = load_plan(planned, store_header)
    settings = UnitSettings(store=str(planned), source=plan.source, device="cpu", lease_seconds=2.0)
    whole = chosen_units(plan, None)[0]
    half = replace(whole, videos=whole.videos[:1])
    seal = UnitParts.publish

    def after_the_other(self, shard):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(UnitParts, "publish", seal)
            patch.setattr(UnitClaim, "take", lambda _: True)
            patch.setattr(UnitClaim, "done", lambda *_: None)
            patch.setattr(UnitParts, "_partials_of_others", lambda *_: [])
            with UnitWork(settings) as other:
                list(other.run([half], lambda _: None))
        seal(self, shard)

    with pytest.MonkeyPatch.context() as patch, UnitWork(settings) as work:
        patch.setattr(UnitParts, "publish", after_the_other)
        list(work.run([whole], lambda _: None))
    with Store(planned) as store:
        assert len(store.index.shards) == 2
        assert len(store.ids) == len(whole.videos)
    extract(videos, out=planned, options=replace(OPTIONS, join=True))
    require_whole(planned, alone)


def test_a_video_that_kills_workers_is_found_and_left_out(videos, alone, planned):
    """Whoever works on it dies; all others are stored, and the ledger says which one it was."""
    killer = "bright/1.mp4"
    plan = load_plan(planned, read_header(planned))
    units = [unit for unit in chosen_units(plan, None) if killer in str(unit.videos)]
    deaths = 0
    while deaths < 12:
        child = os.fork()
        if not child:
            _die_of(planned, units, killer)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            break
        deaths += 1
    assert 2 <= deaths < 8
    extract(videos, out=planned, options=replace(OPTIONS, join=True))
    after = status(planned)
    assert after.units_done == after.units
    assert after.reasons == {"not a video": 1, "worker died": 1}
    with Store(planned) as store, Store(alone) as whole:
        assert sorted([*store.ids, killer]) == whole.ids
    again = extract(videos, out=planned, options=OPTIONS)  # it may have been the machine
    assert again.num_extracted == 1
    same_rows(planned, alone)


def _die_of(store, units, killer):
    code = 1
    try:
        plan = load_plan(store, read_header(store))
        settings = UnitSettings(
            store=str(store), source=plan.source, device="cpu", lease_seconds=2.0
        )
        from extract import extractor

        of_video = extractor.UnitExtractor._media_of

        def dying(self, job):
            if job.video_id == killer:
                os.kill(os.getpid(), signal.SIGKILL)
            return of_video(self, job)

        extractor.UnitExtractor._media_of = dying
        with UnitWork(settings) as work:
            list(work.run(iter(units), lambda _: None))
        code = 0
    finally:
        os._exit(code)


def test_a_busy_store_is_said_at_once(videos, planned, cubereel, monkeypatch):
    with share_store(planned, lease_seconds=2.0), pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.extraction.planning.load_backbone", None)  # not before it
        assert cubereel(*flags(videos, planned)) == 75
    assert f"is being written by process {os.getpid()} on" in cubereel.err
    assert "--join makes this one more of its workers, --wait waits" in cubereel.err
    monkeypatch.setattr("features_store.locking.PATIENCE_SECONDS", 0.0)
    with share_store(planned, lease_seconds=2.0), pytest.raises(BusyError), lock_store(planned):
        pass
    with lock_store(planned), pytest.raises(BusyError), share_store(planned, lease_seconds=2.0):
        pass


def test_a_video_that_failed_first_and_is_stored_now_has_not_failed(videos, alone, planned):
    """As where a decoder was starved, and the unit was taken up again."""
    unit = chosen_units(load_plan(planned, read_header(planned)), None)[0]
    job = unit.videos[0]
    line = new_failure(
        video_id=job.video_id, path=job.file, stage="decode", reason="decoder crashed",
        error="it was killed", media_bytes=job.media_bytes, media_mtime_ns=job.media_mtime_ns,
    )  # fmt: skip
    append_failure(planned, unit.name, line)
    for _ in range(2):  # done now, and then found done
        report = extract(videos, out=planned, options=replace(OPTIONS, join=True))
        assert [each["video_id"] for each in report.failed] == ["dark/broken.mp4"]
        assert report.num_extracted == 10
    assert status(planned).reasons == {"not a video": 1}
    require_whole(planned, alone)


def test_a_worker_waits_for_one_that_brings_the_index_up_to_date(planned):
    began = threading.Event()

    def settle():
        with lock_store(planned):
            began.set()
            time.sleep(0.7)

    with ThreadPoolExecutor(1) as pool:
        settling = pool.submit(settle)
        began.wait()
        started = time.monotonic()
        with share_store(planned, lease_seconds=2.0):
            assert time.monotonic() - started > 0.3
        settling.result()


def test_who_waits_has_its_turn(videos, alone, planned):
    with ThreadPoolExecutor(1) as pool:
        with share_store(planned, lease_seconds=2.0):
            waiting = pool.submit(extract, videos, out=planned, options=replace(OPTIONS, wait=True))
            time.sleep(0.5)
            assert not waiting.done()
        assert waiting.result(timeout=60).num_extracted == 10
    require_whole(planned, alone)


def test_entries_are_appended_beside_each_other(alone, tmp_path):
    """Sixteen threads add entries; none is lost, and there is one chain of revisions."""
    import shutil

    store = tmp_path / "s.cubes"
    shutil.copytree(alone, store)
    digest = read_header(store).spec.digest
    clear_units(store)
    entries = [ShardEntry(f"removed.{number}-1") for number in range(64)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda entry: Appender(store, spec_digest=digest).append(entry), entries))
    there = with_claimed(store, read_catalogue(store, spec_digest=digest))
    names = [entry.name for entry in there.entries]
    assert sorted(names[1:]) == sorted(entry.name for entry in entries)
    assert len(list((store / UNITS).glob("after-*.json"))) == 64


def test_a_shard_that_was_sealed_and_not_listed_is_listed_by_the_next(videos, alone, planned):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Appender, "append", lambda *_: None)
        patch.setattr("pipelines.extraction.extract.settle", lambda *_, **__: None)
        extract(videos, out=planned, options=replace(OPTIONS, unit="0/2"))
    assert status(planned).unlisted >= 2
    with Store(planned) as store:
        assert store.ids == []  # not listed, so not there, and no damage either
    extract(videos, out=planned, options=replace(OPTIONS, unit="1/2"))
    require_whole(planned, alone)
    assert status(planned).unlisted == 0


BAD_PLANS = {
    "of another spec": ({"spec_digest": "0" * 64}, "is the plan of another store"),
    "of another version": ({"cubereel": "0.0.1"}, "is of cubereel 0.0.1"),
    "without a lease": ({"lease_seconds": 0}, "lease_seconds is 0"),
    "with a lease that never ends": ({"lease_seconds": 1e300}, "lease_seconds is 1e"),
    "with names of another one": ({"id": "other"}, "is no name of a unit that begins with"),
    "of no kind": ({"units": 3}, "units"),
    "with another decision": ({"keep_partial": True}, "`partial` keep"),
    "of another folder": ({"root": "/elsewhere"}, "`root` /elsewhere"),
}


@pytest.mark.parametrize("name", BAD_PLANS)
def test_plans_that_do_not_fit_are_refused(name, videos, planned):
    changes, message = BAD_PLANS[name]
    said = json.loads((planned / PLAN_NAME).read_text())
    (planned / PLAN_NAME).write_text(json.dumps(said | changes))
    with pytest.raises(ContractError, match=message):
        extract(videos, out=planned, options=replace(OPTIONS, join=True))
    with Store(planned) as store:
        assert store.ids == []


@pytest.mark.parametrize("content", ["", "[]", "{", "{}", '{"id": 3}', "[" * 100_000])
def test_plans_that_are_none_are_refused(content, videos, planned):
    (planned / PLAN_NAME).write_text(content)
    with pytest.raises(ContractError, match=r"plan\.json"):
        extract(videos, out=planned, options=replace(OPTIONS, join=True))


@pytest.mark.parametrize("name", ["../../x-1", "a\n-1", "", "x"])
def test_entries_of_strangers_are_checked_before_they_are_followed(name, planned):
    digest = read_header(planned).spec.digest
    entry = json.dumps({"name": name, "bytes": 1, "xxh3_128": "0", "identity": None})
    (planned / UNITS / f"after-{digest}.json").write_text(entry)
    with (
        pytest.raises(DamageError, match="is no name of a unit"),
        StoreSession(planned, read_header(planned), run_id="next"),
    ):
        pass


def test_units_of_strangers_are_checked_before_they_are_done(videos, planned):
    said = json.loads((planned / PLAN_NAME).read_text())
    said["units"][0]["name"] = said["id"] + "./../../../x-1"
    (planned / PLAN_NAME).write_text(json.dumps(said))
    with pytest.raises(ContractError, match="is no name of a unit"):
        extract(videos, out=planned, options=replace(OPTIONS, join=True))


@pytest.mark.parametrize("share", ["", "1", "3/3", "-1/2", "a/b", "0/0", "1/2/3", "1" * 50 + "/2"])
def test_shares_that_are_none_are_refused(share, videos, planned):
    with pytest.raises(UsageError, match="`unit`"):
        extract(videos, out=planned, options=replace(OPTIONS, unit=share))


def test_a_store_without_a_plan_cannot_be_joined(videos, alone, tmp_path):
    import shutil

    store = tmp_path / "s.cubes"
    shutil.copytree(alone, store)
    (store / PLAN_NAME).unlink()
    with pytest.raises(UsageError, match=r"has no plan\.json"):
        extract(videos, out=store, options=replace(OPTIONS, join=True))


def test_a_plan_decides_the_precision(videos, tmp_path, cubereel):
    assert cubereel("plan", videos, "--backbone", "tiny:conv", "--out", tmp_path / "s.cubes") == 2
    assert "--precision must be fp32 or bf16 in a stored plan" in cubereel.err
    assert not (tmp_path / "s.cubes").exists()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_leases_that_are_none_are_refused(kind, planned, tmp_path):
    unit = chosen_units(load_plan(planned, read_header(planned)), None)[0]
    lease = planned / UNITS / f"{unit.name}.lease"
    if kind == "link":
        lease.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(lease)
    else:
        lease.mkdir()
    settings = UnitSettings(store=str(planned), source="0" * 8, device="cpu", lease_seconds=2.0)
    with UnitWork(settings) as work, pytest.raises(UnsafeStoreError):
        list(work.run([unit], lambda _: None))
    assert not (tmp_path / "elsewhere").exists()


def test_a_lease_is_free_when_its_holder_is_silent_for_so_long(tmp_path):
    """By the clock of whoever wants it, as of a machine that is gone."""
    mine, other = (Lease(tmp_path / "u.lease", seconds=1.0) for _ in range(2))
    assert mine.take()
    assert not other.take()
    mine._lock._stop_heartbeat()
    started = time.monotonic()
    while not other.take():
        time.sleep(0.05)
    assert 0.9 < time.monotonic() - started < 3
    mine.release()  # which takes nothing from the other one
    assert (tmp_path / "u.lease").exists()
    assert not mine.take()
    other.release()
    assert mine.take()
    mine.release()


def test_a_store_that_is_moved_is_said(videos, planned, tmp_path):
    def move(_):
        if planned.exists():
            planned.rename(tmp_path / "moved.cubes")

    plan = load_plan(planned, read_header(planned))
    settings = UnitSettings(store=str(planned), source=plan.source, device="cpu", lease_seconds=2.0)
    from features_store.errors import MachineError

    with (
        pytest.raises(MachineError, match="is gone: it was moved"),
        UnitWork(settings) as work,
    ):
        list(work.run(chosen_units(plan, None), move))
    report = extract(
        videos, out=tmp_path / "moved.cubes", options=replace(OPTIONS, join=True, root=videos)
    )
    assert report.num_in_store == 10


def test_reports_of_units_are_read_as_written(planned):
    claim = UnitClaim(planned, "a.0001-1", lease_seconds=2.0)
    assert claim.take()
    claim.done({"unit": "a.0001-1", "num_videos": 3})
    claim.release()
    assert read_report(planned, "a.0001-1")["num_videos"] == 3
    assert claim.chunk_of_deaths == (0, ())
    assert Path(planned / UNITS / "a.0001-1.jsonl").read_text().count("\n") == 2
