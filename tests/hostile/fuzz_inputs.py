"""Mutations of what strangers give: checkpoints, weights, run folders, manifests, import formats.

    uv run python -m tests.hostile.fuzz_inputs --seconds 3600 --seed 7

Each mutation knows the structure of its file: a value of a document, a field of a header, a line, a
member of an archive, or bytes. A finding is an exception that is no `CubereelError`, a hang, more
than a gigabyte, or an import whose store cannot be read; its seed finds it again.
"""

import argparse
import json
import random
import resource
import shutil
import signal
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from extract.backbones.tiny import load_tiny
from features_store.errors import CubereelError
from features_store.exchange import FORMATS, ImportOptions, export_store, import_features
from features_store.format.layout import LayerShape
from features_store.manifest import scan_manifest
from features_store.store import Store
from pipelines.training.compare import compare
from pipelines.training.tails import open_checkpoint
from pipelines.training.train import train
from tests.stores import header, make_store
from train.fitting.config import TrainConfig
from train.protocol.run_folder import RunFolder, read_fit
from train.protocol.run_log import read_log
from train.protocol.table import load_table

HANG_SECONDS = 10
ONE_CELL = header(layers=(LayerShape("features", 1, 6),), has_diffs=False)
CHECKPOINT = "run/checkpoints/mean-pool/fold0-seed0"
HOSTILE = [
    None, True, -1, 0, 2**31, 2**63, 10**30, 1e308, float("nan"), float("inf"), "", "x" * 300,
    "../../x", "\x1b[2J\u202e", "\0", "\udcff", "1e999999999", "1/0", [], {}, [[[[]]]], [1, "a"],
    "=cmd|'x'!A0", "9" * 5000,
]  # fmt: skip
TABLE = """about = "heads"
[defaults]
epochs = 2
[[rows]]
head = "avg-lstm:hidden=8"
layers = [-1]
[[rows]]
head = "mean-pool"
name = "two"
learning_rates = [0.1]
"""


@dataclass(frozen=True)
class Target:
    """What is mutated, below a folder, and what reads it."""

    place: str
    read: Callable[[Path], object]


def build(folder: Path) -> dict[str, Target]:
    """Write sound files of every kind."""
    lengths = {f"{label}/v{i}": 2 for label in "ab" for i in range(3)}
    make_store(folder / "s", lengths, store_header=ONE_CELL)
    targets = {}
    for kind in FORMATS:
        export_store(folder / "s", folder / kind, kind=kind)
        targets[f"import {kind}"] = Target(kind, lambda path, kind=kind: _import(path, kind))
    train(
        folder / "s", heads=["mean-pool"], folds=2, out=folder / "run", processes=1, device="cpu",
        config=TrainConfig(epochs=1, learning_rates=(0.1,)),
    )  # fmt: skip
    (folder / "checkpoint").mkdir()
    for suffix in (".json", ".safetensors"):
        shutil.copy(folder / f"{CHECKPOINT}{suffix}", folder / "checkpoint" / f"c{suffix}")
    (folder / "weights").mkdir()
    state = load_tiny("conv", None, True).network.state_dict()
    torch.save(state, folder / "weights" / "w.pth")
    (folder / "manifest").mkdir()
    shutil.copy(folder / "s" / "manifest.csv", folder / "manifest")
    (folder / "table").mkdir()
    (folder / "table" / "t.toml").write_text(TABLE)
    targets["checkpoint"] = Target("checkpoint", lambda path: open_checkpoint(path / "c.json"))
    targets["weights"] = Target("weights", lambda path: load_tiny("conv", path / "w.pth", True))
    targets["manifest"] = Target("manifest", lambda path: scan_manifest(path / "manifest.csv"))
    targets["table"] = Target("table", lambda path: load_table(str(path / "t.toml")))
    targets["run"] = Target("run", lambda path: _read_run(path, folder / "run"))
    return targets


def _import(path: Path, kind: str) -> None:
    options = ImportOptions() if kind == "folder" else ImportOptions(name="x")
    out = path.with_name("imported")
    import_features(path, out, kind=kind, options=options)
    with Store(out) as store:
        for video_id in store.ids:
            store.cubes(video_id)
        assert store.manifest


def _read_run(path: Path, whole: Path) -> None:
    list(read_log(path))
    for records in RunFolder(path).records().values():
        for record in records:
            read_fit(record)
    compare(path, whole)


