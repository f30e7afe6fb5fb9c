"""Image encoders that turn frames into latents, once, while a corpus is prepared; training then reads only those.

`diffusers:FOLDER` is an AutoencoderKL in a folder of this machine (LatentSync's 16_latent nets read Stable Diffusion's:
4 channels, an eighth of the sides, scale 0.18215, of whole 256x256 faces). `python:MODULE:FACTORY` is your own: the
factory takes nothing and gives an `Encoder`. Contract: nothing is ever downloaded; the same encoder has the same
fingerprint wherever its files lie, and other weights have another one.
"""

# B frames, C channels, H W pixels, h w latents

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orchestrator.errors import DataError, RunError

_KINDS = "diffusers:FOLDER or python:MODULE:FACTORY"
_INSTALL = "pip install 'syncnet-orchestrator[latents]'"
_AT_ONCE = {"cpu": 2, "cuda": 16}  # whole faces need some 200 MB each inside a network of the usual size


class Encoder(Protocol):
    """Makes latents of frames. The same frames must always give the same latents."""

    name: str
    """For messages."""
    fingerprint: str
    """Stands for everything that decides what the latents are, the weights above all."""

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of frames of this size."""

    def encode(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The latents `(B, C, h, w)` of RGB frames `(B, 3, H, W)`."""


@lru_cache(maxsize=2)
def load_encoder(specification: str) -> Encoder:
    """The encoder that a setting names; loaded once per process.

    Args:
        specification: `diffusers:FOLDER` or `python:MODULE:FACTORY`.

    Raises:
        DataError: `encoder` for anything that is not there, not installed, or no encoder.
    """
    kind, _, rest = specification.partition(":")
    if kind == "diffusers" and rest:
        return DiffusersEncoder(Path(rest))
    module, _, factory = rest.rpartition(":")
    if kind == "python" and module:
        return _own_encoder(module, factory)
    raise _refusal(f"{specification!r} names no encoder", f"give {_KINDS}")


def latents_of(encoder: Encoder, frames: NDArray[np.uint8]) -> NDArray[np.float16]:
    """The latents `(B, C, h, w)` of frames `(B, 3, H, W)` as they are stored, checked: a frame too few would put every
    later one beside the wrong sound.

    Raises:
        RunError: the encoder fails, or gives something else than its `shape` says; no clip is to blame.
        DataError: `bad_latents` when float16 cannot hold a number of these frames.
    """
    expected = (len(frames), *encoder.shape(*frames.shape[2:]))
    try:
        latents = np.asarray(encoder.encode(frames))
    except Exception as error:  # whatever somebody else's code raises
        raise RunError(f"the encoder {encoder.name} failed: {type(error).__name__}: {error}") from error
    if latents.shape != expected or latents.dtype.kind != "f":
        found = f"gave {latents.dtype} {latents.shape} for {len(frames)} frames, but its shape says {expected}"
        raise RunError(f"the encoder {encoder.name} {found}", hint="`encode` gives floats `(B, C, h, w)`")
    with np.errstate(over="ignore"):
        stored = latents.astype(np.float16)
    if not np.isfinite(stored).all():
        raise DataError("its latents are not finite, or too large for float16", reason="bad_latents")
    return stored


