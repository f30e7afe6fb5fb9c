"""What a corpus of pixels and mel cannot train is refused with one message."""

from __future__ import annotations

from pathlib import Path
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
from orchestrator.errors import DataError
from orchestrator.training.fitting import check_fits

LOWER_HALVES = SimpleNamespace(folder=Path("corpus"), frame_shape=(3, 128, 256))
WHOLE_FACES = SimpleNamespace(folder=Path("corpus"), frame_shape=(3, 256, 256))


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (JoonsonSyncNetConfig(), "MFCC"),
        (JoonsonTrainerConfig(temporal_stride=1), "waveforms"),
        (DinetSyncNetConfig(), "DeepSpeech features"),
    ],
)
def test_other_audio_is_refused(config: AnyModelConfig, what: str) -> None:
    with pytest.raises(
        DataError, match=f"{config.name} reads {what}, but corpus holds pixels and 80-bin mel"
    ) as caught:
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
