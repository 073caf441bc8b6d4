"""What a manifest says and nobody would read: columns, spellings, times beside classes, files."""

import json
import shutil

import pytest
import torch

from features_store.columns import misnamed_columns
from features_store.errors import ContractError
from features_store.labels import split_label
from features_store.manifest import ManifestRow, read_store_manifest, write_manifest
from features_store.store import Store
from pipelines.extraction.adapters.class_folders import VIDEO_SUFFIXES
from pipelines.extraction.sources import read_source
from tests.stores import make_store
from train.fitting.config import TrainConfig
from train.protocol.labelled import load_labelled

COMPOSED, DECOMPOSED = "caf\xe9", "cafe\u0301"
TRAIN = ("--head", "mean-pool", "--epochs", 1, "--device", "cpu", "--folds", 2)


@pytest.fixture
def folder(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "v").mkdir(exist_ok=True)
        (tmp_path / "v" / name).touch()
    return tmp_path / "v"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "s.cubes"
    make_store(path, dict.fromkeys(["run/a", "run/b", "walk/a", "walk/b"], 3))
    return path


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made, tmp_path / "s.cubes")


def refused_everywhere(cubereel, csv_path, store, message):
    """Whether `extract`, `plan`, `manifest validate` and `train` refuse what both say."""
    out = csv_path.parent / "new.cubes"
    for verb in ("extract", "plan"):
        to_store = ("--out", out) if verb == "extract" else ()
        assert cubereel(verb, csv_path, *to_store, "--backbone", "tiny:conv") == 3
        assert message in cubereel.err
    assert not out.exists()
    for path in (csv_path, store):
        assert cubereel("manifest", "validate", path) == 3
        assert message in cubereel.out
    assert cubereel("train", store, *TRAIN, "--out", csv_path.parent / "run") == 3
    assert message in cubereel.err


# Columns


@pytest.mark.parametrize("name", [" label", "class"])
def test_a_label_in_a_column_of_another_name_is_not_lost_in_silence(cubereel, folder, store, name):
    (folder / "m.csv").write_text(f"path,{name}\na.mp4,x\nb.mp4,y\n")
    rows = [ManifestRow(i, i, extra={name: "x"}) for i in read_store_manifest(store)]
    write_manifest(store / "manifest.csv", rows)

    meant = f"the column {name!r} is read by nobody; did you mean 'label'?"
    refused_everywhere(cubereel, folder / "m.csv", store, meant)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("Label", "label"), ("labels", "label"), ("lable", "label"), ("Class Name", "label"),
     ("splits", "split"), ("subset", "split"), ("Group", "group"), ("start", "start_seconds"),
     ("time_end", "end_seconds"), ("end-seconds", "end_seconds")],
)  # fmt: skip
def test_every_column_has_near_names(folder, name, meant):
    (folder / "m.csv").write_text(f"path,{name}\na.mp4,1\n")

    with pytest.raises(ContractError, match=rf"'{name}' is read by nobody; did you mean '{meant}'"):
        read_source(folder / "m.csv")


def test_a_name_near_to_a_column_that_speaks_is_a_column_of_its_own():
    assert (
        misnamed_columns(["class", "annotations", "num_classes", "scene"], silent=["group"]) == {}
    )
    assert misnamed_columns(["LABEL"], silent=[]) == {"LABEL": "label"}


def test_columns_that_nobody_reads_are_named(cubereel, folder, store, caplog):
    (folder / "m.csv").write_text("path,label,class,scene,fps\na.mp4,x,1,s,25\n")

    assert "kept and read by nobody: 'class', 'scene'" in read_source(folder / "m.csv").notes[0]
    assert cubereel("manifest", "validate", folder / "m.csv") == 0
    assert "perhaps a slip: columns that are kept and read by nobody: 'class'" in cubereel.out
    rows = [
        ManifestRow(i, i, row.label, extra={"scene": "s"})
        for i, row in read_store_manifest(store).items()
    ]
    write_manifest(store / "manifest.csv", rows)
    with Store(store) as opened, caplog.at_level("WARNING"):
        load_labelled(opened, TrainConfig(), torch.device("cpu"))
    assert "read by nobody: 'scene'" in caplog.text


def test_a_path_in_a_column_of_another_name_is_pointed_to(folder):
    (folder / "m.csv").write_text("Video,label\na.mp4,x\n")
    with pytest.raises(ContractError, match=r"no column 'path'.*did you mean 'Video' as the path"):
        read_source(folder / "m.csv")
    (folder / "m.csv").write_text("path;label\na.mp4;x\n")
    with pytest.raises(ContractError, match="which ';' parts; write the table with commas"):
        read_source(folder / "m.csv")


