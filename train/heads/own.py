"""Heads of one's own, ``package.module:MyHead``: found on Python's path, no line of ours needed.

A checkpoint of somebody else's may name one. Hence a module is read before it is run, and run only
if it defines a class of that name with a base class; modules of the standard library never are.
"""

from __future__ import annotations

import re
import sys

from features_store.errors import UsageError, nearest_name
from train.heads.names import list_heads
from train.heads.sources import ModuleSource, find_source

_OWN = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)(?=:|$)")


def own_name(text: str) -> str | None:
    """Return the ``module:Class`` that a head's text begins with; None for a head of ours.

    >>> own_name("lab.heads:MyHead:hidden=3")
    'lab.heads:MyHead'
    >>> own_name("mean-pool:motion=both"), own_name("transformer:heads=2")
    (None, None)
    """
    found = _OWN.match(text)
    return None if found is None or text.partition(":")[0] in list_heads() else found[0]


def find_own_head(name: str) -> ModuleSource:
    """Return the source of the module that defines head ``module:Class``; nothing of it is run.

    Raises:
        UsageError: there is no such module or class, it is the standard library's, or the class has
            no base, so that it is no `Head`.
    """
    module, _, wanted = name.partition(":")
    if module.partition(".")[0] in {*sys.stdlib_module_names, *sys.builtin_module_names}:
        raise UsageError(
            f"head {name!r} is in {module}, a module of Python itself; a head of your own is a "
            "subclass of train.Head in a module of your own"
        )
    source = find_source(module)
    if source is None:
        raise UsageError(
            f"no module {module!r} for head {name!r}; install it or put its folder on PYTHONPATH"
        )
    classes = source.classes
    if wanted not in classes:
        raise UsageError(
            f"{source.file} defines no class {wanted!r}; "
            + (nearest_name(wanted, list(classes)) if classes else "it defines no class at all")
        )
    if not classes[wanted].bases:
        raise not_a_head(name)
    return source


def not_a_head(name: str) -> UsageError:
    """Return the error for a class that is no head."""
    return UsageError(
        f"{name!r} is no head; write 'class {name.partition(':')[2]}(train.Head)', with a "
        "constructor and a 'forward' as docs/own-head.md has them"
    )
