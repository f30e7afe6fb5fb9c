"""Every family has upstream's tensors and gives the embeddings of a second reading of upstream's layers."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
import torchaudio
from torch import Tensor

from orchestrator.config.model import (
    FAMILY_NAMES,
    AnyModelConfig,
    DinetSyncNetConfig,
    JoonsonSyncNetConfig,
    JoonsonTrainerConfig,
    LatentSyncWav2LipConfig,
    Wav2LipForkConfig,
    Wav2LipSyncNetConfig,
    input_shape,
    model_problems,
    training_problem,
)
from orchestrator.models import FAMILIES, SyncNet, build_meta, build_model
from orchestrator.models.audio_features import LogMel, Mfcc
from orchestrator.models.dinet_syncnet import DinetSyncNet
from orchestrator.models.joonson import JoonsonSyncNet, JoonsonTrainer
from tests.models import reference
from tests.models.seeded import draw
from tests.models.test_architectures import ODD, shipped

FBANK, FBANK_2 = (JoonsonTrainerConfig(features="fbank", temporal_stride=stride) for stride in (1, 2))
MFCC = JoonsonTrainerConfig(features="mfcc", temporal_stride=1)
V2, PRELU, HUGE = (Wav2LipForkConfig(variant=variant) for variant in ("288_v2", "288_prelu", "384"))
ABLATION = LatentSyncWav2LipConfig()


@pytest.mark.parametrize(
    ("config", "parameters", "digest"),
    [
        (shipped("16_latent"), 65_544_416, "86a7f6a1769b64a8f32f5a8c8c5c0f25"),
        (shipped("16_pixel"), 371_766_496, "818fe1fe6528bf7cbe5e0e00fd4a9a54"),
        (shipped("16_pixel_attn"), 401_306_080, "63300ffac94d184e851d68de22d78c94"),
        (shipped("25_pixel"), 103_742_144, "6541586e25f98cf2d0a2f9f8afe008bb"),
        (ODD, 4_503_456, "74bc11c341c47f0943b4be230902ef8e"),
        (Wav2LipSyncNetConfig(), 16_435_072, "66cff2ec19c6f5fa624c631bf0cafaad"),
        (V2, 65_215_360, "01b11a9c89667a4fd9079188f020476f"),
        (HUGE, 65_054_464, "2d308b4722b7cceab48be616f2fb7671"),
        (PRELU, 19_881_059, "4d8868264b305962dcfb8ae9394b77d7"),
        (ABLATION, 65_215_360, "9d8eb95abdad2099202856a5ca4c0eb9"),
        (JoonsonSyncNetConfig(), 13_631_616, "aaddd8969f9ad4f49970ca0f3fe06a19"),
        (MFCC, 15_209_604, "0d4302dc4d84fe5fd530827ee22ad284"),
        (FBANK, 13_840_516, "b1c7c78b9c3f4730ada5bdf4d7cd3e90"),
        (FBANK_2, 13_840_516, "b1c7c78b9c3f4730ada5bdf4d7cd3e90"),
        (DinetSyncNetConfig(), 3_277_121, "53e61f28892636a767090aa9700dd525"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_names_shapes_types_and_order_are_upstreams(config: AnyModelConfig, parameters: int, digest: str) -> None:
    """The digest is that of the list of [name, shape, dtype] that upstream's own class gives."""
    with torch.device("meta"):
        model = FAMILIES[config.name](config)
    rows = [[name, list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in model.state_dict().items()]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:32] == digest
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("config", "face", "audio"),
    [
        (Wav2LipSyncNetConfig(), "wav2lip", reference.WAV2LIP_AUDIO.format("R")),
        (PRELU, "288_prelu", reference.WAV2LIP_AUDIO.format("P")),
        (V2, "288_v2", reference.DEEP_AUDIO),
        (HUGE, "384", reference.DEEP_AUDIO),
        (ABLATION, "ablation", reference.DEEP_AUDIO),
    ],
    ids=["wav2lip", "288_prelu", "288_v2", "384", "ablation"],
)
def test_wav2lip_and_its_descendants(config: AnyModelConfig, face: str, audio: str) -> None:
    model, state = seeded(config)
    frames, mel = noise(config)
    vision, speech = run(model, frames, mel)
    name = "visual_encoder" if face == "ablation" else "face_encoder"
    close(vision, reference.tower(state, name, reference.FACES[face], frames))
    close(speech, reference.tower(state, "audio_encoder", audio, mel))
    assert model.unit_embeddings
    close(vision.norm(dim=1), torch.ones(1))


