"""The arithmetic of statistics: blocks, batches, merged moments, widened floats, shared memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from features_store.errors import ContractError
from features_store.format.layout import LayerShape
from pipelines.statistics.blocks import cut_runs, join_runs, reads_of
from pipelines.statistics.memory import share_memory
from pipelines.statistics.moments import (
    block_moments,
    channel_moments,
    merge_moments,
    require_finite,
    variance_of,
)
from pipelines.statistics.pca import cut_batches
from tests.stores import header

HEADER = header(layers=(LayerShape("top", 8, 64),), dtype="float16", has_diffs=False)
FLOATS = st.floats(-1e3, 1e3, width=32)


@given(
    values=hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=FLOATS),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    shift=st.sampled_from([0.0, 1e6]),
)
def test_merged_parts_are_the_whole(values, cuts, shift):
    values = values.astype(np.float64) + shift
    parts = np.split(values, sorted(min(cut, len(values)) for cut in cuts))
    found = [block_moments(part.reshape(-1, 1, 1, 3)) for part in parts if len(part)]
    pairwise = found[0]
    for part in found[1:]:
        pairwise = merge_moments(np.concatenate([pairwise, part]))

    for merged in (merge_moments(np.concatenate(found)), pairwise):
        assert (merged["count"] == len(values)).all()
        np.testing.assert_allclose(merged["mean"][0, 0, 0], values.mean(0), rtol=1e-12, atol=1e-10)
        spread = ((values - values.mean(0)) ** 2).sum(0)
        np.testing.assert_allclose(merged["m2"][0, 0, 0], spread, rtol=1e-9, atol=1e-7)


RUNS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30)), min_size=1, max_size=12)


@given(gaps=RUNS, chunk_rows=st.integers(1, 12), max_chunks=st.integers(1, 5))
def test_blocks_cover_every_row_once_and_share_no_chunk(gaps, chunk_rows, max_chunks):
    runs, row = [], 0
    for gap, length in gaps:
        runs.append((row + gap, row + gap + length))
        row = runs[-1][1]
    runs = join_runs(runs)
    blocks = cut_runs(runs, chunk_rows=chunk_rows, max_chunks=max_chunks)

    rows = [row for start, stop in runs for row in range(start, stop)]
    assert [row for block in blocks for run in block for row in range(*run)] == rows
    chunks = [{row // chunk_rows for run in block for row in range(*run)} for block in blocks]
    assert max(map(len, chunks)) <= max_chunks
    assert sum(map(len, chunks)) == len(set().union(*chunks))
    reads = [
        set(range(group[0][0] // chunk_rows, (group[-1][1] - 1) // chunk_rows + 1))
        for block in blocks
        for group in reads_of(block, chunk_rows=chunk_rows)
    ]
    assert sum(map(len, reads)) == len(set().union(*reads)) == len(set().union(*chunks))


@given(block_rows=st.lists(st.integers(1, 9), min_size=1), batch_rows=st.integers(1, 30))
def test_batches_are_all_blocks_in_order(block_rows, batch_rows):
    batches = list(cut_batches(block_rows, batch_rows))

    assert [b for first, last in batches for b in range(first, last)] == list(
        range(len(block_rows))
    )
    assert all(last - first == 1 or sum(block_rows[first:last]) <= batch_rows
               for first, last in batches)  # fmt: skip


@pytest.mark.parametrize("wrong", [np.inf, np.nan])
def test_values_that_are_not_finite_are_named(wrong):
    cubes = np.ones((4, 2, 2, 3), np.float32)
    cubes[1, 0, 0, 2] = wrong

    with pytest.raises(ContractError, match=r"1 channels .* channel 2"):
        require_finite(block_moments(cubes)[0, 0, 0])


def test_a_large_mean_costs_no_digits_of_the_variance():
    import dask.array as da

    values = np.random.default_rng(0).normal(1e7, 1, (600, 2, 2, 3))
    moments = channel_moments(da.from_array(values, chunks=(7, 2, 2, 3))).compute()

    np.testing.assert_allclose(variance_of(moments), values.var((0, 1, 2)), rtol=1e-10)


def test_the_memory_that_is_given_says_what_is_read_at_a_time():
    array = HEADER.arrays[0]
    small, large = (share_memory(memory, array, num_kept=64) for memory in (400 * 10**6, 4 * 10**9))

    assert small.batch_rows < large.batch_rows
    assert small.block_bytes <= large.block_bytes
    assert share_memory(10**12, array).block_bytes == 2**25
