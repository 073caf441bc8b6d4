"""M2A's tail mode: the layers after a stored one, the head that trains them, the command line."""

import csv
import json

import pytest
import timm
import torch
import torchvision
from einops import rearrange
from torch import nn

from extract.backbones import load_backbone
from extract.backbones.caffe import CaffeGoogLeNet
from extract.backbones.tail import load_tail
from extract.backbones.tiny import TinyConv
from features_store.errors import ContractError, UsageError
from tests.batches import all_valid, batch_of, randn, small_tail
from tests.clips import write_classes
from train.data.batch import InputShape
from train.heads import build_head
from train.heads.temporal_shift import temporal_shift

QUICK = ("--clip-frames", 4, "--epochs", 4, "--device", "cpu")

# --- What follows a layer ------------------------------------------------------------------------

SPLITS = [
    ("tiny:conv", TinyConv, "stem", ["top"]),
    ("caffe:googlenet", CaffeGoogLeNet, "inception_5a", ["inception_5b"]),
    ("caffe:googlenet", CaffeGoogLeNet, "inception_4e", ["pool4", "inception_5a", "inception_5b"]),
    (
        "torchvision:resnet18",
        lambda: torchvision.models.resnet18(weights=None),
        "layer3",
        ["layer4"],
    ),
    ("timm:test_resnet", lambda: timm.create_model("test_resnet"), "layer3", ["layer4"]),
]


def closed(head):
    """The same head with a gate of zero, so that its block returns what it gets."""
    nn.init.zeros_(head.block.up.weight)
    nn.init.constant_(head.block.up.bias, -1e4)
    return head.eval()


@pytest.mark.parametrize(("name", "make", "layer", "modules"), SPLITS)
def test_with_a_closed_gate_the_head_is_a_linear_probe_of_the_last_map(
    name, make, layer, modules, tmp_path
):
    torch.manual_seed(0)
    weights = tmp_path / "w.pth"
    torch.save(make().state_dict(), weights)
    (top,) = load_backbone(name, weights=weights).layers
    backbone = load_backbone(name, weights=weights, layers=[layer, top.name])
    maps = backbone(torch.randn(3, 3, *backbone.config.input_size))
    stored, last = (maps[la].clone().unsqueeze(0) for la in (layer, top.name))
    tail = load_tail(name, layer, weights=weights)
    shape = InputShape({layer: stored.shape[3:]})
    head = closed(build_head("m2a-tail", shape=shape, num_classes=4, tail=tail.module))

    logits = head(batch_of(stored)).logits

    assert [name for name, _ in tail.module.named_children()] == modules
    assert tail.weights_sha256 == backbone.weights_sha256
    expected = head.classify(last.mean((2, 3))).mean(1, keepdim=True).detach()
    assert expected.abs().max() > 0
    tolerances = {"rtol": 1e-3, "atol": 1e-4 * float(expected.abs().max())}
    torch.testing.assert_close(logits, expected, **tolerances)
    ours = rearrange(head.tail(rearrange(stored, "b t h w d -> (b t) d h w")), "n d h w -> n h w d")
    assert torch.cosine_similarity(ours.flatten(1), last[0].flatten(1)).min() > 0.99999


UNSPLIT = [
    ("tiny:conv", "top", "'top' is where tiny:conv ends: no layer is left to train after it"),
    ("tiny:conv", "stem@avg7", "'stem@avg7' is pooled, and tiny:conv .* take 'stem' as it is"),
    ("tiny:conv", "stum", "no layer 'stum' in tiny:conv; did you mean 'stem'"),
    ("torchvision:resnet18", "layer4", "'layer4' is where torchvision:resnet18 ends"),
    ("torchvision:resnet18", "layer4.1", "'layer4.1' is where torchvision:resnet18 ends"),
    ("timm:test_resnet", "layer4", "'layer4' is where timm:test_resnet ends"),
]


