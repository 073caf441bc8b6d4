"""Pictures of where heads look: every map is drawn, frames stay visible, colours say how much."""

from io import BytesIO

import av
import numpy as np
import pytest
import torch
from matplotlib.font_manager import fontManager

from features_store.errors import ContractError, UsageError
from pipelines import lettering
from pipelines.explain.drawing import Drawing, Picture
from pipelines.explain.film import film_bytes
from pipelines.explain.film_page import FilmPage
from pipelines.explain.maps import MAX_PANES, DrawnMap, draw_maps, heads_with_maps
from pipelines.explain.overlay import blend, colour_bar
from pipelines.explain.page import page_of, text_block
from pipelines.explain.picture_file import check_picture, write_picture
from pipelines.explain.scale import scaled
from pipelines.explain.strip import strip_page
from tests.test_heads import VARIANTS, build, clip_alone, clips, stirred, variant_id
from train.heads import head_class, list_heads
from train.heads.map_meanings import MapMeaning

SHARE = MapMeaning("where it looks", "share")
WITH_MAPS = [
    (name, options)
    for name, options in VARIANTS
    if name in heads_with_maps() and "motion" not in options  # which changes no map
]
OF_ALL_KINDS = [
    ("hm-an", {"attend": "layers", "layers": 2, "initial_boundary": 1}),
    ("m2a-head", {}),
    ("pyramid-attention", {}),
]
LUMA = np.array([0.299, 0.587, 0.114])


class GreyFrames:
    """Frames of one grey, at given times; remembers at which size they were asked for."""

    def __init__(self, times, *, shape=(120, 160), crop_share=1.0):
        self.times, self.shape = times, shape
        self.is_cropped = crop_share < 1
        self.asked = []
        self._crop_share = crop_share

    def read(self, chosen, *, shape):
        self.asked.append(shape)
        crop = (0.0, 0.0, self._crop_share * shape[1], float(shape[0]))
        for _ in chosen:
            yield Picture(np.full((*shape, 3), 128, np.uint8), crop)


def drawing(maps, *, times=(4.0, 4.5, 4.6, 7.0), **frames):
    return Drawing("The head says: run", "Head h, video v", GreyFrames(list(times), **frames), maps)


def looks(values, name="spatial"):
    return DrawnMap(name, "where it looks", scaled(np.asarray(values), SHARE))


def texts_of(page):
    return " ".join(text.get_text() for text in page.figure.texts)


def decoded(content):
    with av.open(BytesIO(content)) as container:
        (stream,) = container.streams.video
        frames = list(container.decode(stream))
        return frames, float(stream.duration * stream.time_base)


# --- Every map of every head ---------------------------------------------------------------------


@pytest.mark.parametrize("variant", WITH_MAPS, ids=variant_id)
def test_every_map_that_a_head_returns_is_drawn(variant):
    head, batch = stirred(build(variant, grid=3)), clip_alone(clips(grid=3), 0)
    maps = {name: values.detach() for name, values in head(batch).maps.items()}
    drawn = draw_maps(head, maps, num_frames=5)

    assert {each.name for each in drawn} == set(maps)
    for name, values in maps.items():
        number = sum(each.name == name for each in drawn)
        assert number == (min(values.shape[2], MAX_PANES) if values.ndim == 5 else 1)


@pytest.mark.parametrize("variant", OF_ALL_KINDS, ids=variant_id)
def test_strips_and_films_have_a_caption_and_a_place_for_every_map(variant):
    head, batch = stirred(build(variant, grid=3)), clip_alone(clips(grid=3), 0)
    maps = {name: values.detach() for name, values in head(batch).maps.items()}
    drawn = draw_maps(head, maps, num_frames=5)
    of_clip = drawing(drawn, times=range(5), shape=(12, 16))
    over = [each for each in drawn if each.is_over_frames]
    for page in (strip_page(of_clip), FilmPage(of_clip).page):
        said = texts_of(page)
        for each in drawn:
            assert all(word in said for word in each.caption.split())
        assert len(page.figure.axes) == len(drawn) - len(over)


