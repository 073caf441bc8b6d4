"""A thousand damaged videos among sound ones: none may crash, hang, vanish or change a sound one.

    uv run python benchmarks/damaged.py FOLDER [--count N] [--seed N] [--clips N] [--out FOLDER]
        [--backbone NAME] [--weights FILE] [--fps F] [--workers N] [--timeout SECONDS]
        [--partial keep|drop]

FOLDER holds sound clips, of which the smallest are taken. The command line is run twice, on the
sound ones alone and on all; the exit status is 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from features_store.store import Store
from tests.damage import KINDS, NEVER_A_VIDEO, outcomes, write_mixture


def main() -> None:
    options = parse_options()
    sound = sorted(options.folder.rglob("*.mp4"), key=lambda path: path.stat().st_size)
    with tempfile.TemporaryDirectory(dir=options.out) as name:
        folder = Path(name) / "videos"
        kinds = write_mixture(
            folder, sound[: options.clips], count=options.count, seed=options.seed
        )
        alone, mixed = Path(name) / "alone.cubes", Path(name) / "mixed.cubes"
        extract(folder / "sound.csv", alone, options, expected=0)
        seconds, children = time.perf_counter(), resource.RUSAGE_CHILDREN
        printed = extract(folder / "mixed.csv", mixed, options, expected=4)
        seconds = time.perf_counter() - seconds
        found = judge(mixed, kinds)
        print_table(kinds, found)
        frames = printed.splitlines()[0]
        print(f"{frames}\n{options.count} damaged among {options.clips} sound: {seconds:.1f} s,")
        peak = resource.getrusage(children).ru_maxrss / 1e3
        print(f"largest process {peak:.0f} MB")
        print(compare(alone, mixed, Path(name)))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--backbone", default="tiny:conv")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--fps", default="1")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--timeout", default="10")
    parser.add_argument("--partial", default="drop")
    return parser.parse_args()


def extract(source: Path, store: Path, options: argparse.Namespace, *, expected: int) -> str:
    """Run `cubereel extract` and return what it printed."""
    weights = ["--weights", options.weights] if options.weights else []
    return cubereel(
        "extract", source, "--out", store, "--backbone", options.backbone, *weights,
        "--fps", options.fps, "--workers", options.workers, "--timeout", options.timeout,
        "--partial", options.partial, expected=expected,
    )  # fmt: skip


def cubereel(*arguments: object, expected: int = 0) -> str:
    program = [sys.executable, "-c", "from pipelines.cli import main; main()"]
    done = subprocess.run([*program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != expected or "Traceback" in done.stderr:
        tail = done.stderr[-4000:]
        sys.exit(f"{arguments[0]}: exit {done.returncode}, not {expected}, or a traceback:\n{tail}")
    return done.stdout


def judge(store: Path, kinds: dict[str, str]) -> dict[str, str]:
    """Return what became of every damaged video; leave where one vanished or is none."""
    with Store(store) as opened:
        partial = opened.partial_ids
    found = outcomes(store, set(kinds) - set(partial)) | dict.fromkeys(partial, "partial")
    stored = [i for i, kind in kinds.items() if kind in NEVER_A_VIDEO and found[i] == "ok"]
    if stored:
        sys.exit(f"these are no videos and are in the store: {stored}")
    return found


def print_table(kinds: dict[str, str], found: dict[str, str]) -> None:
    """Print how many videos of each kind of damage ended in which way."""
    counts = Counter((kinds[video_id], outcome) for video_id, outcome in found.items())
    columns = [name for name, _ in Counter(found.values()).most_common()]
    print("| damage | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for kind in KINDS:
        print(f"| {kind} | " + " | ".join(str(counts[kind, name] or "") for name in columns) + " |")
    totals = [str(sum(counts[kind, name] for kind in KINDS)) for name in columns]
    print("| all | " + " | ".join(totals) + " |")


def compare(alone: Path, mixed: Path, folder: Path) -> str:
    """Return the verdict of `store diff` on the sound videos; leave where a byte differs."""
    with Store(alone) as store:
        (folder / "ids.txt").write_text("\n".join(store.ids))
    chosen = folder / "chosen.cubes"
    cubereel("store", "subset", mixed, "--out", chosen, "--ids", folder / "ids.txt")
    verdict = cubereel("store", "diff", alone, chosen).splitlines()[-1]
    if not verdict.startswith("identical: "):
        sys.exit(f"the sound videos are not what they are alone: {verdict}")
    return verdict


if __name__ == "__main__":
    main()
