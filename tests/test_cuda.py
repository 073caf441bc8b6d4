"""What only a GPU can show: the numbers of a CPU, in order, from every part that computes there."""

import json
from functools import partial

import numpy as np
import pytest
import torch

from extract.backbones import load_backbone
from extract.backbones.registry import Backbone, load_network
from extract.compute.computer import CubeComputer
from extract.compute.lanes import ComputeLanes
from extract.compute.preprocess import preprocessing_for
from features_store.verbs.diff import frame_cosines
from tests.clips import write_classes
from tests.test_heads import LABELS, VARIANTS, build, clips, stirred, variant_id
from train.data.batch import Batch
from train.fitting.state import training_loss
from train.fitting.tasks import SINGLE_LABEL

pytestmark = pytest.mark.cuda
CUDA = torch.device("cuda")
EXTRACT = ("--backbone", "tiny:conv", "--fps", "10")


def moved(batch):
    cubes = {layer: cubes.to(CUDA) for layer, cubes in batch.cubes.items()}
    return Batch(cubes=cubes, diffs=batch.diffs.to(CUDA), mask=batch.mask.to(CUDA))


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_id)
def test_a_head_has_the_loss_and_gradients_of_a_cpu(variant):
    head, batch = stirred(build(variant)), clips()
    head.fit_statistics([batch])
    torch.manual_seed(0)
    expected = training_loss(head, batch, LABELS, None, SINGLE_LABEL)
    expected.backward()
    gradients = {n: p.grad.clone() for n, p in head.named_parameters() if p.grad is not None}
    head.zero_grad()
    head.to(CUDA)
    loss = training_loss(head, moved(batch), LABELS.to(CUDA), None, SINGLE_LABEL)
    loss.backward()

    torch.testing.assert_close(loss.cpu(), expected, rtol=1e-4, atol=1e-5)
    for parameter_name, parameter in head.named_parameters():
        if parameter_name in gradients:
            want = gradients[parameter_name]
            near = 1e-3 * float(want.abs().max()) + 1e-5
            torch.testing.assert_close(parameter.grad.cpu(), want, rtol=1e-3, atol=near)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_batches_in_lanes_are_those_of_one_at_a_time(precision):
    backbone = load_backbone("tiny:conv")
    computer = CubeComputer(
        backbone, preprocessing_for(backbone.config, fit="crop"), device=CUDA, batch_size=8,
        precision=precision,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    size = backbone.config.input_size
    batches = [
        torch.from_numpy(rng.integers(0, 256, (8 - i % 3, *size, 3)).astype(np.uint8))
        for i in range(60)
    ]
    found = []
    with ComputeLanes(CUDA) as lanes:
        for number, batch in enumerate(batches):
            lanes.add(number, partial(computer, batch))
            found += lanes.ready()
        found += lanes.rest()

    assert [number for number, _ in found] == [*range(60)]
    for (_, computed), batch in zip(found, batches, strict=True):
        alone = computer(batch)
        np.testing.assert_array_equal(computed.thumbnails, alone.thumbnails)
        for layer, cubes in alone.cubes.items():
            assert frame_cosines(computed.cubes[layer], cubes).min() > 0.99999


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "torchvision:googlenet"])
def test_graphs_that_run_at_once_share_nothing(name):
    backbone = Backbone(name, load_network(name, trained=False))
    computer = CubeComputer(
        backbone, preprocessing_for(backbone.config, fit="crop"), device=CUDA, batch_size=16,
        precision="bf16",
    )  # fmt: skip
    recorded = computer.recorded(3)
    generator = torch.Generator().manual_seed(0)
    size = (16, *backbone.config.input_size, 3)
    batches = [
        torch.randint(0, 256, size, dtype=torch.uint8, generator=generator) for _ in range(4)
    ]
    expected = [computer(batch).cubes for batch in batches]
    with ComputeLanes(CUDA) as lanes:
        for number in range(120):
            lanes.add(number, partial(recorded, batches[number % 4]))
        found = [*lanes.rest()]
    for number, computed in found:
        for layer, cubes in expected[number % 4].items():
            assert frame_cosines(computed.cubes[layer], cubes).min() > 0.99999


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("videos"))


def test_fp32_cubes_of_a_gpu_are_those_of_a_cpu(cubereel, videos, tmp_path):
    for device in ("cpu", "cuda"):
        out = tmp_path / f"{device}.cubes"
        options = ("--device", device, "--precision", "fp32", "--view", "center", "--view", "flip")
        assert cubereel("extract", videos, "--out", out, *EXTRACT, *options) == 0, cubereel.err
    assert cubereel("store", "diff", tmp_path / "cpu.cubes", tmp_path / "cuda.cubes") == 0


@pytest.mark.parametrize("head", ["mean-pool", "soft-attention", "hm-an", "temporal-shift"])
def test_a_head_is_trained_scored_and_explained(cubereel, videos, tmp_path, head):
    store, run = tmp_path / "s.cubes", tmp_path / "run"
    assert cubereel("extract", videos, "--out", store, *EXTRACT) == 0, cubereel.err
    quick = ("--clip-frames", 4, "--epochs", 3, "--device", "cuda")
    assert cubereel("train", store, "--head", head, "--out", run, *quick) == 0, cubereel.err
    (checkpoint,) = (run / "checkpoints" / head).glob("*.json")
    assert cubereel("eval", checkpoint, store, "--device", "cuda") == 0, cubereel.err
    if head == "soft-attention":
        picture = ("--video", "dark/0.mp4", "--out", tmp_path / "a.png")
        assert cubereel("explain", checkpoint, store, *picture) == 0, cubereel.err
        asked = ("--video", "dark/0.mp4", "--device", "cuda")
        assert cubereel("optimise-attention", checkpoint, store, *asked) == 0, cubereel.err


@pytest.fixture
def small_gpu():
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.02)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_batch_that_does_not_fit_is_the_machines_fault(cubereel, videos, tmp_path, small_gpu):
    options = ("--device", "cuda", "--batch-size", 100_000)
    status = cubereel("extract", videos, "--out", tmp_path / "x.cubes", *EXTRACT, *options)

    assert status == 5
    assert "give a smaller --batch-size" in cubereel.err


def test_the_doctor_finds_the_gpu_its_decoder_and_the_recorded_cubes(cubereel, tmp_path):
    cubereel("doctor", "--folder", tmp_path, "--json")
    checks = {check["name"]: check for check in json.loads(cubereel.out)}

    assert [checks[name]["status"] for name in ("gpu", "golden clip")] == ["ok", "ok"], checks
    assert checks["decoders"]["found"].endswith("; NVDEC")
    assert "cuda 1.0" in checks["golden clip"]["found"]
