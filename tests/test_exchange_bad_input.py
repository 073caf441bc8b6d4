"""Foreign features are untrusted: refused in one line before memory is taken, nothing written."""

import io
import json
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest

from features_store.errors import CubereelError, StoreError, UsageError
from features_store.exchange import FORMATS, ImportOptions, export_store, import_features
from features_store.exchange.formats.registry import find_format
from features_store.format.layout import LayerShape
from features_store.manifest import ManifestRow, write_manifest
from features_store.metadata import read_header
from features_store.sources import new_source
from tests.stores import header, make_store

ONE_CELL = header(layers=(LayerShape("features", 1, 6),), has_diffs=False)
GOOD = np.ones((3, 2), np.float32)


class Evil:
    def __reduce__(self):
        return (print, ("code from a features file ran",))


def npy_bytes(array, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def lying(shape: str) -> bytes:
    """Return a .npy file whose header claims another shape than (3, 2)."""
    return npy_bytes(GOOD).replace(
        b"(3, 2), }" + b" " * len(shape), shape.encode() + b", }  " + b" " * 4
    )


def zip_bytes(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def bomb() -> bytes:
    """Return a small archive that claims, truly, to unpack to 64 MB of zeros."""
    return zip_bytes(feats=npy_bytes(np.zeros((2**12, 2**12), np.float32)))


BAD_FILES = {
    "pickle.npy": (npy_bytes(np.array([Evil()], object), allow_pickle=True), "is a pickle"),
    "lies.npy": (lying("(2**40, 2)"), "not an array in npy format"),
    "huge.npy": (lying("(99999999999, 2)"), "claims shape (99999999999, 2)"),
    "minus.npy": (lying("(-3, 2)"), "its shape is (-3, 2)"),
    "number.npy": (lying("0x" + "f" * 40), "its shape is"),
    "dict.npy": (lying("{3: 2}"), "its shape is {3: 2}"),
    "texts.npy": (lying("('a', 2)"), "its shape is ('a', 2)"),
    "axes.npy": (lying("(1,) * 99"), "not an array in npy format"),
    "cut.npy": (npy_bytes(GOOD)[:-4], "was cut off"),
    "text.npy": (b"hello", "is not an array in npy format"),
    "empty.npy": (b"", "is not an array in npy format"),
    "deep.npy": (b"\x93NUMPY\x01\x00\x00\x20" + b"(" * 2**13, "is not an array in npy format"),
    "no-order.npy": (
        npy_bytes(GOOD).replace(b"fortran_order", b"fortran_odder"),
        "'fortran_order'",
    ),
    "int0.npy": (npy_bytes(GOOD).replace(b"<f4", b"<f0"), "has dtype '<f0'"),
    "flat.npy": (npy_bytes(np.ones(3, np.float32)), "expected T×D"),
    "none.npy": (npy_bytes(np.ones((0, 2), np.float32)), "at least one row"),
    "words.npy": (npy_bytes(np.array([["a"]])), "float16 or float32"),
    "double.npy": (npy_bytes(np.ones((3, 2))), "give --dtype float16 or float32"),
    "nan.npy": (npy_bytes(GOOD * np.nan), "nan or infinite"),
    "fields.npy": (npy_bytes(np.zeros(2, [("a", "f4")])), "expected plain numbers"),
    "pickle.npz": (
        zip_bytes(feats=npy_bytes(np.array([Evil()], object), allow_pickle=True)),
        "is a pickle",
    ),
    "text.npz": (b"hello", "cannot be read as a .npz file"),
    "cut.npz": (zip_bytes(feats=npy_bytes(GOOD))[:-30], "cannot be read as a .npz file"),
    "bomb.npz": (bomb(), "is not believed"),
    "two.npz": (zip_bytes(a=npy_bytes(GOOD), b=npy_bytes(GOOD)), "name the features 'feats'"),
    "lies.npz": (zip_bytes(feats=lying("(99999999999, 2)")), "claims shape"),
    "columns.npz": (zip_bytes(feats=npy_bytes(np.asfortranarray(GOOD))), "column by column"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_arrays_are_refused_and_nothing_is_written(cubereel, tmp_path, name):
    content, message = BAD_FILES[name]
    (tmp_path / "feats").mkdir()
    (tmp_path / "feats" / name).write_bytes(content)
    kind = name[-3:]
    arguments = (tmp_path / "feats", "--out", tmp_path / "s", "--format", kind, "--name", "x")

    assert cubereel("store", "import", *arguments) in (2, 3)
    assert message in cubereel.err
    assert name in cubereel.err or "--dtype" in message or "nan" in message
    assert "Traceback" not in cubereel.err
    assert "code from a features file ran" not in cubereel.out + cubereel.err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_no_flipped_byte_is_a_crash(tmp_path, kind):
    rng = np.random.default_rng(0)
    whole = npy_bytes(GOOD) if kind == "npy" else zip_bytes(feats=npy_bytes(GOOD))
    refused = 0
    for _ in range(300):
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(len(content), size=2)] = rng.integers(256, size=2)
        (tmp_path / f"a.{kind}").write_bytes(content.tobytes())
        try:
            with find_format(kind).open_features(tmp_path, ImportOptions()) as features:
                assert [len(b["pts_seconds"]) for v in features.videos for b in v.blocks()] == [3]
        except CubereelError:
            refused += 1

    assert 0 < refused < 300


def array_file(**changes) -> bytes:
    arrays = {
        "X": np.ones((2, 3, 4), np.float16),
        "label": np.array([1, 2]),
        "subset": np.array([1, 2]),
        "name": np.array(["a", "b"]),
    } | changes
    return zip_bytes(**{n: npy_bytes(a) for n, a in arrays.items() if a is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": np.array(["../a", "b"])}, "'../a' is not a relative path"),
        ({"name": np.array(["/etc/a", "b"])}, "'/etc/a' is not a relative path"),
        ({"name": np.array(["a", "a"])}, "are both video 'a'"),
        ({"name": np.array(["a"])}, "X has 2 videos, name 1"),
        ({"name": None}, "has no array 'name'"),
        ({"label": np.array([0.5, 1])}, "expected int64"),
        ({"label": np.array([-2, 1])}, "label -2 is none of"),
        ({"subset": np.array([1, 9])}, "subset 9; expected 1 (train)"),
        ({"classes": np.array(["run"])}, "label 2 is none of the 1 classes"),
        ({"X": np.ones((2, 3), np.float16)}, "expected (N, T, D)"),
        ({"classes": np.array(["\ud800", "b"])}, "surrogates not allowed"),
        (
            {"classes": np.array([0x110005, 98], "<u4").view("<U1")},
            "'classes' is no Unicode text",
        ),
    ],
)
def test_bad_array_files(cubereel, tmp_path, changes, message):
    path = tmp_path / "f.npz"
    path.write_bytes(array_file(**changes))
    arguments = (path, "--out", tmp_path / "s", "--format", "arrays", "--name", "x")

    assert cubereel("store", "import", *arguments) == 3
    assert message in cubereel.err
    assert "f.npz" in cubereel.err
    assert not (tmp_path / "s").exists()


def sharma_folder(folder, *, rows=5, width=98, **changes):
    folder.mkdir()
    with h5py.File(folder / "train_features.h5", "w") as file:
        file["features"] = np.ones((rows, width), np.float32)
    texts = {"framenum": "2\n3\n", "filename": "a\nb\n", "labels": "0\n1\n"} | changes
    for name, text in texts.items():
        (folder / f"train_{name}.txt").write_text(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filename": "a\n../b\n"}, "'../b' is not a relative path"),
        ({"filename": "a\n"}, "2 lengths, 1 file names and 2 labels"),
        ({"framenum": "2\n4\n"}, "6 of them, which is the sum"),
        ({"framenum": "2\n-3\n"}, "line 2: expected a number of frames, got '-3'"),
        ({"framenum": "99999999999999999999\n3\n"}, "line 1: expected a number of frames"),
        ({"labels": "0\nrun\n"}, "expected the number of a class, got 'run'"),
        ({"labels": "0,1\n1\n"}, "expected 2 times 0 or 1"),
        ({"labels": "0\n1\n", "classes": "run\n"}, "label 1 is none of the 1 classes"),
        ({"width": 100}, "no cubes of 7×7 cells; give --grid-size"),
    ],
)
def test_bad_sharma_files(cubereel, tmp_path, changes, message):
    sharma_folder(tmp_path / "f", **changes)
    arguments = (tmp_path / "f", "--out", tmp_path / "s", "--format", "sharma", "--name", "x")

    assert cubereel("store", "import", *arguments) in (2, 3)
    assert message in cubereel.err
    assert not (tmp_path / "s").exists()


def test_a_features_file_that_reaches_outside_itself(tmp_path):
    sharma_folder(tmp_path / "f")
    with h5py.File(tmp_path / "f" / "train_features.h5", "w") as file:
        file["features"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "features")

    with pytest.raises(StoreError, match="ExternalLink"):
        import_features(
            tmp_path / "f", tmp_path / "s", kind="sharma", options=ImportOptions(name="x")
        )


@pytest.fixture
def plain(tmp_path):
    make_store(tmp_path / "s.cubes", {"a/v": 3, "b/v": 2}, store_header=header(dtype="float16"))
    export_store(tmp_path / "s.cubes", tmp_path / "plain", kind="folder")
    return tmp_path / "plain"


@pytest.mark.parametrize(
    ("field", "value"),
    [("id", "../../v"), ("id", 3), ("width", 2**40), ("colour_range", "x" * 99), ("crop", 1),
     ("extra", 1), ("source_fps", "fast"), ("status", "odd"), ("source_fps", -5),
     ("num_frames", -1), ("crop", [1e400, 0, 0, 0]), ("media_sha256", "zz"), ("checksums", 1)],
)  # fmt: skip
def test_a_record_that_is_none(plain, tmp_path, field, value):
    path = plain / "a" / "v" / "video.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))

    with pytest.raises(CubereelError, match="is not the record of a video"):
        import_features(plain, tmp_path / "out", kind="folder")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cubes.top", 1, "is not what was exported"),
        ("cubes.top", np.nan, "nan or infinite"),
        ("pts_seconds", np.nan, "nan or infinite"),
        ("frame_index", 7, "is not what was exported"),
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "8bit"])
def test_altered_features_are_not_those_of_the_spec(tmp_path, name, value, message, dtype):
    make_store(tmp_path / "s", {"a/v": 3}, store_header=header(dtype=dtype))
    export_store(tmp_path / "s", tmp_path / "plain", kind="folder")
    path = tmp_path / "plain" / "a" / "v" / f"{name}.npy"
    array = np.load(path)
    array[1] = value
    np.save(path, array)

    with pytest.raises(StoreError, match=message):
        import_features(tmp_path / "plain", tmp_path / "out", kind="folder")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"annotations": [{"label": "\ud800"}]}, "surrogates not allowed"),
        ({"annotations": [{"label": "x" * 2**18}]}, "too long for a manifest"),
        ({"fps": 1e-300, "feat_stride": 1e15}, "fps must be positive"),
        ({"fps": 1e-9, "feat_stride": 1e15}, "at no time that can be"),
        ({"fps": True, "feat_stride": 4}, "fps must be a positive number"),
        ({"subset": ["train"]}, "subset must be a text"),
    ],
)
def test_bad_annotations(cubereel, tmp_path, entry, message):
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "a.npy", GOOD)
    (tmp_path / "f" / "annotations.json").write_text(json.dumps({"database": {"a": entry}}))
    arguments = (tmp_path / "f", "--out", tmp_path / "o", "--format", "npy", "--name", "x")

    assert cubereel("store", "import", *arguments) in (2, 3)
    assert message in cubereel.err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_file_is_no_folder(cubereel, plain, tmp_path, out):
    (tmp_path / "file").touch()

    assert cubereel("store", "import", plain, "--out", tmp_path / out, "--format", "folder") == 2
    assert "file' is a file, not a folder; give a new folder" in cubereel.err
    arguments = (tmp_path / "s.cubes", "--out", tmp_path / out, "--format", "folder")
    assert cubereel("store", "export", *arguments) == 2
    assert "file' is a file, not a folder; give a new folder" in cubereel.err


