"""SyncNets that are known by their tensor names but not built by this product yet: told by name instead of guessed."""

from __future__ import annotations

from collections.abc import Mapping

_SIGNS: tuple[tuple[str, tuple[int, ...] | None, str], ...] = (
    ("netcnnaud.0.weight", None, "joonson's SyncNet (syncnet_python or syncnet_trainer)"),
    ("__S__.netcnnaud.0.weight", None, "joonson's SyncNet (syncnet_trainer)"),
    ("merge_encoder.0.weight", None, "DINet's SyncNet"),
    ("visual_encoder.0.conv_block.0.weight", None, "the Wav2Lip-style ablation net of LatentSync"),
    ("face_encoder.0.conv_block.0.weight", (16, 15, 7, 7), "the 384 fork of Wav2Lip's SyncNet"),
    ("face_encoder.0.act.weight", None, "the older 288 fork (PReLU) of Wav2Lip's SyncNet"),
    ("face_encoder.19.conv_block.0.weight", (1024, 1024, 1, 1), "the 288 fork (v2) of Wav2Lip's SyncNet"),
    ("face_encoder.17.conv_block.0.weight", None, "a fork of Wav2Lip's SyncNet"),
    ("face_encoder_blocks.0.0.conv_block.0.weight", None, "Wav2Lip's generator, which is no SyncNet"),
    ("binary_pred.0.weight", None, "Wav2Lip's visual quality discriminator, which is no SyncNet"),
)


def known_but_unsupported(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What these tensors belong to, or none when even that is not known."""
    for name, shape, what in _SIGNS:
        if name in shapes and shape in (None, shapes[name]):
            return what
    return None
