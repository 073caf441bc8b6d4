"""Video ids drawn from all of Unicode, as file systems take them."""

import unicodedata

from hypothesis import strategies as st

from features_store.errors import UsageError
from features_store.format.records import check_id

# Blanks of every kind at the ends and within, controls, and what CSV, shells and tables read.
ODD = [
    *(
        " walk/ a.mp4",
        "walk /a.mp4 ",
        "\tb\t",
        "\xa0c\xa0",
        "\u2028d\u2029",
        "\x85e\x85",
        "\x1f\x1e",
    ),
    *("\u3000f\u200b", "\ufeffg", "#1_h_(i).avi", "# j", "#", "k,l", '"m"', "'n'", "o;p", "=q()"),
    *("-r", "s@0-1", "\x1b[31mt", "\x7f\x01", "u\x0bv\x0c", "~", "$w", "%x", "*", "?", "[y]"),
    *(
        "\u202ez",
        "\U0001f3c3\u200d",
        "ka\u0301",
        "\u0301",
        "path",
        "video_id",
        "manifest.csv\u00a0",
    ),
]
_PART = st.text(st.characters(exclude_characters="\0/"), min_size=1, max_size=12) | st.builds(
    "{}{}{}".format,
    st.sampled_from([" ", "\t", "\xa0", "\u2028", "\x85", "\x1c", "\ufeff", "#", '"', "'", ","]),
    st.text(st.characters(exclude_characters="\0/"), max_size=8),
    st.sampled_from(["", " ", "\n", "\r", "\x1f", "\u3000", "\\", ".mp4"]),
)
FILE_NAMES = st.lists(_PART, min_size=1, max_size=3).map("/".join)


def is_id(name: str) -> bool:
    """Whether a store takes a name."""
    try:
        check_id(name)
    except UsageError:
        return False
    return True


def that_go_together(names: list[str]) -> list[str]:
    """Leave out names that look like others, and files that would be folders of others."""
    files: dict[str, str] = {}
    folders: set[str] = set()
    for name in names:
        looks = unicodedata.normalize("NFC", name)
        parents = {looks[:i] for i, mark in enumerate(looks) if mark == "/"}
        if looks not in files and looks not in folders and not parents & files.keys():
            files[looks] = name
            folders |= parents
    return list(files.values())
