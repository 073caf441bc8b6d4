"""A run folder on disk: what was asked for, and every fit that is done, so that a run resumes.

    run.json                       the data, the splits and the versions; other ones are refused
    fits/HEAD/row.json             the head's options, layers and training configuration
    fits/HEAD/fold0-….json         one fit: probabilities, losses, seconds
    checkpoints/HEAD/fold0-seed0   weights of a tested fit, written before its record

A fit is done when its record is there; records are written whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from features_store.errors import ContractError, UsageError
from features_store.format.disk import remove_leftovers, write_atomically
from train.fitting.loop import Candidate
from train.heads import Head
from train.protocol.grid import folder_name
from train.protocol.runs import Fit, MakeFit

SaveHead = Callable[[Path, Head, int, int], None]


def claim(path: Path, document: Mapping[str, Any]) -> None:
    """Write what a run or a head's fits are made from, or compare it with what stands there.

    Raises:
        UsageError: fits of something else lie there, naming each field that differs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    asked = json.loads(json.dumps(document))
    if path.exists():
        there = _read_json(path)
        differ = [
            f"{key}: there {there.get(key)!r}, asked for {asked.get(key)!r}"
            for key in sorted({*there, *asked})
            if there.get(key) != asked.get(key)
        ]
        if differ:
            raise UsageError(
                f"{path.parent} holds fits of another run; {'; '.join(differ)}; "
                "give `out` another folder"
            )
        return
    write_atomically(path, json.dumps(asked, indent=1).encode())


class KeptFits:
    """The fits of one head in a run folder; see `train.protocol.runs.FitKeeper`.

    Args:
        save_head: writes a checkpoint; called with its path, the head, fold and seed.
        on_fit: called with the fit's name once it is there.
    """

    def __init__(
        self,
        run: Path,
        label: str,
        *,
        save_head: SaveHead,
        on_fit: Callable[[str], None],
    ) -> None:
        self.fits = run / "fits" / folder_name(label)
        self.checkpoints = run / "checkpoints" / folder_name(label)
        self._save_head, self._on_fit = save_head, on_fit
        self.seconds = 0.0
        self.fits.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.fits)

    def validation(self, name: str, make: MakeFit) -> Fit:
        """Return the fit of that name, made now unless it is there."""
        return self._keep(name, make, lambda _: None)

    def test(self, fold: int, seed: int, candidate: Candidate, make: MakeFit) -> Fit:
        """Return the fit of a fold and seed with what validation chose; made now, its head too."""
        place = f"fold{fold}-seed{seed}"
        path = self.checkpoints / place
        return self._keep(
            f"{place}-{candidate.name}", make, lambda head: self._save_head(path, head, fold, seed)
        )

    def _keep(self, name: str, make: MakeFit, save: Callable[[Head], None]) -> Fit:
        path = self.fits / f"{name}.json"
        if path.exists():
            fit = read_fit(path)
        else:
            head, fit = make()
            save(head)
            document = fit.__dict__ | {"probs": fit.probs.tolist()}
            write_atomically(path, json.dumps(document).encode())
        self.seconds += fit.seconds
        self._on_fit(name)
        return fit


def read_fit(path: Path) -> Fit:
    """Return a fit that was kept.

    Raises:
        ContractError: the file is none.
    """
    document = _read_json(path)
    try:
        probs = np.array(document.pop("probs"), float)
        _, _ = probs.shape  # a ValueError unless it has videos and classes
        return Fit(probs, **document)
    except (KeyError, TypeError, ValueError) as err:
        raise ContractError(f"{path} is no record of a fit ({err}); remove it") from err


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as err:
        raise ContractError(f"{path} cannot be read ({err}); remove it to start anew") from err
    return document