class DiffusersEncoder:
    """An AutoencoderKL: the mean of the posterior, shifted and scaled as its own settings say.

    Args:
        folder: with `config.json` and the weights as safetensors; a whole pipeline's folder will do.

    Raises:
        DataError: `encoder`.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"diffusers:{folder}"
        self._model = _load_autoencoder(_model_folder(folder))
        config = self._model.config
        self._scale = float(config.scaling_factor)
        self._shift = float(config.get("shift_factor") or 0.0)
        self._channels = int(config.latent_channels)
        self._factor = 2 ** (len(config.block_out_channels) - 1)
        kind = {"class": type(self._model).__name__, "scale": self._scale, "shift": self._shift}
        self.fingerprint = _fingerprint(kind, self._model.state_dict())
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(self._device)

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w).

        Raises:
            DataError: `encoder` when the sides are no multiples of what the network divides them by.
        """
        if height % self._factor or width % self._factor:
            found = f"{self.name} needs frames whose sides are multiples of {self._factor}, not {height}x{width}"
            raise _refusal(found, "choose another resolution")
        return self._channels, height // self._factor, width // self._factor

    def encode(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The latents `(B, C, h, w)` of RGB frames `(B, 3, H, W)`."""
        out = np.empty((len(frames), *self.shape(*frames.shape[2:])), dtype=np.float32)
        step = _AT_ONCE[self._device.type]
        for start in range(0, len(frames), step):
            out[start : start + step] = self._some(torch.from_numpy(frames[start : start + step])).cpu().numpy()
        return out

    @torch.inference_mode()
    def _some(self, frames: Tensor) -> Tensor:
        pixels = frames.to(self._device).float().div_(127.5).sub_(1)
        latents = self._model.encode(pixels).latent_dist.mode()
        return cast(Tensor, (latents - self._shift) * self._scale)


def _model_folder(folder: Path) -> Path:
    """The folder of the model itself, which may lie under `vae` in that of a pipeline."""
    for candidate in (folder, folder / "vae"):
        if (candidate / "config.json").is_file():
            return candidate
    hint = "give the folder with the config.json of an AutoencoderKL; nothing is downloaded, so it must be there"
    raise _refusal(f"there is no diffusers model in {folder}", hint)


def _load_autoencoder(folder: Path) -> Any:
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        found = f"the encoder diffusers:{folder} needs diffusers, which is not installed"
        raise _refusal(found, _INSTALL) from error
    weights = sorted(path.name for path in folder.glob("diffusion_pytorch_model*.safetensors"))
    if not weights:
        found = f"there are no weights in {folder}: no diffusion_pytorch_model.safetensors"
        raise _refusal(found, "a .bin file is not read, because that could run code: convert it to safetensors")
    plain = any(name in ("diffusion_pytorch_model.safetensors",) or "-of-" in name for name in weights)
    variant = None if plain else weights[0].split(".")[1]
    try:
        model = AutoencoderKL.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            variant=variant,
            torch_dtype=torch.float32,
            low_cpu_mem_usage=False,
        )
    except Exception as error:  # whatever a damaged or foreign folder makes the library raise
        found = f"{folder} cannot be loaded as an AutoencoderKL: {' '.join(str(error).split())[:300]}"
        raise _refusal(found, "give the folder of an AutoencoderKL as diffusers saves it") from error
    return model.eval().requires_grad_(False)


def _own_encoder(module: str, factory: str) -> Encoder:
    name = f"python:{module}:{factory}"
    try:
        made = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        hint = f"{module} must be importable where videos are prepared (PYTHONPATH, or a runtime environment)"
        raise _refusal(f"the encoder {name} cannot be loaded: {error}", hint) from error
    try:
        encoder = made()
    except Exception as error:  # whatever somebody else's code raises
        hint = "the factory is called without arguments and gives an encoder"
        raise _refusal(f"the encoder {name} cannot be made: {type(error).__name__}: {error}", hint) from error
    missing = [part for part in ("name", "fingerprint", "shape", "encode") if not hasattr(encoder, part)]
    if missing:
        hint = "it needs what orchestrator.data.prepare.latents.Encoder lists"
        raise _refusal(f"{name} gave a {type(encoder).__name__} without {', '.join(missing)}", hint)
    if not isinstance(encoder.fingerprint, str) or not encoder.fingerprint:
        hint = "it stands for the weights, so that latents of others are never mixed with these"
        raise _refusal(f"the fingerprint of {name} must be a text, but is {encoder.fingerprint!r}", hint)
    return cast(Encoder, encoder)


def _fingerprint(settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """16 hex digits that stand for the settings and every weight."""
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    for name in sorted(state):
        if not name.startswith(("decoder.", "post_quant_conv.")):  # what makes pictures of latents has no part in this
            tensor = state[name].detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def _refusal(found: str, hint: str) -> DataError:
    return DataError(found, reason="encoder", hint=hint)
