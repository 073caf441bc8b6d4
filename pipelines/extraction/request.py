"""What is wrong with a request to extract, as far as it shows without torch or a video."""

from __future__ import annotations

from math import inf
from pathlib import Path

from extract.backbones.sources import split_name
from features_store.errors import UsageError
from features_store.spec import Sampling
from pipelines.extraction.sources import require_source


def check_request(
    source: str | Path,
    *,
    sampling: Sampling,
    backbone: str,
    workers: int,
    timeout_seconds: float,
    partial: str,
) -> None:
    """Raise `UsageError` for what cannot be; said before seconds are spent on importing."""
    if workers < 1:
        raise UsageError(f"--workers must be at least 1, got {workers}")
    if not 0 < timeout_seconds < inf:
        raise UsageError(f"--timeout must be a number of seconds above 0, got {timeout_seconds}")
    if partial == "keep" and sampling.is_sparse:
        raise UsageError(
            f"--partial keep cannot go with --{sampling.kind}: of a video that breaks off, frames "
            "evenly spaced over all of it are not there; drop it, or take --fps or --stride"
        )
    require_source(Path(source))
    split_name(backbone)
