"""Options of HM-AN that make no sense together, refused by the constructor."""

from train.heads.blocks.discrete import FORCED
from train.heads.blocks.together import refuse_together


def refuse_idle(boundary: str, layers: int, *, attend: str, query: str, read_out: str) -> None:
    """Raise `UsageError` where an option is about layers or queries that others leave idle."""
    refuse_together(
        attend == "layers" and query != "bottom",
        "each layer looks by its own hidden state",
        query=query,
        attend=attend,
    )
    is_still = boundary == "zeros" and layers > 1
    refuse_together(
        is_still and attend == "layers",
        "without boundaries no layer but the bottom one takes in what it sees",
        attend=attend,
        boundary=boundary,
    )
    refuse_together(
        is_still and read_out == "top",
        f"without boundaries the top one of {layers} layers sees nothing of the frames",
        read_out=read_out,
        boundary=boundary,
    )


def refuse_forced(
    boundary: str,
    attention: str,
    choices: str,
    initial_boundary: int,
    boundary_bias: float,
    boundary_rate_weight: float,
) -> None:
    """Raise `UsageError` where an option is about detecting, and boundaries are forced."""
    if boundary not in FORCED:
        return
    refuse_together(
        choices == "relaxed" and attention == "soft",
        "that leaves nothing to choose",
        choices=choices,
        boundary=boundary,
        attention=attention,
    )
    refuse_together(
        boundary == "zeros" and bool(initial_boundary),
        "all boundaries are to be zero",
        initial_boundary=initial_boundary,
        boundary=boundary,
    )
    numbers = {"boundary_bias": boundary_bias, "boundary_rate_weight": boundary_rate_weight}
    for name, number in numbers.items():
        why = "boundaries that are forced have no score"
        refuse_together(number != 0, why, **{name: number}, boundary=boundary)


def refuse_missing(
    layers: int,
    top_boundary: bool,
    initial_boundary: int,
    boundary_bias: float,
    boundary_rate_weight: float,
) -> None:
    """Raise `UsageError` where an option is about boundaries, and no layer has one."""
    numbers = {
        "initial_boundary": initial_boundary,
        "boundary_bias": boundary_bias,
        "boundary_rate_weight": boundary_rate_weight,
    }
    for name, number in numbers.items():
        refuse_together(
            layers == 1 and not top_boundary and number != 0,
            "the only layer has no boundary; use top_boundary=true",
            **{name: number},
            layers=layers,
        )
