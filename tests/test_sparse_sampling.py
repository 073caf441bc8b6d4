"""Extraction by `--count` and `--segments`: real files, and draws through every verb of a store."""

import json
import os
import shutil
import struct
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from extract.compute.preprocess import thumbnails
from extract.video.pictures import PictureStack
from extract.video.reader import FrameReader
from extract.video.settings import ReaderSettings
from extract.video.spans import find_extent
from features_store.catalogue import Catalogue, write_catalogue
from features_store.errors import DamageError, StoreError
from features_store.format.disk import file_sha256
from features_store.session import StoreSession
from features_store.shards.reader import ShardReader
from features_store.shards.writer import ShardWriter
from features_store.spec import Preprocessing, Sampling
from features_store.store import Store
from features_store.verbs.repair import repair_store
from features_store.verbs.verify import verify_store
from pipelines.training.fitted import Fitted
from tests.clips import write_classes
from tests.stores import SPEC, catalogue_of, commit, frames, header, make_store, relist
from tests.synthetic import moving_square, numbered_frames, read_numbers, write_video
from train.data.clips import Clips
from train.data.windows import WindowPlan
from train.fitting.checkpoint import load_checkpoint

TINY = ("--backbone", "tiny:conv", "--device", "cpu")
DRAWN = (*TINY, "--segments", 3, "--jitter", 2, "--seed", 5)
SAMPLING = Sampling.parse(segments=3, jitter=2, seed=5)


def read(path, sampling, *, start=None, end=None, draw_key="", stack=None):
    """Numbers of the kept frames, their indices, and the reader."""
    preprocessing = Preprocessing(
        (48, 64), 64, "stretch", "bilinear", (0.0,) * 3, (1.0,) * 3, 255.0, "rgb"
    )
    reader = FrameReader(
        path,
        ReaderSettings(
            sampling=sampling, preprocessing=preprocessing, stack=stack or PictureStack()
        ),
        draw_key=draw_key,
        start_seconds=start,
        end_seconds=end,
    )
    kept = list(reader)
    indices = [frame.frame_index for frame in kept]
    return np.stack([frame.pixels for frame in kept]), indices, reader.summary


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.mp4", "libx264", {"bf": "2", "preset": "medium"}),
        ("v.ts", "libx264", {"bf": "2", "preset": "medium"}),
        ("v.avi", "mpeg4", {"bf": "2"}),
        ("v.mkv", "ffv1", {}),
        ("v.webm", "libvpx-vp9", {}),
        ("v.h264", "libx264", {}),  # without any timestamp
    ],
)
def test_containers_agree_where_the_times_are_those_of_frames(tmp_path, name, codec, options):
    path = write_video(tmp_path / name, numbered_frames(36), codec=codec, options=options)

    by_count = read(path, Sampling.parse(count=6))
    by_segments = read(path, Sampling.parse(segments=6))

    assert read_numbers(by_count[0]) == by_count[1] == [0, 7, 14, 21, 28, 35]
    assert read_numbers(by_segments[0]) == by_segments[1] == [2, 8, 14, 20, 26, 32]
    assert by_count[2].num_frames == 36
    assert by_count[2].draws == by_segments[2].draws == ()


def test_a_variable_rate_is_sampled_by_time(tmp_path):
    times = [0.0, 0.04, 0.08, 1.0, 1.04, 1.5, 3.0]
    path = write_video(tmp_path / "v.mkv", numbered_frames(7), times_seconds=times)

    assert read(path, Sampling.parse(count=4))[1] == [0, 3, 6]  # at 0, 1, 2 and 3 s
    # Frames are half a second apart on average, so the video ends at 3.5 s: at 0.375 and 2.125.
    assert read(path, Sampling.parse(segments=2))[1] == [3, 6]


def test_audio_first_and_long_does_not_stretch_the_video(tmp_path):
    path = write_video(tmp_path / "v.mkv", numbered_frames(11), audio_seconds=5.0)

    assert read(path, Sampling.parse(count=3))[1] == [0, 5, 10]


