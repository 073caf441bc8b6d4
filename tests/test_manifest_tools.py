"""Manifests: all that is wrong with one, splits that do not leak, what is where."""

import csv
import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features_store.errors import ContractError, UsageError
from features_store.manifest import (
    ManifestRow,
    read_manifest,
    scan_manifest,
    write_manifest,
    write_splits,
)
from tests.clips import write_classes
from train.protocol.sides import choose_sides
from train.protocol.ties import find_leaks, tied_sets

SIDES = ["train", "val", "test"]
FIRST = "dark/0.mp4"


@st.composite
def tied_rows(draw):
    """Rows of few groups, files and contents, so that chains of ties are common."""
    few = st.sampled_from(["", "x", "y", "z"])
    rows, media = [], {}
    for i in range(draw(st.integers(1, 12))):
        path = draw(st.sampled_from(["a", "b", "c", f"own{i}"]))
        rows.append(ManifestRow(f"v{i}", path, group=draw(few)))
        media[f"v{i}"] = draw(few)
    return rows, media


def are_tied(a, b, media):
    same_media = bool(media.get(a.video_id)) and media.get(a.video_id) == media.get(b.video_id)
    return a.path == b.path or (a.group != "" and a.group == b.group) or same_media


# What ties videos together


@settings(deadline=None)
@given(tied_rows(), st.randoms(use_true_random=False))
def test_a_leak_is_a_tied_pair_on_two_sides(case, random):
    rows, media = case
    sides = [random.choice([*SIDES, ""]) for _ in rows]
    placed = [(row, side) for row, side in zip(rows, sides, strict=True) if side]
    pairs = [(a, b) for a, s in placed for b, t in placed if s != t and are_tied(a, b, media)]

    leaks = find_leaks(rows, sides, media=media)
    assert bool(leaks) == bool(pairs)
    for leak in leaks:
        assert len(leak.videos) > 1
        for side, ids in leak.videos.items():
            assert all(sides[int(video_id[1:])] == side for video_id in ids)
    named = [{i for ids in leak.videos.values() for i in ids} for leak in leaks]
    for a, b in pairs:
        assert any({a.video_id, b.video_id} <= ids for ids in named)


@settings(deadline=None)
@given(tied_rows())
def test_sets_are_what_ties_connect(case):
    rows, media = case
    sets = tied_sets(rows, media=media)

    reachable = np.array([[are_tied(a, b, media) for b in rows] for a in rows])
    for _ in rows:
        reachable = reachable @ reachable
    np.testing.assert_array_equal(reachable, np.equal.outer(sets, sets))


@pytest.mark.parametrize(
    ("a", "b", "media", "expected"),
    [
        (("p", "g"), ("q", "g"), {}, [("group", "g")]),
        (("p", "g"), ("p", "h"), {}, [("file", "p")]),
        (("p", "g"), ("q", "h"), {"a": "0f", "b": "0f"}, [("media", "0f")]),
        (("p", "g"), ("p", "h"), {"a": "0f", "b": "0f"}, [("file", "p")]),
        (("p", "g"), ("p", "g"), {}, [("file", "p"), ("group", "g")]),
        (("p", ""), ("q", ""), {"a": "0f", "b": "1f"}, []),
        (("p", ""), ("q", ""), {"a": "", "b": ""}, []),
    ],
)
def test_each_kind_of_leak_is_named(a, b, media, expected):
    rows = [ManifestRow("a", a[0], group=a[1]), ManifestRow("b", b[0], group=b[1])]
    leaks = find_leaks(rows, ["train", "test"], media=media)

    assert [(leak.kind, leak.value) for leak in leaks] == expected
    assert all(leak.videos == {"train": ["a"], "test": ["b"]} for leak in leaks)
    assert find_leaks(rows, ["train", ""], media=media) == []


