"""The process group of a run's workers under Ray Train, which is not taken down by asking its members.

Why: before Ray Train ends workers it asks each to leave its process group, and waits half a minute for those that hang
or are stopped, which are just the ones it wants to get rid of. They are ended right after anyhow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.train.backend import BackendConfig
from ray.train.torch import TorchConfig

_Backend: Any = TorchConfig().backend_cls


class _GroupBackend(_Backend):  # type: ignore[misc]
    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Nobody is asked."""


@dataclass
class GroupConfig(TorchConfig):
    """Ray Train's settings of a process group, with a shutdown that waits for nobody."""

    @property
    def backend_cls(self) -> Any:
        return _GroupBackend
