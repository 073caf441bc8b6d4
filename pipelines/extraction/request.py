"""What is wrong with a request to extract, as far as it shows without torch or a video."""

from __future__ import annotations

from math import inf
from pathlib import Path

from extract.backbones.sources import split_name
from features_store.errors import UsageError
from features_store.leases import MAX_LEASE_SECONDS
from pipelines.executors.registry import require_executor
from pipelines.extraction.options import ComputeOptions, CubeOptions, ExtractionOptions
from pipelines.extraction.sources import require_source

MIN_LEASE_SECONDS = 1.0


def check_request(source: str | Path, options: ComputeOptions) -> None:
    """Raise `UsageError` for what cannot be; said before seconds are spent on importing."""
    sampling = options.sampling
    if options.workers < 1:
        raise UsageError(f"`workers` must be at least 1, got {options.workers}")
    if options.batch_size is not None and options.batch_size < 1:
        raise UsageError(f"`batch_size` must be at least 1, got {options.batch_size}")
    if isinstance(options, CubeOptions):
        options.chosen_views  # noqa: B018  # checks their names
    if isinstance(options, ExtractionOptions):
        if options.processes < 1:
            raise UsageError(f"`processes` must be at least 1, got {options.processes}")
        require_executor(options.cluster)
        if not MIN_LEASE_SECONDS <= options.lease_seconds <= MAX_LEASE_SECONDS:
            raise UsageError(
                f"`lease_seconds` must be {MIN_LEASE_SECONDS:g} to {MAX_LEASE_SECONDS:g}, got "
                f"{options.lease_seconds:g}"
            )
        if options.join and options.unit is not None:
            raise UsageError("give `unit`, a share of the plan, or `join`, all of it; not both")
        if not 0 < options.timeout_seconds < inf:
            raise UsageError(
                "`timeout_seconds` must be a number of seconds above 0, got "
                f"{options.timeout_seconds}"
            )
        if options.partial == "keep" and sampling.is_sparse:
            raise UsageError(
                f"`partial` keep cannot go with `{sampling.kind}`: of a video that breaks off, "
                "frames evenly spaced over all of it are not there; drop it, or take `fps` or "
                "`stride`"
            )
    require_source(Path(source))
    split_name(options.backbone)


def check_plan(
    source: str | Path, options: CubeOptions, *, sample: int | None, calibrate_seconds: float
) -> None:
    """Likewise for a plan."""
    check_request(source, options)
    if sample is not None and sample < 1:
        raise UsageError(f"`sample` must be at least 1, got {sample}")
    if not 0 <= calibrate_seconds < inf:
        raise UsageError(
            f"`calibrate_seconds` must be a number of seconds, got {calibrate_seconds}"
        )