# Choosing sides


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=60),
    st.sampled_from([(0.75, 0.25), (0.6, 0.15, 0.25), (0.1, 0.9)]),
    st.integers(0, 5),
)
def test_a_set_is_on_one_side_and_no_side_is_empty(videos, shares, seed):
    labels = np.unique([label for label, _ in videos], return_inverse=True)[1]
    sets = np.unique([number for _, number in videos], return_inverse=True)[1]
    named = dict(zip(SIDES, shares, strict=False))
    if len(set(sets)) < len(named):
        with pytest.raises(ContractError, match=f"needs {len(named)} sets of videos"):
            choose_sides(labels, sets, shares=named, seed=seed)
        return
    sides = choose_sides(labels, sets, shares=named, seed=seed)

    assert set(sides) == set(named)
    assert len(set(zip(sets, sides, strict=True))) == len(set(sets))
    assert sides == choose_sides(labels, sets, shares=named, seed=seed)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([(0.75, 0.25), (0.65, 0.1, 0.25), (0.5, 0.5)]))
def test_untied_videos_are_spread_to_within_one_of_each_class(seed, shares):
    labels = np.repeat([0, 1, 2], np.random.default_rng(seed).integers(4, 40, 3))
    named = dict(zip(SIDES, shares, strict=False))
    sides = np.array(choose_sides(labels, np.arange(len(labels)), shares=named, seed=seed))

    for label in range(3):
        for side, share in named.items():
            count = np.count_nonzero((sides == side) & (labels == label))
            assert count >= 1
            assert abs(count - share * np.count_nonzero(labels == label)) <= 1


def test_sets_of_uneven_size_come_near_the_shares():
    """45 sets as of real source videos, the largest a tenth of all, most of one class only."""
    rng = np.random.default_rng(0)
    sizes = [28, *rng.integers(1, 12, 44)]
    sets = np.repeat(np.arange(45), sizes)
    labels = (rng.random(len(sets)) < np.repeat(rng.choice([0.1, 0.9], 45), sizes)).astype(int)
    for seed in range(5):
        sides = choose_sides(labels, sets, shares={"train": 0.75, "test": 0.25}, seed=seed)
        tested = np.array(sides) == "test"

        for label in (0, 1):
            assert abs(tested[labels == label].mean() - 0.25) < 0.02


def misfit(labels, sides, shares):
    """Chi-square of videos per class and side, and 1 for every empty cell."""
    total = 0.0
    for side, share in shares.items():
        for label in np.unique(labels):
            count = np.count_nonzero((labels == label) & (sides == side))
            expected = share * np.count_nonzero(labels == label)
            total += (count - expected) ** 2 / expected + (count == 0)
    return total


def test_no_two_sets_would_better_be_swapped():
    rng = np.random.default_rng(1)
    sets = np.repeat(np.arange(12), rng.integers(1, 9, 12))
    labels = rng.integers(0, 3, len(sets))
    shares = {"train": 0.6, "val": 0.15, "test": 0.25}
    sides = np.array(choose_sides(labels, sets, shares=shares))
    chosen = misfit(labels, sides, shares)

    for i in range(12):
        for j in range(i):
            swapped = sides.copy()
            swapped[sets == i], swapped[sets == j] = sides[sets == j][0], sides[sets == i][0]
            assert misfit(labels, swapped, shares) >= chosen - 1e-6


def test_a_rare_class_is_on_both_sides():
    labels = np.array([0] * 40 + [1] * 4)
    sides = choose_sides(labels, np.arange(44), shares={"train": 0.9, "test": 0.1})

    assert sides[40:].count("test") == 1


def test_another_seed_is_another_split():
    shares = {"train": 0.5, "test": 0.5}
    labels, sets = np.arange(40) % 2, np.arange(40)

    chosen = {tuple(choose_sides(labels, sets, shares=shares, seed=seed)) for seed in range(5)}
    assert len(chosen) == 5


@pytest.mark.parametrize("test", [0.0, 1.0, 1.5, -0.1, float("nan")])
def test_shares_that_leave_nothing_are_refused(test):
    with pytest.raises(UsageError, match="share between 0 and 1, got"):
        choose_sides(np.array([0, 1]), np.array([0, 1]), shares={"train": 1 - test, "test": test})


# Reading and writing


