"""The mean over cells of cells times their gates, block by block, so that all of it stays in cache.

Cubes, gates and their gradients are a hundred megabytes each for a batch of 32 clips, and nothing
but the mean of a frame goes on. So a block of frames is gated and averaged, and forgotten; its
gates are computed again for the gradient.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_BYTES = 4 * 2**20  # of the cubes of a block, a fraction of a CPU's last cache
GPU_BLOCK_BYTES = 2**30


class GatedMeans(torch.autograd.Function):
    """Returns mean_i(x_i + x_i ⊙ σ(W v_i + b)) of every frame."""

    @staticmethod
    def forward(
        ctx: Any,
        cells: Float[Tensor, "n p d"],
        inner: Float[Tensor, "n p c"],
        weight: Float[Tensor, "d c"],
        bias: Float[Tensor, " d"],
    ) -> Float[Tensor, "n d"]:
        """Return the means."""
        ctx.save_for_backward(cells, inner, weight, bias)
        means = cells.new_empty(len(cells), cells.shape[2])
        shares = _shares(cells)
        for part in _blocks(cells):
            gated = _gates(inner[part], weight, bias).add_(1).mul_(cells[part])
            means[part] = torch.bmm(shares.expand(len(gated), -1, -1), gated).squeeze(1)
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Float[Tensor, "n d"]) -> tuple[Tensor | None, ...]:
        """Return the gradients, of the cells only where they are asked for."""
        cells, inner, weight, bias = ctx.saved_tensors
        per_cell = (grad / cells.shape[1]).unsqueeze(1)
        grad_cells = torch.empty_like(cells) if ctx.needs_input_grad[0] else None
        grad_inner = torch.empty_like(inner)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        for part in _blocks(cells):
            gates = _gates(inner[part], weight, bias)
            if grad_cells is not None:
                grad_cells[part] = (gates + 1) * per_cell[part]
            # The derivative of σ is σ (1 − σ).
            scores = gates.addcmul(gates, gates, value=-1).mul_(cells[part]).mul_(per_cell[part])
            rows = scores.reshape(-1, scores.shape[-1])
            grad_weight.addmm_(rows.T, inner[part].reshape(len(rows), -1))
            grad_bias += rows.sum(0)
            grad_inner[part] = scores @ weight
        return grad_cells, grad_inner, grad_weight, grad_bias


def _gates(
    inner: Float[Tensor, "n p c"], weight: Float[Tensor, "d c"], bias: Float[Tensor, " d"]
) -> Float[Tensor, "n p d"]:
    return torch.nn.functional.linear(inner, weight, bias).sigmoid_()


def _shares(cells: Float[Tensor, "n p d"]) -> Float[Tensor, "1 1 p"]:
    return cells.new_full((1, 1, cells.shape[1]), 1 / cells.shape[1])


def _blocks(cells: Float[Tensor, "n p d"]) -> Iterator[slice]:
    frame_bytes = cells[0].numel() * cells.element_size()
    size = max(1, (BLOCK_BYTES if cells.device.type == "cpu" else GPU_BLOCK_BYTES) // frame_bytes)
    for start in range(0, len(cells), size):
        yield slice(start, start + size)
