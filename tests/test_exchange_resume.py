"""An import or export that is stopped anywhere goes on where it was and ends as if undisturbed."""

import signal
import time

import h5py
import numpy as np
import pytest

from features_store.errors import CubereelError
from features_store.exchange import FORMATS, ImportOptions, export_store, import_features
from features_store.format.layout import LayerShape
from features_store.store import Store
from features_store.verbs.diff import diff_stores
from features_store.verbs.verify import verify_store
from tests.commands import start
from tests.stores import header, make_store

ONE_CELL = header(layers=(LayerShape("features", 1, 6),), has_diffs=False)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_that_fails_goes_on_where_it_was(tmp_path, monkeypatch, kind):
    make_store(tmp_path / "s", {"a": 2, "b": 2, "c": 2}, store_header=ONE_CELL)
    export_store(tmp_path / "s", tmp_path / "whole", kind=kind)
    fail_after(monkeypatch, np.lib.format, "write_array_header_1_0", 2)
    if kind == "sharma":
        fail_after(monkeypatch, h5py.Dataset, "__setitem__", 2)

    with pytest.raises(OSError, match="no space"):
        export_store(tmp_path / "s", tmp_path / "out", kind=kind)
    with pytest.raises(CubereelError, match="unfinished export"):
        import_features(tmp_path / "out", tmp_path / "o", kind=kind)
    assert [p for p in (tmp_path / "out").rglob("*") if p.name.endswith(".new")] == []
    monkeypatch.undo()
    export_store(tmp_path / "s", tmp_path / "out", kind=kind)

    names = {p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*.*")}
    assert names == {p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*.*")}
    for name in names:
        if (tmp_path / "whole" / name).is_file() and name.suffix != ".h5":
            assert (tmp_path / "out" / name).read_bytes() == (
                tmp_path / "whole" / name
            ).read_bytes()


def fail_after(monkeypatch, owner, name, count):
    calls, real = [], getattr(owner, name)

    def sometimes(*arguments, **options):
        calls.append(1)
        if len(calls) > count:
            raise OSError("no space")
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, sometimes)


def test_a_killed_import_goes_on_and_is_the_undisturbed_store(tmp_path):
    feats = tmp_path / "feats"
    feats.mkdir()
    rng = np.random.default_rng(0)
    for i in range(120):
        np.save(feats / f"{i:03}.npy", rng.random((20, 256), np.float32))
    import_features(feats, tmp_path / "whole", kind="npy", options=ImportOptions(name="x"))
    options = ("--format", "npy", "--name", "x")
    arguments = ("store", "import", feats, "--out", tmp_path / "s", *options)
    with start(*arguments) as process:
        while process.poll() is None and not list((tmp_path / "s").glob("shards/*.partial")):
            time.sleep(0.002)
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    with start(*arguments) as process:
        output = process.communicate()[0]

    assert process.returncode == 0, output
    assert verify_store(tmp_path / "s", full=True).problems == []
    assert list((tmp_path / "s" / "shards").glob("*.partial")) == []
    with Store(tmp_path / "s") as a, Store(tmp_path / "whole") as b:
        assert a.ids == b.ids
        assert a.header.spec == b.header.spec
        for video_id in a.ids:
            np.testing.assert_array_equal(a.cubes(video_id), b.cubes(video_id))


def test_an_import_run_again_does_nothing(tmp_path):
    make_store(tmp_path / "s.cubes", {"a/v": 3, "b/v": 2}, store_header=header(dtype="float16"))
    plain = tmp_path / "plain"
    export_store(tmp_path / "s.cubes", plain, kind="folder")
    import_features(plain, tmp_path / "out", kind="folder")
    report = import_features(plain, tmp_path / "out", kind="folder")

    assert (report.num_imported, report.num_done_before) == (0, 2)
    with Store(tmp_path / "out") as a, Store(tmp_path / "s.cubes") as b:
        assert diff_stores(a, b).identical
