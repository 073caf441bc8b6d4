"""The names of backbones, ``source:name``, known without a network: torch is not imported here."""

from features_store.errors import UsageError, nearest_name

# Imported when first asked for: timm alone takes a second.
MODULES = {
    "caffe": "extract.backbones.caffe",
    "timm": "extract.backbones.timm_source",
    "tiny": "extract.backbones.tiny",
    "torchvision": "extract.backbones.torchvision_source",
}


registered: set[str] = set()  # by `register_source`, beside those that come along


def list_sources() -> list[str]:
    """Return the names of all sources."""
    return sorted({*MODULES, *registered})


def split_name(name: str) -> tuple[str, str]:
    """Return source and name of a backbone.

    Raises:
        UsageError: it has no source, or an unknown one.
    """
    source, colon, rest = name.partition(":")
    if not colon or not rest:
        raise UsageError(
            f"backbone {name!r} has no source; write 'timm:{name}' or 'torchvision:{name}'"
        )
    known = list_sources()
    if source not in known:
        raise UsageError(f"no backbone source {source!r}; {nearest_name(source, known)}")
    return source, rest
