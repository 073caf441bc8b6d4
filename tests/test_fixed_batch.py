"""Batches that re-use one place on a device: nothing of one batch is seen in another's results."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.backbones import load_backbone
from extract.compute import computer as compute
from extract.compute import device_copies
from extract.compute.computer import CubeComputer
from extract.compute.fixed_batch import FixedBatch, Places
from extract.compute.preprocess import preprocessing_for

CPU = torch.device("cpu")
BATCH = 4
POISON = 7777.0


class PoisonedBatch(FixedBatch):
    """A place as on a GPU, in memory of the CPU, that is spoilt as soon as it is handed back."""

    def __init__(self, run_on, size):
        pixels = torch.zeros(BATCH, *size, 3, dtype=torch.uint8)
        with torch.inference_mode():
            outputs = [torch.empty_like(output) for output in run_on(pixels)]
        super().__init__(pixels, outputs, self._compute)
        self._run_on = run_on

    def _compute(self):
        for target, output in zip(self.outputs, self._run_on(self.pixels), strict=True):
            target.copy_(output)

    def spoil(self):
        self.pixels.fill_(99)
        for output in self.outputs:
            output.fill_(POISON)


class PoisoningPlaces(Places):
    def take(self):
        return _Spoiling(super().take())


class _Spoiling:
    def __init__(self, taken):
        self._taken = taken

    def __enter__(self):
        self._place = self._taken.__enter__()
        return self._place

    def __exit__(self, *error):
        self._place.spoil()
        return self._taken.__exit__(*error)


@pytest.fixture(scope="module")
def eager():
    backbone = load_backbone("tiny:conv")
    preprocessing = preprocessing_for(backbone.config, fit="crop")
    return CubeComputer(backbone, preprocessing, device=CPU, batch_size=BATCH)


@pytest.fixture
def reusing(eager, monkeypatch):
    """The computer with two places, whose results are copied as from a device."""
    to_host = device_copies.to_host
    monkeypatch.setattr(
        compute, "to_host", lambda tensors: [array.copy() for array in to_host(tensors)]
    )
    computer = eager.cubes_as(torch.float16)
    size = eager.preprocessing.input_size
    computer._places = PoisoningPlaces([PoisonedBatch(computer._on_device, size) for _ in range(2)])
    return computer


def frames_of(seed, count, size):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8, generator=generator)


def test_places_give_what_batches_of_their_own_give_however_many_wait(eager, reusing):
    size = eager.preprocessing.input_size
    batches = [frames_of(i, 1 + i % BATCH, size) for i in range(24)]
    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(reusing, batches))

    for computed, batch in zip(found, batches, strict=True):
        alone = eager(batch)
        assert computed.cubes["top"].dtype == np.float16
        np.testing.assert_array_equal(computed.cubes["top"], alone.cubes["top"].astype(np.float16))
        np.testing.assert_array_equal(computed.thumbnails, alone.thumbnails)


def test_a_place_whose_outputs_are_not_copied_is_noticed(eager, reusing, monkeypatch):
    monkeypatch.setattr(compute, "to_host", device_copies.to_host)
    computed = reusing(frames_of(0, BATCH, eager.preprocessing.input_size))

    assert (computed.cubes["top"] == POISON).all()


def test_more_batches_than_places_wait_and_a_failing_one_gives_its_place_back():
    place = FixedBatch(torch.zeros(1), [torch.zeros(1)], lambda: None)
    places = Places([place])

    def fail():
        with places.take():
            raise ValueError("broken")

    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            fail()
    with places.take() as taken:
        assert taken is place


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_blocks_are_gathered_in_order(lengths):
    blocks, first = [], 0
    for length in lengths:
        blocks.append(np.arange(first, first + length, dtype=np.uint8).reshape(-1, 1))
        first += length

    assert device_copies.gather(blocks, CPU)[:, 0].tolist() == list(range(first))


@pytest.mark.parametrize(("dtype", "cell_bytes"), [(torch.float16, 2), (torch.float32, 4)])
def test_cubes_travel_in_the_dtype_that_is_stored(eager, monkeypatch, dtype, cell_bytes):
    """Bytes from the device, a frame: its cells as they are stored, and its thumbnail."""
    copied = []
    to_host = device_copies.to_host

    def counting(tensors):
        copied.append(sum(tensor.nbytes for tensor in tensors))
        return to_host(tensors)

    monkeypatch.setattr(compute, "to_host", counting)
    (layer,) = eager.backbone.layers
    computer = eager.cubes_as(dtype)
    computer(frames_of(0, BATCH, eager.preprocessing.input_size))

    cells = int(np.prod(layer.cube_shape))
    assert copied == [BATCH * (cell_bytes * cells + 4 * 14 * 14 * 3)]


def test_another_dtype_is_the_same_cubes_rounded(eager):
    pixels = frames_of(3, 7, eager.preprocessing.input_size)
    rounded = eager.cubes_as(torch.float16)(pixels).cubes["top"]

    np.testing.assert_array_equal(rounded, eager(pixels).cubes["top"].astype(np.float16))


def test_work_of_lanes_is_gathered_there(eager):
    """Nothing is copied where batches are handed out, in the thread that feeds the lanes."""
    from extract.compute.batching import FrameBlock
    from extract.compute.views import ViewComputer
    from extract.video.pictures import PictureStack

    pixels = frames_of(1, 2, eager.preprocessing.input_size).numpy()
    block = FrameBlock(pixels, np.zeros(2), np.arange(2))
    work = ViewComputer(eager, stack=PictureStack()).work([block])

    assert isinstance(work, partial)
    assert work.args[0][0] is pixels