def test_the_activation_of_the_ablation_net_matters() -> None:
    model, state = seeded(ABLATION)
    relu = build_meta(LatentSyncWav2LipConfig(activation="relu")).eval()
    relu.load_state_dict(state, assign=True)
    mel = noise(ABLATION)[1]
    plain = reference.DEEP_AUDIO.replace("L", "R")
    with torch.no_grad():
        other = torch.nn.functional.normalize(relu.embed_audio(mel).flatten(1))
        close(other, reference.tower(state, "audio_encoder", plain, mel))
        assert (other - torch.nn.functional.normalize(model.embed_audio(mel).flatten(1))).abs().max() > 1e-3


def test_joonson_gives_raw_embeddings() -> None:
    model, state = seeded(JoonsonSyncNetConfig())
    assert isinstance(model, JoonsonSyncNet) and not model.unit_embeddings
    frames, mfcc = 255 * noise(model.config)[0].abs(), 10 * draw("mfcc", (1, 1, 13, 20))
    vision, speech = run(model, frames, mfcc)
    lips = reference.joonson_lip(state, frames)[:, :, 0]
    close(vision, reference.joonson_head(state, "netfclip", lips))
    close(speech, reference.joonson_head(state, "netfcaud", reference.joonson_mfcc(state, mfcc)[:, :, 0]))
    close(model.lip_features(frames), lips)
    assert vision.norm() > 2


@pytest.mark.parametrize("config", [FBANK, FBANK_2, MFCC], ids=["fbank", "fbank_stride2", "mfcc"])
def test_joonsons_trainer_embeds_content_and_identity(config: JoonsonTrainerConfig) -> None:
    model, state = seeded(config)
    assert isinstance(model, JoonsonTrainer) and not model.unit_embeddings
    stride, length = config.temporal_stride, 8 + config.temporal_stride
    waveforms = (3000 * draw("wave", (1, length * 640 + 240))).round()
    frames = (127 + 60 * draw("faces", (1, 3, length, 224, 224))).clamp(0, 255)
    vision, speech = run(model, frames, waveforms)
    face, speaker = model.identities(frames, waveforms)

    if config.features == "mfcc":
        heard = reference.joonson_mfcc(state, reference.mfcc(waveforms[0])[None, None], "__S__.", stride)
    else:
        heard = reference.joonson_fbank(state, upstream_fbank(waveforms)[:, None], "__S__.", stride)
    seen = reference.joonson_lip(state, frames, "__S__.", stride)
    expected = {"netfclip": (seen, vision), "netfcface": (seen, face)}
    expected |= {"netfcaud": (heard, speech), "netfcspk": (heard, speaker)}
    for head, (features, got) in expected.items():
        close(got, reference.joonson_head(state, f"__S__.{head}", features), atol=1e-4)
    assert vision.shape == speech.shape == (1, 1024, 5 if stride == 1 else 3)
    cosine = torch.cosine_similarity(vision, speech, dim=1)
    close(model.content_score(vision, speech), cosine * state["__L__.wC"] + state["__L__.bC"])


@pytest.mark.parametrize("batch_norm", ["none", "face", "both"])
def test_dinet_gives_a_map_a_vector_and_a_score(batch_norm: str) -> None:
    config = DinetSyncNetConfig.model_validate({"resolution": 64, "batch_norm": batch_norm})
    model, state = seeded(config)
    assert isinstance(model, DinetSyncNet) and not model.unit_embeddings
    frames, features = noise(config)
    vision, speech = run(model, frames, features)
    close(vision, reference.dinet_face(state, frames))
    close(speech, reference.dinet_audio(state, features))
    close(model.score_map(frames, features), reference.dinet_score(state, vision, speech))
    assert (vision.shape, speech.shape) == ((1, 128, 2, 2), (1, 128))


@pytest.mark.parametrize("samples", [300, 400, 401, 2000])
def test_mfcc_is_the_textbooks(samples: int) -> None:
    waveforms = (3000 * draw("speech", (2, samples))).round()
    got = Mfcc()(waveforms)
    close(got, torch.stack([reference.mfcc(waveform) for waveform in waveforms]), atol=2e-3)
    assert Mfcc().state_dict() == {}


