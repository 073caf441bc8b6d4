"""Import and export: round trips are identities, in every format and both directions."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from features_store.errors import ContractError, DamageError, StoreError, UsageError
from features_store.exchange import FORMATS, ImportOptions, export_store, import_features
from features_store.format.layout import LayerShape
from features_store.manifest import ManifestRow, read_store_manifest, write_manifest
from features_store.session import StoreSession
from features_store.sources import new_source
from features_store.store import Store
from features_store.verbs.diff import diff_stores
from features_store.verbs.verify import verify_store
from tests.stores import add_video, frames, header, make_store

TERMS = {"licence": "CC-BY-4.0", "origin": "a camera", "citation": "Someone, 2020"}
SOURCES = {"sources": (new_source("videos", **TERMS),)}
LENGTHS = {"b/run.mp4": 5, "a/jump.mp4": 3, "a/none.mp4": 5}
LAYERS = (LayerShape("mid", 4, 3), LayerShape("top", 2, 8))
ONE_CELL = (LayerShape("features", 1, 6),)
FOREIGN = [kind for kind in FORMATS if kind != "folder"]  # which is all of a store, in plain files


def write_rows(store, *rows):
    write_manifest(store / "manifest.csv", rows)


@pytest.fixture
def store(tmp_path):
    """Three videos of two layers; the manifest is not in the order of ids."""
    path = tmp_path / "s.cubes"
    make_store(path, LENGTHS, store_header=header(layers=LAYERS, dtype="float16", **SOURCES))
    write_rows(
        path,
        ManifestRow("b/run.mp4", "b/run.mp4", "run", "g1", "train", extra={"camera": "2"}),
        ManifestRow("a/jump.mp4", "a/jump.mp4", "jump", "g2", "val"),
        ManifestRow("a/none.mp4", "a/none.mp4", "", "g3", "train"),
        ManifestRow("c/failed.mp4", "c/failed.mp4", "run"),
    )
    return path


@pytest.fixture
def vectors(tmp_path):
    """Three videos with one cell a frame, all of one length."""
    path = tmp_path / "v.cubes"
    lengths = dict.fromkeys(LENGTHS, 4)
    make_store(path, lengths, store_header=header(layers=ONE_CELL, has_diffs=False, **SOURCES))
    splits = ("test", "train", "")
    write_rows(
        path, *(ManifestRow(i, i, i[2:5], split=s) for i, s in zip(lengths, splits, strict=True))
    )
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")
            if p.is_file()}  # fmt: skip


def contents(path: Path) -> dict[str, tuple]:
    """Return bytes of cubes and times of every video, and what is said of it."""
    with Store(path) as opened:
        rows = opened.manifest
        return {
            i: (
                opened.cubes(i).astype(np.float32).tobytes(),
                opened.read(i, "pts_seconds").tolist(),
                rows[i].label,
                rows[i].split,
                "annotations" in rows[i].extra,
            )
            for i in opened.ids
        }


def plain_record(record):
    return replace(record, offset=0, checksums=(), start_seconds=0.0, end_seconds=0.0)


@pytest.mark.parametrize("encoding", [("float16", "none"), ("float32", "zstd"), ("8bit", "none")])
def test_folder_keeps_everything(tmp_path, encoding):
    store, out = tmp_path / "s.cubes", tmp_path / "again.cubes"
    dtype, compression = encoding
    said = header(layers=LAYERS, dtype=dtype, compression=compression, **SOURCES)
    make_store(store, LENGTHS, store_header=said)
    export_store(store, tmp_path / "plain", kind="folder")
    report = import_features(tmp_path / "plain", out, kind="folder")

    assert (report.num_imported, report.num_frames) == (3, 13)
    with Store(store) as a, Store(out) as b:
        assert diff_stores(a, b).identical
        assert [*map(plain_record, a.records())] == [*map(plain_record, b.records())]
        assert b.header == replace(a.header, dtype="float32" if dtype == "8bit" else dtype)
        assert list(a.manifest.values()) == list(b.manifest.values())
    assert verify_store(out, full=True).problems == []


def test_folder_is_what_it_says(store, tmp_path):
    export_store(store, tmp_path / "plain", kind="folder")
    import_features(tmp_path / "plain", tmp_path / "again.cubes", kind="folder")
    export_store(tmp_path / "again.cubes", tmp_path / "plain2", kind="folder")

    first, second = files(tmp_path / "plain"), files(tmp_path / "plain2")
    assert first.keys() == second.keys()
    assert {n for n in first if first[n] != second[n]} <= {"export.json"}  # checksums' digest
    cubes = np.load(tmp_path / "plain" / "a" / "jump.mp4" / "cubes.mid.npy")
    with Store(store) as opened:
        np.testing.assert_array_equal(cubes, opened.cubes("a/jump.mp4", layer="mid"))
    assert [*read_store_manifest(tmp_path / "plain")] == [*read_store_manifest(store)]


def test_one_layer_and_some_videos(store, tmp_path):
    export_store(store, tmp_path / "plain", kind="folder", layer="mid", video=["a/jump.mp4"])
    import_features(tmp_path / "plain", tmp_path / "again.cubes", kind="folder")

    with Store(tmp_path / "again.cubes") as opened:
        assert opened.ids == ["a/jump.mp4"]
        assert opened.header.layers == LAYERS[:1]


@pytest.mark.parametrize("kind", FOREIGN)
def test_store_to_foreign_and_back(vectors, tmp_path, kind):
    """Cubes, times, labels and splits come back; so does where the videos are from."""
    export_store(vectors, tmp_path / "out", kind=kind)
    import_features(
        tmp_path / "out", tmp_path / "again.cubes", kind=kind, options=ImportOptions(name="x")
    )

    assert contents(tmp_path / "again.cubes") == contents(vectors)
    with Store(tmp_path / "again.cubes") as opened:
        said = opened.header
        (source,) = said.sources
        assert replace(source, id="") == replace(new_source("", **TERMS), id="")
        assert (said.spec.backbone, said.has_diffs) == ("imported:x", False)
    assert verify_store(tmp_path / "again.cubes", full=True).problems == []


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_to_store_and_back_is_the_same_bytes(vectors, tmp_path, kind):
    export_store(vectors, tmp_path / "out", kind=kind)
    import_features(
        tmp_path / "out", tmp_path / "again.cubes", kind=kind, options=ImportOptions(name="x")
    )
    export_store(tmp_path / "again.cubes", tmp_path / "out2", kind=kind)

    first, second = files(tmp_path / "out"), files(tmp_path / "out2")
    assert {n for n in first.keys() | second.keys() if first.get(n) != second.get(n)} == {
        "export.json"
    }


def test_the_same_features_are_the_same_in_every_format(vectors, tmp_path):
    specs, digests = set(), set()
    for kind in FOREIGN:
        export_store(vectors, tmp_path / kind, kind=kind)
        import_features(
            tmp_path / kind, tmp_path / f"{kind}.cubes", kind=kind, options=ImportOptions(name="x")
        )
        with Store(tmp_path / f"{kind}.cubes") as opened:
            specs.add(opened.header.spec)
            digests.add(tuple(record.media_sha256 for record in opened.records()))

    assert len(specs) == len(digests) == 1


def test_an_import_grows(tmp_path):
    feats, out = tmp_path / "feats", tmp_path / "s.cubes"
    feats.mkdir()
    for i, name in enumerate(("b", "a", "c")):
        np.save(feats / f"{name}.npy", np.full((2, 3), i, np.float32))
        report = import_features(feats, out, kind="npy", options=ImportOptions(name="x"))
        assert (report.num_imported, report.num_done_before, report.warnings) == (1, i, [])
    with Store(out) as opened:
        assert opened.ids == ["a", "b", "c"]
        assert sorted(opened.manifest) == ["a", "b", "c"]

    np.save(feats / "a.npy", np.zeros((2, 3), np.float32))
    np.save(feats / "d.npy", np.zeros((2, 3), np.float32))
    with pytest.raises(StoreError, match="has another video 'a'"):
        import_features(feats, out, kind="npy", options=ImportOptions(name="x"))
    assert "d" not in read_store_manifest(out)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_cells_are_pooled_when_asked(store, tmp_path, pool):
    export_store(store, tmp_path / "out", kind="npy", pool=pool)

    with Store(store) as opened:
        cubes = opened.cubes("a/jump.mp4").astype(np.float32)
    expected = getattr(cubes.reshape(3, 4, 8), pool)(1)
    found = np.load(tmp_path / "out" / "a" / "jump.mp4.npy")
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_actionformer_features_are_placed_at_the_middle_of_their_frames(tmp_path):
    folder = tmp_path / "feats"
    (folder / "val").mkdir(parents=True)
    array = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.save(folder / "val" / "one.npy", array)
    np.save(folder / "two.npy", np.asfortranarray(array))
    segments = [
        {"segment": [0.5, 1.0], "label": "Dive", "label_id": 3},
        {"segment": [1.0, 1.5], "label": "Throw", "label_id": 9},
    ]
    entry = {"subset": "test", "duration": 2.5, "fps": 25.0, "frame": 62, "annotations": segments}
    (folder / "thumos.json").write_text(json.dumps({"database": {"val/one": entry}}))
    options = {"fps": 25, "feat_stride": 4, "feat_num_frames": 16}
    import_features(
        folder, tmp_path / "s.cubes", kind="npy", options=ImportOptions(name="i3d",
        annotations=folder / "thumos.json", **options))  # fmt: skip

    with Store(tmp_path / "s.cubes") as opened:
        assert opened.ids == ["two", "val/one"]
        assert [*opened.manifest] == ["val/one", "two"]
        np.testing.assert_array_equal(opened.cubes("two")[:, 0, 0], array)
        # ActionFormer: (4 t + 16 / 2) / 25, the middle; a frame begins half a frame before its own.
        middles = (4 * np.arange(4) + 8) / 25
        np.testing.assert_allclose(opened.read("val/one", "pts_seconds"), middles - 0.5 / 25)
        assert opened.manifest["val/one"].label == "Dive;Throw"
        assert opened.video("val/one").duration_seconds == 2.5
        assert opened.header.spec.sampling.value == "4"
    export_store(tmp_path / "s.cubes", tmp_path / "again", kind="npy")
    document = json.loads((tmp_path / "again" / "annotations.json").read_text())
    assert document["database"]["val/one"] == entry | {"feat_stride": 4.0, "feat_num_frames": 16}
    assert (tmp_path / "again/val/one.npy").read_bytes() == (folder / "val/one.npy").read_bytes()


def test_classes_are_counted_from_nought_for_detectors(store, tmp_path):
    """Sampling by fps: kept frames are what is counted, so one stride holds for all videos."""
    export_store(store, tmp_path / "out", kind="npz", pool="max")

    document = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert document["database"]["b/run.mp4"] == {
        "subset": "train", "duration": 1.5, "fps": 10.0, "frame": 15, "feat_stride": 1.0,
        "feat_num_frames": 1,
        "annotations": [{"segment": [0.0, 1.5], "label": "run", "label_id": 1}],
    }  # fmt: skip
    assert document["database"]["a/none.mp4"]["annotations"] == []


@pytest.mark.parametrize(
    ("pts_seconds", "rate"),
    [
        ([0, 0.1, 0.2, 0.3], 10.0),
        ([7.0, 7.12, 7.2, 7.32], 10.0),  # a frame late, from where the stream begins
        ([0, 0.2, 0.4, 0.6], 5.0),  # a video slower than the rate that was asked for
        ([0, 0.1, 0.9, 1.0], None),
    ],
)
def test_exported_times_are_those_that_are_stored(tmp_path, pts_seconds, rate):
    said = header(layers=ONE_CELL, has_diffs=False)
    rows = frames(4, seed=0, store_header=said) | {"pts_seconds": np.array(pts_seconds, float)}
    with (
        StoreSession(tmp_path / "s", said, run_id="r") as writer,
        writer.unit(rows=4, video_ids=["v"]) as unit,
    ):
        add_video(unit, "v", rows)
    report = export_store(tmp_path / "s", tmp_path / "out", kind="npz")

    entry = json.loads((tmp_path / "out" / "annotations.json").read_text())["database"]["v"]
    assert entry["duration"] == 1.5
    assert ("fps" in entry) == (rate is not None)
    if rate is None:
        with pytest.raises(UsageError, match="irregular times, which this format cannot"):
            export_store(tmp_path / "s", tmp_path / "npy", kind="npy")
        assert not (tmp_path / "npy").exists()
        assert "1 videos have irregular times" in report.notes[0]
    else:
        export_store(tmp_path / "s", tmp_path / "npy", kind="npy")
        assert (entry["fps"], entry["frame"]) == (pytest.approx(rate), round(1.5 * rate))
    import_features(
        tmp_path / "out", tmp_path / "again", kind="npz", options=ImportOptions(name="x")
    )
    with Store(tmp_path / "again") as opened:
        assert opened.read("v", "pts_seconds").tolist() == pts_seconds


@pytest.mark.parametrize(
    ("subset", "split"),
    [("Training", "train"), ("validation", "val"), ("Valid", "val"), ("Test", "test"),
     ("testing", "test"), ("", ""), ("fold 1", "fold 1")],
)  # fmt: skip
def test_words_of_others_for_splits(tmp_path, subset, split):
    (tmp_path / "feats").mkdir()
    np.save(tmp_path / "feats" / "a.npy", np.ones((3, 2), np.float16))
    database = {"a": {"subset": subset}, "gone": {}}
    path = tmp_path / "feats" / "annotations.json"
    path.write_text(json.dumps({"database": database}))
    report = import_features(
        tmp_path / "feats", tmp_path / "s", kind="npy", options=ImportOptions(name="x")
    )

    assert read_store_manifest(tmp_path / "s")["a"].split == split
    assert report.warnings[0] == "1 annotated videos have no file; first: 'gone'"
    assert len(report.warnings) == 1 + (split == "fold 1")
    path.write_text(json.dumps({"database": {"gone": {}}}))
    with pytest.raises(ContractError, match=r"none of the 1 annotated .* file 'a.npy'"):
        import_features(
            tmp_path / "feats", tmp_path / "s", kind="npy", options=ImportOptions(name="x")
        )


@pytest.mark.parametrize(
    ("kind", "notes"),
    [
        ("folder", []),
        ("npz", ["not kept: groups, frame differences, other layers"]),
        ("sharma", ["not kept: groups, frame differences, other layers, exact times"]),
    ],
)
def test_an_export_says_what_it_leaves_out(store, tmp_path, kind, notes):
    pool = {"pool": "max"} if kind == "npz" else {}
    assert export_store(store, tmp_path / "out", kind=kind, **pool).notes == notes
    layers = json.loads((tmp_path / "out" / "export.json").read_text())["layers"]
    assert layers == (["mid", "top"] if kind == "folder" else ["top"])


def test_what_nobody_told_is_unknown(tmp_path):
    (tmp_path / "feats").mkdir()
    np.savez(tmp_path / "feats" / "one.npz", np.ones((3, 2), np.float16))
    import_features(
        tmp_path / "feats", tmp_path / "s.cubes", kind="npz", options=ImportOptions(name="x")
    )

    with Store(tmp_path / "s.cubes") as opened:
        record, spec = opened.video("one"), opened.header.spec
        assert opened.read("one", "pts_seconds").tolist() == [0, 1, 2]
    assert (spec.sampling.value, spec.preprocessing.input_size) == ("unknown", (0, 0))
    features = np.ones((3, 1, 1, 2), np.float16)
    assert record.media_sha256 == hashlib.sha256(features.tobytes()).hexdigest()
    assert spec.weights_sha256 == "0" * 64
    assert (record.media_bytes, record.num_frames) == (0, 0)
    assert np.isnan(record.source_fps)


def test_the_real_array_file(tmp_path):
    path = Path(os.environ.get("CUBEREEL_DATA", "nowhere"))
    path /= "ucf101_first15_vgg16_pca256_fp16.npz"
    if not path.exists():
        pytest.skip("the UCF101 array file is not here; set CUBEREEL_DATA to its folder")
    import_features(
        path, tmp_path / "s.cubes", kind="arrays", options=ImportOptions(name="vgg16-relu6-pca256")
    )
    export_store(tmp_path / "s.cubes", tmp_path / "out", kind="arrays")

    with np.load(path) as a, np.load(tmp_path / "out" / "features.npz") as b:
        assert set(a.files) == set(b.files)
        for name in a.files:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])


def test_a_damaged_video_is_not_passed_on(store, tmp_path):
    shard = next((store / "shards").glob("*.h5"))
    with h5py.File(shard, "r+") as file:
        file["cubes/center/top"][1] += 1

    with pytest.raises(DamageError, match=r"video '.*' in .* is damaged: cubes/center/top"):
        export_store(store, tmp_path / "out", kind="folder")
    assert not list((tmp_path / "out").rglob("*.npy"))[3:]
