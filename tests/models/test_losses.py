"""The losses against independent references: values, gradients, extremes, half precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional as F

from orchestrator.config.loss import LossConfig
from orchestrator.errors import RunError
from orchestrator.models import CHANCE_LOSS, PairLoss, bce_of_cosines, build_loss

GROUP = 4
MARGIN = 0.8
SETTINGS = {
    "cosine_bce": LossConfig(),
    "info_nce": LossConfig(name="info_nce", group=GROUP, temperature=0.1),
    "margin": LossConfig(name="margin", margin=MARGIN),
}
every_loss = pytest.mark.parametrize("name", SETTINGS)
Batch = tuple[Tensor, Tensor, Tensor]


def batch_of(seed: int, samples: int = 8, width: int = 16) -> Batch:
    """Unit vectors with cosines of either sign, and labels in turn."""
    made = torch.Generator().manual_seed(seed)
    vision, audio = (F.normalize(torch.randn(samples, width, generator=made), dim=1) for _ in range(2))
    return vision, audio, 1 - torch.arange(samples) % 2


def with_gradients(loss: Callable[[Tensor, Tensor, Tensor], Tensor], batch: Batch) -> list[Tensor]:
    """The loss and its gradients by both embeddings."""
    vision, audio = (part.clone().requires_grad_() for part in batch[:2])
    value = loss(vision, audio, batch[2])
    return [value.detach(), *torch.autograd.grad(value, [vision, audio])]


def naive(name: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return {"cosine_bce": naive_bce, "info_nce": naive_info_nce, "margin": naive_margin}[name]


def naive_bce(vision: Tensor, audio: Tensor, labels: Tensor) -> Tensor:
    """torch's own."""
    return F.binary_cross_entropy((vision * audio).sum(1).clamp(1e-6, 1 - 1e-6), labels.float())


def naive_info_nce(vision: Tensor, audio: Tensor, labels: Tensor) -> Tensor:
    """Sample by sample: which of its group belongs to it?"""
    terms = []
    for index in range(len(vision)):
        group = [other for other in range(len(vision)) if other // GROUP == index // GROUP]
        target = torch.tensor(group.index(index))
        terms.append(F.cross_entropy(torch.stack([vision[index] @ audio[other] for other in group]) / 0.1, target))
        terms.append(F.cross_entropy(torch.stack([audio[index] @ vision[other] for other in group]) / 0.1, target))
    return torch.stack(terms).mean()


def naive_margin(vision: Tensor, audio: Tensor, labels: Tensor) -> Tensor:
    """Hadsell's equation 4, sample by sample."""
    terms = []
    for index, label in enumerate(labels):
        distance = ((vision[index] - audio[index]) ** 2).sum().sqrt()
        far = torch.clamp(MARGIN - distance, min=0)
        terms.append((distance**2 if label else far**2) / 2)
    return torch.stack(terms).mean()


@every_loss
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 40))
def test_values_and_gradients_are_those_of_the_definition(name: str, seed: int, groups: int, width: int) -> None:
    batch = batch_of(seed, GROUP * groups, width)
    found, expected = with_gradients(build_loss(SETTINGS[name]), batch), with_gradients(naive(name), batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@given(st.lists(st.tuples(st.floats(-1.125, 1.125, width=32), st.booleans()), min_size=1, max_size=30))
def test_the_stable_cross_entropy_is_torchs_own(rows: list[tuple[float, bool]]) -> None:
    labels = torch.tensor([float(label) for _, label in rows])
    ours, theirs = (torch.tensor([cosine for cosine, _ in rows], requires_grad=True) for _ in range(2))
    value, expected = bce_of_cosines(ours, labels), F.binary_cross_entropy(theirs.clamp(1e-6, 1 - 1e-6), labels)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs))


@every_loss
def test_no_number_in_gives_no_number_out(name: str) -> None:
    vision, audio, labels = batch_of(1)
    for row in (0, 1):
        broken = vision.clone()
        broken[row, 3] = math.nan
        value, *gradients = with_gradients(build_loss(SETTINGS[name]), (broken, audio, labels))
        assert value.isnan() and value.dtype == torch.float32
        assert not all(gradient.isfinite().all() for gradient in gradients)


@every_loss
def test_nothing_looks_at_a_value(name: str) -> None:
    """A fake tensor has none: whatever would wait for a GPU raises here."""
    loss = build_loss(SETTINGS[name])
    with FakeTensorMode():
        vision, audio = (torch.empty(8, 16, requires_grad=True) for _ in range(2))
        labels = torch.empty(8)
        loss(vision, audio, labels).backward()
        loss.evidence(vision, audio, labels)
        with pytest.raises(DataDependentOutputException):
            bool(vision.isfinite().all())
    assert vision.grad is not None


@every_loss
def test_embeddings_in_half_precision_are_computed_with_in_full(name: str) -> None:
    vision, audio, labels = batch_of(2, width=512)
    half = vision.bfloat16(), audio.bfloat16(), labels
    widened = half[0].float(), half[1].float(), labels
    loss = build_loss(SETTINGS[name])
    with torch.autocast("cpu", torch.bfloat16):
        found, proof = loss(*half), widened[0] @ widened[1].T
        cosines, _ = loss.evidence(*half)
    assert found.dtype == cosines.dtype == torch.float32
    assert proof.dtype == torch.bfloat16  # what autocast does where nobody stops it
    torch.testing.assert_close(found, loss(*widened))
    torch.testing.assert_close(cosines, loss.evidence(*widened)[0])


