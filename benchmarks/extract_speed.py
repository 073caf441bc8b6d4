"""`cubereel bench extract` for several backbones, on clips as they are and at 1280×720.

    uv run python benchmarks/extract_speed.py FOLDER [--weights FILE] [--videos N] [--fps F]
        [--stride N] [--backbone NAME …] [--rounds N] [--workers N] [--out FOLDER]

FOLDER holds real clips. Those of 720 lines are made from them: enlarged and encoded as H.264 at
crf 23, so they cost as much to decode and scale as others of that size and little detail. FILE
holds the weights of `caffe:googlenet`, other networks have random ones.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import av

from pipelines.extraction.options import ComputeOptions
from pipelines.measure.bench_extract import BenchReport, bench_extract

BACKBONES = ("caffe:googlenet", "torchvision:googlenet", "torchvision:resnet50")
WIDTH, HEIGHT = 1280, 720


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, help="of caffe:googlenet")
    parser.add_argument("--backbone", action="append", help="instead of the three")
    parser.add_argument("--videos", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--fps")
    parser.add_argument("--stride", type=int)
    parser.add_argument("--out", type=Path, default=None, help="folder on the disk to use")
    options = parser.parse_args()
    clips = sorted(options.folder.rglob("*.mp4"))
    chosen = [clips[i * len(clips) // options.videos] for i in range(options.videos)]
    with tempfile.TemporaryDirectory(dir=options.out) as name:
        folder = Path(name)
        (folder / "small").mkdir()
        (folder / "large").mkdir()
        for i, clip in enumerate(chosen):
            (folder / "small" / f"{i:03}.mp4").symlink_to(clip.absolute())
            enlarge(clip, folder / "large" / f"{i:03}.mp4")
        print("| backbone | clips | kept | decode: bare, ours, naive | backbone: ours, eager "
              "| whole | floor | plain | whole / floor | whole / plain | decode / bare "
              "| decode / naive |")  # fmt: skip
        print("|---" * 12 + "|")
        for size in ("small", "large"):
            for backbone in options.backbone or BACKBONES:
                weights = options.weights if backbone == "caffe:googlenet" else None
                asked = ComputeOptions(
                    backbone=backbone, weights=weights, fps=options.fps, stride=options.stride,
                    workers=options.workers,
                )  # fmt: skip
                report = bench_extract(
                    folder / size, asked, num_videos=options.videos, rounds=options.rounds
                )
                print(row(report, size), flush=True)
    print(f"\n{report.device}, {report.precision}, {report.num_cores} cores, "
          f"{report.workers} decode workers; frames per second")  # fmt: skip


def row(report: BenchReport, size: str) -> str:
    rates, ratios = report.rates, report.ratios
    clips = "as they are" if size == "small" else f"{WIDTH}×{HEIGHT}"
    name = f"{report.backbone}, compiled" if report.is_compiled else report.backbone
    return (
        f"| {name} | {clips} | {report.num_frames} "
        f"| {rates['decode_floor']:.0f}, {rates['decode']:.0f}, {rates['decode_naive']:.0f} "
        f"| {rates['backbone']:.1f}, {rates['backbone_eager']:.1f} "
        f"| {rates['whole']:.1f} | {report.floor:.1f} | {rates['plain']:.1f} "
        f"| {ratios['whole / floor']:.2f} | {ratios['whole / plain']:.2f} "
        f"| {ratios['decode / floor']:.2f} | {ratios['decode / naive']:.2f} |"
    )


def enlarge(clip: Path, target: Path) -> None:
    """Write a clip again at 1280×720."""
    with av.open(str(clip)) as source, av.open(str(target), "w") as sink:
        video = source.streams.video[0]
        stream = sink.add_stream("libx264", rate=video.average_rate, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, frame in enumerate(source.decode(video)):
            larger = frame.reformat(WIDTH, HEIGHT, format="yuv420p", interpolation="BICUBIC")
            larger.pts, larger.time_base = number, 1 / video.average_rate
            sink.mux(stream.encode(larger))
        sink.mux(stream.encode(None))


if __name__ == "__main__":
    main()
