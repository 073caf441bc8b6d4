"""What heads find in planted clips at their default options, by the way of `cubereel train`.

    uv run python -m benchmarks.planted [--set cell|order] [--head NAME …] [--epochs 15] [--seeds 1]

*cell*: every cell of a frame shows some class, a marked one that of the clip, so that the mean is
nearly blind (`tests.planted.hidden_cell`). *order*: three segments of any length, the class is
their order (`tests.planted.ordered_segments`). Each is a store of 1,000 videos; 600 are fitted on,
150 choose the learning rate and 250 are tested.

*Mass* is how much of the map "spatial" lies on the marked cell. *Boundary F1* is that of HM-AN's
bottom layer against the ends of segments, one frame off being right too; beside it that of random
boundaries as frequent as the head's, clip by clip.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from features_store.format.layout import LayerShape, cube_path
from features_store.manifest import ManifestRow, write_manifest
from features_store.session import StoreSession
from features_store.store import Store
from pipelines.training.train import train
from tests import planted
from tests.stores import add_video, frames, header
from train.data.clips import Clips
from train.fitting.checkpoint import load_checkpoint
from train.fitting.config import TrainConfig
from train.protocol.table import Row

COUNTS = {"train": 600, "val": 150, "test": 250}
SETS: dict[str, Callable[[int, torch.Generator], planted.Planted]] = {
    "cell": planted.hidden_cell, "order": planted.ordered_segments,
}  # fmt: skip
HEADS = {
    "cell": [
        ("mean-pool", 32), ("saliency-convlstm", 8), ("saliency-convlstm", 32),
        ("soft-attention:attention=content", 32), ("hm-an", 32), ("pyramid-attention", 32),
        ("self-attention-pool", 32), ("attentive-probe", 32), ("non-local", 32),
    ],
    "order": [("mean-pool", 32), ("hm-an", 32)],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", choices=list(SETS), action="append", default=[])
    parser.add_argument("--head", action="append", default=[])
    parser.add_argument("--epochs", type=int, default=TrainConfig().epochs)
    parser.add_argument("--batch-size", type=int, default=TrainConfig().batch_size)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.set or SETS:
            store = Path(folder) / f"{name}.cubes"
            where = write(store, SETS[name](sum(COUNTS.values()), torch.Generator().manual_seed(0)))
            heads = [(head, arguments.batch_size) for head in arguments.head] or HEADS[name]
            measure = mass if name == "cell" else boundaries
            print(f"\n## {name}\n\n| head | batch | accuracy | {measure.__doc__} |")
            print("|---|---|---|---|")
            for head, batch_size in heads:
                config = TrainConfig(
                    epochs=arguments.epochs, batch_size=batch_size, clip_frames=where.shape[1]
                )
                out = Path(folder) / f"{name}-{len(list(Path(folder).iterdir()))}"
                report = train(
                    store, heads=[Row.parse(head)], seeds=arguments.seeds, out=out, config=config,
                    device="cpu", processes=1,
                )  # fmt: skip
                said = measure(store, out, head, where)
                accuracy = report.heads[0].accuracy
                print(f"| {head} | {batch_size} | {accuracy:.3f} | {said} |", flush=True)


def write(path: Path, clips: planted.Planted) -> Tensor:
    """Write clips as the videos of a store; return where the class of each test video is seen."""
    cubes = clips.batch.top.numpy()
    said = header(layers=(LayerShape("top", cubes.shape[2], cubes.shape[4]),))
    splits = [split for split, count in COUNTS.items() for _ in range(count)]
    ids = [f"{split}/{i:04}" for i, split in enumerate(splits)]
    session = StoreSession(path, said, run_id="planted")
    with session as writer, writer.unit(rows=cubes.shape[1] * len(ids), video_ids=ids) as unit:
        for video_id, cube in zip(ids, cubes, strict=True):
            rows = frames(len(cube), seed=0, store_header=said)
            rows[cube_path("center", "top")] = cube.astype(rows[cube_path("center", "top")].dtype)
            add_video(unit, video_id, rows)
    labels = [f"class{int(label)}" for label in clips.labels]
    lines = zip(ids, labels, splits, strict=True)
    write_manifest(
        path / "manifest.csv", [ManifestRow(v, v, label=label, split=s) for v, label, s in lines]
    )
    return clips.where[-COUNTS["test"] :]


def maps_of(store: Path, run: Path, head: str) -> dict[str, Tensor]:
    """Return the maps of the test videos by the first seed, in the order of the store."""
    (checkpoint,) = (run / "checkpoints").glob("*/fold0-seed0.json")
    fitted, description = load_checkpoint(checkpoint)
    with Store(store) as opened, torch.inference_mode():
        tests = [video for video in opened.ids if video.startswith("test/")]
        clips = Clips(
            opened, sorted(tests), windows=description.config.window_plan,
            layers=list(description.layers),
        )  # fmt: skip
        return dict(fitted(clips.batch(range(len(clips)))).maps)


def mass(store: Path, run: Path, head: str, where: Tensor) -> str:
    """mass on the cell"""
    maps = maps_of(store, run, head)
    if "spatial" not in maps:
        return ""
    return f"{planted.share_on(where, maps['spatial'], axes=(1, 2, 3)):.2f}"


def boundaries(store: Path, run: Path, head: str, where: Tensor) -> str:
    """boundary F1 (of random ones); rate by layer"""
    maps = maps_of(store, run, head)
    if "boundary" not in maps:
        return ""
    found = maps["boundary"][..., 0] > 0.5
    generator = torch.Generator().manual_seed(0)
    shuffled = [
        planted.boundary_f1(
            found.gather(1, torch.rand(found.shape, generator=generator).argsort(1)), where
        )
        for _ in range(100)
    ]
    rates = ", ".join(f"{rate:.2f}" for rate in maps["boundary"].mean((0, 1)))
    return f"{planted.boundary_f1(found, where):.2f} ({sum(shuffled) / len(shuffled):.2f}); {rates}"


if __name__ == "__main__":
    main()
