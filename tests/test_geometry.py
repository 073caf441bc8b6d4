from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torchvision.transforms.functional import center_crop, resize

from extract.video.geometry import Orientation, arrange, place_frame, read_orientation
from features_store.errors import UsageError
from features_store.spec import Preprocessing


def preprocessing(*, fit="crop", input_size=(224, 224), resize_size=256):
    return Preprocessing(
        input_size=input_size,
        resize_size=resize_size,
        fit=fit,
        interpolation="bilinear",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        pixel_scale=255.0,
        channel_order="rgb",
    )


@pytest.mark.parametrize(
    ("size", "fit", "scaled", "offset", "rectangle"),
    [
        pytest.param(
            (256, 256), "crop", (256, 256), (16, 16), (16, 16, 224, 224), id="already resized"
        ),
        pytest.param(
            (512, 256), "crop", (512, 256), (144, 16), (144, 16, 224, 224), id="a wide frame"
        ),
        pytest.param(
            (256, 512), "crop", (256, 512), (16, 144), (16, 144, 224, 224), id="a tall frame"
        ),
        pytest.param(
            (128, 128), "crop", (256, 256), (16, 16), (8, 8, 112, 112), id="a small frame grows"
        ),
        pytest.param(
            (320, 240),
            "crop",
            (341, 256),
            (58, 16),
            (58 * 320 / 341, 15, 224 * 320 / 341, 210),
            id="the longer side is cut to a whole number",
        ),
        pytest.param(
            (100, 50), "stretch", (224, 224), (0, 0), (0, 0, 100, 50), id="stretch sees everything"
        ),
        pytest.param(
            (448, 224), "pad", (224, 112), (0, -56), (0, -112, 448, 448), id="pad above and below"
        ),
        pytest.param(
            (56, 112), "pad", (112, 224), (-56, 0), (-28, 0, 112, 112), id="pad left and right"
        ),
    ],
)
def test_the_placements_of_the_table(size, fit, scaled, offset, rectangle):
    placement = place_frame(*size, preprocessing=preprocessing(fit=fit))

    assert placement.scaled_size == scaled
    assert placement.offset == offset
    assert placement.crop_rectangle == pytest.approx(rectangle)


sides = st.integers(1, 4000)
input_sizes = st.tuples(st.integers(8, 300), st.integers(8, 300))


