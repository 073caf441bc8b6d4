"""A head as people write it: a name and options; what is wrong with it shows without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from train.heads.declared import declared_head
from train.heads.names import MODULES, require_head
from train.heads.options import coerce_options
from train.heads.own import find_own_head, own_name

if TYPE_CHECKING:
    from torch import nn

    from train.data.clips import Clips
    from train.heads.base import Head


@dataclass(frozen=True)
class HeadChoice:
    """A head by name with its options, as in ``soft-attention:attention=content,layers=2``.

    Attributes:
        name: of a head of ours, or ``package.module:MyHead``.
        tail: what each new head starts from, if it takes a tail.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()
    tail: nn.Module | None = field(default=None, compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, common: Sequence[tuple[str, str]] = ()) -> HeadChoice:
        """Read ``NAME[:option=value,…]``; `common` options come first and may be overridden.

        >>> HeadChoice.parse("mean-pool:motion=cubes").label
        'mean-pool:motion=cubes'
        >>> HeadChoice.parse("lab.heads:MyHead:hidden=3").name
        'lab.heads:MyHead'
        """
        name = own_name(text) or text.partition(":")[0]
        rest = text[len(name) + 1 :]
        own = [pair.partition("=")[::2] for pair in rest.split(",") if pair]
        return cls(name, tuple({**dict(common), **dict(own)}.items()))

    @property
    def label(self) -> str:
        """The text that it is written as."""
        return self.name + "".join(
            f"{',' if i else ':'}{k}={v}" for i, (k, v) in enumerate(self.options)
        )

    def check(self) -> None:
        """Say what is wrong as far as it shows without torch.

        Bounds that depend on the shape of cubes are the constructor's to say, and the options of a
        head that is not ours are known when its module was run.

        Raises:
            UsageError: an unknown head or option, or a value that the option does not take.
        """
        if own_name(self.name):
            find_own_head(self.name)
            return
        require_head(self.name)
        if self.name in MODULES:
            coerce_options(self.name, dict(self.options), declared_head(self.name).types)
            return
        from train.heads.registry import refuse_wrong_options  # its class was imported, torch too

        refuse_wrong_options(self.name, dict(self.options))

    def build(self, clips: Clips, num_classes: int) -> Head:
        """Return a new head for these clips, on their device.

        Raises:
            UsageError: as of `check`, or a number out of bounds that the shape sets.
        """
        from train.heads.registry import build_head, refuse_wrong_options

        refuse_wrong_options(self.name, dict(self.options))
        head = build_head(
            self.name,
            shape=clips.input_shape,
            num_classes=num_classes,
            tail=self.tail,
            **dict(self.options),
        )
        return head.to(clips.device)