def test_all_that_is_wrong_is_found(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text(
        "path,label,start_seconds,end_seconds\n"
        "a,x,soon,-1\n"
        "\n"
        ",x,,\n"
        "b,x\n"
        "../c,x,2,1\n"
        'd,"x\ny",,\n'
        "d,x,,\n"
        '"e\n'
    )
    found = [(line.number, problem) for line in scan_manifest(path) for problem in line.problems]

    assert found == [
        (2, "start_seconds must be a time in seconds, got 'soon'"),
        (2, "end_seconds must be a time in seconds, got '-1'"),
        (4, "the path is empty"),
        (5, "it has not as many fields (2) as the header has columns (4)"),
        (6, "the span from 2.0 to 1.0 s is empty"),
        (6, "video id '../c@2-1' is not a relative path without '.' and '..'"),
        (
            9,
            "video id 'd' stands there twice (line 8); give each row its own video_id or time span",
        ),
        (10, "unexpected end of data"),
    ]


def test_a_column_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "m.csv").write_text("path,label,label\na,x,y\n")

    with pytest.raises(ContractError, match="has the column 'label' twice"):
        read_manifest(tmp_path / "m.csv")


text = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(text, text, st.sampled_from(["", *SIDES])), max_size=6))
def test_writing_splits_changes_nothing_else(tmp_path_factory, said):
    path = tmp_path_factory.mktemp("m") / "m.csv"
    rows = [
        ManifestRow(f"v{i}", f"p{i}", label.strip(), extra={"note": note.strip()})
        for i, (label, note, _) in enumerate(said)
    ]
    write_manifest(path, rows)
    write_splits(path, [split for *_, split in said])

    again = read_manifest(path)
    assert [row.split for row in again] == [split for *_, split in said]
    assert [(r.video_id, r.path, r.label, dict(r.extra)) for r in again] == [
        (r.video_id, r.path, r.label, dict(r.extra)) for r in rows
    ]


