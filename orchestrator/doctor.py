"""`doctor`: numbered checks of this machine, each with what was found and, where it is bad, what to do."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import OrchestratorError

_PACKAGES = ("torch", "torchaudio", "ray", "mlflow", "pyarrow", "av", "safetensors")
_LEAST_FREE_GB = 5


@dataclass(frozen=True)
class Finding:
    """One check and its outcome."""

    check: str
    found: str
    ok: bool = True
    hint: str = ""


def examine(storage: str) -> list[Finding]:
    """Run all checks; a check that fails never keeps the others from running."""
    checks: list[Callable[[], Finding]] = [
        _python,
        _packages,
        _torch_pair,
        _accelerator,
        lambda: _storage(storage),
        lambda: _space(storage),
        lambda: _tracking(storage),
        _ray,
    ]
    return [check() for check in checks]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", version, sys.version_info >= (3, 11), "" if sys.version_info >= (3, 11) else "use 3.11+")


def _packages() -> Finding:
    found, missing = [], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    hint = f"missing: {', '.join(missing)}; install with `pip install syncnet-orchestrator`" if missing else ""
    return Finding("packages", ", ".join(found), not missing, hint)


def _torch_pair() -> Finding:
    try:
        import torch
        import torchaudio
    except (ImportError, OSError) as error:
        return Finding("torch and torchaudio", str(error), False, "install the same version of both from one index")
    same = torch.__version__.split("+")[0] == torchaudio.__version__.split("+")[0]
    hint = "" if same else "their versions must be the same"
    return Finding("torch and torchaudio", f"{torch.__version__}, {torchaudio.__version__}", same, hint)


def _accelerator() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("GPU", f"none; {os.cpu_count()} CPU cores")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Finding("GPU", ", ".join(names))


def _storage(storage: str) -> Finding:
    from orchestrator.runtime.paths import storage_folder

    try:
        folder = storage_folder(storage)
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{uuid.uuid4().hex}"
        probe.write_bytes(b"")
        probe.unlink()
    except (OSError, OrchestratorError) as error:
        return Finding("storage", f"{storage}: {error}", False, "give a folder you may write to")
    return Finding("storage", str(folder))


def _space(storage: str) -> Finding:
    folder = Path(storage).expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    enough = free >= _LEAST_FREE_GB
    return Finding("free space", f"{free:.1f} GB", enough, "" if enough else f"at least {_LEAST_FREE_GB} GB are wise")


def _tracking(storage: str) -> Finding:
    from orchestrator.tracking import redact, resolve_uri
    from orchestrator.tracking.connect import connect

    try:
        uri = resolve_uri(None, storage, os.environ)
        connect(uri)
    except OrchestratorError as error:
        return Finding("MLflow", error.message, False, error.hint)
    return Finding("MLflow", redact(uri))


def _ray() -> Finding:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return Finding("Ray", "no RAY_ADDRESS: runs start a local Ray of their own")
    import ray

    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    except (ConnectionError, RuntimeError, ValueError) as error:
        return Finding("Ray", f"{address}: {error}", False, "check the address, or unset RAY_ADDRESS for a local Ray")
    resources = ray.cluster_resources()
    return Finding("Ray", f"{address}: {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs")
