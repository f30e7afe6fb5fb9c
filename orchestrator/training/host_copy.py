"""Copies of tensors in host memory, cheap enough to be taken between two training steps.

What costs is not the copy but the memory: pages that a process touches for the first time are faulted in and zeroed one
by one, about eight times as slow as copying into pages it has. So buffers are kept and used again; for a GPU they are
pinned, and all copies are under way at once.

Promise: a copy does not change while anybody holds one of its tensors. There are as many sets of buffers as copies are
held at once: one, or two while a checkpoint is still being written.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

_Place = TypeVar("_Place", bound=Hashable)


class HostCopies:
    """Copies of named tensors, in buffers that are used again once nobody holds them.

    Args:
        device: where the tensors live that will be copied.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._sets: list[_Buffers] = []

    @torch.no_grad()
    def take(self, tensors: Iterable[tuple[_Place, Tensor]]) -> dict[_Place, Tensor]:
        """Copy every tensor; what comes one after the other is copied before the next is asked for.

        Returns:
            The copies, finished, on the CPU. They stay as they are while one of them is held (a view of one does not
            count).
        """
        buffers = next((each for each in self._sets if not each.held), None)
        if buffers is None:
            buffers = _Buffers(self._on_gpu)
            self._sets.append(buffers)
        copies = {place: buffers.fill(place, tensor.detach()) for place, tensor in tensors}
        if self._on_gpu:
            copied = torch.cuda.Event()
            copied.record()
            copied.synchronize()
        buffers.lend(copies.values())
        return copies


class _Buffers:
    """Memory for one copy of everything."""

    def __init__(self, pinned: bool) -> None:
        self._pinned = pinned
        self._memory: dict[Hashable, Tensor] = {}
        self._lent: list[weakref.ref[Tensor]] = []

    @property
    def held(self) -> bool:
        """Whether anybody still has a tensor of the latest copy."""
        return any(tensor() is not None for tensor in self._lent)

    def lend(self, copies: Iterable[Tensor]) -> None:
        self._lent = [weakref.ref(copy) for copy in copies]

    def fill(self, place: Hashable, tensor: Tensor) -> Tensor:
        """Start the copy of one tensor; a tensor object of its own tells later whether it is still in use."""
        memory = self._memory.get(place)
        if memory is None or memory.shape != tensor.shape or memory.dtype != tensor.dtype:
            memory = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=self._pinned)
            self._memory[place] = memory
        memory.copy_(tensor, non_blocking=self._pinned)
        return memory.detach()
