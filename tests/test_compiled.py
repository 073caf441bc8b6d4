"""Compiled backbones: the same cubes, made once, never in the way."""

import json
import os
import subprocess
import sys
from functools import partial
from math import inf

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch._dynamo.utils import counters

from extract.backbones.registry import Backbone, load_backbone, load_network
from extract.compute.compiled import (
    compile_in_child,
    compiling_digest,
    load_compiled,
    machine_digest,
)
from extract.compute.computer import CubeComputer
from extract.compute.lanes import ComputeLanes
from extract.compute.preprocess import preprocessing_for
from features_store.errors import MachineError
from features_store.store import Store
from features_store.verbs.diff import frame_cosines
from pipelines.machine import compiling
from pipelines.machine.cache_folder import cache_folder
from pipelines.machine.compiling import choose_compiled, read_verdict
from tests.clips import write_classes

SOUND = {"problem": "", "worst_cosine": 1.0, "compiled_rate": 2.0, "eager_rate": 1.0}
# The networks of ours are checked for shapes in tests, which no compiler can follow.
SQUEEZE = "torchvision:squeezenet1_1"


def computer_of(network, *, batch_size=4):
    return CubeComputer(
        network, preprocessing_for(network.config, fit="crop"),
        device=torch.device("cpu"), batch_size=batch_size,
    )  # fmt: skip


@pytest.fixture
def computer():
    return computer_of(load_backbone("tiny:conv"))


@pytest.fixture(autouse=True)
def _times_are_short(monkeypatch):
    monkeypatch.setattr(compiling, "TIMED_SECONDS", 0.01)


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_classes(folder)
    return folder


def verdict_file(computer):
    folder = cache_folder("compiled") / machine_digest(computer)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"{compiling_digest(computer)}.json"


def test_a_compiled_run_extracts_the_same_cubes_and_the_next_one_does_not_compile(
    videos, tmp_path, cubereel, monkeypatch
):
    weights = tmp_path / "random.safetensors"
    save_file(load_network(SQUEEZE, trained=False).network.state_dict(), weights)
    network = ("--backbone", SQUEEZE, "--weights", weights)

    def extract(name, *options):
        status = cubereel("-v", "extract", videos, "--out", tmp_path / name, *network, *options)
        assert status == 0, cubereel.err
        return cubereel.err

    first = extract("first.cubes", "--compile", "on")
    monkeypatch.setattr(compiling, "compile_in_child", None)  # whoever compiles now, fails
    again = extract("again.cubes", "--compile", "on")
    eager = extract("eager.cubes", "--compile", "off")

    assert "compiling for this machine" in first
    assert "runs compiled" in first
    assert "runs compiled" in again
    assert "compiled" not in eager
    assert cubereel("store", "diff", tmp_path / "first.cubes", tmp_path / "again.cubes") == 0
    with Store(tmp_path / "first.cubes") as one, Store(tmp_path / "eager.cubes") as other:
        assert one.header.spec == other.header.spec
        for record in one.records():
            cubes, expected = (
                np.asarray(store.cubes(record.id), dtype=np.float32) for store in (one, other)
            )
            np.testing.assert_allclose(cubes, expected, rtol=2e-3, atol=1e-3)


@pytest.fixture
def sixteen_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(16)
    yield
    torch.set_num_threads(before)


def test_what_the_child_compiled_is_not_compiled_again(tmp_path, sixteen_threads):
    computer = computer_of(Backbone(SQUEEZE, load_network(SQUEEZE, trained=False)))
    tmp_path.chmod(0o700)
    compile_in_child(computer, tmp_path, seconds=300.0)
    made = set(tmp_path.rglob("*.so"))
    assert made
    compiled = load_compiled(computer, tmp_path)
    assert set(tmp_path.rglob("*.so")) == made

    frames = torch.randint(0, 256, (4, 224, 224, 3), dtype=torch.uint8)
    before = counters["stats"]["unique_graphs"]
    assert before > 0
    with ComputeLanes(computer.device) as lanes:
        for _ in range(8):
            lanes.add(None, partial(compiled, frames))
        results = [result for _, result in lanes.rest()]

    assert counters["stats"]["unique_graphs"] == before
    ((layer, expected),) = computer(frames).cubes.items()
    for result in results:
        np.testing.assert_allclose(result.cubes[layer], expected, rtol=1e-4, atol=1e-4)


def test_without_a_compiler_on_fails_and_auto_extracts(
    videos, tmp_path, cubereel, monkeypatch, own_cache
):
    monkeypatch.setenv("CXX", "/nowhere/g++")
    options = (videos, "--out", tmp_path / "x.cubes", "--backbone", "tiny:conv")

    assert cubereel("extract", *options, "--compile", "on") == 5
    assert "torch's compiler failed" in cubereel.err
    assert "Traceback" not in cubereel.err
    assert cubereel("-v", "extract", *options) == 0
    assert "runs eagerly (less than 600 s of computing)" in cubereel.err  # so it is tried again


def test_auto_goes_on_eagerly_and_says_why(computer, own_cache, monkeypatch, caplog):
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with caplog.at_level("INFO", "cubereel"):
        chosen = choose_compiled("auto", computer, num_frames=inf)

    assert not chosen.is_compiled
    assert "runs eagerly (torch's compiler failed" in caplog.text
    assert not verdict_file(computer).exists()


