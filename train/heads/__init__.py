"""All heads, by name. What is named here is imported when it is first used, a head likewise.

A new head is a file with `@register_head` and a line in `MODULES` of `train.heads.names`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.heads.base import Head as Head
    from train.heads.choice import HeadChoice as HeadChoice
    from train.heads.declared import declared_head as declared_head
    from train.heads.names import list_heads as list_heads
    from train.heads.registry import build_head as build_head
    from train.heads.registry import head_class as head_class
    from train.heads.registry import head_options as head_options
    from train.heads.registry import register_head as register_head

_MODULES = {
    "Head": "base",
    "HeadChoice": "choice",
    "build_head": "registry",
    "declared_head": "declared",
    "head_class": "registry",
    "head_options": "registry",
    "list_heads": "names",
    "register_head": "registry",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"train.heads.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
