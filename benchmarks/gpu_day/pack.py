"""What a GPU machine without a network lacks, as a folder to take along.

    uv run python -m benchmarks.gpu_day.pack a|b --data FOLDER --out FOLDER [--python 3.12]

Package a is for decoding and extraction: PyAV, clips, no weights. Package b is for numbers and
training: the weights of `caffe:googlenet`, no PyAV. Both hold the wheels that a machine with torch,
torchvision, timm, h5py and pytest lacks, and Cubereel itself. FOLDER of `--data` holds clips
(``fight/**/*.mp4``) and ``weights/bvlc_googlenet.safetensors``. The line that is printed unpacks
and runs; it is to be run in a checkout, in which the package lies.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.gpu_day.step import WEIGHTS

MAX_BYTES = 60 * 2**20
COMMON = (
    "annotated-types", "beartype", "filelock", "msgspec", "pydantic", "pydantic-core",
    "typing-inspection", "xxhash", "zstandard",
)  # fmt: skip
DASK = (
    "click", "cloudpickle", "dask", "distributed", "locket", "msgpack", "partd", "psutil", "PyYAML",
    "sortedcontainers", "tblib", "toolz", "tornado", "urllib3", "zict",
)  # fmt: skip
PACKAGES = {
    "a": ((*COMMON, *DASK, "av"), "machine,cuda_tests,extraction,cluster"),
    "b": (COMMON, "cubes,backbones,training"),
}
NUM_CLIPS = 48
# Tags that wheels of these packages have; pip matches each by its name alone.
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", choices=list(PACKAGES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--python", default="3.12", help="of that machine")
    given = parser.parse_args()
    needed, steps = PACKAGES[given.package]
    shutil.rmtree(given.out, ignore_errors=True)
    wheels = given.out / "wheels"
    wheels.mkdir(parents=True)
    download(needed, wheels, python=given.python)
    subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", wheels], check=True)
    for other in wheels.glob(".*"):
        other.unlink()
    if given.package == "a":
        take_clips(given.data / "fight", given.out / "clips")
    else:
        shutil.copyfile(given.data / "weights" / WEIGHTS, given.out / WEIGHTS)
    size = sum(path.stat().st_size for path in given.out.rglob("*") if path.is_file())
    if size > MAX_BYTES:
        sys.exit(f"{given.out} has {size / 2**20:.1f} MiB, {MAX_BYTES / 2**20:.0f} are allowed")
    print(f"{given.out} has {size / 2**20:.1f} MiB; there, in this checkout:", file=sys.stderr)
    print(line(given.out, steps))


def download(names: tuple[str, ...], folder: Path, *, python: str) -> None:
    """Fetch wheels of the versions that are installed here."""
    platforms = [argument for name in PLATFORMS for argument in ("--platform", name)]
    subprocess.run(
        ["uvx", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
         "--python-version", python, "--implementation", "cp", *platforms,
         "--dest", folder, *(f"{name}=={version(name)}" for name in names)],
        check=True,
    )  # fmt: skip


def take_clips(source: Path, folder: Path) -> None:
    """Copy clips evenly from a folder."""
    folder.mkdir()
    clips = sorted(source.rglob("*.mp4"))
    for number in range(NUM_CLIPS):
        clip = clips[number * len(clips) // NUM_CLIPS]
        shutil.copyfile(clip, folder / f"{number:02}.mp4")


def line(package: Path, steps: str) -> str:
    """Return the command that installs a package beside what is there, and measures."""
    asked = " ".join(f"--step {step}" for step in steps.split(","))
    return (
        "python3 -m pip install -q --no-index --no-deps --no-compile --upgrade "
        f"--target /tmp/site {package}/wheels/*.whl && PYTHONPATH=$PWD:/tmp/site "
        f"python3 -m benchmarks.gpu_day --data {package} --out ${{OUT:-gpu-day}} {asked}"
    )


if __name__ == "__main__":
    main()
