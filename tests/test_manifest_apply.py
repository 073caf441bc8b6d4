"""`manifest make` and `manifest apply`: a manifest is begun, corrected, and taken over."""

import csv
import json
import shutil

import pytest

from features_store.locking import lock_store
from features_store.manifest import ManifestRow, read_store_manifest
from pipelines.extraction.sources import read_source
from tests.clips import textured_frames
from tests.synthetic import write_video

CLASSES = ("run", "walk")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number, label in enumerate(CLASSES):
        (folder / label).mkdir()
        for i in range(2):
            frames = textured_frames(2, seed=number, speed=1 + i)[:, :32, :32]
            write_video(folder / label / f"{i}.mp4", frames, fps=10)
    (folder / "notes.txt").touch()
    return folder


EXTRACT = ("--backbone", "tiny:conv", "--fps", 10)


@pytest.fixture(scope="module")
def extracted(videos, tmp_path_factory):
    from pipelines.extraction.extract import extract
    from pipelines.extraction.options import ExtractionOptions

    path = tmp_path_factory.mktemp("stores") / "s.cubes"
    extract(videos, out=path, options=ExtractionOptions(backbone="tiny:conv", fps="10"))
    return path


@pytest.fixture
def store(extracted, tmp_path):
    return shutil.copytree(extracted, tmp_path / "s.cubes")


@pytest.fixture
def folder(videos, tmp_path):
    return shutil.copytree(videos, tmp_path / "v")


# make


def test_a_folder_becomes_a_manifest_with_the_ids_that_extract_gives(cubereel, folder, tmp_path):
    without = read_source(folder)
    for out in (None, tmp_path / "m.csv", tmp_path / "elsewhere/m.csv"):
        path = folder / "manifest.csv" if out is None else out
        path.parent.mkdir(exist_ok=True)
        assert cubereel("manifest", "make", folder, *([] if out is None else ["--out", out])) == 0
        assert cubereel.out.strip() == f"4 videos are in {path}: run 2, walk 2"
        assert "1 .txt" in cubereel.err

        said = read_source(path)
        assert [(r.video_id, r.label) for r in said.rows] == [
            (r.video_id, r.label) for r in without.rows
        ]
        assert all(said.path(row).is_file() for row in said.rows)
        assert cubereel("manifest", "validate", path) == 0
        assert path.read_text().startswith("video_id,path,label,group,split,")


def test_a_manifest_that_is_there_is_not_written_over(cubereel, folder):
    (folder / "manifest.csv").write_text("path,label\nrun/0.mp4,mine\n")

    assert cubereel("manifest", "make", folder) == 2
    assert "is there already; give another file with --out" in cubereel.err
    assert (folder / "manifest.csv").read_text().endswith("mine\n")
    for arguments in ((folder / "nowhere",), (folder, "--out", folder / "m.tsv")):
        assert cubereel("manifest", "make", *arguments) == 2
    assert cubereel("manifest", "make", folder, "--out", folder / "no/m.csv") == 2
    (folder / "empty").mkdir()
    assert cubereel("manifest", "make", folder / "empty") == 3
    assert "holds no video" in cubereel.err


# apply


@pytest.fixture
def corrected(folder):
    (folder / "new.csv").write_text(
        "path,label,split,scene\n"
        "run/0.mp4,walk,train,park\nrun/1.mp4,run,test,park\nwalk/0.mp4,walk,train,\n"
        "gone.mp4,walk,test,\n"
    )
    return folder / "new.csv"


def test_what_a_new_manifest_says_is_shown_and_then_taken_over(cubereel, corrected, store):
    assert cubereel("extract", corrected, "--out", store, *EXTRACT, "--max-failed", 1) == 0
    assert "says otherwise of 3 videos" in cubereel.err
    verb = f"'cubereel manifest apply {corrected} {store}' shows it and takes it over"
    assert verb in cubereel.err
    (store / "manifest.csv").write_bytes(
        b"".join(
            line
            for line in (store / "manifest.csv").read_bytes().splitlines(keepends=True)
            if b"gone" not in line
        )
    )
    before = (store / "manifest.csv").read_bytes()

    assert cubereel("manifest", "apply", corrected, store) == 0
    first, *lines = cubereel.out.splitlines()
    assert first == (
        f"3 of 3 videos change in {store}/manifest.csv (label of 1, split of 3, scene of 2); "
        "looked at: label, scene, split"
    )
    assert lines[0] == "1 videos of the store have no row and stay as they are"
    assert lines[1] == "1 rows are of no video of the store; first: gone.mp4"
    assert ["run/0.mp4", "label", "run", "walk"] in [line.split() for line in lines]
    assert lines[-1] == "not written; give --write"
    assert (store / "manifest.csv").read_bytes() == before

    assert cubereel("manifest", "apply", corrected, store, "--write", "--json") == 0
    assert json.loads(cubereel.out)["written"] is True
    rows = read_store_manifest(store)
    assert [rows["run/0.mp4"].label, rows["run/1.mp4"].split] == ["walk", "test"]
    assert rows["run/0.mp4"].extra == {"scene": "park"}
    assert rows["walk/1.mp4"] == ManifestRow(
        "walk/1.mp4", "walk/1.mp4", "walk", extra={"scene": ""}
    )
    assert cubereel("manifest", "apply", corrected, store) == 0
    assert cubereel.out.startswith("0 of 3 videos change")