@pytest.mark.parametrize("duration_times", [10, 0.25])
def test_a_header_that_lies_about_the_duration_is_not_believed(tmp_path, duration_times):
    path = write_video(tmp_path / "v.mp4", numbered_frames(31))
    honest = read(path, Sampling.parse(count=4))[1]
    data = bytearray(path.read_bytes())
    for box in (b"mdhd", b"mvhd"):
        at = data.index(box) + 4 + 4 + 8 + 4  # version and flags, two dates, time scale
        (duration,) = struct.unpack_from(">I", data, at)
        struct.pack_into(">I", data, at, round(duration * duration_times))
    path.write_bytes(data)

    assert read(path, Sampling.parse(count=4))[1] == honest == [0, 10, 20, 30]


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
def test_a_span_is_sampled_as_a_video_of_its_own(tmp_path, name):
    options = {"g": "10", "bf": "2", "preset": "medium"}
    path = write_video(tmp_path / name, numbered_frames(50), options=options)

    assert read(path, Sampling.parse(count=3), start=0.4, end=1.24)[1] == [10, 20, 30]
    assert read(path, Sampling.parse(segments=2), start=1.2)[1] == [34, 44]
    assert find_extent(path, start_seconds=7.0).num_frames == 0


def test_a_missing_end_leaves_no_draw_without_a_frame(tmp_path):
    path = write_video(tmp_path / "v.mkv", numbered_frames(20), codec="ffv1")
    sampling = Sampling.parse(segments=50, jitter=3)

    _, indices, summary = read(path, sampling)

    assert indices == list(range(20))
    assert np.array(summary.draws).shape == (4, 50)
    assert np.diff(summary.draws, axis=1).min() >= 0
    assert summary.draws[0][0] == 0
    assert summary.draws[0][-1] == 19


def test_differences_are_to_the_frame_decoded_before(cubereel, tmp_path):
    pixels = moving_square(9, width=84, height=64, step=(5, 3))
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "v.mkv", pixels, codec="ffv1", pixel_format="bgr0")
    out = tmp_path / "s.cubes"

    assert cubereel("extract", tmp_path / "in", "--out", out, *TINY, "--count", 3) == 0

    small = thumbnails(torch.from_numpy(pixels[:, 4:60, 14:70].copy())).numpy()
    with Store(out) as store:
        assert store.header.spec.diffs.startswith("frame minus previous decoded frame")
        assert store.read("v.mkv", "frame_index").tolist() == [0, 4, 8]
        diffs = store.read("v.mkv", "diffs/center")
    expected = [np.zeros_like(small[0]), small[4] - small[3], small[8] - small[7]]
    np.testing.assert_allclose(diffs, np.stack(expected), atol=1e-3)
    assert np.abs(diffs[1]).max() > 0.1


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("videos"), num_frames=14)


@pytest.fixture(scope="module")
def store(videos, tmp_path_factory):
    from pipelines.extraction.extract import extract
    from pipelines.extraction.options import ExtractionOptions

    path = tmp_path_factory.mktemp("stores") / "s.cubes"
    extract(
        videos,
        out=path,
        options=ExtractionOptions(backbone="tiny:conv", segments=3, jitter=2, seed=5),
    )
    return path


def draws_in(path):
    """Of each video the indices of the drawn frames, read with h5py alone."""
    drawn = {}
    for shard in sorted((path / "shards").glob("*.h5")):
        with h5py.File(shard) as file:
            for video in file["videos"][:]:
                rows = slice(video["offset"], video["offset"] + video["length"])
                if video["id"]:
                    drawn[video["id"].decode()] = file["frame_index"][rows][video["draws"]].tolist()
    return drawn


def test_draws_are_read_with_h5py_alone(store, videos):
    drawn = draws_in(store)

    assert len(drawn) == 8
    for video_id, draws in drawn.items():
        assert np.shape(draws) == (3, 3)
        assert draws[0] == [2, 6, 11]  # of 14 frames at 2.33, 7 and 11.67, less a frame
        key = file_sha256(videos / video_id)
        numbers = read(videos / video_id, SAMPLING, draw_key=key)
        assert sorted({i for draw in draws for i in draw}) == numbers[1]
    assert len({str(draws) for draws in drawn.values()}) > 4, "each video has draws of its own"