def test_log_mel_is_torchaudios() -> None:
    waveforms = (3000 * draw("speech", (2, 6000))).round()
    close(LogMel()(waveforms), upstream_fbank(waveforms))


def test_a_fresh_trainer_net_has_upstreams_buffers_and_loss_scales() -> None:
    state = build_model(FBANK).state_dict()
    assert torch.equal(state["__S__.torchfb.spectrogram.window"], torch.hann_window(400))
    assert state["__S__.torchfb.mel_scale.fb"].sum() > 1
    assert [state[f"__L__.{name}"].item() for name in ("wI", "bI", "wC", "bC")] == [10, -5, 10, -5]


def test_a_damaged_window_is_used_as_it_is() -> None:
    """The buffers are part of the file, so they and not fresh ones make the embeddings."""
    features = LogMel()
    features.load_state_dict({name: tensor / 2 + 0.1 for name, tensor in features.state_dict().items()})
    waveforms = 3000 * draw("speech", (1, 4000))
    assert (features(waveforms) - LogMel()(waveforms)).abs().max() > 1e-3


def test_pixels_become_what_each_family_reads() -> None:
    pixels = torch.randint(0, 256, (2, 15, 224, 224), dtype=torch.uint8)
    for config in (JoonsonSyncNetConfig(), JoonsonTrainerConfig(temporal_stride=1, num_frames=5)):
        faces = build_meta(config).pixels_to_input(pixels)
        assert faces.shape == (2, *input_shape(config).frames)
        assert torch.equal(faces[:, 0, 1], pixels[:, 5].float())  # blue of the second frame, unscaled
    crops = build_meta(DinetSyncNetConfig(resolution=224)).pixels_to_input(pixels)
    assert torch.equal(crops, pixels / 255)
    halves = pixels[:, :, :96, :192]
    assert torch.equal(build_meta(V2).pixels_to_input(halves)[:, 0], halves[:, 2] / 255)
    lower = torch.randint(0, 256, (1, 15, 128, 256), dtype=torch.uint8)
    close(build_meta(ABLATION).pixels_to_input(lower), lower.double().div(127.5).sub(1).float())


def test_every_family_builds_and_says_whether_it_can_be_trained() -> None:
    trainable = [Wav2LipSyncNetConfig(), V2, HUGE, PRELU, ABLATION, shipped("16_pixel"), shipped("16_latent")]
    others = {"MFCC": JoonsonSyncNetConfig(), "waveforms": FBANK, "DeepSpeech": DinetSyncNetConfig()}
    assert [training_problem(config) for config in trainable] == [None] * len(trainable)
    assert all(what in (training_problem(config) or "") for what, config in others.items())
    everything = [*trainable, *others.values()]
    assert {config.name for config in everything} == set(FAMILY_NAMES) == set(FAMILIES)
    assert all(model_problems(config) == [] for config in everything)


def seeded(config: AnyModelConfig) -> tuple[SyncNet, dict[str, Tensor]]:
    """A net in evaluation mode in which no tensor has the value that its initialisation gives."""
    model = build_model(config, seed=5)
    generator = torch.Generator().manual_seed(7)
    for module in model.modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if tensor.ndim == 1 and tensor.numel() > 1 and name != "window":
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.data.copy_(noise + 0.5 if name in ("weight", "running_var") else 0.2 * noise - 0.1)
    return model.eval(), dict(model.state_dict())


def noise(config: AnyModelConfig) -> tuple[Tensor, Tensor]:
    """One window of what it reads, frames in [-1, 1]."""
    shape = input_shape(config)
    return draw("frames", (1, *shape.frames)).tanh(), (1.5 * draw("audio", (1, *shape.audio))).clamp(-4, 4)


def run(model: SyncNet, frames: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return model(frames, audio)


def upstream_fbank(waveforms: Tensor) -> Tensor:
    """The features as upstream has torchaudio compute them."""
    mel = torchaudio.transforms.MelSpectrogram(16000, 512, 400, 160, f_min=0.0, f_max=8000, n_mels=40)
    return torch.nn.InstanceNorm1d(40)((mel(waveforms) + 1e-6).log())[:, :, 1:-1]


def close(got: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(got, expected, atol=atol, rtol=1e-5)
