"""The names of heads, known without torch. A new head is a file with `@register_head` and a line.

Modules are imported when a head of theirs is first built: torch alone takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from features_store.errors import UsageError, nearest_name

if TYPE_CHECKING:
    from train.heads.base import Head

MODULES = {
    "attentive-probe": "train.heads.attentive_probe",
    "avg-lstm": "train.heads.lstm",
    "hm-an": "train.heads.hm_an",
    "m2a-head": "train.heads.m2a_heads",
    "m2a-tail": "train.heads.m2a_heads",
    "max-lstm": "train.heads.lstm",
    "mean-pool": "train.heads.linear",
    "non-local": "train.heads.cell_pooling",
    "pyramid-attention": "train.heads.pyramid_attention",
    "saliency-convlstm": "train.heads.saliency_convlstm",
    "self-attention-pool": "train.heads.cell_pooling",
    "soft-attention": "train.heads.soft_attention",
    "softmax-regression": "train.heads.linear",
    "temporal-shift": "train.heads.temporal_shift",
    "transformer": "train.heads.transformer",
}

# Filled by `register_head`: those of `MODULES` that were imported, and a program's own.
registered: dict[str, type[Head]] = {}


def list_heads() -> list[str]:
    """Return the names of all heads, sorted."""
    return sorted({*MODULES, *registered})


def require_head(name: str) -> None:
    """Raise `UsageError` unless there is a head of that name; the message has the nearest one."""
    if name not in MODULES and name not in registered:
        raise UsageError(f"no head named {name!r}; {nearest_name(name, list_heads())}")
