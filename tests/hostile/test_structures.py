"""Shards whose structure is a trap: one line, no traceback, no hang, under a gigabyte."""

import pytest

from features_store.verbs.repair import repair_store
from features_store.verbs.verify import verify_store
from tests.hostile.ends import assert_one_line
from tests.hostile.structures import EDITS, edit
from tests.stores import relist


@pytest.mark.parametrize("name", EDITS)
def test_a_structure_that_is_a_trap_ends_in_one_line(server, store, name):
    (shard,) = (store / "shards").glob("*.h5")
    edit(shard, EDITS[name])
    relist(store)
    (store / "index.h5").unlink()

    assert_one_line(server("store", "ls", store), 3, shard.name)
    assert list(repair_store(store).damaged) == [shard.name]
    assert verify_store(store, full=True).problems == []
