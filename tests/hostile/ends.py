"""What every command on a stranger's file must end in."""

from tests.hostile.server import Ended


def assert_one_line(ended: Ended, code: int, *words: str) -> None:
    """It ended with the exit code of the documentation, and said why in one line, the last."""
    assert (ended.code, "Traceback" in ended.printed) == (code, False), ended
    assert all(word in ended.printed for word in words), ended
    errors = [line.startswith("error: ") for line in ended.printed.splitlines()]
    assert sum(errors) == errors[-1:].count(True) == (code != 0), ended