def test_any_run_in_any_order_draws_the_same(cubereel, videos, store, tmp_path):
    out, root = tmp_path / "s.cubes", ("--root", videos)
    listed = tmp_path / "some.txt"
    listed.write_text(f"{videos}/bright/3.mp4\n{videos}/dark/1.mp4\n")

    assert cubereel("extract", listed, "--out", out, *DRAWN, *root) == 0
    both = (*DRAWN, *root, "--workers", 2, "--batch-size", 5)
    assert cubereel("extract", videos, "--out", out, *both) == 0
    assert cubereel.out.startswith("8 of 8 videos")
    assert "6 extracted now" in cubereel.out
    assert draws_in(out) == draws_in(store)
    assert cubereel("store", "diff", out, store) == 0
    assert "identical" in cubereel.out


def test_another_seed_is_another_store(cubereel, videos, store):
    other = (*TINY, "--segments", 3, "--jitter", 2, "--seed", 6)

    assert cubereel("extract", videos, "--out", store, *other) == 3
    assert "sampling.seed: 5, not 6" in cubereel.err
    assert cubereel("extract", videos, "--out", store, *TINY, "--fps", 5) == 3
    assert "sampling.jitter: 2, not None" in cubereel.err


def test_draws_go_where_their_videos_go(cubereel, store, tmp_path):
    dark, bright, all_ = (tmp_path / f"{name}.cubes" for name in ("dark", "bright", "all"))
    small, plain, back = (tmp_path / name for name in ("small.cubes", "plain", "back.cubes"))
    drawn = draws_in(store)

    assert cubereel("store", "subset", store, "--out", dark, "--label", "dark") == 0
    assert cubereel("store", "subset", store, "--out", bright, "--label", "bright") == 0
    assert cubereel("store", "merge", bright, dark, "--out", all_) == 0
    assert cubereel("store", "append", dark, bright) == 0
    assert cubereel("store", "repack", all_, "--out", small, "--compact") == 0
    assert cubereel("store", "export", all_, "--out", plain, "--format", "folder") == 0
    assert cubereel("store", "import", plain, "--out", back, "--format", "folder") == 0
    for path in (dark, all_, small, back):
        assert verify_store(path, full=True).problems == []
        assert draws_in(path) == drawn
    assert cubereel("store", "diff", back, store) == 0
    assert "identical" in cubereel.out


def test_repair_keeps_the_draws_of_what_is_sound(store, tmp_path):
    hurt = tmp_path / "hurt.cubes"
    shutil.copytree(store, hurt)
    (shard,) = (hurt / "shards").glob("*.h5")
    with h5py.File(shard, "r+") as file:
        file["cubes/center/top"][0] += 1  # in the first video

    report = repair_store(hurt)

    drawn = draws_in(store)
    assert len(report.lost) == 1
    assert draws_in(hurt) == {i: drawn[i] for i in drawn if i not in report.lost}
    assert verify_store(hurt, full=True).problems == []


def test_a_killed_extraction_keeps_draws(tmp_path):
    drawing = header(spec=replace(SPEC, sampling=SAMPLING))
    draws = ((0, 1, 3), (0, 2, 3), (1, 1, 2))
    rows = frames(4, seed=0, store_header=drawing)
    store = tmp_path / "s.cubes"

    with StoreSession(store, drawing, run_id="killed"):
        pass
    partial = ShardWriter(
        store / "shards" / "killed.0001-1.h5.partial",
        drawing.arrays,
        rows=9,
        videos=2,
        id_bytes=5,
        spec=drawing.spec,
    )
    partial.write_rows(rows)
    commit(partial, "a.mp4", draws=draws, source=drawing.sources[0].id)
    partial.write_rows(rows)  # of b, which is never committed
    partial.close()
    with StoreSession(store, drawing, run_id="next") as writer:
        assert len(writer.salvaged) == 1
        assert writer.find("a.mp4").draws == draws


