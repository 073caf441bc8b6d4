"""What options of training may be, known without numpy and pydantic."""

from typing import Literal

from features_store.errors import UsageError

WindowKind = Literal["even", "sliding", "draws"]
FrameOrder = Literal["forward", "reversed", "shuffled"]
Aggregate = Literal["mean", "vote"]
ScheduleKind = Literal["cosine", "constant", "plateau"]


def refuse_votes(*, multi_label: bool, aggregate: str) -> None:
    """Raise `UsageError` where clips are to vote for one class but may show several."""
    if multi_label and aggregate == "vote":
        raise UsageError(
            "`aggregate` vote counts the likeliest class of each clip, but with `multi_label` "
            "a clip may show several; take `aggregate` mean"
        )
