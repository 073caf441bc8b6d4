"""Features from and to other layouts; see `formats.FORMATS` and each format's own file."""

from features_store.exchange.exporting import ExportReport as ExportReport
from features_store.exchange.exporting import export_store as export_store
from features_store.exchange.formats.registry import FORMATS as FORMATS
from features_store.exchange.importing import ImportReport as ImportReport
from features_store.exchange.importing import import_features as import_features
