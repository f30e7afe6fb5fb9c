"""Whether a prepared corpus shows what a network reads, told before anything starts."""

from __future__ import annotations

from orchestrator.config.model import StableSyncNetConfig, Wav2LipSyncNetConfig, input_shape
from orchestrator.data.corpus import Corpus
from orchestrator.errors import DataError


def check_fits(corpus: Corpus, model: StableSyncNetConfig | Wav2LipSyncNetConfig) -> None:
    """Refuse a corpus of another kind of picture. Another resolution of the same picture is resized, and fits.

    Raises:
        DataError: `latents` for a net that reads VAE latents, `wrong_crop` for whole faces against lower halves.
    """
    if model.latent_space:
        raise DataError(
            f"the network reads VAE latents, but {corpus.folder} holds pixels",
            reason="latents",
            path=str(corpus.folder),
            hint="train one of the pixel networks; this version prepares no latents",
        )
    _, height, width = input_shape(model).frames
    _, stored_height, stored_width = corpus.frame_shape
    if height * stored_width != width * stored_height:
        wanted = "lower halves" if model.lower_half else "whole faces"
        raise DataError(
            f"the network reads {wanted} ({height}x{width} pixels), but {corpus.folder} holds frames of "
            f"{stored_height}x{stored_width}",
            reason="wrong_crop",
            path=str(corpus.folder),
            hint=f"prepare the videos again {'without' if model.lower_half else 'with'} --full-face",
        )
