"""Weights of pyramid-attention's losses by which its bases differ while it finds what it did.

    uv run python -m benchmarks.pyramid_weights

The head is fitted as `train` does, at its default options, on planted clips: noise, with the class
written into one random cell of a frame (`tests.planted.class_in_noise`). Of 400 clips it sees 32 a
step; the 512 clips of the table are others. *Overlap* is the mean of A Aᵀ off its diagonal: 1 where
all bases look alike, 0 where no cell has two of them. *Share* is how much of the attention lies on
the written cell. *Spread* is what the first weights W_j are multiplied by: equal bases have equal
gradients, so that no loss would part them. The first row of each rate has no loss at all.

Goal: an overlap of at most 0.7 at an accuracy at most 0.02 below that of the first row.
"""

from __future__ import annotations

from itertools import product

import torch

from tests import planted
from train.data.batch import Batch, InputShape
from train.fitting.config import TrainConfig
from train.fitting.state import Candidate, FitState
from train.fitting.tasks import SINGLE_LABEL
from train.heads import Head, build_head
from train.heads.blocks.interaction import INITIAL_SPREAD

SPREADS, WEIGHTS = (1.0, 4.0, 8.0), (3e-5, 1e-4, 3e-4)
STEPS_OF_RATE = {1e-3: 600, 3e-3: 200}
NUM_CLIPS, BATCH, DECAY = 400, 32, 0.01
MOST_OVERLAP, MOST_LOST = 0.7, 0.02
WITHOUT_LOSSES = {"variance": 0.0, "orthogonality": 0.0, "complementary": 0.0}


def main() -> None:
    torch.set_num_threads(1)
    print("| rate | spread | variance and orthogonality | accuracy | overlap | share | goal |")
    print("|" + "---|" * 7)
    for rate in STEPS_OF_RATE:
        accuracy, overlap, share = measure(rate, WITHOUT_LOSSES, spread=1.0)
        print(f"| {rate:g} | 1 | no loss | {accuracy:.3f} | {overlap:.3f} | {share:.3f} | |")
        lowest = accuracy - MOST_LOST
        for spread, weight in product(SPREADS, WEIGHTS):
            weights = {"variance": weight, "orthogonality": weight}
            accuracy, overlap, share = measure(rate, weights, spread=spread)
            is_met = "met" if overlap <= MOST_OVERLAP and accuracy >= lowest else ""
            found = f"{accuracy:.3f} | {overlap:.3f} | {share:.3f} | {is_met}"
            print(f"| {rate:g} | {spread:g} | {weight:g} | {found} |", flush=True)


def measure(rate: float, weights: dict[str, float], *, spread: float) -> tuple[float, float, float]:
    """Return accuracy, overlap of bases and share of the attention on the written cell."""

    def build() -> Head:
        shape = InputShape({"top": (planted.GRID, planted.NOISE_DIM)})
        head = build_head(
            "pyramid-attention", shape=shape, num_classes=planted.NUM_CLASSES, **weights
        )
        with torch.no_grad():
            for score in head.attend.score:
                score.weight *= spread / INITIAL_SPREAD
        return head

    state = FitState(
        build, seed=0, candidate=Candidate(rate, DECAY), config=TrainConfig(),
        device=torch.device("cpu"),
    )  # fmt: skip
    pool = planted.class_in_noise(NUM_CLIPS, torch.Generator().manual_seed(1))
    state.begin([pool.batch], num_steps=STEPS_OF_RATE[rate])
    state.head.train()
    generator = torch.Generator().manual_seed(3)
    for _ in range(STEPS_OF_RATE[rate]):
        chosen = torch.randint(NUM_CLIPS, (BATCH,), generator=generator)
        cubes = {name: values[chosen] for name, values in pool.batch.cubes.items()}
        batch = Batch(cubes, diffs=None, mask=pool.batch.mask[chosen])
        state.step(batch, pool.labels[chosen], None, SINGLE_LABEL)
    accuracy, output, where = planted.evaluate(state.head.eval(), planted.class_in_noise)
    overlap = planted.mean_overlap(output.maps["bases"].flatten(3))
    return accuracy, overlap, planted.share_on(where, output.maps["spatial"], axes=(2, 3))


if __name__ == "__main__":
    main()
