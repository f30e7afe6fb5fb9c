"""A generator's frames as the network reads them: exactly what preparation and training make of the same pictures.

Contract: uint8 goes through training's own functions, so that not a bit differs. Floats take the same steps without
rounding, because what is rounded has no gradient; they are kept within the range of pixels, as a saved picture is. A
pixel of the network's size differs from the stored one by the rounding of the stored one alone: by nothing but
float32's own (3e-7 in [-1, 1]) where it was a whole level. Where a face is resized it differs by at most half a level,
1/255 in [-1, 1].
"""

# B windows, T frames, C channels, H W pixels

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from orchestrator.config.model import AnyModelConfig, input_shape
from orchestrator.data.media.features import resize_frames
from orchestrator.errors import DataError
from orchestrator.models import SyncNet

Layout = Literal["btchw", "bcthw"]
"""Where the frames of a window stand: before the channels, or behind them."""
Region = Literal["face", "lower_half"]
"""What a frame shows: a whole aligned face, of which what the network reads is cut here, or its lower half already."""


def network_frames(
    frames: Tensor, network: SyncNet, *, pixel_range: tuple[float, float], region: Region, layout: Layout
) -> Tensor:
    """(B, *input_shape.frames), float32 or wider, with a gradient where `frames` has one.

    Args:
        frames: (B, T, C, H, W) or, by `layout`, (B, C, T, H, W); or stacked (B, T*C, H, W). Pixels are RGB, uint8 or
            float in `pixel_range`; latents are float and of the network's size.
        network: of a family that reads stacked frames.
        pixel_range: what black and white are in floats.
        region: what a frame shows; of latents it is not asked.
        layout: of frames with five dimensions.

    Raises:
        DataError: `bad_frames`.
    """
    windows_BTCHW = _windows(frames, network.config, layout)
    if network.config.latent_space:
        return _latents(windows_BTCHW, network.config)
    _check_region(windows_BTCHW, network.config, region)
    if frames.dtype == torch.uint8:
        return network.pixels_to_input(_stored(windows_BTCHW, network.config, region).flatten(1, 2))
    values_BTCHW = _values(_wide(windows_BTCHW), network.config, region, pixel_range)
    return network.values_to_input(values_BTCHW.flatten(1, 2))


def covering(frames: Tensor, num_frames: int, step: int) -> list[int]:
    """The starts of windows, `step` apart, that cover a clip (T, C, H, W); the last one ends with the clip.

    Raises:
        DataError: `bad_frames`.
    """
    last = len(frames) - num_frames
    if frames.ndim != 4 or last < 0 or step < 1:
        found = f"but it is {tuple(frames.shape)} and the step {step}"
        raise _refusal(f"a clip must be (T, C, H, W) of at least {num_frames} frames, and its step positive, {found}")
    return sorted({*range(0, last + 1, step), last})


def _windows(frames: Tensor, config: AnyModelConfig, layout: Layout) -> Tensor:
    """(B, T, C, H, W), checked."""
    channels, number = input_shape(config).frames[0] // config.num_frames, config.num_frames
    shape, found = tuple(frames.shape), f"frames of shape {tuple(frames.shape)}"
    if frames.dtype != torch.uint8 and not frames.is_floating_point():
        raise _refusal(f"frames must be uint8 or float, but are {frames.dtype}")
    if frames.ndim == 4:
        if layout != "btchw" or shape[1] != number * channels:
            wanted = f"(B, {number * channels}, H, W) stacked, or (B, {number}, {channels}, H, W)"
            raise _refusal(f"{found} are no windows of this network: it reads {wanted}", _FLAT_HINT)
        return frames.unflatten(1, (number, channels))
    if frames.ndim != 5:
        raise _refusal(f"{found} are no windows: they must be (B, T, C, H, W), (B, C, T, H, W) or (B, T*C, H, W)")
    windows_BTCHW = frames.transpose(1, 2) if layout == "bcthw" else frames
    if windows_BTCHW.shape[2] != channels:
        other = "bcthw" if layout == "btchw" else "btchw"
        hint = f'say layout="{other}"' if windows_BTCHW.shape[1] == channels else ""
        message = f"{found} with layout {layout} have {windows_BTCHW.shape[2]} channels, but this network reads"
        raise _refusal(f"{message} {channels}", hint)
    if windows_BTCHW.shape[1] != number:
        message = f"a window has {windows_BTCHW.shape[1]} frames, but this network reads {number}"
        raise _refusal(message, f"give windows of exactly {number} frames; `loss_of_clip` cuts them from longer clips")
    return windows_BTCHW


