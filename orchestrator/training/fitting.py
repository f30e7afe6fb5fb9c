"""Whether a prepared corpus shows what a network reads, told before anything starts."""

from __future__ import annotations

from orchestrator.config.model import AnyModelConfig, input_shape, training_problem
from orchestrator.data.corpus import Corpus
from orchestrator.data.shards import ShardKind
from orchestrator.errors import DataError


def check_fits(corpus: Corpus, model: AnyModelConfig) -> None:
    """Refuse a corpus of another kind of picture or sound. Another resolution of the same picture is resized, and fits.

    Raises:
        DataError: `features` for a net that reads other audio than mel, `latents` for latents against pixels or of
            another shape, `wrong_crop` for whole faces against lower halves.
    """
    problem = training_problem(model)
    if problem:
        raise _refusal(corpus, "features", f"{problem}, but {corpus.name} holds 80-bin mel", _FEATURES_HINT)
    if model.latent_space or corpus.kind is ShardKind.LATENTS:
        _check_latents(corpus, model)
        return
    height, width = input_shape(model).frames[-2:]
    _, stored_height, stored_width = corpus.frame_shape
    if height * stored_width != width * stored_height:
        wanted = "lower halves" if model.lower_half else "whole faces"
        found = f"{corpus.name} holds frames of {stored_height}x{stored_width}"
        hint = f"prepare the videos again {'without' if model.lower_half else 'with'} --full-face"
        message = f"the network reads {wanted} ({height}x{width} pixels), but {found}"
        raise _refusal(corpus, "wrong_crop", message, hint)


def _check_latents(corpus: Corpus, model: AnyModelConfig) -> None:
    """Latents cannot be resized: they must have exactly the shape that the network reads."""
    holds_latents = corpus.kind is ShardKind.LATENTS
    if holds_latents and not model.latent_space:
        message = f"the network reads pixels, but {corpus.name} holds VAE latents"
        raise _refusal(corpus, "latents", message, "give the corpus of pixels that the latents were made from")
    if not holds_latents:
        message = f"the network reads VAE latents, but {corpus.name} holds pixels"
        raise _refusal(corpus, "latents", message, _LATENTS_HINT)
    channels, height, width = input_shape(model).frames
    wanted = channels // model.num_frames, height, width
    if corpus.frame_shape != wanted:
        found = f"{corpus.name} holds latents of {_shape(corpus.frame_shape)}"
        message = f"the network reads latents of {_shape(wanted)} a frame, but {found}"
        raise _refusal(corpus, "latents", message, _LATENTS_HINT)


def _shape(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def _refusal(corpus: Corpus, reason: str, message: str, hint: str) -> DataError:
    return DataError(message, reason=reason, path=corpus.name, hint=hint)


_LATENTS_HINT = "make latents of the network's resolution from a corpus of pixels; docs/data.md says how"
_FEATURES_HINT = (
    "its embeddings can be computed (`load_model`), but it can be neither trained nor evaluated here; docs/models.md "
    "lists the networks that can"
)
