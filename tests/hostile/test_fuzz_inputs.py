"""A few mutations of everything that strangers give; `fuzz_inputs` goes on for hours."""

import pytest

from tests.hostile.fuzz_inputs import run


@pytest.mark.filterwarnings("ignore")
def test_mutations_are_read_or_refused(tmp_path):
    ends, findings = run(tmp_path, seed=0, most=60, seconds=60)

    assert findings == []
    assert {end.rpartition(" ")[2] for end in ends} == {"read", "refused"}
