"""Names of what a plan leaves in a store: ``plan.json``, and ``units/``, where workers meet.

plan.json                  the units that are to be extracted
units/<unit>.lease         who works on a unit now
units/<unit>.jsonl         its attempts: begun, ended
units/<unit>.json          what became of it, when it is done
units/after-<revision>.json  the entry of the catalogue that follows a revision
units/worker-….lease       who works on units of this store
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import count
from pathlib import Path

from features_store.errors import DamageError
from features_store.format.safety import check_own, read_json
from features_store.locking import UNITS

PLAN_NAME = "plan.json"
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")


def read_plan(store: Path) -> dict[str, object] | None:
    """Return what `plan.json` says; None where there is none.

    Raises:
        DamageError: it cannot be understood.
    """
    path = store / PLAN_NAME
    try:
        document = read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as err:
        raise DamageError(f"{path} cannot be read: {err}; plan again") from err
    name = document.get("id") if isinstance(document, dict) else None
    if not (isinstance(name, str) and _ID.fullmatch(name)):
        raise DamageError(f"{path} cannot be understood: it lacks a sound field 'id'; plan again")
    plan: dict[str, object] = document
    return plan


def of_plan(store: Path, shards: Collection[str]) -> list[str]:
    """Return, sorted, those names of shards that units of the store's plan have."""
    if not shards or (plan := read_plan(store)) is None:
        return []
    return sorted(name for name in shards if name.startswith(f"{plan['id']}."))


def part_names(unit: str) -> Iterator[str]:
    """Yield the names of the shards that a unit may become.

    >>> from itertools import islice
    >>> list(islice(part_names("run.0007-1"), 3))
    ['run.0007-1', 'run.0007.2-1', 'run.0007.3-1']
    """
    unit_id, _, generation = unit.rpartition("-")
    yield unit
    for number in count(2):
        yield f"{unit_id}.{number}-{generation}"


def clear_units(store: Path) -> None:
    """Make `units/` for a new plan: without what is left of an older one; no worker may be there.

    The lease by which this process is alone stays.
    """
    folder = store / UNITS
    check_own(folder)
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.suffix in (".json", ".jsonl") and path.is_file():
            path.unlink()
