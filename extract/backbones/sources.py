"""The names of backbones, ``source:name``, known without a network: torch is not imported here."""

from features_store.errors import UsageError, nearest_name

# Imported when first asked for: timm alone takes a second.
MODULES = {
    "caffe": "extract.backbones.caffe",
    "timm": "extract.backbones.timm_source",
    "tiny": "extract.backbones.tiny",
    "torchvision": "extract.backbones.torchvision_source",
}


def split_name(name: str, known: list[str] | None = None) -> tuple[str, str]:
    """Return source and name of a backbone.

    Args:
        known: sources that there are; those that come along if None.

    Raises:
        UsageError: it has no source, or an unknown one.
    """
    source, colon, rest = name.partition(":")
    if not colon or not rest:
        raise UsageError(
            f"backbone {name!r} has no source; write 'timm:{name}' or 'torchvision:{name}'"
        )
    known = sorted(MODULES) if known is None else known
    if source not in known:
        raise UsageError(f"no backbone source {source!r}; {nearest_name(source, known)}")
    return source, rest
