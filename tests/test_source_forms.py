"""What may be given as a source, and what is said of what may not: named by what a user sees."""

import shutil

import numpy as np
import pytest
from PIL import Image

from features_store.store import Store
from tests.clips import textured_frames, write_classes

TINY = ("--backbone", "tiny:conv", "--fps", "10", "--device", "cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = write_classes(tmp_path_factory.mktemp("videos"), per_class=2, num_frames=6)
    (folder / "manifest.csv").unlink()
    return folder


def ids_of(store):
    with Store(store) as opened:
        return opened.ids


def test_a_folder_of_pictures_is_told_how_it_becomes_a_video(cubereel, tmp_path):
    frames = tmp_path / "v" / "jump"
    frames.mkdir(parents=True)
    for number in range(3):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(frames / f"{number}.jpg")
    advice = f"ffmpeg -framerate 25 -pattern_type glob -i '{frames}/*.jpg' '{frames}.mp4'"

    assert cubereel("extract", tmp_path / "v", "--out", tmp_path / "s", *TINY) == 3
    assert f"{frames} holds 3 pictures" in cubereel.err
    assert advice in cubereel.err
    (tmp_path / "m.csv").write_text(f"path,label\n{frames},jump\n")
    assert cubereel("extract", tmp_path / "m.csv", "--out", tmp_path / "s", *TINY) == 4
    assert "[not a video]" in cubereel.out  # and not the machine's fault, to be tried again
    assert f"'{frames}' is a folder of 3 pictures" in cubereel.out
    assert advice in cubereel.out


def test_an_animated_webp_is_called_what_it_is(cubereel, tmp_path):
    pictures = [Image.fromarray(frame) for frame in textured_frames(3, seed=0, speed=1)]
    pictures[0].save(tmp_path / "moving.webp", save_all=True, append_images=pictures[1:])
    pictures[0].save(tmp_path / "still.webp")
    (tmp_path / "list.txt").write_text("moving.webp\nstill.webp\n")

    assert cubereel("extract", tmp_path / "list.txt", "--out", tmp_path / "s", *TINY) == 4
    moving, still = (line for line in cubereel.out.splitlines() if line.startswith("failed"))
    assert "animated WebP" in moving
    assert "convert it to MP4 or GIF" in moving
    assert "still picture" in still


@pytest.mark.parametrize("name", ["m.csv", "list.txt"])
@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-16", "is UTF-16, not UTF-8"),
        ("utf-16-le", "is UTF-16, not UTF-8"),
        ("cp1252", "line 2 has the byte 0xe9, which is 'é' in cp1252"),
    ],
)
def test_a_text_in_another_encoding_is_told_how_to_convert_it(
    cubereel, videos, tmp_path, encoding, said, name
):
    (tmp_path / name).write_bytes("path,label\ndark/é.mp4,dark\n".encode(encoding))

    assert cubereel("extract", tmp_path / name, "--out", tmp_path / "s", *TINY) == 3
    assert said in cubereel.err
    assert "save it as 'CSV UTF-8', or convert it: iconv -f" in cubereel.err
    assert cubereel("store", "subset", videos, "--out", "x", "--ids", tmp_path / name) == 2


def test_a_root_beside_the_manifest_is_told_where_paths_begin(cubereel, videos, tmp_path):
    (tmp_path / "m.csv").write_text("path,label\ndark/0.mp4,dark\n")
    arguments = ("extract", tmp_path / "m.csv", "--out", tmp_path / "s", *TINY)

    assert cubereel(*arguments, "--root", videos) == 3
    assert (
        f"relative paths begin at the folder of the file that names them, {tmp_path}"
        in cubereel.err
    )
    assert "it does lie below the root, so move that file there" in cubereel.err
    assert cubereel(*arguments, "--root", videos / "bright") == 3
    assert "give --root a folder above that" in cubereel.err


def test_one_video_is_a_source(cubereel, videos, tmp_path):
    assert cubereel("extract", videos / "dark/0.mp4", "--out", tmp_path / "s", *TINY) == 0
    assert ids_of(tmp_path / "s") == ["0.mp4"]
    nameless = tmp_path / "film"
    shutil.copy(videos / "dark/0.mp4", nameless)
    assert cubereel("plan", nameless, *TINY, "--calibrate", 0) == 0


def test_a_quoted_pattern_is_a_source(cubereel, videos, tmp_path, monkeypatch):
    monkeypatch.chdir(videos.parent)
    pattern = f"{videos.name}/*/0.*"

    assert cubereel("extract", pattern, "--out", tmp_path / "s", *TINY) == 0
    assert ids_of(tmp_path / "s") == ["bright/0.mp4", "dark/0.mp4"]
    with Store(tmp_path / "s") as store:
        assert [row.label for row in store.manifest.values()] == ["bright", "dark"]
    assert cubereel("extract", f"{videos}/*.mkv", "--out", tmp_path / "s", *TINY) == 2
    assert "nothing matches" in cubereel.err
