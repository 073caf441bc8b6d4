"""Numbers in store.json that never end, texts and lists that are deep or huge: one line each."""

import hashlib
import json

import pytest

from features_store.errors import StoreError, UsageError
from features_store.metadata import read_header
from features_store.spec import Sampling, canonical_json
from tests.hostile.ends import assert_one_line

DIGITS = 10**4000
LONG = "x" * 300


def sampling(kind, value, **more):
    return ("spec", "sampling"), {"kind": kind, "value": value, **more}


CHANGES = {
    "fps without end": sampling("fps", "1e999999999"),
    "fps of nothing": sampling("fps", "1/0"),
    "fps of 4,000 digits": sampling("fps", "9" * 4000),
    "a stride of 4,000 digits": sampling("stride", "9" * 4000),
    "segments of 4,000 digits": sampling("segments", "9" * 4000),
    "draws without end": sampling("segments", "8", jitter=2**62, seed=1),
    "a side of 4,000 digits": (("spec", "preprocessing", "input_size"), [DIGITS, 224]),
    "a negative side": (("spec", "preprocessing", "input_size"), [-1, 224]),
    "a mean of 4,000 digits": (("spec", "preprocessing", "mean"), [DIGITS, 0, 0]),
    "a deviation of nothing": (("spec", "preprocessing", "std"), [0, 1, 1]),
    "a rule of 4,000 digits": (("spec", "time_rule"), DIGITS),
    "a backbone without end": (("spec", "backbone"), "x" * 10**5),
    "cubes of 4,000 digits": (("layers",), [{"name": "top", "grid_size": DIGITS, "dim": 8}]),
    "cubes of a gigabyte": (("layers",), [{"name": "top", "grid_size": 1000, "dim": 1000}]),
    "a long name": (("layers",), [{"name": LONG, "grid_size": 2, "dim": 8}]),
    "a layer twice": (("layers",), [{"name": "top", "grid_size": 2, "dim": 8}] * 2),
    "too many views": (("views",), [f"v{i}" for i in range(10**5)]),
    "a long view": (("views",), [LONG]),
    "a long licence": (("sources", 0, "licence"), "x" * 10**6),
    "a deep version": (("versions",), json.loads("[" * 900 + "]" * 900)),
    "too many versions": (("versions",), dict.fromkeys(map(str, range(10**5)), "1")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_header_that_has_no_end_is_refused(store, name):
    (*path, last), value = CHANGES[name]
    document = json.loads((store / "store.json").read_text())
    place = document
    for key in path:
        place = place[key]
    place[last] = value
    document["spec_digest"] = hashlib.sha256(canonical_json(document["spec"])).hexdigest()
    (store / "store.json").write_text(json.dumps(document))

    with pytest.raises(StoreError, match=r"store\.json"):
        read_header(store)


def test_a_document_of_more_values_than_memory_has_ends_in_one_line(server, store):
    (store / "store.json").write_bytes(b"[" + b"[]," * (2**26 // 3 - 10) + b"[]]")

    assert_one_line(server("store", "info", store), 3, "values, more than")


@pytest.mark.parametrize("fps", ["1e999999999", "1/0", "9" * 4000, "nan", "inf", "-1", "0", ""])
def test_a_rate_that_is_none_is_refused_at_once(fps):
    with pytest.raises(UsageError, match="`fps` must be"):
        Sampling.parse(fps=fps)


@pytest.mark.parametrize(
    ("fps", "value"),
    [
        ("10", "10"),
        ("29.97", "2997/100"),
        ("30000/1001", "30000/1001"),
        (".5", "1/2"),
        ("1e1", "10"),
    ],
)
def test_a_rate_of_any_form_is_understood(fps, value):
    assert Sampling.parse(fps=fps).value == value
