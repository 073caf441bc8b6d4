import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision

from extract.backbones import list_sources, load_backbone, registry, sources
from extract.backbones.caffe import CaffeGoogLeNet, LocalResponseNorm
from extract.compute.computer import CubeComputer
from extract.compute.precision import choose_precision, fixed_frames, worst_cosine
from extract.compute.preprocess import Normalise, frame_diffs, preprocessing_for, thumbnails
from features_store.errors import ContractError, UsageError


def _torchvision(name):
    options = {"init_weights": False, "transform_input": True} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, **options)


NETWORKS = {
    "tiny:conv": (None, ("top", 7, 16)),
    "caffe:googlenet": (CaffeGoogLeNet, ("inception_5b", 7, 1024)),
    "torchvision:googlenet": (lambda: _torchvision("googlenet"), ("inception5b", 7, 1024)),
    "torchvision:resnet18": (lambda: _torchvision("resnet18"), ("layer4", 7, 512)),
    "timm:test_resnet": (lambda: timm.create_model("test_resnet"), None),
    "timm:test_vit": (lambda: timm.create_model("test_vit"), None),
}


@pytest.fixture(scope="module", params=list(NETWORKS))
def backbone(request, tmp_path_factory):
    make, _ = NETWORKS[request.param]
    if make is None:
        return load_backbone(request.param)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    torch.save(make().state_dict(), path)
    return load_backbone(request.param, weights=path)


def computer(backbone, *, batch_size=4, precision="fp32"):
    return CubeComputer(
        backbone,
        preprocessing_for(backbone.config, fit="crop"),
        device=torch.device("cpu"),
        batch_size=batch_size,
        precision=precision,
    )


def test_cubes_have_the_shape_that_was_measured(backbone):
    expected = NETWORKS[backbone.name][1]
    (layer,) = backbone.layers
    cubes = computer(backbone)(fixed_frames(backbone.config.input_size)[:3]).cubes[layer.name]

    assert cubes.shape == (3, *layer.cube_shape)
    assert np.isfinite(cubes).all()
    if expected is not None:
        assert (layer.name, layer.grid_size, layer.dim) == expected


def test_a_cube_does_not_depend_on_the_company_of_its_frame(backbone):
    frames = fixed_frames(backbone.config.input_size)[:5]
    layer = backbone.layers[0].name
    together = computer(backbone, batch_size=4)(frames).cubes[layer]
    alone = np.concatenate(
        [computer(backbone, batch_size=4)(frame[None]).cubes[layer] for frame in frames]
    )

    np.testing.assert_array_equal(together, alone)


def test_a_backbone_is_frozen(backbone):
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_the_digest_is_of_the_weights_and_not_of_the_file(tmp_path):
    from safetensors.torch import save_file

    network = _torchvision("resnet18")
    torch.save(network.state_dict(), tmp_path / "a.pth")
    save_file(network.state_dict(), tmp_path / "b.safetensors")
    with torch.no_grad():
        network.conv1.weight[0, 0, 0, 0] += 1
    torch.save({"state_dict": network.state_dict()}, tmp_path / "c.pth")
    digests = [
        load_backbone("torchvision:resnet18", weights=tmp_path / name).weights_sha256
        for name in ("a.pth", "b.safetensors", "c.pth")
    ]

    assert digests[0] == digests[1] != digests[2]


def test_googlenet_is_normalised_once(tmp_path):
    """ImageNet mean and std outside and `transform_input` inside amount to ±1 (PEERS: #4136)."""
    network = _torchvision("googlenet")
    torch.save(network.state_dict(), tmp_path / "w.pth")
    backbone = load_backbone("torchvision:googlenet", weights=tmp_path / "w.pth")
    plain = torchvision.models.googlenet(
        weights=None, init_weights=False, transform_input=False, aux_logits=False
    )
    state = {n: v for n, v in network.state_dict().items() if not n.startswith("aux")}
    plain.load_state_dict(state)
    seen = {}
    plain.inception5b.register_forward_hook(lambda _m, _i, output: seen.update(top=output))
    frames = fixed_frames((224, 224))[:2]
    with torch.inference_mode():
        plain.eval()(frames.permute(0, 3, 1, 2).float() / 127.5 - 1)
    cubes = computer(backbone)(frames).cubes["inception5b"]

    torch.testing.assert_close(
        torch.from_numpy(cubes), seen["top"].permute(0, 2, 3, 1).clone(), rtol=1e-3, atol=1e-4
    )


