"""A dataclass of options becomes flags, and what a library says of an option names its flag."""

import ast
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from features_store.errors import UsageError
from pipelines.cli.flags import NAME, _flags, with_flags
from pipelines.cli.main import app as app  # hangs the verbs on it
from pipelines.extraction.options import ComputeOptions, CubeOptions, ExtractionOptions

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("`batch_size` must be at least 1, got 0", "--batch-size must be at least 1, got 0"),
        ("`timeout_seconds` and `layers`", "--timeout and --layer"),
        ("column `no_such_option` stays", "column `no_such_option` stays"),
        ("`cubereel train` is no option", "`cubereel train` is no option"),
    ],
)
def test_an_option_in_back_quotes_is_shown_as_its_flag(said, shown):
    assert with_flags(said) == shown


@pytest.mark.parametrize(
    "path",
    [p for room in ("extract", "features_store", "train", "pipelines")
     for p in (ROOT / room).rglob("*.py") if "cli" not in p.parts],
    ids=lambda p: str(p.relative_to(ROOT)),
)  # fmt: skip
def test_errors_of_libraries_name_options_that_exist_and_no_flags(path):
    for raised in ast.walk(ast.parse(path.read_text())):
        if isinstance(raised, ast.Raise):
            for part in ast.walk(raised):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    said = re.sub(r"'cubereel [^']*'", "", part.value)  # advice is a command
                    assert not re.search(r"(?<!\w)--[a-z]", said), part.value
                    assert set(NAME.findall(part.value)) <= set(_flags()), part.value


@pytest.mark.parametrize("verb", ["plan", "extract"])
def test_python_and_the_command_line_have_the_same_options(cubereel, verb):
    options = {"plan": CubeOptions, "extract": ExtractionOptions}[verb]
    cubereel(verb, "--help")
    for field in fields(options):
        assert _flags()[field.name] in cubereel.out
        assert field.default is not MISSING


def test_what_is_short_for_two_options_is_not_said_with_others():
    assert CubeOptions(compact=True) == CubeOptions(compact=True, dtype="8bit", compression="zstd")
    with pytest.raises(UsageError, match="`compact` says"):
        CubeOptions(compact=True, dtype="float32")


def test_paths_may_be_texts_in_python():
    assert ComputeOptions(weights="w.pth").weights == Path("w.pth")
    assert CubeOptions(root="/videos").root == Path("/videos")
