"""All heads, by name. What is named here is imported when it is first used, a head likewise.

A new head is a file with `@register_head` and a line in `MODULES` of `train.heads.names`.
"""

from typing import TYPE_CHECKING

from features_store.lazy import lazy_names

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
    "base": ("Head",),
    "choice": ("HeadChoice",),
    "declared": ("declared_head",),
    "names": ("list_heads",),
    "registry": ("build_head", "head_class", "head_options", "register_head"),
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
