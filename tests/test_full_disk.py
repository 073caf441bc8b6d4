"""A disk that is full: exit 5 with one clear line, sources untouched, the same command goes on.

The disk is a small tmpfs in a mount namespace of the test's own, enlarged between two attempts.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from features_store.format.layout import LayerShape
from features_store.store import Store
from features_store.verbs.diff import diff_stores
from features_store.verbs.verify import verify_store
from tests.clips import write_classes
from tests.small_disks import needs_namespaces, run_in_namespace
from tests.stores import header, make_store

CUBEREEL = str(Path(sys.executable).with_name("cubereel"))

# $1 the disk, $2 its size, $3 where to copy the result, then the command.
SCRIPT = """
disk=$1 size=$2 result=$3; shift 3
mount -t tmpfs -o size=$size tmpfs "$disk" || exit 99
"$@"; echo "first: $?"
find "$disk" -name '*.sealing' -o -name '*.new' | sed 's/^/left: /'
mount -o remount,size=2g "$disk"
"$@"; echo "second: $?"
cp -r "$disk/s" "$result"
"""


pytestmark = needs_namespaces


@pytest.fixture
def attempt(tmp_path):
    """Run a command on a small disk, then again on a large one; return output and result."""

    def run(size, *command):
        (tmp_path / "disk").mkdir()
        arguments = [tmp_path / "disk", size, tmp_path / "result"]
        return run_in_namespace(SCRIPT, *arguments, CUBEREEL, *command), tmp_path / "result"

    return run


def _assert_resumed(output, result, expected):
    assert "first: 5" in output
    assert "no space in" in output
    assert "MB are needed" in output
    assert "left: " not in output
    assert "Traceback" not in output
    assert "second: 0" in output
    assert verify_store(result, full=True).problems == []
    with Store(result) as resumed, Store(expected) as whole:
        assert diff_stores(resumed, whole).identical


def _bytes_of(store):
    return sum(path.stat().st_size for path in (store / "shards").iterdir())


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A store of 12 MB."""
    path = tmp_path_factory.mktemp("stores") / "big"
    layers = (LayerShape("top", 7, 256),)
    make_store(
        path, {f"v{i}": 60 for i in range(8)}, store_header=header(dtype="float16", layers=layers)
    )
    return path


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ([], 0.3),
        (["--compression", "zstd"], 0.3),
        (["--compression", "zstd"], 0.9),
        (["--compact"], 0.0),
    ],
    ids=str,
)
def test_repack(attempt, big, tmp_path, options, share):
    from features_store.verbs.reshape import RepackOptions, repack_store

    before = verify_store(big, full=True)
    compact = {"dtype": "8bit", "compression": "zstd"}
    chosen = {"--compression": {"compression": "zstd"}, "--compact": compact}
    repack_store(big, tmp_path / "whole", RepackOptions(**(chosen[options[0]] if options else {})))
    size = 40_000 + int(share * _bytes_of(tmp_path / "whole"))
    output, result = attempt(
        size, "store", "repack", big, "--out", tmp_path / "disk" / "s", *options
    )

    _assert_resumed(output, result, tmp_path / "whole")
    assert verify_store(big, full=True) == before


def test_merge_goes_on_behind_the_last_shard(attempt, big, tmp_path):
    """The second store does not fit; the first one's videos are not copied again."""
    from features_store.verbs.merge import merge_stores

    make_store(tmp_path / "other", {"w": 200}, store_header=Store(big).header, run_id="other")
    merge_stores([big], tmp_path / "target")
    merge_stores([big, tmp_path / "other"], tmp_path / "whole")
    size = _bytes_of(tmp_path / "target") * 1.2
    output, result = attempt(
        int(size), "store", "merge", big, tmp_path / "other", "--out", tmp_path / "disk" / "s"
    )

    _assert_resumed(output, result, tmp_path / "whole")


def test_extract(attempt, tmp_path):
    videos = write_classes(tmp_path / "videos", per_class=2, num_frames=20)
    command = ["extract", videos, "--backbone", "tiny:conv", "--fps", "10"]
    subprocess.run([CUBEREEL, *command, "--out", tmp_path / "whole"], check=True)
    size = 40_000 + _bytes_of(tmp_path / "whole") // 2
    output, result = attempt(size, *command, "--out", tmp_path / "disk" / "s")

    _assert_resumed(output, result, tmp_path / "whole")
