"""The feature store: cubes of many videos on disk, readable with nothing but h5py.

Imports no torch, so a notebook can read a store alone. What is named here is imported when it is
first used: decode workers and `cubereel --help` need the errors and the spec, not h5py.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features_store.format.layout import LayerShape as LayerShape
    from features_store.format.records import VideoRecord as VideoRecord
    from features_store.manifest import ManifestRow as ManifestRow
    from features_store.metadata import StoreHeader as StoreHeader
    from features_store.session import StoreWriter as StoreWriter
    from features_store.spec import Preprocessing as Preprocessing
    from features_store.spec import Sampling as Sampling
    from features_store.spec import Spec as Spec
    from features_store.store import Store as Store
    from features_store.verbs.diff import StoreDiff as StoreDiff
    from features_store.verbs.diff import diff_stores as diff_stores
    from features_store.verbs.verify import VerifyReport as VerifyReport
    from features_store.verbs.verify import verify_store as verify_store

_MODULES = {
    "verbs.diff": ("StoreDiff", "diff_stores"),
    "metadata": ("StoreHeader",),
    "format.layout": ("LayerShape",),
    "manifest": ("ManifestRow",),
    "format.records": ("VideoRecord",),
    "spec": ("Preprocessing", "Sampling", "Spec"),
    "store": ("Store",),
    "session": ("StoreWriter",),
    "verbs.verify": ("VerifyReport", "verify_store"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"features_store.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
