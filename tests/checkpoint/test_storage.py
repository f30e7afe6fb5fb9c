"""Remote storage: states go there and come back, half an upload is nothing, and errors hold no secrets."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.fs
import pytest
import torch
from torch import Tensor

from orchestrator.checkpoint import (
    TrainState,
    inspect,
    is_complete,
    list_states,
    load_model,
    normalize,
    read_manifest,
    read_plain,
    read_state,
    save_state,
    verify,
    weights_hash,
)
from orchestrator.checkpoint.storage import Place, fetch, is_whole, join, local_path, open_place, redacted, upload
from orchestrator.config.model import StableSyncNetConfig
from orchestrator.errors import RefusalReason

from .conftest import refusal

Save = Callable[..., Path]
Weights = dict[str, Tensor]


@pytest.fixture
def bucket() -> Iterator[str]:
    """An empty folder of fsspec's storage in memory."""
    memory = fsspec.filesystem("memory")
    memory.mkdirs("/bucket", exist_ok=True)
    yield "memory://bucket"
    memory.rm("/bucket", recursive=True)


@pytest.fixture
def saved(tmp_path: Path, config: StableSyncNetConfig, weights: Weights) -> Path:
    save_state(TrainState(config, weights, step=5, samples=160), tmp_path / "ckpt")
    return tmp_path / "ckpt"


