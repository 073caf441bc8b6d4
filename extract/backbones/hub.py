"""The hub that timm's weights come from: asked once whether it is there.

Where there is no network its client tries again for about a minute; the cache it looks into anyhow.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from huggingface_hub import constants

CONNECT_SECONDS = 5.0


@contextmanager
def hub_or_cache() -> Iterator[bool]:
    """Have weights come from the hub's cache alone where it cannot be reached; yield whether so."""
    said = constants.HF_HUB_OFFLINE
    is_offline = said or not can_connect(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = is_offline
    try:
        yield is_offline
    finally:
        constants.HF_HUB_OFFLINE = said


def can_connect(url: str) -> bool:
    """Whether a server, or the proxy before it, takes a connection within some seconds."""
    target = urlsplit(url)
    proxy = getproxies().get(target.scheme)
    if proxy and not proxy_bypass(target.hostname or ""):
        target = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    address = (target.hostname or "", target.port or (80 if target.scheme == "http" else 443))
    found: list[bool] = []

    def connect() -> None:
        with suppress(OSError):
            socket.create_connection(address, timeout=CONNECT_SECONDS).close()
            found.append(True)

    # A thread of its own, since nothing bounds how long a name is looked up.
    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    return bool(found)