def test_looks_beyond_the_most_concentrated_are_not_drawn_and_it_is_said():
    bases = torch.full((1, 3, 7, 2, 2), 0.5)
    bases[:, :, [1, 2, 5, 6], 0, 0] = 1.0
    head = build(("pyramid-attention", {}))

    drawn = draw_maps(head, {"bases": bases}, num_frames=3)

    assert [each.words.split(": ")[1] for each in drawn] == [
        f"basis {i} of 7, one of the most concentrated" for i in (2, 3, 6, 7)
    ]


@pytest.mark.parametrize("name", [n for n in list_heads() if not head_class(n).map_meanings])
def test_a_head_without_a_map_is_refused_with_those_that_have_one(name):
    head = build((name, {}))

    with pytest.raises(UsageError, match=f"head '{name}' returns no map") as said:
        draw_maps(head, {}, num_frames=3)
    assert "these do: attentive-probe, hm-an, m2a-head, m2a-tail" in str(said.value)


def test_a_map_of_an_own_head_needs_no_declaration():
    head = build(("mean-pool", {}))

    drawn = draw_maps(head, {"energy": torch.tensor([[-2.0, 0.0, 1.0]])}, num_frames=3)

    assert (drawn[0].words, drawn[0].scaled.low, drawn[0].scaled.high) == ("map 'energy'", -2, 1)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (torch.full((1, 3, 2, 2), torch.nan), "no finite numbers: its fit diverged"),
        (torch.ones(1, 2), "a map that can be drawn is"),
        (torch.ones(1), "a map that can be drawn is"),
    ],
)
def test_a_map_that_cannot_be_drawn_is_named(values, match):
    with pytest.raises(ContractError, match=f"map 'spatial' of head 'mean-pool'.*{match}"):
        draw_maps(build(("mean-pool", {})), {"spatial": values}, num_frames=3)


# --- Colours and their range ---------------------------------------------------------------------


def test_a_frame_is_never_darker_than_half_of_itself():
    rng = np.random.default_rng(0)
    peaked = np.zeros((7, 7))
    peaked[3, 3] = 1
    for picture in (
        rng.integers(0, 256, (70, 90, 3), np.uint8),
        np.full((70, 90, 3), 255, np.uint8),
        np.full((70, 90, 3), (255, 0, 0), np.uint8),
    ):
        for shades in (peaked, np.zeros((7, 7)), np.ones((7, 7)), rng.random((7, 7))):
            mixed = blend(picture, shades, (0, 0, 90, 70))

            assert (mixed @ LUMA >= 0.5 * (picture @ LUMA) - 1).all()


def test_a_face_at_the_peak_keeps_half_of_its_contrast():
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[:, ::2] = 200

    mixed = blend(stripes, np.ones((1, 1)), (0, 0, 40, 40)) @ LUMA

    assert mixed[:, ::2].mean() - mixed[:, 1::2].mean() >= 99.9


def test_what_the_backbone_was_not_shown_has_no_colours():
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)

    mixed = blend(picture, np.ones((3, 3)), (10.2, -4.0, 30.0, 48.0))

    outside = np.r_[0:10, 40:60]
    assert (np.ptp(mixed[:, outside].astype(int), axis=-1) == 0).all()
    assert mixed[:, outside].min() > 150
    assert (np.ptp(mixed[2:-2, 12:38].astype(int), axis=-1) > 0).all()
    edge = mixed[20, 10:12].astype(int)  # half as bright as what it lies on
    np.testing.assert_allclose(
        edge, blend(picture, np.ones((3, 3)), (0, 0, 60, 40))[20, 10:12] / 2, atol=1
    )
    assert "within the outline" in drawing([looks(np.ones((4, 1, 1)))], crop_share=0.5).footnote


