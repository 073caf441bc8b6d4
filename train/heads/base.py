"""What every head is: cubes and a mask in, `HeadOutput` out, and defaults for its training."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from features_store.errors import UsageError
from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.options import check_option

AttentionForm = Literal["frame", "clip", "cell"]


class Head(nn.Module, ABC):
    """Everything trainable after the cubes.

    A subclass has a keyword-only constructor: `shape`, `num_classes`, then its own options with
    defaults and annotations of bool, int, float, str or Literal, from which `build_head` validates.

    Attributes:
        head_name: the name it is registered under.
        source: the paper, its arXiv number and the equation or section, as in "Sharma, Kiros,
            Salakhutdinov 2015, arXiv 1511.04119, equation 4"; or "no paper: …".
        learning_rate: where Adam starts from when the user does not say.
        weight_decay: the default beside it.
        takes_attention: whether `forward` accepts `attention=`.
        attention_form: what it replaces: weights that sum to one over the cells of a frame, or of
            all frames of a clip, or a mask of which each "cell" is between 0 and 1 by itself.
        takes_tail: whether the constructor wants `tail`: what the network that the cubes came from
            has after the top layer, (n, D, K, K) to (n, D', K', K'), which the head trains.
    """

    head_name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    learning_rate: ClassVar[float] = 1e-3
    weight_decay: ClassVar[float] = 0.0
    takes_attention: ClassVar[bool] = False
    attention_form: AttentionForm = "frame"
    takes_tail: ClassVar[bool] = False

    def __init__(self, *, shape: InputShape, num_classes: int) -> None:
        super().__init__()
        check_option("num_classes", num_classes, at_least=1)
        self.shape = shape
        self.num_classes = num_classes
        self._loss_weights: dict[str, float] = {}

    @property
    def loss_weights(self) -> dict[str, float]:
        """How much each of `HeadOutput.losses` counts beside the cross-entropy."""
        return self._loss_weights

    def weigh_losses(self, **weights: float) -> None:
        """Set `loss_weights`, each from the option of its name.

        Raises:
            UsageError: one of them is negative.
        """
        for name, weight in weights.items():
            check_option(name, weight, at_least=0)
        self._loss_weights = weights

    @abstractmethod
    def forward(
        self, batch: Batch, *, attention: Float[Tensor, "b t k k"] | None = None
    ) -> HeadOutput:
        """Return logits, maps and losses; `attention` replaces the weights the head would compute.

        Raises:
            UsageError: `attention` was given to a head that has none.
        """

    def condense(self, batch: Batch) -> dict[str, Tensor] | None:
        """Return all that this head takes from clips, (B, …) each, as far as no parameter is in it.

        A head that pools first needs a fiftieth of a cube; the loop then keeps that alone. None
        means that the head needs the cubes.
        """
        return None

    def condensed(self, batch: Batch) -> dict[str, Tensor]:
        """Return `condense(batch)`, which may have been computed before."""
        condensed = batch.condensed if batch.condensed is not None else self.condense(batch)
        assert condensed is not None, f"{self.head_name} does not condense"
        return condensed

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Fit buffers such as means to the training set; called once, before the first step.

        `batches` are those of one epoch, and are read whenever they are iterated over.
        """

    def check_attention(self, attention: Tensor | None, batch: Batch) -> None:
        """Raise `UsageError` when `attention` has another shape than the cubes' (B, T, K, K)."""
        if attention is not None and attention.shape != batch.top.shape[:4]:
            raise UsageError(
                f"attention must be (B, T, K, K) = {tuple(batch.top.shape[:4])} as the cubes, "
                f"got {tuple(attention.shape)}"
            )

    def refuse_attention(self, attention: Tensor | None) -> None:
        """Raise `UsageError` when `attention` is given; for heads that have nothing to replace."""
        if attention is not None:
            raise UsageError(
                f"head {self.head_name!r} has no attention to replace; "
                "attention= works with heads that return a 'spatial' map, such as 'soft-attention'"
            )

    if TYPE_CHECKING:  # nn.Module says that a call returns Any

        def __call__(self, batch: Batch, *, attention: Tensor | None = None) -> HeadOutput:
            """See `forward`."""
