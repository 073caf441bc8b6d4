"""How a video file is read: all that decides which pictures come out of it, as one value."""

from dataclasses import dataclass

from extract.video.decoders.names import DecoderName
from extract.video.geometry import check_preprocessing
from extract.video.pictures import PictureStack
from features_store.spec import Preprocessing, Sampling


@dataclass(frozen=True, kw_only=True)
class ReaderSettings:
    """The same for all videos of a store.

    Attributes:
        preprocessing: how frames are scaled.
        sampling: which frames are kept; counted from the first frame of the span.
        stack: the pictures of each kept frame; by default its centre alone.
        decoder: what decodes.
        device: number of the GPU, for a decoder that uses one.

    Raises:
        UsageError: the preprocessing is impossible.
    """

    preprocessing: Preprocessing
    sampling: Sampling
    stack: PictureStack = PictureStack()  # noqa: RUF009 (immutable)
    decoder: DecoderName = "cpu"
    device: int = 0

    def __post_init__(self) -> None:
        check_preprocessing(self.preprocessing)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of what is read of a frame: its pictures one below the other."""
        return self.stack.size(self.preprocessing.input_size)
