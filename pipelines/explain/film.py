"""A film: each frame of a clip for as long as it stood in the video, with its maps beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
from av import Packet, VideoFrame, VideoStream

from pipelines.explain.drawing import Drawing
from pipelines.explain.film_page import FilmPage

TIME_BASE = Fraction(1, 90_000)
QUALITY = "18"  # of libx264; text stays sharp
ONLY_FRAME_SECONDS = 1.0  # how long a clip of a single frame is shown


def film_bytes(drawing: Drawing) -> bytes:
    """Return an MP4 in H.264 whose frames stand at the times of the clip's, the first at 0."""
    file, film = BytesIO(), FilmPage(drawing)
    begins = [round(time / TIME_BASE) for time in shown_times(drawing.frames.times)]
    durations = dict(zip(begins, np.diff(begins).tolist(), strict=False))
    with av.open(file, "w", format="mp4") as container:
        container.metadata["title"] = drawing.title
        stream = container.add_stream("libx264", options={"crf": QUALITY})
        stream.width, stream.height = film.page.width, film.page.height
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE

        def packets() -> Iterator[Packet[VideoStream]]:
            for begin, pixels in zip(begins, film.frames(), strict=False):
                frame = VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.time_base, frame.pts = TIME_BASE, begin
                yield from stream.encode(frame)
            yield from stream.encode(None)

        for packet in packets():
            packet.duration = durations[packet.pts or 0]  # the encoder knows one rate alone
            container.mux(packet)
    return file.getvalue()


def shown_times(times: Sequence[float]) -> list[float]:
    """Return when each frame of a film appears, and when the last one goes.

    The last stands as long as frames do at the median. A frame that stands there several times, as
    in a draw of more frames than there are, shares its time among them.

    >>> shown_times([4.0, 4.5, 4.5, 5.0])
    [0.0, 0.5, 0.75, 1.0, 1.5]
    """
    distinct, counts = np.unique(times, return_counts=True)
    steps = np.diff(distinct)
    last = float(np.median(steps)) if len(steps) else ONLY_FRAME_SECONDS
    shown: list[float] = []
    for begin, step, count in zip(distinct, [*steps, last], counts, strict=True):
        shown += [float(begin + i * step / count) for i in range(count)]
    return [time - shown[0] for time in [*shown, float(distinct[-1] + last)]]
