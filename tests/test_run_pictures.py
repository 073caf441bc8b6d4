"""What a researcher looks at: the log of a run, its curves and matrices, a run that was stopped."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from features_store.errors import UsageError
from pipelines.training.event_files import write_event_files
from pipelines.training.pictures import confusion_figure, curves_figure, draw_run
from pipelines.training.train import train
from tests.stores import header, make_store
from train.fitting.config import TrainConfig
from train.fitting.state import Candidate
from train.protocol.jobs import FitJob
from train.protocol.run_folder import RunFolder, read_fit
from train.protocol.run_log import log_line
from train.protocol.runs import Fit

HEADS = ["mean-pool", "soft-attention:hidden=4"]
CONFIG = TrainConfig(clip_frames=3, epochs=4, batch_size=4, learning_rates=(0.01, 0.1), patience=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "s.cubes"
    make_store(path, {f"{c}/{i}": 5 for c in "ab" for i in range(4)}, store_header=header())
    return path


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(store, heads=HEADS, folds=2, out=folder, device="cpu", config=CONFIG)
    return folder


def log_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_the_log_has_a_line_for_each_fit(run, store):
    lines, records = log_of(run), RunFolder(run).records()
    assert len(lines) == sum(map(len, records.values())) == 2 * (2 * 2 + 2)
    for line in lines:
        assert (line["inner"] is None) == (line["validation_score"] is None)
        assert 1 <= line["epochs"] <= 4
    # A run that goes on has nothing to add, but what a run that was killed did not come to say.
    path = run / "log.jsonl"
    torn = path.read_text()[:-9]
    for before in (path.read_text(), torn):
        path.write_text(before)
        train(store, heads=HEADS, folds=2, out=run, device="cpu", config=CONFIG)
        assert log_of(run) == lines


def test_what_is_not_finite_is_null_in_the_log():
    fit = Fit(np.ones((1, 2)), [np.inf], 3, 0.1, [(-np.inf, np.inf)], 1)
    line = log_line(FitJob("h", 0, 0, Candidate(0.1, 0.0)), fit, 0.0)
    assert (line["train_loss"], line["validation_score"]) == (None, None)
    assert json.loads(json.dumps(line, allow_nan=False))["time"] == "1970-01-01T00:00:00+00:00"


def test_curves_and_matrices_are_drawn(run, tmp_path, cubereel):
    assert cubereel("runs", "plot", run, "--out", tmp_path / "p") == 0
    names = sorted(path.name for path in (tmp_path / "p").iterdir())
    assert names == sorted(
        f"{head}-{what}.png"
        for head in ("mean-pool", "soft-attention-hidden-4")
        for what in ("curves", "confusion")
    )
    for path in (tmp_path / "p").iterdir():
        pixels = np.asarray(Image.open(path).convert("L"))
        assert (pixels < 250).mean() > 0.01
    assert str(tmp_path / "p" / names[0]) in cubereel.out


def test_a_fit_that_diverged_is_drawn_as_far_as_it_is_finite():
    nan = float("nan")
    fits = [
        Fit(np.full((1, 2), nan), [1.0, nan], 3, 0.1, [(0.5, 1.0), (-np.inf, np.inf)], 1),
        Fit(np.ones((1, 2)), [1.0, 0.5, 0.2], 3, 0.1, [(0.5, 1.0), (0.6, 0.9), (0.7, 0.8)], 3),
    ]
    figure = curves_figure("h", fits)
    means = [axis.lines[-1].get_ydata() for axis in figure.axes]
    np.testing.assert_allclose(means[0], [1.0, 0.5, 0.2])
    np.testing.assert_allclose(means[1], [0.5, 0.6, 0.7])


def test_classes_that_no_font_has_and_formulas_are_drawn_as_they_are_written(tmp_path):
    figure = confusion_figure("h", np.eye(2, dtype=int), ["\U0001f93c歩", "$\\frac$"])
    figure.savefig(tmp_path / "a.png")

    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert shown[1] == "$\\frac$"
    assert figure.axes[0].get_yticklabels()[1].get_parse_math() is False


def test_a_folder_without_fits_is_refused(tmp_path, cubereel):
    assert cubereel("runs", "plot", tmp_path, "--out", tmp_path / "p") == 2
    assert "not a run folder" in cubereel.err
    (tmp_path / "run.json").touch()
    assert cubereel("runs", "plot", tmp_path, "--out", tmp_path / "p") == 3
    assert "holds no fit that is done yet" in cubereel.err


def test_tensorboard_reads_the_curves(run, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert write_event_files(run, tmp_path) == 12
    path = RunFolder(run).records()["mean-pool"][0]
    read = events.EventAccumulator(str(tmp_path / "mean-pool" / path.stem)).Reload()
    losses = [event.value for event in read.Scalars("loss/train")]
    np.testing.assert_allclose(losses, read_fit(path).train_losses, rtol=1e-6)


def test_without_tensorboard_a_line_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="extra 'tensorboard'"):
        write_event_files(run, tmp_path)


def command(store, out, *more):
    heads = itertools.chain.from_iterable(("--head", head) for head in HEADS)
    return [
        sys.executable, "-c", "from pipelines.cli import main; main()", "train", str(store), *heads,
        "--folds", "2", "--out", str(out), "--device", "cpu", "--clip-frames", "3",
        "--batch-size", "4", "--lr", "0.01", "--lr", "0.1", *more,
    ]  # fmt: skip


def results(run):
    document = json.loads((run / "results.json").read_bytes())
    return [{k: v for k, v in row.items() if k != "seconds"} for row in document["heads"]]


def test_a_run_ends_before_its_deadline_and_goes_on(store, tmp_path):
    long = command(store, tmp_path / "s", "--epochs", "2000", "--processes", "1")
    begun = time.monotonic()
    ended = subprocess.run([*long, "--deadline", "8"], capture_output=True, text=True)
    assert ended.returncode == 75, ended.stderr
    assert time.monotonic() - begun < 20
    assert "stopped before the deadline; run the same command again" in ended.stderr
    assert not (tmp_path / "s" / "results.json").exists()


@pytest.mark.slow
def test_a_run_that_is_killed_twenty_times_is_the_undisturbed_one(store, tmp_path):
    more = ("--epochs", "300", "--seeds", "2", "--patience", "300", "--processes", "2")
    subprocess.run(command(store, tmp_path / "whole", *more), check=True, capture_output=True)
    rng, num_kills = np.random.default_rng(0), 0
    killed = tmp_path / "killed"
    while num_kills < 20:
        process = subprocess.Popen(
            command(store, killed, *more), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None and not list(killed.glob("fits/*/fold*.json")):
            time.sleep(0.01)
        try:
            process.wait(rng.uniform(0.0, 8.0))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            num_kills += 1
            continue
        compare(tmp_path / "whole", killed)
        shutil.rmtree(killed)
    subprocess.run(command(store, killed, *more), check=True, capture_output=True)
    compare(tmp_path / "whole", killed)


def compare(whole, killed):
    assert results(whole) == results(killed)
    names = [p.relative_to(whole) for p in whole.rglob("*") if p.suffix == ".safetensors"]
    assert names
    for name in names:
        assert (whole / name).read_bytes() == (killed / name).read_bytes()
    for head, paths in RunFolder(whole).records().items():
        for path in paths:
            one, other = read_fit(path), read_fit(killed / "fits" / head / path.name)
            assert (one.curve, one.train_losses) == (other.curve, other.train_losses)


def test_pictures_of_a_run_in_work_need_no_table(run, tmp_path):
    part = tmp_path / "part"
    shutil.copytree(run, part)
    (part / "results.json").unlink()
    assert {path.name for path in draw_run(part, tmp_path / "p")} == {
        "mean-pool-curves.png", "soft-attention-hidden-4-curves.png"
    }  # fmt: skip