def test_columns_that_a_manifest_has_not_stay_and_empty_fields_are_taken_over(
    cubereel, folder, store
):
    def said():
        return {i: (row.label, row.split) for i, row in read_store_manifest(store).items()}

    (folder / "s.csv").write_text("path,split\nrun/0.mp4,test\nwalk/0.mp4,train\n")
    assert cubereel("manifest", "apply", folder / "s.csv", store, "--write") == 0
    assert said()["run/0.mp4"] == ("run", "test")
    (folder / "l.csv").write_text("path,label\nrun/0.mp4,\n")
    assert cubereel("manifest", "apply", folder / "l.csv", store, "--write") == 0
    assert said()["run/0.mp4"] == ("", "test")
    assert said()["walk/0.mp4"] == ("walk", "train")
    # A folder says labels alone, and so does not say otherwise of splits.
    assert cubereel("extract", folder, "--out", store, *EXTRACT) == 0
    assert "says otherwise of 1 videos" in cubereel.err
    assert cubereel("manifest", "apply", folder, store, "--write") == 0
    assert said()["run/0.mp4"] == ("run", "test")


def test_a_span_that_was_extracted_anew_is_taken_over_and_another_is_not(cubereel, folder, store):
    (folder / "m.csv").write_text("path,video_id,end_seconds\nrun/0.mp4,run/0.mp4,0.1\n")
    assert cubereel("manifest", "apply", folder / "m.csv", store) == 0
    assert cubereel.out.startswith("0 of 1 videos change")
    again = ("extract", folder / "m.csv", "--out", store, *EXTRACT, "--root", root_of(store))
    (folder / "m.csv").write_text(
        f"path,video_id,end_seconds\n{root_of(store)}/run/0.mp4,run/0.mp4,0.1\n"
    )
    assert cubereel(*again) == 0
    assert "1 videos of the store are extracted again" in cubereel.err
    assert cubereel("manifest", "apply", folder / "m.csv", store, "--write") == 0
    assert read_store_manifest(store)["run/0.mp4"].end_seconds == 0.1
    assert read_store_manifest(store)["run/0.mp4"].label == "run"


def root_of(store):
    return json.loads((store / "store.json").read_text())["sources"][0]["root"]


def test_a_store_speaks_for_another_and_ids_are_found_by_the_stores_root(
    cubereel, folder, store, tmp_path, videos
):
    other = shutil.copytree(store, tmp_path / "o.cubes")
    with (other / "manifest.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    (other / "manifest.csv").write_text(
        "\n".join(",".join(row).replace(",walk,", ",stroll,") for row in rows) + "\n"
    )
    assert cubereel("manifest", "apply", other, store, "--write") == 0
    assert read_store_manifest(store)["walk/0.mp4"].label == "stroll"

    # Absolute paths of one class alone have another common parent than at extraction.
    (tmp_path / "w.csv").write_text(f"path,label\n{videos}/walk/0.mp4,walk\n")
    assert cubereel("manifest", "apply", tmp_path / "w.csv", store, "--write") == 0
    assert read_store_manifest(store)["walk/0.mp4"].label == "walk"


def test_a_manifest_of_other_videos_is_refused(cubereel, tmp_path, store):
    (tmp_path / "x.csv").write_text("path,label\nno.mp4,walk\n")
    before = (store / "manifest.csv").read_bytes()

    assert cubereel("manifest", "apply", tmp_path / "x.csv", store, "--write") == 3
    assert "its first is 'no.mp4', the store's 'run/0.mp4'; give the --root" in cubereel.err
    assert (store / "manifest.csv").read_bytes() == before


def test_a_store_that_somebody_else_writes_is_left_alone(cubereel, corrected, store):
    with lock_store(store):
        assert cubereel("manifest", "apply", corrected, store, "--write") == 75


# The same file twice


def test_a_file_that_is_there_under_another_id_is_named_before_it_is_extracted(
    cubereel, folder, store, tmp_path, videos
):
    (tmp_path / "m.csv").write_text(
        "path\n" + "".join(f"v/{label}/{i}.mp4\n" for label in CLASSES for i in range(2))
    )
    # Of one the store's file is gone: its hash is known.
    said = (store / "manifest.csv").read_text()
    (store / "manifest.csv").write_text(said.replace(",run/1.mp4,", ",run/moved.mp4,"))

    assert cubereel("extract", tmp_path / "m.csv", "--out", store, *EXTRACT) == 0
    assert "4 videos are the same file as another one" in cubereel.err
    assert "'v/run/0.mp4' is 'run/0.mp4', 'v/run/1.mp4' is 'run/1.mp4'" in cubereel.err
    assert cubereel.err.index("the same file") < cubereel.err.index("extract: ")
    assert cubereel("extract", tmp_path / "m.csv", "--out", store, *EXTRACT) == 0
    assert "the same file" not in cubereel.err


def test_a_copy_in_one_source_is_named_and_spans_of_a_file_are_not(cubereel, folder, tmp_path):
    shutil.copy(folder / "run/0.mp4", folder / "walk/copy.mp4")
    (folder / "m.csv").write_text(
        "path,start_seconds,end_seconds\nrun/0.mp4,,\nwalk/copy.mp4,,\nrun/1.mp4,0,0.1\n"
        "run/1.mp4,0.1,\nwalk/0.mp4,,\n"
    )

    assert cubereel("extract", folder / "m.csv", "--out", tmp_path / "n.cubes", *EXTRACT) == 0
    assert "1 videos are the same file as another one" in cubereel.err
    assert "'walk/copy.mp4' is 'run/0.mp4'" in cubereel.err
