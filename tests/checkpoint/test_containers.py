"""Files that are read, files that are no checkpoints, and files that are damaged: each gets one clear answer."""

from __future__ import annotations

import contextlib
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from orchestrator.checkpoint import inspect, load_state, weights_hash
from orchestrator.checkpoint.formats import SourceFile, read_checkpoint, take_apart
from orchestrator.checkpoint.formats.blob import Blob
from orchestrator.checkpoint.formats.containers.not_checkpoint import describe
from orchestrator.errors import CheckpointError, RefusalReason

from .conftest import refusal

Save = Callable[..., Path]
Weights = dict[str, Tensor]

NOT_CHECKPOINTS = {
    "empty": (b"", "empty (0 bytes)"),
    "web page": (b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>", "web page titled 'Sign in'"),
    "virus warning": (
        b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head>",
        "Google Drive",
    ),
    "entry not found": (b"Entry not found", "server's refusal"),
    "access denied": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "server's refusal"),
    "gated": (b'{"error":"Access to model is restricted"}', "server's refusal"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0d71\nsize 1605392874\n",
        "Git LFS pointer of 75 bytes that stands for a file of 1.6 GB",
    ),
    "yaml": (b"model:\n  audio_encoder:\n    in_channels: 1\n", "YAML configuration"),
    "json": (b'{"hidden_size": 768}', "JSON file"),
    "text": (b"just some words\n", "text file"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(range(64)), "7-Zip"),
    "video": (b"\x00\x00\x00\x20ftypisom" + bytes(range(128, 192)), "MP4"),
    "audio": (b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(range(128, 192)), "WAV"),
    "zeros": (b"\x00" * 5000, "zeros"),
    "unknown": (bytes(range(200, 256)) * 9, "unknown binary"),
}


@pytest.mark.parametrize(("content", "told"), NOT_CHECKPOINTS.values(), ids=NOT_CHECKPOINTS)
def test_what_is_no_checkpoint_is_told_as_what_it_is(save: Save, content: bytes, told: str) -> None:
    message = refusal(lambda: inspect(save(content)), RefusalReason.NOT_A_CHECKPOINT)
    assert told in message


def test_a_character_cut_at_the_end_of_the_look_is_still_text(save: Save) -> None:
    path = save("a words ä".encode() + "ä".encode() * 3000)
    assert "text file" in describe(SourceFile(path, Blob.of_file(path)))[0]


def test_missing_file_and_directory(tmp_path: Path, save: Save) -> None:
    refusal(lambda: inspect(tmp_path / "none.pt"), RefusalReason.MISSING)
    save(b"x", "notes.doc")
    assert "notes.doc" in refusal(lambda: inspect(tmp_path), RefusalReason.NOT_A_CHECKPOINT)


def test_another_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("word/readme.md", "x")
    assert "word/readme.md" in refusal(lambda: inspect(tmp_path / "x.pt"), RefusalReason.NOT_A_CHECKPOINT)


def test_every_container_gives_the_same_weights(tmp_path: Path, save: Save, weights: Weights) -> None:
    save_file(weights, tmp_path / "s.safetensors")
    files = {
        "torch-zip": save(weights, "z.pt"),
        "torch-legacy": save(weights, "l.pt", _use_new_zipfile_serialization=False),
        "safetensors": tmp_path / "s.safetensors",
    }
    for container, path in files.items():
        contents = read_checkpoint(path)
        assert contents.container == container
        assert weights_hash(take_apart(path, contents).weights) == weights_hash(weights)


def test_content_decides_and_never_the_name(tmp_path: Path, weights: Weights) -> None:
    save_file(weights, tmp_path / "claims.pt")
    torch.save(weights, tmp_path / "claims.safetensors")
    assert inspect(tmp_path / "claims.pt").container == "safetensors"
    assert inspect(tmp_path / "claims.safetensors").container == "torch-zip"


@pytest.mark.parametrize("payload", [{}, {"state_dict": {}}, {"epoch": 3}, [1, 2], {"state_dict": None}, 7])
def test_nothing_but_no_weights(save: Save, payload: Any) -> None:
    refusal(lambda: inspect(save(payload)), RefusalReason.NO_WEIGHTS)


@pytest.mark.parametrize("kind", ["stored", "deflated", "rootless"])
def test_a_rewritten_zip(tmp_path: Path, save: Save, weights: Weights, kind: str) -> None:
    with zipfile.ZipFile(save(weights)) as old, zipfile.ZipFile(tmp_path / "new.pt", "w") as new:
        for info in old.infolist():
            name = info.filename.partition("/")[2] if kind == "rootless" else info.filename
            method = zipfile.ZIP_DEFLATED if kind == "deflated" else zipfile.ZIP_STORED
            new.writestr(name, old.read(info), compress_type=method)
    assert weights_hash(load_state(tmp_path / "new.pt").weights) == weights_hash(weights)