def test_a_column_that_is_not_there_is_added_at_the_end(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("note,path\n1,a\n\n2,b\n")
    write_splits(path, ["test", ""])

    assert path.read_text() == "note,path,split\n1,a,test\n2,b,\n"
    with pytest.raises(ContractError, match="changed meanwhile: 2 rows, 1 before"):
        write_splits(path, ["test"])


# The commands


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def extracted(videos, tmp_path_factory):
    from pipelines.extraction.extract import extract
    from pipelines.extraction.options import ExtractionOptions

    path = tmp_path_factory.mktemp("stores") / "s.cubes"
    extract(videos, out=path, options=ExtractionOptions(backbone="tiny:conv", fps="5"))
    return path


@pytest.fixture
def store(extracted, tmp_path):
    shutil.copytree(extracted, tmp_path / "s.cubes")
    return tmp_path / "s.cubes"


@pytest.fixture
def folder(videos, tmp_path):
    shutil.copytree(videos, tmp_path / "v")
    return tmp_path / "v"


def edit(manifest, change):
    """Write the manifest anew, every row (a dict) changed in place."""
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        change(row)
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def clear_splits(manifest):
    edit(manifest, lambda row: row.update(split=""))


def test_a_right_manifest_is_valid(cubereel, folder, store):
    for path in (folder, folder / "manifest.csv", store, store / "manifest.csv"):
        assert cubereel("manifest", "validate", path) == 0
        assert cubereel.out.startswith("8 rows, 0 problems")


def test_every_problem_of_a_csv_has_its_line(cubereel, folder):
    (folder / FIRST).unlink()
    with (folder / "manifest.csv").open("a") as file:
        file.write("gone.mp4,dark,g9,dev\nmore,dark\n")

    assert cubereel("manifest", "validate", folder) == 3
    *lines, last = cubereel.out.splitlines()
    assert lines == [
        f"line 2: there is no file '{folder / FIRST}'",
        "line 10: split 'dev' is none of train, val, validation, test (or empty)",
        f"line 10: there is no file '{folder / 'gone.mp4'}'",
        "line 11: it has not as many fields (2) as the header has columns (4)",
    ]
    assert last.startswith("10 rows, 4 problems")
    assert "has 4 problems" in cubereel.err
    assert cubereel("manifest", "validate", folder, "--json") == 3
    assert json.loads(cubereel.out)["problems"][0]["line"] == 2


def test_two_spellings_of_one_path_are_a_problem(cubereel, folder):
    with (folder / "manifest.csv").open("a") as file:
        file.write(f"{folder}/dark/0.mp4,dark,g0,test\n")

    assert cubereel("manifest", "validate", folder) == 3
    assert f"video id '{FIRST}' stands twice in the source" in cubereel.out


def test_a_store_and_its_manifest_are_compared(cubereel, store):
    def change(row):
        if row["video_id"] == FIRST:
            row["video_id"] = "elsewhere.mp4"
        if row["video_id"] == "dark/1.mp4":
            row["label"] = ""

    edit(store / "manifest.csv", change)

    assert cubereel("manifest", "validate", store) == 3
    assert sorted(cubereel.out.splitlines()[:3]) == sorted(
        [
            f"line {line_of(store, 'elsewhere.mp4')}: video 'elsewhere.mp4' is not in the store",
            f"line {line_of(store, 'dark/1.mp4')}: stored video 'dark/1.mp4' has no label",
            f"stored video '{FIRST}' has no row",
        ]
    )
    assert "(1 without label, 0 without group, 0 without split)" in cubereel.out


def line_of(store, video_id):
    lines = (store / "manifest.csv").read_text().splitlines()
    return next(i for i, line in enumerate(lines, 1) if line.startswith(f"{video_id},"))


@pytest.mark.parametrize("command", ["validate", "folds", "leaks", "counts", "split"])
def test_what_is_no_manifest_is_said(cubereel, tmp_path, command):
    options = {"folds": ("--folds", 2), "split": ("--test", 0.5)}.get(command, ())
    (tmp_path / "list.txt").write_text("a.mp4\n")
    for path in (tmp_path, tmp_path / "nowhere.csv", tmp_path / "list.txt"):
        assert cubereel("manifest", command, path, *options) == 2
        assert "give a CSV, a folder with a manifest.csv, or a store" in cubereel.err
        assert "Traceback" not in cubereel.err


def test_a_store_without_a_manifest_says_so(cubereel, store):
    (store / "manifest.csv").unlink()

    assert cubereel("manifest", "counts", store) == 3
    assert "has no manifest.csv" in cubereel.err


def run_split_hashes(cubereel, store, out, *options):
    quick = ("--head", "mean-pool", "--clip-frames", 2, "--epochs", 1, "--device", "cpu")
    assert cubereel("train", store, *quick, "--out", out, *options) == 0
    return json.loads((out / "results.json").read_text())["split_hashes"]


@pytest.mark.parametrize("validation", [(), ("--validation", 0.25)])
def test_a_written_split_is_the_one_that_train_uses(cubereel, store, tmp_path, validation):
    # Names whose order is not that of the videos: folds are cut in the order of groups.
    renamed = {"g0": "q", "g1": "z", "g2": "a", "g3": "m"}
    edit(store / "manifest.csv", lambda row: row.update(split="", group=renamed[row["group"]]))
    arguments = ("split", store, "--test", 0.25, *validation, "--seed", 3, "--write", "--json")

    assert cubereel("manifest", *arguments) == 0
    report = json.loads(cubereel.out)
    assert report["sides"]["test"]["labels"] == {"bright": 1, "dark": 1}
    assert run_split_hashes(cubereel, store, tmp_path / "run") == [report["split_hash"]]
    assert cubereel("manifest", "leaks", store) == 0


def test_folds_are_those_that_train_uses(cubereel, folder, store, tmp_path):
    hashes = {}
    for path in (folder, store):
        assert cubereel("manifest", "folds", path, "--folds", 4, "--json") == 0
        report = json.loads(cubereel.out)
        hashes[path] = [fold["split_hash"] for fold in report["folds"]]
        assert sum(fold["test"]["videos"] for fold in report["folds"]) == 8

    trained = run_split_hashes(cubereel, store, tmp_path / "run", "--folds", 4)
    assert hashes[folder] == hashes[store] == trained


def test_folds_are_a_table(cubereel, store):
    assert cubereel("manifest", "folds", store, "--folds", 2) == 0
    table = [line.split() for line in cubereel.out.splitlines()]

    assert [row[0] for row in table] == ["label", "bright", "dark", "all", "groups", "split"]
    assert table[3] == ["all", "videos", "4", "4"]
    other = cubereel.out
    assert cubereel("manifest", "folds", store, "--folds", 2, "--split-seed", 1) == 0
    assert cubereel.out != other
    assert cubereel("manifest", "folds", store, "--folds", 9) == 2
    assert "number of groups (4), got 9" in cubereel.err


def test_nothing_is_written_unless_asked(cubereel, folder):
    before = (folder / "manifest.csv").read_text()

    assert cubereel("manifest", "split", folder, "--test", 0.25) == 0
    assert "(not written; give --write)" in cubereel.out
    assert cubereel("manifest", "split", folder, "--test", 0.25, "--write") == 2
    assert "says a split for 8 of 8 rows already; give --replace" in cubereel.err
    assert (folder / "manifest.csv").read_text() == before


def test_replacing_a_split_replaces_all_of_it(cubereel, folder):
    def change(row):
        row.update(split="test", label="" if row["path"] == FIRST else row["label"])

    edit(folder / "manifest.csv", change)
    arguments = ("--test", 0.25, "--write", "--replace")

    assert cubereel("manifest", "split", folder, *arguments) == 0
    assert "1 videos have no label and are left out" in cubereel.err
    rows = {row.video_id: row for row in read_manifest(folder / "manifest.csv")}
    assert rows.pop(FIRST).split == ""
    assert {row.split for row in rows.values()} == {"train", "test"}


def test_a_split_parts_neither_groups_nor_files_nor_contents(cubereel, folder):
    """Eight videos that two groups, two spans and one copy tie into three sets."""
    shutil.copy(folder / "dark/3.mp4", folder / "copy.mp4")
    (folder / "manifest.csv").write_text(
        "path,label,group,start_seconds,end_seconds\n"
        "dark/0.mp4,dark,a,,\nbright/0.mp4,bright,a,,\n"
        "dark/1.mp4,dark,b,0,0.5\ndark/1.mp4,bright,c,0.5,\nbright/1.mp4,bright,c,,\n"
        "dark/3.mp4,dark,,,\ncopy.mp4,bright,d,,\nbright/3.mp4,dark,d,,\n"
    )
    for seed in range(3):
        arguments = ("--test", 0.3, "--validation", 0.3, "--seed", seed)
        assert cubereel("manifest", "split", folder, *arguments, "--write", "--replace") == 0
        sides = [row.split for row in read_manifest(folder / "manifest.csv")]

        assert [len({*sides[a:b]}) for a, b in ((0, 2), (2, 5), (5, 8))] == [1, 1, 1]
        assert cubereel("manifest", "leaks", folder) == 0


def test_only_files_of_equal_size_are_read(tmp_path):
    from pipelines.manifests.described import hash_equal_sizes

    for name, content in (("a", b"12"), ("b", b"34"), ("c", b"12"), ("d", b"123")):
        (tmp_path / name).write_bytes(content)
    digests = hash_equal_sizes({name: tmp_path / name for name in "abcde"})

    assert sorted(digests) == ["a", "b", "c"]
    assert digests["a"] == digests["c"] != digests["b"]


def test_too_few_sets_for_a_split_are_said(cubereel, folder):
    edit(folder / "manifest.csv", lambda row: row.update(group="one", split=""))

    assert cubereel("manifest", "split", folder, "--test", 0.25, "--write") == 3
    assert "these 8 videos make 1" in cubereel.err
    assert cubereel("manifest", "split", folder, "--test", 0.7, "--validation", 0.3) == 2
    assert "share between 0 and 1, got train 0" in cubereel.err


@pytest.fixture
def leaky(folder):
    """A group, a file by two spans, and a copied file, each in train and in test."""
    shutil.copy(folder / "dark/1.mp4", folder / "copy.mp4")
    (folder / "manifest.csv").write_text(
        "path,label,group,split,start_seconds,end_seconds\n"
        "dark/0.mp4,dark,g,train,,\nbright/0.mp4,bright,g,test,,\n"
        "dark/1.mp4,dark,,train,,\ncopy.mp4,bright,,test,,\n"
        "dark/2.mp4,dark,a,train,0,0.5\ndark/2.mp4,bright,b,test,0.5,\n"
        "dark/3.mp4,dark,c,validation,,\nbright/3.mp4,bright,c,val,,\n"
        "bright/1.mp4,bright,g,,,\n"
    )
    return folder


def test_leaks_are_named(cubereel, leaky, tmp_path):
    from pipelines.extraction.extract import extract
    from pipelines.extraction.options import ExtractionOptions

    extract(
        leaky, out=tmp_path / "s.cubes", options=ExtractionOptions(backbone="tiny:conv", fps="5")
    )
    reports = []
    for path in (leaky, tmp_path / "s.cubes"):
        assert cubereel("manifest", "leaks", path, "--json") == 3
        assert "has 3 leaks between its splits" in cubereel.err
        reports.append(json.loads(cubereel.out))
        del reports[-1]["manifest"]
    assert reports[0] == reports[1]
    assert reports[0]["videos"] == {"test": 3, "train": 3, "val": 2}
    assert (reports[0]["unchecked"], reports[0]["uncompared"]) == (1, 0)
    assert [(leak["kind"], leak["videos"]) for leak in reports[0]["leaks"]] == [
        ("file", {"test": ["dark/2.mp4@0.5-end"], "train": ["dark/2.mp4@0-0.5"]}),
        ("group", {"test": ["bright/0.mp4"], "train": ["dark/0.mp4"]}),
        ("media", {"test": ["copy.mp4"], "train": ["dark/1.mp4"]}),
    ]
    assert cubereel("manifest", "leaks", leaky) == 3
    assert "group 'g' is on 2 sides: test has 'bright/0.mp4'; train has" in cubereel.out


def test_what_cannot_be_compared_is_said(cubereel, leaky):
    (leaky / "copy.mp4").unlink()

    assert cubereel("manifest", "leaks", leaky) == 3
    assert "2 leaks (3 test, 3 train, 2 val, 1 without a split, content of 1" in cubereel.out
    assert "1 of 9 videos" in cubereel.err
    assert "(first: copy.mp4)" in cubereel.err


def test_folds_part_neither_groups_nor_files_nor_contents(cubereel, leaky):
    assert cubereel("manifest", "folds", leaky, "--folds", 5) == 2
    assert "between 2 and the number of groups (4), got 5" in cubereel.err
    assert cubereel("manifest", "folds", leaky, "--folds", 4) == 0


def test_no_split_is_not_taken_for_no_leak(cubereel, store):
    clear_splits(store / "manifest.csv")

    assert cubereel("manifest", "leaks", store) == 3
    assert "says no split for any video, so there is nothing to check" in cubereel.err


def test_counts_of_a_store_have_frames(cubereel, store):
    def change(row):
        if row["video_id"] == FIRST:
            row.update(video_id="elsewhere.mp4", group="")

    edit(store / "manifest.csv", change)

    assert cubereel("manifest", "counts", store, "--json") == 0
    report = json.loads(cubereel.out)
    cells = {(cell["label"], cell["split"]): cell["counts"] for cell in report["cells"]}
    assert cells["dark", "train"] == {"videos": 2, "groups": 2, "frames": 12}
    assert cells["", ""] == {"videos": 1, "groups": 1, "frames": 6}
    assert ("dark", "test") not in cells
    assert report["total"] == {"videos": 8, "groups": 5, "frames": 48}
    assert "1 of 8 videos have no group" in cubereel.err
    assert "are not in the store (first: elsewhere.mp4)" in cubereel.err
    assert cubereel("manifest", "counts", store) == 0
    assert "(no label)  (no split)" in cubereel.out


def test_counts_of_a_csv_have_none(cubereel, folder):
    assert cubereel("manifest", "counts", folder) == 0
    table = [line.split() for line in cubereel.out.splitlines()]

    assert table[0] == ["label", "split", "videos", "groups"]
    assert ["dark", "train", "2", "2"] in table
    assert table[-1] == ["all", "videos", "8", "4"]
