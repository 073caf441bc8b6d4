"""Outputs: whole or not at all, through no link, done only where the content is the same."""

import errno
import os

import numpy as np
import pytest

from features_store.errors import ContractError, DamageError
from features_store.exchange import FORMATS, export_store
from features_store.format.layout import LayerShape
from features_store.format.outputs import (
    append_lines,
    cut_torn_line,
    link_new,
    make_folder,
    new_file,
    write_atomically,
)
from tests.stores import header, make_store

ONE_CELL = header(layers=(LayerShape("features", 1, 6),), has_diffs=False)


@pytest.fixture
def elsewhere(tmp_path):
    """A folder with a file that no output may change."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "victim").write_text("mine")
    yield folder
    assert {path.name for path in folder.iterdir()} == {"victim"}
    assert (folder / "victim").read_text() == "mine"


@pytest.fixture
def store(tmp_path):
    lengths = {f"{label}/v{i}": 2 for label in "ab" for i in range(4)}
    make_store(tmp_path / "s", lengths, store_header=ONE_CELL)
    return tmp_path / "s"


def files_below(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_follows_no_link_that_waits_under_a_temporary_name(
    cubereel, store, elsewhere, tmp_path, kind
):
    out = tmp_path / "out"
    export_store(store, out, kind=kind)
    for path in list(files_below(out)):
        if path.name != "export.json":
            (out / path).unlink()
            (out / path).with_name(f".{path.name}.new").symlink_to(elsewhere / "victim")

    assert cubereel("store", "export", store, "--out", out, "--format", kind) == 0


@pytest.mark.parametrize("kind", ["npy", "npz", "folder"])
def test_an_export_follows_no_link_in_place_of_a_folder(cubereel, store, elsewhere, tmp_path, kind):
    out = tmp_path / "out"
    export_store(store, out, kind=kind)
    (out / "a").rename(tmp_path / "moved")
    (out / "a").symlink_to(elsewhere)

    assert cubereel("store", "export", store, "--out", out, "--format", kind) == 3
    assert "is a link or a file, expected a folder" in cubereel.err


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_is_done_where_the_content_is_the_same(store, tmp_path, kind):
    out = tmp_path / "out"
    export_store(store, out, kind=kind)
    whole = files_below(out)
    changed = [path for path in whole if path.name != "export.json"][:2]
    for path, content in zip(changed, (b"", b"garbage"), strict=False):
        (out / path).write_bytes(content or whole[path][:-1] + b"?")

    assert export_store(store, out, kind=kind).num_files_written == len(changed)
    assert files_below(out) == whole
    assert export_store(store, out, kind=kind).num_files_written == 0


def test_a_write_that_fails_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"before")

    def fail(_descriptor):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"after")
    with pytest.raises(OSError, match="no space"), new_file(path) as file:
        file.write(b"after")
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_name_that_is_a_link_is_replaced_and_a_folder_is_refused(tmp_path, elsewhere):
    (tmp_path / "file").symlink_to(elsewhere / "victim")
    write_atomically(tmp_path / "file", b"new")
    assert not (tmp_path / "file").is_symlink()

    (tmp_path / "folder").mkdir()
    with pytest.raises(DamageError, match="is a folder, expected a file"):
        write_atomically(tmp_path / "folder", b"new")
    (tmp_path / "taken").symlink_to(elsewhere / "victim")
    assert not link_new(tmp_path / "taken", b"new")


@pytest.mark.parametrize("depth", [1, 2])
def test_no_writer_goes_through_a_link_below_the_chosen_folder(tmp_path, elsewhere, depth):
    out = tmp_path / "out"
    link = out / "/".join(["x"] * depth)
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    for write in (
        lambda path: write_atomically(path, b"new", below=out),
        lambda path: append_lines(path, b"new\n", below=out),
        lambda path: make_folder(path, below=out),
    ):
        with pytest.raises(ContractError, match="nothing is written through a link"):
            write(link / "new" / "file")


def test_lines_are_appended_to_files_alone(tmp_path, elsewhere):
    (tmp_path / "link").symlink_to(elsewhere / "victim")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        for write in (
            lambda path: append_lines(path, b"x\n", below=tmp_path),
            lambda path: cut_torn_line(path, below=tmp_path),
        ):
            with pytest.raises(ContractError, match="is a link or no regular file"):
                write(tmp_path / name)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"a\n", b"a\n"),
        (b"a\nb", b"a\n"),
        (b"ab", b""),
        (b"a\n" + b"b" * 2**17, b"a\n"),
    ],
)
def test_a_torn_line_is_cut_wherever_it_began(tmp_path, before, after):
    (tmp_path / "log").write_bytes(before)
    cut_torn_line(tmp_path / "log", below=tmp_path)
    assert (tmp_path / "log").read_bytes() == after


@pytest.mark.parametrize("name", ["checkpoints", "fits", "log.jsonl"])
def test_a_run_goes_through_no_link_of_its_folder(cubereel, store, elsewhere, tmp_path, name):
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to(elsewhere / "victim" if "." in name else elsewhere)
    options = ("--head", "mean-pool", "--epochs", 1, "--folds", 2, "--processes", 1)

    assert cubereel("train", store, *options, "--out", run) == 3
    assert "is a link" in cubereel.err


@pytest.mark.parametrize("name", ["runs", "failures", "units", "shards"])
def test_an_import_goes_through_no_link_of_its_store(cubereel, elsewhere, tmp_path, name):
    (tmp_path / "f").mkdir()
    arguments = ("store", "import", tmp_path / "f", "--out", tmp_path / "o", "--format", "npy")
    np.save(tmp_path / "f" / "a.npy", np.ones((2, 3), np.float32))
    assert cubereel(*arguments, "--name", "x") == 0
    np.save(tmp_path / "f" / "b.npy", np.ones((2, 3), np.float32))
    place = tmp_path / "o" / name
    if place.exists():
        place.rename(tmp_path / "moved")
    place.symlink_to(elsewhere)

    assert cubereel(*arguments, "--name", "x") in (0, 3)
    assert "Traceback" not in cubereel.err
