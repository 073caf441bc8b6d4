"""Packages that import what they name when it is first used, so that naming it costs nothing."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package.

    Args:
        package: its ``__name__``.
        modules: module below the package -> names that are to be had from there.

    >>> get, names = lazy_names("features_store", {"errors": ["nearest_name"]})
    >>> names(), get("nearest_name").__module__
    (['nearest_name'], 'features_store.errors')
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{module_of[name]}"), name)

    return get, lambda: sorted(module_of)