@every_loss
@given(st.integers(0, 2**32), st.integers(2, 6))
def test_parts_of_whole_units_average_to_the_loss_of_all(name: str, seed: int, groups: int) -> None:
    """So that neither the micro-batch nor the number of workers changes a run."""
    loss = build_loss(SETTINGS[name])
    batch = batch_of(seed, GROUP * groups)
    first, rest = slice(0, GROUP), slice(GROUP, None)
    parts = [loss(*(part[which] for part in batch)) for which in (first, rest)]
    assert GROUP % loss.unit == 0
    torch.testing.assert_close((parts[0] + parts[1] * (groups - 1)) / groups, loss(*batch), rtol=1e-4, atol=1e-6)


@every_loss
def test_equal_and_empty_embeddings_give_finite_gradients(name: str) -> None:
    vision, _, labels = batch_of(3)
    loss = build_loss(SETTINGS[name])
    for batch in [
        (vision, vision.clone(), labels),
        (vision, vision * (1 + 1e-6), labels),
        (vision, -vision, labels),
        (vision[:1].expand(8, -1), vision[:1].expand(8, -1), labels),
        (torch.zeros_like(vision), torch.zeros_like(vision), labels),
    ]:
        assert all(part.isfinite().all() for part in with_gradients(loss, batch))


@every_loss
def test_a_few_steps_pull_positives_and_negatives_apart(name: str) -> None:
    """Down the gradient from embeddings that cannot be told apart. For twins the negative is the clip's other sound."""
    loss = build_loss(SETTINGS[name])
    vision, audio, labels = batch_of(4)
    # non-negative, as the ReLU before them makes the embeddings of most SyncNets
    parts = [(part.abs()).requires_grad_() for part in (vision, audio)]
    optimizer = torch.optim.Adam(parts, lr=0.05)
    gaps = []
    for _ in range(60):
        embeddings = [F.normalize(part.relu() + 1e-3, dim=1) for part in parts]
        cosines, truth = loss.evidence(*embeddings, labels)
        gaps.append(float(cosines[truth == 1].mean() - cosines[truth == 0].mean()))
        optimizer.zero_grad()
        loss(*embeddings, labels).backward()
        optimizer.step()
    assert abs(gaps[0]) < 0.2 and gaps[-1] > 0.4


def test_a_net_that_knows_nothing_stays_at_the_losses_that_are_documented() -> None:
    vision = torch.zeros(8, 4)
    vision[:, 0] = 1
    labels = 1 - torch.arange(8) % 2
    half, eighth = math.pi / 3, 2 * math.asin(MARGIN / 4)  # cosine 0.5; half of the margin apart
    for name, angle, expected in [
        ("cosine_bce", half, CHANCE_LOSS),
        ("info_nce", half, math.log(GROUP)),
        ("margin", eighth, MARGIN**2 / 8),
    ]:
        audio = torch.tensor([[math.cos(angle), math.sin(angle), 0, 0]]).expand(8, -1)
        assert float(build_loss(SETTINGS[name])(vision, audio, labels)) == pytest.approx(expected, rel=1e-5)


def test_negatives_beyond_the_margin_have_no_gradient() -> None:
    vision, audio = torch.eye(4)[:2], torch.eye(4)[2:]
    _, gradient, _ = with_gradients(build_loss(SETTINGS["margin"]), (vision, audio, torch.tensor([1, 0])))
    assert gradient[0].any() and not gradient[1].any()


def test_evidence_is_the_pairs_themselves_and_for_twins_the_clip_s_other_sound() -> None:
    vision, audio, labels = batch_of(5)
    vision.requires_grad_()
    for name in ("cosine_bce", "margin"):
        cosines, truth = build_loss(SETTINGS[name]).evidence(vision, audio, labels)
        torch.testing.assert_close(cosines, F.cosine_similarity(vision, audio).detach())
        assert truth.tolist() == labels.tolist() and not cosines.requires_grad
    cosines, truth = build_loss(SETTINGS["info_nce"]).evidence(vision, audio, torch.ones(8))
    twins = [1, 0, 3, 2, 5, 4, 7, 6]
    similar = (vision @ audio.T).detach()
    expected = [float(similar[row, other]) for row, other in [*enumerate(range(8)), *enumerate(twins)]]
    assert cosines.tolist() == pytest.approx(expected, abs=1e-6)
    assert truth.tolist() == [1] * 8 + [0] * 8 and not cosines.requires_grad


def test_a_torn_group_is_refused() -> None:
    loss: PairLoss = build_loss(SETTINGS["info_nce"])
    vision, audio, labels = batch_of(6, samples=6)
    for use in (loss, loss.evidence):
        with pytest.raises(RunError, match="whole groups of 4 samples, but the batch has 6") as caught:
            use(vision, audio, labels)
        assert "train.micro_batch" in caught.value.hint


def test_only_info_nce_needs_groups() -> None:
    assert {name: build_loss(settings).unit for name, settings in SETTINGS.items()} == {
        "cosine_bce": 1,
        "info_nce": GROUP,
        "margin": 1,
    }