def test_an_export_json_speaks_of_its_own_files_alone(cubereel, tmp_path):
    said = (new_source("videos", licence="MIT"),)
    make_store(tmp_path / "s", {"a": 2}, store_header=replace(ONE_CELL, sources=said))
    export_store(tmp_path / "s", tmp_path / "out", kind="arrays")
    other = tmp_path / "out" / "other.npz"
    other.write_bytes((tmp_path / "out" / "features.npz").read_bytes())
    for path, licence in ((tmp_path / "out" / "features.npz", "MIT"), (other, None)):
        out = tmp_path / path.stem
        import_features(path, out, kind="arrays", options=ImportOptions(name="x"))
        assert [source.licence for source in read_header(out).sources] == [licence]

    document = json.loads((tmp_path / "out" / "export.json").read_text())
    assert document["layers"] == ["features"]
    (tmp_path / "out" / "export.json").write_text(json.dumps(document | {"fps": 10**400}))
    arguments = (tmp_path / "out", "--out", tmp_path / "o", "--format", "arrays", "--name", "x")
    assert cubereel("store", "import", *arguments) == 3
    assert "a number of 401 digits" in cubereel.err


@pytest.mark.parametrize("target", ["/dev/zero", "other.json"])
@pytest.mark.parametrize("name", ["annotations.json", "train_filename.txt", "train_classes.txt"])
def test_text_files_that_are_links(tmp_path, name, target):
    sharma_folder(tmp_path / "f")
    np.save(tmp_path / "f" / "a.npy", GOOD)
    (tmp_path / "f" / name).unlink(missing_ok=True)
    (tmp_path / "f" / name).symlink_to(target)

    kind = "npy" if name == "annotations.json" else "sharma"
    with pytest.raises(StoreError, match="is a link to"):
        import_features(tmp_path / "f", tmp_path / "o", kind=kind, options=ImportOptions(name="x"))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("label", "num_classes", "refused"),
    [
        ("0", "999999999", True),
        ("1;999999999999", "", True),
        ("0", "99999999999", False),
        ("0", "9" * 5000, False),
        ("0", "7", False),
    ],
)
def test_a_number_of_classes_does_not_fill_memory(tmp_path, label, num_classes, refused):
    make_store(tmp_path / "s", {"a": 2, "b": 2}, store_header=ONE_CELL)
    rows = [ManifestRow("a", "a", label, extra={"num_classes": num_classes})]
    write_manifest(tmp_path / "s" / "manifest.csv", rows)
    if not refused:
        export_store(tmp_path / "s", tmp_path / "out", kind="sharma")
        return
    with pytest.raises(CubereelError, match="are too much text"):
        export_store(tmp_path / "s", tmp_path / "out", kind="sharma")
    assert not (tmp_path / "out").exists()


