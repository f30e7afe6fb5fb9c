"""What a corpus cannot train is refused with one message: other sound, other pictures, latents against pixels."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from orchestrator.config.model import (
    AnyModelConfig,
    DinetSyncNetConfig,
    JoonsonSyncNetConfig,
    JoonsonTrainerConfig,
    LatentSyncWav2LipConfig,
    Wav2LipForkConfig,
    Wav2LipSyncNetConfig,
)
from orchestrator.data.shards import ShardKind
from orchestrator.errors import DataError
from orchestrator.training.fitting import check_fits
from tests.models.test_architectures import shipped

LOWER_HALVES = SimpleNamespace(name="corpus", frame_shape=(3, 128, 256), kind=ShardKind.RAW)
WHOLE_FACES = SimpleNamespace(name="corpus", frame_shape=(3, 256, 256), kind=ShardKind.COMPACT)
LATENTS = SimpleNamespace(name="corpus", frame_shape=(4, 32, 32), kind=ShardKind.LATENTS)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (JoonsonSyncNetConfig(), "MFCC"),
        (JoonsonTrainerConfig(temporal_stride=1), "waveforms"),
        (DinetSyncNetConfig(), "DeepSpeech features"),
    ],
)
def test_other_audio_is_refused(config: AnyModelConfig, what: str) -> None:
    with pytest.raises(DataError, match=f"{config.name} reads {what}, but corpus holds 80-bin mel") as caught:
        check_fits(WHOLE_FACES, config)  # type: ignore[arg-type]
    assert caught.value.reason == "features"
    assert "embeddings" in caught.value.hint


def test_every_family_of_mel_fits_lower_halves_and_no_whole_faces() -> None:
    forks = [Wav2LipForkConfig(variant=variant) for variant in ("288_prelu", "288_v2", "384")]
    for config in (Wav2LipSyncNetConfig(), LatentSyncWav2LipConfig(), *forks):
        check_fits(LOWER_HALVES, config)  # type: ignore[arg-type]
        with pytest.raises(DataError, match="lower halves") as caught:
            check_fits(WHOLE_FACES, config)  # type: ignore[arg-type]
        assert caught.value.reason == "wrong_crop"


def test_latents_fit_networks_of_latents_only() -> None:
    latent = shipped("16_latent")
    check_fits(LATENTS, latent)  # type: ignore[arg-type]
    other = SimpleNamespace(name="corpus", frame_shape=(16, 32, 32), kind=ShardKind.LATENTS)
    for corpus, config, found in (
        (LATENTS, Wav2LipSyncNetConfig(), "reads pixels, but corpus holds VAE latents"),
        (LOWER_HALVES, latent, "reads VAE latents, but corpus holds pixels"),
        (other, latent, "reads latents of 4x32x32 a frame, but corpus holds latents of 16x32x32"),
    ):
        with pytest.raises(DataError, match=found) as caught:
            check_fits(corpus, config)  # type: ignore[arg-type]
        assert caught.value.reason == "latents" and caught.value.hint
