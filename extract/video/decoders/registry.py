"""Finds a decoder by name; its module is imported then."""

from importlib import import_module
from typing import cast, get_args

from extract.video.decoders.cpu import Decoder
from extract.video.decoders.names import DecoderName
from features_store.errors import UsageError, nearest_name


def find_decoder(name: str) -> type[Decoder]:
    """Return the class ``Decoder`` of the module of that name.

    Raises:
        UsageError: there is none.
    """
    names = list(get_args(DecoderName))
    if name not in names:
        raise UsageError(f"no decoder named {name!r}; {nearest_name(name, names)}")
    module = import_module(f"extract.video.decoders.{name.replace('-', '_')}")
    return cast(type[Decoder], module.Decoder)
