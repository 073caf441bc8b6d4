"""On which scale the values of a map are coloured: one for a whole clip, and said in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from train.heads.map_meanings import MapMeaning

ALIKE = 0.1  # values that differ by less than this share of the largest are called all alike
LEAST_TOP = 2.0  # of shares: so that what is all alike lies in the middle of the colours
TIMES = "times the average"


@dataclass(frozen=True)
class Scaled:
    """Values in the unit that is drawn.

    Attributes:
        ticks: values with the words that stand beside the colour bar; the ends of the colours are
            among them.
        unit: what 1 is, in words; empty for a number as it is.
        has_codes: whether the values are no numbers but have the names that the ticks say.
    """

    values: np.ndarray
    ticks: tuple[tuple[float, str], ...]
    unit: str = ""
    has_codes: bool = False

    @property
    def said(self) -> str:
        """How far the values go."""
        if self.has_codes:
            return ", ".join(name for _, name in self.ticks)
        return f"{said_of(self.values.round(2))} {self.unit}" if self.unit else said_of(self.values)

    @property
    def low(self) -> float:
        """The lower end of the colours."""
        return min(value for value, _ in self.ticks)

    @property
    def high(self) -> float:
        """The upper end of the colours."""
        return max(value for value, _ in self.ticks)

    @property
    def shades(self) -> np.ndarray:
        """The values as shares of the colours, 0 to 1."""
        shades: np.ndarray = (self.values - self.low) / (self.high - self.low)
        return shades


def scaled(values: np.ndarray, meaning: MapMeaning) -> Scaled:
    """Return finite values of a clip on the scale of what they mean.

    Shares are given as multiples of their average over the clip: only proportions count, and 1 is
    what each would have if all were alike.

    >>> scaled(np.array([1.0, 1.0, 4.0]), MapMeaning("where", "share")).values.tolist()
    [0.5, 0.5, 2.0]
    """
    values = np.asarray(values, np.float64)
    smallest, largest = float(values.min()), float(values.max())
    if meaning.codes and set(np.unique(values)) <= set(range(len(meaning.codes))):
        ticks = tuple((float(code), name) for code, name in enumerate(meaning.codes))
        return Scaled(values, ticks, has_codes=True)
    if meaning.unit == "level" and smallest >= 0 and largest <= 1:
        return Scaled(values, ((1.0, "1 all"), (0.0, "0 nothing")))
    if meaning.unit == "share" and smallest >= 0 and largest > 0:
        times = values / values.mean()
        top = max(LEAST_TOP, float(times.max()))
        ticks = ((top, f"{number(top)}\N{MULTIPLICATION SIGN}"), (1.0, "average"), (0.0, "0"))
        return Scaled(times, ticks, TIMES)
    low, high = min(0.0, smallest), max(0.0, largest)
    high = high if high > low else low + 1
    return Scaled(values, ((high, number(high)), (low, number(low))))


def said_of(values: np.ndarray) -> str:
    """Return in words how far values go.

    >>> said_of(np.array([0.0, 2.5])), said_of(np.array([0.98, 1.02]))
    ('0 to 2.5', 'all alike, 0.98 to 1.02')
    """
    smallest, largest = float(values.min()), float(values.max())
    is_alike = largest - smallest <= ALIKE * max(abs(largest), abs(smallest))
    return f"{'all alike, ' if is_alike else ''}{number(smallest)} to {number(largest)}"


def number(value: float) -> str:
    """Return a number as people read it.

    >>> number(1.0), number(6.0512), number(49.0), number(685.92), number(0.00012)
    ('1', '6.05', '49', '686', '1.2e-04')
    """
    if value and not 0.01 <= abs(value) < 10_000:
        return f"{value:.1e}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
