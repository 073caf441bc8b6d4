"""The frames of a clip, decoded again from the video: the cache has nothing to draw on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from extract.video.reader import FrameReader
from extract.video.settings import ReaderSettings
from features_store.errors import ContractError
from features_store.store import Store
from features_store.views import FLIP, Rectangle, rectangle_of
from pipelines.explain.drawing import Picture
from pipelines.extraction.plan import is_same_media


class ClipFrames:
    """The frames at some rows of a stored video; see `Frames`.

    Args:
        rows: ascending; a row may stand there twice.
        root: where the videos are now, if no longer where they were extracted.
        view: what is drawn is that view; a mirrored one is drawn on mirrored pictures.

    Raises:
        ContractError: the video is not where it was, or is another file.
    """

    def __init__(
        self, store: Store, video: str, rows: np.ndarray, *, root: Path | None, view: str
    ) -> None:
        self._path = path_of(store, video, root)
        self._record, self._spec, self._view = store.video(video), store.header.spec, view
        if min(self._record.height, *self._record.crop[2:]) <= 0:
            raise ContractError(
                f"nothing is known of the pictures of {video!r}: its features were imported"
            )
        if not is_same_media(self._path, self._record, rehash=False):
            raise self._replaced()
        self._rows: list[int] = rows.tolist()
        self.times: Sequence[float] = store.read(video, "pts_seconds")[rows].tolist()
        self.shape = (self._record.height, self._record.width)
        x, y, width, height = self._crop(*self.shape)
        self.is_cropped = x > 0 or y > 0 or width < self.shape[1] or height < self.shape[0]

    def read(self, chosen: Sequence[int], *, shape: tuple[int, int]) -> Iterator[Picture]:
        """Yield the frames at these positions, ascending, scaled to a height and width.

        Raises:
            ContractError: the file has other frames than were extracted.
            DecodeError: it cannot be decoded.
        """
        positions = iter(chosen)
        position = next(positions, None)
        for row, frame in enumerate(self._reader(shape)):
            while position is not None and self._rows[position] == row:
                if frame.pts_seconds != self.times[position]:
                    raise self._replaced()
                pixels = frame.pixels[:, ::-1] if self._view == FLIP else frame.pixels
                yield Picture(np.ascontiguousarray(pixels), self._crop(*shape))
                position = next(positions, None)
            if position is None:
                return
        raise self._replaced()

    def _reader(self, shape: tuple[int, int]) -> FrameReader:
        record = self._record
        whole = replace(self._spec.preprocessing, input_size=shape, fit="stretch")
        return FrameReader(
            self._path,
            ReaderSettings(preprocessing=whole, sampling=self._spec.sampling),
            draw_key=record.media_sha256,
            start_seconds=None if np.isnan(record.start_seconds) else record.start_seconds,
            end_seconds=None if np.isnan(record.end_seconds) else record.end_seconds,
        )

    def _crop(self, height: int, width: int) -> Rectangle:
        """Return what the backbone saw, in the pixels of a scaled picture."""
        record = self._record
        size = {"width": record.width, "height": record.height}
        x, y, crop_width, crop_height = rectangle_of(self._view, record.crop, **size)
        across, down = width / record.width, height / record.height
        return x * across, y * down, crop_width * across, crop_height * down

    def _replaced(self) -> ContractError:
        return ContractError(f"{self._path} is not the file that was extracted; it was replaced")


def path_of(store: Store, video: str, root: Path | None) -> Path:
    """Return where a stored video's file is.

    Raises:
        ContractError: it is not there.
    """
    source = store.header.source(store.video(video).source)
    manifest = store.manifest.get(video)
    path = (root or Path(source.root)) / (manifest.path if manifest else video)
    if not path.is_file():
        raise ContractError(
            f"{path} is not there; say with `root` where the videos of {store.path} are now"
        )
    return path
