"""Step 5: videos to a sealed store: decoders, the whole, how busy the GPU is, hours of video."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.gpu_day import clips, networks
from benchmarks.gpu_day.step import Row, Setting, run_step
from extract.backbones.registry import load_network
from extract.compute.compiled import first_line
from extract.compute.preprocess import preprocessing_for
from extract.decode.pool import DecodePool, DecodeSettings, DecodeTask, Failed
from features_store.spec import Sampling
from pipelines.extraction.extract import extract
from pipelines.extraction.options import ExtractionOptions
from pipelines.machine.devices import require_decoder

FPS = "10"
DECODERS = (("cpu", 1), ("cpu", 8), ("cpu", 14), ("nvdec", 1), ("nvdec", 8))
# Decoder, worker processes, decoders of each.
WHOLES = (("cpu", 1, 14), ("cpu", 2, 7), ("cpu", 4, 4), ("nvdec", 1, 8))
COPIES = 250  # of each clip
WHOLE_SECONDS = 12.0  # about so many videos are extracted


def rows(setting: Setting) -> Iterator[Row]:
    ends_at = time.monotonic() + setting.seconds
    for size, folder, seconds in sources(setting):
        rates: dict[str, float] = {}
        for row in chain(
            decoding_rows(folder, setting, rates), whole_rows(folder, seconds, setting, rates)
        ):
            yield {"videos": size} | row
            if time.monotonic() > ends_at:
                return


def decoding_rows(folder: Path, setting: Setting, rates: dict[str, float]) -> Iterator[Row]:
    """Yield how fast each decoder is alone; the best of each kind goes into `rates`."""
    for decoder, workers in DECODERS[::3] if setting.is_small else DECODERS:
        row: Row = {"what": "decoding", "decoder": decoder, "workers": workers}
        try:
            frames, took = decode(folder, networks.names(setting)[0], decoder, workers, setting)
        except Exception as err:  # one that fails says so and costs no other
            yield row | {"note": first_line(err)[:200]}
            continue
        rates[decoder] = max(rates.get(decoder, 0.0), frames / took)
        yield row | {"kept frames/s": round(frames / took)}


def whole_rows(
    folder: Path, seconds: float, setting: Setting, rates: dict[str, float]
) -> Iterator[Row]:
    """Yield how fast videos become a sealed store, beside their decoding."""
    backbone = networks.names(setting)[0]
    weights = weights_of(backbone, setting)
    for decoder, processes, workers in WHOLES[:1] if setting.is_small else WHOLES:
        if decoder not in rates:
            continue
        row = {"what": "whole", "decoder": decoder, "workers": workers, "processes": processes}
        some, its_seconds = part(folder, seconds, setting, frames=WHOLE_SECONDS * rates[decoder])
        options = ExtractionOptions(
            backbone=backbone, weights=weights, fps=FPS, decoder=decoder, workers=workers,
            processes=processes, device=str(setting.device), compile="off",
        )  # fmt: skip
        try:
            figures = whole(some, options, its_seconds, setting)
        except Exception as err:
            yield row | {"note": first_line(err)[:200]}
            continue
        yield row | figures | {"of decoding": round(figures["kept frames/s"] / rates[decoder], 2)}


def part(folder: Path, seconds: float, setting: Setting, *, frames: float) -> tuple[Path, float]:
    """Return a list of the first videos with about so many kept frames, and their seconds."""
    paths = sorted(folder.iterdir())
    share = min(1.0, frames / (float(FPS) * seconds))
    chosen = paths[: max(1, round(share * len(paths)))]
    listed = setting.scratch / "videos.txt"
    listed.write_text("".join(f"{path}\n" for path in chosen))
    return listed, seconds * len(chosen) / len(paths)


def weights_of(backbone: str, setting: Setting) -> Path:
    if setting.weights is not None and backbone == "caffe:googlenet":
        return setting.weights
    path = setting.scratch / "random.safetensors"
    torch.manual_seed(0)
    save_file(load_network(backbone, trained=False).network.state_dict(), path)
    return path


def sources(setting: Setting) -> Iterator[tuple[str, Path, float]]:
    """Yield name, folder, and seconds of video in it."""
    small, large = setting.scratch / "small", setting.scratch / "large"
    if setting.is_small:
        clips.synthetic(small, num_videos=2, size=(320, 240), num_frames=10)
        yield "320×240", small, 0.8
        return
    found = setting.clips
    clips.copies(found, small, num_videos=COPIES * len(found))
    yield "320×240", small, COPIES * video_seconds(found)
    made = clips.enlarged(found[:16], setting.scratch / "enlarged", size=(1920, 1080), seconds=15.0)
    clips.copies(made, large, num_videos=8 * len(made))
    yield "1920×1080", large, 8 * video_seconds(made)


def video_seconds(paths: Sequence[Path]) -> float:
    import av

    total = 0.0
    for path in paths:
        with av.open(str(path)) as container:
            total += (container.duration or 0) / av.time_base
    return total


def decode(
    folder: Path, backbone: str, decoder: str, workers: int, setting: Setting
) -> tuple[int, float]:
    """Return how many frames a pool keeps in some seconds, and the seconds."""
    config = networks.load_network(backbone, trained=False).config
    preprocessing = preprocessing_for(config, fit="crop")
    gpu = require_decoder(decoder, setting.device)
    warm_up, limit = (0.0, 0.2) if setting.is_small else (3.0, 6.0)
    paths = sorted(folder.iterdir())
    settings = DecodeSettings(
        preprocessing=preprocessing, sampling=Sampling("fps", FPS), decoder=decoder, device=gpu
    )
    pool = DecodePool(settings, workers=workers)
    num_frames, begun = 0, None
    with pool:
        for event in pool.decode(DecodeTask(i, str(path)) for i, path in enumerate(paths)):
            if isinstance(event, Failed):
                raise event.error
            now = time.perf_counter()
            begun = now if begun is None else begun
            # At first the other decoders still start.
            if now - begun < warm_up:
                continue
            num_frames += len(getattr(event, "pixels", ()))
            if now - begun > warm_up + limit:
                break
    return num_frames, now - begun - warm_up


def whole(videos: Path, options: ExtractionOptions, video_seconds: float, setting: Setting) -> Row:
    out = setting.scratch / "whole.cubes"
    shutil.rmtree(out, ignore_errors=True)
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(setting.device)
    with BusyShare() as busy:
        report = extract(videos, out=out, options=options)
    if report.failed:
        raise RuntimeError(report.failed[0]["error"])
    num_bytes = sum(path.stat().st_size for path in (out / "shards").iterdir())
    shutil.rmtree(out)
    seconds = report.extracting_seconds
    return {
        "kept frames/s": round(report.num_frames / seconds),
        "hours of video an hour": round(video_seconds / seconds, 1),
        "store MB/s": round(num_bytes / seconds / 1e6),
        "GPU busy": busy.share,
        "GPU peak GiB": peak(setting.device) if options.processes == 1 else None,
        "seconds": round(seconds, 1),
    }


def peak(device: torch.device) -> float | None:
    if device.type == "cpu":
        return None
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 2)


class BusyShare:
    """The share of the time in which the GPU computed, by NVML; None without one."""

    def __init__(self) -> None:
        self.share: float | None = None
        self._seen: list[int] = []
        self._is_over = threading.Event()

    def __enter__(self) -> BusyShare:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        # What comes before the first work is loading.
        first = next((i for i, share in enumerate(self._seen) if share), None)
        if first is not None:
            self.share = round(sum(self._seen[first:]) / len(self._seen[first:]) / 100, 2)

    def _look(self) -> None:
        if not torch.cuda.is_available():
            return
        while not self._is_over.wait(0.1):
            self._seen.append(int(torch.cuda.utilization()))


if __name__ == "__main__":
    run_step(rows)
