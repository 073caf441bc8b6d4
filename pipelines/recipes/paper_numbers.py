"""Numbers that papers published, from `paper_numbers.toml` beside this file.

Only a number that was read at a named source has a value. A file that gives a value to a
recollected one is refused, so that none can reach a report.
"""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from features_store.errors import ContractError, nearest_name

DATA_FILE = Path(__file__).with_suffix(".toml")
BLANK, NO_ENTRY = "", "-"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Paper(_Entry):
    """What is cited; `at` says where it can be found."""

    title: str = Field(min_length=1)
    authors: str = Field(min_length=1)
    at: str = Field(min_length=1)


class PaperNumber(_Entry):
    """One cell of a paper's table, in per cent.

    Attributes:
        setting: what else distinguishes the row: frame rate, backbone, lambda.
        status: "seen" at `source`; "memory", recollected and left out; "missing", not at hand.
        value: with the decimals that were published.
        source: key of `PaperNumbers.sources`.
    """

    method: str = Field(min_length=1)
    setting: str = ""
    data_set: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    status: Literal["seen", "memory", "missing"]
    value: Decimal | None = Field(default=None, allow_inf_nan=False)
    source: str | None = None

    @model_validator(mode="after")
    def _only_what_was_seen_has_a_value(self) -> Self:
        is_seen = self.status == "seen"
        if (self.value is not None) != is_seen or (self.source is not None) != is_seen:
            raise ValueError("a number has a value and a source when its status is 'seen', only")
        return self

    @property
    def row(self) -> str:
        """Name of its row: method and setting."""
        return f"{self.method}, {self.setting}" if self.setting else self.method

    @property
    def column(self) -> str:
        """Name of its column: data set and metric."""
        return f"{self.data_set} {self.metric}"


class PaperTable(_Entry):
    """A table of a paper, as far as it is known.

    Attributes:
        paper: key of `PaperNumbers.papers`.
        table: which of the paper's; with `Paper.at` it says where a missing number is.
    """

    paper: str
    table: str = Field(min_length=1)
    numbers: tuple[PaperNumber, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _no_cell_is_given_twice(self) -> Self:
        cells = [(number.row, number.column) for number in self.numbers]
        twice = next((cell for cell in cells if cells.count(cell) > 1), None)
        if twice:
            raise ValueError(f"{twice[0]!r} has two numbers for {twice[1]!r}")
        return self

    @property
    def is_complete(self) -> bool:
        """Whether no number is blank."""
        return all(number.status == "seen" for number in self.numbers)

    def grid(self) -> tuple[list[str], list[list[str]]]:
        """Return names of columns, and rows of words.

        A number that is not at hand is blank; where none is known of, there is a dash.
        """
        columns = list(dict.fromkeys(number.column for number in self.numbers))
        cells: dict[str, dict[str, str]] = {}
        for number in self.numbers:
            word = BLANK if number.value is None else str(number.value)
            cells.setdefault(number.row, {})[number.column] = word
        rows = [
            [name, *(of_row.get(column, NO_ENTRY) for column in columns)]
            for name, of_row in cells.items()
        ]
        return ["method", *columns], rows


class PaperNumbers(_Entry):
    """The whole file."""

    sources: dict[str, str]
    papers: dict[str, Paper]
    tables: tuple[PaperTable, ...]

    @model_validator(mode="after")
    def _what_is_referred_to_is_there(self) -> Self:
        for table in self.tables:
            if table.paper not in self.papers:
                raise ValueError(f"no paper {table.paper!r}; {_known(table.paper, self.papers)}")
            for number in table.numbers:
                if number.source is not None and number.source not in self.sources:
                    known = _known(number.source, self.sources)
                    raise ValueError(f"no source {number.source!r}; {known}")
        return self

    def sources_of(self, table: PaperTable) -> list[str]:
        """Return where the numbers of a table were seen."""
        keys = dict.fromkeys(number.source for number in table.numbers if number.source)
        return [self.sources[key] for key in keys]


def load_paper_numbers(path: Path = DATA_FILE) -> PaperNumbers:
    """Return all numbers, validated.

    Raises:
        ContractError: naming the entry with an unknown key or status, or what else is wrong.
    """
    try:
        # As decimals: 81.60 is what was published, and not 81.6.
        entries = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        return PaperNumbers(**entries)
    except tomllib.TOMLDecodeError as err:
        raise ContractError(f"{path} is no TOML: {err}") from err
    except ValidationError as err:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in err.errors()]
        raise ContractError(f"{path}: {'; '.join(problems)}") from None


def _known(name: str, entries: dict[str, Paper] | dict[str, str]) -> str:
    return nearest_name(name, list(entries))
