"""Synthetic clips in which it is known where, when or in which order the class can be seen."""

from itertools import permutations

import torch
from torch.nn.functional import max_pool1d, one_hot

from train.batch import Batch
from train.fit import training_loss
from train.losses import clip_probabilities

NUM_FRAMES = 12
INTERVAL_CLASSES, INTERVAL_FRAMES, INTERVAL_GRID = 5, 3, 3
ORDERS = torch.tensor(list(permutations(range(3))))


def all_valid(cubes):
    return Batch({"top": cubes}, None, torch.ones(cubes.shape[:2], dtype=torch.bool))


def interval_clips(num_clips, generator):
    """Every frame shows some class, three marked ones in a row show the clip's: (T, 3, 3, 6)."""
    labels = torch.randint(INTERVAL_CLASSES, (num_clips,), generator=generator)
    last_start = NUM_FRAMES - INTERVAL_FRAMES
    start = torch.randint(last_start + 1, (num_clips, 1), generator=generator)
    frames = torch.arange(NUM_FRAMES)
    inside = (frames >= start) & (frames < start + INTERVAL_FRAMES)
    shown = torch.randint(INTERVAL_CLASSES, (num_clips, NUM_FRAMES), generator=generator)
    shown = torch.where(inside, labels.unsqueeze(1), shown)
    vectors = 2.0 * torch.cat([one_hot(shown, INTERVAL_CLASSES), inside.unsqueeze(-1)], dim=-1)
    to_grid = (num_clips, NUM_FRAMES, INTERVAL_GRID, INTERVAL_GRID, INTERVAL_CLASSES + 1)
    cubes = vectors[:, :, None, None] + 0.3 * torch.randn(to_grid, generator=generator)
    return all_valid(cubes), labels, inside


def order_clips(num_clips, generator):
    """Three segments of any length, the class is their order: (T, 1, 1, 3); and where they end."""
    labels = torch.randint(len(ORDERS), (num_clips,), generator=generator)
    shuffled = torch.rand(num_clips, NUM_FRAMES - 3, generator=generator).argsort(dim=1)
    # Two different cuts of 0 … T-4, moved apart: no segment is shorter than two frames.
    starts = shuffled[:, :2].sort(dim=1).values + torch.tensor([2, 3])
    frames = torch.arange(NUM_FRAMES)
    segment = (frames >= starts[:, :1]).long() + (frames >= starts[:, 1:]).long()
    shown = ORDERS[labels].gather(1, segment)
    vectors = 2.0 * one_hot(shown, 3)
    cubes = vectors + 0.5 * torch.randn(vectors.shape, generator=generator)
    ends = torch.zeros(shown.shape, dtype=torch.bool).scatter_(1, starts - 1, True)
    return all_valid(cubes[:, :, None, None]), labels, ends


def train(head, draw, *, num_steps, learning_rate, batch_size=64):
    """Fit a head to fresh clips at every step; return it in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    head.fit_statistics([draw(256, generator)[0]])
    optimiser = torch.optim.Adam(head.parameters(), lr=learning_rate)
    head.train()
    for _ in range(num_steps):
        batch, labels, _ = draw(batch_size, generator)
        optimiser.zero_grad()
        training_loss(head, batch, labels, None).backward()
        optimiser.step()
    return head.eval()


@torch.no_grad()
def evaluate(head, draw, *, last_n=None):
    """Return accuracy and output on new clips, and what is known of them."""
    batch, labels, known = draw(512, torch.Generator().manual_seed(99))
    output = head(batch)
    predicted = clip_probabilities(output.logits, batch.mask, last_n=last_n).argmax(-1)
    return (predicted == labels).float().mean().item(), output, known


def share_on(weights, planted):
    """Return the share of the weights of a frame or clip that lies on what was planted."""
    weights, planted = weights.flatten(1), planted.flatten(1)
    return ((weights * planted).sum(1) / weights.sum(1)).mean().item()


def boundary_f1(found, planted):
    """Return F1 of boundaries (B, T), one frame too early or too late being right as well."""

    def widened(flags):
        return max_pool1d(flags.float().unsqueeze(1), 3, stride=1, padding=1).squeeze(1) > 0

    precision = (found & widened(planted)).sum() / found.sum().clamp(min=1)
    recall = (planted & widened(found)).sum() / planted.sum()
    return (2 * precision * recall / (precision + recall).clamp(min=1e-9)).item()
