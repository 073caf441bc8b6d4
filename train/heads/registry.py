"""Heads by name. A head is one file with `@register_head` and one import line in `train.heads`."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import nn

from features_store.errors import UsageError, nearest_name
from train.data.batch import InputShape
from train.heads.base import Head
from train.heads.options import coerce_option, declared_options, declared_types

__all__ = ["Head", "build_head", "head_class", "head_options", "list_heads", "register_head"]

_HeadClass = TypeVar("_HeadClass", bound=type[Head])
_HEADS: dict[str, type[Head]] = {}


def register_head(name: str) -> Callable[[_HeadClass], _HeadClass]:
    """Class decorator: make a head available as ``build_head(name, ...)``.

    Raises:
        ValueError: another class has that name.
    """

    def register(cls: _HeadClass) -> _HeadClass:
        if name in _HEADS:
            raise ValueError(f"head {name!r} is already registered, by {_HEADS[name].__qualname__}")
        cls.head_name = name
        _HEADS[name] = cls
        return cls

    return register


def list_heads() -> list[str]:
    """Return the names of all heads, sorted."""
    return sorted(_HEADS)


def head_class(name: str) -> type[Head]:
    """Return the class registered as `name`.

    Raises:
        UsageError: there is none; the message has the nearest name.
    """
    if name not in _HEADS:
        raise UsageError(f"no head named {name!r}; {nearest_name(name, list_heads())}")
    return _HEADS[name]


def head_options(name: str) -> dict[str, Any]:
    """Return option name to default, as the constructor of head `name` declares them."""
    return declared_options(head_class(name).__init__)


def refuse_unknown_options(name: str, options: Iterable[str]) -> None:
    """Raise `UsageError` unless head `name` has all these options."""
    known = list(declared_types(head_class(name).__init__))
    for option in options:
        if option not in known:
            hint = nearest_name(option, known) if known else "it takes none"
            raise UsageError(f"head {name!r} has no option {option!r}; {hint}")


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
        tail: for heads with `takes_tail`, which copy it; the others do not get it.

    Raises:
        UsageError: unknown head or option, a value that the option does not take, or no tail for a
            head that takes one.
    """
    cls = head_class(name)
    types = declared_types(cls.__init__)
    refuse_unknown_options(name, options)
    if cls.takes_tail and tail is None:
        raise UsageError(
            f"head {name!r} needs tail=, what the network has after the stored layer; "
            "'cubereel train' takes it from the store's backbone"
        )
    given = {"tail": tail} if cls.takes_tail else {}
    try:
        values = {key: coerce_option(key, value, types[key]) for key, value in options.items()}
        return cls(shape=shape, num_classes=num_classes, **given, **values)
    except UsageError as err:
        raise UsageError(f"head {name!r}: {err}") from None