class Failing(pyarrow.fs.FileSystemHandler):  # type: ignore[misc]
    """A local file system whose `fail_at`th file breaks off in the middle."""

    def __init__(self, folder: Path, fail_at: int) -> None:
        self.inner = pyarrow.fs.SubTreeFileSystem(str(folder), pyarrow.fs.LocalFileSystem())
        self.left = fail_at

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        stream = self.inner.open_output_stream(path)
        self.left -= 1
        if self.left == 0:
            stream.write(b"half")
            stream.close()
            raise OSError("the connection was lost; key=AKIASECRET")
        return stream

    def get_type_name(self) -> str:
        return "failing"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> Any:
        return self.inner.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        return self.inner.get_file_info(selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        self.inner.create_dir(path, recursive=recursive)

    def open_input_stream(self, path: str) -> Any:
        return self.inner.open_input_stream(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    copy_file = delete_dir = delete_dir_contents = delete_file = delete_root_dir_contents = None
    move = open_append_stream = open_input_file = None


def test_there_and_back(save: Save, weights: Weights, bucket: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/in/net.pt", save({"state_dict": weights, "global_step": 5}).read_bytes())
    result = normalize("memory://bucket/in/net.pt", f"{bucket}/states")
    assert result.location == f"{bucket}/states/{result.state_hash}" and result.written
    for where in (result.location, result.path):  # as text, and as a path that lost a slash
        state = read_state(where)
        assert weights_hash(state.weights) == weights_hash(weights) and state.step == 5
        assert is_complete(where) and read_plain(where)["step"] == 5
        assert read_manifest(where).content_hash == result.state_hash
    assert state.provenance is not None and state.provenance.file_name == "net.pt"
    assert inspect(result.location).format == "canonical"
    assert inspect("memory://bucket/in/net.pt").path == "memory://bucket/in/net.pt"
    assert torch.equal(next(load_model(result.location).parameters()), next(iter(weights.values())))
    assert [record.name for record in list_states(f"{bucket}/states")] == [result.state_hash]
    assert verify(f"{bucket}/states").ok and verify(result.location).ok


def test_again_writes_nothing(save: Save, weights: Weights, bucket: str) -> None:
    path, memory = save(weights), fsspec.filesystem("memory")
    first = normalize(path, bucket)
    before = {name: memory.modified(name) for name in memory.find("/bucket")}
    again = normalize(path, bucket)
    assert (again.location, first.written, again.written) == (first.location, True, False)
    assert {name: memory.modified(name) for name in memory.find("/bucket")} == before
    assert normalize(first.location, "elsewhere").location == first.location and not Path("elsewhere").exists()


def test_what_was_described_beside_the_file_is_found(tmp_path: Path, bucket: str) -> None:
    from orchestrator.models import build_model

    from .test_architecture import odd_config

    torch.save(build_model(odd_config()).state_dict(), tmp_path / "odd.pt")
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/odd.pt", (tmp_path / "odd.pt").read_bytes())
    memory.pipe("/bucket/odd.yaml", odd_config().model_dump_json().encode())
    assert inspect(f"{bucket}/odd.pt").model == odd_config()


def test_a_file_uri_is_a_path(saved: Path, tmp_path: Path) -> None:
    assert read_state(saved.as_uri()).step == 5 and is_complete(saved.as_uri())
    assert local_path("file:///a%20b") == Path("/a b") and local_path("s3://b/x") is None
    assert local_path(Path("s3://b/x")) is None and local_path("plain:name") == Path("plain:name")


@pytest.mark.parametrize("fail_at", [1, 2, 3])
def test_half_an_upload_is_no_checkpoint(saved: Path, tmp_path: Path, fail_at: int) -> None:
    (tmp_path / "remote").mkdir()
    handler = Failing(tmp_path / "remote", fail_at)
    place = Place(pyarrow.fs.PyFileSystem(handler), "states/x", "test://states/x", ("AKIASECRET",))
    message = refusal(lambda: upload(saved, place), RefusalReason.STORAGE)
    assert "test://states/x" in message and "AKIASECRET" not in message
    assert not is_whole(place) and not is_complete(tmp_path / "remote" / "states" / "x")
    handler.left = 0
    assert upload(saved, place) and is_whole(place) and not upload(saved, place)
    (tmp_path / "back").mkdir()
    assert read_state(fetch(place, tmp_path / "back")).step == 5


def test_the_manifest_comes_last(saved: Path, tmp_path: Path) -> None:
    names: list[str] = []

    class Watching(Failing):
        def open_output_stream(self, path: str, metadata: Any) -> Any:
            names.append(path.rpartition("/")[2])
            return super().open_output_stream(path, metadata)

    (tmp_path / "remote").mkdir()
    upload(saved, Place(pyarrow.fs.PyFileSystem(Watching(tmp_path / "remote", 0)), "x", "test://x"))
    assert names[-1] == "manifest.json" and len(names) == 3


def test_damage_in_the_storage_is_named(saved: Path, bucket: str) -> None:
    place = open_place(f"{bucket}/x")
    upload(saved, place)
    memory = fsspec.filesystem("memory")
    whole = memory.cat("/bucket/x/model.safetensors")
    memory.pipe("/bucket/x/model.safetensors", whole[:-1] + bytes([whole[-1] ^ 1]))
    message = refusal(lambda: read_state(f"{bucket}/x"), RefusalReason.CORRUPT)
    assert "memory://bucket/x/model.safetensors" in message and "tmp" not in message
    (check,) = verify(bucket).states
    assert check.problems and "memory://bucket/x/model.safetensors" in check.problems[0]
    memory.rm("/bucket/x/state.json")
    assert not is_complete(f"{bucket}/x") and not list_states(bucket)[0].complete
    assert "state.json" in refusal(lambda: read_state(f"{bucket}/x"), RefusalReason.CORRUPT)
    memory.rm("/bucket/x/manifest.json")
    refusal(lambda: read_manifest(f"{bucket}/x"), RefusalReason.CORRUPT)
    refusal(lambda: verify(bucket), RefusalReason.NOT_A_CHECKPOINT)


def test_another_state_is_not_replaced(saved: Path, config: StableSyncNetConfig, weights: Weights, bucket: str) -> None:
    upload(saved, open_place(f"{bucket}/x"))
    save_state(TrainState(config, weights, step=6), saved.parent / "other")
    refusal(lambda: upload(saved.parent / "other", open_place(f"{bucket}/x")), RefusalReason.EXISTS)
    assert read_state(f"{bucket}/x").step == 5


def test_what_is_not_there_or_not_known(bucket: str) -> None:
    refusal(lambda: inspect(f"{bucket}/nothing.pt"), RefusalReason.MISSING)
    refusal(lambda: read_state("memory://nobody/x"), RefusalReason.MISSING)
    refusal(lambda: read_state("nowhere://x/y"), RefusalReason.STORAGE)
    refusal(lambda: list_states("memory://nobody"), RefusalReason.MISSING)


def test_errors_hold_no_secrets(saved: Path) -> None:
    uri = "s3://AKIAUSER:hush%2Fhush@bucket/x?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"
    message = refusal(lambda: read_state(uri), RefusalReason.STORAGE)
    assert "s3://bucket/x" in message
    assert not any(secret in message for secret in ("AKIAUSER", "hush", "endpoint_override"))
    assert redacted(uri) == "s3://bucket/x"
    assert join(uri, "y").startswith("s3://AKIAUSER:hush%2Fhush@bucket/x/y?endpoint")


def test_mapped_tensors_outlive_their_copy(saved: Path, weights: Weights, bucket: str) -> None:
    upload(saved, open_place(f"{bucket}/x"))
    state = read_state(f"{bucket}/x")
    shutil.rmtree(saved)
    assert weights_hash(state.weights) == weights_hash(weights)


def test_a_name_too_long_for_the_disk_is_refused(tmp_path: Path) -> None:
    message = refusal(lambda: inspect(tmp_path / ("x" * 5000)), RefusalReason.MISSING)
    assert "too long" in message and len(message) < 600