def mutate(folder: Path, rng: random.Random) -> str:
    """Change one file below a folder; say which, and how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    path = rng.choice(files)
    content = path.read_bytes()
    ways: list[Callable[[bytes, random.Random], bytes]] = [_bytes]
    if path.suffix == ".json":
        ways += [_document] * 4
    elif path.suffix in (".csv", ".txt", ".toml", ".jsonl"):
        ways += [_lines] * 4
    elif path.suffix in (".npz", ".pth"):
        ways += [_member] * 2
    elif path.suffix in (".npy", ".safetensors"):
        ways += [_header] * 2
    way = rng.choice(ways)
    path.write_bytes(way(content, rng))
    return f"{path.relative_to(folder)} by {way.__name__}"


def _bytes(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(changed) + 1)
        what = rng.randrange(4)
        if what == 0:
            changed[at : at + 1] = rng.randbytes(1)
        elif what == 1:
            del changed[at : at + rng.choice([1, 4, 64, len(changed)])]
        elif what == 2:
            changed[at : at + 8] = rng.choice([b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7])
        else:
            changed[at:at] = changed[: rng.choice([1, 16, 4096])]
        changed = changed or bytearray(b"\0")
    return bytes(changed)


def _document(content: bytes, rng: random.Random) -> bytes:
    document = json.loads(content)
    places = list(_places(document))
    if not places:
        return json.dumps(rng.choice(HOSTILE)).encode()
    holder, key = rng.choice(places)
    if rng.random() < 0.2:
        del holder[key]
    elif isinstance(holder, dict) and rng.random() < 0.2:
        holder[rng.choice(["", "x" * 300, "../x", "extra"])] = rng.choice(HOSTILE)
    else:
        holder[key] = rng.choice(HOSTILE)
    return json.dumps(document).encode()


def _places(value):
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in list(inner):
        yield value, key
        if isinstance(each, dict | list):
            yield from _places(each)


def _lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    words = [str(value).encode(errors="surrogatepass") for value in HOSTILE]
    what = rng.randrange(4)
    if what == 0:
        del lines[at]
    elif what == 1:
        lines[at:at] = [lines[at]] * rng.choice([1, 2, 1000])
    else:
        sign = rng.choice([b",", b"=", b" ", b"."])
        parts = lines[at].split(sign)
        parts[rng.randrange(len(parts))] = rng.choice(words)
        lines[at] = sign.join(parts)
    return b"\n".join(lines)


def _header(content: bytes, rng: random.Random) -> bytes:
    """Change the text with which an array, or a file of arrays, begins."""
    end = min(len(content), 600)
    numbers = [i for i in range(end) if chr(content[i]).isdigit()] or [0]
    at = rng.choice(numbers)
    by = rng.choice([b"9" * 18, b"-1", b"0", b"1e9", b"", b"O", b"nan", b"(" * 50])
    return content[:at] + by + content[at + 1 :]


def _member(content: bytes, rng: random.Random) -> bytes:
    """Change a member of an archive, and write it with right sums."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "a.zip")
        path.write_bytes(content)
        with zipfile.ZipFile(path) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        chosen = rng.randrange(len(members))
        how = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
        with zipfile.ZipFile(path, "w", how) as archive:
            for number, (member, each) in enumerate(members):
                way = rng.choice([_bytes, _header]) if number == chosen else None
                archive.writestr(member, way(each, rng) if way else each)
        return path.read_bytes()


def run(
    folder: Path, *, seed: int, most: int, seconds: float, says: bool = False
) -> tuple[Counter[str], list[str]]:
    """Return how mutations ended, by target, and what was found.

    Args:
        says: what is tried next, so that a crash of the process can be found again.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    targets = build(folder / "sound")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    most_bytes = pages * resource.getpagesize() + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, limits[1]))
    before = signal.signal(signal.SIGALRM, _hang)
    ends, findings, until = Counter[str](), list[str](), time.monotonic() + seconds
    try:
        for number in range(seed * 10**9, seed * 10**9 + most):
            if time.monotonic() > until:
                break
            rng = random.Random(number)
            name = rng.choice(sorted(targets))
            shutil.rmtree(folder / "tried", ignore_errors=True)
            path = folder / "tried" / "it"
            shutil.copytree(folder / "sound" / targets[name].place, path)
            said = mutate(path, rng)
            if says:
                print(number, name, said, flush=True)
            end = _tried(targets[name], path)
            ends[f"{name}: {end if end in ('read', 'refused') else 'found'}"] += 1
            if end not in ("read", "refused"):
                findings.append(f"number {number}, {name}, {said}:\n{end}")
    finally:
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    return ends, findings


def _tried(target: Target, path: Path) -> str:
    signal.alarm(HANG_SECONDS)
    try:
        target.read(path)
    except CubereelError:
        return "refused"
    except BaseException:  # a hang too
        return traceback.format_exc(limit=-6)
    finally:
        signal.alarm(0)
    return "read"


def _hang(_number: int, _frame: object) -> None:
    raise BaseException(f"no end within {HANG_SECONDS} s")  # noqa: TRY002


def main() -> None:
    """Fuzz for as long as is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    np.seterr(all="ignore")
    with tempfile.TemporaryDirectory() as name:
        ends, findings = run(
            Path(name), seed=given.seed, most=10**9, seconds=given.seconds, says=True
        )
    for end, number in sorted(ends.items()):
        print(f"{number:>8}  {end}")
    for finding in findings[:20]:
        print(finding)
    print(f"{ends.total()} mutations, {len(findings)} findings")
    raise SystemExit(bool(findings))


if __name__ == "__main__":
    main()