def test_draws_of_rows_that_are_not_there_are_refused(tmp_path):
    drawing = header(spec=replace(SPEC, sampling=SAMPLING))
    words = "draws of video 'a' name rows that it does not have"

    with pytest.raises(DamageError, match=words):
        make_store(tmp_path / "s", {"a": 4}, store_header=drawing, draws=((0, 1, 4),) * 3)
    (shard,) = (tmp_path / "s" / "shards").glob("*.h5.partial")
    with pytest.raises(DamageError, match=words):
        ShardReader(shard, drawing.arrays, spec=drawing.spec).record(0)


def test_a_table_without_the_draws_that_the_spec_promises_is_refused(store, tmp_path):
    copied = tmp_path / "s.cubes"
    shutil.copytree(store, copied)
    document, listed = json.loads((copied / "store.json").read_text()), catalogue_of(copied)
    wider = Sampling.parse(segments=4, jitter=2, seed=5)
    with Store(copied) as opened:
        spec = replace(opened.header.spec, sampling=wider)
    document |= {"spec": spec.to_json(), "spec_digest": spec.digest}
    (copied / "store.json").write_text(json.dumps(document))
    for shard in (copied / "shards").glob("*.h5"):
        with h5py.File(shard, "r+") as file:
            file.attrs["spec_digest"] = np.bytes_(spec.digest)
    (copied / "index.h5").unlink()
    write_catalogue(copied, Catalogue(spec.digest, listed.entries))
    relist(copied)

    with pytest.raises(StoreError, match="'videos' has other columns"), Store(copied) as opened:
        opened.video("dark/0.mp4")


def test_a_head_is_trained_on_draws(cubereel, videos, store, tmp_path):
    run = tmp_path / "run"
    quick = ("--windows", "draws", "--epochs", 3, "--out", run)

    assert cubereel("train", store, "--head", "soft-attention", *quick) == 0
    checkpoint = run / "checkpoints" / "soft-attention" / "fold0-seed0.json"
    said = []
    for name in ("a.mp4", "elsewhere/b.mp4"):  # the draws are those of the content
        copied = tmp_path / name
        copied.parent.mkdir(exist_ok=True)
        shutil.copy(videos / "dark" / "0.mp4", copied)
        assert cubereel("predict", checkpoint, copied, "--json") == 0
        said.append(json.loads(cubereel.out)["predictions"][0]["probs"])
    assert said[0] == said[1]
    head, description = load_checkpoint(checkpoint)
    with Store(store) as opened:
        stored = Fitted(head, description, opened).probabilities(["dark/0.mp4"], device="cpu")[0]
    assert list(said[0].values()) == pytest.approx(stored, abs=1e-6)
    picture = tmp_path / "where.png"
    where = ("--video", "dark/0.mp4", "--out", picture)
    assert cubereel("explain", checkpoint, store, *where) == 0
    assert picture.stat().st_size > 1000
    assert cubereel("train", store, "--head", "mean-pool", "--out", tmp_path / "even") == 0


def test_clips_of_draws_have_the_drawn_rows(store):
    with Store(store) as opened:
        clips = Clips(opened, opened.ids, windows=WindowPlan("draws"))

        batch = clips.batch(range(3))
        (first, *_), cubes = opened.ids, opened.cubes(opened.ids[0])
        draws = opened.video(first).draws
    assert len(clips) == 3 * 8
    assert batch.mask.all()
    for clip, draw in enumerate(draws):
        np.testing.assert_array_equal(batch.top[clip], cubes[list(draw)].astype(np.float32))


def test_a_store_without_draws_says_so(cubereel, videos, tmp_path):
    store = tmp_path / "s.cubes"
    assert cubereel("extract", videos, "--out", store, *TINY, "--segments", 3) == 0
    with Store(store) as opened:
        assert opened.num_frames_of("dark/0.mp4") == 3

    out = ("--out", tmp_path / "run")
    assert cubereel("train", store, "--head", "mean-pool", "--windows", "draws", *out) == 2
    assert "holds no draws of frames; extract it with --segments and --jitter" in cubereel.err


def test_what_is_no_file_is_refused_and_not_read_for_its_draws(cubereel, tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/pipe.mp4\n/dev/zero\n")

    assert cubereel("extract", tmp_path / "list.txt", "--out", tmp_path / "s.cubes", *DRAWN) == 4
    assert cubereel.out.count("[unreadable]") == 2
