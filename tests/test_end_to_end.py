"""The whole way through the command line, on small real videos."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from extract.backbones import list_sources
from features_store.format.disk import file_sha256
from features_store.store import Store
from tests.clips import write_classes
from tests.small_disks import needs_namespaces, run_in_namespace
from train.data.windows import even_rows

EXTRACT = ("--backbone", "tiny:conv", "--fps", "10")
QUICK = ("--clip-frames", 4, "--epochs", 20, "--device", "cpu")


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
            backbone="tiny:conv", fps="10", licence="CC0", origin="synthetic"
        ),
    )
    return path


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    from pipelines.training.train import train
    from train.fitting.config import TrainConfig

    path = tmp_path_factory.mktemp("runs") / "run"
    config = TrainConfig(clip_frames=4, epochs=20)
    train(store, heads=["mean-pool", "soft-attention"], out=path, config=config)
    return path


def test_extraction_twice_does_nothing_the_second_time(cubereel, videos, tmp_path):
    store = tmp_path / "s.cubes"

    assert cubereel("extract", videos, "--out", store, *EXTRACT) == 0
    assert cubereel.out.startswith("8 of 8 videos")
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    assert cubereel("extract", videos, "--out", store, *EXTRACT, "--json") == 0
    report = json.loads(cubereel.out)
    assert (report["num_done_before"], report["num_extracted"]) == (8, 0)
    after = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    assert {p for p in before if before[p] != after[p]} <= {store / ".lock"}


def test_a_file_of_many_spans_is_hashed_once(cubereel, videos, tmp_path, monkeypatch):
    hashed = []
    monkeypatch.setattr(
        "extract.video.media.file_sha256", lambda path: hashed.append(path) or file_sha256(path)
    )
    video = shutil.copy(videos / "dark" / "0.mp4", tmp_path / "video.mp4")
    spans = [f"video.mp4,{i / 10},{(i + 4) / 10}" for i in range(5)]
    manifest = tmp_path / "spans.csv"
    manifest.write_text("\n".join(["path,start_seconds,end_seconds", *spans]))
    out = tmp_path / "s.cubes"

    assert cubereel("extract", manifest, "--out", out, *EXTRACT) == 0
    assert len(hashed) == 1
    with Store(out) as store:
        digests = [record.media_sha256 for record in store.records()]
        assert digests == [file_sha256(video)] * 5


def test_batch_size_and_workers_change_nothing(cubereel, videos, store, tmp_path):
    other = tmp_path / "other.cubes"
    options = ("--batch-size", 5, "--workers", 2)

    assert cubereel("extract", videos, "--out", other, *EXTRACT, *options) == 0
    assert cubereel("store", "diff", store, other) == 0
    assert "8 videos compared, 0 differ" in cubereel.out


def test_a_changed_video_is_extracted_again_and_the_others_are_not(cubereel, tmp_path):
    videos, store = write_classes(tmp_path / "v", per_class=2), tmp_path / "s.cubes"
    assert cubereel("extract", videos, "--out", store, *EXTRACT) == 0
    changed = videos / "dark" / "1.mp4"
    changed.write_bytes((videos / "bright" / "0.mp4").read_bytes())

    assert cubereel("extract", videos, "--out", store, *EXTRACT, "--json") == 0
    assert json.loads(cubereel.out)["num_extracted"] == 1
    assert cubereel("store", "verify", store, "--full") == 0
    with Store(store) as opened:
        np.testing.assert_array_equal(opened.cubes("dark/1.mp4"), opened.cubes("bright/0.mp4"))


def test_another_frame_rate_is_another_spec(cubereel, videos, store):
    assert cubereel("extract", videos, "--out", store, "--backbone", "tiny:conv", "--fps", 5) == 3
    assert "sampling.value: '10', not '5'" in cubereel.err
    assert "Traceback" not in cubereel.err


def test_a_store_tells_what_it_is(cubereel, store):
    assert cubereel("store", "info", store) == 0
    lines = cubereel.out.splitlines()
    assert lines[0].split() == ["licence", "CC0"]
    assert cubereel("store", "ls", store, "--json") == 0
    assert {row["label"] for row in json.loads(cubereel.out)} == {"dark", "bright"}
    assert cubereel("store", "verify", store, "--full") == 0
    assert "8 videos" in cubereel.out


def test_damage_is_found_and_named(cubereel, videos, tmp_path):
    store = tmp_path / "s.cubes"
    cubereel("extract", videos, "--out", store, *EXTRACT)
    (shard,) = (store / "shards").glob("*.h5")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)

    assert cubereel("store", "verify", store, "--full") == 3
    assert "damaged:" in cubereel.out


@pytest.mark.parametrize(
    "options", [("--compact",), ("--compression", "zstd"), ("--dtype", "8bit")]
)
def test_a_store_can_be_made_small(cubereel, videos, store, tmp_path, options):
    small = tmp_path / "small.cubes"

    assert cubereel("extract", videos, "--out", small, *EXTRACT, *options) == 0
    assert cubereel("store", "verify", small, "--full") == 0
    assert cubereel("store", "diff", store, small) == 0
    assert "8 videos compared, 0 differ" in cubereel.out
    assert cubereel("extract", videos, "--out", small, *EXTRACT, *options) == 0
    assert "0 extracted now" in cubereel.out
    assert cubereel("train", small, "--head", "mean-pool", "--out", tmp_path / "run", *QUICK) == 0


def test_stores_are_joined_cut_converted_and_mended(cubereel, store, tmp_path):
    dark, bright, whole, small = (tmp_path / name for name in ("dark", "bright", "whole", "small"))

    assert cubereel("store", "subset", store, "--out", dark, "--label", "dark") == 0
    assert "4 videos" in cubereel.out
    (tmp_path / "ids.txt").write_text("bright/0.mp4\nbright/1.mp4\nbright/2.mp4\nbright/3.mp4\n")
    assert cubereel("store", "subset", store, "--out", bright, "--ids", tmp_path / "ids.txt") == 0
    assert cubereel("store", "merge", dark, bright, "--out", whole) == 0
    assert cubereel("store", "diff", store, whole) == 0
    assert cubereel.out == "identical: 8 videos compared, 0 differ\n"
    assert cubereel("store", "append", dark, bright, "--json") == 0
    assert json.loads(cubereel.out)["num_videos"] == 4
    assert cubereel("store", "repack", whole, "--out", small, "--compact") == 0
    assert cubereel("store", "diff", whole, small) == 0
    assert cubereel("store", "info", small) == 0
    assert cubereel.out.splitlines()[0].split() == ["licence", "CC0"]
    assert cubereel("store", "repack", whole, "--out", small, "--compact", "--dtype", "8bit") == 2

    shard = next((whole / "shards").glob("*.h5"))
    shard.write_bytes(b"")
    assert cubereel("store", "repair", whole) == 0
    assert "lost: bright/0.mp4" in cubereel.out
    assert "8 lost; run 'cubereel extract' again" in cubereel.out
    assert cubereel("store", "append", whole, store) == 0
    assert cubereel("store", "diff", store, whole) == 0


def test_a_store_of_another_spec_is_not_joined(cubereel, videos, store, tmp_path):
    other = tmp_path / "other"
    assert cubereel("extract", videos, "--out", other, "--backbone", "tiny:conv", "--fps", 5) == 0

    assert cubereel("store", "merge", store, other, "--out", tmp_path / "both") == 3
    assert "sampling.value: '10', not '5'" in cubereel.err
    assert not (tmp_path / "both").exists()


def test_several_layers_are_stored_and_reach_a_head(cubereel, videos, tmp_path):
    store = tmp_path / "s.cubes"
    layers = ("--layer", "stem", "--layer", "top")

    assert cubereel("extract", videos, "--out", store, *EXTRACT, *layers) == 0
    with Store(store) as opened:
        assert opened.cubes("dark/0.mp4", layer="stem").shape[1:] == (14, 14, 8)
        assert opened.cubes("dark/0.mp4").shape[1:] == (7, 7, 16)
    out = tmp_path / "run"
    arguments = ("--head", "mean-pool", "--layer", "stem", "--out", out)
    assert cubereel("train", store, *arguments, *QUICK) == 0


def test_a_separable_task_is_solved(run):
    results = json.loads((run / "results.json").read_text())

    assert [row["balanced_accuracy"] for row in results["heads"]] == [1.0, 1.0]
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["video_id"] for row in rows} == {"dark/0.mp4", "bright/0.mp4"}


def test_results_say_what_made_them(run, store):
    results = json.loads((run / "results.json").read_text())

    with Store(store) as opened:
        assert results["spec_digest"] == opened.header.spec.digest
    assert results["config"]["epochs"] == 20
    assert results["chosen"]["head_of_fold"][0] in ("mean-pool", "soft-attention")


def test_folds_cross_validate_over_groups(cubereel, store, tmp_path):
    arguments = ("--head", "mean-pool", "--folds", 4, "--seeds", 2, "--out", tmp_path / "run")

    assert cubereel("train", store, *arguments, *QUICK) == 0
    with (tmp_path / "run" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert len({(row["seed"], row["video_id"]) for row in rows}) == 16
    for fold in "0123":
        assert len({row["group"] for row in rows if row["fold"] == fold}) == 1


def test_the_same_seed_gives_the_same_result(cubereel, store, tmp_path):
    for name in ("a", "b"):
        arguments = ("--head", "soft-attention", "--set", "hidden=8", "--out", tmp_path / name)
        assert cubereel("train", store, *arguments, *QUICK) == 0

    assert (tmp_path / "a/predictions.csv").read_text() == (
        tmp_path / "b/predictions.csv"
    ).read_text()


def test_a_checkpoint_scores_the_same_again(cubereel, run, store):
    checkpoint = run / "checkpoints" / "soft-attention" / "fold0-seed0.json"

    assert cubereel("eval", checkpoint, store, "--json") == 0
    assert json.loads(cubereel.out)["balanced_accuracy"] == 1.0
    assert cubereel("eval", checkpoint, store, "--split", "train") == 0
    assert cubereel.out.startswith("4 videos")


def test_the_order_of_frames_is_nothing_to_a_mean(cubereel, run, store):
    checkpoint = run / "checkpoints" / "mean-pool" / "fold0-seed0.json"
    for order in ("forward", "reversed", "shuffled"):
        assert cubereel("eval", checkpoint, store, "--frame-order", order, "--json") == 0
        assert json.loads(cubereel.out)["balanced_accuracy"] == 1.0

    assert cubereel("eval", checkpoint, store, "--frame-order", "backwards") == 2
    assert "'forward', 'reversed', 'shuffled'" in cubereel.err


def test_a_new_video_is_classified_end_to_end(cubereel, run, videos):
    checkpoint = run / "checkpoints" / "mean-pool" / "fold0-seed0.json"

    assert cubereel("predict", checkpoint, videos / "dark" / "0.mp4") == 0
    header, line = cubereel.out.splitlines()
    assert header.split() == ["video", "prediction", "probability"]
    assert line.split()[:2] == [str(videos / "dark" / "0.mp4"), "dark"]


@pytest.mark.parametrize("suffix", [".mp4", ".png"])
def test_attention_is_drawn_over_the_frames(cubereel, run, store, tmp_path, suffix):
    checkpoint = run / "checkpoints" / "soft-attention" / "fold0-seed0.json"
    out = tmp_path / f"where{suffix}"

    assert cubereel("explain", checkpoint, store, "--video", "dark/0.mp4", "--out", out) == 0
    assert re.search(
        r"dark/0.mp4: dark \(probability \d.\d\d\), labelled dark: right", cubereel.out
    )
    with av.open(str(out)) as container:
        frames = list(container.decode(video=0))
    if suffix == ".png":
        assert len(frames) == 1
        return
    with Store(store) as opened:
        kept = opened.read("dark/0.mp4", "pts_seconds")[even_rows(12, 4)]
    np.testing.assert_allclose([frame.time for frame in frames], kept - kept[0], atol=1e-4)


# $1 the disk, then the command: its file is there already, and nothing else fits.
FULL_DISK = """
disk=$1; shift
mount -t tmpfs -o size=64k tmpfs "$disk" || exit 99
head -c 20000 /dev/urandom > "$disk/where.mp4"
head -c 60000 /dev/zero > "$disk/full" 2> /dev/null
before=$(sha256sum "$disk/where.mp4")
"$@"; echo "exit: $?"
[ "$before" = "$(sha256sum "$disk/where.mp4")" ] && echo kept
ls -A "$disk"
"""


@needs_namespaces
def test_a_film_that_does_not_fit_on_the_disk_leaves_the_one_before(run, store, tmp_path):
    checkpoint = run / "checkpoints" / "soft-attention" / "fold0-seed0.json"
    command = [Path(sys.executable).with_name("cubereel"), "explain", checkpoint, store]
    out = ["--video", "dark/0.mp4", "--out", tmp_path / "where.mp4"]

    said = run_in_namespace(FULL_DISK, tmp_path, *command, *out)

    assert "exit: 5\nkept\nfull\nwhere.mp4\n" in said, said
    assert "No space left on device" in said
    assert "Traceback" not in said


def test_labels_that_no_font_has_do_not_stop_a_picture(cubereel, run, store, tmp_path):
    labelled = shutil.copytree(store, tmp_path / "s.cubes")
    manifest = labelled / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",dark,", ",歩く $x_$,"))
    checkpoint = run / "checkpoints" / "soft-attention" / "fold0-seed0.json"
    out = tmp_path / "where.png"

    assert cubereel("explain", checkpoint, labelled, "--video", "dark/0.mp4", "--out", out) == 0
    assert "labelled 歩く $x_$: wrong" in cubereel.out
    assert out.stat().st_size > 1000


def test_new_videos_and_pictures_name_every_class_that_is_shown(cubereel, store, videos, tmp_path):
    """Of what is bright two things are said, of what is dark none."""
    labelled = shutil.copytree(store, tmp_path / "s.cubes")
    manifest = (labelled / "manifest.csv").read_text()
    manifest = manifest.replace(",bright,", ",lit;sunny,").replace(",dark,", ",;,")
    (labelled / "manifest.csv").write_text(manifest)
    out = tmp_path / "run"
    arguments = ("--multi-label", "--head", "soft-attention", "--set", "hidden=8", "--lr", 0.02)
    assert cubereel("train", labelled, *arguments, "--out", out, *QUICK) == 0

    checkpoint = out / "checkpoints" / "soft-attention-hidden-8" / "fold0-seed0.json"
    bright, dark = "bright/0.mp4", "dark/0.mp4"
    assert cubereel("predict", checkpoint, videos / bright, videos / dark) == 0
    lines = dict(line.split()[:2] for line in cubereel.out.splitlines()[1:])
    assert lines == {str(videos / bright): "lit;sunny", str(videos / dark): ";"}
    picture = tmp_path / "where.png"
    assert cubereel("explain", checkpoint, labelled, "--video", dark, "--out", picture) == 0
    assert cubereel.out.startswith("dark/0.mp4: none of the classes (likeliest: ")
    assert "labelled ;" in cubereel.out

    document = json.loads(checkpoint.read_text())
    checkpoint.write_text(json.dumps(document | {"thresholds": [0.0, 1.0]}))
    assert cubereel("predict", checkpoint, videos / bright, videos / dark) == 0
    assert [line.split()[1] for line in cubereel.out.splitlines()[1:]] == ["lit"] * 2
    assert cubereel("explain", checkpoint, labelled, "--video", dark, "--out", picture) == 0
    assert cubereel.out.startswith("dark/0.mp4: lit (")
    assert cubereel("optimise-attention", checkpoint, labelled, "--video", dark) == 2
    assert "was fitted with --multi-label" in cubereel.err


def test_a_head_without_attention_says_so(cubereel, run, store, tmp_path):
    checkpoint = run / "checkpoints" / "mean-pool" / "fold0-seed0.json"
    out = tmp_path / "x.png"

    assert cubereel("explain", checkpoint, store, "--video", "dark/0.mp4", "--out", out) == 2
    assert "head 'mean-pool' returns no map of where it looks" in cubereel.err
    assert "these do: attentive-probe, hm-an" in cubereel.err
    assert not out.exists()


@pytest.mark.parametrize(("suffix", "num_pictures"), [(".mp4", 4), (".png", 1)])
def test_attention_is_optimised_for_a_label_and_drawn(
    cubereel, run, store, tmp_path, suffix, num_pictures
):
    checkpoint = run / "checkpoints" / "soft-attention" / "fold0-seed0.json"
    arguments = ("optimise-attention", checkpoint, store, "--video", "dark/0.mp4")
    out = tmp_path / "pictures" / f"optimised{suffix}"

    assert cubereel(*arguments, "--label", "bright", "--out", out, "--json") == 0
    result = json.loads(cubereel.out)
    assert (result["label"], result["own"]["prediction"]) == ("bright", "dark")
    assert result["optimised"]["log_prob"] >= result["random"]["log_prob"]
    with av.open(str(out)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == num_pictures

    assert cubereel(*arguments) == 0
    assert cubereel.out.startswith("dark/0.mp4, optimised for dark\n")
    assert "It is no accuracy." in cubereel.out


def test_all_misclassified_videos_are_looked_at_again(cubereel, run, videos, store, tmp_path):
    checkpoint = run / "checkpoints" / "soft-attention" / "fold0-seed0.json"
    assert cubereel("optimise-attention", checkpoint, store) == 0
    assert cubereel.out == "0 of 2 videos are misclassified\n"

    swapped = tmp_path / "swapped.cubes"
    shutil.copytree(store, swapped)
    manifest = swapped / "manifest.csv"
    swap = {"dark": "bright", "bright": "dark"}
    with manifest.open() as file:
        rows = list(csv.DictReader(file))
    with manifest.open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"label": swap[row["label"]]} for row in rows)
    assert cubereel("optimise-attention", checkpoint, swapped, "--split", "train", "--json") == 0
    result = json.loads(cubereel.out)
    assert result["num_videos"] == len(result["videos"]) == 4
    flipped = [v for v in result["videos"] if v["optimised"]["prediction"] == v["label"]]
    assert result["num_flipped"] == len(flipped)
    assert cubereel("optimise-attention", checkpoint, swapped) == 0
    assert cubereel.out.startswith("2 of 2 videos are misclassified\n")
    assert "It is no accuracy." in cubereel.out


BAD_OPTIMISATIONS = [
    (("--video", "dark/0.mp4", "--label", "brigth"), "did you mean 'bright'?"),
    (("--video", "dark/0.mp4", "--split", "train"), "--split needs no --video"),
    (("--video", "dark/0.mp4", "--out", "x.gif"), "must end in .mp4 or .png"),
    (("--label", "dark"), "--label needs --video"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_OPTIMISATIONS)
def test_attention_cannot_be_optimised_for_what_is_not_there(
    cubereel, run, store, arguments, message
):
    checkpoint = run / "checkpoints" / "soft-attention" / "fold0-seed0.json"

    assert cubereel("optimise-attention", checkpoint, store, *arguments) == 2
    assert message in cubereel.err


def test_attention_that_is_not_there_cannot_be_optimised(cubereel, run, store):
    checkpoint = run / "checkpoints" / "mean-pool" / "fold0-seed0.json"

    assert cubereel("optimise-attention", checkpoint, store) == 2
    assert "head 'mean-pool' has no attention to optimise" in cubereel.err


def test_lists_and_version(cubereel):
    assert cubereel("list", "heads") == 0
    assert "soft-attention" in cubereel.out
    assert cubereel("list", "backbones", "--json") == 0
    backbones = json.loads(cubereel.out)
    assert {name.partition(":")[0] for name in backbones} == set(list_sources())
    assert {"timm:resnet50", "torchvision:googlenet", "caffe:googlenet"} <= set(backbones)
    assert cubereel("--version") == 0
