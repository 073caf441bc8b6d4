"""Damaged videos from sound ones: every kind is a function of a random generator and sound bytes.

What is made is untrusted input at its worst: cut, overwritten, mislabelled, lying about sizes and
durations, or no file at all.
"""

import io
import os
import random
import struct
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np

from features_store.errors import REASONS
from features_store.ledger import read_failures
from features_store.store import Store

ABSURD = (0, 1, 0x7FFF, 0xFFFF, 0x00FFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
# Offsets of 32-bit fields behind a box's four letters (version 0), and what they say.
MP4_FIELDS = {
    b"mvhd": (16, 20),  # time scale, duration
    b"mdhd": (16, 20),
    b"tkhd": (24, 80, 84),  # duration, width, height
    b"elst": (8, 12, 16),  # number of edits, duration, start
    b"stts": (8, 12, 16),  # number of runs, their length, duration of a frame
    b"ctts": (8, 12, 16),
    b"stsz": (8, 12),  # size of all samples, their number
    b"stsc": (8, 12, 16),
    b"stco": (8, 12),
    b"avc1": (28,),  # width and height, 16 bits each
}
AVI_FIELDS = {
    b"avih": (4, 20, 36, 40),  # microseconds a frame, frames, width, height
    b"strh": (24, 28, 36),  # scale, rate, length
    b"strf": (8, 12),  # width, height
    b"idx1": (0, 12, 16),  # size of the index, an entry's offset and size
    b"movi": (4, 8),
}


def damage(kind: str, rng: random.Random, source: Path, target: Path, *, other: Path) -> None:
    """Make a damaged video of a kind of `KINDS` from a sound one.

    Args:
        other: a sound video that is never to be read in the name of the target.
    """
    if kind in _NO_FILES:
        _NO_FILES[kind](target)
    elif kind in _LURES:
        target.write_bytes(_LURES[kind](rng, other.resolve()))
    elif kind in _AVI:
        target.write_bytes(_AVI[kind](rng, as_avi(source)))
    else:
        target.write_bytes(_BYTES[kind](rng, source.read_bytes()))


def as_avi(path: Path) -> bytes:
    """Return the first frames of a video as MPEG-4 in an AVI, whose headers differ from MP4's."""
    buffer = io.BytesIO()
    with av.open(str(path)) as source, av.open(buffer, "w", format="avi") as target:
        stream = source.streams.video[0]
        copy = target.add_stream("mpeg4", rate=25)
        copy.width, copy.height, copy.pix_fmt = stream.width, stream.height, "yuv420p"
        for i, frame in enumerate(islice(source.decode(stream), 50)):
            plain = frame.reformat(format="yuv420p")
            plain.pts, plain.time_base = i, Fraction(1, 25)
            plain.pict_type = 0  # else every frame becomes what it was in the source
            target.mux(copy.encode(plain))
        target.mux(copy.encode(None))
    return buffer.getvalue()


# --- Bytes of one file ---------------------------------------------------------------------------


def _truncated(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(1, len(data))]


def _beheaded(rng: random.Random, data: bytes) -> bytes:
    return data[rng.randrange(1, len(data)) :]


def _flipped(rng: random.Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(2 ** rng.randrange(8)):
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _zeroed(rng: random.Random, data: bytes) -> bytes:
    size = max(1, int(len(data) * rng.uniform(0.005, 0.4)))
    start = rng.randrange(len(data) - size + 1)
    return data[:start] + bytes(size) + data[start + size :]


def _noise(rng: random.Random, data: bytes) -> bytes:
    """Overwrite a region with random bytes."""
    size = max(1, int(len(data) * rng.uniform(0.005, 0.4)))
    start = rng.randrange(len(data) - size + 1)
    return data[:start] + rng.randbytes(size) + data[start + size :]


def _lying(rng: random.Random, data: bytes, fields: dict[bytes, tuple[int, ...]]) -> bytes:
    """Overwrite one to three fields of headers with absurd values."""
    order = ">" if fields is MP4_FIELDS else "<"
    damaged = bytearray(data)
    there = [name for name in fields if name in data]
    for name in rng.sample(there, min(len(there), rng.randint(1, 3))):
        at = data.index(name) + rng.choice(fields[name])
        value = struct.pack(f"{order}I", rng.choice(ABSURD))
        damaged[at : at + 4] = value[: max(0, len(damaged) - at)]
    return bytes(damaged)


def _endless_box(rng: random.Random, data: bytes) -> bytes:
    """Let a box say that it reaches to the end, or far behind it."""
    damaged = bytearray(data)
    names = (b"ftyp", b"moov", b"mdat", b"trak", b"mdia", b"stbl", b"stsd")
    at = data.index(rng.choice([name for name in names if name in data]))
    damaged[at - 4 : at] = struct.pack(">I", rng.choice((0, 1, 7, 0x7FFFFFFF, 0xFFFFFFFF)))
    return bytes(damaged)


def _endless_avi(rng: random.Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    at = data.index(rng.choice((b"RIFF", b"LIST", b"movi"))) + 4
    damaged[at : at + 4] = struct.pack("<I", rng.choice((0, 0x7FFFFFFF, 0xFFFFFFFF)))
    return bytes(damaged)


_BYTES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "truncated": _truncated,
    "beheaded": _beheaded,
    "flipped bits": _flipped,
    "zeroed region": _zeroed,
    "noise": _noise,
    "zero bytes": lambda _, __: b"",
    "all zeros": lambda _, data: bytes(len(data)),
    "lying mp4": lambda rng, data: _lying(rng, data, MP4_FIELDS),
    "endless mp4": _endless_box,
}
_AVI: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "truncated avi": _truncated,
    "lying avi": lambda rng, data: _lying(rng, data, AVI_FIELDS),
    "endless avi": _endless_avi,
}


# --- Files of another kind -----------------------------------------------------------------------


def _picture(rng: random.Random, _: Path) -> bytes:
    pixels = np.frombuffer(rng.randbytes(48 * 64 * 3), np.uint8).reshape(48, 64, 3)
    return encoded_picture(rng.choice(("mjpeg", "png", "bmp")), pixels=pixels)


def encoded_picture(codec: str, *, pixels: np.ndarray) -> bytes:
    """Return a picture file of RGB pixels (48, 64, 3)."""
    pixel_format = {"mjpeg": "yuvj420p", "png": "rgb24", "bmp": "bgr24"}[codec]
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 48, pixel_format
    encoder.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=pixel_format)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def _playlist(rng: random.Random, other: Path) -> bytes:
    """Name another file, which is sound, in a format that FFmpeg may follow."""
    target = rng.choice((str(other), f"file://{other}", f"concat:{other}", "http://127.0.0.1:9/"))
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n"
    dash = f"<MPD><Period><AdaptationSet><BaseURL>{target}</BaseURL></AdaptationSet></Period></MPD>"
    texts = (
        dash,
        hls,
        f"ffconcat version 1.0\nfile '{target}'\n",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na={target}",
        f"[playlist]\nFile1={target}\n",
    )
    return rng.choice(texts).encode()