@pytest.mark.parametrize(("backbone", "layer", "words"), UNSPLIT)
def test_layers_after_which_nothing_can_be_trained(backbone, layer, words):
    with pytest.raises(UsageError, match=words):
        load_tail(backbone, layer, trained=False)


@pytest.mark.parametrize(
    ("name", "make", "layer"),
    [
        # What follows within the block lacks its shortcut.
        ("torchvision:resnet18", torchvision.models.resnet18, "layer4.1.conv2"),
        # Stored as a map, which blocks of tokens do not take.
        ("timm:test_vit", lambda: timm.create_model("test_vit"), "blocks.3"),
    ],
)
def test_modules_that_do_not_add_up_to_the_network_are_refused(name, make, layer, tmp_path):
    torch.save(make().state_dict(), tmp_path / "w.pth")

    with pytest.raises(UsageError, match=f"{name} cannot be split after '{layer}': the modules"):
        load_tail(name, layer, weights=tmp_path / "w.pth")


def test_weights_that_are_nowhere_are_asked_for():
    with pytest.raises(UsageError, match="no download of its own; give `weights` FILE"):
        load_tail("caffe:googlenet", "inception_5a")


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(TinyConv().state_dict(), tmp_path / "w.pth")

    with pytest.raises(ContractError, match="do not fit ResNet"):
        load_tail("torchvision:resnet18", "layer3", weights=tmp_path / "w.pth")


# --- The head ------------------------------------------------------------------------------------


def m2a_tail(tail=None, *, dim=8, **options):
    torch.manual_seed(1)
    shape = InputShape({"top": (3, dim)})
    tail = tail or small_tail(dim)
    return build_head("m2a-tail", shape=shape, num_classes=3, tail=tail, **options).double()


def test_a_head_without_its_tail_is_refused():
    with pytest.raises(UsageError, match="'m2a-tail' needs tail=, what the network has after"):
        build_head("m2a-tail", shape=InputShape({"top": (3, 8)}), num_classes=3)


def test_every_head_trains_its_own_copy():
    tail = small_tail(8).requires_grad_(False)
    before = tail[0].weight.clone()
    first, second = m2a_tail(tail), m2a_tail(tail)

    nn.init.zeros_(first.tail[0].weight)

    assert first.tail[0].weight.requires_grad
    torch.testing.assert_close(second.tail[0].weight.float(), before)
    torch.testing.assert_close(tail[0].weight, before)
    assert not tail[0].weight.requires_grad


def test_a_batch_norm_keeps_its_statistics_and_learns_its_scale():
    head = m2a_tail().train()
    norm = head.tail[1]
    mean = norm.running_mean.clone()

    head(batch_of(randn(2, 4, 3, 3, 8))).logits.sum().backward()

    assert head.training
    torch.testing.assert_close(norm.running_mean, mean)
    assert norm.weight.grad.abs().max() > 0


def test_the_shift_comes_after_the_block_and_before_the_layers():
    batch = batch_of(randn(2, 4, 3, 3, 8))
    mask = all_valid(batch.top)
    shifting, plain = m2a_tail(shift=True).eval(), m2a_tail().eval()

    logits = shifting(batch).logits

    shifted = temporal_shift(plain.block(batch.top, mask).cubes, mask)
    maps = plain.tail(rearrange(shifted, "b t h w d -> (b t) d h w"))
    features = rearrange(maps.mean((2, 3)), "(b t) f -> b t f", b=2)
    torch.testing.assert_close(logits, plain.classify(features).mean(1, keepdim=True))
    assert (logits - plain(batch).logits).abs().max() > 1e-9


def test_the_scale_of_scores_reaches_the_block():
    batch = batch_of(randn(2, 4, 3, 3, 8))

    by_root, by_size = (
        m2a_tail(scale=scale)(batch).maps["frame_attention"] for scale in ("root", "size")
    )

    assert (by_size - by_root).abs().max() > 1e-3