@settings(max_examples=200)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(224, 300))
@example(301, 256, 256)
def test_crop_is_torchvisions_to_the_pixel(width, height, resize_size):
    placement = place_frame(width, height, preprocessing=preprocessing(resize_size=resize_size))
    if max(placement.scaled_size) > 3000:
        return
    theirs = resize(torch.zeros(1, height, width), [resize_size], antialias=False)
    columns = torch.arange(theirs.shape[2]).expand(1, theirs.shape[1], -1)
    rows = torch.arange(theirs.shape[1])[None, :, None].expand_as(columns)

    assert placement.scaled_size == (theirs.shape[2], theirs.shape[1])
    left, top = center_crop(columns, [224, 224])[0, 0, 0], center_crop(rows, [224, 224])[0, 0, 0]
    assert placement.offset == (int(left), int(top))


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize(
    ("size", "aspect", "square"),
    [
        ((720, 576), Fraction(16, 11), (7200 * 16 // 11, 5760)),
        ((320, 240), Fraction(1, 2), (160, 240)),
    ],
)
def test_pixels_that_are_not_square_are_made_so(fit, size, aspect, square):
    """What is seen is what is seen of the same picture with square pixels."""
    wide = place_frame(*size, preprocessing=preprocessing(fit=fit), pixel_aspect=aspect)
    alike = place_frame(*square, preprocessing=preprocessing(fit=fit))

    assert np.abs(np.subtract(wide.scaled_size, alike.scaled_size)).max() <= 1
    share = np.divide(wide.crop_rectangle, (*size, *size))
    assert share == pytest.approx(np.divide(alike.crop_rectangle, (*square, *square)), abs=0.01)


@given(sides, sides, st.sampled_from(["crop", "stretch", "pad"]), input_sizes)
def test_the_rectangle_is_the_input_seen_from_the_source(width, height, fit, input_size):
    placement = place_frame(
        width,
        height,
        preprocessing=preprocessing(fit=fit, input_size=input_size, resize_size=max(input_size)),
    )
    x, y, shown_width, shown_height = placement.crop_rectangle

    # The centre stays the centre, to within the rounding of half a scaled pixel.
    assert abs(x + shown_width / 2 - width / 2) <= width / placement.scaled_size[0]
    assert abs(y + shown_height / 2 - height / 2) <= height / placement.scaled_size[1]
    if fit == "crop":
        assert min(x, y) >= 0
        assert x + shown_width <= width * (1 + 1e-9)
        assert y + shown_height <= height * (1 + 1e-9)
    elif fit == "pad":
        assert max(x, y) <= 0
        assert shown_width >= width * (1 - 1e-9)
        assert shown_height >= height * (1 - 1e-9)
    else:
        assert (x, y, shown_width, shown_height) == pytest.approx((0, 0, width, height))


@given(sides, sides, st.sampled_from(["crop", "stretch", "pad"]), input_sizes, st.integers(0, 3))
@example(width=1, height=1, fit="pad", input_size=(8, 9), turns=0)  # half a pixel to pad
def test_every_scaled_picture_becomes_exactly_the_input(width, height, fit, input_size, turns):
    placement = place_frame(
        min(width, 8 * height),
        min(height, 8 * width),
        preprocessing=preprocessing(fit=fit, input_size=input_size, resize_size=max(input_size)),
        orientation=Orientation(turns),
    )
    scaled_width, scaled_height = placement.scaled_size
    pixels = np.ones((scaled_height, scaled_width), dtype=np.uint8)

    result = arrange(pixels, placement=placement)

    assert result.shape == input_size
    if fit != "pad":
        assert result.all()


def test_padding_is_black_and_around_the_picture():
    placement = place_frame(4, 2, preprocessing=preprocessing(fit="pad", input_size=(4, 4)))

    result = arrange(np.full((2, 4), 9, dtype=np.uint8), placement=placement)

    assert result.tolist() == [[0] * 4, [9] * 4, [9] * 4, [0] * 4]


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        pytest.param(Orientation(0), [[1, 2], [3, 4]], id="as decoded"),
        pytest.param(Orientation(1), [[2, 4], [1, 3]], id="a quarter counter-clockwise"),
        pytest.param(Orientation(2), [[4, 3], [2, 1]], id="upside down"),
        pytest.param(Orientation(3), [[3, 1], [4, 2]], id="a quarter clockwise"),
        pytest.param(Orientation(0, True), [[2, 1], [4, 3]], id="mirrored"),
        pytest.param(Orientation(1, True), [[1, 3], [2, 4]], id="mirrored, then turned"),
    ],
)
def test_frames_are_turned_for_display(orientation, expected):
    decoded = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    placement = place_frame(
        2,
        2,
        preprocessing=preprocessing(fit="stretch", input_size=(2, 2)),
        orientation=orientation,
    )

    assert arrange(decoded, placement=placement).tolist() == expected


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("quarter_turns", range(4))
def test_the_display_matrix_of_every_orientation_is_understood(quarter_turns, is_mirrored):
    cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter_turns]
    mirror = -1 if is_mirrored else 1
    one = 65536
    matrix = [mirror * cosine * one, -mirror * sine * one, 0, sine * one, cosine * one, 0, 0, 0, 0]

    assert read_orientation(matrix) == Orientation(quarter_turns, is_mirrored)


def test_a_turned_frame_is_scaled_as_it_was_decoded():
    upright = place_frame(240, 320, preprocessing=preprocessing())
    turned = place_frame(240, 320, preprocessing=preprocessing(), orientation=Orientation(1))

    assert turned.scaled_size == upright.scaled_size[::-1]
    assert turned.crop_rectangle == upright.crop_rectangle


def test_a_resize_below_the_input_is_refused():
    with pytest.raises(UsageError, match=r"resize size 200 is below the input size \(224, 224\)"):
        place_frame(320, 240, preprocessing=preprocessing(resize_size=200))
