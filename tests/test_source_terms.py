"""Where videos are from: what is said of each source, and what becomes of it in other stores."""

from dataclasses import replace

import pytest

from features_store.errors import StoreError, UsageError
from features_store.sources import (
    SourceTerms,
    describe,
    fill_in,
    join_sources,
    new_source,
    source_for,
)

LAB = SourceTerms("1aaaaaaa", "/lab")
WEB = SourceTerms("2bbbbbbb", "/web", licence="MIT")
NEW = new_source("/lab")
SAID = replace(LAB, licence="CC0", origin="a camera")


def test_every_source_has_an_id_of_its_own():
    sources = [
        new_source("/lab"), new_source("/web"), new_source("/lab", licence="MIT"),
        new_source("/lab", origin="MIT"), new_source("/lab", citation="MIT"),
    ]  # fmt: skip

    assert len({source.id for source in sources}) == len(sources)
    assert all(len(source.id) == 8 for source in sources)
    again = new_source("/lab", licence="MIT")
    assert again.id != sources[2].id, "another lab may say the same of other videos"


def test_an_empty_text_says_nothing():
    source = new_source("/lab", licence="", origin="", citation="")
    assert (source.licence, source.origin, source.citation) == (None, None, None)


@pytest.mark.parametrize(
    ("ours", "theirs", "joined"),
    [
        pytest.param([LAB], [], [LAB], id="nothing"),
        pytest.param([LAB], [LAB], [LAB], id="the same"),
        pytest.param([LAB], [WEB], [LAB, WEB], id="another"),
        pytest.param([WEB, LAB], [LAB, WEB], [WEB, LAB], id="in our order"),
        pytest.param([LAB], [SAID], [SAID], id="they say more"),
        pytest.param([SAID], [LAB], [SAID], id="they say less"),
        pytest.param(
            [replace(LAB, licence="CC0")],
            [replace(LAB, origin="a camera")],
            [SAID],
            id="each says a part",
        ),
        pytest.param(
            [LAB], [replace(LAB, id="3ccccccc")], [LAB, replace(LAB, id="3ccccccc")],
            id="two of one root",
        ),
    ],
)  # fmt: skip
def test_joined_sources_say_what_either_says(ours, theirs, joined):
    assert join_sources(ours, theirs) == tuple(joined)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (
            SAID,
            replace(SAID, licence="MIT"),
            "the licence .* '/lab' is 'CC0' in the store, not 'MIT",
        ),
        (SAID, replace(LAB, origin="b"), "the origin of the videos below '/lab' is 'a camera'"),
        (replace(LAB, citation="A"), replace(LAB, citation="B"), "the citation of the videos"),
        (LAB, replace(LAB, root="/x"), "source 1aaaaaaa has its videos below '/lab' in one store"),
    ],
)
def test_sources_that_disagree_are_refused(ours, theirs, words):
    with pytest.raises(StoreError, match=words):
        join_sources([WEB, ours], [theirs])


@pytest.mark.parametrize(
    ("stored", "wanted", "found"),
    [
        pytest.param([WEB], NEW, NEW, id="a new root"),
        pytest.param([WEB, LAB], new_source("/lab"), LAB, id="a known root"),
        pytest.param([SAID], new_source("/lab"), SAID, id="nothing is said now"),
        pytest.param([SAID], new_source("/lab", licence="CC0"), SAID, id="the same is said"),
        pytest.param(
            [LAB], new_source("/lab", licence="CC0", origin="a camera"), SAID, id="more is said"
        ),
    ],
)
def test_videos_that_are_added_are_of_the_source_of_their_root(stored, wanted, found):
    assert source_for(stored, wanted) == found


def test_other_terms_for_videos_of_a_known_root_are_refused():
    with pytest.raises(StoreError, match="leave `licence` out, or change it with 'cubereel store"):
        source_for([WEB, SAID], new_source("/lab", licence="MIT"))


def test_filling_in_keeps_id_and_root():
    said = new_source("/elsewhere", citation="A")
    assert fill_in(LAB, said) == replace(LAB, citation="A")


@pytest.mark.parametrize(
    ("source_id", "terms", "described"),
    [
        pytest.param(None, {}, [SAID, WEB], id="nothing"),
        pytest.param(
            LAB.id, {"licence": "GPL"}, [replace(SAID, licence="GPL"), WEB], id="one of two"
        ),
        pytest.param(
            None,
            {"licence": "GPL", "origin": None},
            [replace(SAID, licence="GPL"), replace(WEB, licence="GPL")],
            id="all, and no word of the origin",
        ),
        pytest.param(
            LAB.id, {"licence": ""}, [replace(SAID, licence=None), WEB], id="not said any more"
        ),
    ],
)
def test_sources_are_described_anew(source_id, terms, described):
    assert describe([SAID, WEB], source_id, terms) == tuple(described)


def test_a_source_that_is_none_cannot_be_described():
    with pytest.raises(UsageError, match="no source '1aaaaaab'; did you mean '1aaaaaaa'"):
        describe([LAB, WEB], "1aaaaaab", {"licence": "MIT"})
