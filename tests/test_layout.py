"""The tree in the README against the folders that there are."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
WITHOUT_LINE = {".ci"}


def folders_of_tree(text):
    """Return the folders that a tree names; one within another is indented under it."""
    (block,) = re.findall(r"## What is where\n\n```\n(.*?)```", text, re.DOTALL)
    folders, top = set(), ""
    for line in block.splitlines():
        indent, name, what = re.fullmatch(r"( *)(\S+)/ +(\S.*)", line).groups()
        assert what
        top = top if indent else name
        folders.add(f"{top}/{name}" if indent else name)
    return folders


def test_the_readme_names_every_folder_and_no_other():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    folders = {str(Path(line).parent) for line in listed.stdout.splitlines()} - {".", *WITHOUT_LINE}

    assert folders_of_tree((ROOT / "README.md").read_text()) == folders
