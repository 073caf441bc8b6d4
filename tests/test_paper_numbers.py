"""Numbers of papers: nothing that was not read at a source may have a value or be printed."""

import json
import re
from decimal import Decimal

import pytest

from features_store.errors import ContractError
from pipelines.recipes.paper_numbers import DATA_FILE, PaperTable, load_paper_numbers

GOOD = """
[sources]
poster = "the poster"
[papers.a2015]
title = "A"
authors = "A 2015"
at = "arXiv 1"
[[tables]]
paper = "a2015"
table = "Table 1"
[[tables.numbers]]
method = "m"
data_set = "HMDB51"
metric = "accuracy"
status = "seen"
value = 41.30
source = "poster"
"""
RECOLLECTED = GOOD.replace('"seen"', '"memory"').replace('source = "poster"\n', "")


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "numbers.toml"
        path.write_text(text)
        return path

    return write


def all_numbers():
    known = load_paper_numbers()
    return [(table, number) for table in known.tables for number in table.numbers]


def test_only_what_was_seen_has_a_value():
    for _, number in all_numbers():
        assert (
            (number.status == "seen") == (number.value is not None) == (number.source is not None)
        )


def test_every_paper_and_source_is_used():
    known = load_paper_numbers()
    used = {number.source for _, number in all_numbers()} - {None}

    assert {table.paper for table in known.tables} == set(known.papers)
    assert used == set(known.sources)


def test_the_row_that_the_whole_project_is_measured_by():
    (found,) = (
        number.value
        for table, number in all_numbers()
        if (table.paper, table.table, number.data_set) == ("sharma2015", "Table 1", "HMDB51")
        and (number.method, number.setting) == ("soft attention", "30 fps, lambda 0")
    )

    assert found == Decimal("41.31")


WRONG = [
    (GOOD.replace("metric =", "metrik ="), r"tables\.0\.numbers\.0\.metrik: Extra inputs"),
    (GOOD + "\n[extra]\n", "extra: Extra inputs"),
    (GOOD.replace('"seen"', '"heard"'), r"status: Input should be 'seen', 'memory' or 'missing'"),
    (GOOD.replace("value = 41.30\n", ""), "a value and a source when its status is 'seen', only"),
    (GOOD.replace('source = "poster"\n', ""), "a value and a source when its status is 'seen'"),
    (GOOD.replace("41.30", "nan"), "value: Input should be a finite number"),
    (GOOD.replace('= "a2015"', '= "a2051"'), r"no paper 'a2051'; did you mean 'a2015'\?"),
    (GOOD.replace('= "poster"', '= "postre"'), r"no source 'postre'; did you mean 'poster'\?"),
    (GOOD + GOOD[GOOD.index("[[tables.numbers]]") :], "'m' has two numbers for 'HMDB51 accuracy'"),
    (RECOLLECTED, "a value and a source when its status is 'seen', only"),
    (RECOLLECTED.replace('"memory"', '"missing"'), "when its status is 'seen', only"),
    ("sources = ", "is no TOML"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_file_is_refused_and_the_entry_named(written, text, message):
    with pytest.raises(ContractError, match=message):
        load_paper_numbers(written(text))


def test_a_recollected_value_is_not_in_the_message_either(written):
    with pytest.raises(ContractError) as caught:
        load_paper_numbers(written(RECOLLECTED.replace("41.30", "98.76")))

    assert "98.76" not in str(caught.value)


def test_a_grid_tells_blank_from_what_the_paper_has_not():
    def number(method, data_set, **more):
        return {"method": method, "data_set": data_set, "metric": "top-1"} | more

    seen = {"status": "seen", "source": "s"}
    numbers = [
        number("a", "X", value=Decimal("81.60"), **seen),
        number("a", "Y", value=44, **seen),
        number("b", "X", value=Decimal("40.5"), **seen),
        number("c", "Y", status="memory"),
    ]
    table = PaperTable(paper="p", table="Table 1", numbers=numbers)

    columns, rows = table.grid()

    assert columns == ["method", "X top-1", "Y top-1"]
    assert rows == [["a", "81.60", "44"], ["b", "40.5", "-"], ["c", "-", ""]]
    assert not table.is_complete


def test_what_is_printed_was_seen(cubereel):
    assert cubereel("list", "papers") == 0
    seen = {number.value for _, number in all_numbers() if number.status == "seen"}
    named = [number.row for _, number in all_numbers()]
    printed = set()
    for line in cubereel.out.splitlines():
        row = next((name for name in named if line.startswith(f"{name}  ")), None)
        if row is not None:
            printed |= {Decimal(word) for word in re.findall(r"\d+\.?\d*", line[len(row) :])}

    assert printed == seen
    assert "blank: not at hand; see Table 1 of arXiv 1511.04119" in cubereel.out


def test_a_number_that_was_not_seen_is_null_in_json(cubereel):
    assert cubereel("list", "papers", "--json") == 0
    entries = json.loads(cubereel.out)

    assert len(entries) == len(all_numbers())
    assert {entry["status"] for entry in entries if entry["value"] is None} == {"memory", "missing"}
    assert all(entry["at"] and entry["table"] for entry in entries)


def test_no_number_hides_in_a_comment_of_the_file():
    comments = [
        line.partition("#")[2]
        for line in DATA_FILE.read_text().splitlines()
        if line.lstrip().startswith("#") or "]] #" in line
    ]

    assert not [line for line in comments if re.search(r"\d", line)]
