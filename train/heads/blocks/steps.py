"""Linear maps inside a loop over time, whose weight gradients are one product over all steps.

A loop that applies ``W`` at each of T steps has autograd add up T products of a few rows each,
every one as large as ``W``; a single product with T times the rows takes a quarter of the time.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


class LinearSteps:
    """y_t = base_t + Σ_i W_i x_{i,t} for t = 0, 1, …: one call a step, in order.

    Values and gradients are those of the plain loop, up to the order of sums.

    Args:
        base: what does not depend on the loop: a bias, or a product with all inputs at once.
        weights: one for each input of a step.
    """

    def __init__(self, base: Float[Tensor, "t b out"], *weights: Float[Tensor, "out _"]) -> None:
        self._is_recorded = torch.is_grad_enabled()
        self._inputs: list[tuple[Tensor, ...]] = []
        self._num_done = 0
        # As a copy: BLAS takes a fifth longer where it has to turn a matrix at every step.
        self._transposed = [weight.detach().T.contiguous() for weight in weights]
        recorded: Tensor = _Recorded.apply(self._inputs, base, *weights)
        self._bases = recorded.unbind(0)

    def __call__(self, *inputs: Float[Tensor, "b _"]) -> Float[Tensor, "b out"]:
        """Return the outputs of the next step."""
        outputs = self._bases[self._num_done]
        self._num_done += 1
        for one, transposed in zip(inputs, self._transposed, strict=True):
            outputs = torch.addmm(outputs, one, transposed)
        if self._is_recorded:
            self._inputs.append(tuple(one.detach() for one in inputs))
        return outputs


class _Recorded(torch.autograd.Function):
    """Gives `base` on, and has its gradients, which are those of all outputs, for the weights."""

    @staticmethod
    def forward(
        ctx: Any, inputs: list[tuple[Tensor, ...]], base: Tensor, *weights: Tensor
    ) -> Tensor:
        ctx.inputs = inputs
        return base.view_as(base)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows = grad.reshape(-1, grad.shape[-1])
        # Steps after the last one that was taken have no inputs, and no gradient.
        columns = zip(*ctx.inputs, strict=True)
        wanted = ctx.needs_input_grad[2:]
        grads = [
            _product(rows, inputs) if is_wanted else None
            for inputs, is_wanted in zip(columns, wanted, strict=True)
        ]
        return None, grad, *grads


def _product(rows: Float[Tensor, "n out"], inputs: Sequence[Tensor]) -> Float[Tensor, "out _"]:
    columns = torch.cat([*inputs]).to(rows.dtype)  # autocast may have halved them
    return rows[: len(columns)].T @ columns
