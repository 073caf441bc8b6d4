"""The feature store: cubes of many videos on disk, readable with nothing but h5py.

Imports no torch, so a notebook can read a store alone.
"""

from features_store.diff import StoreDiff as StoreDiff
from features_store.diff import diff_stores as diff_stores
from features_store.header import StoreHeader as StoreHeader
from features_store.layout import LayerShape as LayerShape
from features_store.manifest import ManifestRow as ManifestRow
from features_store.records import VideoRecord as VideoRecord
from features_store.spec import Preprocessing as Preprocessing
from features_store.spec import Sampling as Sampling
from features_store.spec import Spec as Spec
from features_store.store import Store as Store
from features_store.store_writer import StoreWriter as StoreWriter
from features_store.verify import VerifyReport as VerifyReport
from features_store.verify import verify_store as verify_store
