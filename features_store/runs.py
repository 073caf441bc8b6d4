"""One report per run that changed a store: ``runs/<id>.json``."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from features_store.format.outputs import write_atomically


def new_run_id() -> str:
    """Return a name that no other run has; names of its shards begin with it.

    >>> new_run_id() != new_run_id()
    True
    """
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def write_run(store: Path, run_id: str, document: Mapping[str, object]) -> None:
    """Write what a run did, and on which machine."""
    content = json.dumps({**document, "host": os.uname().nodename}, indent=1).encode()
    write_atomically(store / "runs" / f"{run_id}.json", content, below=store)
