"""On what terms videos may be used: kept for each source, never spread, changed only when told."""

import json

import pytest

from tests.clips import write_classes

TINY = ("--backbone", "tiny:conv", "--device", "cpu", "--fps", 5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for name in ("a", "b"):
        folder = write_classes(root / name, per_class=1, num_frames=4)
        (folder / "manifest.csv").unlink()
    (root / "b" / "dark").rename(root / "b" / "walk")
    (root / "b" / "bright").rename(root / "b" / "run")
    return root


def info(cubereel, store):
    assert cubereel("store", "info", store, "--json") == 0
    return json.loads(cubereel.out)


def extract(cubereel, folder, store, *terms):
    return cubereel("extract", folder, "--out", store, *TINY, *terms)


def test_a_merge_spreads_no_licence(cubereel, folders, tmp_path):
    a, b, both = (tmp_path / f"{name}.cubes" for name in ("a", "b", "both"))
    assert extract(cubereel, folders / "a", a, "--licence", "MIT", "--origin", "lab A") == 0
    assert extract(cubereel, folders / "b", b) == 0
    assert cubereel("store", "merge", a, b, "--out", both) == 0

    said = info(cubereel, both)
    ids = [key.removeprefix("licence of ") for key in said if key.startswith("licence of ")]
    licences = {said[f"root of {each}"]: said[f"licence of {each}"] for each in ids}
    assert licences == {str(folders / "a"): "MIT", str(folders / "b"): "not said"}
    listed = tmp_path / "ids.txt"
    assert cubereel("store", "ls", both, "--json") == 0
    chosen = [v["video_id"] for v in json.loads(cubereel.out) if v["video_id"].startswith("walk/")]
    listed.write_text("\n".join(chosen))
    assert cubereel("store", "subset", both, "--out", tmp_path / "part.cubes", "--ids", listed) == 0
    assert info(cubereel, tmp_path / "part.cubes")["licence"] == "not said"


def test_an_extraction_that_says_otherwise_is_refused_and_names_both(cubereel, folders, tmp_path):
    store = tmp_path / "s.cubes"
    assert extract(cubereel, folders / "a", store, "--licence", "MIT") == 0
    before = (store / "store.json").read_bytes()

    assert extract(cubereel, folders / "a", store, "--licence", "GPL") == 3
    assert "'MIT' in the store, not 'GPL'; leave --licence out" in cubereel.err
    assert (store / "store.json").read_bytes() == before
    assert extract(cubereel, folders / "a", store) == 0
    assert extract(cubereel, folders / "a", store, "--citation", "A 2020") == 0
    assert info(cubereel, store)["citation"] == "A 2020"
    assert info(cubereel, store)["licence"] == "MIT"


def test_what_is_said_can_be_said_later_and_taken_back(cubereel, folders, tmp_path):
    store = tmp_path / "s.cubes"
    assert extract(cubereel, folders / "a", store) == 0
    revision = info(cubereel, store)["revision"]

    assert cubereel("store", "describe", store, "--licence", "CC0", "--origin", "a lab") == 0
    assert info(cubereel, store)["licence"] == "CC0"
    assert cubereel("store", "describe", store, "--licence", "") == 0
    assert (info(cubereel, store)["licence"], info(cubereel, store)["origin"]) == (
        "not said", "a lab",
    )  # fmt: skip
    assert info(cubereel, store)["revision"] == revision
    assert cubereel("store", "describe", store, "--source", "nobody", "--licence", "x") == 2
    assert cubereel("store", "describe", store) == 2
    assert "give --licence, --origin or --citation" in cubereel.err


def test_stores_that_say_two_things_of_one_source_are_not_joined(cubereel, folders, tmp_path):
    a, b = tmp_path / "a.cubes", tmp_path / "b.cubes"
    assert extract(cubereel, folders / "a", a) == 0
    assert cubereel("store", "subset", a, "--out", b, "--label", "dark") == 0
    assert cubereel("store", "describe", a, "--licence", "MIT") == 0
    assert cubereel("store", "append", b, a) == 0  # one says it, the other nothing
    assert info(cubereel, b)["licence"] == "MIT"
    assert cubereel("store", "describe", b, "--licence", "GPL") == 0
    assert cubereel("store", "append", b, a) == 3
    assert "'GPL' in the store, not 'MIT'" in cubereel.err
