"""DeepSpeed's ZeRO folders, written by hand: stage 1 and 2 (flat groups cut in equal parts), stage 3 (each parameter
cut in equal parts).

Layout: `latest` names the tag's folder; in it `mp_rank_00_model_states.pt` (one per rank in stage 3) describes the
module and `zero_pp_rank_<rank>_mp_rank_00_optim_states.pt` holds that rank's part of the float32 weights and moments.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.errors import RefusalReason
from tests.zoo.case import Bad, Build, Good
from tests.zoo.nets import STEPS, other_weights, stable_weights, trained
from tests.zoo.objects import lost_config, lost_modules

Weights = dict[str, Tensor]
FROZEN = ("audio_encoder.conv_in.weight", "audio_encoder.conv_in.bias")
"""Parameters that are not trained in some cases."""
TAG = f"global_step{STEPS}"


@dataclass(frozen=True)
class Zero:
    """One folder to write."""

    stage: int
    """ZeRO stage."""
    ranks: int = 2
    """Processes; with three, parts are padded."""
    dtype: torch.dtype = torch.float16
    """Of the module's own copy of the weights."""
    frozen: tuple[str, ...] = ()
    """Parameters that are not in the optimizer."""
    weights: Weights = field(default_factory=stable_weights)
    """The exact weights."""

    @property
    def trained(self) -> Weights:
        """Those in the optimizer."""
        return {name: tensor for name, tensor in self.weights.items() if name not in self.frozen}

    def write(self, folder: Path, tag: str = TAG) -> None:
        """Write the tag's folder and `latest`."""
        inner = folder / tag
        inner.mkdir()
        prefix = "bf16_" if self.dtype is torch.bfloat16 else ""
        with lost_modules():
            for rank in range(self.ranks):
                torch.save(self._optimizer(rank), inner / f"{prefix}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
                if self.stage == 3:
                    torch.save(self._model(rank), inner / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")
            if self.stage < 3:
                torch.save(self._model(0), inner / "mp_rank_00_model_states.pt")
        (folder / "latest").write_text(tag)

    def _model(self, rank: int) -> dict[str, Any]:
        whole = self.stage < 3
        module = {n: t.to(self.dtype) if whole else torch.empty(0, dtype=self.dtype) for n, t in self.weights.items()}
        fragments = {n: self.weights[n] if whole else _part(self.weights[n], rank, self.ranks) for n in self.frozen}
        return {
            "module": OrderedDict(module),
            "buffer_names": [],
            "optimizer": None,
            "param_shapes": [OrderedDict((name, tensor.shape) for name, tensor in self.trained.items())],
            "frozen_param_shapes": OrderedDict((n, self.weights[n].shape) for n in self.frozen) or None,
            "shared_params": {},
            "frozen_param_fragments": OrderedDict(fragments) or None,
            "lr_scheduler": None,
            "data_sampler": None,
            "random_ltd": None,
            "sparse_tensor_module_names": set(),
            "skipped_steps": 0,
            "global_steps": STEPS,
            "global_samples": STEPS * 8,
            "dp_world_size": self.ranks,
            "mp_world_size": 1,
            "ds_config": {"train_batch_size": 8, "zero_optimization": {"stage": self.stage}},
            "ds_version": "0.15.4",
        }

    def _optimizer(self, rank: int) -> dict[str, Any]:
        cut = self._flat_part if self.stage < 3 else self._own_parts
        moments = trained().moments
        state = {slot: cut([moments[n][slot] for n in self.trained], rank) for slot in ("exp_avg", "exp_avg_sq")}
        base = {
            "state": {0: {"step": torch.tensor(float(STEPS)), **state}},
            "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "params": [0]}],
        }
        weights = cut(list(self.trained.values()), rank)
        common = {
            "loss_scaler": lost_config(),
            "dynamic_loss_scale": True,
            "overflow": False,
            "zero_stage": self.stage,
        }
        if self.stage == 3:
            own: dict[str, Any] = {
                **common,
                "partition_count": self.ranks,
                "optimizer_state_dict": base,
                "fp32_flat_groups": [weights],
            }
        else:
            size = sum(tensor.numel() for tensor in self.trained.values())
            padding = -size % (2 * self.ranks)
            mine = padding if rank == self.ranks - 1 else 0
            own = {
                **common,
                "clip_grad": 1.0,
                "base_optimizer_state": base,
                "single_partition_of_fp32_groups": [weights[: weights.numel() - mine]],
                "group_paddings": [mine],
                "partition_count": [self.ranks],
                "ds_version": "0.15.4",
                "param_slice_mappings": [OrderedDict()],
            }
        return {"optimizer_state_dict": own, "ds_config": {}, "ds_version": "0.15.4"}

    def _flat_part(self, tensors: list[Tensor], rank: int) -> Tensor:
        """Stage 1 and 2: everything in a row, padded to twice the ranks, cut into one part per rank."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        flat = torch.nn.functional.pad(flat, (0, -flat.numel() % (2 * self.ranks)))
        return flat.chunk(self.ranks)[rank].clone()

    def _own_parts(self, tensors: list[Tensor], rank: int) -> Tensor:
        """Stage 3: each tensor cut into one part per rank, those of this rank in a row."""
        return torch.cat([_part(tensor, rank, self.ranks) for tensor in tensors])


def _part(tensor: Tensor, rank: int, ranks: int) -> Tensor:
    flat = torch.nn.functional.pad(tensor.flatten(), (0, -tensor.numel() % ranks))
    return flat.chunk(ranks)[rank].clone()


def _folder(make: Callable[[], Zero], give: str = "", spoil: Callable[[Path], None] = lambda folder: None) -> Build:
    def build(folder: Path) -> Path:
        make().write(folder)
        spoil(folder)
        return folder / give if give else folder

    return build


def _after_another(folder: Path) -> Path:
    """Two tags; `latest` names the second."""
    Zero(2, weights=other_weights()).write(folder, "global_step1")
    Zero(2).write(folder)
    return folder


def _moments() -> dict[str, dict[str, Tensor]]:
    return trained().moments


def _halved() -> Weights:
    return {name: tensor.half().float() for name, tensor in stable_weights().items()}


def _without_last_rank(folder: Path) -> None:
    next((folder / TAG).glob("*zero_pp_rank_1_mp_rank_00_optim_states.pt")).unlink()


def _latest(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "latest").write_text(text) and None


_SETTLED: dict[str, Any] = {"step": STEPS, "epoch": None, "moments": _moments}
_INCOMPLETE, UNSAFE = (RefusalReason.CORRUPT, RefusalReason.MISSING), RefusalReason.UNSAFE
CASES: tuple[Good | Bad, ...] = (
    Good("ZeRO-1", "DeepSpeed", _folder(lambda: Zero(1)), **_SETTLED),
    Good("ZeRO-1, the tag's folder", "DeepSpeed", _folder(lambda: Zero(1), TAG), **_SETTLED),
    Good("ZeRO-1, bfloat16", "DeepSpeed", _folder(lambda: Zero(1, dtype=torch.bfloat16)), **_SETTLED),
    Good("ZeRO-2, three ranks", "DeepSpeed", _folder(lambda: Zero(2, 3)), **_SETTLED),
    Good("ZeRO-2, two tags", "DeepSpeed", _after_another, **_SETTLED),
    Good("ZeRO-3", "DeepSpeed", _folder(lambda: Zero(3)), **_SETTLED),
    Good("ZeRO-3, three ranks", "DeepSpeed", _folder(lambda: Zero(3, 3)), **_SETTLED),
    Good(
        "ZeRO-2, frozen parameters",
        "DeepSpeed",
        _folder(lambda: Zero(2, frozen=FROZEN)),
        **{**_SETTLED, "moments": None, "decides": ("fresh",)},
    ),
    Good(
        "ZeRO-3, frozen parameters, three ranks",
        "DeepSpeed",
        _folder(lambda: Zero(3, 3, frozen=FROZEN)),
        **{**_SETTLED, "moments": None, "decides": ("fresh",)},
    ),
    Good(
        "ZeRO-1, only the module's file",
        "DeepSpeed",
        _folder(lambda: Zero(1), f"{TAG}/mp_rank_00_model_states.pt"),
        expected=_halved,
        step=STEPS,
        epoch=None,
        decides=("float16",),
    ),
    Bad(
        "ZeRO-1, a rank's file is missing",
        "DeepSpeed",
        _folder(lambda: Zero(1), spoil=_without_last_rank),
        _INCOMPLETE,
    ),
    Bad(
        "ZeRO-3, a rank's file is missing",
        "DeepSpeed",
        _folder(lambda: Zero(3), spoil=_without_last_rank),
        _INCOMPLETE,
    ),
    Bad(
        "ZeRO, latest names nothing",
        "DeepSpeed",
        _folder(lambda: Zero(1), spoil=_latest("global_step9")),
        _INCOMPLETE,
    ),
    Bad("ZeRO, latest leaves the folder", "DeepSpeed", _folder(lambda: Zero(1), spoil=_latest("../../secret")), UNSAFE),
)
