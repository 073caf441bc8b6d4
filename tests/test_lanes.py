"""Batches side by side: in order, the same numbers, bounded, and nothing left behind."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extract.backbones import load_backbone
from extract.compute import ComputedFrames, CubeComputer
from extract.lanes import MAX_CPU_LANES, ComputeLanes, plan_lanes
from extract.preprocess import preprocessing_for
from features_store.errors import MachineError


class SlowFirst(CubeComputer):
    """A computer whose first batch waits to be released; counts what is in work."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.lock, self.in_work, self.most = threading.Lock(), 0, 0
        self.release = threading.Event()

    def __call__(self, pixels):
        with self.lock:
            self.in_work += 1
            self.most = max(self.most, self.in_work)
        number = int(pixels[0, 0, 0, 0])
        if number == 0:
            assert self.release.wait(60)
        with self.lock:
            self.in_work -= 1
        return ComputedFrames({"top": np.full((1, 1, 1, 1), number)}, np.zeros((1, 14, 14, 3)))


def picture(number):
    return np.full((1, 2, 2, 3), number, np.uint8)


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_batches_though_the_first_is_done_last(four_threads):
    computer = SlowFirst()
    done = []
    with ComputeLanes(computer) as lanes:
        for number in range(5):
            lanes.add(number, picture(number))
            done += lanes.ready()
        assert not done  # the first is in work, and no one overtakes it
        computer.release.set()
        done += lanes.rest()

    assert [item for item, _ in done] == [0, 1, 2, 3, 4]
    assert [int(computed.cubes["top"].item()) for _, computed in done] == [0, 1, 2, 3, 4]
    assert computer.most > 1


def test_what_has_nothing_to_compute_keeps_its_place():
    computer = SlowFirst()
    computer.release.set()
    with ComputeLanes(computer) as lanes:
        lanes.add("frames", picture(3))
        lanes.add("end", None)
        found = [*lanes.rest()]

    assert [item for item, _ in found] == ["frames", "end"]
    assert found[1][1] is None


def test_the_queue_is_bounded(four_threads):
    computer = SlowFirst()
    computer.release.set()
    in_queue, taken = [], []
    with ComputeLanes(computer) as lanes:
        for number in range(50):
            lanes.add(number, picture(number))
            taken += [item for item, _ in lanes.ready()]
            in_queue.append(number + 1 - len(taken))
        taken += [item for item, _ in lanes.rest()]

    assert max(in_queue) <= 4 + 1
    assert taken == [*range(50)]


def test_the_number_of_threads_is_as_before(four_threads):
    with ComputeLanes(SlowFirst()):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4


def test_a_failing_batch_raises_where_its_turn_is():
    class Broken(SlowFirst):
        def __call__(self, pixels):
            raise MachineError("no memory")

    with ComputeLanes(Broken()) as lanes:
        lanes.add(0, picture(0))
        with pytest.raises(MachineError, match="no memory"):
            next(lanes.rest())


def test_lanes_compute_what_the_computer_computes(four_threads):
    backbone = load_backbone("tiny:conv")
    computer = CubeComputer(
        backbone,
        preprocessing_for(backbone.config, fit="crop"),
        device=torch.device("cpu"),
        batch_size=2,
    )
    rng = np.random.default_rng(0)
    batches = [
        rng.integers(0, 256, (2, *backbone.config.input_size, 3)).astype(np.uint8) for _ in range(5)
    ]
    with ComputeLanes(computer) as lanes:
        for number, batch in enumerate(batches):
            lanes.add(number, batch)
        found = [computed for _, computed in lanes.rest()]

    (layer,) = found[0].cubes
    for computed, batch in zip(found, batches, strict=True):
        alone = computer(torch.from_numpy(batch))
        np.testing.assert_array_equal(computed.cubes[layer], alone.cubes[layer])


@given(st.integers(1, 512))
def test_lanes_use_the_threads_there_are_and_no_more(num_threads):
    lanes, each = plan_lanes("cpu", num_threads=num_threads)

    assert 1 <= lanes <= MAX_CPU_LANES
    assert lanes * each <= num_threads < lanes * (each + 1)
