"""Small labelled videos in class folders, for the command line's tests."""

from pathlib import Path

import numpy as np

from tests.synthetic import write_video


def textured_frames(num_frames: int, *, seed: int, speed: int) -> np.ndarray:
    """Return a coloured texture that moves `speed` pixels a frame."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(60, 200, 3)
    texture = np.kron(rng.integers(0, 55, (8, 10, 1)), np.ones((8, 8, 1), int)) + colours
    moved = [np.roll(texture, speed * i, axis=1) for i in range(num_frames)]
    return np.stack(moved).astype(np.uint8)


def write_classes(folder: Path, *, per_class: int = 4, num_frames: int = 12) -> Path:
    """Write videos of two classes, one dark and one bright, and a manifest with groups."""
    lines = ["path,label,group,split"]
    for label, base in (("dark", 0), ("bright", 1)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            frames = textured_frames(num_frames, seed=i, speed=1 + i)
            shaded = (frames * (0.3 + 0.7 * base)).astype(np.uint8)
            write_video(folder / label / f"{i}.mp4", shaded, fps=10)
            split = "test" if i == 0 else "val" if i == 1 else "train"
            lines.append(f"{label}/{i}.mp4,{label},g{i},{split}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_one_broken(folder: Path) -> Path:
    """Add what is no video to the class of dark ones."""
    (folder / "dark" / "broken.mp4").write_bytes(b"no video")
    with (folder / "manifest.csv").open("a") as manifest:
        manifest.write("dark/broken.mp4,dark,g9,train\n")
    return folder
