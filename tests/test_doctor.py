"""`cubereel doctor` finds what is wrong, and says so by its exit code."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from features_store.verbs.diff import frame_cosines
from pipelines.machine import golden_clip
from tests.small_disks import needs_namespaces, run_in_namespace

CHECKS = ["versions", "cpu", "gpu", "decoders", "hdf5", "disk", "golden clip"]


def test_a_sound_installation_passes_and_nothing_is_left_behind(cubereel, tmp_path):
    assert cubereel("doctor", "--folder", tmp_path, "--json") == 0
    checks = {check["name"]: check for check in json.loads(cubereel.out)}

    assert list(checks) == CHECKS
    assert {checks[name]["status"] for name in ("versions", "hdf5", "golden clip")} == {"ok"}
    assert "h264" in checks["decoders"]["found"]
    assert list(tmp_path.iterdir()) == []


def test_every_finding_says_what_to_do_about_it(cubereel, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.measure.doctor.CODECS", ("h264", "betamax"))

    assert cubereel("doctor", "--folder", tmp_path) == 0
    assert "warning  decoders     h264;" in cubereel.out
    assert "→ videos in betamax will fail" in cubereel.out


@pytest.fixture
def golden(tmp_path, monkeypatch):
    """A copy of the golden clip that may be changed."""
    copy = shutil.copytree(golden_clip.FOLDER, tmp_path / "golden")
    monkeypatch.setattr(golden_clip, "FOLDER", copy)
    return copy


def _rewrite(golden: Path, **changes):
    with np.load(golden / "recorded.npz") as recorded:
        np.savez(golden / "recorded.npz", **{**recorded, **changes})


def test_other_cubes_than_recorded_are_exit_3(cubereel, tmp_path, golden):
    with np.load(golden / "recorded.npz") as recorded:
        cubes = recorded["cubes"]
    cubes[3] = cubes[3][::-1]
    _rewrite(golden, cubes=cubes)

    assert cubereel("doctor", "--folder", tmp_path) == 3
    assert "differs  golden clip  frames as recorded" in cubereel.out
    assert "golden clip gave other features than recorded" in cubereel.err


def test_other_bytes_of_frames_alone_are_a_warning(cubereel, tmp_path, golden):
    _rewrite(golden, frames_sha256="0" * 64)

    assert cubereel("doctor", "--folder", tmp_path) == 0
    assert "warning  golden clip  frames of other bytes" in cubereel.out


def test_a_decoder_that_fails_is_the_machine_s_fault(cubereel, tmp_path, golden):
    (golden / "clip.mp4").write_bytes(b"no video")

    assert cubereel("doctor", "--folder", tmp_path) == 5
    assert "failed   golden clip" in cubereel.out
    assert "Traceback" not in cubereel.err


def test_a_library_that_cannot_be_imported_is_a_finding(cubereel, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)

    assert cubereel("doctor", "--folder", tmp_path) == 5
    assert "failed   hdf5" in cubereel.out
    assert "ok       golden clip" in cubereel.out


@needs_namespaces
def test_a_full_disk_is_exit_5(tmp_path):
    mount = 'mount -t tmpfs -o size=8m tmpfs "$1"'
    script = f'{mount}; "$2" doctor --folder "$1"; echo "code $?"; ls -A "$1"'
    cubereel = Path(sys.executable).with_name("cubereel")
    output = run_in_namespace(script, tmp_path, cubereel)

    assert "failed   disk         [Errno 28] No space left on device" in output
    assert output.endswith("code 5\n")


def test_a_folder_that_is_not_there_is_a_usage_error(cubereel, tmp_path):
    assert cubereel("doctor", "--folder", tmp_path / "nowhere") == 2
    assert "no folder" in cubereel.err


def test_the_golden_clip_is_that_of_the_script(tmp_path):
    golden_clip.record(tmp_path)

    with (
        np.load(tmp_path / "recorded.npz") as made,
        np.load(golden_clip.FOLDER / "recorded.npz") as committed,
    ):
        # Not to the last digit: another x264 may encode it otherwise.
        cosines = frame_cosines(made["cubes"].astype("f4"), committed["cubes"].astype("f4"))
        assert cosines.min() > 0.99
        assert made["pts_seconds"].tolist() == committed["pts_seconds"].tolist()
