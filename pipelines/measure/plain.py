"""What extraction is measured against: bare decoding, and the loop that one writes first.

Nothing here is used to extract. Both keep the frames that the extractor keeps.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from av import VideoFrame
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor, nn

from extract.compute.preprocess import Normalise
from extract.sampling.policy import Timeline, policy_of
from extract.video.geometry import place_frame
from extract.video.settings import ReaderSettings
from extract.video.spans import find_extent
from features_store.spec import Sampling


def decode_bare(paths: Iterable[Path], settings: ReaderSettings) -> int:
    """Decode on one thread and let swscale scale and convert; return how many frames were kept."""
    num_frames = 0
    for path in paths:
        reformatter = VideoReformatter()
        for frame in _kept_frames(path, settings.sampling):
            place = place_frame(frame.width, frame.height, preprocessing=settings.preprocessing)
            reformatter.reformat(frame, *place.scaled_size, format="rgb24", threads=1)
            num_frames += 1
    return num_frames


def decode_naively(path: Path, settings: ReaderSettings) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yield frames by `to_ndarray`, resized and cropped by PIL."""
    height, width = settings.preprocessing.input_size
    for frame in _kept_frames(path, settings.sampling):
        place = place_frame(frame.width, frame.height, preprocessing=settings.preprocessing)
        picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
        left, top = place.offset
        resized = picture.resize(place.scaled_size, Image.Resampling.BILINEAR)
        yield np.asarray(resized.crop((left, top, left + width, top + height)))


def extract_naively(
    paths: Iterable[Path], settings: ReaderSettings, *, network: nn.Module, device: torch.device
) -> int:
    """One video at a time: all its frames, then the network on them, eager fp32 NCHW."""
    num_frames = 0
    normalise = Normalise(settings.preprocessing).to(device)
    for path in paths:
        frames = list(decode_naively(path, settings))
        for pixels in torch.split(torch.from_numpy(np.stack(frames)), 32):
            compute_eagerly(network, normalise, pixels.to(device))
        num_frames += len(frames)
    return num_frames


@torch.inference_mode()
def compute_eagerly(
    network: nn.Module, normalise: Normalise, pixels: UInt8[Tensor, "n h w 3"]
) -> list[np.ndarray]:
    """Run a network as it is on contiguous NCHW pictures, and bring every layer to the host."""
    maps: dict[str, Tensor] = network(normalise(pixels).contiguous())
    return [cubes.cpu().numpy() for cubes in maps.values()]


def _kept_frames(path: Path, sampling: Sampling) -> Iterator[VideoFrame]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        assert stream.time_base is not None, "every stream of a file that was chosen has a clock"
        sampler = policy_of(sampling).sampler(
            Timeline(stream.time_base, partial(find_extent, path))
        )
        for frame in container.decode(stream):
            if sampler.keep(int(frame.pts or 0)):
                yield frame
