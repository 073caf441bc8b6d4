"""Parsers of what strangers wrote: what is within the limits is read, and what is beyond is not."""

import json
import math
import os

import pytest

from features_store.format import inputs
from features_store.format.inputs import open_regular, parse_json, read_file, read_toml


def nested(levels):
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    "text",
    [
        nested(64), '{"a":' * 64 + "1" + "}" * 64, json.dumps(["[" * 500, '\\"{"', '"[']),
        json.dumps({"x" * 300: "9" * 500}), "9" * 40, "-" + "9" * 40, "[[], {}, [[]]]", '"é"',
        r'"\ud83d\ude00"',
    ],
)  # fmt: skip
def test_a_document_within_the_limits(text):
    assert parse_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (nested(65), "nested too deeply"),
        (nested(10**5), "nested too deeply"),
        ("[" * 10**5, "nested too deeply"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested too deeply"),
        ('["[",' + nested(64) + "]", "nested too deeply"),
        ("9" * 41, "41 digits"),
        ("[NaN]", "NaN where a finite number"),
        ("-Infinity", "-Infinity where"),
        ("[" + "0," * 50 + "0]", "about 51 values, more than 50"),
        ("", "Expecting value"),
        (r'{"a\udcff": 1}', "surrogates not allowed"),
        (r'["\ud83d"]', "surrogates not allowed"),
        ("\xff", "decode"),
    ],
)
def test_a_document_beyond_them(text, said):
    with pytest.raises(ValueError, match=said):
        parse_json(text.encode("latin-1"), most_values=50 if "0,0" in text else 10**6)


def test_numbers_that_are_not_finite_where_python_wrote_them():
    assert math.isnan(parse_json(b"[NaN]", may_be_nan=True)[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = 1\n" * 2**15, "bytes, more than"), ("x = " + "[" * 10**4, "nested too deeply"),
        ("a" + ".a" * 300 + " = 1", "dots"), ("x = " + "1" * 5000, "digits"), ("x = ", "nvalid"),
    ],
)  # fmt: skip
def test_toml_beyond_the_limits(tmp_path, text, said):
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_toml(tmp_path / "t.toml")


def test_files_are_regular_and_of_bounded_size(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, most_bytes=5) == b"12345"
    with pytest.raises(ValueError, match="it has 5 bytes, more than 4"):
        open_regular(path, most_bytes=4)
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match="no regular file"):
            open_regular(other, most_bytes=4)


def test_a_file_that_grows_is_read_to_its_end_or_refused(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"1" * 9)
    monkeypatch.setattr(
        inputs.os, "fstat", lambda _: os.stat_result([0o100600, *[0] * 5, 4, 0, 0, 0])
    )
    assert read_file(path, most_bytes=9) == b"1" * 9
    with pytest.raises(ValueError, match="more than 8 bytes"):
        read_file(path, most_bytes=8)
