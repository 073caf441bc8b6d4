"""Messages between a process and the child that works for it.

Nothing is pickled, so neither side can be made to run code by the other; and a decoder that a
hostile video has taken over can say nothing but what is expected of it.
"""

import json
import os
import select
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, get_args

from features_store.plain import PlainError, from_plain, to_plain


def send(connection: Connection, message: object) -> None:
    """Send one message, a dataclass; `OSError` when the other side is gone."""
    connection.send_bytes(json.dumps([type(message).__name__, to_plain(message)]).encode())


def receive(connection: Connection, kinds: Any) -> Any:
    """Wait for one message.

    Args:
        kinds: the union of those that may come.

    Raises:
        EOFError, OSError: the other side is gone.
        PlainError: it is none of these.
    """
    content = connection.recv_bytes()
    try:
        name, document = from_plain(tuple[str, Any], json.loads(content))
    except (ValueError, RecursionError) as err:
        raise PlainError(f"a message cannot be read: {err}") from err
    named = {kind.__name__: kind for kind in get_args(kinds)}
    if name not in named:
        raise PlainError(f"a message is {name!r}, expected {' or '.join(named)}")
    return from_plain(named[name], document)


def serve_parent(
    descriptor: int, *, at_sigterm: Callable[[int, FrameType | None], None] | None = None
) -> Connection:
    """Return the connection to the parent, whose orders alone count and with whom this ends.

    Schedulers signal every process of a job: signals other than SIGKILL are ignored.

    Args:
        at_sigterm: called at that signal, where it is an order of the parent's.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, at_sigterm or signal.SIG_IGN)
    connection = Connection(descriptor)
    threading.Thread(target=_die_with, args=(connection, os.getppid()), daemon=True).start()
    return connection


def _die_with(connection: Connection, parent: int) -> None:
    """End this process as soon as the parent hangs up or is replaced by another; never returns.

    Meant for a thread of its own: the main one may be deep in a decoder that hangs.
    """
    poller = select.poll()
    poller.register(connection.fileno(), 0)  # hang-ups alone
    while not poller.poll(1000) and os.getppid() == parent:
        pass
    os._exit(0)
