"""Cubes into which a class is planted so that only some mechanism can read it, and how to train.

A set is a function of a number of clips and a generator that returns a `Planted`.
"""

import math
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d, one_hot

from tests.batches import batch_of
from train.data.batch import Batch
from train.fitting.losses import clip_probabilities
from train.fitting.state import training_loss
from train.fitting.tasks import SINGLE_LABEL

NUM_CLASSES, GRID, NUM_FRAMES = 5, 7, 2
PATH_GRID, PATH_DIM = 5, 32
NOISE_DIM = 32
LONG, INTERVAL, INTERVAL_GRID = 12, 3, 3  # frames of a clip and of its interval
ORDERS = torch.tensor(list(permutations(range(3))))


class Planted(NamedTuple):
    """Clips, their labels, and where the class can be seen: (B, T, K, K) or (B, T)."""

    batch: Batch
    labels: Tensor
    where: Tensor


# --- Where ---------------------------------------------------------------------------------------


def hidden_cell(num_clips, generator):
    """Every cell shows some class, one marked cell a frame shows the clip's.

    The mean over cells is therefore nearly blind: the marked cell is 1 in 49. The mark is the last
    channel.
    """
    shown, marked, labels = _shown_and_marked(num_clips, generator)
    cubes = torch.cat([shown, marked.unsqueeze(-1)], dim=-1)
    return Planted(batch_of(_noisy(cubes, generator)), labels, marked)


def cell_hidden_in_fine_layer(num_clips, generator):
    """The same, but the mark is in a layer of twice the grid, at one of the cell's four."""
    shown, marked, labels = _shown_and_marked(num_clips, generator)
    fine = torch.zeros(num_clips, NUM_FRAMES, 2 * GRID, 2 * GRID, 2)
    fine[..., ::2, ::2, 0] = 4 * marked
    return Planted(batch_of(_noisy(fine, generator), _noisy(shown, generator)), labels, marked)


def misleading_mark(num_clips, generator):
    """As `hidden_cell`, but the mark is beside the class: it is where no mark is.

    One cell a frame shows the clip's class, all others the next class, one of them marked. A head
    that follows the mark is wrong. `where` is the cell that shows the clip's class.
    """
    labels = torch.randint(NUM_CLASSES, (num_clips,), generator=generator)
    order = torch.rand(num_clips, NUM_FRAMES, GRID**2, generator=generator).argsort(-1)
    true, marked = (
        one_hot(order[..., i], GRID**2).reshape(num_clips, NUM_FRAMES, GRID, GRID).float()
        for i in (0, 1)
    )
    next_labels = (labels + 1) % NUM_CLASSES
    of_clip = labels.reshape(-1, 1, 1, 1), next_labels.reshape(-1, 1, 1, 1)
    shown = one_hot(torch.where(true.bool(), *of_clip), NUM_CLASSES).float()
    cubes = torch.cat([shown, marked.unsqueeze(-1)], dim=-1)
    return Planted(batch_of(_noisy(cubes, generator)), labels, true)


def class_in_noise(num_clips, generator):
    """Noise, to one cell of which in each frame the vector of the clip's class is added.

    Cubes are (T, 7, 7, 32). Nine tenths of the variance is common to all cells of a frame, as cells
    of a picture are alike: so scores differ little from cell to cell, and bases are alike too.
    """
    labels = torch.randint(NUM_CLASSES, (num_clips,), generator=generator)
    cells = torch.randint(GRID**2, (num_clips, NUM_FRAMES), generator=generator)
    marked = one_hot(cells, GRID**2).float().reshape(num_clips, NUM_FRAMES, GRID, GRID)
    vectors = 2 * torch.randn(NUM_CLASSES, NOISE_DIM, generator=torch.Generator().manual_seed(7))
    written = marked.unsqueeze(-1) * vectors[labels].reshape(-1, 1, 1, 1, NOISE_DIM)
    own = torch.randn(written.shape, generator=generator)
    common = torch.randn(num_clips, NUM_FRAMES, 1, 1, NOISE_DIM, generator=generator)
    cubes = math.sqrt(0.9) * common + math.sqrt(0.1) * own + written
    return Planted(batch_of(cubes), labels, marked)


# --- When and in which order ---------------------------------------------------------------------


def moving_blob(num_clips, generator):
    """A blob crosses the grid on some row; class 1 is class 0 played backwards.

    A clip and its reverse have the same set of frames, so that a head blind to order is at chance.
    As those of a network, cells know something of their position; their channels are mixed.
    """
    labels = torch.randint(2, (num_clips,), generator=generator)
    rows = torch.randint(PATH_GRID, (num_clips,), generator=generator)
    steps = torch.arange(PATH_GRID)
    columns = torch.where(labels.unsqueeze(1) == 1, steps.flip(0), steps)
    blob = one_hot(rows[:, None] * PATH_GRID + columns, PATH_GRID**2).float()
    blob = blob.reshape(num_clips, PATH_GRID, PATH_GRID, PATH_GRID)
    right = (steps / (PATH_GRID - 1)).expand_as(blob)
    latent = torch.stack([blob, right, 1 - right, torch.ones_like(blob)], dim=-1)
    mixing = torch.randn(4, PATH_DIM, generator=torch.Generator().manual_seed(7))
    cubes = _noisy(latent @ mixing, generator, std=0.1).relu()
    return Planted(batch_of(cubes), labels, blob)