# Spellings


def test_one_class_in_two_spellings_is_not_two_classes(cubereel, folder, store):
    (folder / "m.csv").write_text(
        f"path,label\na.mp4,{COMPOSED}\nb.mp4,x;{DECOMPOSED}\n", encoding="utf-8"
    )
    spelled = {"run/a": COMPOSED, "run/b": DECOMPOSED, "walk/a": "walk", "walk/b": "walk"}
    write_manifest(store / "manifest.csv", [ManifestRow(i, i, c) for i, c in spelled.items()])

    meant = r"one class in 2 spellings that look alike: 'caf\xe9' (video "
    refused_everywhere(cubereel, folder / "m.csv", store, meant)


def test_a_class_that_the_store_spells_otherwise_is_refused_before_it_is_extracted(
    cubereel, folder, store
):
    (folder / "m.csv").write_text(f"path,label\na.mp4,{COMPOSED}\n", encoding="utf-8")
    rows = [ManifestRow(i, i, DECOMPOSED) for i in read_store_manifest(store)]
    write_manifest(store / "manifest.csv", rows)
    before = (store / "manifest.csv").read_bytes()

    assert cubereel("extract", folder / "m.csv", "--out", store, "--backbone", "tiny:conv") == 3
    assert "one class in 2 spellings" in cubereel.err
    assert (store / "manifest.csv").read_bytes() == before


def test_two_files_whose_names_look_alike_are_refused(cubereel, tmp_path):
    for name in (COMPOSED, DECOMPOSED):
        (tmp_path / f"{name}.mp4").touch()

    with pytest.raises(ContractError, match=r"one video id in 2 spellings.*'caf\\xe9.mp4'"):
        read_source(tmp_path)


def test_names_that_differ_in_case_alone_are_told(cubereel, folder, store):
    (folder / "B.mp4").touch()
    (folder / "m.csv").write_text("path,label\na.mp4,Walk\nb.mp4,walk\nB.mp4,run\n")
    notes = read_source(folder / "m.csv").notes

    assert notes == (
        "classes that differ in case alone: 'Walk' and 'walk'",
        "video ids that differ in case alone: 'b.mp4' and 'B.mp4'",
    )
    assert cubereel("manifest", "validate", folder / "m.csv", "--json") == 0
    assert json.loads(cubereel.out)["doubts"] == list(notes)


# A label of Charades


RAW = "c092 11.90 21.20;c147 0.00 12.60;c092 25.00 26.10"


def test_times_beside_classes_do_not_become_classes(cubereel, folder, store):
    (folder / "m.csv").write_text(f"path,label\na.mp4,{RAW}\nb.mp4,c092 11.90 21.20\n")
    rows = [ManifestRow(i, i, "c092 11.90 21.20") for i in read_store_manifest(store)]
    write_manifest(store / "manifest.csv", rows)

    refused_everywhere(cubereel, folder / "m.csv", store, "has times beside its classes")
    assert cubereel("train", store, *TRAIN, "--multi-label", "--out", folder / "run") == 3
    with pytest.raises(ContractError, match="write the classes alone: 'c092"):
        split_label(RAW)


def test_a_class_may_have_numbers_in_its_name():
    assert split_label("turn 90 180;50 60.5 run") == ["turn 90 180", "50 60.5 run"]


# Folders


def test_files_that_are_passed_over_are_counted_and_videos_of_every_kind_are_taken(
    cubereel, tmp_path
):
    kinds = [".mp4", ".m2ts", ".f4v", ".qt", ".gif", ".divx", ".ogg", ".mpe", ".3g2", ".MXF"]
    others = ["notes.txt", "more.TXT", "a.jpg", "README", ".hidden.mp4", ".git/x.mp4"]
    for name in [*(f"x{kind}" for kind in kinds), *others]:
        (tmp_path / "v/walk" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "v/walk" / name).touch()
    source = read_source(tmp_path / "v")

    assert sorted(row.path for row in source.rows) == sorted(f"walk/x{kind}" for kind in kinds)
    (note,) = source.notes
    assert note.startswith("6 files and folders are passed over, whose names are not those of vide")
    for kind in ("2 .txt", "1 .jpg", "1 without a suffix", "1 hidden folder", "1 hidden file"):
        assert f" {kind}," in note or f" {kind};" in note
    assert len(set(VIDEO_SUFFIXES)) == len(VIDEO_SUFFIXES)


def test_a_folder_without_a_video_says_what_it_holds(tmp_path):
    (tmp_path / "a.dat").touch()

    with pytest.raises(ContractError, match=r"names no video.*1 \.dat"):
        read_source(tmp_path)
