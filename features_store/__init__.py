"""The feature store: cubes of many videos on disk, readable with nothing but h5py.

Imports no torch, so a notebook can read a store alone. What is named here is imported when it is
first used: decode workers and `cubereel --help` need the errors and the spec, not h5py.
"""

from typing import TYPE_CHECKING

from features_store.lazy import lazy_names

if TYPE_CHECKING:
    from features_store.errors import CubereelError as CubereelError
    from features_store.errors import StoreError as StoreError
    from features_store.exchange.exporting import export_store as export_store
    from features_store.exchange.importing import import_features as import_features
    from features_store.exchange.options import ImportOptions as ImportOptions
    from features_store.format.layout import LayerShape as LayerShape
    from features_store.format.records import VideoRecord as VideoRecord
    from features_store.ledger import Failure as Failure
    from features_store.ledger import read_failures as read_failures
    from features_store.manifest import ManifestRow as ManifestRow
    from features_store.metadata import StoreHeader as StoreHeader
    from features_store.session import StoreSession as StoreSession
    from features_store.spec import Preprocessing as Preprocessing
    from features_store.spec import Sampling as Sampling
    from features_store.spec import Spec as Spec
    from features_store.store import Store as Store
    from features_store.verbs.diff import StoreDiff as StoreDiff
    from features_store.verbs.diff import diff_stores as diff_stores
    from features_store.verbs.info import store_info as store_info
    from features_store.verbs.merge import append_stores as append_stores
    from features_store.verbs.merge import merge_stores as merge_stores
    from features_store.verbs.options import RepackOptions as RepackOptions
    from features_store.verbs.repair import RepairReport as RepairReport
    from features_store.verbs.repair import repair_store as repair_store
    from features_store.verbs.reshape import repack_store as repack_store
    from features_store.verbs.reshape import subset_store as subset_store
    from features_store.verbs.verify import VerifyReport as VerifyReport
    from features_store.verbs.verify import verify_store as verify_store

_MODULES = {
    "errors": ("CubereelError", "StoreError"),
    "exchange.exporting": ("export_store",),
    "exchange.importing": ("import_features",),
    "exchange.options": ("ImportOptions",),
    "format.layout": ("LayerShape",),
    "format.records": ("VideoRecord",),
    "ledger": ("Failure", "read_failures"),
    "manifest": ("ManifestRow",),
    "metadata": ("StoreHeader",),
    "session": ("StoreSession",),
    "spec": ("Preprocessing", "Sampling", "Spec"),
    "store": ("Store",),
    "verbs.diff": ("StoreDiff", "diff_stores"),
    "verbs.info": ("store_info",),
    "verbs.merge": ("append_stores", "merge_stores"),
    "verbs.options": ("RepackOptions",),
    "verbs.repair": ("RepairReport", "repair_store"),
    "verbs.reshape": ("repack_store", "subset_store"),
    "verbs.verify": ("VerifyReport", "verify_store"),
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
