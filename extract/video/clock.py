"""When frames are shown, from what packets and frames say of it; times rise or the video fails.

Some files say when a packet is decoded where they should say when it is shown: AVI has no other
times, and remuxing it keeps them. Such stamps rise in the order of packets although the decoder
puts frames into another order. Frames then take the stamps in rising order.
"""

from collections.abc import Callable
from fractions import Fraction
from heapq import heapify, heappop, heappush
from typing import Generic, NamedTuple, TypeVar

from features_store.errors import DecodeError

Frame = TypeVar("Frame")
MAX_REORDERED = 16  # frames that a decoder of H.264 or HEVC holds back at most


class Lead(NamedTuple):
    """Packets without a stamp at the start of a stream, and the earliest stamp behind them."""

    num_unstamped: int
    first_pts: int


class StampCounter:
    """Gives what has no stamp one that is counted, at the stream's rate, from the last stamp.

    Args:
        ticks_per_frame: 0 when the rate is unknown.
        find_lead: asked where the first of all has no stamp; None if nothing has one.
    """

    def __init__(self, ticks_per_frame: Fraction, find_lead: Callable[[], Lead | None]) -> None:
        self._ticks_per_frame = ticks_per_frame
        self._find_lead = find_lead
        self._anchor: int | None = None
        self._num_since = 0

    def next(self, stamp: int | None) -> int:
        """Return the stamp of the next one, its own where it has one.

        Raises:
            DecodeError: ``no timestamps``.
        """
        if stamp is not None:
            self._anchor, self._num_since = stamp, 0
        elif not self._ticks_per_frame:
            raise DecodeError(
                "frames carry no timestamps and the stream states no frame rate; "
                "remux the video with one",
                reason="no timestamps",
            )
        if self._anchor is None:
            lead = self._find_lead() or Lead(0, 0)
            self._anchor, self._num_since = lead.first_pts, -lead.num_unstamped
        counted = self._anchor + round(self._num_since * self._ticks_per_frame)
        self._num_since += 1
        return counted


class FrameClock(Generic[Frame]):
    """Gives every frame a time in ticks: its own, that of decoding put in order, or a counted one.

    Args:
        time_base: seconds that a tick lasts.
        rate: frames a second; None when unknown.
        reorders: whether the decoder gives frames in another order than that of packets.
        find_lead: asked where the first frame has no stamp; None if no frame of the stream has one.

    Attributes:
        ticks_per_frame: 0 when the rate is unknown.
        first_pts: of the first frame; None before it.
        last_pts: of the latest frame.
        longest_gap: ticks between two frames.
        are_decoding_times: whether stamps are put in order; only the end shows that none is over.
    """

    def __init__(
        self,
        *,
        time_base: Fraction,
        rate: Fraction | None,
        reorders: bool = False,
        find_lead: Callable[[], Lead | None] = lambda: None,
    ) -> None:
        self.ticks_per_frame = 1 / (rate * time_base) if rate else Fraction(0)
        self.time_base = time_base
        self.first_pts: int | None = None
        self.last_pts = 0
        self.longest_gap = 0
        self.num_frames = 0
        self._counter = StampCounter(self.ticks_per_frame, find_lead)
        self._has_stamp = False
        self._may_be_decoding_times = reorders
        self.are_decoding_times = False
        self._latest_sent: int | None = None
        self._pending: list[int] = []  # a heap: stamps of packets whose frames have not come
        self._held: list[tuple[Frame, int]] = []

    def sent(self, pts: int | None) -> None:
        """Take note of a packet that goes to the decoder and is to be shown.

        Raises:
            DecodeError: ``times go back``.
        """
        if not self._may_be_decoding_times:
            return
        rises = pts is not None and (self._latest_sent is None or pts > self._latest_sent)
        if pts is None or not rises:
            if self.are_decoding_times:
                raise self._goes_back(self._latest_sent or 0, pts)
            self._may_be_decoding_times = False  # these are times at which frames are shown
            return
        self._latest_sent = pts
        heappush(self._pending, pts)

    def shown(self, frame: Frame, pts: int | None) -> list[tuple[Frame, int]]:
        """Take the next frame in the order of presentation; return those whose times are known.

        Raises:
            DecodeError: ``times go back``, or ``no timestamps``.
        """
        if pts is None or not self._may_be_decoding_times:
            return [*self._release_held(), (frame, self._next(pts))]
        if not self.num_frames and not self._held:
            # What was sent before the first frame that could be decoded is never shown.
            self._pending = [stamp for stamp in self._pending if stamp >= pts]
            heapify(self._pending)
        if self.are_decoding_times or (not self._held and self._pending[:1] == [pts]):
            return [(frame, self._next(self._earliest()))]
        return self._hold(frame, pts)

    def rest(self) -> list[tuple[Frame, int]]:
        """Return the frames whose times could not be told before the stream ended.

        Raises:
            DecodeError: ``times go back``.
        """
        if self.are_decoding_times and self._pending:
            raise DecodeError(
                "its packets say when they are decoded, not when they are shown, and "
                f"{len(self._pending)} of them gave no frame, so times cannot be told; remux the "
                "video to a container with times",
                reason="times go back",
            )
        return self._release_held()

    def _hold(self, frame: Frame, pts: int) -> list[tuple[Frame, int]]:
        """Wait for the frame of an earlier stamp: it comes soon, or its packet shows none."""
        self._held.append((frame, pts))
        if pts < max(stamp for _, stamp in self._held):
            self.are_decoding_times = True
            held, self._held = self._held, []
            return [(each, self._next(self._earliest())) for each, _ in held]
        if len(self._held) <= MAX_REORDERED:
            return []
        return self._release_held()

    def _earliest(self) -> int:
        if not self._pending:
            raise DecodeError(
                f"its packets say when they are decoded, and after {self.num_frames} frames more "
                "frames came than packets; remux the video to a container with times",
                reason="times go back",
            )
        return heappop(self._pending)

    def _release_held(self) -> list[tuple[Frame, int]]:
        held, self._held = self._held, []
        if held:
            self._pending = [stamp for stamp in self._pending if stamp > held[-1][1]]
            heapify(self._pending)
        return [(frame, self._next(pts)) for frame, pts in held]

    def _next(self, stamp: int | None) -> int:
        pts = self._counter.next(stamp)
        if self.first_pts is None:
            self.first_pts = pts
        elif pts <= self.last_pts:
            raise self._goes_back(self.last_pts, pts)
        if stamp is not None and self._has_stamp:
            self.longest_gap = max(self.longest_gap, pts - self.last_pts)
        self._has_stamp |= stamp is not None
        self.num_frames += 1
        self.last_pts = pts
        return pts

    @property
    def num_moments(self) -> int:
        """How many ticks there are from zero to the end of the last frame; 0 before the first."""
        if self.first_pts is None:
            return 0
        last_frame = max(self.longest_gap, round(self.ticks_per_frame), 1)  # it may be a long one
        return self.last_pts - min(self.first_pts, 0) + last_frame

    def _goes_back(self, before: int, pts: int | None) -> DecodeError:
        if pts is None:
            told = "its packets say when they are decoded, and then nothing of it any more"
        else:
            seconds = [float(ticks * self.time_base) for ticks in (before, pts)]
            told = f"times go from {seconds[0]:.3f} s to {seconds[1]:.3f} s"
        return DecodeError(
            f"{told} after {self.num_frames} frames, as where recordings are joined and times "
            "begin anew, or a container leaves times out; encode the video again",
            reason="times go back",
        )
