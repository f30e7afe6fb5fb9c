"""Lightning's checkpoints, from real training runs of two steps."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.models import cosine_bce
from tests.zoo.case import Good
from tests.zoo.nets import STEPS, named_moments, net_of, stable_weights
from tests.zoo.quiet import quiet

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Run:
    """A finished training run of Lightning."""

    file: bytes
    """Its checkpoint."""
    weights: Weights
    """The net's."""
    averages: Weights
    """Of the weights, where it kept them."""
    moments: dict[str, dict[str, Tensor]]
    """The optimizer's."""


@cache
def lightning_run(attribute: str, averaged: bool, folder: Path) -> Run:
    """Two real steps on random windows; the net is an attribute of the module."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

    class Module(LightningModule):
        def __init__(self, lr: float = 1e-4, note: str = "tiny") -> None:
            super().__init__()
            self.save_hyperparameters()
            setattr(self, attribute, net_of(stable_weights()))

        def training_step(self, batch: Any, index: int) -> Tensor:
            vision, speech = getattr(self, attribute)(*batch[:2])
            return cosine_bce(vision, speech, batch[2])

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 10)]

    shape = net_of(stable_weights()).input_shape
    torch.manual_seed(5)
    targets = torch.tensor([0.0, 1.0])
    batches = [(torch.rand(2, *shape.frames), torch.rand(2, *shape.audio), targets) for _ in range(STEPS)]
    saving = ModelCheckpoint(dirpath=folder, filename="net", every_n_train_steps=STEPS, save_top_k=-1)
    module = Module()
    with quiet():
        trainer = Trainer(
            max_steps=STEPS,
            accelerator="cpu",
            logger=False,
            callbacks=[saving, EMAWeightAveraging(decay=0.5)] if averaged else [saving],
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    content = torch.load(folder / "net.ckpt", weights_only=False)
    plain = content["current_model_state"] if averaged else content["state_dict"]
    net = getattr(module, attribute)
    cut = len(attribute) + 1
    return Run(
        (folder / "net.ckpt").read_bytes(),
        {name[cut:]: tensor for name, tensor in plain.items()},
        {name[cut:]: tensor for name, tensor in content["state_dict"].items()},
        named_moments(net, trainer.optimizers[0]),
    )


class Lightning:
    """The parts of a case whose net is this attribute."""

    def __init__(self, attribute: str, averaged: bool = False) -> None:
        self.attribute, self.averaged = attribute, averaged
        self._run: Run | None = None

    def build(self, folder: Path) -> Path:
        """A case's `build`."""
        if self._run is None:
            work = folder / "work"
            self._run = lightning_run(self.attribute, self.averaged, work)
            shutil.rmtree(work)
        (folder / "net.ckpt").write_bytes(self._run.file)
        return folder / "net.ckpt"

    def weights(self) -> Weights:
        """The expected ones."""
        assert self._run is not None
        return self._run.weights

    def averages(self) -> Weights:
        """Those of the averages."""
        assert self._run is not None
        return self._run.averages

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """The optimizer's."""
        assert self._run is not None
        return self._run.moments


_MODEL, _SYNCNET, _AVERAGED = Lightning("model"), Lightning("syncnet"), Lightning("net", averaged=True)

_SETTLED: dict[str, Any] = {"step": STEPS, "epoch": None}
CASES: tuple[Good, ...] = (
    Good("Lightning, `model`", "Lightning", _MODEL.build, _MODEL.weights, moments=_MODEL.moments, **_SETTLED),
    Good("Lightning, `syncnet`", "Lightning", _SYNCNET.build, _SYNCNET.weights, moments=_SYNCNET.moments, **_SETTLED),
    Good(
        "Lightning with averages",
        "Lightning",
        _AVERAGED.build,
        _AVERAGED.weights,
        moments=_AVERAGED.moments,
        decides=("averag",),
        **_SETTLED,
    ),
    Good(
        "Lightning with averages, wanted",
        "Lightning",
        _AVERAGED.build,
        _AVERAGED.averages,
        decides=("fresh",),  # the moments are those of the plain weights
        options={"weights": "ema"},
        **_SETTLED,
    ),
)
