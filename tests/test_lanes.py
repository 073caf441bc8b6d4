"""Batches side by side: in order, the same numbers, bounded, and nothing left behind."""

import threading
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extract.backbones import load_backbone
from extract.compute.computer import CubeComputer
from extract.compute.lanes import MAX_CPU_LANES, ComputeLanes, plan_lanes
from extract.compute.preprocess import preprocessing_for
from features_store.errors import MachineError

CPU = torch.device("cpu")


class SlowFirst:
    """Work whose batch 0 waits to be released; counts what is in work."""

    def __init__(self) -> None:
        self.lock, self.in_work, self.most = threading.Lock(), 0, 0
        self.release = threading.Event()

    def __call__(self, number):
        with self.lock:
            self.in_work += 1
            self.most = max(self.most, self.in_work)
        if number == 0:
            assert self.release.wait(60)
        with self.lock:
            self.in_work -= 1
        return 10 * number


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_batches_though_the_first_is_done_last(four_threads):
    work = SlowFirst()
    done = []
    with ComputeLanes(CPU) as lanes:
        for number in range(5):
            lanes.add(number, partial(work, number))
            done += lanes.ready()
        assert not done  # the first is in work, and no one overtakes it
        work.release.set()
        done += lanes.rest()

    assert [item for item, _ in done] == [0, 1, 2, 3, 4]
    assert [result for _, result in done] == [0, 10, 20, 30, 40]
    assert work.most > 1


def test_what_has_nothing_to_compute_keeps_its_place():
    work = SlowFirst()
    work.release.set()
    with ComputeLanes(CPU) as lanes:
        lanes.add("frames", partial(work, 3))
        lanes.add("end", None)
        found = [*lanes.rest()]

    assert [item for item, _ in found] == ["frames", "end"]
    assert found[1][1] is None


def test_the_queue_is_bounded(four_threads):
    work = SlowFirst()
    work.release.set()
    in_queue, taken = [], []
    with ComputeLanes(CPU) as lanes:
        for number in range(50):
            lanes.add(number, partial(work, number))
            taken += [item for item, _ in lanes.ready()]
            in_queue.append(number + 1 - len(taken))
        taken += [item for item, _ in lanes.rest()]

    assert max(in_queue) <= 4 + 1
    assert taken == [*range(50)]


def test_the_number_of_threads_is_as_before(four_threads):
    with ComputeLanes(CPU):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4


def test_a_failing_batch_raises_where_its_turn_is():
    def fail():
        raise MachineError("no memory")

    with ComputeLanes(CPU) as lanes:
        lanes.add(0, fail)
        with pytest.raises(MachineError, match="no memory"):
            next(lanes.rest())


def test_lanes_compute_what_the_computer_computes(four_threads):
    backbone = load_backbone("tiny:conv")
    computer = CubeComputer(
        backbone,
        preprocessing_for(backbone.config, fit="crop"),
        device=CPU,
        batch_size=2,
    )
    rng = np.random.default_rng(0)
    batches = [
        rng.integers(0, 256, (2, *backbone.config.input_size, 3)).astype(np.uint8) for _ in range(5)
    ]
    with ComputeLanes(CPU) as lanes:
        for number, batch in enumerate(batches):
            lanes.add(number, partial(computer, torch.from_numpy(batch)))
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
