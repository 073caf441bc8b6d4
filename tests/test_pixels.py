"""Pixels against an exact conversion, and pictures as they are meant to be shown."""

import av
import numpy as np
import pytest

from benchmarks.pixel_error import as_frame, exact, picture
from extract.video.conversion import FrameConverter
from extract.video.reader import FrameReader
from extract.video.settings import ReaderSettings
from features_store.errors import DecodeError
from features_store.spec import Preprocessing, Sampling
from tests.synthetic import write_video

LATE = 3.4  # seconds, when the first frame of some films is shown


def preprocessing(fit, size):
    width, height = size
    return Preprocessing(
        input_size=(height, width), resize_size=max(size), fit=fit, interpolation="bilinear",
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), pixel_scale=255.0, channel_order="rgb",
    )  # fmt: skip


@pytest.mark.parametrize("size", [(320, 240), (160, 120), (341, 256), (640, 480)])
@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("matrix", ["601", "709"])
def test_pixels_are_those_of_an_exact_conversion(matrix, is_full, size):
    planes = picture(np.random.default_rng(0))
    frame = as_frame(planes)
    frame.colorspace, frame.color_range = {"601": 6, "709": 1}[matrix], 2 if is_full else 1

    (pixels,) = FrameConverter(preprocessing("stretch", size)).convert(frame)

    error = pixels - exact(planes, size, matrix, is_full)
    assert np.abs(error.mean((0, 1))).max() < 0.1
    assert np.abs(error).max() < 3


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.avi", "v.ts"])
def test_pixels_that_are_not_square_are_honoured(tmp_path, name):
    """A square drawn for pixels of 2:1 is half as wide in the file, and square to the network."""
    frames = np.zeros((25, 64, 64, 3), np.uint8)
    frames[:, 16:48, 24:40] = 255
    path = write_video(tmp_path / name, frames, options={"aspect": "2:1"})
    settings = ReaderSettings(
        sampling=Sampling("stride", "1"), preprocessing=preprocessing("pad", (64, 64))
    )
    reader = FrameReader(path, settings)

    shown = next(iter(reader)).pixels

    rows, columns = np.nonzero(shown[..., 1] > 128)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 2
    assert abs(np.ptp(rows) - 15) <= 2  # 64 pixels of 2:1 fill the width, so all is halved
    assert (reader.summary.width, reader.summary.height) == (64, 64)
    assert reader.summary.crop_rectangle == (0, -32, 64, 128)


@pytest.mark.parametrize("name", ["v.mkv", "v.mp4", "v.ts", "v.webm", "v.wmv", "v.nut", "v.flv"])
def test_a_film_that_begins_late_lasts_as_long_as_it_shows(tmp_path, name):
    codec = {"webm": "libvpx-vp9", "wmv": "wmv2"}.get(
        name[2:], "mpeg4" if name != "v.flv" else "flv"
    )
    times = [LATE + number / 25 for number in range(50)]
    frames = np.zeros((50, 48, 64, 3), np.uint8)
    path = write_video(tmp_path / name, frames, codec=codec, times_seconds=times)

    def read(**span):
        settings = ReaderSettings(
            sampling=Sampling("fps", "5"), preprocessing=preprocessing("crop", (48, 48))
        )
        reader = FrameReader(path, settings, **span)
        return [frame.pts_seconds for frame in reader], reader.summary.duration_seconds

    seconds, duration = read()
    assert len(seconds) == 10
    assert duration == pytest.approx(2, abs=0.15)
    with pytest.raises(DecodeError, match=r"the video lasts (2\.|1\.9)") as caught:
        read(start_seconds=2.5)
    assert caught.value.reason == "empty span"


@pytest.mark.parametrize("name", ["v.ts", "v.mkv", "v.flv", "v.webm"])
def test_a_recording_that_begins_within_a_group_of_pictures_is_whole(tmp_path, name):
    """Its first frames cannot be decoded; it was not cut off at its end."""
    codec = "libvpx-vp9" if name == "v.webm" else "libx264"
    frames = np.random.default_rng(0).integers(0, 255, (100, 48, 64, 3), dtype=np.uint8)
    whole = write_video(
        tmp_path / f"whole{name[1:]}", frames, codec=codec, options={"g": "40", "bf": "0"}
    )
    with av.open(str(whole)) as source, av.open(str(tmp_path / name), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(source.streams.video[0])):
            if number >= 10 and packet.dts is not None:
                packet.stream = stream
                target.mux(packet)

    settings = ReaderSettings(
        sampling=Sampling("stride", "1"), preprocessing=preprocessing("crop", (48, 48))
    )
    kept = list(FrameReader(tmp_path / name, settings))
    assert len(kept) >= 60
