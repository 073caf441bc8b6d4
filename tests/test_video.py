from fractions import Fraction

import av
import numpy as np
import pytest

from extract.video.conversion import choose_colours
from extract.video.header import probe
from extract.video.reader import FrameReader
from extract.video.settings import ReaderSettings
from features_store.errors import DecodeError
from features_store.spec import Preprocessing, Sampling
from tests.damage import encoded_picture
from tests.synthetic import (
    BLUE,
    GREEN,
    GREY,
    RED,
    cut_off,
    moving_square,
    numbered_frames,
    read_numbers,
    solid_frames,
    write_audio,
    write_video,
)

EVERY_FRAME = Sampling("stride", "1")


def preprocessing(*, fit="stretch", input_size=(48, 64), interpolation="bilinear"):
    return Preprocessing(
        input_size=input_size,
        resize_size=max(input_size),
        fit=fit,
        interpolation=interpolation,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        pixel_scale=255.0,
        channel_order="rgb",
    )


def read(path, *, sampling=EVERY_FRAME, start=None, end=None, **kwargs):
    """All kept frames at once: pixels, seconds, indices, summary."""
    reader = FrameReader(
        path,
        ReaderSettings(sampling=sampling, preprocessing=preprocessing(**kwargs)),
        start_seconds=start,
        end_seconds=end,
    )
    frames = list(reader)
    pixels = np.stack([frame.pixels for frame in frames])
    seconds = [frame.pts_seconds for frame in frames]
    return pixels, seconds, [frame.frame_index for frame in frames], reader.summary


