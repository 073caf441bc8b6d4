"""Views: which pixels they show, from one decoding, and that a flip is the mirrored video."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.decode.pool import DecodePool, DecodeSettings, DecodeTask, Frames
from extract.video.geometry import Orientation, arrange, place_frame
from extract.video.pictures import PictureStack
from extract.video.reader import FrameReader
from features_store.errors import UsageError
from features_store.spec import Preprocessing, Sampling
from features_store.store import Store
from features_store.verbs.verify import verify_store
from features_store.views import CORNERS, VIEWS, choose_views, rectangle_of
from tests.clips import write_classes
from tests.synthetic import moving_square, write_video

SIDE = 64  # to which tiny:conv scales the shorter one, so that nothing is scaled
EVERY_FRAME = Sampling("stride", "1")
TINY = ("--backbone", "tiny:conv", "--stride", 2)
BOTH = ("--view", "center", "--view", "flip")


def preprocessing(*, input_size=(32, 40), resize_size=48, fit="crop"):
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


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A lossless clip that is not scaled, and its frames."""
    frames = moving_square(7, step=(3, 1))
    path = tmp_path_factory.mktemp("clips") / "v.mkv"
    return write_video(path, frames, codec="ffv1", pixel_format="bgr0"), frames


def test_views_come_in_one_order_and_center_is_what_nobody_names():
    assert choose_views([], fit="pad") == ("center",)
    assert choose_views(["bottom_left", "flip", "top_right"], fit="crop") == (
        "flip",
        "top_right",
        "bottom_left",
    )


@pytest.mark.parametrize(
    ("names", "fit", "words"),
    [
        (["flop"], "crop", "no view 'flop'.*flip"),
        (["flip", "flip"], "crop", "view 'flip' is asked for twice"),
        (["top_left"], "stretch", "'top_left' is a corner.*with `fit` stretch"),
        (["flip", "bottom_right"], "pad", "'bottom_right' is a corner.*with `fit` pad"),
    ],
)
def test_views_that_cannot_be_are_refused(names, fit, words):
    with pytest.raises(UsageError, match=words):
        choose_views(names, fit=fit)


def test_each_view_shows_its_pixels(clip):
    path, frames = clip
    stack = PictureStack(VIEWS)

    settings = DecodeSettings(sampling=EVERY_FRAME, preprocessing=preprocessing(), stack=stack)
    read = list(FrameReader(path, settings))

    stacks = np.stack([frame.pixels for frame in read])
    shown = {view: stack.view(stacks, view) for view in VIEWS}
    np.testing.assert_array_equal(shown["center"], frames[:, 8:40, 12:52])
    np.testing.assert_array_equal(shown["flip"], frames[:, 8:40, 12:52][:, :, ::-1])
    np.testing.assert_array_equal(shown["top_left"], frames[:, :32, :40])
    np.testing.assert_array_equal(shown["top_right"], frames[:, :32, -40:])
    np.testing.assert_array_equal(shown["bottom_left"], frames[:, -32:, :40])
    np.testing.assert_array_equal(shown["bottom_right"], frames[:, -32:, -40:])
    assert stack.num_pictures == 5, "a mirrored picture does not travel"


def test_the_frame_before_travels_with_its_frame(clip):
    path, frames = clip
    sampling = Sampling.parse(count=3)
    stack = PictureStack.of(sampling, ("flip", "top_left"))
    task = DecodeTask(0, str(path))

    settings = DecodeSettings(sampling=sampling, preprocessing=preprocessing(), stack=stack)
    with DecodePool(settings) as pool:
        *events, _ = pool.decode([task])

    stacks = np.concatenate([event.pixels for event in events if isinstance(event, Frames)])
    mirrored = frames[:, 8:40, 12:52][:, :, ::-1]
    np.testing.assert_array_equal(stack.view(stacks, "flip"), mirrored[[0, 3, 6]])
    np.testing.assert_array_equal(stack.previous(stacks, "flip"), mirrored[[0, 2, 5]])
    np.testing.assert_array_equal(stack.previous(stacks, "top_left"), frames[[0, 2, 5], :32, :40])


