"""The codec of JSON documents: what goes in comes out, and a stranger's document is checked."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features_store.catalogue import Catalogue
from features_store.errors import StoreError, UsageError
from features_store.format.layout import LayerShape
from features_store.ledger import Failure
from features_store.metadata import StoreHeader, read_header, write_header
from features_store.plain import PlainError, from_plain, to_plain
from features_store.sources import new_source
from features_store.spec import Preprocessing, Sampling, Spec

# Of these no value is refused that has the type, so that hypothesis finds them by it.
KINDS = (Preprocessing, Sampling, Spec, StoreHeader, Failure, Catalogue)
finite = st.floats(allow_nan=False, allow_infinity=False)
st.register_type_strategy(float, finite)
st.register_type_strategy(
    LayerShape,
    st.builds(LayerShape, st.from_regex(r"[a-z0-9_]{1,9}(@avg7)?", fullmatch=True),
              st.integers(1, 9), st.integers(1, 9999)),
)  # fmt: skip
texts = st.text(st.characters(codec="utf-8"), max_size=9)
st.register_type_strategy(str, texts)


@dataclass(frozen=True)
class Inner:
    shape: tuple[int, int]
    rate: Fraction = Fraction(25)


@dataclass(frozen=True)
class Outer:
    kind: Literal["walk", "run"]
    inner: Inner
    seconds: float
    count: int | None = None
    flag: bool = False
    rows: tuple[tuple[int, ...], ...] = ()
    names: Mapping[str, float] = field(default_factory=dict)
    anything: Any = None


GOOD = {"kind": "run", "inner": {"shape": [3, 4], "rate": "30000/1001"}, "seconds": 1.5}


def through_json(value):
    """Return what is read of a value that was written, of tuples as lists."""
    document = to_plain(value)
    assert json.loads(json.dumps(document)) == document
    return from_plain(type(value), document)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_what_is_written_is_read_the_same(kind, data):
    value = data.draw(st.builds(kind, **{f.name: ... for f in fields(kind)}))

    again = through_json(value)
    assert again == value
    assert json.dumps(to_plain(again)) == json.dumps(to_plain(value))  # 1 is not 1.0


@given(st.fractions(max_denominator=10**18, min_value=-(10**18), max_value=10**18))
def test_fractions_are_exact(rate):
    assert through_json(Inner((1, 2), rate)).rate == rate


def test_a_whole_value_is_read():
    value = from_plain(Outer, GOOD | {"rows": [[1], []], "names": {"a": 2}, "anything": [{"b": 1}]})

    inner = Inner((3, 4), Fraction(30000, 1001))
    assert value == Outer("run", inner, 1.5, None, False, ((1,), ()), {"a": 2}, [{"b": 1}])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (GOOD | {"kind": "fly"}, "kind is 'fly', .*expected walk or run"),
        (GOOD | {"inner": {"shape": [3]}}, r"inner.shape is \[3\], expected array of length 2"),
        (GOOD | {"inner": {"shape": [3, True]}}, r"inner.shape\[1\] is True, expected int"),
        (GOOD | {"inner": {"shape": [3, "4"]}}, r"inner.shape\[1\] is '4', expected int"),
        (GOOD | {"inner": {"shape": [3, 4.0]}}, r"inner.shape\[1\] is 4.0, expected int"),
        (GOOD | {"inner": {"shape": [3, 4], "rate": "1e999999999"}}, "'1e999999999', .*a fraction"),
        (GOOD | {"inner": {"shape": [3, 4], "rate": "1/0"}}, "inner.rate is '1/0'"),
        (GOOD | {"inner": {"shape": [3, 4], "rate": 25}}, "inner.rate is 25"),
        (GOOD | {"inner": {"rate": "1"}}, "inner lacks the field shape"),
        (GOOD | {"inner": {"shape": [3, 4], "size": 5}}, "no field 'inner.size'; .*shape, rate"),
        (GOOD | {"seconds": True}, "seconds is True, expected float"),
        (GOOD | {"seconds": "nan"}, "seconds is 'nan', expected float"),
        (GOOD | {"seconds": float("nan")}, "seconds is nan, expected a finite"),
        (GOOD | {"seconds": 10**400}, "seconds is 1000"),
        (GOOD | {"names": {"a": float("-inf")}}, "names.a is -inf, expected a finite"),
        (GOOD | {"names": {"a": "b"}}, "names.*expected float, got str"),
        (GOOD | {"count": False}, "count is False, expected int or null"),
        (GOOD | {"flag": 1}, "flag is 1, expected bool"),
        (GOOD | {"flag": None}, "flag is None, expected bool"),
        (GOOD | {"rows": [1]}, r"rows\[0\] is 1, expected array"),
        (GOOD | {"colour": "red"}, "no field 'colour'; expected kind, inner"),
        ({"kind": "run"}, "it lacks the field inner"),
        ([], r"it is \[\], expected object"),
        (None, "it is None, expected object"),
    ],
)
def test_a_document_that_is_none_is_refused(document, message):
    with pytest.raises(PlainError, match=message):
        from_plain(Outer, document)


def nested(depth):
    document: Any = []
    for _ in range(depth):
        document = [document]
    return document


@pytest.mark.parametrize("name", [*GOOD, "rows", "names", "anything"])
def test_huge_nesting_is_refused(name):
    with pytest.raises(PlainError):
        from_plain(Outer, GOOD | {name: nested(10**5)})


def test_a_long_value_is_not_repeated_at_length():
    with pytest.raises(PlainError) as caught:
        from_plain(Outer, GOOD | {"seconds": "x" * 10**6})
    assert len(str(caught.value)) < 200


def test_what_a_dataclass_refuses_itself_keeps_its_error():
    with pytest.raises(UsageError, match=r"layer name '\.\./x' cannot stand in a store"):
        from_plain(LayerShape, {"name": "../x", "grid_size": 1, "dim": 1})
    with pytest.raises(TypeError, match="object has no form in JSON"):
        to_plain(replace(from_plain(Outer, GOOD), anything=object()))


SPEC = Spec(
    "tiny:conv",
    "0" * 64,
    Preprocessing((8, 8), 8, "crop", "bilinear", (0, 0.5, 0.0), (1, 1, 1), 255, "rgb"),
    Sampling("fps", "10"),
    "none",
    "fp32",
    "cpu",
)


def test_whole_numbers_of_a_spec_stay_whole_so_its_digest_stays():
    again = Spec.from_json(json.loads(json.dumps(SPEC.to_json())))

    assert repr(again) == repr(SPEC)
    assert again.digest == SPEC.digest
    assert json.dumps(again.to_json()["preprocessing"]["mean"]) == "[0, 0.5, 0.0]"


@pytest.mark.parametrize("name", [field.name for field in fields(StoreHeader)])
def test_every_field_of_a_header_must_be_there(tmp_path, name):
    write_header(tmp_path, StoreHeader(SPEC, (LayerShape("top", 2, 3),), (new_source("/v"),)))
    document = json.loads((tmp_path / "store.json").read_text())
    del document[name]
    (tmp_path / "store.json").write_text(json.dumps(document))

    with pytest.raises(StoreError, match=rf"store.json lacks the field '{name}'"):
        read_header(tmp_path)


def test_a_store_may_say_more_at_the_top_and_no_more_within(tmp_path):
    write_header(tmp_path, StoreHeader(SPEC, (LayerShape("top", 2, 3),), (new_source("/v"),)))
    document = json.loads((tmp_path / "store.json").read_text())
    (tmp_path / "store.json").write_text(json.dumps(document | {"note": "mine"}))
    assert read_header(tmp_path).spec == SPEC

    document["spec"]["preprocessing"]["note"] = "mine"
    (tmp_path / "store.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match=r"no field 'spec\.preprocessing\.note'"):
        read_header(tmp_path)


@pytest.mark.parametrize("statement", ["import features_store, extract", "import pipelines.cli"])
def test_the_codec_costs_nothing_until_it_is_used(statement):
    code = f"{statement}\nimport features_store.spec, sys\nprint('msgspec' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
