"""What a label names: its text, in a manifest and in the files of other formats."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features_store.errors import ContractError, UsageError
from features_store.exchange import ImportOptions, export_store, import_features
from features_store.format.layout import LayerShape
from features_store.labels import join_label, split_label
from features_store.manifest import ManifestRow, read_store_manifest, write_manifest
from tests.stores import header, make_store


@given(st.lists(st.from_regex(r"[ab](?: ?[ab])*", fullmatch=True), unique=True))
def test_labels_come_back_from_their_text(names):
    assert split_label(join_label(names)) == names


@pytest.mark.parametrize(
    ("label", "message"),
    [("sit;", "empty name"), (";;", "empty name"), ("sit; ;run", "empty name"),
     ("sit;run; sit", "names 'sit' twice")],
)  # fmt: skip
def test_labels_that_are_written_wrongly_are_refused(label, message):
    with pytest.raises(ContractError, match=message):
        split_label(label)


LABELS = {"a/1": "run;jump", "a/2": ";", "b/1": "", "b/2": "run"}


@pytest.fixture
def vectors(tmp_path):
    store = tmp_path / "s.cubes"
    shape = header(layers=(LayerShape("top", 1, 4),), has_diffs=False)
    make_store(store, dict.fromkeys(LABELS, 3), store_header=shape)
    write_manifest(store / "manifest.csv", [ManifestRow(i, i, said) for i, said in LABELS.items()])
    return store


@pytest.mark.parametrize("kind", ["folder", "sharma", "npz", "npy"])
def test_several_labels_none_and_not_said_come_back_from_other_formats(vectors, tmp_path, kind):
    named = {} if kind == "folder" else {"name": "x"}
    grid = {"grid_size": 1} if kind == "sharma" else {}
    export_store(vectors, tmp_path / "out", kind=kind)
    import_features(
        tmp_path / "out", tmp_path / "again", kind=kind, options=ImportOptions(**named, **grid)
    )

    rows = read_store_manifest(tmp_path / "again")
    assert {i: set(split_label(row.label)) for i, row in rows.items()} == {
        i: set(split_label(label)) for i, label in LABELS.items()
    }
    assert [i for i, row in rows.items() if not row.label] == ["b/1"]


def test_a_format_with_one_class_a_video_refuses_several(vectors, tmp_path):
    with pytest.raises(UsageError, match=r"'a/1' has the label 'run;jump'.*take `kind` npz"):
        export_store(vectors, tmp_path / "out", kind="arrays")


def test_classes_whose_names_would_read_as_several_are_not_imported(vectors, tmp_path):
    export_store(vectors, tmp_path / "out", kind="sharma")
    for path in (tmp_path / "out").glob("*_classes.txt"):
        path.write_text("jump;high\nrun\n")

    with pytest.raises(ContractError, match=r"class 'jump;high' has a ';'"):
        import_features(
            tmp_path / "out",
            tmp_path / "o",
            kind="sharma",
            options=ImportOptions(name="x", grid_size=1),
        )
