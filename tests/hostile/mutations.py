"""Small, seeded changes to files, made where their structure is; pure functions of bytes."""

import json
import random
from typing import Any

SIGNATURES = (b"TREE", b"SNOD", b"HEAP", b"\x89HDF")
NUMBERS = (0, 1, 2, 7, 8, 63, 255, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**53, 2**63, 2**64 - 1)
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**19, 1e308, float("nan"), float("inf"), "", "x" * 300,
    "../../x", "1e999999999", "1/0", "\u202e\x1b[31m", [], {}, [[]], {"a": {"a": {}}},
)  # fmt: skip


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """Return a binary file with one to four changes, most of them to its structures."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice((_flip, _number, _number, _address, _move, _cut, _noise))(rng, changed)
    return bytes(changed)


def _place(rng: random.Random, data: bytearray) -> int:
    """Return where to change: near a structure, in the head, or anywhere."""
    if not data:
        return 0
    kind = rng.random()
    if kind < 0.6:
        signature, start = rng.choice(SIGNATURES), rng.randrange(len(data))
        found = data.find(signature, start)
        found = data.find(signature) if found < 0 else found
        return min(max(found, 0) + rng.randrange(160), len(data) - 1)
    return rng.randrange(len(data) if kind > 0.8 else min(len(data), 2048))


def _flip(rng: random.Random, data: bytearray) -> None:
    if data:
        data[_place(rng, data)] ^= 1 << rng.randrange(8)


def _number(rng: random.Random, data: bytearray) -> None:
    """Write a number that lies, most often where one may stand."""
    size = rng.choice((1, 2, 4, 8))
    at = _place(rng, data) // size * size
    value = rng.choice((*NUMBERS, len(data), len(data) - 1)) & (256**size - 1)
    data[at : at + size] = value.to_bytes(size, "little")[: max(0, len(data) - at)]


def _address(rng: random.Random, data: bytearray) -> None:
    """Let an address be that of another structure, or of itself."""
    at = _place(rng, data) // 8 * 8
    known = data.find(rng.choice(SIGNATURES), rng.randrange(len(data)) if data else 0)
    target = at if known < 0 or rng.random() < 0.2 else known
    data[at : at + 8] = target.to_bytes(8, "little")[: max(0, len(data) - at)]


def _move(rng: random.Random, data: bytearray) -> None:
    size = rng.choice((8, 24, 40, 256))
    start, to = _place(rng, data), _place(rng, data)
    block = data[start : start + size]
    data[to : to + len(block)] = block


def _cut(rng: random.Random, data: bytearray) -> None:
    if rng.random() < 0.5 and data:
        del data[rng.randrange(len(data)) :]
    else:
        data.extend(bytes(rng.choice((1, 512, 2**16))))


def _noise(rng: random.Random, data: bytearray) -> None:
    at = _place(rng, data)
    noise = rng.randbytes(rng.choice((4, 16, 64)))
    data[at : at + len(noise)] = noise[: max(0, len(data) - at)]


def mutate_json(rng: random.Random, document: Any) -> Any:
    """Return a JSON document with one to three values changed, lost, or given twice."""
    changed = json.loads(json.dumps(document))
    for _ in range(rng.choice((1, 1, 2, 3))):
        parent, key = rng.choice(list(_slots(changed)) or [({"": changed}, "")])
        kind = rng.random()
        if kind < 0.15:
            del parent[key]
        elif kind < 0.3 and isinstance(parent, list):
            parent.append(json.loads(json.dumps(parent[key])))
        elif kind < 0.5 and isinstance(parent[key], str):
            text = parent[key]
            at = rng.randrange(len(text) + 1)
            parent[key] = text[:at] + rng.choice(("\0", "/", "..", "é", "9" * 40)) + text[at + 1 :]
        elif kind < 0.6 and isinstance(parent[key], int):
            parent[key] = rng.choice((*NUMBERS, -1, -(2**63)))
        else:
            parent[key] = rng.choice(VALUES)
    return changed


def _slots(node: Any) -> list[tuple[Any, Any]]:
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    own = [(node, key) for key in keys]
    return own + [slot for _, key in own for slot in _slots(node[key])]


def mutate_text(rng: random.Random, text: bytes) -> bytes:
    """Return a text file whose bytes were changed without regard to what they mean."""
    changed = bytearray(text)
    for _ in range(rng.choice((1, 2, 5))):
        at = rng.randrange(len(changed) + 1)
        new = rng.choice((b"", b"\0", b"[" * 5000, b"9" * 5000, b"\xff\xfe", b'"', b"}", b"1e999,"))
        changed[at : at + rng.randrange(4)] = new
    return bytes(changed)
