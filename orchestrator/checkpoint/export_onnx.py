"""A network as one ONNX graph, for programs without torch.

Contract: inputs `frames` and `audio`, float32, with the shapes of `SyncNet.input_shape` and any batch size; outputs
`vision_embeds` and `audio_embeds`; metadata `model_config` (JSON), `weights_hash` and `global_step`. Promise: no file
appears whose embeddings differ from torch's by more than 1e-4 on random inputs, for two batch sizes; where embeddings
are no unit vectors, by more than 1e-4 of the largest number in them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.checkpoint.state import TrainState
from orchestrator.checkpoint.tensors import weights_hash, widened
from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.models import SyncNet, build_meta

INPUTS = ("frames", "audio")
"""Names of the inputs."""
OUTPUTS = ("vision_embeds", "audio_embeds")
"""Names of the outputs."""
TOLERANCE = 1e-4
"""Largest difference to torch's embeddings."""

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_MOST_BYTES = (2 << 30) - (64 << 20)


def onnx_file(state: TrainState, file: Path) -> None:
    """Write the graph and compare it with torch.

    Raises:
        CheckpointError: `unsupported`, when packages are missing or the network is too large for one file; `mismatch`,
            when the embeddings differ.
    """
    _require_packages()
    size = sum(tensor.numel() * 4 for tensor in state.weights.values())
    if size > _MOST_BYTES:
        what = f"weights of {size:,} bytes do not fit into one ONNX file, which ends at 2 GB"
        raise CheckpointError(what, reason=RefusalReason.UNSUPPORTED, hint="export them as `safetensors`")
    model = build_meta(state.model)
    model.load_state_dict({name: widened(tensor) for name, tensor in state.weights.items()}, assign=True)
    model.eval()
    _write(model, state, file)
    _compare(model, file)


def _write(model: SyncNet, state: TrainState, file: Path) -> None:
    with _quiet():
        program: Any = _traced(model)
    program.model.metadata_props.update(
        {
            "model_config": state.model.model_dump_json(),
            "weights_hash": weights_hash(state.weights),
            "global_step": str(state.step),
        }
    )
    program.save(str(file), external_data=False)


def _traced(model: SyncNet) -> Any:
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    shapes = {name: {0: batch} for name in INPUTS}
    return torch.onnx.export(
        model,
        _example(model, 2),
        dynamo=True,
        verbose=False,
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        dynamic_shapes=shapes,
    )


def _compare(model: SyncNet, file: Path) -> None:
    """Whether onnxruntime computes what torch computes."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    for batch in (2, 3):
        example = _example(model, batch)
        found = session.run(list(OUTPUTS), {name: tensor.numpy() for name, tensor in zip(INPUTS, example, strict=True)})
        with torch.no_grad():
            expected = model(*example)
        gap = max(_gap(torch.from_numpy(a), b) for a, b in zip(found, expected, strict=True))
        if not gap <= TOLERANCE:  # NaN too
            what = f"the ONNX graph gives other embeddings than torch: they differ by {gap:.3g}; nothing was written"
            raise CheckpointError(what, reason=RefusalReason.MISMATCH, hint="please report this network")


def _gap(found: Tensor, expected: Tensor) -> float:
    """Largest difference, in units of the largest number where embeddings are no unit vectors."""
    return float((found - expected).abs().max()) / max(1.0, float(expected.abs().max()))


def _example(model: SyncNet, batch: int) -> tuple[Tensor, Tensor]:
    """Random inputs, always the same."""
    generator = torch.Generator().manual_seed(batch)
    shape = model.input_shape
    frames = torch.rand(batch, *shape.frames, generator=generator)
    return frames, torch.rand(batch, *shape.audio, generator=generator) * 8 - 4


def _require_packages() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        what = (
            f"exporting to ONNX needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed"
        )
        hint = f"pip install {' '.join(missing)}, or `pip install 'syncnet-orchestrator[onnx]'`"
        raise CheckpointError(what, reason=RefusalReason.UNSUPPORTED, hint=hint)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of packages that nothing here needs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
