"""The Python in docs/expert.md, run as it stands there with tensors as the trainers that it names hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.checkpoint import TrainState, save_state
from orchestrator.config.model import AnyModelConfig
from orchestrator.data.media.features import log_mel
from orchestrator.models import build_model
from tests.checkpoint.conftest import tiny_config
from tests.docs.pages import ROOT, shown
from tests.expert.conftest import config_of
from tests.models.seeded import draw

PAGE = "docs/expert.md"
LAST = 128


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the blocks of the page define, run in order beside the checkpoints that they name."""
    folder = tmp_path_factory.mktemp("page")
    _save(_latentsync_config(), folder / "runs/first/step-000020000")
    _save(config_of("latents"), folder / "runs/latents/step-000020000")
    blocks = [each for each in shown((ROOT / PAGE).read_text("utf-8"), PAGE) if each.language == "python"]
    assert len(blocks) == 4
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        for block in blocks:
            exec(compile(block.text, str(block), "exec"), names)
    assert names["expert"].dtype == names["latent_expert"].dtype == torch.bfloat16
    for name in ("expert", "latent_expert"):  # many CPUs take a hundred times as long for half precision
        names[name].float()
    return names


def test_latentsync_holds_frames_in_the_batch(page: dict[str, Any]) -> None:
    decoded, mel = draw("decoded", (2 * 16, 3, 288, 288)).tanh().half().requires_grad_(), _mel(2, 52).half()
    loss = page["sync_loss_latentsync"](decoded, mel)
    loss.backward()
    assert loss.shape == () and loss.dtype == torch.float32
    assert decoded.grad is not None and (decoded.grad.unflatten(0, (2, 16)).flatten(2).abs().amax(2) > 0).all()


def test_latents_have_their_time_behind_the_channels(page: dict[str, Any]) -> None:
    latents = draw("latents", (2, 4, 5, 8, 8)).half().requires_grad_()
    page["sync_loss_latents"](latents, _mel(2, 16)).backward()
    assert latents.grad is not None and latents.grad.abs().amax() > 0


def test_musetalk_generates_some_frames_of_a_window(page: dict[str, Any]) -> None:
    real, mel = draw("real", (2, 16, 3, 256, 256)).tanh(), _mel(2, 52)
    made = real[:, 7:9].flatten(0, 1).clone().requires_grad_()
    loss = page["sync_loss_musetalk"](made, real, mel, 7)
    loss.backward()
    torch.testing.assert_close(loss.detach(), page["expert"].loss(real, mel))
    assert made.grad is not None and (made.grad.flatten(1).abs().amax(1) > 0).all()


def test_waves_are_those_of_whole_clips(page: dict[str, Any]) -> None:
    frames, waves = draw("frames", (2, 16, 3, 64, 64)).tanh(), draw("waves", (2, 32000)) / 4
    mel = torch.stack([log_mel(waves[0])[:, :52], log_mel(waves[1])[:, 28 : 28 + 52]])
    assert torch.equal(page["sync_loss"](frames, waves, [0, 9]), page["expert"].loss(frames, mel))


def _latentsync_config() -> AnyModelConfig:
    """LatentSync's structure with narrow layers, and embeddings of a size that its last norm leaves something of."""
    given = tiny_config().model_dump()
    for encoder in ("audio_encoder", "visual_encoder"):
        given[encoder]["block_out_channels"] = (*given[encoder]["block_out_channels"][:-1], LAST)
    return type(tiny_config()).model_validate(given)


def _save(config: AnyModelConfig, folder: Path) -> None:
    save_state(TrainState(config, dict(build_model(config, seed=2).state_dict())), folder)


def _mel(batch: int, columns: int) -> torch.Tensor:
    return (draw("mel", (batch, 1, 80, columns)) * 1.5).clamp(-4, 4)
