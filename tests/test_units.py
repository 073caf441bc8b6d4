"""Units of extraction as plain data, and what runs them in one process or in several."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.unit import Unit, UnitReport, VideoJob
from features_store.errors import SpecMismatchError
from features_store.metadata import read_header, write_header
from features_store.plain import from_plain, to_plain
from features_store.planned import clear_units
from features_store.session import StoreSession
from features_store.store import Store
from features_store.verbs.verify import verify_store
from pipelines.extraction.extract import extract
from pipelines.extraction.options import ExtractionOptions
from pipelines.extraction.work import UnitSettings, run_unit
from tests.clips import write_classes, write_one_broken

OPTIONS = ExtractionOptions(backbone="tiny:conv", fps="10", device="cpu", compile="off")
TEXT = st.text(max_size=20)
SECONDS = st.none() | st.floats(0, 1e9)
BYTES = st.none() | st.integers(0, 2**62)
VIDEO = st.tuples(TEXT, TEXT, SECONDS, SECONDS, st.integers(1, 10**9), BYTES, BYTES)
UNIT = st.tuples(TEXT, st.lists(VIDEO, min_size=1, max_size=4))


def _unit(said):
    # Not by `st.builds`: type checks pick at random, which strategies may not.
    name, videos = said
    return Unit(name, tuple(VideoJob(*video) for video in videos))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_one_broken(write_classes(tmp_path_factory.mktemp("videos"), per_class=4))


@given(UNIT)
def test_a_unit_is_json_and_comes_back(said):
    unit = _unit(said)
    assert from_plain(Unit, json.loads(json.dumps(to_plain(unit)))) == unit


def test_a_report_of_a_unit_is_small():
    report = UnitReport("f" * 64, 10**12, 10**12, ("dark/broken.mp4",) * 9, 10**12)
    assert len(json.dumps(to_plain(report))) < 2000


def test_a_unit_can_be_run_alone(videos, tmp_path):
    extract(videos, out=tmp_path / "whole.cubes", options=OPTIONS)
    store_header = read_header(tmp_path / "whole.cubes")
    jobs = [
        VideoJob(video_id, str(videos / video_id), None, None, max_frames=5)
        for video_id in ("bright/1.mp4", "dark/broken.mp4", "dark/0.mp4")
    ]
    with StoreSession(tmp_path / "part.cubes", store_header, run_id="run") as session:
        clear_units(session.path)
        unit = Unit(session.new_name(), tuple(jobs))
        settings = UnitSettings(store=str(session.path), source=session.source, device="cpu")
    report = run_unit(unit, settings)

    assert report == UnitReport(unit.name, num_videos=3, failed=("dark/broken.mp4",), num_frames=24)
    with Store(tmp_path / "part.cubes") as part, Store(tmp_path / "whole.cubes") as whole:
        assert part.ids == ["bright/1.mp4", "dark/0.mp4"]
        _assert_same_rows(part, whole, part.ids)


def test_weights_of_another_kind_are_refused(videos, tmp_path):
    """A worker reads the header, and what it has is not what made the store."""
    extract(videos, out=tmp_path / "s.cubes", options=OPTIONS)
    path = tmp_path / "s.cubes"
    known = read_header(path)
    spec = replace(known.spec, weights_sha256="0" * 64)
    fresh = tmp_path / "t.cubes"
    with StoreSession(fresh, replace(known, spec=spec), run_id="run") as session:
        settings = UnitSettings(store=str(fresh), source=session.source, device="cpu")
    unit = Unit("run.0001-1", (VideoJob("a", "a.mp4", None, None, 1),))
    with pytest.raises(SpecMismatchError, match="weights_sha256"):
        run_unit(unit, settings)
    assert verify_store(fresh).problems == []


def test_several_processes_store_what_one_does(videos, tmp_path):
    one = extract(videos, out=tmp_path / "1.cubes", options=OPTIONS)
    several = extract(videos, out=tmp_path / "2.cubes", options=replace(OPTIONS, processes=2))

    assert one.failed == several.failed
    assert several.failed[0]["reason"] == "not a video"
    assert (one.num_extracted, one.num_frames) == (several.num_extracted, several.num_frames)
    assert verify_store(tmp_path / "2.cubes", full=True).problems == []
    with Store(tmp_path / "1.cubes") as a, Store(tmp_path / "2.cubes") as b:
        assert a.ids == b.ids
        assert len(b.index.shards) > len(a.index.shards)
        _assert_same_rows(a, b, a.ids)
    again = extract(videos, out=tmp_path / "2.cubes", options=replace(OPTIONS, processes=2))
    assert (again.num_extracted, again.num_done_before, len(again.failed_before)) == (0, 8, 1)


def test_what_a_worker_meets_is_said_as_if_it_were_here(videos, tmp_path, monkeypatch):
    """A store whose header was changed after the plan is refused, with its own error."""
    from pipelines.extraction import run as run_module

    in_processes = run_module.Run.in_processes

    def changed(self, *arguments, **options):
        stored = read_header(tmp_path / "s.cubes")
        spec = replace(stored.spec, weights_sha256="0" * 64)
        write_header(tmp_path / "s.cubes", replace(stored, spec=spec))
        in_processes(self, *arguments, **options)

    monkeypatch.setattr(run_module.Run, "in_processes", changed)
    with pytest.raises(SpecMismatchError, match="weights_sha256"):
        extract(videos, out=tmp_path / "s.cubes", options=replace(OPTIONS, processes=2))


def _assert_same_rows(a, b, ids):
    for video_id in ids:
        for array in a.header.arrays:
            np.testing.assert_array_equal(
                a.read(video_id, array.path), b.read(video_id, array.path)
            )
        assert a.video(video_id).checksums == b.video(video_id).checksums