def test_time_that_runs_out_is_remembered(computer, own_cache, monkeypatch, caplog):
    monkeypatch.setattr(compiling, "COMPILE_SECONDS", 0.2)
    with caplog.at_level("INFO", "cubereel"):
        choose_compiled("auto", computer, num_frames=inf)
        choose_compiled("auto", computer, num_frames=inf)

    assert caplog.text.count("compiling for this machine") == 1
    assert caplog.text.count("took longer than 0.2 s; `compile` on tries again") == 2


def test_a_run_that_ends_soon_does_not_compile(computer, own_cache, caplog):
    with caplog.at_level("INFO", "cubereel"):
        choose_compiled("auto", computer, num_frames=inf, seconds_left=500.0)

    assert "less than 600 s" in caplog.text


def test_compiling_for_too_long_is_ended(computer, tmp_path):
    tmp_path.chmod(0o700)
    with pytest.raises(MachineError, match=r"took longer than 0\.5 s"):
        compile_in_child(computer, tmp_path, seconds=0.5)

    listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True)
    assert f"extract.compute.compile_worker {os.getpid()}" not in listed.stdout


def test_the_child_ends_when_its_parent_is_gone():
    nobody = "1"  # not the parent of what this test starts
    command = [sys.executable, "-P", "-m", "extract.compute.compile_worker", nobody]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        assert process.wait(timeout=60) == -9  # though its input is still open


@pytest.mark.parametrize(
    ("verdict", "asked", "is_compiled"),
    [
        ({"compiled_rate": 104.0, "eager_rate": 100.0}, "auto", False),
        ({"compiled_rate": 106.0, "eager_rate": 100.0}, "auto", True),
        ({"compiled_rate": 50.0, "eager_rate": 100.0}, "on", True),
        ({"problem": "no compiler"}, "auto", False),
        ({"compiled_rate": 106.0, "eager_rate": 100.0}, "off", False),
    ],
)
def test_what_was_found_out_before_decides(
    computer, own_cache, monkeypatch, verdict, asked, is_compiled
):
    verdict_file(computer).write_text(json.dumps({**SOUND, **verdict}))
    monkeypatch.setattr(compiling, "load_compiled", lambda computer, folder: computer.compiled())

    assert choose_compiled(asked, computer, num_frames=1).is_compiled == is_compiled


def test_auto_compiles_for_a_long_job_alone(computer, own_cache, monkeypatch):
    tried = []
    monkeypatch.setattr(
        compiling, "compile_in_child", lambda computer, folder, seconds: tried.append(folder)
    )
    monkeypatch.setattr(compiling, "load_compiled", lambda computer, folder: computer)

    choose_compiled("auto", computer, num_frames=500)
    assert not tried
    choose_compiled("auto", computer, num_frames=inf)
    assert len(tried) == 1


def test_cubes_that_differ_are_not_used(computer, own_cache, monkeypatch):
    wrong = computer.compiled()
    wrong._run = lambda pictures: {"top": -computer.network(pictures)["top"]}
    monkeypatch.setattr(compiling, "compile_in_child", lambda *_, **__: None)
    monkeypatch.setattr(compiling, "load_compiled", lambda *_: wrong)

    with pytest.raises(MachineError, match="compiled cubes differ: worst cosine -"):
        choose_compiled("on", computer, num_frames=1)


def test_a_folder_that_others_may_write_is_not_trusted(computer, own_cache):
    folder = verdict_file(computer).parent
    folder.chmod(0o777)

    for use in (load_compiled, partial(compile_in_child, seconds=1.0)):
        with pytest.raises(MachineError, match="is for machine code"):
            use(computer, folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '{"speed": 3}',
        "\0",
        *(
            json.dumps(SOUND | wrong)
            for wrong in (
                {"eager_rate": 0},
                {"eager_rate": "fast"},
                {"compiled_rate": float("nan")},
                {"worst_cosine": -1.0},
                {"problem": 3},
                {"compiled_rate": None},
            )
        ),
    ],
)
def test_a_verdict_that_cannot_be_understood_is_none(computer, own_cache, text):
    path = verdict_file(computer)
    path.write_text(text)

    assert read_verdict(path) is None


def test_what_is_compiled_is_told_apart(computer):
    others = [
        computer.with_precision("bf16"),
        computer_of(computer.backbone, batch_size=5),
        computer_of(load_backbone("tiny:conv", layers=["stem"])),
    ]

    assert len({compiling_digest(each) for each in [computer, *others]}) == 4


@pytest.mark.cuda
def test_a_gpu_computes_what_a_cpu_computes_compiled_or_not(own_cache):
    computer = computer_of(Backbone(SQUEEZE, load_network(SQUEEZE, trained=False)))
    frames = torch.randint(0, 256, (10, 224, 224, 3), dtype=torch.uint8)
    expected = computer(frames)
    on_gpu = CubeComputer(
        computer.backbone, computer.preprocessing, device=torch.device("cuda"), batch_size=4
    )
    for each in (on_gpu, choose_compiled("on", on_gpu, num_frames=1)):
        computed = each(frames)
        np.testing.assert_allclose(computed.thumbnails, expected.thumbnails, atol=1e-5)
        for layer, cubes in expected.cubes.items():
            assert frame_cosines(computed.cubes[layer], cubes).min() > 0.9999
