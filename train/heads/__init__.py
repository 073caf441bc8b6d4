"""All heads; importing this package registers them. A new head is one more import line."""

from train.heads import lstm, pooling, soft_attention, softmax_regression
from train.heads.registry import (
    Head,
    build_head,
    head_class,
    head_options,
    list_heads,
    register_head,
)

__all__ = [
    "Head",
    "build_head",
    "head_class",
    "head_options",
    "list_heads",
    "lstm",
    "pooling",
    "register_head",
    "soft_attention",
    "softmax_regression",
]
