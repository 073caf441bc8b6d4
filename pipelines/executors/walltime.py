"""How long a worker lives in a SLURM job: so much less that it can leave in good order."""

from __future__ import annotations

import re

from features_store.errors import UsageError

MARGIN_SHARE, MIN_MARGIN_SECONDS, MAX_MARGIN_SECONDS = 0.05, 60, 600
_FORMS = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")


def walltime_seconds(text: str) -> int:
    """Return the seconds of a time limit as sbatch takes it.

    >>> [walltime_seconds(text) for text in ("30", "30:15", "1:30:00", "1-2", "1-02:30")]
    [1800, 1815, 5400, 93600, 95400]
    """
    found = _FORMS.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"`jobqueue.slurm.walltime` is {text!r}, expected a time such as 04:00:00 or 1-12:00:00"
        )
    days, first, second, third = (int(part or 0) for part in found.groups())
    if found["days"] is None and found["third"] is None:  # minutes, or minutes:seconds
        return first * 60 + second
    return days * 86400 + first * 3600 + second * 60 + third


def lifetime_of(walltime: str | None) -> list[str]:
    """Return the options of a worker that is to leave before its job is ended.

    >>> lifetime_of("01:00:00"), lifetime_of(None)
    (['--lifetime', '3330s', '--lifetime-stagger', '90s'], [])
    """
    if walltime is None:
        return []
    seconds = walltime_seconds(walltime)
    margin = int(min(max(MARGIN_SHARE * seconds, MIN_MARGIN_SECONDS), MAX_MARGIN_SECONDS))
    # The stagger goes both ways.
    lifetime, stagger = seconds - margin * 3 // 2, margin // 2
    return ["--lifetime", f"{max(1, lifetime)}s", "--lifetime-stagger", f"{stagger}s"]
