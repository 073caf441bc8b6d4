"""Features from and to other layouts; see `formats.registry` and each format's own file."""

from typing import TYPE_CHECKING

from features_store.lazy import lazy_names

if TYPE_CHECKING:
    from features_store.exchange.exporting import ExportReport as ExportReport
    from features_store.exchange.exporting import export_store as export_store
    from features_store.exchange.formats.registry import FORMATS as FORMATS
    from features_store.exchange.importing import ImportReport as ImportReport
    from features_store.exchange.importing import import_features as import_features
    from features_store.exchange.options import ImportOptions as ImportOptions

_MODULES = {
    "exporting": ("ExportReport", "export_store"),
    "formats.registry": ("FORMATS",),
    "importing": ("ImportReport", "import_features"),
    "options": ("ImportOptions",),
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
