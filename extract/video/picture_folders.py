"""Folders of pictures, which are no videos: recognised, to say how they become one. No FFmpeg."""

from collections.abc import Sequence
from pathlib import Path

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")


def video_of_pictures(folder: str, names: Sequence[str]) -> str:
    """Say how the pictures of these names in a folder become a video."""
    picture = next(name for name in sorted(names) if name.lower().endswith(PICTURE_SUFFIXES))
    pattern = f"{folder}/*{Path(picture).suffix}"
    return (
        "make a video of each folder, at the rate that its pictures were taken: "
        f"ffmpeg -framerate 25 -pattern_type glob -i '{pattern}' '{folder}.mp4'"
    )
