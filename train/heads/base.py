"""What every head is: cubes and a mask in, `HeadOutput` out, and defaults for its training."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from features_store.errors import UsageError
from train.data.batch import Batch, HeadOutput, InputShape
from train.heads.cell_inputs import CellInputs
from train.heads.map_meanings import MapMeaning, MapMeanings
from train.heads.options import check_option

AttentionForm = Literal["frame", "clip", "cell"]
AttentionMap = Float[Tensor, "b t k k"]


@dataclass(frozen=True)
class SeenBatches:
    """Batches as a head sees them, read anew whenever they are iterated over."""

    inputs: CellInputs
    batches: Iterable[Batch]

    def __iter__(self) -> Iterator[Batch]:
        """Yield a batch at a time."""
        return (self.inputs(batch) for batch in self.batches)


class Head(nn.Module, ABC):
    """Everything trainable after the cubes.

    A subclass has a keyword-only constructor: `shape`, `num_classes`, then its own options with
    defaults and annotations of bool, int, float, str or Literal, from which `build_head` validates.
    Bounds of a number are in its annotation, as `PositiveInt` has them.

    Attributes:
        head_name: the name it is registered under.
        source: the paper, its arXiv number and the equation or section, as in "Sharma, Kiros,
            Salakhutdinov 2015, arXiv 1511.04119, equation 4"; or "no paper: …".
        learning_rate: where Adam starts from when the user does not say.
        weight_decay: the default beside it.
        takes_attention: whether `forward` accepts `attention=`.
        attention_form: what it replaces: weights that sum to one over the cells of a frame, or of
            all frames of a clip, or a mask of which each "cell" is between 0 and 1 by itself.
        shape: of the cells that the head sees; `grid_size` and `dim` are K and D of the top layer.
        loss_weights: how much each of `HeadOutput.losses` counts beside the cross-entropy.
        inputs: how the stored cubes became the cells that the head sees; as they are by default.
        reported_maps: those whose mean over frames is told with the results of a run.
        map_meanings: what each map says, in words, for pictures of it.
        reads_cubes: whether `forward` takes cubes beside what `condense` has returned of them.
        takes_tail: whether the constructor wants `tail`: what the network that the cubes came from
            has after the top layer, (n, D, K, K) to (n, D', K', K'), which the head trains.
    """

    head_name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    learning_rate: ClassVar[float] = 1e-3
    weight_decay: ClassVar[float] = 0.0
    takes_attention: ClassVar[bool] = False
    attention_form: AttentionForm = "frame"
    reported_maps: ClassVar[tuple[str, ...]] = ()
    map_meanings: ClassVar[MapMeanings] = {}
    reads_cubes: ClassVar[bool] = False
    takes_tail: ClassVar[bool] = False

    def __init__(self, *, shape: InputShape, num_classes: int) -> None:
        super().__init__()
        check_option("num_classes", num_classes, at_least=1)
        self.shape = shape
        self.inputs = CellInputs(shape)
        self.grid_size, self.dim = shape.top
        self.num_classes = num_classes
        self.loss_weights: dict[str, float] = {}

    def weigh_losses(self, **weights: float) -> None:
        """Set `loss_weights`, each from the option of its name.

        Raises:
            UsageError: one of them is negative.
        """
        for name, weight in weights.items():
            check_option(name, weight, at_least=0)
        self.loss_weights = weights

    def __call__(self, batch: Batch, *, attention: Tensor | None = None) -> HeadOutput:
        """Return logits, maps and losses of these clips.

        Args:
            attention: replaces the weights that the head would compute; it is used as given and
                need not sum to one.

        Raises:
            UsageError: the head has no attention, or this one has another shape than the cubes'
                (B, T, K, K).
        """
        given = {}
        seen = self.inputs(batch)
        if attention is not None:
            self._check_attention(attention, seen)
            given["attention"] = attention
        output: HeadOutput = super().__call__(seen, **given)
        return output

    @abstractmethod
    def forward(self, batch: Batch) -> HeadOutput:
        """Return logits, maps and losses.

        Where `takes_attention`, it has one more argument, ``*, attention: AttentionMap | None =
        None``; calling the head checks it first.
        """

    def meaning_of(self, name: str) -> MapMeaning:
        """Return what a map says; of one that is not declared, what is agreed of its name."""
        if name in self.map_meanings:
            return self.map_meanings[name]
        if name == "spatial":
            is_mask = self.attention_form == "cell"
            return MapMeaning("where it looks", "level" if is_mask else "share")
        return MapMeaning(f"map {name!r}")

    def condense(self, batch: Batch) -> dict[str, Tensor] | None:
        """Return what this head computes of clips before any parameter is in it; None for nothing.

        The loop computes it once for all epochs. A head that pools first needs a fiftieth of a
        cube, and the loop then keeps that alone, unless the head `reads_cubes` too. Tensors are
        (B, F), or (B, T, …) of three axes or more, of which masked frames may be cut off.
        """
        return None

    def condense_stored(self, batch: Batch) -> dict[str, Tensor] | None:
        """Return what can be condensed of stored cubes for all fits; nothing of fitted inputs."""
        return None if self.inputs.is_fitted else self.condense(self.inputs(batch))

    def condensed(self, batch: Batch) -> dict[str, Tensor]:
        """Return `condense(batch)`, which may have been computed before."""
        condensed = batch.condensed if batch.condensed is not None else self.condense(batch)
        assert condensed is not None, f"{self.head_name} does not condense"
        return condensed

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Fit what is no parameter to the training set: inputs, then statistics. Called once.

        `batches` are those of one epoch, and are read whenever they are iterated over.
        """
        self.inputs.fit(batches)
        self.fit_statistics(SeenBatches(self.inputs, batches))

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Fit buffers such as means to batches as the head sees them; see `prepare`."""

    def _check_attention(self, attention: Tensor, batch: Batch) -> None:
        if not self.takes_attention:
            raise UsageError(
                f"head {self.head_name!r} has no attention to replace; "
                "attention= works with heads that return a 'spatial' map, such as 'soft-attention'"
            )
        if attention.shape != batch.top.shape[:4]:
            raise UsageError(
                f"attention must be (B, T, K, K) = {tuple(batch.top.shape[:4])} as the cubes, "
                f"got {tuple(attention.shape)}"
            )
