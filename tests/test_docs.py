"""What README and docs say against what there is: command lines, links, and the README's length."""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer.main
from PIL import Image

from features_store.paths import PathKind
from pipelines.cli.main import app

ROOT = Path(__file__).parents[1]
PROGRAM = typer.main.get_command(app)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAX_LINES, MAX_TOUR_LINES = 160, 60
CALL = re.compile(r"(?:\$ )?(?:uv run )?cubereel(?: |$)")
FENCE = re.compile(r"\s*(```+|~~~+)")
CODE = re.compile(r"`[^`]*`")
LINK = re.compile(r"\[[^\[\]]*\]\(([^()\s]+)\)")


def split_fences(text):
    """Return the lines of a page outside of fenced blocks and those within, with their numbers."""
    prose, code, fence = [], [], None
    for number, line in enumerate(text.splitlines(), start=1):
        found = FENCE.match(line)
        if found and fence in (None, found[1]):
            fence = None if fence else found[1]
        else:
            (code if fence else prose).append((number, line))
    return prose, code


def calls_of(text):
    """Return number and words of every command line of `cubereel` in fenced blocks."""
    calls, begun = [], None
    for number, line in split_fences(text)[1]:
        if begun is None and "cubereel" not in line:
            continue
        first, whole = begun or (number, "")
        whole += line
        begun = (first, whole[:-1]) if whole.endswith("\\") else None
        # A line may be several commands: `pip install uv && uv run cubereel demo`.
        for part in re.split(r"&&|\||;", whole) if begun is None else ():
            if CALL.match(part.strip()):
                words = shlex.split(CALL.sub("", part.strip(), count=1), comments=True)
                calls.append((first, words))
    return calls


def check_call(words):
    """Parse a command line as the program does, without running it; raise its error."""
    command, context, name = PROGRAM, None, "cubereel"
    try:
        while True:
            context = command.make_context(name, list(words), parent=context)
            if not hasattr(command, "resolve_command"):
                return
            rest = [*context._protected_args, *context.args]
            name, command, words = command.resolve_command(context, rest)
    except typer.Exit:  # of --help and --version
        return


def slug(heading):
    """Return the anchor that GitHub gives a heading."""
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip())
    return re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")


def anchors_of(text):
    """Return the anchors of a page; of equal headings the later ones are numbered."""
    anchors = set()
    for _, line in split_fences(text)[0]:
        if found := re.fullmatch(r"#{1,6} +(.*?)(?: +#+)? *", line):
            base = anchor = slug(found[1])
            number = 0
            while anchor in anchors:
                number += 1
                anchor = f"{base}-{number}"
            anchors.add(anchor)
    return anchors


def without_brackets(code):
    """Return what was matched, so that it cannot be taken for a link."""
    return re.sub(r"[\[\]()]", "", code[0])


def wrong_links(page):
    """Return the relative links of a page that lead nowhere, with their lines."""
    wrong = []
    for number, line in split_fences(page.read_text())[0]:
        for link in LINK.findall(CODE.sub(without_brackets, line)):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (
                anchor and (target.is_dir() or anchor not in anchors_of(target.read_text()))
            ):
                wrong.append(f"{page.name}:{number}: {link}")
    return wrong


CALLS = [
    pytest.param(words, id=f"{page.name}:{number}")
    for page in PAGES
    for number, words in calls_of(page.read_text())
]


@pytest.fixture(autouse=True)
def _paths_of_pages_may_be_missing(monkeypatch):
    for kind in (PathKind, *PathKind.__subclasses__()):
        monkeypatch.setattr(kind, "require", lambda self, path: path)


@pytest.mark.parametrize("words", CALLS)
def test_a_command_line_has_verbs_and_flags_that_exist(words):
    check_call(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    assert wrong_links(page) == []


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    (tour,) = re.findall(r"^## A tour\n.*?(?=^## )", text, re.DOTALL | re.MULTILINE)

    assert len(text.splitlines()) <= MAX_LINES
    assert len(tour.splitlines()) <= MAX_TOUR_LINES


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("extrakt videos --out a.cubes", "No such command 'extrakt'"),
        ("store rapack a.cubes --out b.cubes", "No such command 'rapack'"),
        ("extract videos --out a.cubes --frames 3", "No such option: --frames"),
        ("store repack a.cubes --out b.cubes --compakt", "No such option: --compakt"),
        ("extract videos --out a.cubes --decoder gpu", "'gpu' is not one of"),
        ("extract videos", "Missing parameter: out"),
    ],
)
def test_a_wrong_command_line_is_found(call, said):
    ((number, words),) = calls_of(f"text\n```\n$ cubereel {call} | tail -1\nnothing\n```\n")

    assert number == 3
    with pytest.raises(Exception, match=re.escape(said)):
        check_call(words)


def test_command_lines_are_found_and_joined():
    page = (
        "$ cubereel no code\n```\npip install uv && uv run cubereel demo\n"
        "cubereel list heads # all\n"
        "$ cubereel train a.cubes \\\n    --folds 4\ncubereel: no command\n```\n`cubereel doctor`\n"
    )

    assert calls_of(page) == [
        (3, ["demo"]),
        (4, ["list", "heads"]),
        (5, ["train", "a.cubes", "--folds", "4"]),
    ]


def test_a_wrong_link_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# One `two`, three!\n## Same\n## Same\n```\n# code\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md) [b](other.md#one-two-three) [c](other.md#same-1) [d](#here)\n"
        "[`e`](gone.md) `x` [f](other.md#code) [g](https://example.org/gone.md)\n"
        "```\n[h](gone.md)\n```\n[i](#gone) `[j](gone.md)` [k](other.md#same-2)\n"
    )

    assert wrong_links(page) == [
        "page.md:3: gone.md",
        "page.md:3: other.md#code",
        "page.md:7: #gone",
        "page.md:7: other.md#same-2",
    ]


def test_the_picture_of_the_readme_is_small_and_its_script_draws_such(tmp_path):
    size = (ROOT / "docs" / "attention.png").stat().st_size
    assert 10_000 < size < 100_000
    script = runpy.run_path(str(ROOT / "docs" / "draw_attention.py"))
    strip = np.random.default_rng(0).integers(0, 255, (300, 1760, 3), dtype=np.uint8)
    Image.fromarray(strip).save(tmp_path / "strip.png")
    script["draw_small"](str(tmp_path / "strip.png"), str(tmp_path / "out.png"))
    with Image.open(tmp_path / "out.png") as picture:
        assert (picture.size, picture.mode) == ((960, 164), "P")


PATH = re.compile(r"`((?:extract|train|features_store|pipelines|tests|benchmarks|docs)/[\w./-]+)`")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_path_that_a_page_names_is_there(page):
    gone = [name for name in PATH.findall(page.read_text()) if not (ROOT / name).exists()]
    assert gone == []
