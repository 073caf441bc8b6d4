"""All heads; importing this package registers them. A new head is one more import line."""

from train.heads import (
    lstm,
    m2a_head,
    non_local,
    pooling,
    pyramid_attention,
    self_attention_pool,
    soft_attention,
    softmax_regression,
    temporal_shift,
)
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
    "m2a_head",
    "non_local",
    "pooling",
    "pyramid_attention",
    "register_head",
    "self_attention_pool",
    "soft_attention",
    "softmax_regression",
    "temporal_shift",
]
