"""Cubes into which a class is planted so that only some mechanism can read it, and how to train.

A set is a function of a number of clips and a generator that returns a batch and its labels.
"""

import torch
from torch.nn.functional import one_hot

from train.batch import Batch
from train.fit import training_loss
from train.losses import clip_probabilities

NUM_CLASSES, GRID, NUM_FRAMES = 5, 7, 2
PATH_GRID, PATH_DIM = 5, 32


def batch_of(*cubes):
    """A batch without padding, of one layer or more; the last is the top."""
    names = [f"layer{index}" for index in range(len(cubes))]
    mask = torch.ones(cubes[-1].shape[:2], dtype=torch.bool)
    return Batch(cubes=dict(zip(names, cubes, strict=True)), diffs=None, mask=mask)


def hidden_cell(num_clips, generator):
    """Every cell shows some class, one marked cell a frame shows the clip's.

    The mean over cells is therefore nearly blind: the marked cell is 1 in 49. The mark is the last
    channel.
    """
    shown, marked, labels = _shown_and_marked(num_clips, generator)
    cubes = torch.cat([shown, marked.unsqueeze(-1)], dim=-1)
    return batch_of(_noisy(cubes, generator)), labels


def cell_hidden_in_fine_layer(num_clips, generator):
    """The same, but the mark is in a layer of twice the grid, at one of the cell's four."""
    shown, marked, labels = _shown_and_marked(num_clips, generator)
    fine = torch.zeros(num_clips, NUM_FRAMES, 2 * GRID, 2 * GRID, 2)
    fine[..., ::2, ::2, 0] = 4 * marked
    return batch_of(_noisy(fine, generator), _noisy(shown, generator)), labels


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
    return batch_of(_noisy(latent @ mixing, generator, std=0.1).relu()), labels


def marks(batch):
    """Where the marked cell of each frame of `hidden_cell` is: (B, T, K, K)."""
    return one_hot(batch.top[..., -1].flatten(2).argmax(-1), GRID**2).unflatten(-1, (GRID, GRID))


def train(head, draw, *, num_steps=200, learning_rate=0.02):
    """Train on ever new clips; return the head."""
    generator = torch.Generator().manual_seed(0)
    head.fit_statistics([draw(256, generator)[0]])
    optimiser = torch.optim.Adam(head.parameters(), lr=learning_rate)
    for _ in range(num_steps):
        batch, labels = draw(64, generator)
        optimiser.zero_grad()
        training_loss(head, batch, labels, None).backward()
        optimiser.step()
    return head.eval()


@torch.no_grad()
def evaluate(head, draw):
    """Return accuracy and output on new clips, and the clips."""
    batch, labels = draw(512, torch.Generator().manual_seed(99))
    output = head(batch)
    predicted = clip_probabilities(output.logits, batch.mask).argmax(-1)
    return (predicted == labels).float().mean().item(), output, batch


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
