"""What users get wrong: one clear line, the exit code of the design, nothing half-written."""

import json

import pytest
import torch

from features_store.store import Store
from tests.clips import write_classes
from tests.synthetic import cut_off, solid_frames, write_audio, write_video

EXTRACT = ("--backbone", "tiny:conv", "--fps", "10")


@pytest.fixture
def broken(tmp_path):
    """One good video among all kinds of bad ones."""
    folder = write_classes(tmp_path / "v", per_class=1)
    (folder / "manifest.csv").unlink()
    (folder / "dark" / "empty.mp4").touch()
    (folder / "dark" / "text.mp4").write_text("not a video")
    write_audio(folder / "dark" / "sound.mp4")
    whole = write_video(folder / "dark" / "cut.mp4", solid_frames([(200, 0, 0)] * 40), fps=10)
    cut_off(whole, keep=0.5)
    (folder / "bright" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    return folder


def test_bad_videos_are_listed_and_the_others_are_extracted(cubereel, broken, tmp_path):
    store = tmp_path / "s.cubes"

    assert cubereel("extract", broken, "--out", store, *EXTRACT) == 4
    assert "5 of 7 videos failed, --max-failed allows 0" in cubereel.err
    assert "Traceback" not in cubereel.err
    with Store(store) as opened:
        assert opened.ids == ["bright/0.mp4", "dark/0.mp4"]
    (ledger,) = (store / "failures").glob("*.jsonl")
    failures = {f["video_id"]: f for f in map(json.loads, ledger.read_text().splitlines())}
    assert failures["dark/empty.mp4"]["reason"] in ("not a video", "truncated")
    assert failures["dark/text.mp4"]["reason"] == "not a video"
    assert failures["dark/sound.mp4"]["reason"] == "no video stream"
    assert failures["dark/cut.mp4"]["reason"] == "truncated"
    assert failures["bright/gone.mp4"]["reason"] == "unreadable"
    assert cubereel("store", "verify", store, "--full") == 0


def test_a_gate_lets_a_few_failures_pass(cubereel, broken, tmp_path):
    options = ("--out", tmp_path / "s.cubes", *EXTRACT, "--max-failed", 5)

    assert cubereel("extract", broken, *options) == 0
    assert cubereel.out.count("\nfailed  ") == 5


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--backbone", "conv"), 2, "write 'timm:conv' or 'torchvision:conv'"),
        (("--backbone", "tiny:conf"), 2, "no backbone 'tiny:conf'"),
        (("--backbone", "timm:resnet5"), 2, "did you mean 'resnet50'"),
        (
            ("--backbone", "timm:resnet18", "--weights", "nowhere.pth"),
            2,
            "no weights 'nowhere.pth'",
        ),
        (("--backbone", "caffe:googlenet"), 2, "give --weights FILE"),
        (("--backbone", "tiny:conv", "--layer", "tip"), 2, "no layer 'tip' in tiny:conv"),
        (("--backbone", "tiny:conv", "--fps", "0"), 2, "--fps must be positive"),
        (("--backbone", "tiny:conv", "--fps", "1", "--stride", "2"), 2, "exclude each other"),
        (("--backbone", "tiny:conv", "--device", "warp"), 2, "no device 'warp'"),
        (("--backbone", "tiny:conv", "--batch-size", "0"), 2, "at least 1"),
        (("--backbone", "tiny:conv", "--dtype", "float8"), 2, "float8"),
        (("--backbone", "tiny:conv", "--timeout", "0"), 2, "--timeout must be"),
        (("--backbone", "tiny:conv", "--timeout", "nan"), 2, "--timeout must be"),
        (("--backbone", "tiny:conv", "--max-failed", "-1"), 2, "--max-failed"),
        (("--backbone", "tiny:conv", "--count", "20000000"), 2, "more than the 65536"),
        (("--backbone", "tiny:conv", "--count", "4", "--partial", "keep"), 2, "cannot go with"),
        (("--backbone", "tiny:conv", "--segments", "4", "--partial", "keep"), 2, "cannot go with"),
    ],
)
def test_wrong_options_change_nothing(cubereel, tmp_path, arguments, code, message):
    videos = write_classes(tmp_path / "v", per_class=1)
    store = tmp_path / "s.cubes"

    assert cubereel("extract", videos, "--out", store, *arguments) == code
    assert message in cubereel.err
    assert "Traceback" not in cubereel.err
    assert not store.exists()


