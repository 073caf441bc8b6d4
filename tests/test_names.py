"""Names to the character: what is written of a video is read back, whatever it is called."""

import csv
import json
import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from features_store.errors import ContractError
from features_store.exchange import ImportOptions, export_store, import_features
from features_store.manifest import ManifestRow, read_manifest, read_store_manifest, write_manifest
from features_store.store import Store
from pipelines.extraction.sources import read_source
from tests.clips import textured_frames
from tests.names import FILE_NAMES, ODD, is_id, that_go_together
from tests.synthetic import write_video


def free_box(number: int) -> bytes:
    """An MP4 box that says nothing, so that files of equal pictures differ."""
    return struct.pack(">I4sI", 12, b"free", number)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    return write_video(path, textured_frames(2, seed=0, speed=1)[:, :32, :32], fps=10).read_bytes()


def write_files(folder, names, content=b""):
    for number, name in enumerate(names):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + free_box(number))


# One manifest, again and again


@settings(deadline=None, max_examples=40)
@given(
    st.lists(FILE_NAMES.filter(is_id), unique=True, max_size=6),
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), max_size=3
    ),
)
def test_a_manifest_reads_back_every_name_that_it_wrote(tmp_path_factory, names, texts):
    path = tmp_path_factory.mktemp("m") / "m.csv"
    rows = [ManifestRow(i, i, *texts, extra={"note": "".join(texts)}) for i in names]
    for _ in range(2):
        write_manifest(path, rows)
        assert read_manifest(path) == rows


def test_a_class_folder_that_begins_with_a_blank_is_extracted_twice_without_harm(
    cubereel, tmp_path, clip
):
    names = [" walk/ a.mp4", " walk/a.mp4", "run/b .mp4"]
    write_files(tmp_path / "v", names, clip)
    store = tmp_path / "s.cubes"
    for _ in range(2):
        assert cubereel("extract", tmp_path / "v", "--out", store, "--backbone", "tiny:conv") == 0
    assert "otherwise" not in cubereel.err
    assert "' walk/ a.mp4'" in cubereel.err  # the blanks are told of

    rows = read_store_manifest(store)
    assert {i: row.label for i, row in rows.items()} == dict(
        zip(names, ["walk", "walk", "run"], strict=True)
    )
    assert cubereel("store", "ls", store, "--json") == 0
    assert sorted(v["video_id"] for v in json.loads(cubereel.out)) == sorted(names)


# Text lists


def test_a_name_that_begins_with_a_hash_is_a_video_and_not_a_comment(tmp_path):
    names = ["#1_foo_(bar).avi", "# 2.avi", "plain.avi"]
    write_files(tmp_path, names)
    (tmp_path / "l.txt").write_text("# a comment\n#\n" + "\n".join(names) + "\r\n\n")

    assert [row.path for row in read_source(tmp_path / "l.txt").rows] == names


def test_a_list_may_name_what_is_not_there_yet(tmp_path):
    write_files(tmp_path, ["a.avi"])
    (tmp_path / "l.txt").write_text("a.avi\n#1_foo.avi\n")

    assert len(read_source(tmp_path / "l.txt").rows) == 2


def test_marks_that_other_programs_take_for_line_ends_stay_in_a_name(tmp_path):
    names = ["a\x85b.mp4", "c\u2028d.mp4 ", "\x0be\x0c.mp4", "f\x1c.mp4"]
    write_files(tmp_path, names)
    (tmp_path / "l.txt").write_text("\n".join(names), encoding="utf-8")

    assert [row.path for row in read_source(tmp_path / "l.txt").rows] == names


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.tsv", "path\tlabel\nwalk/a.mp4\twalk\n", r"line 1: .*header of a table.*\.csv"),
        ("m.txt", "path,label\nwalk/a.mp4,walk\n", r"line 1: .*header of a table"),
        ("l.txt", "walk/a.mp4 walk\n", r"line 1: .*'walk/a.mp4' with more behind it.*path,label"),
        ("l.txt", "gone/b.AVI 3\n", r"line 1: .*'gone/b.AVI' with more behind it"),
        ("l.txt", "walk/a.mp4\n#note\n", r"line 2: .*a comment begins with '# '"),
        ("l.txt", "no.mp4\nneither.mp4\n", r"no line of it is a file; first: 'no.mp4'"),
    ],
)
def test_a_table_taken_for_a_list_is_refused_before_a_store_is_made(
    cubereel, tmp_path, name, text, message
):
    write_files(tmp_path, ["walk/a.mp4"])
    (tmp_path / name).write_text(text)
    with pytest.raises(ContractError, match=message):
        read_source(tmp_path / name)
    for verb in ("extract", "plan"):
        out = ("--out", tmp_path / "s") if verb == "extract" else ()
        assert cubereel(verb, tmp_path / name, *out, "--backbone", "tiny:conv") == 3

    assert not (tmp_path / "s").exists()


def test_a_manifest_in_capital_letters_is_a_manifest(cubereel, tmp_path):
    write_files(tmp_path, ["walk/a.mp4"])
    (tmp_path / "M.CSV").write_text("path,label\nwalk/a.mp4,walk\n")

    assert [(r.path, r.label) for r in read_source(tmp_path / "M.CSV").rows] == [
        ("walk/a.mp4", "walk")
    ]
    assert cubereel("manifest", "validate", tmp_path / "M.CSV") == 0


# White space by a slip of the pen


def test_a_blank_before_a_path_is_told_with_the_file_that_is_meant(tmp_path):
    write_files(tmp_path, ["walk/a.mp4"])
    (tmp_path / "m.csv").write_text("label,path\nwalk, walk/a.mp4\n")

    with pytest.raises(ContractError, match=r"no file ' walk/a.mp4'.*there is 'walk/a.mp4'"):
        read_source(tmp_path / "m.csv")


