"""Films whose every frame shows its own number, in many containers, cut and joined as people do."""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from random import Random

import av
from av.container import OutputContainer

from tests.synthetic import numbered_frames

SUFFIXES = {
    "libx264": (".mp4", ".mov", ".mkv", ".avi", ".ts", ".flv"),
    "mpeg4": (".mp4", ".mkv", ".avi", ".ts", ".nut"),
    "mpeg2video": (".mpg", ".ts", ".mkv", ".vob"),
    "libx265": (".mp4", ".mkv", ".ts"),
    "mjpeg": (".avi", ".mov", ".mkv"),
    "libvpx-vp9": (".webm", ".mkv"),
}
REORDERING = ("libx264", "mpeg4", "mpeg2video", "libx265")
RATES = ("24", "25", "30", "30000/1001", "50")  # that MPEG-2 knows too


@dataclass(frozen=True)
class Film:
    """How a film is made.

    Attributes:
        b_frames: in a row, at most.
        start_seconds: of the first frame.
        remux: suffix of a container that the finished file is copied to; empty for none.
        cut: share of the packets that is left out at the start of that copy, back to a keyframe.
    """

    codec: str = "libx264"
    suffix: str = ".mp4"
    rate: str = "25"
    num_frames: int = 60
    b_frames: int = 0
    group: int = 12
    start_seconds: float = 0.0
    remux: str = ""
    cut: float = 0.0

    @classmethod
    def random(cls, random: Random) -> "Film":
        codec = random.choice(list(SUFFIXES))
        film = cls(
            codec,
            random.choice(SUFFIXES[codec]),
            random.choice(RATES),
            num_frames=random.randint(20, 90),
            b_frames=random.choice((0, 1, 2, 3)) if codec in REORDERING else 0,
            group=random.choice((5, 12, 250)),
            start_seconds=random.choice((0.0, 0.0, 3.37)),
        )
        if film.suffix == ".avi":
            film = replace(film, start_seconds=0.0)
        if random.random() < 0.5:
            cut = random.choice((0.0, 0.3, 0.6))
            film = replace(film, remux=random.choice(SUFFIXES[codec]), cut=cut)
        return film

    def write(self, folder: Path) -> Path:
        """Make the film and return its file."""
        first = self._encode(folder / f"made{self.suffix}")
        return self._copy(first, folder / f"copy{self.remux}") if self.remux else first

    def _encode(self, path: Path) -> Path:
        rate = Fraction(self.rate)
        options = {"g": str(self.group), "bf": str(self.b_frames)}
        if self.codec == "libx264":
            options |= {"preset": "ultrafast", "crf": "10", "x264-params": "b-adapt=0"}
        elif self.codec == "libx265":
            settings = f"log-level=none:bframes={self.b_frames}:keyint={self.group}:b-adapt=0"
            options = {"preset": "ultrafast", "x265-params": settings}
        elif self.codec == "libvpx-vp9":
            options = {"g": str(self.group), "deadline": "realtime", "cpu-used": "8"}
        elif self.codec == "mjpeg":
            options = {}
        if self.codec in ("mpeg4", "mpeg2video"):
            options["q:v"] = "2"
        pictures = numbered_frames(self.num_frames, width=128, height=96)
        with av.open(str(path), "w", options=_muxing(path)) as container:
            stream = container.add_stream(self.codec, rate=rate, options=options)
            stream.height, stream.width = pictures.shape[1:3]
            stream.pix_fmt = "yuvj420p" if self.codec == "mjpeg" else "yuv420p"
            stream.codec_context.time_base = 1 / rate
            stream.codec_context.thread_count = 1
            if self.codec in ("mpeg4", "mpeg2video"):
                stream.bit_rate = 4_000_000
            for index, pixels in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame = frame.reformat(format=stream.pix_fmt)
                frame.pict_type = 0
                frame.pts, frame.time_base = index + round(self.start_seconds * rate), 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    def _copy(self, source: Path, target: Path) -> Path:
        with (
            av.open(str(source)) as read,
            av.open(str(target), "w", options=_muxing(target)) as written,
        ):
            video = read.streams.video[0]
            stream = written.add_stream_from_template(video)
            if target.suffix == ".avi":  # counts frames of this rate
                stream.time_base = 1 / Fraction(self.rate)
            packets = [packet for packet in read.demux(video) if packet.size]
            keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
            first = max(key for key in keys if key <= self.cut * len(packets))
            packets = packets[first:]
            if target.suffix == ".avi":  # which begins at zero
                since = min(p.dts for p in packets if p.dts is not None)
                for packet in packets:
                    packet.pts -= since
                    packet.dts = None if packet.dts is None else packet.dts - since
            _mux(written, stream, packets)
        return target


def _mux(container: OutputContainer, stream: object, packets: list) -> None:
    for packet in packets:
        packet.stream = stream
        if packet.dts is None:
            packet.dts = packet.pts
        container.mux(packet)


def _muxing(path: Path) -> dict[str, str]:
    # As recorders and editors leave it: times below zero, and no edit list where none is asked for.
    return {"avoid_negative_ts": "disabled"} if path.suffix == ".mkv" else {}
