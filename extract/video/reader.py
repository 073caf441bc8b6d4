"""A video file as a stream of preprocessed RGB frames, each with its time and its index.

Memory is constant in the length of the video: one decoded frame at a time (17 where it shows later
which time is whose), and only kept frames are converted. What could not be decoded is a
`DecodeError` that says how far it went; no frame is ever made up.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av import VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream
from jaxtyping import UInt8

from extract.sampling.policy import Timeline, policy_of
from extract.video.clock import FrameClock
from extract.video.container import pixel_aspect, stream_rate, stream_seconds
from extract.video.conversion import FrameConverter
from extract.video.decoders.registry import find_decoder
from extract.video.packets import Tally, check_frames, check_seconds, decode_frames
from extract.video.settings import ReaderSettings
from extract.video.spans import DecodeStart, find_decode_start, find_extent, find_lead, span_ticks
from features_store.errors import DecodeError


class KeptFrame(NamedTuple):
    """One frame as the backbone will see it, before normalisation.

    Attributes:
        pixels: RGB of the preprocessing's input size, or several such pictures one below the other
            (see `PictureStack`); its own memory, though perhaps not contiguous.
        pts_seconds: on the stream's own clock, which need not begin at 0.
        frame_index: in presentation order, counted from the start of the file.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    pts_seconds: float
    frame_index: int


class _ShownFrame(NamedTuple):
    frame: VideoFrame
    pts: int
    tick: int  # since the first frame of the video
    frame_index: int
    is_certain: bool  # whether nothing behind it can show that its time is wrong


@dataclass(frozen=True)
class VideoSummary:
    """What decoding found out.

    Attributes:
        fps: of the source, on average; 0 when unknown.
        duration_seconds: of the whole file.
        num_frames: decoded, kept or not; in a time span only those within.
        width, height: as displayed, so after rotation.
        rotation: degrees counter-clockwise from the decoded to the displayed frame.
        crop_rectangle: x, y, width, height in displayed source pixels (see `Placement`).
        colour_matrix, colour_range: with which the frames were converted.
        draws: rows of every draw of frames, where frames are drawn from segments.
    """

    fps: float
    duration_seconds: float
    num_frames: int
    width: int
    height: int
    rotation: int
    crop_rectangle: tuple[float, float, float, float]
    colour_matrix: str
    colour_range: str
    draws: tuple[tuple[int, ...], ...] = ()


