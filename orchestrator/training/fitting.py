"""Whether a prepared corpus shows what a network reads, told before anything starts."""

from __future__ import annotations

from orchestrator.config.model import AnyModelConfig, input_shape, training_problem
from orchestrator.data.corpus import Corpus
from orchestrator.errors import DataError


def check_fits(corpus: Corpus, model: AnyModelConfig) -> None:
    """Refuse a corpus of another kind of picture or sound. Another resolution of the same picture is resized, and fits.

    Raises:
        DataError: `latents` for a net that reads VAE latents, `features` for one that reads other audio than mel,
            `wrong_crop` for whole faces against lower halves.
    """
    problem = training_problem(model)
    if problem:
        raise DataError(
            f"{problem}, but {corpus.folder} holds pixels and 80-bin mel",
            reason="latents" if model.latent_space else "features",
            path=str(corpus.folder),
            hint=_LATENTS_HINT if model.latent_space else _FEATURES_HINT,
        )
    height, width = input_shape(model).frames[-2:]
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


_LATENTS_HINT = "train one of the pixel networks; this version prepares no latents"
_FEATURES_HINT = (
    "its embeddings can be computed (`load_model`), but it can be neither trained nor evaluated here; docs/models.md "
    "lists the networks that can"
)