def test_two_entries_of_one_name(tmp_path: Path, save: Save, weights: Weights) -> None:
    path = save(weights)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("file/data.pkl", b"\x80\x02N.")
    assert "two entries" in refusal(lambda: inspect(path), RefusalReason.CORRUPT)


def test_a_cached_mel_is_no_checkpoint(save: Save) -> None:
    message = refusal(lambda: inspect(save(torch.zeros(80, 52))), RefusalReason.NOT_A_CHECKPOINT)
    assert "cached mel" in message


@pytest.mark.parametrize("kept", [0.001, 0.05, 0.3, 0.7, 0.99, 0.9999])
@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_torch_files(save: Save, weights: Weights, kept: float, legacy: bool) -> None:
    whole = save(weights, _use_new_zipfile_serialization=not legacy).read_bytes()
    message = refusal(lambda: inspect(save(whole[: int(len(whole) * kept)])), RefusalReason.CORRUPT)
    if not legacy and 0.05 <= kept < 0.9:  # the list of tensors is still there
        assert "its tensors alone have" in message


def test_truncated_safetensors_tells_how_much_is_missing(tmp_path: Path, weights: Weights, save: Save) -> None:
    save_file(weights, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    assert "1.0 KB are missing" in refusal(lambda: inspect(save(whole[:-1000])), RefusalReason.CORRUPT)
    assert "header is cut short" in refusal(lambda: inspect(save(whole[:100])), RefusalReason.CORRUPT)
    assert "too many" in refusal(lambda: inspect(save(whole + b"x")), RefusalReason.CORRUPT)


def test_safetensors_with_a_broken_header(save: Save) -> None:
    entry = '"dtype":"F32","shape":[1],"data_offsets":[{},{}]'
    for header in (
        b'{"a": 1}',
        b'{"a": {"data_offsets": [0]}}',
        b'{"a',
        b'{"a":' + b"[" * 100_000,
        ('{"a":{' + entry.format(0, 4) + '},"b":{' + entry.format(0, 4) + "}}").encode(),
        ('{"a":{' + entry.format(0, 4) + '},"a":{' + entry.format(0, 4) + "}}").encode(),
        ('{"a":{' + entry.format(0, 8) + "}}").encode(),
        ('{"a":{' + entry.format(-4, 0) + "}}").encode(),
    ):
        payload = struct.pack("<Q", len(header)) + header + b"1234"
        refusal(lambda payload=payload: inspect(save(payload)), RefusalReason.CORRUPT)  # type: ignore[misc]


def test_a_flipped_byte_is_noticed_by_its_checksum(save: Save, weights: Weights) -> None:
    path = save(weights)
    with zipfile.ZipFile(path) as archive:
        record = max(archive.infolist(), key=lambda info: info.file_size)
    damaged = bytearray(path.read_bytes())
    damaged[record.header_offset + 200 + record.file_size // 2] ^= 1
    message = refusal(lambda: inspect(save(bytes(damaged))), RefusalReason.CORRUPT)
    assert record.filename in message


def test_checksums_that_were_not_recorded_are_no_damage(save: Save, weights: Weights) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = save(weights)
    finally:
        torch.serialization.set_crc32_options(True)
    assert inspect(path).format == "raw_state_dict"


def test_a_zip_that_grows_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("bomb/data/0", bytes(100 << 20))
    assert "unpack" in refusal(lambda: inspect(tmp_path / "bomb.pt"), RefusalReason.CORRUPT)


def test_a_small_file_that_claims_huge_tensors_is_refused(save: Save, weights: Weights) -> None:
    name = next(iter(weights))
    weights[name] = torch.zeros(1).expand(1 << 40)
    assert "claim" in refusal(lambda: inspect(save(weights)), RefusalReason.CORRUPT)


def test_report_is_plain_data(save: Save, weights: Weights) -> None:
    report = inspect(save({"state_dict": weights}))
    assert json.loads(json.dumps(report.to_dict()))["format"] == "latentsync.weights_only"
    assert any("16_pixel_attn" in line for line in report.lines())


@pytest.mark.parametrize("container", ["torch-zip", "torch-legacy", "safetensors"])
def test_whatever_is_damaged_the_answer_is_a_refusal(
    tmp_path: Path, save: Save, weights: Weights, container: str
) -> None:
    if container == "safetensors":
        save_file(weights, tmp_path / "file.pt")
        whole = (tmp_path / "file.pt").read_bytes()
    else:
        whole = save(weights, _use_new_zipfile_serialization=container == "torch-zip").read_bytes()
    random = Random(7)
    for _ in range(25):
        damaged = bytearray(whole)
        for _ in range(random.choice((1, 20))):
            position = random.randrange(min(len(whole), 30_000))
            damaged[random.choice((position, -1 - position))] = random.randrange(256)
        with contextlib.suppress(CheckpointError):  # a change of a weight's value is no damage that anyone could see
            inspect(save(bytes(damaged)))
