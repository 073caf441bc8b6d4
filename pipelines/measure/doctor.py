"""`cubereel doctor`: is this installation sound, and is this machine fit for the work?

Every check says what it found and, where something is not as it should be, what to do. Libraries
are imported by the check that needs them, since one that cannot be imported is a finding.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, get_args

from features_store.errors import MachineError

PACKAGES = (
    "cubereel", "torch", "torchvision", "timm", "av", "h5py", "hdf5plugin", "zstandard", "numpy",
)  # fmt: skip
# What the data sets of the field are in; a decoder that is missing costs their videos.
CODECS = ("h264", "hevc", "mpeg4", "msmpeg4v3", "mpeg2video", "vp8", "vp9", "av1", "wmv3", "mjpeg")
DISK_BYTES, BLOCK_BYTES = 2**26, 2**22
SLOW_DISK = 50e6  # bytes a second; GoogLeNet's float16 cubes of 500 frames a second
LITTLE_SPACE = 10e9

Status = Literal["ok", "warning", "failed", "differs"]


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        status: ``failed`` is the machine's fault; ``differs`` says that features made here are
            not those made elsewhere.
        advice: what to do; empty when all is well.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


def examine(folder: Path) -> list[Check]:
    """Run every check; `folder` is where a store would be written."""
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("versions", check_versions),
        ("cpu", check_cpu),
        ("gpu", check_gpu),
        ("decoders", check_decoders),
        ("hdf5", check_hdf5),
        ("disk", lambda: check_disk(folder)),
        ("golden clip", check_golden),
    ]
    return [_run(name, check) for name, check in checks]


def _run(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except (ImportError, AttributeError) as err:
        advice = "install cubereel and its dependencies again, in an environment of their own"
        return Check(name, "failed", f"{type(err).__name__}: {err}", advice)
    except Exception as err:  # whatever is wrong with a machine, the other checks go on
        advice = "change what it names and run 'cubereel doctor' again"
        return Check(name, "failed", str(err), advice)


def check_versions() -> Check:
    """Say which versions are installed."""
    import av
    import h5py

    found, missing = [f"python {platform.python_version()}"], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    found += [f"FFmpeg {av.ffmpeg_version_info}", f"HDF5 {h5py.version.hdf5_version}"]
    if missing:
        advice = f"install {', '.join(missing)}; 'uv sync' does"
        return Check("versions", "failed", ", ".join(found), advice)
    return Check("versions", "ok", ", ".join(found))


def check_cpu() -> Check:
    """Say how many cores there are and which instructions a backbone can use."""
    import torch

    from extract.compute.machine import cpu_flags, has_bf16_units

    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    flags = cpu_flags() & {"avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "asimd"}
    units = "bf16 units" if has_bf16_units(torch.device("cpu")) else "no bf16 units, so fp32"
    found = f"{cores} cores, {threads} threads of torch, {' '.join(sorted(flags))}; {units}"
    if threads < cores:
        advice = f"torch leaves {cores - threads} cores idle; is OMP_NUM_THREADS meant to be set?"
        return Check("cpu", "warning", found, advice)
    return Check("cpu", "ok", found)


def check_gpu() -> Check:
    """Say which GPUs torch can use."""
    import torch

    if torch.cuda.is_available():
        found = []
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            found.append(f"{properties.name} ({properties.total_memory / 1e9:.0f} GB)")
        return Check("gpu", "ok", ", ".join(found) + f"; CUDA {torch.version.cuda}")
    if Path("/dev/nvidia0").exists():
        advice = (
            "compare the driver's CUDA version (nvidia-smi) with torch's, install one that fits"
        )
        return Check(
            "gpu",
            "failed",
            f"there is one, torch (CUDA {torch.version.cuda}) cannot use it",
            advice,
        )
    return Check("gpu", "ok", "none; everything runs on the CPU")


def check_decoders() -> Check:
    """Say which codecs the CPU can decode, and which other decoders can be used."""
    import av

    from extract.video.decoders.names import DecoderName
    from extract.video.decoders.registry import find_decoder
    from pipelines.machine.golden_clip import clip_path

    there = [name for name in CODECS if _can_decode(av, name)]
    missing = [name for name in CODECS if name not in there]
    found = " ".join(there)
    for name in get_args(DecoderName)[1:]:
        try:
            find_decoder(name)(0).require(clip_path())
            found += f"; {name.upper()}"
        except MachineError:
            found += f"; no {name.upper()}"
    if missing:
        advice = f"videos in {', '.join(missing)} will fail; install PyAV's own wheel ('av')"
        return Check("decoders", "warning", found, advice)
    return Check("decoders", "ok", found)


def _can_decode(av: object, name: str) -> bool:
    try:
        av.Codec(name, "r")  # type: ignore[attr-defined]
    except ValueError:
        return False
    return True


def check_hdf5() -> Check:
    """Write a compressed dataset in memory, and read it as stores are read."""
    import h5py
    import hdf5plugin
    import numpy as np
    import zstandard

    values = np.arange(4096, dtype=np.float16).reshape(4, -1)
    with h5py.File("doctor", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("x", data=values, chunks=values.shape, **hdf5plugin.Zstd())
        file.flush()
        _, frame = dataset.id.read_direct_chunk((0, 0))
        if zstandard.ZstdDecompressor().decompress(frame) != values.tobytes():
            advice = (
                "install hdf5plugin and zstandard again; without them --compression zstd is not "
                "to be trusted"
            )
            return Check("hdf5", "failed", "zstd gives back other values", advice)
    written, read = version("hdf5plugin"), version("zstandard")
    return Check("hdf5", "ok", f"zstandard {read} reads what hdf5plugin {written} writes")


def check_disk(folder: Path) -> Check:
    """Write 64 MB to a folder and remove them; lock a file there, as a store's writer does."""
    import fcntl

    with tempfile.TemporaryDirectory(prefix=".cubereel-doctor-", dir=folder) as name:
        path = Path(name) / "probe"
        block = os.urandom(BLOCK_BYTES)
        with path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            started = time.perf_counter()
            for _ in range(DISK_BYTES // BLOCK_BYTES):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            speed = DISK_BYTES / (time.perf_counter() - started)
    free = shutil.disk_usage(folder).free
    found = f"{folder.absolute()}: {speed / 1e6:.0f} MB/s written, {free / 1e9:.1f} GB free"
    if speed < SLOW_DISK:
        return Check(
            "disk", "warning", found, "slower than a backbone may be; write to a local disk"
        )
    if free < LITTLE_SPACE:
        return Check("disk", "warning", found, "'cubereel plan' says how much a job needs")
    return Check("disk", "ok", found)


def check_golden() -> Check:
    """Decode our clip, compute its cubes on each kind of device, compare with recorded ones."""
    import torch

    from pipelines.machine.golden_clip import MIN_COSINE, check_golden_clip

    found, worst, same_frames = [], 1.0, True
    for name in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        result = check_golden_clip(torch.device(name))
        found.append(f"{name} {result.worst_cosine:.6f}")
        worst = min(worst, result.worst_cosine)
        same_frames = same_frames and result.same_frames
    frames = "frames as recorded" if same_frames else "frames of other bytes than recorded"
    text = f"{frames}; worst cosine of its cubes: {', '.join(found)}"
    if not worst >= MIN_COSINE:
        advice = "features made here are not those made elsewhere; do not mix them, and report this"
        return Check("golden clip", "differs", text, advice)
    if not same_frames:
        advice = "this FFmpeg rounds otherwise; cubes agree, bytes of stores will not"
        return Check("golden clip", "warning", text, advice)
    return Check("golden clip", "ok", text)
