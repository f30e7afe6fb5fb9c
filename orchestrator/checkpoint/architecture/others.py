"""Networks that lie beside SyncNets in people's folders and are none, told by name.

Each sign is a set of tensor names that must all be there, as they are or behind a prefix. Sources of the facts: the
public code of each network.
"""

from __future__ import annotations

from orchestrator.checkpoint.architecture.candidates import Shapes
from orchestrator.checkpoint.architecture.stable_syncnet import read_skeleton

_SIGNS: tuple[tuple[tuple[str, ...], str], ...] = (
    # the discriminator shares the generator's `face_encoder_blocks`
    (("binary_pred.0.weight",), "Wav2Lip's visual quality discriminator"),
    (("face_decoder_blocks.0.0.conv_block.0.weight",), "Wav2Lip's generator"),
    (("face_encoder_blocks.0.0.conv_block.0.weight",), "a part of Wav2Lip's generator or discriminator"),
    (("adaAT.commn_linear.0.weight",), "DINet's generator"),
    (("conv3_3_norm_mbox_conf.weight",), "the S3FD face detector"),
    (("L2Norm3_3.weight", "vgg.0.weight"), "the S3FD face detector"),
    (("ClassHead.0.conv1x1.weight",), "the RetinaFace face detector"),
    (("m0.b1_4.conv1.weight",), "the FAN face landmark net"),
    (("cp.resnet.conv1.weight", "ffm.convblk.conv.weight"), "the BiSeNet face parser"),
    (("model.diffusion_model.input_blocks.0.0.weight",), "a whole Stable Diffusion model"),
    (("post_quant_conv.weight",), "Stable Diffusion's VAE"),
    (("encoder.positional_embedding", "decoder.token_embedding.weight"), "Whisper"),
    (("encoder.conv1.weight", "encoder.embed_positions.weight"), "Whisper"),
    (("feature_extractor.conv_layers.0.conv.weight",), "wav2vec 2.0 or HuBERT"),
    (("text_model.embeddings.token_embedding.weight",), "CLIP"),
    (("vision_model.embeddings.patch_embedding.weight",), "CLIP"),
    (("visual.conv1.weight", "text_projection"), "CLIP"),
    (("embeddings.word_embeddings.weight",), "BERT or a relative of it"),
    (("patch_embed.proj.weight", "blocks.0.attn.qkv.weight"), "a vision transformer"),
    (("stylegan_decoder.constant_input.weight",), "GFPGAN"),
    (("quantize.embedding.weight",), "CodeFormer or another vector-quantised autoencoder"),
    (("body.0.rdb1.conv1.weight",), "Real-ESRGAN"),
    (("model.1.sub.0.RDB1.conv1.0.weight",), "ESRGAN"),
    (("Mixed_5b.branch1x1.conv.weight",), "Inception"),
    (("layer1.0.conv1.weight", "layer4.0.conv1.weight"), "a ResNet"),
    (("features.0.weight", "classifier.0.weight"), "VGG or AlexNet"),
)
_TWINS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("audio_encoder.conv_in.weight", ("visual_encoder.",), "the audio encoder of a StableSyncNet"),
    ("visual_encoder.conv_in.weight", ("audio_encoder.",), "the visual encoder of a StableSyncNet"),
    (
        "audio_encoder.0.conv_block.0.weight",
        ("face_encoder.", "visual_encoder."),
        "the audio encoder of a Wav2Lip SyncNet",
    ),
    ("face_encoder.0.conv_block.0.weight", ("audio_encoder.",), "the face encoder of a Wav2Lip SyncNet"),
    (
        "visual_encoder.0.conv_block.0.weight",
        ("audio_encoder.",),
        "the visual encoder of LatentSync's Wav2Lip-style SyncNet",
    ),
    ("netcnnaud.0.weight", ("netcnnlip.",), "the audio encoder of joonson's SyncNet"),
    ("netcnnlip.0.weight", ("netcnnaud.",), "the lip encoder of joonson's SyncNet"),
    ("__S__.netcnnaud.0.weight", ("__S__.netcnnlip.",), "the audio encoder of joonson's SyncNet"),
    ("__S__.netcnnlip.0.weight", ("__S__.netcnnaud.",), "the lip encoder of joonson's SyncNet"),
    ("face_encoder.face_conv.0.conv.weight", ("audio_encoder.",), "the face encoder of DINet's SyncNet"),
    ("audio_encoder.audio_conv.0.conv.weight", ("face_encoder.",), "the audio encoder of DINet's SyncNet"),
)
"""(a tensor of one encoder, what all names of the other begin with, what the one is)."""


def other_network(shapes: Shapes) -> str | None:
    """What these tensors belong to where that is a known network, but no SyncNet; or none."""
    ends = {name[start:] for name in shapes for start in _starts(name)}
    unet = _diffusion_unet(shapes, ends)
    return unet or next((what for names, what in _SIGNS if ends.issuperset(names)), None)


def lone_encoder(shapes: Shapes) -> str | None:
    """Which encoder of a SyncNet these tensors are, where the other one is not there at all; or none."""
    if read_skeleton(shapes, ""):
        return "one encoder of a StableSyncNet"
    for name, twins, what in _TWINS:
        if name in shapes and not any(other.startswith(twins) for other in shapes):
            return what
    return None


def _diffusion_unet(shapes: Shapes, ends: set[str]) -> str | None:
    """The UNets differ in what they take beside the noise, which shows in their first layer."""
    if not ends.issuperset(("time_embedding.linear_1.weight", "conv_in.weight")):
        return None
    first = next(shape for name, shape in shapes.items() if f".{name}".endswith(".conv_in.weight"))
    if any(".motion_modules." in name for name in shapes):
        return "LatentSync's UNet, or another diffusion UNet with motion modules"
    return "MuseTalk's UNet" if first[1:2] == (8,) else "a diffusion UNet"


def _starts(name: str) -> list[int]:
    """Where a name, or what follows one of its dots, begins."""
    return [0, *(at + 1 for at, letter in enumerate(name) if letter == ".")]