def test_hidden_files_are_not_exported(tmp_path):
    make_store(tmp_path / "s", {"a/.h": 2, "b": 2}, store_header=ONE_CELL)

    with pytest.raises(CubereelError, match=r"'a/.h' would be a hidden file"):
        export_store(tmp_path / "s", tmp_path / "out", kind="npz")
    assert not (tmp_path / "out").exists()
    export_store(tmp_path / "s", tmp_path / "out", kind="folder")
    assert import_features(tmp_path / "out", tmp_path / "o", kind="folder").num_imported == 2


def test_an_export_that_lost_a_video(plain, tmp_path):
    (plain / "a" / "v" / "video.json").unlink()

    with pytest.raises(CubereelError, match="exported with 2 videos and holds 1"):
        import_features(plain, tmp_path / "out", kind="folder")


def test_a_folder_that_links_outside(plain, tmp_path):
    outside = tmp_path / "secret.npy"
    (plain / "a" / "v" / "pts_seconds.npy").rename(outside)
    (plain / "a" / "v" / "pts_seconds.npy").symlink_to(outside)

    with pytest.raises(StoreError, match="outside the store"):
        import_features(plain, tmp_path / "out", kind="folder")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--format", "npx"), 2, "no format named 'npx'; did you mean"),
        (("--format", "npy"), 2, "has 2×2 cells, this format one vector a frame; give --pool"),
        (("--format", "npy", "--pool", "sum"), 2, "no way of pooling named 'sum'"),
        (("--format", "folder", "--pool", "max"), 2, "keeps all cells"),
        (("--format", "folder", "--layer", "tip"), 2, "no layer 'tip'"),
        (("--format", "folder", "--video", "../v"), 2, "'../v' is not a relative path"),
        (("--format", "folder", "--video", "c"), 2, "no video 'c'"),
        (("--format", "arrays", "--pool", "max"), 2, "2 to 3 frames, one array needs the same"),
    ],
)
def test_exports_that_cannot_be(cubereel, plain, tmp_path, arguments, code, message):
    out = tmp_path / "out"

    assert cubereel("store", "export", tmp_path / "s.cubes", "--out", out, *arguments) == code
    assert message in cubereel.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "npy"), "give --format folder, not npy"),
        (("--format", "folder", "--fps", 3), "'folder' takes no --fps"),
        (("--format", "folder", "--name", "x"), "leave out --name"),
    ],
)
def test_imports_that_cannot_be(cubereel, plain, tmp_path, arguments, message):
    assert cubereel("store", "import", plain, "--out", tmp_path / "o", *arguments) == 2
    assert message in cubereel.err
    assert not (tmp_path / "o").exists()