def test_a_file_whose_name_is_no_text_is_named(cubereel, tmp_path):
    videos = write_classes(tmp_path / "v", per_class=1)
    (videos / "manifest.csv").unlink()
    (videos / "dark" / "0.mp4").rename(videos / "dark" / "\udcff.mp4")

    for verb in (("extract", videos, "--out", tmp_path / "s.cubes"), ("plan", videos)):
        assert cubereel(*verb, *EXTRACT) == 2
        assert "is no UTF-8 text; rename the file" in cubereel.err


def test_weights_of_another_network_are_refused(cubereel, tmp_path):
    videos = write_classes(tmp_path / "v", per_class=1)
    weights = tmp_path / "w.pth"
    torch.save({"conv.weight": torch.zeros(3)}, weights)
    options = ("--out", tmp_path / "s.cubes", "--backbone", "tiny:conv", "--weights", weights)

    assert cubereel("extract", videos, *options) == 3
    assert "do not fit TinyConv: 4 missing (first: stem.0.weight)" in cubereel.err


class Evil:
    def __reduce__(self):
        return (print, ("code from a weights file ran",))


def test_weights_that_carry_code_are_refused(cubereel, tmp_path):
    videos = write_classes(tmp_path / "v", per_class=1)
    weights = tmp_path / "w.pth"
    torch.save({"stem.0.weight": Evil()}, weights)
    options = ("--out", tmp_path / "s.cubes", "--backbone", "tiny:conv", "--weights", weights)

    assert cubereel("extract", videos, *options) == 3
    assert "hold Python objects beside tensors, which are not loaded" in cubereel.err
    assert "weights_only" not in cubereel.err  # torch's advice to load it unsafely
    assert "code from a weights file ran" not in cubereel.out + cubereel.err


def test_an_id_that_stands_twice_is_refused(cubereel, tmp_path):
    videos = write_classes(tmp_path / "v", per_class=1)
    with (videos / "manifest.csv").open("a") as file:
        file.write("dark/0.mp4,dark,g9,train\n")

    assert cubereel("extract", videos, "--out", tmp_path / "s.cubes", *EXTRACT) == 3
    assert "line 4: video id 'dark/0.mp4' stands there twice" in cubereel.err
    assert not (tmp_path / "s.cubes").exists()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    from pipelines.extraction.extract import extract
    from pipelines.extraction.options import ExtractionOptions

    folder = tmp_path_factory.mktemp("bad")
    extract(
        write_classes(folder / "v"),
        out=folder / "s.cubes",
        options=ExtractionOptions(backbone="tiny:conv", fps="10"),
    )
    return folder / "s.cubes"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--head", "soft-atention"), 2, "did you mean 'soft-attention'?"),
        (("--head", "avg-lstm", "--set", "hiden=3"), 2, "no option 'hiden'; did you mean 'hidden'"),
        (("--head", "avg-lstm", "--set", "hidden"), 2, "--set must be name=value"),
        (
            ("--head", "avg-lstm:hidden=x"),
            2,
            "a whole number, at least 1 and at most 65536",
        ),
        (("--head", "mean-pool", "--folds", 9), 2, "between 2 and the number of groups (4)"),
        (
            ("--head", "mean-pool", "--layer", "tip"),
            2,
            "no layer 'tip' in this store; did you mean 'top'?",
        ),
        (("--head", "mean-pool", "--epochs", 0), 2, "epochs"),
        (("--head", "mean-pool", "--config", "no.toml"), 2, "no configuration 'no.toml'"),
        ((), 2, "--head"),
    ],
)
def test_wrong_training_options_change_nothing(cubereel, store, tmp_path, arguments, code, message):
    out = tmp_path / "run"

    assert cubereel("train", store, "--out", out, *arguments) == code
    assert message in cubereel.err
    assert "Traceback" not in cubereel.err
    assert not out.exists()