def marked_interval(num_clips, generator):
    """Every frame shows some class, three marked ones in a row show the clip's: (T, 3, 3, 6)."""
    labels = torch.randint(NUM_CLASSES, (num_clips,), generator=generator)
    start = torch.randint(LONG - INTERVAL + 1, (num_clips, 1), generator=generator)
    frames = torch.arange(LONG)
    inside = (frames >= start) & (frames < start + INTERVAL)
    shown = torch.randint(NUM_CLASSES, (num_clips, LONG), generator=generator)
    shown = torch.where(inside, labels.unsqueeze(1), shown)
    vectors = torch.cat([one_hot(shown, NUM_CLASSES), inside.unsqueeze(-1)], dim=-1)
    cubes = vectors[:, :, None, None].expand(-1, -1, INTERVAL_GRID, INTERVAL_GRID, -1)
    return Planted(batch_of(_noisy(cubes, generator)), labels, inside)


def ordered_segments(num_clips, generator):
    """Three segments of any length, the class is their order: (T, 1, 1, 3); and where they end."""
    labels = torch.randint(len(ORDERS), (num_clips,), generator=generator)
    shuffled = torch.rand(num_clips, LONG - 3, generator=generator).argsort(dim=1)
    # Two different cuts of 0 … T-4, moved apart: no segment is shorter than two frames.
    starts = shuffled[:, :2].sort(dim=1).values + torch.tensor([2, 3])
    frames = torch.arange(LONG)
    segment = (frames >= starts[:, :1]).long() + (frames >= starts[:, 1:]).long()
    shown = ORDERS[labels].gather(1, segment)
    ends = torch.zeros(shown.shape, dtype=torch.bool).scatter_(1, starts - 1, True)
    cubes = _noisy(one_hot(shown, 3), generator, std=0.25)
    return Planted(batch_of(cubes[:, :, None, None]), labels, ends)


# --- Training and looking ------------------------------------------------------------------------


def train(head, draw, *, num_steps=200, learning_rate=0.02, batch_size=64):
    """Train on ever new clips; return the head in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    head.fit_statistics([draw(256, generator).batch])
    optimiser = torch.optim.Adam(head.parameters(), lr=learning_rate)
    head.train()
    for _ in range(num_steps):
        batch, labels, _ = draw(batch_size, generator)
        optimiser.zero_grad()
        training_loss(head, batch, labels, None, SINGLE_LABEL).backward()
        optimiser.step()
    return head.eval()


@torch.no_grad()
def evaluate(head, draw, *, last_n=None):
    """Return accuracy and output on new clips, and where their class can be seen."""
    batch, labels, where = draw(512, torch.Generator().manual_seed(99))
    output = head(batch)
    predicted = clip_probabilities(output.logits, batch.mask, last_n=last_n).argmax(-1)
    return (predicted == labels).float().mean().item(), output, where


def share_on(where, weights, *, axes):
    """Return the mean share of the weights, which are summed over `axes`, that lies on `where`."""
    return ((weights * where).sum(axes) / weights.sum(axes)).mean().item()


def boundary_f1(found, ends):
    """Return F1 of boundaries (B, T), one frame too early or too late being right as well."""

    def widened(flags):
        return max_pool1d(flags.float().unsqueeze(1), 3, stride=1, padding=1).squeeze(1) > 0

    precision = (found & widened(ends)).sum() / found.sum().clamp(min=1)
    recall = (ends & widened(found)).sum() / ends.sum()
    return (2 * precision * recall / (precision + recall).clamp(min=1e-9)).item()


def mean_overlap(bases):
    """Return the mean product of two different rows of A, those of one set of cells: (…, m, n)."""
    overlaps, num = bases @ bases.mT, bases.shape[-2]
    apart = overlaps.sum((-1, -2)) - overlaps.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (apart / (num * (num - 1))).mean().item()


def _shown_and_marked(num_clips, generator):
    shown = torch.randint(NUM_CLASSES, (num_clips, NUM_FRAMES, GRID**2), generator=generator)
    labels = torch.randint(NUM_CLASSES, (num_clips,), generator=generator)
    where = torch.randint(GRID**2, (num_clips, NUM_FRAMES, 1), generator=generator)
    shown.scatter_(2, where, labels.reshape(-1, 1, 1).expand(where.shape))
    grid = (num_clips, NUM_FRAMES, GRID, GRID)
    marked = one_hot(where.squeeze(2), GRID**2).float().reshape(grid)
    return one_hot(shown, NUM_CLASSES).float().reshape(*grid, -1), marked, labels


def _noisy(cubes, generator, *, std=0.15):
    return 2 * cubes + 2 * std * torch.randn(cubes.shape, generator=generator)
