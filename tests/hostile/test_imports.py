"""Features of strangers: memory is bounded, links lead nowhere, and what is written can be read."""

import io
import os
import zipfile

import h5py
import numpy as np
import pytest

from features_store.exchange import ImportOptions, import_features
from features_store.exchange.annotation_file import FILE_NAME as ANNOTATIONS
from features_store.store import Store
from tests.hostile.limits import assert_refused, run_limited

GOOD = np.ones((3, 2), np.float32)


def import_limited(tmp_path, source, kind):
    name = () if kind == "folder" else ("--name", "x", "--dtype", "float32")
    arguments = ("store", "import", source, "--out", tmp_path / "o", "--format", kind)
    return run_limited(tmp_path, *arguments, *name)


def npy_header(shape, descr="<f4") -> bytes:
    buffer = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def zeros(path, **shapes) -> None:
    """Write a .npz file of deflated zeros: name to shape and dtype."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (shape, descr) in shapes.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(npy_header(shape, descr))
                left = int(np.prod(shape)) * np.dtype(descr).itemsize
                noise = np.random.default_rng(0).random(2**13).astype(descr).tobytes()
                while left:  # with some noise: more than 1000 to 1 is not believed
                    left -= member.write((noise + bytes(2**23))[:left])


def sharma(folder, *, rows=2, **texts) -> None:
    folder.mkdir()
    with h5py.File(folder / "train_features.h5", "w") as file:
        file["features"] = np.ones((rows, 49), np.float32)
    said = {"framenum": "1\n" * rows, "filename": "", "labels": "0\n" * rows} | texts
    said["filename"] = said["filename"] or "".join(f"v{i}\n" for i in range(rows))
    for name, text in said.items():
        (folder / f"train_{name}.txt").write_text(text)


def sharma_of_long_names(folder):
    """Two class names of 35 kB, and both are shown by each of 8,000 videos: 102 kB of text."""
    names = f"{'a' * 35_000}\n{'b' * 35_000}\n"
    sharma(folder, rows=8000, classes=names, labels="1,1\n" * 8000)


def sharma_of_many_lines(folder):
    sharma(folder, filename="\n" * 2**23)


def sharma_of_many_classes(folder):
    sharma(folder, labels=",".join("1" * 2**24) + "\n")


def sharma_of_chunks_that_are_not_there(folder):
    sharma(folder)
    (folder / "train_framenum.txt").write_text("99999\n1\n")
    with h5py.File(folder / "train_features.h5", "w") as file:
        file.create_dataset("features", (10**5, 49), "<f4", chunks=(100, 49), compression="gzip")


def arrays_of_one_long_video(folder):
    """2 MB that are a video of 2 GB."""
    folder.mkdir()
    one = {"label": ((1,), "<i8"), "subset": ((1,), "<i8"), "name": ((1,), "<U1")}
    zeros(folder / "features.npz", X=((1, 10**8, 1), "<f4"), **one)


def arrays_of_many_videos(folder):
    folder.mkdir()
    many = (2**22,)
    small = {"label": (many, "|i1"), "subset": (many, "|i1"), "name": (many, "|i1")}
    zeros(folder / "features.npz", X=((2**22, 1, 1), "<f2"), **small)


def npz_of_a_long_video(folder):
    folder.mkdir()
    zeros(folder / "a.npz", feats=((10**8, 1), "<f4"))


def npy_of_a_huge_row(folder):
    folder.mkdir()
    content = npy_header((1, 7 * 10**7))
    with (folder / "a.npy").open("wb") as file:
        file.write(content)
        file.truncate(len(content) + 28 * 10**7)


def npy_beside_deep_annotations(folder):
    folder.mkdir()
    np.save(folder / "a.npy", GOOD)
    (folder / ANNOTATIONS).write_text("[" * 2**20)


def npy_beside_many_annotations(folder):
    """50 MB of text that would be 1.3 GB of lists."""
    folder.mkdir()
    np.save(folder / "a.npy", GOOD)
    (folder / ANNOTATIONS).write_text("[" + "[]," * 2**24 + "0]")


def npy_link(folder):
    folder.mkdir()
    np.save(folder.with_name("elsewhere.npy"), GOOD)
    (folder / "a.npy").symlink_to(folder.with_name("elsewhere.npy"))


def npy_pipe(folder):
    folder.mkdir()
    os.mkfifo(folder / "a.npy")


def arrays_pipe(folder):
    folder.mkdir()
    os.mkfifo(folder / "features.npz")


REFUSED = {
    "sharma": [
        sharma_of_long_names, sharma_of_many_lines, sharma_of_many_classes,
        sharma_of_chunks_that_are_not_there,
    ],
    "arrays": [arrays_of_many_videos, arrays_pipe],
    "npy": [
        npy_of_a_huge_row, npy_beside_deep_annotations, npy_beside_many_annotations, npy_link,
        npy_pipe,
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "build"), [(kind, build) for kind, builds in REFUSED.items() for build in builds]
)
def test_a_hostile_source_is_refused_and_nothing_is_written(tmp_path, kind, build):
    build(tmp_path / "f")
    done = import_limited(tmp_path, tmp_path / "f", kind)

    assert_refused(done, 2, 3)
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "build"), [("arrays", arrays_of_one_long_video), ("npz", npz_of_a_long_video)]
)
def test_a_long_video_of_zeros_is_read_in_blocks(tmp_path, kind, build):
    """It is what it says, so it is imported, within the memory of a block."""
    build(tmp_path / "f")
    done = import_limited(tmp_path, tmp_path / "f", kind)

    assert done.code == 0, done


def test_what_an_import_writes_its_reader_takes(tmp_path):
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "a.npy", np.ones((2, 2**20), np.float32))
    import_features(tmp_path / "f", tmp_path / "o", kind="npy", options=ImportOptions(name="x"))

    with Store(tmp_path / "o") as store:
        assert store.cubes("a").shape == (2, 1, 1, 2**20)


def test_times_are_those_of_their_rows_in_every_block(tmp_path, monkeypatch):
    from features_store.format import layout

    monkeypatch.setattr(layout, "BLOCK_BYTES", 64)
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "a.npy", np.ones((11, 2), np.float32))
    options = ImportOptions(name="x", fps=10, feat_stride=4)
    import_features(tmp_path / "f", tmp_path / "o", kind="npy", options=options)

    with Store(tmp_path / "o") as store:
        assert store.read("a", "pts_seconds").tolist() == (np.arange(11) * 4 / 10).tolist()
        assert store.read("a", "frame_index").tolist() == list(range(0, 44, 4))


def test_videos_of_one_array_are_read_apart(tmp_path, monkeypatch):
    from features_store.format import layout

    monkeypatch.setattr(layout, "BLOCK_BYTES", 64)
    cubes = np.random.default_rng(0).random((3, 5, 2), np.float32)
    said = {"label": np.zeros(3, int), "subset": np.ones(3, int), "name": np.array(["a", "b", "c"])}
    np.savez(tmp_path / "f.npz", X=cubes, **said)
    options = ImportOptions(name="x")
    import_features(tmp_path / "f.npz", tmp_path / "o", kind="arrays", options=options)

    with Store(tmp_path / "o") as store:
        for video, expected in zip("abc", cubes, strict=True):
            np.testing.assert_array_equal(store.cubes(video)[:, 0, 0], expected)
