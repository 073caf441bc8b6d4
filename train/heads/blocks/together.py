"""Options that are each allowed but make no sense together."""

from features_store.errors import UsageError


def refuse_together(is_refused: bool, why: str, **options: object) -> None:
    """Raise `UsageError` that names these options, if `is_refused`.

    >>> refuse_together(True, "it is the only one", layers=1, read_out="top")
    Traceback (most recent call last):
    features_store.errors.UsageError: layers=1 does not go with read_out=top: it is the only one

    Raises:
        UsageError: `is_refused`.
    """
    if is_refused:
        first, *others = (f"{name}={str(value).lower()}" for name, value in options.items())
        raise UsageError(f"{first} does not go with {' and '.join(others)}: {why}")
