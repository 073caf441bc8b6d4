"""Stage 1: video to cubes. Decodes, runs a frozen backbone, writes to a feature store.

Enough to decode a video and compute its cubes by hand; `cubereel extract` does it for many. What is
named here is imported when it is first used: `import extract` loads neither torch nor FFmpeg.

>>> settings = ReaderSettings(                                      # doctest: +SKIP
...     preprocessing=preprocessing_for(backbone.config, fit="crop"),
...     sampling=Sampling.parse(fps="10"),
... )
>>> frames = np.stack([f.pixels for f in FrameReader("a.mp4", settings)])     # doctest: +SKIP
>>> CubeComputer(backbone, settings.preprocessing, device=torch.device("cpu"), batch_size=16)(
...     torch.from_numpy(frames)
... ).cubes                                                         # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from features_store.lazy import lazy_names

if TYPE_CHECKING:
    from extract.backbones.registry import Backbone as Backbone
    from extract.backbones.registry import list_backbones as list_backbones
    from extract.backbones.registry import load_backbone as load_backbone
    from extract.compute.computer import ComputedFrames as ComputedFrames
    from extract.compute.computer import CubeComputer as CubeComputer
    from extract.compute.preprocess import preprocessing_for as preprocessing_for
    from extract.decode.events import Failed as Failed
    from extract.decode.events import Finished as Finished
    from extract.decode.events import Frames as Frames
    from extract.decode.messages import DecodeTask as DecodeTask
    from extract.decode.pool import DecodePool as DecodePool
    from extract.decode.settings import DecodeSettings as DecodeSettings
    from extract.video.header import VideoHeader as VideoHeader
    from extract.video.header import probe as probe
    from extract.video.pictures import PictureStack as PictureStack
    from extract.video.reader import FrameReader as FrameReader
    from extract.video.reader import KeptFrame as KeptFrame
    from extract.video.reader import VideoSummary as VideoSummary
    from extract.video.settings import ReaderSettings as ReaderSettings

_MODULES = {
    "backbones.registry": ("Backbone", "list_backbones", "load_backbone"),
    "compute.computer": ("ComputedFrames", "CubeComputer"),
    "compute.preprocess": ("preprocessing_for",),
    "decode.events": ("Failed", "Finished", "Frames"),
    "decode.messages": ("DecodeTask",),
    "decode.pool": ("DecodePool",),
    "decode.settings": ("DecodeSettings",),
    "video.header": ("VideoHeader", "probe"),
    "video.pictures": ("PictureStack",),
    "video.reader": ("FrameReader", "KeptFrame", "VideoSummary"),
    "video.settings": ("ReaderSettings",),
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
