"""The source of a module, read without importing it or the packages that it is in."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec

from features_store.errors import UsageError


@dataclass(frozen=True)
class ModuleSource:
    """A module that was found but not run.

    Attributes:
        file: where it lies.
    """

    name: str
    file: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source.

        Raises:
            UsageError: it is no Python.
        """
        try:
            return ast.parse(self.text)
        except (SyntaxError, ValueError) as err:
            line = getattr(err, "lineno", None) or 1
            raise UsageError(
                f"module {self.name} cannot be read: {self.file}:{line}: {err}"
            ) from None

    @property
    def classes(self) -> dict[str, ast.ClassDef]:
        """The classes that the module defines, by name."""
        return {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef)}


def find_source(module: str) -> ModuleSource | None:
    """Return the source of a module; None when there is no such module, or it has none."""
    spec = _find(module)
    if spec is None or spec.origin is None or not isinstance(spec.loader, InspectLoader):
        return None
    try:
        text = spec.loader.get_source(module)
    except (ImportError, SyntaxError):  # no Python file, or one in an unknown encoding
        return None
    return None if text is None else ModuleSource(module, spec.origin, text)


def _find(module: str) -> ModuleSpec | None:
    """Return where a module is; `find_spec` alone would run the packages above it."""
    top, *parts = module.split(".")
    try:
        spec = find_spec(top)
    except ValueError:  # `__main__` and other modules that came from no file
        return None
    name = top
    for part in parts:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name += f".{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations)
    return spec
