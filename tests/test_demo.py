"""README's first command: the demo runs to its end, offline, and leaves what it says."""

from PIL import Image


def test_the_demo_runs_to_its_end(cubereel, tmp_path):
    out = tmp_path / "demo"

    assert cubereel("demo", "--out", out) == 0, cubereel.err
    for head in ("softmax-regression", "avg-lstm", "soft-attention"):
        assert head in cubereel.out
    for clip in ("bikes", "phone", "bunny"):
        assert f"{out}/pictures/{clip}.mp4" in cubereel.out
        with Image.open(out / "pictures" / f"{clip}.png") as picture:
            assert picture.width > 1000
    assert cubereel("store", "verify", out / "demo.cubes", "--full") == 0
    assert cubereel("demo", "--out", out) == 2
    assert "is not empty" in cubereel.err
