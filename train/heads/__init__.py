"""All heads; importing this package registers them. A new head is one more import line."""

from train.heads import (
    attentive_probe,
    hm_an,
    lstm,
    m2a_head,
    m2a_tail,
    non_local,
    pooling,
    pyramid_attention,
    saliency_convlstm,
    self_attention_pool,
    soft_attention,
    softmax_regression,
    temporal_shift,
    transformer,
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
    "attentive_probe",
    "build_head",
    "head_class",
    "head_options",
    "hm_an",
    "list_heads",
    "lstm",
    "m2a_head",
    "m2a_tail",
    "non_local",
    "pooling",
    "pyramid_attention",
    "register_head",
    "saliency_convlstm",
    "self_attention_pool",
    "soft_attention",
    "softmax_regression",
    "temporal_shift",
    "transformer",
]
