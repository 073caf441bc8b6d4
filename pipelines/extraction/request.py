"""What is wrong with a request to extract, as far as it shows without torch or a video."""

from __future__ import annotations

from pathlib import Path

from extract.backbones.sources import split_name
from features_store.errors import UsageError
from features_store.leases import MAX_LEASE_SECONDS
from features_store.paths import SOURCE, WEIGHTS
from pipelines.executors.registry import require_executor
from pipelines.extraction.options import (
    ComputeOptions,
    CubeOptions,
    ExtractionOptions,
    StoreOptions,
)

MIN_LEASE_SECONDS = 1.0
MOST_PROCESSES, MOST_FRAMES, MOST_SECONDS = 4096, 65536, 1e7


def check_request(source: str | Path, options: ComputeOptions) -> None:
    """Raise `UsageError` for what cannot be; said before seconds are spent on importing."""
    options.sampling  # noqa: B018  # checks what is said of it
    _require_number("workers", options.workers, most=MOST_PROCESSES)
    if options.batch_size is not None:
        _require_number("batch_size", options.batch_size, most=MOST_FRAMES)
    if isinstance(options, CubeOptions):
        options.chosen_views  # noqa: B018  # checks their names
    if isinstance(options, StoreOptions):
        _check_store_options(options)
    if isinstance(options, ExtractionOptions):
        _require_number("processes", options.processes, most=MOST_PROCESSES)
        require_executor(options.cluster)
        if options.join and options.unit is not None:
            raise UsageError("give `unit`, a share of the plan, or `join`, all of it; not both")
        if options.unit is not None:
            parse_share(options.unit)
    SOURCE.require(source)
    if options.weights is not None:
        WEIGHTS.require(options.weights)
    split_name(options.backbone)


def _require_number(name: str, value: int, *, most: int) -> None:
    if not 1 <= value <= most:
        raise UsageError(f"`{name}` must be at least 1 and at most {most}, got {value}")


def _check_store_options(options: StoreOptions) -> None:
    if not MIN_LEASE_SECONDS <= options.lease_seconds <= MAX_LEASE_SECONDS:
        raise UsageError(
            f"`lease_seconds` must be {MIN_LEASE_SECONDS:g} to {MAX_LEASE_SECONDS:g}, got "
            f"{options.lease_seconds:g}"
        )
    if not 0 < options.timeout_seconds <= MOST_SECONDS:
        raise UsageError(
            f"`timeout_seconds` must be above 0 and at most {MOST_SECONDS:g}, got "
            f"{options.timeout_seconds}"
        )
    if options.partial == "keep" and options.sampling.is_sparse:
        raise UsageError(
            f"`partial` keep cannot go with `{options.sampling.kind}`: of a video that breaks off, "
            "frames evenly spaced over all of it are not there; drop it, or take `fps` or `stride`"
        )


def parse_share(share: str) -> tuple[int, int]:
    """Return I and N of a share ``I/N`` of a plan: each N-th unit, from number I on.

    >>> parse_share("0/8")
    (0, 8)

    Raises:
        UsageError: it is none.
    """
    number, _, total = share.partition("/")
    if not (number.isdecimal() and total.isdecimal() and len(share) < 20):
        raise UsageError(f"`unit` must be I/N such as 0/8, got {share!r}")
    if not int(number) < int(total):
        raise UsageError(f"`unit` {share} is out of range; of N shares the numbers are 0 to N-1")
    return int(number), int(total)


def check_plan(
    source: str | Path,
    options: CubeOptions,
    *,
    sample: int | None,
    calibrate_seconds: float,
    is_stored: bool = False,
) -> None:
    """Likewise for a plan, which decides for all its workers where it is stored."""
    check_request(source, options)
    if is_stored and options.precision == "auto":
        raise UsageError(
            "`precision` must be fp32 or bf16 in a stored plan: auto asks the machine that "
            "computes, and its workers are others"
        )
    if sample is not None and sample < 1:
        raise UsageError(f"`sample` must be at least 1, got {sample}")
    if not 0 <= calibrate_seconds <= MOST_SECONDS:
        raise UsageError(
            f"`calibrate_seconds` must be a number of seconds, got {calibrate_seconds}"
        )