def test_attention_that_is_alike_everywhere_looks_so_and_it_is_said():
    found = scaled(np.full((4, 3, 3), 1 / 9), SHARE)

    np.testing.assert_allclose(found.shades, 0.5)
    assert found.said == "all alike, 1 to 1 times the average"


def test_the_range_of_the_colour_bar_is_that_of_the_clip():
    values = np.full((2, 2, 2), 0.1)
    values[1, 0, 0] = 0.9

    found = scaled(values, SHARE)

    assert (found.low, found.high) == (0, pytest.approx(4.5))
    assert found.ticks[0][1] == "4.5×"
    assert found.shades[1, 0, 0] == 1
    bar = colour_bar(50, 4, over_frames=True)
    grey = np.full((4, 4, 3), 128, np.uint8)
    for row, shade in ((bar[0], 1.0), (bar[-1], 0.0)):
        np.testing.assert_array_equal(row, blend(grey, np.full((1, 1), shade), (0, 0, 4, 4))[0])


@pytest.mark.parametrize(
    ("values", "meaning", "ends"),
    [
        ([0.2, 0.4], MapMeaning("", "level"), (0, 1)),
        ([0.2, 1.4], MapMeaning("", "level"), (0, 1.4)),
        ([0.0, 0.0], MapMeaning("", "share"), (0, 1)),
        ([-1.0, 3.0], MapMeaning("", "share"), (-1, 3)),
        ([0.0, 1.0], MapMeaning("", codes=("copy", "update", "flush")), (0, 2)),
        ([0.5, 1.0], MapMeaning("", codes=("copy", "update", "flush")), (0, 1)),
    ],
)
def test_values_are_within_the_colours(values, meaning, ends):
    found = scaled(np.array(values), meaning)

    assert (found.low, found.high) == ends
    assert found.shades.min() >= 0
    assert found.shades.max() <= 1


@pytest.mark.parametrize("over_frames", [True, False])
def test_colours_get_lighter_all_the_way_up(over_frames):
    luma = colour_bar(100, 1, over_frames=over_frames)[:, 0] @ LUMA

    assert (np.diff(luma) <= 0.5).all()


# --- Strips and films ----------------------------------------------------------------------------


def test_a_film_s_frames_stand_at_the_times_of_the_clip_s():
    times = [4.0, 4.5, 4.6, 7.0]

    frames, seconds = decoded(film_bytes(drawing([looks(np.ones((4, 2, 2)))], times=times)))

    np.testing.assert_allclose([frame.time for frame in frames], np.subtract(times, 4), atol=1e-4)
    assert seconds == pytest.approx(3.5, abs=1e-3)  # the last one for the median of 0.5 s


@pytest.mark.parametrize("times", [[2.0], [2.0, 2.0, 3.0]])
def test_a_film_of_one_frame_or_of_one_twice_has_them_all(times):
    maps = [looks(np.ones((len(times), 2, 2)))]

    frames, _ = decoded(film_bytes(drawing(maps, times=times)))

    shown = [frame.time for frame in frames]
    assert len(shown) == len(times)
    assert (np.diff(shown) > 0).all()


@pytest.mark.parametrize("shape", [(120, 160), (1080, 1920), (64, 40), (40, 3000)])
def test_small_clips_are_enlarged_and_large_ones_made_smaller(shape):
    of_clip = drawing([looks(np.ones((4, 2, 2)))], shape=shape)

    film = next(FilmPage(of_clip).frames())
    strip = strip_page(of_clip).pixels()

    (of_film, of_strip) = of_clip.frames.asked
    assert of_film[0] == 480 or of_film[1] == 640
    assert max(of_strip) == 300
    assert film.shape[0] > of_film[0]
    assert film.shape[1] >= 2 * of_film[1]
    assert strip.shape[0] > 2 * of_strip[0]


def test_a_strip_shows_the_frame_of_the_highest_value():
    values = np.full((40, 2, 2), 1e-9)
    values[18, 0, 1] = 1

    of_clip = drawing([looks(values)], times=range(40))

    assert of_clip.shown(6) == [0, 8, 18, 23, 31, 39]
    assert (
        "nearly all of it on 1 of the 160 places in all frames together" in of_clip.maps[0].caption
    )