def test_foreign_features_need_a_name_and_whole_timing(cubereel, tmp_path):
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "a.npy", GOOD)
    arguments = ("store", "import", tmp_path / "f", "--out", tmp_path / "o", "--format", "npy")

    assert cubereel(*arguments) == 2
    assert "give --name" in cubereel.err
    assert cubereel(*arguments, "--name", "x", "--fps", 25) == 2
    assert "give --fps and --feat-stride" in cubereel.err
    assert not (tmp_path / "o").exists()


def test_files_that_would_be_folders_too(tmp_path):
    make_store(tmp_path / "s", {"a": 2, "a.npy/b": 2}, store_header=ONE_CELL)

    with pytest.raises(CubereelError, match=r"'a.npy' would be a file and"):
        export_store(tmp_path / "s", tmp_path / "out", kind="npy")
    assert not (tmp_path / "out").exists()


def test_an_export_never_goes_into_something_else(tmp_path):
    make_store(tmp_path / "s", {"a": 2}, store_header=ONE_CELL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").touch()
    export_store(tmp_path / "s", tmp_path / "out", kind="npy")

    with pytest.raises(UsageError, match=r"other things than an export \('diary.txt'\)"):
        export_store(tmp_path / "s", tmp_path / "mine", kind="npy")
    with pytest.raises(UsageError, match="another export: its format is 'npy'"):
        export_store(tmp_path / "s", tmp_path / "out", kind="npz")
    write_manifest(tmp_path / "s" / "manifest.csv", [ManifestRow("a", "a", "edited")])
    with pytest.raises(UsageError, match="another export: its selection_sha256"):
        export_store(tmp_path / "s", tmp_path / "out", kind="npy")


def test_a_file_name_that_is_not_text(tmp_path):
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "a\udcff.npy", GOOD)

    with pytest.raises(CubereelError, match="is no UTF-8 text"):
        import_features(tmp_path / "f", tmp_path / "o", kind="npy", options=ImportOptions(name="x"))


@pytest.mark.parametrize("verb", ["export", "import"])
def test_the_help_names_every_format(cubereel, verb):
    assert cubereel("store", verb, "--help") == 0
    assert all(name in cubereel.out for name in FORMATS)
