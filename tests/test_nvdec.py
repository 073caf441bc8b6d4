"""Decoding on a GPU: asked for by name, another spec, and what is wrong with a file comes first."""

from typing import get_args

import av
import numpy as np
import pytest
import torch
from av import VideoFrame

from extract.video.conversion import FrameConverter
from extract.video.decoders.names import DecoderName
from extract.video.decoders.nvdec import Decoder
from extract.video.decoders.registry import find_decoder
from features_store.errors import ContractError, DecodeError, MachineError, UsageError
from features_store.store import Store
from pipelines.machine.devices import decoder_of
from tests.clips import write_classes
from tests.synthetic import numbered_frames, write_audio, write_video
from tests.test_video import preprocessing


def open_video(path):
    with Decoder(0).open(path):
        pass


without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.mark.parametrize("name", get_args(DecoderName))
def test_every_name_finds_its_decoder_and_may_stand_in_a_spec(name):
    decoder = find_decoder(name)

    assert decoder.__module__.endswith(f".{name.replace('-', '_')}")
    assert decoder.max_bytes >= 2**30
    assert decoder_of(name) == name


def test_a_decoder_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="no decoder named 'nvdek'; did you mean 'nvdec'"):
        find_decoder("nvdek")
    with pytest.raises(ContractError, match="were decoded by 'unknown', so new ones cannot"):
        decoder_of("unknown")


@without_gpu
@pytest.mark.parametrize("verb", ["extract", "plan"])
def test_without_a_gpu_it_is_refused_before_anything_is_written(verb, cubereel, tmp_path):
    write_classes(tmp_path / "videos")
    out = ("--out", tmp_path / "x.cubes") if verb == "extract" else ()
    status = cubereel(
        verb, tmp_path / "videos", *out, "--backbone", "tiny:conv", "--decoder", "nvdec"
    )

    assert status == 5
    assert "NVDEC of GPU 0 cannot be used here" in cubereel.err
    assert "take --decoder cpu" in cubereel.err
    assert not (tmp_path / "x.cubes").exists()


@without_gpu
def test_a_gpu_that_cannot_begin_is_the_machines_fault(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(3))
    with pytest.raises(DecodeError, match="NVDEC cannot begin") as raised:
        open_video(tmp_path / "a.mp4")
    assert raised.value.reason == "decoder crashed"
    with pytest.raises(MachineError, match="cannot be used here"):
        Decoder(0).require(tmp_path / "a.mp4")


def test_what_is_wrong_with_a_file_is_said_as_for_the_cpu(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    write_audio(tmp_path / "sound.mp4")
    for name, reason in (("text.mp4", "not a video"), ("sound.mp4", "no video stream")):
        with pytest.raises(DecodeError) as raised:
            open_video(tmp_path / name)
        assert raised.value.reason == reason


def test_pictures_as_a_gpu_gives_them_convert_as_planar_ones_do():
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(16, 240, (12, 16, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    planar = VideoFrame.from_ndarray(smooth, format="rgb24").reformat(format="yuv420p")
    (expected,) = FrameConverter(preprocessing()).convert(planar)
    (pixels,) = FrameConverter(preprocessing()).convert(planar.reformat(format="nv12"))

    difference = np.abs(pixels.astype(int) - expected.astype(int))
    assert difference.max() <= 2
    assert expected.std() > 20


@pytest.mark.cuda
def test_a_gpu_decodes_what_the_cpu_decodes_and_the_spec_tells_them_apart(cubereel, tmp_path):
    write_classes(tmp_path / "videos")
    for decoder in ("cpu", "nvdec"):
        options = ("--backbone", "tiny:conv", "--decoder", decoder)
        out = tmp_path / f"{decoder}.cubes"
        assert cubereel("extract", tmp_path / "videos", "--out", out, *options) == 0, cubereel.err
    with Store(tmp_path / "cpu.cubes") as one, Store(tmp_path / "nvdec.cubes") as other:
        assert (one.header.spec.decoder, other.header.spec.decoder) == ("cpu", "nvdec")
        for record in one.records():
            cubes, others = (
                np.asarray(store.cubes(record.id), dtype=np.float32).reshape(-1)
                for store in (one, other)
            )
            cosine = cubes @ others / np.linalg.norm(cubes) / np.linalg.norm(others)
            assert cosine > 0.999


@pytest.mark.cuda
def test_a_codec_that_the_gpu_lacks_fails_and_is_not_decoded_on_the_cpu(tmp_path):
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode())
    with pytest.raises(DecodeError) as raised:
        open_video(tmp_path / "a.avi")
    assert raised.value.reason == "unknown codec"