def _latents(windows_BTCHW: Tensor, config: AnyModelConfig) -> Tensor:
    height, width = input_shape(config).frames[-2:]
    if not windows_BTCHW.is_floating_point() or windows_BTCHW.shape[-2:] != (height, width):
        size = "x".join(map(str, windows_BTCHW.shape[-2:]))
        message = f"this network reads float latents of {height}x{width}, but the frames are {windows_BTCHW.dtype}"
        raise _refusal(f"{message} of {size}", "latents cannot be resized; encode faces of the network's resolution")
    return _wide(windows_BTCHW).flatten(1, 2)


def _check_region(windows_BTCHW: Tensor, config: AnyModelConfig, region: Region) -> None:
    """A half that is taken for a face would be squeezed, and say something without anybody noticing."""
    height, width = windows_BTCHW.shape[-2:]
    if region == "lower_half" and not config.lower_half:
        raise _refusal("this network reads whole faces, of which lower halves lack the upper ones", "give whole faces")
    if region == "face" and height != width:
        hint = 'say region="lower_half" if they are lower halves; else make them square as preparation would'
        raise _refusal(f"whole faces must be square, but the frames are {height}x{width}", hint)
    if region == "lower_half" and width != 2 * height:
        hint = 'whole faces are cut here: leave `region` at "face"'
        raise _refusal(f"lower halves must be twice as wide as high, but the frames are {height}x{width}", hint)


def _stored(windows_BTCHW: Tensor, config: AnyModelConfig, region: Region) -> Tensor:
    """uint8 as a corpus of the network's resolution stores it."""
    if region == "lower_half":
        return windows_BTCHW
    batch = windows_BTCHW.shape[:2]
    faces_BTCHW = resize_frames(windows_BTCHW.flatten(0, 1), config.resolution).unflatten(0, batch)
    return _cut(faces_BTCHW, config)


def _values(windows_BTCHW: Tensor, config: AnyModelConfig, region: Region, pixel_range: tuple[float, float]) -> Tensor:
    """The same in floats of 0..255, not rounded."""
    low, high = pixel_range
    values_BTCHW = ((windows_BTCHW - low) * (255 / (high - low))).clamp(0, 255)
    wanted = (config.resolution, config.resolution) if region == "face" else input_shape(config).frames[-2:]
    if values_BTCHW.shape[-2:] != wanted:
        flat = F.interpolate(values_BTCHW.flatten(0, 1), wanted, mode="bicubic", antialias=True, align_corners=False)
        values_BTCHW = flat.clamp(0, 255).unflatten(0, values_BTCHW.shape[:2])
    return _cut(values_BTCHW, config) if region == "face" else values_BTCHW


def _cut(faces_BTCHW: Tensor, config: AnyModelConfig) -> Tensor:
    """What the network sees of whole faces; cut after the resize, as preparation does it."""
    return faces_BTCHW[..., config.resolution // 2 :, :] if config.lower_half else faces_BTCHW


def _wide(values: Tensor) -> Tensor:
    """Half precision has too few steps for pixels in 0..255."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _refusal(message: str, hint: str = "") -> DataError:
    return DataError(message, reason="bad_frames", hint=hint)


_FLAT_HINT = "frames that stand in the batch, (B*T, C, H, W), become windows by frames.unflatten(0, (-1, T))"
