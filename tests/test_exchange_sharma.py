"""The layout of Sharma et al.: their code must find every value where it looks for it."""

import h5py
import numpy as np

from features_store.exchange import ImportOptions, export_store, import_features
from features_store.exchange.formats.sharma import to_cubes, to_rows
from features_store.format.layout import LayerShape
from features_store.manifest import ManifestRow, write_manifest
from features_store.store import Store
from tests.stores import header, make_store


def test_sharma_row_is_read_as_their_code_reads_it():
    """Position p of 49 is row p // 7, column p % 7; positions before channels in Fortran order."""
    cube = np.zeros((7, 7, 3), np.float32)
    for y in range(7):
        for x in range(7):
            cube[y, x] = [100 * y + x, 1000 + 100 * y + x, 2000 + 100 * y + x]
    batch = to_rows(np.stack([cube, -cube]))
    theirs = batch.reshape([1, 2, 49, 3], order="F")  # as data_handler.py does
    for p in range(49):
        np.testing.assert_array_equal(theirs[0, 0, p], cube[p // 7, p % 7])
    np.testing.assert_array_equal(to_cubes(batch, 7), [cube, -cube])


def test_sharma_files(tmp_path):
    store = tmp_path / "s.cubes"
    lengths = {"a/jump.mp4": 3, "a/none.mp4": 5, "b/run.mp4": 5}
    make_store(store, lengths, store_header=header(layers=(LayerShape("top", 2, 8),)))
    write_manifest(
        store / "manifest.csv",
        [
            ManifestRow("b/run.mp4", "b/run.mp4", "run", split="train"),
            ManifestRow("a/jump.mp4", "a/jump.mp4", "jump", split="val"),
            ManifestRow("a/none.mp4", "a/none.mp4", split="train"),
        ],
    )
    export_store(store, tmp_path / "out", kind="sharma")

    out = tmp_path / "out"
    assert (out / "train_framenum.txt").read_text() == "5\n5\n"
    assert (out / "train_filename.txt").read_text() == "b/run.mp4\na/none.mp4\n"
    assert (out / "train_labels.txt").read_text() == "1\n-1\n"
    assert (out / "valid_labels.txt").read_text() == "0\n"
    assert (out / "valid_classes.txt").read_text() == "jump\nrun\n"
    with h5py.File(out / "train_features.h5") as file, Store(store) as opened:
        assert file["features"].dtype == "<f4"
        assert file["features"].shape == (10, 2 * 2 * 8)
        cubes = file["features"][5:].reshape(5, 4, 8, order="F").reshape(5, 2, 2, 8)
        np.testing.assert_array_equal(cubes, opened.cubes("a/none.mp4"))


def test_several_labels_a_video(tmp_path):
    """Hollywood2 has 0 and 1 for each of its classes; a class, or a video, may have none."""
    folder = tmp_path / "h2"
    folder.mkdir()
    with h5py.File(folder / "train_features.h5", "w") as file:
        file["features"] = np.random.default_rng(0).random((5, 49 * 2), np.float32)
    texts = {
        "framenum": "2\n1\n1\n1\n",
        "filename": "a\nb\nc\nd\n",
        "labels": "0,1,1,0\n0,0,0,0\n1,0,0,0\n-1,-1,-1,-1\n",
    }
    for name, text in texts.items():
        (folder / f"train_{name}.txt").write_text(text)
    import_features(
        folder, tmp_path / "s.cubes", kind="sharma", options=ImportOptions(name="googlenet", fps=30)
    )

    with Store(tmp_path / "s.cubes") as opened:
        assert [row.label for row in opened.manifest.values()] == ["1;2", ";", "0", ""]
        assert opened.read("a", "pts_seconds").tolist() == [0, 1 / 30]
    export_store(tmp_path / "s.cubes", tmp_path / "again", kind="sharma")
    for name, text in texts.items():
        assert (tmp_path / "again" / f"train_{name}.txt").read_text() == text
    with (
        h5py.File(folder / "train_features.h5") as a,
        h5py.File(tmp_path / "again" / "train_features.h5") as b,
    ):
        np.testing.assert_array_equal(a["features"], b["features"])
