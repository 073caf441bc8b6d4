"""`--diffs cubes`: what the backbone makes of difference images, beside the cubes of frames."""

import h5py
import numpy as np
import pytest
import torch

from extract.backbones import load_backbone
from extract.compute.preprocess import preprocessing_for
from features_store.store import Store
from features_store.verbs.verify import verify_store
from tests.synthetic import moving_square, write_video

TINY = ("--backbone", "tiny:conv", "--precision", "fp32", "--dtype", "float32", "--device", "cpu")
BOTH = ("--layer", "stem", "--layer", "top", "--view", "center", "--view", "flip")
LENGTHS = {"a.mkv": 7, "b.mkv": 1, "c.mkv": 5}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Lossless clips that are not scaled, and what the centre crop shows of them."""
    folder, shown = tmp_path_factory.mktemp("videos"), {}
    for i, (name, length) in enumerate(LENGTHS.items()):
        frames = moving_square(length, width=84, height=64, step=(5 + i, 3))
        write_video(folder / name, frames, codec="ffv1", pixel_format="bgr0")
        shown[name] = frames[:, 4:60, 14:70]
    return folder, shown


def expected(shown, before, layer):
    """Cubes of frames minus those before, computed without the extractor."""
    backbone = load_backbone("tiny:conv", weights=None, layers=["stem", "top"])
    preprocessing = preprocessing_for(backbone.config, fit="crop")
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    images = [(frames / 255.0 - mean) / std for frames in (shown, before)]
    difference = torch.from_numpy(images[0] - images[1]).float().permute(0, 3, 1, 2)
    with torch.inference_mode():
        return backbone(difference)[layer].numpy()


@pytest.mark.parametrize(
    ("options", "kept", "before"),
    [
        pytest.param((), [0, 1, 2, 3, 4, 5, 6], [0, 0, 1, 2, 3, 4, 5], id="every frame"),
        pytest.param(("--stride", 3), [0, 3, 6], [0, 0, 3], id="to the frame kept before"),
        pytest.param(("--count", 3), [0, 3, 6], [0, 2, 5], id="to the frame decoded before"),
    ],
)
def test_cubes_of_differences_are_those_of_the_normalised_difference(
    cubereel, videos, tmp_path, options, kept, before
):
    folder, shown = videos
    out, batches = tmp_path / "s.cubes", ("--batch-size", 2)
    arguments = (*TINY, *BOTH, *options, *batches, "--diffs", "cubes")

    assert cubereel("extract", folder, "--out", out, *arguments) == 0

    assert verify_store(out, full=True).problems == []
    frames = shown["a.mkv"]
    with Store(out) as store:
        for layer in ("stem", "top"):
            for view, step in (("center", 1), ("flip", -1)):
                found = store.read("a.mkv", f"diff_cubes/{view}/{layer}")
                pictures = frames[:, :, ::step]
                right = expected(pictures[kept], pictures[before], layer)
                np.testing.assert_allclose(found, right, atol=2e-5)
        top = store.read("a.mkv", "diff_cubes/center/top")
        nothing = np.zeros_like(frames[:1])
        still = expected(nothing, nothing, "top")[0]
        np.testing.assert_allclose(top[0], still, atol=2e-5)
        assert np.abs(top[1] - still).max() > 0.1
        for name in ("b.mkv", "c.mkv"):  # the first frame of each differs from nothing
            first = store.read(name, "diff_cubes/center/top", stop=1)[0]
            np.testing.assert_array_equal(first, top[0])


def test_they_are_listed_and_compared_and_can_be_left_out(cubereel, videos, tmp_path):
    plain, both, cut, small = (tmp_path / f"{name}.cubes" for name in "pbcs")

    assert cubereel("extract", videos[0], "--out", plain, *TINY) == 0
    assert cubereel("extract", videos[0], "--out", both, *TINY, "--diffs", "cubes") == 0
    assert cubereel("store", "diff", plain, both) == 3
    assert cubereel("extract", videos[0], "--out", both, *TINY) == 3
    assert "has has_diff_cubes True, what is to be added has False" in cubereel.err
    assert cubereel("store", "repack", both, "--out", cut, "--drop-diff-cubes") == 0
    assert cubereel("store", "diff", plain, cut) == 0
    assert "identical" in cubereel.out
    assert cubereel("store", "repack", both, "--out", small, "--compact") == 0
    assert verify_store(small, full=True).problems == []
    (shard,) = (small / "shards").glob("*.h5")
    with h5py.File(shard) as file:
        assert file["diff_cubes/center/top"].attrs["axes"] == b"ndkk"
        scales = file["diff_scales/center/top"][:]
    with Store(both) as raw, Store(small) as packed:
        one, other = (s.read("a.mkv", "diff_cubes/center/top") for s in (raw, packed))
    assert (np.abs(one - other) <= 0.51 * scales).all()


def test_a_folder_keeps_them(cubereel, videos, tmp_path):
    store, plain, back = tmp_path / "s.cubes", tmp_path / "plain", tmp_path / "back.cubes"

    assert cubereel("extract", videos[0], "--out", store, *TINY, "--diffs", "cubes") == 0
    assert cubereel("store", "export", store, "--out", plain, "--format", "folder") == 0
    assert (plain / "a.mkv" / "diff_cubes.top.npy").is_file()
    assert cubereel("store", "import", plain, "--out", back, "--format", "folder") == 0
    assert cubereel("store", "diff", store, back) == 0
    assert "identical" in cubereel.out