class FrameReader:
    """Iterate once over the kept frames of a video; `summary` is there from the first frame on.

    Args:
        path: a local regular file.
        settings: which frames are kept, how they are scaled, what decodes.
        draw_key: that random draws of frames depend on; of a store the SHA-256 of the file, so that
            a file has the same draws under any name.
        start_seconds, end_seconds: keep start <= time < end, counted from the video's first frame.
        on_packet: called once per packet read, so that a watchdog sees progress.

    Raises:
        DecodeError: while iterating; `reason` is one of ``unreadable``, ``not a video``,
            ``no video stream``, ``unknown codec``, ``no frames``, ``truncated``, ``corrupt``,
            ``no timestamps``, ``empty span``, ``size changed``, ``size limit``, ``out of memory``,
            ``decoder crashed`` where a GPU decodes.
    """

    def __init__(
        self,
        path: str | Path,
        settings: ReaderSettings,
        *,
        draw_key: str = "",
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        on_packet: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._settings = settings
        self._draw_key = draw_key
        self._start_seconds = start_seconds or 0.0
        self._end_seconds = end_seconds
        self._on_packet = on_packet
        self._decoder = find_decoder(settings.decoder)(settings.device)
        self._converter = FrameConverter(settings.preprocessing, crops=settings.stack.crops)
        self._fps = 0.0
        self._duration_seconds = 0.0
        self._num_frames = 0
        self._draws: tuple[tuple[int, ...], ...] = ()

    @property
    def has_summary(self) -> bool:
        """Whether a frame was kept, so that `summary` can be asked for."""
        return self._converter.has_plan

    @property
    def summary(self) -> VideoSummary:
        """What is known so far; complete once the iteration has ended."""
        width, height = self._converter.displayed_size
        placement, colours = self._converter.placement, self._converter.colours
        return VideoSummary(
            fps=self._fps,
            duration_seconds=self._duration_seconds,
            num_frames=self._num_frames,
            width=width,
            height=height,
            rotation=90 * placement.orientation.quarter_turns,
            crop_rectangle=placement.crop_rectangle,
            colour_matrix=colours.matrix_name,
            colour_range=colours.range_name,
            draws=self._draws,
        )

    def __iter__(self) -> Iterator[KeptFrame]:
        try:
            yield from self._open_and_read()
        except DecodeError as err:
            if not self._num_frames:
                self._decoder.explain(err)
            raise

    def _open_and_read(self) -> Iterator[KeptFrame]:
        start = DecodeStart()
        try:
            if self._start_seconds > 0:
                start = find_decode_start(self._path, start_seconds=self._start_seconds)
            with self._decoder.open(self._path) as (container, stream):
                yield from self._read(container, stream, start)
        except av.MemoryError as err:
            message = f"{str(self._path)!r} asks for more memory than its decoder may have"
            raise DecodeError(message, reason="out of memory") from err
        except av.FFmpegError as err:
            message = f"{str(self._path)!r} broke off: {err.strerror}"
            raise DecodeError(message, reason="corrupt") from err

    def _read(
        self, container: InputContainer, stream: VideoStream, start: DecodeStart
    ) -> Iterator[KeptFrame]:
        time_base = stream.time_base or Fraction(1, av.time_base)
        self._fps = float(stream_rate(stream) or 0)
        self._duration_seconds = stream_seconds(container, stream)
        self._converter.pixel_aspect = pixel_aspect(stream)
        find = partial(
            find_extent, self._path, start_seconds=self._start_seconds,
            end_seconds=self._end_seconds, on_packet=self._on_packet,
        )  # fmt: skip
        sampler = policy_of(self._settings.sampling).sampler(
            Timeline(time_base, find, self._draw_key)
        )
        latest: list[_ShownFrame] = []  # of the span: at most the last two, the newer one last
        first_tick = span_ticks(self._start_seconds, time_base=time_base)
        stop_tick = (
            None
            if self._end_seconds is None
            else span_ticks(self._end_seconds, time_base=time_base)
        )
        for shown in self._shown_frames(container, stream, start):
            if shown.tick < first_tick:
                continue
            if stop_tick is not None and shown.tick >= stop_tick:
                if shown.is_certain:
                    break
                continue
            self._num_frames += 1
            latest = [*latest[-1:], shown]
            if sampler.keep(shown.pts):
                yield self._kept(latest, time_base)
        if self._num_frames == 0:
            self._fail_empty()
        if sampler.keep_last():
            yield self._kept(latest, time_base)
        self._draws = sampler.draws if self._settings.sampling.jitter else ()

    def _kept(self, latest: list[_ShownFrame], time_base: Fraction) -> KeptFrame:
        """Return the newest frame; with the one before it, or itself once more, if wanted."""
        shown = latest[-1]
        pictures = self._converter.convert(shown.frame)
        if self._settings.stack.has_previous:
            pictures += self._converter.convert(latest[0].frame)
        pixels = pictures[0] if len(pictures) == 1 else np.concatenate(pictures)
        return KeptFrame(pixels, float(shown.pts * time_base), shown.frame_index)

    def _shown_frames(
        self, container: InputContainer, stream: VideoStream, start: DecodeStart
    ) -> Iterator[_ShownFrame]:
        """Yield every decoded frame with its time and index; judge the stream when it ends."""
        time_base = stream.time_base or Fraction(1, av.time_base)
        clock: FrameClock[VideoFrame] = FrameClock(
            time_base=time_base,
            rate=stream_rate(stream),
            reorders=stream.codec_context.has_b_frames,
            find_lead=lambda: find_lead(self._path),
        )
        tally = Tally()
        first_pts, frame_index = start.first_pts, start.num_frames
        for frame, pts in self._timed_frames(container, stream, start, clock, tally):
            if start.key_pts is not None and pts < start.key_pts:
                continue  # refers to skipped frames; already counted as shown before the keyframe
            first_pts = pts if first_pts is None else first_pts
            is_certain = not clock.are_decoding_times
            yield _ShownFrame(frame, pts, pts - first_pts, frame_index, is_certain)
            frame_index += 1
        if not self._duration_seconds and first_pts is not None:
            end_pts = clock.last_pts + clock.ticks_per_frame
            self._duration_seconds = float((end_pts - first_pts) * time_base)
        if not self._has_span:
            check_frames(container, stream, tally=tally, clock=clock)
            check_seconds(container, stream, clock=clock)

    def _timed_frames(
        self,
        container: InputContainer,
        stream: VideoStream,
        start: DecodeStart,
        clock: FrameClock[VideoFrame],
        tally: Tally,
    ) -> Iterator[tuple[VideoFrame, int]]:
        decoded = decode_frames(
            container,
            stream,
            num_skipped=start.num_packets,
            tally=tally,
            decode=self._decoder.decode,
            on_packet=self._on_packet,
            on_sent=clock.sent,
        )
        for frame in decoded:
            yield from clock.shown(frame, frame.pts)
        yield from clock.rest()

    @property
    def _has_span(self) -> bool:
        return self._start_seconds > 0 or self._end_seconds is not None

    def _fail_empty(self) -> None:
        end = "the end" if self._end_seconds is None else f"{self._end_seconds} s"
        raise DecodeError(
            f"no frame lies between {self._start_seconds} s and {end}; "
            f"the video lasts {self._duration_seconds:.2f} s",
            reason="empty span",
        )