BAD_OPTIONS = [
    ({"reduction": 9}, "option 'reduction' must be at least 1 and below 9, got 9"),
    ({"dropout": 1}, "'dropout' must be a finite number, at least 0 and below 1, got 1"),
    ({"dim": 7, "reduction": 2, "shift": True}, "moves an eighth of the channels"),
    ({"diffs": "cubes"}, "'m2a-tail' has no option 'diffs'"),
    ({"tail_lr": 1}, "'m2a-tail' has no option 'tail_lr'"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_a_bad_option_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        m2a_tail(**options)


# --- The command line ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with weights that are not those of the network's own seed."""
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    torch.save({n: 0.9 * w for n, w in TinyConv().state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def store(videos, weights, tmp_path_factory):
    from pipelines.extraction.extract import extract
    from pipelines.extraction.options import ExtractionOptions

    path = tmp_path_factory.mktemp("stores") / "s.cubes"
    layers = ["stem@avg7", "stem", "top"]
    extract(
        videos,
        out=path,
        options=ExtractionOptions(backbone="tiny:conv", weights=weights, layers=layers, fps="10"),
    )
    return path


TAIL = ("--head", "m2a-tail", "--layer", "stem")


def test_a_fitted_tail_is_scored_again_and_classifies_new_videos(
    cubereel, store, videos, weights, tmp_path
):
    run = tmp_path / "run"

    assert cubereel("train", store, *TAIL, "--weights", weights, "--out", run, *QUICK) == 0
    assert cubereel.out.splitlines()[1].startswith("m2a-tail ")
    results = json.loads((run / "results.json").read_text())
    checkpoint = run / "checkpoints" / "m2a-tail" / "fold0-seed0.json"
    assert cubereel("train", store, *TAIL, "--weights", weights, "--out", run, *QUICK) == 0
    assert json.loads((run / "results.json").read_text()) == results
    assert cubereel("eval", checkpoint, store, "--json") == 0
    assert json.loads(cubereel.out).items() >= results["heads"][0]["seeds"][0].items()

    video = videos / "dark" / "0.mp4"
    assert cubereel("predict", checkpoint, video, "--weights", weights, "--json") == 0
    (said,) = json.loads(cubereel.out)["predictions"]
    with (run / "predictions.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["video_id"] == "dark/0.mp4")
    assert said["probs"]["dark"] == pytest.approx(float(row["p(dark)"]), abs=1e-5)

    picture = tmp_path / "x.png"
    where = ("--video", "dark/0.mp4", "--out", picture, "--json")
    assert cubereel("explain", checkpoint, store, *where) == 0
    assert json.loads(cubereel.out)["maps"] == ["activation", "frame_attention"]


def test_other_weights_than_the_store_s_break_its_contract(cubereel, store, tmp_path):
    torch.save(TinyConv().state_dict(), tmp_path / "w.pth")
    arguments = (*TAIL, *QUICK, "--out", tmp_path / "run")

    for given in (("--weights", tmp_path / "w.pth"), ()):
        assert cubereel("train", store, *arguments, *given) == 3
        assert "are not those that the store was made with" in cubereel.err
        assert "give --weights the file that tiny:conv had in 'cubereel extract'" in cubereel.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("head", "layer", "words"),
    [
        ("m2a-tail", "top", "'top' is where tiny:conv ends"),
        ("m2a-tail", "stem@avg7", "'stem@avg7' is pooled"),
        ("m2a-head", "stem", "none of these heads takes the backbone's weights"),
    ],
)
def test_what_cannot_be_trained_is_a_usage_error(cubereel, store, weights, head, layer, words):
    arguments = ("--head", head, "--layer", layer, "--weights", weights)

    assert cubereel("train", store, *arguments, *QUICK) == 2
    assert words in cubereel.err


def test_a_store_of_imported_features_has_no_network():
    from dataclasses import replace

    from pipelines.training.tails import give_tail
    from tests.stores import SPEC
    from train.heads import HeadChoice

    spec = replace(SPEC, backbone="imported:i3d")
    with pytest.raises(UsageError, match="the store's features were imported"):
        give_tail(HeadChoice("m2a-tail"), spec, layer="top", weights=None)