_LURES: dict[str, Callable[[random.Random, Path], bytes]] = {
    "text": lambda rng, _: "".join(rng.choices("no video \n", k=2000)).encode(),
    "picture": _picture,
    "playlist": _playlist,
}

# --- No file at all ------------------------------------------------------------------------------

_NO_FILES: dict[str, Callable[[Path], None]] = {
    "named pipe": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "missing": lambda path: path.symlink_to("nowhere.mp4"),
}

KINDS = (*_BYTES, *_AVI, *_LURES, *_NO_FILES)
NEVER_A_VIDEO = ("zero bytes", "all zeros", *_LURES, *_NO_FILES)


def write_damaged(folder: Path, sound: list[Path], *, count: int, seed: int) -> dict[str, str]:
    """Write `count` damaged videos into a folder; return the kind of each by its name."""
    rng = random.Random(seed)
    kinds = {}
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        suffix = rng.choice((".mp4", ".avi", ".mkv", ".ts")) if kind in _LURES else ".mp4"
        name = f"{number:04d}-{kind.replace(' ', '-')}{suffix}"
        source, other = rng.choice(sound), rng.choice(sound)
        damage(kind, rng, source, folder / name, other=other)
        kinds[name] = kind
    return kinds


def write_mixture(folder: Path, sound: list[Path], *, count: int, seed: int) -> dict[str, str]:
    """Write sound clips and damaged ones, and manifests of both and of the sound ones alone.

    Returns:
        The kind of damage of every damaged video, by its id. ``mixed.csv`` lists them in a random
        order among the sound ones, ``sound.csv`` has those alone.
    """
    (folder / "sound").mkdir(parents=True)
    (folder / "damaged").mkdir()
    clips = [folder / "sound" / f"{i:03d}{path.suffix}" for i, path in enumerate(sound)]
    for path, clip in zip(sound, clips, strict=True):
        clip.write_bytes(path.read_bytes())
    damaged = write_damaged(folder / "damaged", clips, count=count, seed=seed)
    ids = [f"sound/{clip.name}" for clip in clips]
    kinds = {f"damaged/{name}": kind for name, kind in damaged.items()}
    _write_list(folder / "sound.csv", ids)
    mixed = [*ids, *kinds]
    random.Random(seed).shuffle(mixed)
    _write_list(folder / "mixed.csv", mixed)
    return kinds


def _write_list(path: Path, names: Iterable[str]) -> None:
    path.write_text("\n".join(["path,label", *(f"{name},{name[:5]}" for name in names)]) + "\n")


def outcomes(store: Path, ids: Iterable[str]) -> dict[str, str]:
    """Return what became of each video: ``ok``, or the reason in the ledger; fail where neither."""
    reasons = {failure.video_id: failure.reason for failure in read_failures(store)}
    assert set(reasons.values()) <= set(REASONS)
    found = {}
    with Store(store) as opened:
        for video_id in ids:
            is_there, has_failed = video_id in opened, video_id in reasons
            assert is_there != has_failed, f"{video_id}: stored {is_there}, failed {has_failed}"
            found[video_id] = reasons.get(video_id, "ok")
    return found
