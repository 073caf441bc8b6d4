"""Damaged videos among sound ones; `benchmarks/damaged.py` does it with a thousand."""

import pytest

from features_store.store import Store
from tests.clips import write_classes
from tests.damage import KINDS, NEVER_A_VIDEO, outcomes, write_mixture

EXTRACT = ("--backbone", "tiny:conv", "--fps", "5", "--batch-size", "8", "--timeout", "5")


@pytest.mark.parametrize("partial", ["drop", "keep"])
def test_damaged_videos_end_in_the_ledger_and_cost_no_sound_one(cubereel, tmp_path, partial):
    clips = write_classes(tmp_path / "clips", per_class=2, num_frames=40)
    kinds = write_mixture(tmp_path, sorted(clips.rglob("*.mp4")), count=2 * len(KINDS), seed=1)
    mixed, alone, chosen = (tmp_path / f"{name}.cubes" for name in ("mixed", "alone", "chosen"))
    assert cubereel("extract", tmp_path / "sound.csv", "--out", alone, *EXTRACT) == 0

    arguments = ("--out", mixed, *EXTRACT, "--partial", partial, "--workers", 2)
    assert cubereel("extract", tmp_path / "mixed.csv", *arguments) == 4
    assert "Traceback" not in cubereel.err
    with Store(mixed) as store:
        kept = store.partial_ids
    found = outcomes(mixed, set(kinds) - set(kept))
    assert not {i for i, kind in kinds.items() if kind in NEVER_A_VIDEO and found[i] == "ok"}
    assert bool(kept) == (partial == "keep")
    sound = [f"sound/{i:03d}.mp4" for i in range(4)]
    (tmp_path / "ids.txt").write_text("\n".join(sound))
    arguments = (mixed, "--out", chosen, "--ids", tmp_path / "ids.txt")
    assert cubereel("store", "subset", *arguments) == 0
    assert cubereel("store", "diff", alone, chosen) == 0
    assert cubereel.out.splitlines()[-1] == "identical: 4 videos compared, 0 differ"
