"""Splits: what is tied is on one side, every class is on every side in its share."""

from pathlib import Path

import numpy as np
import pytest

from features_store.errors import ContractError
from features_store.format.layout import LayerShape
from features_store.manifest import ManifestRow, write_manifest
from features_store.session import StoreSession
from pipelines.training.train import train
from tests.stores import add_video, frames, header
from train.data.labels import as_table
from train.fitting.config import TrainConfig
from train.fitting.tasks import SINGLE_LABEL
from train.protocol.labelled import label_rows
from train.protocol.splits import make_folds
from train.protocol.ties import refuse_leaks

NUM_FOLDS = 4
ROOM = header(layers=(LayerShape("top", 2, 8),), has_diffs=False)
QUICK = TrainConfig(clip_frames=2, epochs=1, learning_rates=(0.1,))


def label(rows, media):
    return label_rows(
        rows, media=media, manifest=Path("m.csv"), num_videos=len(rows), task=SINGLE_LABEL
    )


# What is tied is on one side


def random_rows(rng):
    """Return rows of few groups, files and contents, and the pairs that each of them ties."""
    num = int(rng.integers(20, 40))
    groups = [f"g{i}" if i < num else "" for i in rng.integers(0, 4 * num, num)]
    paths = [f"p{i}" for i in rng.integers(0, 4 * num, num)]
    contents = [f"{i}" if i < num else "" for i in rng.integers(0, 4 * num, num)]
    rows = [ManifestRow(f"v{i}", paths[i], "ab"[i % 2], groups[i]) for i in range(num)]
    pairs = [
        (i, j)
        for said in (groups, paths, contents)
        for i in range(num)
        for j in range(i)
        if said[i] and said[i] == said[j]
    ]
    return rows, dict(zip((row.video_id for row in rows), contents, strict=True)), pairs


def test_five_hundred_manifests_have_no_tie_that_a_split_parts():
    rng = np.random.default_rng(0)
    num_pairs = 0
    for seed in range(500):
        rows, media, pairs = random_rows(rng)
        known = label(rows, media)
        for split in make_folds(known.labels, known.groups, num_folds=2, seed=seed):
            tested = np.isin(np.arange(len(rows)), split.test)
            assert all(tested[i] == tested[j] for i, j in pairs)
            for train_side, validation in split.inner:
                side = np.where(tested, 2, np.isin(np.arange(len(rows)), validation))
                assert all(side[i] == side[j] for i, j in pairs)
                assert not set(train_side) & set(validation)
        num_pairs += len(pairs)

    assert num_pairs > 2000


def test_two_videos_are_tied_by_one_that_has_no_label():
    rows = [
        ManifestRow("a", "film", "x"),
        ManifestRow("between", "film", "", "g"),
        ManifestRow("b", "other", "y", "g"),
    ]

    assert len(set(label(rows, {}).groups.tolist())) == 1


CHAINED = {
    # Of each row: path, group, content. Rows 0 and 1 are tied, each in another way.
    "a group": [("p0", "g", ""), ("p1", "g", "")],
    "spans of a file, one without a group": [("p", "g", ""), ("p", "", "")],
    "spans of a file of two groups": [("p", "g", ""), ("p", "h", "")],
    "equal content": [("p0", "g", "c"), ("p1", "h", "c")],
    "equal content without groups": [("p0", "", "c"), ("p1", "", "c")],
}


def plant(path, tied, *, splits=()):
    """Write a store of two tied videos and ten others, each of its own group."""
    said = [*tied, *((f"own{i}", f"own{i}", f"own{i}") for i in range(10))]
    rows = []
    with (
        StoreSession(path, ROOM, run_id="run") as writer,
        writer.unit(rows=3 * 12, video_ids=[f"v{i:02}" for i in range(12)]) as unit,
    ):
        for i, (file, group, content) in enumerate(said):
            video_id = f"v{i:02}"
            data = frames(3, seed=i, store_header=ROOM)
            digest = (content or video_id).encode().hex().zfill(64)
            add_video(unit, video_id, data, media_sha256=digest)
            split = splits[i] if splits else ""
            rows.append(ManifestRow(video_id, file, "ab"[i % 2], group, split))
    write_manifest(path / "manifest.csv", rows)
    return path


