from pathlib import Path

import pytest

from features_store.errors import ContractError, UsageError
from features_store.manifest import (
    ManifestRow,
    extend_store_manifest,
    read_manifest,
    read_store_manifest,
    write_manifest,
)
from pipelines.extraction.sources import read_source


@pytest.fixture
def folder(tmp_path):
    for name in ("walk/a.mp4", "run/b c.AVI", "run/.hidden.mp4", "run/notes.txt", "top.mkv"):
        (tmp_path / "v" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "v" / name).touch()
    return tmp_path / "v"


def test_class_folders_give_labels_and_ids_relative_to_the_root(folder):
    source = read_source(folder)

    assert {(row.video_id, row.label) for row in source.rows} == {
        ("walk/a.mp4", "walk"), ("run/b c.AVI", "run"), ("top.mkv", ""),
    }  # fmt: skip
    assert source.path(source.rows[0]).is_file()


def test_equal_names_in_two_folders_are_two_videos(folder):
    (folder / "run" / "a.mp4").touch()

    assert len({row.video_id for row in read_source(folder).rows}) == 4


def test_a_manifest_in_the_folder_is_the_source(folder):
    (folder / "manifest.csv").write_text("path,label,group,scene\nwalk/a.mp4,x,g1,7\n")
    (row,) = read_source(folder).rows

    assert row == ManifestRow("walk/a.mp4", "walk/a.mp4", "x", "g1", extra={"scene": "7"})


def test_time_spans_are_videos_of_their_own(folder):
    (folder / "m.csv").write_text(
        "path,start_seconds,end_seconds\nwalk/a.mp4,0,1.5\nwalk/a.mp4,1.5,\nwalk/a.mp4,,\n"
    )

    assert [row.video_id for row in read_source(folder / "m.csv").rows] == [
        "walk/a.mp4@0-1.5", "walk/a.mp4@1.5-end", "walk/a.mp4",
    ]  # fmt: skip


def test_a_list_of_absolute_paths_has_their_common_parent_as_root(folder, tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text(f"# two videos\n{folder}/walk/a.mp4\n\n{folder}/run/b c.AVI\n")
    source = read_source(listing)

    assert source.root == folder
    assert [row.video_id for row in source.rows] == ["walk/a.mp4", "run/b c.AVI"]


def test_a_root_can_be_said(folder):
    source = read_source(folder, root=folder.parent)

    assert {row.video_id for row in source.rows} >= {"v/walk/a.mp4"}


def test_a_video_outside_the_root_is_refused(folder, tmp_path):
    (tmp_path / "other.mp4").touch()
    (folder / "list.txt").write_text("../other.mp4\n")

    with pytest.raises(ContractError, match="outside the root"):
        read_source(folder / "list.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label\nx\n", "no column 'path'"),
        ("path\na\na\n", "line 3: video id 'a' stands there twice"),
        ("path,label\na\n", "line 2: it has not as many fields"),
        ("path,label\na,b,c\n", "line 2: it has not as many fields"),
        ("path,start_seconds\na,soon\n", "line 2: start_seconds must be a time"),
        ("path,start_seconds,end_seconds\na,2,1\n", "line 2: the span from 2.0 to 1.0"),
        ("path,video_id\na,../b\n", "not a relative path"),
        ("path\n", "names no video"),
        ('path\n"a\n', "line"),
    ],
)
def test_a_wrong_manifest_is_refused_by_line(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text)

    with pytest.raises((ContractError, UsageError), match=message):
        read_source(tmp_path / "m.csv")


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(UsageError, match="no source"):
        read_source(tmp_path / "nowhere")
    with pytest.raises(ContractError, match="is empty"):
        read_source(tmp_path)
    (tmp_path / "notes.doc").write_text("no video")
    with pytest.raises(ContractError, match="names no video"):
        read_source(tmp_path)


def test_a_video_given_as_source_is_told_apart_from_a_list(tmp_path):
    for name in ("a.mp4", "film"):
        (tmp_path / name).write_bytes(b"\x00\x00\x00 ftypisom\xff\xfe")
        assert [row.path for row in read_source(tmp_path / name).rows] == [name]


def test_a_manifest_survives_writing(tmp_path):
    rows = [
        ManifestRow("a", "a", "x,y", 'g"1', "train", 0.1, 0.25, {"scene": "1\n2"}),
        ManifestRow("b", "b"),
    ]
    write_manifest(tmp_path / "m.csv", rows)
    again = read_manifest(tmp_path / "m.csv")

    assert again == [rows[0], ManifestRow("b", "b", extra={"scene": ""})]


def test_what_people_edited_in_a_store_stays(tmp_path):
    extend_store_manifest(tmp_path, [ManifestRow("a", "a", label="old")])
    write_manifest(tmp_path / "manifest.csv", [ManifestRow("a", "a", label="mended")])
    differing = extend_store_manifest(
        tmp_path, [ManifestRow("a", "a", label="old"), ManifestRow("b", "b")]
    )

    assert differing == ["a"]
    stored = read_store_manifest(tmp_path)
    assert stored["a"].label == "mended"
    assert "b" in stored


def test_a_source_may_be_given_through_its_parent(folder, monkeypatch):
    (folder / "inner").mkdir()
    monkeypatch.chdir(folder / "inner")

    assert len(read_source(Path("../../v")).rows) == 3


def test_class_folders_behind_links_are_read_once(folder, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "x.mp4").touch()
    (folder / "linked").symlink_to(tmp_path / "far")
    (folder / "walk" / "round").symlink_to(folder)

    assert sorted(row.video_id for row in read_source(folder).rows) == [
        "linked/x.mp4", "run/b c.AVI", "top.mkv", "walk/a.mp4",
    ]  # fmt: skip