def test_an_unknown_key_of_a_configuration_is_refused(cubereel, store, tmp_path):
    arguments = ("--head", "mean-pool", "--config", tmp_path / "c.toml")

    for said, message in (
        ("epoch = 3", "has 'epoch', and its keys are flags"), ("epoch = 3", "mean 'epochs'"),
        ("learning_rates = [0.1]", "has 'learning_rates'"), ("lr = -1", "--lr: Input should be"),
    ):  # fmt: skip
        (tmp_path / "c.toml").write_text(said)
        assert cubereel("train", store, *arguments) == 2
        assert message in cubereel.err


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("video_id,path\ndark/0.mp4,dark/0.mp4\n", "has no labels"),
        ("video_id,path,label\ndark/0.mp4,dark/0.mp4,x\n", "only the label 'x'"),
    ],
)
def test_missing_labels_are_said(cubereel, store, tmp_path, table, message):
    import shutil

    copy = tmp_path / "s.cubes"
    shutil.copytree(store, copy)
    (copy / "manifest.csv").write_text(table)

    assert cubereel("train", copy, "--head", "mean-pool", "--out", tmp_path / "run") == 3
    assert message in cubereel.err


def test_an_empty_split_is_said(cubereel, store, tmp_path):
    import shutil

    copy = tmp_path / "s.cubes"
    shutil.copytree(store, copy)
    table = (copy / "manifest.csv").read_text()
    (copy / "manifest.csv").write_text(table.replace(",test", ","))

    assert cubereel("train", copy, "--head", "mean-pool", "--out", tmp_path / "run") == 3
    assert "the split 'test' of the manifest is empty" in cubereel.err


@pytest.mark.parametrize(
    "said",
    [
        {"options": []}, {"options": {"tail": "x"}}, {"options": {"diffs": "all"}}, {"head": []},
        {"head": "mean-poll"}, {"layers": {}}, {"layers": {"top": [2]}},
        {"layers": {"top": [-1, 8]}}, {"layers": {"top": [7, 8]}},
        {"diff_grid": "x"}, {"spec": None}, {"config": {"epoch": 1}},
        {"classes": 3}, {"test_ids": None},
    ],
)  # fmt: skip
def test_a_checkpoint_that_is_none_is_refused(cubereel, store, tmp_path, said):
    run = tmp_path / "run"
    cubereel("train", store, "--head", "mean-pool", "--out", run, "--epochs", 1)
    checkpoint = run / "checkpoints" / "mean-pool" / "fold0-seed0.json"
    checkpoint.write_text(json.dumps(json.loads(checkpoint.read_text()) | said))

    assert cubereel("eval", checkpoint, store) in (2, 3)
    assert cubereel.err.startswith("error: ")
    assert "Traceback" not in cubereel.err


def test_a_checkpoint_of_other_features_is_refused(cubereel, store, tmp_path):
    from pipelines.extraction.extract import extract
    from pipelines.extraction.options import ExtractionOptions

    run, other = tmp_path / "run", tmp_path / "other.cubes"
    cubereel("train", store, "--head", "mean-pool", "--out", run, "--epochs", 1)
    extract(
        write_classes(tmp_path / "v"),
        out=other,
        options=ExtractionOptions(backbone="tiny:conv", fps="5"),
    )
    checkpoint = run / "checkpoints" / "mean-pool" / "fold0-seed0.json"

    assert cubereel("eval", checkpoint, other) == 3
    assert "sampling.value" in cubereel.err
    assert f"{other} has another spec than the store that {checkpoint}" in cubereel.err
    assert "give a store of the same backbone and options" in cubereel.err
    assert "write to another store" not in cubereel.err
    assert cubereel("eval", tmp_path / "nothing.json", store) == 2
    assert "no checkpoint" in cubereel.err
