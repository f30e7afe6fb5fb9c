"""Folders of `torch.distributed.checkpoint`: from one process, from two under DDP, and from two under FSDP2.

Layout: `.metadata` is a plain pickle that says which slice of which tensor is at which place of which
`__<rank>_<n>.distcp`. The two-process ones come from `ranks.py`, which runs once per process of the tests.
"""

from __future__ import annotations

import atexit
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.state_dict import get_state_dict

from orchestrator.errors import RefusalReason
from tests.zoo.case import MARK, Bad, Build, Good
from tests.zoo.nets import STEPS, net_of, stable_weights, take_steps, trained
from tests.zoo.objects import Runs

RANKS = 2
ROOT = Path(__file__).parents[2]
_KEPT = tempfile.gettempdir()  # now, because a case's own temporary folder goes with it


def alone(make: Callable[[], Any], spoil: Callable[[Path, Path], None] = lambda made, folder: None) -> Build:
    """A case's `build`: a folder saved by one process, and then spoiled."""

    def build(folder: Path) -> Path:
        made = folder / "step_2"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.save(make(), checkpoint_id=made, no_dist=True)
        spoil(made, folder)
        return made

    return build


def _everything() -> dict[str, Any]:
    """Weights, and an optimizer by parameter name, as torch's own helpers give them."""
    model = net_of(stable_weights())
    optimizer, scheduler = take_steps(model)
    _, states = get_state_dict(model, optimizer)
    return {"model": stable_weights(), "optimizer": states, "step": STEPS, "lr_scheduler": scheduler.state_dict()}


def _numbered() -> dict[str, Any]:
    return {"state_dict": stable_weights(), "optimizer": trained().optimizer, "global_step": STEPS, "epoch": 1}


@cache
def _by_two() -> Path:
    """What two processes saved: `ddp` and `fsdp`."""
    folder = Path(tempfile.mkdtemp(prefix="zoo-ranks-", dir=_KEPT))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    own = {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    environment = {**os.environ, **own, "PYTHONPATH": path}
    command = [sys.executable, "-m", "tests.zoo.ranks", str(folder)]
    processes = [subprocess.Popen([*command, str(rank)], env=environment, cwd=ROOT) for rank in range(RANKS)]
    codes = [process.wait(timeout=120) for process in processes]
    assert codes == [0] * RANKS, f"the ranks ended with {codes}"
    return folder


def _saved_by_two(name: str) -> Build:
    return lambda folder: Path(shutil.copytree(_by_two() / name, folder / name))


# ---- spoiled ones


def _payload_instead(made: Path, folder: Path) -> None:
    (made / ".metadata").write_bytes(pickle.dumps(Runs(folder / MARK)))


def _payload_beside(made: Path, folder: Path) -> None:
    metadata = pickle.loads((made / ".metadata").read_bytes())
    metadata.storage_meta = Runs(folder / MARK)
    (made / ".metadata").write_bytes(pickle.dumps(metadata))


def _leaves_folder(made: Path, folder: Path) -> None:
    _edit_places(made, "../secret.distcp")
    (made / "__0_0.distcp").rename(folder / "secret.distcp")


def _edit_places(made: Path, file: str) -> None:
    metadata = pickle.loads((made / ".metadata").read_bytes())
    for place in metadata.storage_data.values():
        place.relative_path = file
    (made / ".metadata").write_bytes(pickle.dumps(metadata))


def _without_metadata(made: Path, folder: Path) -> None:
    (made / ".metadata").unlink()


def _without_data(made: Path, folder: Path) -> None:
    (made / "__0_0.distcp").unlink()


def _cut_data(made: Path, folder: Path) -> None:
    data = made / "__0_0.distcp"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])


def _cut_metadata(made: Path, folder: Path) -> None:
    data = made / ".metadata"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])


def _payload_item(mark_of: Path) -> dict[str, Any]:
    return {"model": stable_weights(), "extra": Runs(mark_of)}


def _with_payload_item(folder: Path) -> Path:
    return alone(lambda: _payload_item(folder / MARK))(folder)


def _weights() -> dict[str, Tensor]:
    return dict(stable_weights())


def _halves() -> dict[str, Tensor]:
    return {name: tensor.half() for name, tensor in stable_weights().items()}


def _rounded() -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in _halves().items()}


def _moments() -> dict[str, dict[str, Tensor]]:
    return trained().moments


CORRUPT, MISSING, UNSAFE = RefusalReason.CORRUPT, RefusalReason.MISSING, RefusalReason.UNSAFE
_SETTLED: dict[str, Any] = {"step": STEPS, "moments": _moments}
CASES: tuple[Good | Bad, ...] = (
    Good("DCP, bare weights", "torch DCP", alone(_weights)),
    Good("DCP, weights as `model`", "torch DCP", alone(lambda: {"model": _weights()})),
    Good("DCP, everything, by name", "torch DCP", alone(_everything), **_SETTLED),
    Good("DCP, everything, numbered", "torch DCP", alone(_numbered), epoch=1, **_SETTLED),
    Good(
        "DCP, half precision",
        "torch DCP",
        alone(_halves),
        expected=_rounded,
    ),
    Good("DCP, payload beside the metadata", "torch DCP", alone(_weights, _payload_beside)),
    Good("DCP, payload as an item", "torch DCP", _with_payload_item),
    Good("DCP, two ranks, DDP", "torch DCP", _saved_by_two("ddp"), slow=True, **_SETTLED),
    Good("DCP, two ranks, FSDP2", "torch DCP", _saved_by_two("fsdp"), slow=True, **_SETTLED),
    Bad("DCP, payload for metadata", "torch DCP", alone(_weights, _payload_instead), UNSAFE, ("system",)),
    Bad("DCP, data outside the folder", "torch DCP", alone(_weights, _leaves_folder), UNSAFE, ("secret",)),
    Bad("DCP without metadata", "torch DCP", alone(_weights, _without_metadata), (CORRUPT, MISSING), (".metadata",)),
    Bad("DCP without data", "torch DCP", alone(_weights, _without_data), (CORRUPT, MISSING), ("__0_0.distcp",)),
    Bad("DCP, data cut short", "torch DCP", alone(_weights, _cut_data), CORRUPT, ("__0_0.distcp",)),
    Bad("DCP, metadata cut short", "torch DCP", alone(_weights, _cut_metadata), CORRUPT, (".metadata",)),
)