@pytest.mark.parametrize("tied", CHAINED.values(), ids=CHAINED)
def test_train_and_manifest_folds_keep_tied_videos_together(cubereel, tmp_path, tied):
    store = plant(tmp_path / "s.cubes", tied)

    report = train(store, heads=["mean-pool"], folds=11, out=tmp_path / "run", config=QUICK)

    assert report.num_groups == 11
    lines = (tmp_path / "run/predictions.csv").read_text().splitlines()[1:]
    fold_of = {line.split(",")[3]: line.split(",")[1] for line in lines}
    assert fold_of["v00"] == fold_of["v01"]
    assert len(set(fold_of.values())) == 11
    said = [line.split(",")[4] for line in lines if line.split(",")[3] in ("v00", "v01")]
    assert said == [group or f"video {path}" for path, group, _ in tied]
    assert cubereel("manifest", "folds", store, "--folds", 11) == 0
    assert cubereel.out.splitlines()[-1].split()[1:] == report.split_hashes


@pytest.mark.parametrize(
    ("tied", "named"),
    [
        (CHAINED["a group"], "group 'g'"),
        (CHAINED["spans of a file, one without a group"], "file 'p'"),
    ],
)
def test_a_manifest_s_split_that_parts_a_tie_is_refused_by_name(cubereel, tmp_path, tied, named):
    splits = ["train", "test", *["train"] * 5, *["test"] * 5]
    store = plant(tmp_path / "s.cubes", tied, splits=splits)

    assert cubereel("train", store, "--head", "mean-pool", "--out", tmp_path / "run") == 3
    assert f"{named} is on 2 sides: test has 'v01'; train has 'v00' (1 such ties)" in cubereel.err


def test_equal_content_on_two_sides_of_a_manifest_s_split_is_said(tmp_path, caplog):
    splits = ["train", "test", *["train"] * 5, *["test"] * 5]
    store = plant(tmp_path / "s.cubes", CHAINED["equal content"], splits=splits)

    report = train(store, heads=["mean-pool"], out=tmp_path / "run", config=QUICK)

    content = b"c".hex().zfill(64)
    said = f"media '{content}' is on 2 sides: fitting has 'v00'; test has 'v01'"
    assert f"scores may be too high: {said}" in report.warnings
    assert said in caplog.text


def test_a_message_does_not_name_hundreds_of_videos():
    rows = [ManifestRow(f"v{i}", f"p{i}", group="g") for i in range(100)]

    with pytest.raises(ContractError, match="train has 'v0', 'v1', 'v10' and 96 more"):
        refuse_leaks(rows, ["train"] * 99 + ["test"], media={})


# Every class in its share


def random_manifest(rng):
    """Return labels and groups: classes of uneven shares, groups of uneven size, each of few."""
    num_groups, num_classes = rng.integers(30, 90), rng.integers(2, 9)
    sizes = rng.geometric(1 / rng.uniform(1.5, 6), num_groups)
    shares = rng.dirichlet(np.full(num_classes, 1.5))
    of_groups = [rng.choice(num_classes, p=rng.dirichlet(shares * 8), size=n) for n in sizes]
    labels = np.unique(np.concatenate(of_groups), return_inverse=True)[1]
    return labels, np.repeat(np.arange(num_groups), sizes)


def unevenness(labels, groups, *, seed):
    """Return the mean deviation of class shares in test from those in all, and absent classes."""
    table = as_table(labels, int(labels.max()) + 1)
    tested = [table[s.test] for s in make_folds(labels, groups, num_folds=NUM_FOLDS, seed=seed)]
    deviations = [np.abs(of_fold.mean(0) - table.mean(0)).mean() for of_fold in tested]
    return np.mean(deviations), sum((~of_fold.any(0)).sum() for of_fold in tested)


def test_classes_are_in_every_fold_in_their_share():
    """With folds of scikit-learn's StratifiedGroupKFold, 0.0127 and 1.07 absent a run."""
    rng = np.random.default_rng(0)
    manifests = [random_manifest(rng) for _ in range(60)]
    measured = [unevenness(*manifest, seed=i) for i, manifest in enumerate(manifests)]

    deviation, absent = np.mean(measured, axis=0)
    assert deviation < 0.01
    assert absent < 1.0


def test_spans_that_all_have_groups_may_be_on_several_sides():
    rows = [ManifestRow(f"f@{i}", "f", group=f"g{i}") for i in range(2)]
    refuse_leaks(rows, ["train", "test"], media={})
    one_without = [rows[0], ManifestRow("f@1", "f")]
    with pytest.raises(ContractError, match="file 'f' is on 2 sides"):
        refuse_leaks(one_without, ["train", "test"], media={})
