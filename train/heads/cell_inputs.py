"""From stored cubes to the cells that a head sees: motion beside or in place of them, transforms.

One mechanism for all heads. What is fitted here is fitted to the clips that the head is fitted to,
and is part of its checkpoint.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

from features_store.errors import UsageError
from train.data.batch import Batch, InputShape
from train.heads.blocks.cells import pool_to_grid
from train.heads.blocks.principal import PrincipalComponents
from train.heads.blocks.standardise import Standardise
from train.heads.input_options import InputOptions, Transform

# Statistics are of every so many cells: as many as frames have on a 7×7 grid would be a column.
CELL_STRIDE = 23
_NO_FRAME_DIFFERENCES = (
    "option 'motion' asks for frame differences, but none are read from the store; "
    "use motion=cubes or motion=none, or extract with frame differences"
)


class SignedRoot(nn.Module):
    """sign(x) √|x| of every value."""

    def forward(self, values: Float[Tensor, "*axes d"]) -> Float[Tensor, "*axes d"]:
        """Return the roots."""
        return values.abs().sqrt().copysign(values)


class UnitLength(nn.Module):
    """Each cell divided by its length; a cell of zeros stays one."""

    def forward(self, values: Float[Tensor, "*axes d"]) -> Float[Tensor, "*axes d"]:
        """Return the cells scaled."""
        return F.normalize(values, dim=-1)


class CellInputs(nn.Module):
    """Cubes (B, T, K, K, D) of every layer to the cells (B, T, K, K, D') that a head sees.

    A cell's values are the cube's, where `appearance` is asked for, then |stored frame difference|,
    then |X_t − X_{t−1}| of the cubes, as `motion` says; the transforms follow, in their order.
    Motion is zero at the first frame. Frame differences of G×G pixels are cut to the K×K grid,
    (G/K)² pixels a cell, or averaged to it where K does not divide G.

    Differences are absolute. Signed ones cancel in a mean over time: what remains of a sum of
    consecutive differences is the last frame minus the first.

    Args:
        shape: of what is stored.

    Attributes:
        shape: of what comes out.

    Raises:
        UsageError: frame differences are asked for but not read, or more components than values.
    """

    def __init__(self, shape: InputShape, options: InputOptions | None = None) -> None:
        super().__init__()
        self.options = options or InputOptions()
        transforms = self.options.transforms
        # Those before the first that is fitted are the same for all heads that see a batch.
        num_free = next((i for i, t in enumerate(transforms) if is_fitted(t)), len(transforms))
        self._free = transforms[:num_free]
        self.fitted = nn.ModuleList()
        layers = {}
        for name, (grid_size, dim) in shape.layers.items():
            size = num_values(grid_size, dim, shape.diff_grid, self.options)
            chain = nn.Sequential()
            for transform in transforms[num_free:]:
                if transform.size > size:
                    raise UsageError(
                        f"option 'input': pca:{transform.size} of layer {name!r}, whose cells have "
                        f"{size} values; at most that many are possible"
                    )
                chain.append(build_transform(transform, size))
                size = transform.size or size
            self.fitted.append(chain)
            layers[name] = (grid_size, size)
        self.shape = replace(shape, layers=layers)

    @property
    def is_fitted(self) -> bool:
        """Whether what a head sees depends on the clips that it is fitted to."""
        return len(self._free) < len(self.options.transforms)

    def forward(self, batch: Batch) -> Batch:
        """Return the batch with other cells; as it is, where its head has condensed all of them."""
        if self.options == InputOptions() or not batch.cubes:
            return batch
        free = self._freed(batch)
        if not self.is_fitted:
            return free
        pairs = zip(free.cubes.items(), self.fitted, strict=True)
        return replace(free, cubes={name: chain(cells) for (name, cells), chain in pairs})

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit the transforms that have statistics to some cells of valid frames, one by one."""
        for place, chain in enumerate(self.fitted):
            assert isinstance(chain, nn.Sequential)  # ModuleList forgets what it holds
            for number, transform in enumerate(chain):
                if isinstance(transform, Standardise | PrincipalComponents):
                    transform.fit(self._samples(batches, place, chain[:number]))

    def _samples(
        self, batches: Iterable[Batch], place: int, before: nn.Module
    ) -> Iterator[Float[Tensor, "n d"]]:
        for batch in batches:
            cubes = list(self._freed(batch).cubes.values())[place]
            cells = rearrange(cubes[batch.mask], "n h w d -> (n h w) d")
            yield before(cells[::CELL_STRIDE])

    def _freed(self, batch: Batch) -> Batch:
        """Return what all heads with these options see alike, computed for the first of them."""
        key = (self.options.motion, self.options.appearance, self._free)
        if key not in batch.derived:
            cubes = stacked_cells(batch, self.options)
            for transform in self._free:
                free = build_transform(transform, 0)
                cubes = {name: free(cells) for name, cells in cubes.items()}
            batch.derived[key] = replace(batch, cubes=cubes, derived={})
        return batch.derived[key]


def is_fitted(transform: Transform) -> bool:
    """Whether a transform has statistics."""
    return transform.kind in ("standardise", "pca")


def build_transform(transform: Transform, size: int) -> nn.Module:
    """Return a transform of cells of so many values."""
    match transform.kind:
        case "sqrt":
            return SignedRoot()
        case "l2":
            return UnitLength()
        case "standardise":
            return Standardise(size)
        case "pca":
            return PrincipalComponents(size, transform.size)


def num_values(grid_size: int, dim: int, diff_grid: int | None, options: InputOptions) -> int:
    """Return how many values a cell has before the transforms.

    Raises:
        UsageError: frame differences are asked for but not read.
    """
    size = dim if options.appearance else 0
    if options.motion in ("frames", "both"):
        if diff_grid is None:
            raise UsageError(_NO_FRAME_DIFFERENCES)
        size += 3 * _side(diff_grid, grid_size) ** 2
    return size + (dim if options.motion in ("cubes", "both") else 0)


def stacked_cells(batch: Batch, options: InputOptions) -> dict[str, Float[Tensor, "b t _ _ _"]]:
    """Return the values of every layer's cells, one kind behind the other, before transforms."""
    stacked = {}
    for name, cubes in batch.cubes.items():
        parts = [cubes] if options.appearance else []
        if options.motion in ("frames", "both"):
            parts.append(frame_motion_cells(batch, cubes.shape[2]))
        if options.motion in ("cubes", "both"):
            parts.append(cube_motion_cells(cubes))
        stacked[name] = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
    return stacked


def cube_motion_cells(cubes: Float[Tensor, "b t k k d"]) -> Float[Tensor, "b t k k d"]:
    """Return |X_t − X_{t−1}| of each cell, zero at the first frame."""
    # cubes  c0 c1    c2
    #  ->     0 c1-c0 c2-c1     same length, so one mask indexes both
    return F.pad(cubes.diff(dim=1).abs(), (0, 0, 0, 0, 0, 0, 1, 0))


def frame_motion_cells(batch: Batch, grid_size: int) -> Float[Tensor, "b t k k f"]:
    """Return |frame differences|: the pixels of each cell, or their mean over one."""
    if batch.diffs is None:
        raise ValueError("motion='frames' needs batch.diffs, got None")
    pixels, side = batch.diffs.abs(), _side(batch.diffs.shape[2], grid_size)
    if side == 1:
        return pool_to_grid(pixels, grid_size)
    return rearrange(pixels, "b t (h i) (w j) c -> b t h w (i j c)", i=side, j=side)


def _side(diff_grid: int, grid_size: int) -> int:
    """Return how many pixels of a frame difference lie along a side of a cell; 1 for a mean."""
    return diff_grid // grid_size if diff_grid % grid_size == 0 else 1
