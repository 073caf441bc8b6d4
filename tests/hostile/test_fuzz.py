"""A few changes at random; hours of them with ``python -m tests.hostile.fuzz``."""

from tests.hostile.fuzz import fuzz

IN_CI = 120


def test_a_file_of_a_store_that_was_changed_anyhow_harms_nobody():
    found = fuzz(count=IN_CI)

    assert found.faults == {}
    assert found.num_changes == IN_CI
    ends = {outcome.split(": ")[1] for outcome in found.outcomes}
    assert ends == {"refused", "read", "sound"}  # else it shows nothing
