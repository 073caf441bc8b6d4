"""Memory of extraction: a long video against a short one, many videos against few.

    uv run python benchmarks/extract_memory.py CLIP --weights FILE [--out FOLDER]

CLIP, a real video, is repeated without encoding it again. What is measured is the largest
anonymous and shared memory of all processes of `cubereel extract` together, ten times a second;
files that are mapped are left out, the page cache lends those.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av

LONG_SECONDS, SHORT_SECONDS = 3600, 60
MANY, FEW, PIECE_SECONDS = 1000, 100, 2
COMMAND = (sys.executable, "-c", "from pipelines.cli import main; main()", "extract")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="of caffe:googlenet")
    parser.add_argument("--out", type=Path, default=None, help="folder on the disk to use")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.out) as name:
        folder = Path(name)
        for case, seconds in (("long", LONG_SECONDS), ("short", SHORT_SECONDS)):
            (folder / case).mkdir()
            repeat_clip(arguments.clip, folder / case / "video.mp4", seconds=seconds)
        repeat_clip(arguments.clip, folder / "piece.mp4", seconds=PIECE_SECONDS)
        for case, count in (("many", MANY), ("few", FEW)):
            (folder / case).mkdir()
            for i in range(count):
                shutil.copy(folder / "piece.mp4", folder / case / f"{i:04}.mp4")
        peaks = {}
        for case in ("short", "long", "few", "many"):
            source = folder / f"{case}.txt"
            source.write_text("".join(f"{path}\n" for path in sorted((folder / case).iterdir())))
            peaks[case], seconds = peak_of_extraction(
                source, folder / f"{case}.cubes", arguments.weights
            )
            print(f"{case}: {peaks[case] / 1e6:.0f} MB at most, {seconds:.0f} s", flush=True)
    minutes, by_length = LONG_SECONDS // 60, peaks["long"] / peaks["short"]
    print(f"{minutes} minutes / {SHORT_SECONDS // 60}: {by_length:.3f}")
    print(f"{MANY} videos / {FEW}: {peaks['many'] / peaks['few']:.3f}")


def repeat_clip(clip: Path, target: Path, *, seconds: float) -> None:
    """Write packets of a clip again and again until the video is long enough, or cut it."""
    with av.open(str(clip)) as source, av.open(str(target), "w") as sink:
        stream = source.streams.video[0]
        copy = sink.add_stream_from_template(stream)
        assert stream.time_base is not None
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        times = [(packet.pts, packet.dts, packet.duration) for packet in packets]
        length = max(dts + duration for _, dts, duration in times) - times[0][1]
        offset = 0
        while True:
            for packet, (pts, dts, _) in zip(packets, times, strict=True):
                if float((offset + dts - times[0][1]) * stream.time_base) >= seconds:
                    return
                packet.pts, packet.dts, packet.stream = pts + offset, dts + offset, copy
                packet.time_base = stream.time_base
                sink.mux(packet)
            offset += length


def peak_of_extraction(source: Path, out: Path, weights: Path) -> tuple[int, float]:
    """Extract at one frame a second; return the most bytes at a time, and the seconds."""
    options = ("--out", out, "--backbone", "caffe:googlenet", "--weights", weights, "--fps", "1")
    started, peak = time.monotonic(), 0
    with subprocess.Popen(
        [*COMMAND, source, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None:
            peak = max(peak, sum(own_bytes(pid) for pid in family(process.pid)))
            time.sleep(0.1)
        assert process.stderr is not None
        if process.returncode:
            sys.exit(process.stderr.read().decode())
    return peak, time.monotonic() - started


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(int(child)))]


def own_bytes(pid: int) -> int:
    """Return the anonymous and shared memory of a process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    kilobytes = (fields.get(name, "0 kB").split()[0] for name in ("RssAnon", "RssShmem"))
    return 1024 * sum(map(int, kilobytes))


if __name__ == "__main__":
    main()