def test_pictures_say_class_probability_time_and_label():
    of_clip = drawing([looks(np.ones((4, 2, 2)))])
    strip, film = strip_page(of_clip), FilmPage(of_clip)

    pages = list(film.frames())

    assert "4.60 s" in texts_of(strip)
    assert "7.00 s of the video, frame 4 of 4" in texts_of(film.page)
    assert len({page.tobytes() for page in pages}) == 4
    for page in (strip, film.page):
        assert "The head says: run" in texts_of(page)
        assert "Head h, video v" in texts_of(page)


def test_a_strip_under_the_frames_marks_the_frame_that_is_shown():
    counts = DrawnMap("temporal", "how much each frame counts", scaled(np.eye(4)[:, :2], SHARE))

    pages = list(FilmPage(drawing([counts])).frames())

    places = [
        np.median(np.nonzero((page == (0, 255, 255)).all(-1))[1]) for page in map(np.asarray, pages)
    ]
    steps = np.diff(places)
    assert steps.min() > 50
    np.testing.assert_allclose(steps, steps[0], atol=2)


# --- Letters -------------------------------------------------------------------------------------


@pytest.fixture
def only_dejavu(monkeypatch):
    dejavu = [font for font in fontManager.ttflist if font.name == lettering.FAMILY]
    monkeypatch.setattr(fontManager, "ttflist", dejavu)


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("歩く", "\\u6b69\\u304f"),
        ("café ходьба", "café ходьба"),
        ("a\nb\x1b[31m\u202e", "a\\nb\\x1b[31m\\u202e"),
        ("$\\frac", "$\\frac"),
        ("$x_1$ $", "$x_1$ $"),
        ("", ""),
    ],
)
def test_whatever_a_label_is_it_is_drawn_or_spelt_out(label, shown, only_dejavu, caplog):
    page = page_of([text_block(f"The head says: {label}", 900)], 900)
    page.pixels()

    assert shown in texts_of(page)
    assert ("no font of this machine has 歩く" in caplog.text) == (label == "歩く")


@pytest.mark.parametrize(
    "text", ["x" * 300, "W" * 300, "歩" * 300, "a b " * 70], ids=["x", "W", "cjk", "words"]
)
def test_long_ids_are_broken_into_lines_that_fit(text):
    page = page_of([text_block(text, 900, bold=True)], 900)
    page.pixels()

    assert len(page.figure.texts) > 2
    assert all(line.get_window_extent().x1 <= 900 for line in page.figure.texts)


def test_a_very_long_label_is_cut_and_it_says_how_long_it_is():
    page = page_of([text_block("y" * 100_000, 900)], 900)

    assert "(100000 characters)" in texts_of(page)
    assert page.height < 1000


# --- Files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".png"])
def test_a_picture_that_cannot_be_drawn_leaves_the_one_before(tmp_path, suffix):
    out = tmp_path / f"a{suffix}"
    out.write_bytes(b"before")
    of_clip = drawing([looks(np.ones((4, 2, 2)))])

    def broken(chosen, *, shape):
        yield Picture(np.zeros((*shape, 3), np.uint8), (0, 0, *shape))
        raise OSError("the disk of the videos failed")

    of_clip.frames.read = broken
    with pytest.raises(OSError, match="of the videos"):
        write_picture(out, of_clip)

    assert out.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_names_under_which_no_picture_can_be_written_are_refused(tmp_path):
    (tmp_path / "a.png").mkdir()
    (tmp_path / "file").touch()
    for path, match in (
        (tmp_path / "a.gif", "must end in .mp4 or .png, got 'a.gif'"),
        (tmp_path / "a.png", "is a folder; give `out` the name of a file"),
        (tmp_path / "file" / "b.png", "file, not a folder"),
    ):
        with pytest.raises(UsageError, match=match):
            check_picture(path)
