"""fp32, bf16 and fp16: what each means for the forward pass and the optimizer step."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from orchestrator.errors import ConfigError

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context for forward passes; in fp32 it does nothing."""
    return torch.autocast(device.type, dtype=_AUTOCAST.get(precision), enabled=precision in _AUTOCAST)


def gradient_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """The loss scaler that fp16 needs; for the other types it passes everything through.

    Raises:
        ConfigError: fp16 was asked for on a CPU.
    """
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError(
            ["`train.precision` fp16 needs a GPU, but this worker runs on the CPU"], hint="use bf16 or fp32"
        )
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
