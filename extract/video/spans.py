"""What packets tell of a time span of a video before it is decoded.

Where decoding must begin so that the span comes out whole: seeking is inexact in several
containers, and the frames before it have to be counted anyway. And when its first and its last
frame are shown, which a header may get wrong.
"""

from array import array
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from extract.sampling.policy import Extent
from extract.video.clock import MAX_REORDERED, Lead, StampCounter
from extract.video.container import choose_stream, open_video, stream_rate
from extract.video.packets import is_flush, is_hidden


class DecodeStart(NamedTuple):
    """The keyframe to begin with, and what lies before it.

    Attributes:
        num_packets: to be skipped, in the order of the file.
        num_frames: shown before the keyframe.
        key_pts: of the keyframe, in ticks; None when nothing is skipped.
        first_pts: of the whole stream; None when nothing is skipped.
    """

    num_packets: int = 0
    num_frames: int = 0
    key_pts: int | None = None
    first_pts: int | None = None


def find_decode_start(path: str | Path, *, start_seconds: float) -> DecodeStart:
    """Return the last keyframe shown at or before `start_seconds` after the first frame.

    The whole video, from its first packet, where packets carry no timestamps, or perhaps those of
    decoding, which only the frames before put in order.
    """
    start = DecodeStart()
    with open_video(path) as container:
        stream = choose_stream(container, path=path)
        if stream.time_base is None:
            return start
        ticks = span_ticks(start_seconds, time_base=stream.time_base)
        first_pts: int | None = None
        may_be_decoding_times, latest = stream.codec_context.has_b_frames, None
        num_shown = 0
        for ordinal, packet in enumerate(container.demux(stream)):
            pts = packet.dts if packet.pts is None else packet.pts
            if is_flush(packet):
                break
            if pts is None:
                return DecodeStart()
            may_be_decoding_times &= latest is None or pts > latest
            latest = pts
            first_pts = pts if first_pts is None else min(first_pts, pts)
            # A packet is never shown before its dts: no later keyframe can be early enough.
            if packet.dts is not None and packet.dts > first_pts + ticks:
                break
            if packet.is_keyframe and pts <= first_pts + ticks:
                start = DecodeStart(ordinal, num_shown, pts, first_pts)
            elif start.key_pts is not None and pts < start.key_pts:
                # Shown before the keyframe that it follows in the file (an open group).
                start = start._replace(num_frames=start.num_frames + (not is_hidden(packet)))
            num_shown += not is_hidden(packet)
    return start if start.num_packets and not may_be_decoding_times else DecodeStart()


def find_lead(path: str | Path) -> Lead | None:
    """Return the earliest stamp at the start of a stream, and how many frames are shown before it.

    Where a recording was cut, Matroska has no times below zero: then no packet has a stamp at
    first, and soon every one has. Where stamps come now and then, those count that lie before the
    earliest. None if no packet has a stamp.
    """
    lead: Lead | None = None
    num_unstamped = num_behind = num_in_a_row = 0
    with open_video(path) as container:
        for packet in container.demux(choose_stream(container, path=path)):
            if is_flush(packet) or num_behind > 2 * MAX_REORDERED:
                return lead
            if is_hidden(packet):
                continue
            num_behind += lead is not None
            if packet.pts is None:
                num_unstamped += 1
                num_in_a_row = 0
                continue
            num_in_a_row += 1
            if lead is None or packet.pts < lead.first_pts:
                lead = Lead(num_unstamped, packet.pts)
            if num_in_a_row > MAX_REORDERED:
                return lead._replace(num_unstamped=num_unstamped)
    return lead


def find_extent(
    path: str | Path,
    *,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    on_packet: Callable[[], None] = lambda: None,
) -> Extent:
    """Return when the first and the last frame with start <= time < end are shown.

    Takes 8 bytes a packet of the video.

    Raises:
        DecodeError: ``no timestamps``, where the stream states no rate to count them from either.
    """
    with open_video(path) as container:
        stream = choose_stream(container, path=path)
        time_base = stream.time_base or Fraction(1, av.time_base)
        rate = stream_rate(stream)
        ticks_per_frame = 1 / (rate * time_base) if rate else Fraction(0)
        counter = StampCounter(ticks_per_frame, lambda: find_lead(path))
        shown = array("q")
        for packet in container.demux(stream):
            on_packet()
            if is_flush(packet):
                break
            if not is_hidden(packet):
                shown.append(counter.next(packet.dts if packet.pts is None else packet.pts))
    if not shown:
        return Extent()
    times = np.unique(shown)
    ticks = times - times[0]
    inside = ticks >= span_ticks(start_seconds, time_base=time_base)
    if end_seconds is not None:
        inside &= ticks < span_ticks(end_seconds, time_base=time_base)
    times = times[inside]
    return Extent(int(times[0]), int(times[-1]), len(times)) if len(times) else Extent()


def span_ticks(seconds: float, *, time_base: Fraction) -> int:
    """Return the tick nearest to a time, so that 0.4 s finds the frame at 10/25 s."""
    return round(Fraction(seconds) / time_base)
