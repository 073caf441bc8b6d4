"""What goes between a test and the fork server: when a run is to die, and how it went."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kill:
    """When a run is killed; by default never.

    Attributes:
        call: at this call that changes the store, from 1; 0 for none.
        part: of that call, what is done before: 0 nothing, 1 half, 2 all.
        event: after this event of the run: 0 its start, n its n-th commit; -1 for none.
        delay: seconds after that event.
    """

    call: int = 0
    part: int = 0
    event: int = -1
    delay: float = 0.0


NEVER = Kill()


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: its exit code, or the signal that ended it, negative.
        committed: ids of the videos whose commit had returned.
        times: of its start, its commits and its end as far as it came, in seconds.
        calls: that changed the store; 0 when it was killed.
    """

    status: int
    committed: list[str]
    times: list[float]
    calls: int