def test_blanks_around_labels_groups_and_splits_are_no_part_of_them(tmp_path):
    write_files(tmp_path, ["walk/a.mp4"])
    (tmp_path / "m.csv").write_text("path,label,group,split\nwalk/a.mp4, walk ,\tg, test\n")
    (row,) = read_source(tmp_path / "m.csv").rows

    assert (row.label, row.group, row.split) == ("walk", "g", "test")


# What cannot be kept


@pytest.mark.parametrize("name", [b"a\x80.mp4", b"a\nb.mp4", b"a\rb.mp4", b"a\\b.mp4"])
def test_a_name_that_no_store_takes_is_refused_in_one_line_before_a_store_is_made(
    cubereel, tmp_path, clip, name
):
    write_files(tmp_path / "v", [os.fsdecode(name), "b.mp4"], clip)
    arguments = (tmp_path / "v", "--out", tmp_path / "s.cubes", "--backbone", "tiny:conv")

    assert cubereel("extract", *arguments) == 2
    assert len(cubereel.err.splitlines()) == 1
    assert "rename the file" in cubereel.err
    assert not (tmp_path / "s.cubes").exists()


# The whole way


def test_odd_names_come_back_from_store_to_store(cubereel, tmp_path, clip):
    extract_under(cubereel, tmp_path, clip, ODD)
    join_and_exchange(cubereel, tmp_path, ODD)


@pytest.mark.slow
def test_two_thousand_names_come_back_from_every_verb(cubereel, tmp_path, clip):
    names: list[str] = []

    @settings(
        max_examples=4200, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(FILE_NAMES)
    def draw(name):
        names.append(name)

    draw()
    refused = [name for name in names if not is_id(name)]
    assert refused
    for name in refused:
        assert_refused(tmp_path, name)
    drawn = [name for name in dict.fromkeys(names) if is_id(name)]
    taken = that_go_together(drawn + ODD)[-2000:]
    assert len(taken) == 2000
    rows = extract_under(cubereel, tmp_path, clip, taken)
    join_and_exchange(cubereel, tmp_path, taken)
    quick = ("--head", "mean-pool", "--epochs", 1, "--device", "cpu", "--clip-frames", 1)
    assert cubereel("train", tmp_path / "s.cubes", *quick, "--out", tmp_path / "run") == 0
    with (tmp_path / "run/predictions.csv").open(encoding="utf-8", newline="") as file:
        tested = {line["video_id"]: line["label"] for line in csv.DictReader(file)}
    assert tested == {row.video_id: row.label for row in rows if row.split == "test"}
    assert cubereel("store", "verify", tmp_path / "m.cubes", "--full") == 0


def assert_refused(folder, name):
    """A manifest cannot be written with such an id, or is not read again."""
    with pytest.raises((ContractError, UnicodeEncodeError)):
        write_and_read(folder / "refused.csv", name)


def write_and_read(path, name):
    write_manifest(path, [ManifestRow(name, "a")])
    read_manifest(path)


def extract_under(cubereel, tmp_path, clip, names):
    """Extract one clip under many names, twice; return what the manifest says."""
    write_files(tmp_path / "v", names, clip)
    rows = [
        ManifestRow(i, f"v/{i}", "ab"[n % 2], f"g{n}", ["train", "test"][n // 2 % 2])
        for n, i in enumerate(names)
    ]
    write_manifest(tmp_path / "said.csv", rows)
    store = ("--out", tmp_path / "s.cubes", "--backbone", "tiny:conv", "--fps", 10)
    for num_extracted in (len(names), 0):
        assert cubereel("extract", tmp_path / "said.csv", "--root", tmp_path / "v", *store) == 0
        assert f"{num_extracted} extracted now" in cubereel.out
        assert "otherwise" not in cubereel.err
    assert listed(cubereel, tmp_path / "s.cubes") == {row.video_id: row.label for row in rows}
    return rows


def join_and_exchange(cubereel, tmp_path, names):
    """Cut the store, join it again, export and import it: every name is there each time."""
    store, half = tmp_path / "s.cubes", tmp_path / "half.cubes"
    (tmp_path / "ids.txt").write_text("\n".join(names[::2]), encoding="utf-8")
    assert cubereel("store", "subset", store, "--ids", tmp_path / "ids.txt", "--out", half) == 0
    with Store(half) as opened:
        assert sorted(opened.ids) == sorted(names[::2])
    assert cubereel("store", "merge", half, store, "--out", tmp_path / "m.cubes") == 0
    assert listed(cubereel, tmp_path / "m.cubes") == listed(cubereel, store)

    export_store(store, tmp_path / "plain", kind="folder")
    import_features(tmp_path / "plain", tmp_path / "again.cubes", kind="folder")
    assert read_store_manifest(tmp_path / "again.cubes") == read_store_manifest(store)
    shown = [name for name in names if not name.rpartition("/")[2].startswith(".")]
    for kind, some in (("npz", shown), ("arrays", names)):  # npz says that it takes no hidden files
        export_store(store, tmp_path / kind, kind=kind, pool="mean", video=some)
        options = ImportOptions(name="x")
        import_features(tmp_path / kind, tmp_path / f"{kind}.cubes", kind=kind, options=options)
        expected = {i: label for i, label in listed(cubereel, store).items() if i in some}
        assert listed(cubereel, tmp_path / f"{kind}.cubes") == expected


def listed(cubereel, store):
    assert cubereel("store", "ls", store, "--json") == 0
    return {video["video_id"]: video["label"] for video in json.loads(cubereel.out)}
