"""Front door: verbs, and what an error or a signal becomes as an exit code."""

from __future__ import annotations

import errno
import logging
import sys
import traceback

from features_store.errors import CubereelError
from pipelines.cli import (
    bench,
    doctor,
    evaluate,
    exchange,
    explain,
    extract,
    listing,
    manifest,
    optimise_attention,
    plan,
    runs,
    statistics,
    status,
    store,
    store_copies,
    train,
)
from pipelines.cli.app import app
from pipelines.cli.flags import FlagFormatter, with_flags
from pipelines.cli.stopping import Stopped, stop_at_signals
from pipelines.terminal import printable_streams

EXIT_INTERNAL, EXIT_MACHINE, EXIT_STOPPED = 1, 5, 75
_SPACE, _PERMISSION = "free some space", "get the permission, or take another path"
_FILES = "let this process have more open files ('ulimit -n')"
_DISK = "look after the disk or the network that it is on"
WHAT_TO_DO = {  # where the machine failed, by the number of its error
    errno.ENOSPC: _SPACE, errno.EDQUOT: _SPACE,
    errno.EACCES: _PERMISSION, errno.EPERM: _PERMISSION,
    errno.EROFS: "write to a disk that is not read-only",
    errno.EIO: _DISK, errno.ENOLCK: _DISK, errno.ESTALE: _DISK, errno.ETIMEDOUT: _DISK,
    errno.ENOMEM: "give smaller batches or fewer processes",
    errno.EMFILE: _FILES, errno.ENFILE: _FILES,
}  # fmt: skip

plan.register(app)
extract.register(app)
status.register(app)
train.register(app)
evaluate.register(app)
explain.register(app)
optimise_attention.register(app)
listing.register(app)
app.add_typer(bench.app, name="bench")
doctor.register(app)
app.add_typer(store.app, name="store")
store_copies.register(store.app)
exchange.register(store.app)
statistics.register(store.app)
app.add_typer(manifest.app, name="manifest")
app.add_typer(runs.app, name="runs")


def main() -> None:
    """Run the command line and leave with its exit code."""
    with printable_streams():
        _log_to_stderr()
        stop_at_signals()
        sys.exit(_run())


def _run() -> int:
    try:
        app()  # leaves by SystemExit when all is well, or when the usage was wrong
    except CubereelError as err:
        return _say(str(err), err.exit_code)
    except Stopped as err:
        return _say(f"{err}; run the same command again to go on", EXIT_STOPPED)
    except OSError as err:
        if err.errno in WHAT_TO_DO:
            advice = WHAT_TO_DO[err.errno]
            said = f"{err.strerror}: {err.filename!r}" if err.filename else err.strerror
            return _say(f"{said}; {advice} and run the same command again", EXIT_MACHINE)
        traceback.print_exc()
    except MemoryError:
        return _say("out of memory; give smaller batches and run again", EXIT_MACHINE)
    except Exception:
        traceback.print_exc()
    return _say("internal error; please report the lines above", EXIT_INTERNAL)


def _say(message: str, code: int) -> int:
    print(f"error: {with_flags(message)}", file=sys.stderr)
    return code


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FlagFormatter("%(message)s"))
    logging.getLogger("cubereel").handlers = [handler]
