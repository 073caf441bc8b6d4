"""From a head's name to its class, and a head built; modules are imported here and not before."""

import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import isabstract
from typing import Any, TypeVar

import torch
from torch import nn

from features_store.errors import UsageError
from train.data.batch import InputShape
from train.heads import names
from train.heads.base import Head
from train.heads.cell_inputs import CellInputs
from train.heads.input_options import INPUT_DEFAULTS, INPUT_TYPES, InputOptions
from train.heads.options import coerce_options, declared_options, declared_types
from train.heads.own import find_own_head, not_a_head, own_name

MAX_NUMBERS = 2**27  # 512 MB of float32
_HeadClass = TypeVar("_HeadClass", bound=type[Head])


def register_head(name: str) -> Callable[[_HeadClass], _HeadClass]:
    """Class decorator: make a head available as ``build_head(name, ...)``.

    Raises:
        ValueError: another class has that name, or `MODULES` does not know that a module of ours
            has it.
    """

    def register(cls: _HeadClass) -> _HeadClass:
        known = names.MODULES.get(name)
        if name in names.registered or known not in (None, cls.__module__):
            raise ValueError(f"head {name!r} is already registered, by {known or 'another class'}")
        if known is None and cls.__module__.startswith("train.heads."):
            raise ValueError(
                f"{cls.__module__} registers a head {name!r} that MODULES in train.heads.names "
                "does not have; add the line there"
            )
        cls.head_name = name
        names.registered[name] = cls
        return cls

    return register


def head_class(name: str) -> type[Head]:
    """Return the class registered as `name`, or that of ``package.module:MyHead``.

    Raises:
        UsageError: there is none; the message has the nearest name. Or it is no `Head`.
    """
    if own_name(name):
        return _own_class(name)
    names.require_head(name)
    if name not in names.registered:
        import_module(names.MODULES[name])
    return names.registered[name]


def head_options(name: str) -> dict[str, Any]:
    """Return option name to default: those that its constructor declares, and those of inputs."""
    cls = head_class(name)
    return declared_options(cls.__init__) | ({} if cls.takes_tail else INPUT_DEFAULTS)


def refuse_wrong_options(name: str, options: Mapping[str, object]) -> None:
    """Raise `UsageError` for an option that head `name` lacks, or a value that it does not take."""
    coerce_options(name, options, option_types(head_class(name)))


def build_head(
    name: str,
    *,
    shape: InputShape,
    num_classes: int,
    tail: nn.Module | None = None,
    **options: object,
) -> Head:
    """Build a head; option values may be words, as they come from ``--set option=value``.

    Args:
        shape: of what is stored; the head sees what its input options make of it.
        tail: for heads with `takes_tail`, which copy it; the others do not get it.

    Raises:
        UsageError: unknown head or option, a value that the option does not take, or no tail for a
            head that takes one.
    """
    cls = head_class(name)
    _check_shape(name, shape)
    values = coerce_options(name, options, option_types(cls))
    if cls.takes_tail and tail is None:
        raise UsageError(
            f"head {name!r} needs tail=, what the network has after the stored layer; "
            "'cubereel train' takes it from the store's backbone"
        )
    given = {"tail": tail} if cls.takes_tail else {}
    own = {option: value for option, value in values.items() if option not in INPUT_TYPES}

    def build() -> Head:
        inputs = CellInputs(shape, InputOptions.read(values))
        head = cls(shape=inputs.shape, num_classes=num_classes, **given, **own)
        head.inputs = inputs
        return head

    try:
        if name in names.MODULES and not cls.takes_tail:
            with torch.device("meta"):  # where tensors have shapes and take no memory
                _check_size(build())
        return build()
    except UsageError as err:
        raise UsageError(f"head {name!r}: {err}") from None


def _check_shape(name: str, shape: InputShape) -> None:
    """Raise `UsageError` for cubes that no store has, before torch is asked to count in them."""
    for layer, (grid_size, dim) in shape.layers.items():
        if min(grid_size, dim) < 1 or grid_size**2 * dim > MAX_NUMBERS:
            raise UsageError(
                f"head {name!r}: layer {layer!r} has cubes {(grid_size, grid_size, dim)}, expected "
                f"1 to {MAX_NUMBERS} values"
            )
    if shape.diff_grid is not None and not 1 <= shape.diff_grid**2 <= MAX_NUMBERS:
        raise UsageError(f"head {name!r}: frame differences of {shape.diff_grid}² cells")


def _check_size(head: Head) -> None:
    number = sum(value.numel() for value in head.state_dict().values())
    if number > MAX_NUMBERS:
        raise UsageError(
            f"it would have {number} numbers in its parameters and buffers, more than "
            f"{MAX_NUMBERS}; give smaller options, or fewer layers of the store"
        )


def option_types(cls: type[Head]) -> dict[str, Any]:
    """Return what the options of a head take. The layers of a tail want cubes as they are."""
    return declared_types(cls.__init__) | ({} if cls.takes_tail else INPUT_TYPES)


def _own_class(name: str) -> type[Head]:
    """Run the module of ``module:Class``, once it was seen to define such a class."""
    source = find_own_head(name)
    try:
        module = import_module(source.name)
    except Exception as err:
        place = traceback.extract_tb(sys.exc_info()[2])[-1]
        raise UsageError(
            f"module {source.name} of head {name!r} cannot be imported: "
            f"{type(err).__name__}: {err} ({place.filename}:{place.lineno})"
        ) from err
    cls = getattr(module, name.partition(":")[2], None)
    if not (isinstance(cls, type) and issubclass(cls, Head)) or isabstract(cls):
        raise not_a_head(name)
    cls.head_name = name
    return cls