def noisy_frames(num_frames):
    """Frames that cannot be compressed, so that a share of the bytes is that share of frames."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (num_frames, 48, 64, 3), dtype=np.uint8)


def reason_of(path, **kwargs):
    """The reason and the text of the failure that reading `path` must end with."""
    with pytest.raises(DecodeError) as caught:
        read(path, **kwargs)
    return caught.value.reason, str(caught.value)


def assert_colour(pixels, colour, *, within=6):
    """Codecs and 4:2:0 chroma round; a wrong matrix or range is off by more than 8."""
    middle = pixels[..., 12:-12, 12:-12, :].reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(middle, colour, atol=within)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("v.mp4", "libx264"), ("v.avi", "mpeg4"), ("v.mkv", "ffv1"), ("v.webm", "libvpx-vp9")],
)
def test_every_frame_comes_once_in_order_with_its_time(tmp_path, name, codec):
    path = write_video(tmp_path / name, numbered_frames(30), codec=codec)

    pixels, seconds, indices, summary = read(path)

    assert read_numbers(pixels) == indices == list(range(30))
    np.testing.assert_allclose(seconds, np.arange(30) / 25, atol=5e-4)
    assert (summary.num_frames, summary.width, summary.height) == (30, 64, 48)
    assert summary.fps == pytest.approx(25)
    assert summary.duration_seconds == pytest.approx(1.2, abs=0.05)


def test_colours_survive(tmp_path):
    path = write_video(tmp_path / "v.mp4", solid_frames([RED, GREEN, BLUE, GREY]))

    pixels, *_ = read(path)

    for picture, colour in zip(pixels, [RED, GREEN, BLUE, GREY], strict=True):
        assert_colour(picture, colour)


def test_motion_is_where_it_was_written(tmp_path):
    path = write_video(tmp_path / "v.mp4", moving_square(5, step=(4, 2)))

    pixels, *_ = read(path)

    is_square = pixels[..., 1] > 150
    assert [int(np.argmax(mask.any(axis=0))) for mask in is_square] == [0, 4, 8, 12, 16]
    assert [int(np.argmax(mask.any(axis=1))) for mask in is_square] == [0, 2, 4, 6, 8]


def test_sampling_by_fps_and_by_stride(tmp_path):
    path = write_video(tmp_path / "v.mp4", numbered_frames(26))

    by_fps = read(path, sampling=Sampling("fps", "5"))
    by_stride = read(path, sampling=Sampling("stride", "10"))

    assert read_numbers(by_fps[0]) == by_fps[2] == [0, 5, 10, 15, 20, 25]
    assert read_numbers(by_stride[0]) == by_stride[2] == [0, 10, 20]
    assert by_stride[3].num_frames == 26


def test_a_variable_rate_is_sampled_by_time(tmp_path):
    times = [0.0, 0.04, 0.08, 1.0, 1.04, 1.5, 3.0]
    path = write_video(tmp_path / "v.mkv", numbered_frames(7), times_seconds=times)

    pixels, seconds, indices, _ = read(path, sampling=Sampling("fps", "1"))

    assert read_numbers(pixels) == indices == [0, 3, 6]
    assert seconds == pytest.approx([0.0, 1.0, 3.0])


@pytest.mark.parametrize(
    ("codec", "pixel_format", "size"),
    [
        pytest.param("ffv1", "yuv420p10le", (64, 48), id="10 bit"),
        pytest.param("ffv1", "yuva420p", (64, 48), id="with alpha"),
        pytest.param("ffv1", "yuv444p", (63, 47), id="odd sizes"),
        pytest.param("ffv1", "bgr0", (64, 48), id="rgb"),
        pytest.param("mjpeg", "yuvj420p", (64, 48), id="full range by format"),
    ],
)
def test_pixel_formats_give_the_same_colours(tmp_path, codec, pixel_format, size):
    frames = solid_frames([RED, BLUE], width=size[0], height=size[1])
    colour_range = "jpeg" if pixel_format.startswith("yuvj") else "mpeg"
    path = write_video(
        tmp_path / "v.mkv",
        frames,
        codec=codec,
        pixel_format=pixel_format,
        colour_range=colour_range,
    )

    pixels, _, _, summary = read(path)

    assert (summary.width, summary.height) == size
    assert_colour(pixels[0], RED)
    assert_colour(pixels[1], BLUE)


def test_grey_pictures_keep_their_brightness(tmp_path):
    frames = solid_frames([(40, 40, 40), (220, 220, 220)])
    path = write_video(tmp_path / "v.mkv", frames, codec="ffv1", pixel_format="gray")

    pixels, _, _, summary = read(path)

    assert_colour(pixels[0], (40, 40, 40), within=2)
    assert_colour(pixels[1], (220, 220, 220), within=2)
    assert summary.colour_matrix == "grey"


@pytest.mark.parametrize("colour_matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("colour_range", ["mpeg", "jpeg"])
def test_the_matrix_and_range_of_the_frame_are_used(tmp_path, colour_matrix, colour_range):
    path = write_video(
        tmp_path / "v.mkv",
        solid_frames([RED, (40, 180, 90)]),
        codec="ffv1",
        pixel_format="yuv444p",
        colour_matrix=colour_matrix,
        colour_range=colour_range,
        is_tagged=True,
    )

    pixels, _, _, summary = read(path)

    assert (summary.colour_matrix, summary.colour_range) == (colour_matrix, colour_range)
    assert_colour(pixels[0], RED, within=2)
    assert_colour(pixels[1], (40, 180, 90), within=2)


@pytest.mark.parametrize(
    ("height", "colorspace", "color_range", "expected"),
    [
        pytest.param(719, 2, 0, ("bt601", "mpeg"), id="small and silent"),
        pytest.param(720, 2, 0, ("bt709", "mpeg"), id="large and silent"),
        pytest.param(720, 5, 1, ("bt601", "mpeg"), id="the frame's own wins"),
        pytest.param(240, 1, 2, ("bt709", "jpeg"), id="and its range"),
        pytest.param(2160, 9, 1, ("bt2020", "mpeg"), id="ultra high definition"),
    ],
)
def test_colours_of_a_silent_frame_follow_its_height(height, colorspace, color_range, expected):
    colours = choose_colours(
        "yuv420p", colorspace=colorspace, color_range=color_range, height=height
    )

    assert (colours.matrix_name, colours.range_name) == expected


def four_corners():
    """Red top left, green top right, blue bottom left, grey bottom right."""
    frame = np.empty((48, 64, 3), np.uint8)
    frame[:24, :32], frame[:24, 32:], frame[24:, :32], frame[24:, 32:] = RED, GREEN, BLUE, GREY
    return frame[None].repeat(3, axis=0)


@pytest.mark.parametrize(
    ("rotation", "is_mirrored", "corners"),
    [
        pytest.param(0, False, (RED, GREEN, BLUE, GREY), id="upright"),
        pytest.param(90, False, (GREEN, GREY, RED, BLUE), id="counter-clockwise"),
        pytest.param(-90, False, (BLUE, RED, GREY, GREEN), id="clockwise, as phones do"),
        pytest.param(180, False, (GREY, BLUE, GREEN, RED), id="upside down"),
        pytest.param(0, True, (GREEN, RED, GREY, BLUE), id="mirrored"),
    ],
)
def test_frames_are_shown_the_right_way_up(tmp_path, rotation, is_mirrored, corners):
    path = write_video(
        tmp_path / "v.mp4", four_corners(), rotation=rotation, is_mirrored=is_mirrored
    )

    pixels, _, _, summary = read(path, input_size=(64, 64))

    assert (summary.width, summary.height) == ((48, 64) if rotation in (90, -90) else (64, 48))
    assert summary.rotation == rotation % 360
    seen = [pixels[1, y, x] for y in (16, 48) for x in (16, 48)]
    np.testing.assert_allclose(np.array(seen, int), np.array(corners), atol=8)


def test_a_crop_shows_the_middle_and_says_so(tmp_path):
    frames = solid_frames([BLUE] * 2, width=96)
    frames[:, :, 24:72] = RED
    path = write_video(tmp_path / "v.mp4", frames)

    pixels, _, _, summary = read(path, fit="crop", input_size=(48, 48))

    assert summary.crop_rectangle == (24, 0, 48, 48)
    assert_colour(pixels, RED, within=8)


def test_padding_is_black(tmp_path):
    path = write_video(tmp_path / "v.mp4", solid_frames([RED] * 2))

    pixels, _, _, summary = read(path, fit="pad", input_size=(64, 64))

    assert summary.crop_rectangle == (0, -8, 64, 64)
    assert not pixels[:, :8].any()
    assert not pixels[:, -8:].any()
    assert_colour(pixels[:, 8:-8], RED)


def test_bicubic_is_not_bilinear(tmp_path):
    path = write_video(tmp_path / "v.mp4", moving_square(1))

    bilinear = read(path, input_size=(30, 50))[0]
    bicubic = read(path, input_size=(30, 50), interpolation="bicubic")[0]

    assert (bilinear != bicubic).any()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("v.mp4", {"g": "10", "bf": "2"}, id="closed groups with B-frames"),
        pytest.param(
            "v.mkv", {"g": "10", "bf": "2", "x264-params": "open-gop=1"}, id="open groups"
        ),
        pytest.param("v.ts", {"g": "10", "bf": "2"}, id="a clock that does not begin at 0"),
        pytest.param("v.mp4", {"g": "1000"}, id="one keyframe"),
    ],
)
@pytest.mark.parametrize("start", [0.0, 0.4, 0.44, 1.0, 1.96])
def test_a_span_holds_the_same_frames_as_the_whole(tmp_path, name, options, start):
    options = {"preset": "medium"} | options
    path = write_video(tmp_path / name, numbered_frames(50), options=options)
    whole, seconds, _, _ = read(path)

    pixels, span_seconds, indices, summary = read(path, start=start, end=start + 0.6)

    first, stop = round(25 * start), min(50, round(25 * (start + 0.6)))
    assert indices == list(range(first, stop))
    assert span_seconds == seconds[first:stop]
    assert summary.num_frames == stop - first
    np.testing.assert_array_equal(pixels, whole[first:stop])


def test_sampling_begins_anew_in_a_span(tmp_path):
    path = write_video(tmp_path / "v.mp4", numbered_frames(50))

    _, _, indices, _ = read(path, sampling=Sampling("stride", "10"), start=0.28, end=1.2)

    assert indices == [7, 17, 27]


def test_the_frames_before_a_span_are_not_decoded(tmp_path):
    path = write_video(tmp_path / "v.mp4", numbered_frames(100), options={"g": "10"})
    data = bytearray(path.read_bytes())
    data[200:400] = bytes(200)  # in the first group of pictures
    path.write_bytes(data)

    assert read(path, start=3.0)[2] == list(range(75, 100))


@pytest.mark.parametrize(
    "span", [(2.0, 3.0), (5.0, None), (0.5, 0.5), (0.41, 0.42)], ids=lambda span: f"{span}"
)
def test_an_empty_span_names_the_duration(tmp_path, span):
    path = write_video(tmp_path / "v.mp4", numbered_frames(25))

    reason, message = reason_of(path, start=span[0], end=span[1])

    assert reason == "empty span"
    assert "the video lasts 1.00 s" in message


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.mp4", "libx264", {"x264-params": "tff=1"}),
        ("v.ts", "mpeg2video", {"flags": "+ildct+ilme", "b": "4M"}),
    ],
)
def test_an_interlaced_frame_is_one_frame_as_it_is(tmp_path, name, codec, options):
    frames = numbered_frames(12)
    frames[:, 1::2] = 255 - frames[:, 1::2]  # the other field shows something else
    path = write_video(tmp_path / name, frames, codec=codec, options=options)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame

    pixels, seconds, indices, _ = read(path)

    assert indices == list(range(12))
    np.testing.assert_allclose(np.diff(seconds), 1 / 25, atol=1e-4)
    assert read_numbers(pixels) == indices  # read from one line of the first field
    others = 255 - pixels[:, pixels.shape[1] // 2 + 1 :][:, :1].repeat(2, axis=1)
    assert read_numbers(others) == indices


def test_audio_before_video_does_no_harm(tmp_path):
    path = write_video(tmp_path / "v.mkv", numbered_frames(10), audio_seconds=3.0)

    assert read(path)[2] == list(range(10))


def test_of_several_video_streams_the_best_is_read(tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream, side in zip(streams, (32, 64), strict=True):
            stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        for stream in streams:
            frames = solid_frames([RED] * 3, width=stream.width, height=stream.height)
            for pts, pixels in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = pts, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        best = container.streams.best("video").codec_context.width

    _, _, indices, summary = read(path)

    assert indices == [0, 1, 2]
    assert summary.width == best


def test_missing_timestamps_are_counted_from_the_rate(tmp_path):
    path = write_video(tmp_path / "v.h264", numbered_frames(10))  # a bare stream has none
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).pts is None

    pixels, seconds, indices, summary = read(path)

    assert read_numbers(pixels) == indices == list(range(10))
    assert seconds == pytest.approx(np.arange(10) / 25)
    assert summary.duration_seconds == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("name", "codec", "container_options"),
    [
        pytest.param("v.mp4", "libx264", {"movflags": "faststart"}, id="index in front"),
        pytest.param("v.mkv", "libx264", {}, id="no frame count"),
        pytest.param("v.avi", "mpeg4", {}, id="index at the end"),
        pytest.param("v.webm", "libvpx-vp9", {}, id="vp9"),
    ],
)
def test_a_file_cut_in_the_middle_is_truncated(tmp_path, name, codec, container_options):
    path = write_video(
        tmp_path / name, noisy_frames(50), codec=codec, container_options=container_options
    )
    assert read(path)[3].num_frames == 50

    reason, message = reason_of(cut_off(path, keep=0.6))

    assert reason == "truncated"
    assert "of 50 frames" in message or "of 2.00 s" in message


def test_a_file_that_lost_its_last_frame_is_not_refused(tmp_path):
    path = write_video(tmp_path / "v.mp4", numbered_frames(50))
    data = path.read_bytes()
    with av.open(str(path)) as container:
        count = container.streams.video[0].frames
    # The sample table says 51, as recorders that stop abruptly do.
    at = data.index(b"stts") + 12
    assert data[at : at + 4] == count.to_bytes(4, "big")
    path.write_bytes(data[:at] + (count + 1).to_bytes(4, "big") + data[at + 4 :])

    assert read(path)[3].num_frames == 50


def test_an_mp4_without_its_index_is_truncated(tmp_path):
    path = write_video(tmp_path / "v.mp4", numbered_frames(50))

    reason, message = reason_of(cut_off(path, keep=0.5))

    assert reason == "truncated"
    assert "moov" in message


def test_frames_before_the_cut_are_delivered(tmp_path):
    path = write_video(
        tmp_path / "v.mp4", noisy_frames(50), container_options={"movflags": "faststart"}
    )
    frames = FrameReader(
        cut_off(path, keep=0.6),
        ReaderSettings(sampling=EVERY_FRAME, preprocessing=preprocessing()),
    )
    indices = []

    def collect():
        for frame in frames:
            indices.append(frame.frame_index)

    with pytest.raises(DecodeError, match=r"decoded \d+ of 50 frames"):
        collect()
    assert indices == list(range(len(indices)))
    assert 20 < len(indices) < 40


@pytest.mark.parametrize(
    ("name", "codec"), [("v.avi", "mpeg4"), ("v.webm", "libvpx-vp9"), ("v.mp4", "libx264")]
)
def test_damage_in_the_middle_is_corruption(tmp_path, name, codec):
    path = write_video(tmp_path / name, noisy_frames(30), codec=codec)
    with av.open(str(path)) as container:
        position = [packet.pos for packet in container.demux(video=0) if packet.size][15]
    data = bytearray(path.read_bytes())
    data[position + 10 : position + 60] = bytes(50)
    path.write_bytes(data)

    reason, message = reason_of(path)

    assert reason == "corrupt"
    assert "after 15 frames" in message


def test_frames_that_change_size_are_refused(tmp_path):
    first = write_video(tmp_path / "a.h264", numbered_frames(5))
    second = write_video(tmp_path / "b.h264", numbered_frames(5, width=96))
    path = tmp_path / "v.h264"
    path.write_bytes(first.read_bytes() + second.read_bytes())

    reason, message = reason_of(path)

    assert reason == "size changed"
    assert "from 64x48 to 96x48" in message


def test_absurd_sizes_are_refused_before_decoding(tmp_path):
    path = write_video(
        tmp_path / "v.mkv", solid_frames([GREY], width=17000, height=2), codec="ffv1"
    )

    assert reason_of(path) == (
        "size limit",
        f"{str(path)!r} has frames of 17000x2; at most 16384 a side are decoded",
    )


def test_a_thin_frame_is_not_blown_up(tmp_path):
    path = write_video(tmp_path / "v.mkv", solid_frames([GREY], width=4000, height=2), codec="ffv1")

    assert reason_of(path, fit="crop")[0] == "size limit"


@pytest.mark.parametrize("codec", ["png", "mjpeg", "bmp"])
def test_a_picture_is_no_video_whatever_its_name(tmp_path, codec):
    path = tmp_path / "v.avi"
    path.write_bytes(encoded_picture(codec, pixels=solid_frames([GREY])[0]))

    reason, message = reason_of(path)

    assert reason == "not a video"
    assert "it is a still picture" in message


def test_a_codec_without_a_decoder_is_named_so(tmp_path):
    path = write_video(tmp_path / "v.mkv", numbered_frames(5), codec="ffv1")
    path.write_bytes(path.read_bytes().replace(b"V_FFV1", b"V_NONE"))

    assert reason_of(path)[0] == "unknown codec"
    with pytest.raises(DecodeError, match="FFmpeg has no decoder"):
        probe(path)


def test_side_data_that_pyav_does_not_know_is_no_obstacle(tmp_path):
    """Cameras write EXIF into every picture of a Motion JPEG video."""
    path = write_video(
        tmp_path / "v.avi", solid_frames([RED]), codec="mjpeg", pixel_format="yuvj420p"
    )
    with av.open(str(path)) as container:
        (jpeg,) = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    tiff = b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\x04\0\0\0Cam\0\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    marked = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for i in range(3):
            packet = av.Packet(marked)
            packet.pts = packet.dts = i
            packet.time_base, packet.stream = Fraction(1, 25), stream
            container.mux(packet)

    assert read(path)[3].num_frames == 3


def test_audio_alone_has_no_video_stream(tmp_path):
    path = write_audio(tmp_path / "v.mp4")

    reason, message = reason_of(path)

    assert reason == "no video stream"
    assert "(streams: audio aac)" in message


@pytest.mark.parametrize("content", [b"", b"hello " * 100, bytes(5000)], ids=["empty", "text", "0"])
def test_other_files_are_not_videos(tmp_path, content):
    path = tmp_path / "v.mp4"
    path.write_bytes(content)

    assert reason_of(path)[0] == "not a video"


def test_what_cannot_be_opened_is_unreadable(tmp_path):
    assert reason_of(tmp_path / "none.mp4") == (
        "unreadable",
        f"cannot open {str(tmp_path / 'none.mp4')!r}: No such file or directory",
    )
    assert reason_of(tmp_path) == ("not a video", f"{str(tmp_path)!r} is a folder, not a video")


def test_a_named_pipe_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "v.mp4")

    assert reason_of(tmp_path / "v.mp4")[0] == "unreadable"
    assert "not a regular file" in reason_of(tmp_path / "v.mp4")[1]


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
    "hls with a scheme": (
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:{target}\n#EXT-X-ENDLIST\n"
    ),
    "concat": "ffconcat version 1.0\nfile {name}\n",
}


@pytest.mark.parametrize("text", PLAYLISTS.values(), ids=PLAYLISTS)
def test_a_playlist_cannot_reach_another_file(tmp_path, text):
    target = write_video(tmp_path / "secret.ts", numbered_frames(10))
    path = tmp_path / "v.mp4"
    path.write_text(text.format(target=target, name=target.name))
    assert read(target)[3].num_frames == 10

    assert reason_of(path)[0] == "not a video"


def test_probing_reads_the_header(tmp_path):
    path = write_video(tmp_path / "v.mp4", numbered_frames(50))

    header = probe(path)

    assert (header.width, header.height, header.num_frames, header.codec) == (64, 48, 50, "h264")
    assert (header.fps, header.duration_seconds) == (25.0, 2.0)


def test_probing_fails_like_reading(tmp_path):
    with pytest.raises(DecodeError, match="no video stream"):
        probe(write_audio(tmp_path / "v.m4a"))


def test_frames_come_while_the_file_is_being_read(tmp_path):
    path = write_video(tmp_path / "v.mp4", numbered_frames(100))
    num_packets = 0

    def count():
        nonlocal num_packets
        num_packets += 1

    frames = iter(
        FrameReader(
            path,
            ReaderSettings(sampling=EVERY_FRAME, preprocessing=preprocessing()),
            on_packet=count,
        )
    )
    next(frames)

    assert num_packets < 10
    frames.close()


def test_a_trimmed_mp4_shows_what_its_edit_list_leaves(tmp_path):
    path = write_video(
        tmp_path / "v.mp4",
        numbered_frames(50),
        times_seconds=[(index - 20) / 25 for index in range(50)],
        container_options={"avoid_negative_ts": "disabled"},
    )
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 50

    pixels, seconds, indices, _ = read(path)

    assert read_numbers(pixels) == list(range(20, 50))
    assert indices == list(range(30))
    assert seconds[0] == 0.0


def test_an_avi_that_skips_moments_is_whole(tmp_path):
    path = write_video(
        tmp_path / "v.avi",
        numbered_frames(10),
        codec="mpeg4",
        times_seconds=[0.04 * index for index in range(10)],  # of a clock of milliseconds
    )
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 400

    pixels, seconds, _, _ = read(path)
    header = probe(path)

    assert read_numbers(pixels) == list(range(10))
    assert seconds == pytest.approx(0.04 * np.arange(10))
    assert (header.num_frames, header.rate, header.is_even) == (10, 25, True)
