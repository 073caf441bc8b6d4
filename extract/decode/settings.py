"""What a decode worker must know before its first task; it travels to it as JSON."""

from dataclasses import dataclass

from extract.video.settings import ReaderSettings


@dataclass(frozen=True, kw_only=True)
class DecodeSettings(ReaderSettings):
    """How files are read, and how far ahead of who takes their frames.

    Attributes:
        slots: frames that each worker may be ahead of the consumer.

    Raises:
        ValueError: there are no slots.
    """

    slots: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slots < 1:
            raise ValueError(f"slots must be positive, got {self.slots}")
