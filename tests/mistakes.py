"""The mistakes that every verb answers alike: the table of docs/exit-codes.md, as data."""

from dataclasses import dataclass

from features_store.errors import ContractError, MachineError, UsageError


@dataclass(frozen=True)
class Mistake:
    """What somebody does wrong.

    Attributes:
        what: in words.
        error: that says its exit code.
        says: how the message begins; ``KIND`` is what should lie at the path.
        kind: for the page.
    """

    what: str
    error: type[ContractError | MachineError | UsageError]
    says: str
    kind: str = "store"


MISSING = Mistake("nothing lies at a path", UsageError, "no KIND 'PATH'")
OTHER = Mistake("something else lies there", UsageError, "'PATH' is a folder, not a KIND")
TAKEN = Mistake(
    "a file lies where a folder is to be", UsageError, "'PATH' is a file, not a KIND", "folder"
)
UNKNOWN = Mistake(
    "a name that there is not: of a layer, head, class, video, …", UsageError, "no layer 'NAME'"
)
NO_NUMBER = Mistake("a text where a number is wanted", UsageError, "Invalid value for '--FLAG'")
EMPTY = Mistake("a source is empty", ContractError, "KIND 'PATH' is empty", "source")
FORBIDDEN = Mistake("no permission", MachineError, "no permission to read KIND 'PATH'")
MISTAKES = (MISSING, OTHER, TAKEN, UNKNOWN, NO_NUMBER, EMPTY, FORBIDDEN)


def table() -> str:
    """Return the rows of the page."""
    rows = [
        f"| {each.what} | {each.error.exit_code} | `{each.says.replace('KIND', each.kind)}` |"
        for each in MISTAKES
    ]
    return "\n".join(["| mistake | code | message |", "|---|---|---|", *rows])