@given(
    st.integers(60, 300), st.integers(60, 300), st.integers(0, 3), st.booleans(),
    st.sampled_from(CORNERS),
)  # fmt: skip
def test_the_rectangle_of_a_corner_is_where_its_pixels_are(width, height, turns, mirror, corner):
    orientation = Orientation(turns, mirror)
    placement = place_frame(width, height, preprocessing=preprocessing(), orientation=orientation)
    scaled_width, scaled_height = placement.scaled_size
    rows, columns = np.mgrid[:scaled_height, :scaled_width]
    coordinates = np.stack([rows // 256, rows % 256, columns % 256], axis=-1).astype(np.uint8)
    whole = coordinates[:, ::-1] if mirror else coordinates
    whole = np.rot90(whole, turns)

    planes = np.moveaxis(coordinates, -1, 0)
    crop = np.stack([arrange(p, placement=placement, crop=corner) for p in planes], axis=-1)

    x, y, shown_width, shown_height = rectangle_of(
        corner, placement.crop_rectangle, width=width, height=height
    )
    x_scale, y_scale = whole.shape[1] / width, whole.shape[0] / height
    left, top = round(x * x_scale), round(y * y_scale)
    np.testing.assert_array_equal(crop, whole[top : top + 32, left : left + 40])
    assert (shown_width * x_scale, shown_height * y_scale) == pytest.approx((40, 32))


def test_the_rectangle_of_a_flip_is_in_the_mirrored_frame():
    assert rectangle_of("flip", (3, 2, 10, 20), width=20, height=24) == (7, 2, 10, 20)


def test_the_flip_of_a_video_is_the_mirrored_video(cubereel, tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (5, SIDE, SIDE + 20, 3), dtype=np.uint8)
    for name, pixels in (("as-it-is", frames), ("mirrored", frames[:, :, ::-1])):
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / "v.mkv", pixels, codec="ffv1", pixel_format="bgr0")
    options = ("--backbone", "tiny:conv", "--precision", "fp32", "--dtype", "float32", *BOTH)

    for name in ("as-it-is", "mirrored"):
        out = tmp_path / f"{name}.cubes"
        assert cubereel("extract", tmp_path / name, "--out", out, *options) == 0

    with Store(tmp_path / "as-it-is.cubes") as one, Store(tmp_path / "mirrored.cubes") as other:
        assert one.header.views == ("center", "flip")
        assert one.header.spec.digest == other.header.spec.digest
        for of_flip, of_center in ((one, other), (other, one)):
            flip = of_flip.cubes("v.mkv", view="flip")
            np.testing.assert_array_equal(flip, of_center.cubes("v.mkv"))
            assert (flip != of_flip.cubes("v.mkv")).any()
            np.testing.assert_array_equal(
                of_flip.read("v.mkv", "diffs/flip"), of_center.read("v.mkv", "diffs/center")
            )


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def store(videos, tmp_path_factory):
    from pipelines.extraction.extract import extract
    from pipelines.extraction.options import ExtractionOptions

    path = tmp_path_factory.mktemp("stores") / "s.cubes"
    extract(
        videos,
        out=path,
        options=ExtractionOptions(
            backbone="tiny:conv", stride=2, views=["top_left", "flip", "center"]
        ),
    )
    return path


def test_other_views_change_no_number_of_the_center(cubereel, videos, store, tmp_path):
    alone, cut = tmp_path / "alone.cubes", tmp_path / "cut.cubes"

    assert cubereel("extract", videos, "--out", alone, *TINY) == 0
    assert cubereel("store", "repack", store, "--out", cut, "--view", "center") == 0
    assert cubereel("store", "diff", alone, cut) == 0
    assert "identical: 8 videos compared" in cubereel.out
    assert verify_store(store, full=True).problems == []
    with Store(cut) as opened:
        assert opened.header.views == ("center",)


def test_a_head_is_trained_and_drawn_on_a_view(cubereel, videos, store, tmp_path):
    run, cut = tmp_path / "run", tmp_path / "flip.cubes"
    quick = ("--head", "soft-attention", "--clip-frames", 4, "--epochs", 2, "--out", run)
    assert cubereel("store", "repack", store, "--out", cut, "--view", "flip") == 0

    assert cubereel("train", cut, *quick, "--view", "flip") == 0
    checkpoint = run / "checkpoints" / "soft-attention" / "fold0-seed0.json"
    assert cubereel("eval", checkpoint, store) == 0
    both = cubereel.out
    assert cubereel("eval", checkpoint, cut) == 0
    assert cubereel.out == both
    assert cubereel("predict", checkpoint, videos / "dark" / "0.mp4") == 0
    picture = tmp_path / "where.png"
    where = ("--video", "dark/0.mp4", "--out", picture)
    assert cubereel("explain", checkpoint, cut, *where) == 0
    assert picture.stat().st_size > 1000


def test_a_view_that_is_not_stored_is_named(cubereel, store, tmp_path):
    out = ("--head", "mean-pool", "--out", tmp_path / "run")

    assert cubereel("train", store, *out, "--view", "top_right") == 2
    assert "no view 'top_right'" in cubereel.err
    assert "There are: center, flip, top_left" in cubereel.err


def test_a_store_of_other_views_is_not_extended(cubereel, videos, store):
    assert cubereel("extract", videos, "--out", store, *TINY, *BOTH) == 3
    assert "has views ('center', 'flip', 'top_left'), what is to be added has" in cubereel.err


def test_a_corner_of_a_stretched_picture_is_refused(cubereel, videos, tmp_path):
    out = tmp_path / "s.cubes"

    assert cubereel("extract", videos, "--out", out, "--fit", "pad", "--view", "top_left") == 2
    assert "'top_left' is a corner" in cubereel.err
    assert not out.exists()