def test_pooled_layers_are_means_and_maxima_over_cells():
    names = ["stem@avg7", "stem@max2", "top", "stem"]
    backbone = load_backbone("tiny:conv", layers=names)
    cubes = backbone(torch.rand(2, 3, 56, 56))

    assert [(la.name, la.grid_size, la.dim) for la in backbone.layers] == [
        ("stem@avg7", 7, 8), ("stem@max2", 2, 8), ("top", 7, 16), ("stem", 14, 8),
    ]  # fmt: skip
    blocks = cubes["stem"].reshape(2, 7, 2, 7, 2, 8)
    torch.testing.assert_close(cubes["stem@avg7"], blocks.mean((2, 4)))
    halves = cubes["stem"].reshape(2, 2, 7, 2, 7, 8)
    torch.testing.assert_close(cubes["stem@max2"], halves.amax((2, 4)))
    plain = load_backbone("tiny:conv", layers=["top", "stem"])
    torch.testing.assert_close(plain(torch.ones(1, 3, 56, 56))["top"],
                               backbone(torch.ones(1, 3, 56, 56))["top"])  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("stem@avg15", "'stem' has 14×14 cells"),
        ("stem@sum7", "no layer 'stem@sum7'"),
        ("stem@avg0", "no layer 'stem@avg0'"),
        ("tap@avg7", "no layer 'tap'"),
    ],
)
def test_layers_that_cannot_be_pooled(layer, words):
    with pytest.raises(UsageError, match=words):
        load_backbone("tiny:conv", layers=[layer])


def test_several_layers_come_in_the_order_asked_for(tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    layers = ["layer4", "layer2"]
    backbone = load_backbone("timm:test_resnet", weights=tmp_path / "w.pth", layers=layers)

    assert [layer.name for layer in backbone.layers] == layers
    assert backbone.layers[0].grid_size < backbone.layers[1].grid_size


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_local_response_norm_is_torch_s(dtype):
    x = torch.randn(2, 7, 5, 5) * 50
    expected = torch.nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)(x)
    ours = LocalResponseNorm()(x.to(dtype)).float()

    torch.testing.assert_close(
        ours,
        expected,
        rtol=1e-5 if dtype == torch.float32 else 2e-2,
        atol=1e-4 if dtype == torch.float32 else 1,
    )


def test_normalising_in_bgr_is_caffe_s():
    backbone_config = load_caffe_config()
    pixels = torch.tensor([[[[10, 20, 30]]]], dtype=torch.uint8)
    seen = Normalise(preprocessing_for(backbone_config, fit="crop"))(pixels)

    assert seen.flatten().tolist() == [30 - 104, 20 - 117, 10 - 123]


def load_caffe_config():
    from extract.backbones.registry import InputConfig

    return InputConfig(
        (224, 224), 256, "bilinear", (104.0, 117.0, 123.0), (1.0, 1.0, 1.0), 1.0, "bgr"
    )


def test_frame_differences_are_averaged_differences_of_frames():
    frames = fixed_frames((56, 56))[:4]
    small = thumbnails(frames).numpy()
    ours = np.concatenate([frame_diffs(small[:3], None), frame_diffs(small[3:], small[2])])
    full = np.diff(frames.numpy().astype(np.float64) / 255, axis=0)
    averaged = full.reshape(3, 14, 4, 14, 4, 3).mean((2, 4))

    np.testing.assert_array_equal(ours[0], 0)
    np.testing.assert_allclose(ours[1:], averaged, atol=1e-6)


def test_auto_precision_wants_units_and_agreement():
    tiny = computer(load_backbone("tiny:conv"))

    assert 0.9 < worst_cosine(tiny) <= 1
    assert choose_precision("bf16", tiny).precision == "bf16"
    choice = choose_precision("auto", tiny)
    assert choice.precision in ("fp32", "bf16")
    assert choice.why


def test_unknown_names_are_told_the_nearest():
    assert list_sources() == ["caffe", "timm", "tiny", "torchvision"]
    with pytest.raises(UsageError, match="did you mean 'timm'"):
        load_backbone("tim:resnet50")
    with pytest.raises(UsageError, match="no layer 'tap' in tiny:conv; did you mean 'top'"):
        load_backbone("tiny:conv", layers=["tap"])


@pytest.fixture
def caffe_weights():
    folder = Path(os.environ.get("CUBEREEL_DATA", "nowhere"))
    path = folder / "weights" / "bvlc_googlenet.safetensors"
    if not path.is_file():
        pytest.skip("the Caffe GoogLeNet weights are not here; set CUBEREEL_DATA to their folder")
    return path


def test_real_caffe_weights_fit_and_fire_sparsely(caffe_weights):
    backbone = load_backbone("caffe:googlenet", weights=caffe_weights)
    cubes = computer(backbone)(fixed_frames((224, 224))[:4]).cubes["inception_5b"]

    assert 0.5 < (cubes == 0).mean() < 0.99


def test_a_truncated_weights_file_is_refused(tmp_path):
    network = _torchvision("resnet18")
    torch.save(network.state_dict(), tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(content[: len(content) // 2])

    with pytest.raises(ContractError, match="are cut off: the file is not whole"):
        load_backbone("torchvision:resnet18", weights=tmp_path / "w.pth")


def test_a_source_of_ones_own_is_known_before_torch_is_asked(monkeypatch):
    monkeypatch.setattr(registry, "_SOURCES", dict(registry._SOURCES))
    monkeypatch.setattr(sources, "registered", set(sources.registered))
    monkeypatch.setattr(registry, "registered", sources.registered)
    registry.list_backbones()  # imports those that come along
    tiny, _ = registry._SOURCES["tiny"]
    registry.register_source("own", lambda: {"conv": ""})(tiny)

    assert sources.split_name("own:conv") == ("own", "conv")
    assert "own:conv" in registry.list_backbones()
    assert load_backbone("own:conv").name == "own:conv"
