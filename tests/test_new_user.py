"""What a new user stumbles over: each test is named by what they see."""

import json
import shutil

import pytest
from huggingface_hub import constants

from extract.backbones import hub
from pipelines.cli import main
from pipelines.cli.expanding import flag_names
from pipelines.cli.show import table_lines
from pipelines.training.options import TrainOptions
from tests.clips import write_classes
from tests.stores import header, make_store
from train.protocol.run_folder import claim
from train.protocol.table import ROW_OPTIONS

TINY = ("--backbone", "tiny:conv", "--fps", "10", "--device", "cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = write_classes(tmp_path_factory.mktemp("videos"), per_class=2, num_frames=6)
    (folder / "manifest.csv").unlink()
    return folder


@pytest.fixture(scope="module")
def fitted(videos, tmp_path_factory):
    """A store, and a checkpoint of a head that was fitted on it."""
    from pipelines.extraction.extract import extract
    from pipelines.extraction.options import ExtractionOptions
    from pipelines.training.train import train
    from train.fitting.config import TrainConfig

    place = tmp_path_factory.mktemp("fitted")
    options = ExtractionOptions(backbone="tiny:conv", fps="10", device="cpu")
    extract(videos, out=place / "s.cubes", options=options)
    config = TrainConfig(epochs=1, learning_rates=(1e-3,))
    train(place / "s.cubes", heads=["mean-pool"], folds=2, out=place / "run", config=config)
    return place / "s.cubes", place / "run/checkpoints/mean-pool/fold0-seed0.json"


# Paths, names and arguments


def test_weights_that_are_a_table_are_called_what_they_are(cubereel, videos, tmp_path):
    weights = tmp_path / "hoops.csv"
    weights.write_text("path,label\na.mp4,hoop\n")
    arguments = ("extract", videos, "--out", tmp_path / "s", *TINY, "--weights", weights)

    assert cubereel(*arguments) == 3
    assert (
        "neither safetensors nor of torch.save: the file begins with b'path,label" in cubereel.err
    )
    assert "network.state_dict()" in cubereel.err
    assert "weights_only" not in cubereel.err
    for name, content, said in (
        ("w.pth", b"PK\x03\x04 half", "are cut off"),
        ("w.safetensors", b"PK\x03\x04", "are no safetensors, though the file is called so"),
        ("w.pt", b"", "are an empty file"),
    ):
        (tmp_path / name).write_bytes(content)
        assert cubereel(*arguments[:-1], tmp_path / name) == 3
        assert said in cubereel.err


def test_swapped_arguments_and_a_run_folder_get_a_hint(cubereel, fitted):
    store, checkpoint = fitted
    run = checkpoint.parents[2]

    assert cubereel("eval", store, checkpoint) == 2
    assert f"'{store}' is a store, not a checkpoint: are two arguments swapped?" in cubereel.err
    assert cubereel("eval", run, store) == 2
    assert f"'{run}' is a run folder, not a checkpoint" in cubereel.err
    assert f"such as {checkpoint}" in cubereel.err
    assert cubereel("train", checkpoint, "--head", "mean-pool") == 2
    assert "is a checkpoint, not a store: are two arguments swapped?" in cubereel.err


def test_a_missing_path_has_the_near_one(cubereel, fitted):
    store, _ = fitted
    assert cubereel("store", "info", store.with_name("s.cube")) == 2
    assert f"did you mean '{store}'? " in cubereel.err


def test_a_wrong_video_id_has_near_names(cubereel, fitted, tmp_path, monkeypatch):
    store, checkpoint = fitted
    arguments = ("explain", checkpoint, store, "--out", tmp_path / "a.png", "--video")
    for wrong in ("dark/0.mp", "0.mp4", "Dark/0.mp4"):
        assert cubereel(*arguments, wrong) == 2
        assert "did you mean 'dark/0.mp4'?" in cubereel.err
    # Of many ids not all are compared.
    monkeypatch.setattr("features_store.store.MAX_COMPARED_IDS", 2)
    assert cubereel(*arguments, "dark/0.mpg") == 2
    assert "did you mean 'dark/0.mp4'?" in cubereel.err


def test_stores_that_cannot_be_joined_are_named_and_not_the_new_one(cubereel, tmp_path):
    a, b = tmp_path / "a.cubes", tmp_path / "b.cubes"
    make_store(a, {"x": 1})
    spec = header().spec.__class__(**vars(header().spec) | {"backbone": "tiny:pool"})
    make_store(b, {"y": 1}, store_header=header(spec=spec))

    assert cubereel("store", "merge", a, b, "--out", tmp_path / "new.cubes") == 3
    assert f"{a} has another spec than {b}" in cubereel.err
    assert "backbone: 'tiny:conv', not 'tiny:pool'" in cubereel.err
    assert "new.cubes" not in cubereel.err


def test_of_another_run_only_what_differs_is_said(tmp_path):
    said = {"config": {"lr": 0.1, "epochs": 15}, "hashes": ["a" * 64] * 20, "n": 1}
    claim(tmp_path / "run.json", said, below=tmp_path)
    changed = said | {"config": {"lr": 0.1, "epochs": 16}, "n": 2}
    with pytest.raises(Exception, match="holds fits of another run") as raised:
        claim(tmp_path / "run.json", changed, below=tmp_path)

    message = str(raised.value)
    assert "config.epochs: there 15, asked for 16; n: there 1, asked for 2; give" in message
    assert "hashes" not in message
    assert "lr" not in message


@pytest.mark.parametrize(
    ("number", "advice"), [(28, "free some space"), (24, "ulimit -n"), (5, "the disk")]
)
def test_a_failing_machine_is_told_with_what_to_do(cubereel, monkeypatch, number, advice):
    def fail(*_: object) -> None:
        raise OSError(number, "it failed", "/some/file")

    monkeypatch.setattr(main.__globals__["sys"].modules["pipelines.cli.main"], "app", fail)
    assert cubereel("doctor") == 5
    assert "it failed: '/some/file'" in cubereel.err
    assert advice in cubereel.err
    assert "mend" not in cubereel.err


# What a run says


def test_each_failed_video_is_told_once(cubereel, videos, tmp_path):
    shutil.copytree(videos, tmp_path / "v")
    (tmp_path / "v" / "dark" / "text.mp4").write_text("not a video")

    assert cubereel("extract", tmp_path / "v", "--out", tmp_path / "s", *TINY) == 4
    assert (cubereel.out + cubereel.err).count("text.mp4' is not a video") == 1
    assert cubereel.err.splitlines()[-1].startswith("error: 1 of 5 videos failed")


def test_videos_of_two_stores_were_not_there_before(cubereel, tmp_path):
    a, b = tmp_path / "a.cubes", tmp_path / "b.cubes"
    make_store(a, {"x": 1, "y": 2})
    make_store(b, {"x": 1})

    assert cubereel("store", "merge", a, b, "--out", tmp_path / "new.cubes") == 0
    assert "; 0 were there before" in cubereel.out
    assert "1 videos stand in several of these stores" in cubereel.out
    assert cubereel("store", "merge", a, b, "--out", tmp_path / "new.cubes") == 0
    assert "; 2 were there before" in cubereel.out


def test_wide_letters_do_not_break_columns(cubereel, tmp_path):
    make_store(tmp_path / "s.cubes", {"行走/一.mp4": 3, "walk/0123456789.mp4": 3})

    assert cubereel("store", "ls", tmp_path / "s.cubes") == 0
    _, *lines = cubereel.out.splitlines()
    wide, narrow = sorted(lines, key=lambda line: line.startswith("walk"))
    # Each of the three wide letters takes two places on the screen.
    assert narrow.index(" 3 ") == wide.index(" 3 ") + 3
    assert list(table_lines(["a", "b"], [["行走", "1"], ["walk", "22"]])) == [
        "a      b", "行走   1", "walk  22",
    ]  # fmt: skip


def test_a_diff_of_equal_stores_is_one_line_and_else_the_summary_is_first(cubereel, tmp_path):
    a, b = tmp_path / "a.cubes", tmp_path / "b.cubes"
    make_store(a, {"x": 3, "y": 2})
    make_store(b, {"x": 3, "y": 2})
    assert cubereel("store", "diff", a, b) == 0
    assert cubereel.out == "identical: 2 videos compared, 0 differ\n"

    make_store(tmp_path / "c.cubes", {"x": 3, "z": 2, "y": 2})
    assert cubereel("store", "diff", a, tmp_path / "c.cubes") == 3
    first, worst, *others = cubereel.out.splitlines()
    assert first == "different: 2 videos compared, 1 differ"
    assert worst.startswith("worst cosine 0.")
    assert others[0] == "only in B  z"
    assert [line.split()[0] for line in others[1:]] == ["video_id", "y"]


def test_a_diff_names_what_only_one_store_has(cubereel, tmp_path):
    make_store(tmp_path / "a.cubes", {"x": 1})
    make_store(tmp_path / "b.cubes", {"x": 1}, store_header=header(has_diffs=False))
    assert cubereel("store", "diff", tmp_path / "a.cubes", tmp_path / "b.cubes") == 3
    assert "only in A  diffs/center" in cubereel.out


# Predict


def test_predict_keeps_the_order_and_the_paths_as_given(cubereel, fitted, videos, monkeypatch):
    _, checkpoint = fitted
    monkeypatch.chdir(videos)
    given = [
        "dark/1.mp4",
        "bright/0.mp4",
        "dark/text.mp4",
        str(videos / "dark/0.mp4"),
        "dark/1.mp4",
    ]
    (videos / "dark" / "text.mp4").write_text("not a video")

    assert cubereel("predict", checkpoint, *given, "--top", 2) == 4
    (videos / "dark" / "text.mp4").unlink()
    head, *lines = cubereel.out.splitlines()
    assert head.split() == ["video", "prediction", "probability"]
    assert [line.split()[0] for line in lines[:8:2]] == [g for g in given if "text" not in g]
    probs = [float(line.split()[2]) for line in lines[:8]]
    assert all(a >= b for a, b in zip(probs[::2], probs[1::2], strict=True))
    assert lines[8].startswith("failed  dark/text.mp4  [not a video]")
    said = f"'{videos}/dark/text.mp4' is not a video"
    assert (cubereel.out + cubereel.err).count(said) == 1


def test_a_run_that_does_nothing_in_time_names_the_whole_path(fitted, videos, caplog):
    from extract.unit import Unit, VideoJob
    from pipelines.extraction.run import ExtractionReport, Run

    path = str(videos / "dark" / "0.mp4")
    job = VideoJob(path.lstrip("/"), path, None, None, 1)
    with Run(ExtractionReport("r", "s", 1, 0), [Unit("u", (job,))])._timed():
        pass  # as where it was stopped at once
    assert f"; {path}, the first, is dropped" in caplog.text


# Options


def test_rows_of_a_table_have_the_names_of_flags_too():
    names = flag_names(TrainOptions, tuple(ROW_OPTIONS.values()))
    assert names == ROW_OPTIONS


def test_a_configuration_has_the_names_of_flags(cubereel, fitted, tmp_path):
    store, _ = fitted
    (tmp_path / "c.toml").write_text(
        'lr = 0.02\nclip-frames = 2\nlayer = ["top"]\nclass-weights = false\nepochs = 2\n'
    )
    arguments = ("--head", "mean-pool", "--folds", 2, "--config", tmp_path / "c.toml")

    out = tmp_path / "run"
    assert cubereel("train", store, *arguments, "--epochs", 1, "--out", out, "--json") == 0
    config = json.loads(cubereel.out)["config"]
    assert (config["learning_rates"], config["clip_frames"], config["epochs"]) == ([0.02], 2, 1)
    assert (config["layers"], config["class_weights"]) == (["top"], False)


def test_pytest_says_that_it_leaves_slow_tests_out(request):
    said = request.config.hook.pytest_report_header(config=request.config, start_path=None)
    assert any("left out: tests that take minutes" in str(line) for line in said)


def test_without_a_network_the_hub_is_asked_once(cubereel, videos, tmp_path, monkeypatch):
    seen = []

    def refuse(*_: object, **__: object) -> None:
        raise OSError(101, "Network is unreachable")

    def create(name: str, *, pretrained: bool = False) -> None:
        seen.append((pretrained, constants.HF_HUB_OFFLINE))
        raise FileNotFoundError("not in the cache")

    monkeypatch.setattr(hub.socket, "create_connection", refuse)
    monkeypatch.setattr("timm.create_model", create)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    arguments = ("extract", videos, "--out", tmp_path / "s", "--backbone", "timm:resnet18")

    assert cubereel(*arguments) == 5
    assert "weights of timm:resnet18: no connection to https://" in cubereel.err
    assert cubereel.err.count("\n") == 1
    assert seen == [(True, True)]  # so that its client looks into its cache and asks nobody
    assert constants.HF_HUB_OFFLINE is False
