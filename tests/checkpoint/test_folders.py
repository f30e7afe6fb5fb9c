"""Folders beyond those of the zoo: the parts of a format that its usual files do not show, and hostile ones."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import Tensor

from orchestrator.checkpoint import inspect
from orchestrator.checkpoint.formats import Contents, read_checkpoint, scan
from orchestrator.errors import CheckpointError, RefusalReason

from .conftest import refusal

CORRUPT, UNSAFE, UNSUPPORTED = RefusalReason.CORRUPT, RefusalReason.UNSAFE, RefusalReason.UNSUPPORTED
OTHER = RefusalReason.NOT_A_CHECKPOINT
A, B = torch.arange(6.0).reshape(2, 3), torch.arange(5.0) + 10
NET = {"a": A, "b": B}
ANCHOR = "audio_encoder.conv_in.weight"
"""A name by which a StableSyncNet is known."""


def told(contents: Contents, field: str) -> str:
    """Why something was settled."""
    return " ".join(note.why for note in contents.notes if note.field == field)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


# ---- weights with an index


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    save_file({"a": A, "b": B}, tmp_path / "one.safetensors")
    save_file({"b": B}, tmp_path / "two.safetensors")
    write_json(tmp_path / "m.safetensors.index.json", {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})
    message = refusal(lambda: read_checkpoint(tmp_path), CORRUPT)
    assert "`b` is in two of its files, one.safetensors and two.safetensors" in message


@pytest.mark.parametrize(
    "text",
    ['{"weight_map": [1]}', '{"weight_map": {}}', '{"weight_map"', '{"weight_map": {"a": 1e999}}', "[" * 100_000,
     '{"weight_map": {"a": "x", "a": "y"}}', '{"weight_map": {"a": ""}}', '{"weight_map": {"a": "\\ud800"}}'],
)  # fmt: skip
def test_nonsense_in_an_index_is_damage(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    refusal(lambda: read_checkpoint(tmp_path), CORRUPT)


def test_several_indexes_are_several_models(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_json(tmp_path / f"{name}.safetensors.index.json", {"weight_map": {"a": "a.safetensors"}})
    assert "one.safetensors.index.json, two" in refusal(lambda: read_checkpoint(tmp_path), UNSUPPORTED)


# ---- hubs and trainers


def test_what_a_trainer_wrote_beside_the_weights_comes_along(tmp_path: Path) -> None:
    save_file(NET, tmp_path / "model.safetensors")
    torch.save({"state": {}, "param_groups": []}, tmp_path / "optimizer.pt")
    torch.save({"last_epoch": 3}, tmp_path / "scheduler.pt")
    write_json(tmp_path / "trainer_state.json", {"global_step": 7, "epoch": 1.75})
    (tmp_path / "training_args.bin").write_bytes(pickle.dumps(os.system))
    contents = read_checkpoint(tmp_path)
    assert contents.container == "huggingface"
    assert contents.data["global_step"] == 7 and contents.data["epoch"] == 1
    assert contents.data["scheduler"] == {"last_epoch": 3}
    assert torch.equal(contents.data["model"]["a"], A)
    assert "training_args.bin" in str(contents.notes[-1].value) and not contents.placeholders


def test_what_a_trainer_wrote_beside_shards_comes_along(tmp_path: Path) -> None:
    save_file(NET, tmp_path / "one.safetensors")
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": dict.fromkeys(NET, "one.safetensors")})
    torch.save({"state": {}, "param_groups": []}, tmp_path / "optimizer.pt")
    assert "optimizer.pt" in str(read_checkpoint(tmp_path).notes[-1].value)  # whose it is, is not certain
    write_json(tmp_path / "trainer_state.json", {"global_step": 7, "epoch": 1.75})
    data = read_checkpoint(tmp_path).data
    assert data["global_step"] == 7 and data["optimizer"] == {"state": {}, "param_groups": []}


def test_rays_own_notes_hold_no_weights(tmp_path: Path) -> None:
    (tmp_path / "dict_checkpoint.pkl").write_bytes(pickle.dumps({"model": NET, "epoch": 3}))
    for name in (".metadata.pkl", ".tune_metadata", ".is_checkpoint"):
        (tmp_path / name).write_bytes(pickle.dumps({"checkpoint_type": "TorchCheckpoint"}))
    assert read_checkpoint(tmp_path).data["epoch"] == 3


def test_strings_beside_safetensors_are_kept(tmp_path: Path) -> None:
    save_file(NET, tmp_path / "diffusion_pytorch_model.safetensors", {"step": "9"})
    write_json(tmp_path / "config.json", {"_class_name": "StableSyncNet"})
    assert read_checkpoint(tmp_path).metadata["step"] == "9"


def test_an_optimizer_of_its_own_file_gives_the_step(tmp_path: Path) -> None:
    torch.save(NET, tmp_path / "net.pth")
    states = {number: {"step": torch.tensor(4.0)} for number in range(2)}
    torch.save({"state": states, "param_groups": []}, tmp_path / "optimizer.pth")
    contents = read_checkpoint(tmp_path)
    assert contents.data["step"] == 4 and "optimizer" in told(contents, "step")


def test_of_twins_the_safe_one_is_read(tmp_path: Path) -> None:
    save_file(NET, tmp_path / "model.safetensors")
    torch.save({"a": A * 2}, tmp_path / "pytorch_model.bin")
    contents = read_checkpoint(tmp_path)
    assert torch.equal(contents.data["a"], A)
    assert "pytorch_model.bin" in str(contents.notes)


def test_several_files_of_weights_are_listed(tmp_path: Path) -> None:
    for step in (500, 1000, 9):
        torch.save(NET, tmp_path / f"checkpoint-{step}.pt")
    message = refusal(lambda: read_checkpoint(tmp_path), OTHER)
    assert "checkpoint-9.pt, checkpoint-500.pt, checkpoint-1000.pt" in message
    assert f"e.g. {tmp_path.name}/checkpoint-1000.pt, the newest" in message


def test_the_folder_one_stands_in_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one.pt", "two.pt"):
        torch.save(NET, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    message = refusal(lambda: inspect("."), OTHER)
    assert message.startswith(tmp_path.name) and "e.g. two.pt" in message


def test_a_run_with_several_checkpoints_names_the_newest(tmp_path: Path) -> None:
    for number in (1, 9, 10):
        (tmp_path / f"checkpoint_{number:06}").mkdir()
        torch.save(NET, tmp_path / f"checkpoint_{number:06}" / "model.pt")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert f"e.g. {tmp_path.name}/checkpoint_000010" in refusal(lambda: read_checkpoint(tmp_path), OTHER)


def test_a_hubs_cache_is_read_through_its_own_links(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--some" / "blobs", tmp_path / "models--some" / "snapshots" / "4f1c"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    save_file(NET, blobs / "0d71")
    (snapshot / "model.safetensors").symlink_to("../../blobs/0d71")
    assert torch.equal(read_checkpoint(snapshot).data["a"], A)
    (snapshot / "model.safetensors").unlink()
    save_file(NET, tmp_path / "elsewhere")
    (snapshot / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    refusal(lambda: read_checkpoint(snapshot), UNSAFE)


def test_a_folder_around_one_checkpoint_names_it(tmp_path: Path) -> None:
    write_json(tmp_path / "state" / "state.json", {})
    save_file(NET, tmp_path / "state" / "model.safetensors")
    assert f"e.g. {tmp_path.name}/state" in refusal(lambda: read_checkpoint(tmp_path), OTHER)


def test_our_own_in_an_archive_is_not_read_in_part(tmp_path: Path) -> None:
    inside = {"s/state.json": b"{}", "s/model.safetensors": safe_bytes()}
    (tmp_path / "state.tar").write_bytes(tar_of(inside))
    assert "unpack" in refusal(lambda: read_checkpoint(tmp_path / "state.tar"), UNSUPPORTED)


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    for name in ("model.safetensors", "latest", ".metadata", "MLmodel", "x.distcp", "config.json"):
        os.mkfifo(tmp_path / name)
    refusal(lambda: read_checkpoint(tmp_path), OTHER)
    refusal(lambda: read_checkpoint(tmp_path / "latest"), OTHER)


def test_folders_in_archives_in_folders_come_to_an_end(tmp_path: Path) -> None:
    inner = safe_bytes()
    for _ in range(6):
        inner = tar_of({"model.pt": inner, "notes.json": b"{}"})
    (tmp_path / "net.tar").write_bytes(inner)
    assert "in one another" in refusal(lambda: read_checkpoint(tmp_path / "net.tar"), CORRUPT)


def safe_bytes() -> bytes:
    from safetensors.torch import save

    return save(NET)


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


# ---- Accelerate


def accelerate(folder: Path, **models: dict[str, Tensor]) -> Path:
    for name, weights in models.items():
        save_file(weights, folder / f"{name}.safetensors")
    torch.save({"step": 5, "random_state": (3, (1, 2), None)}, folder / "random_states_0.pkl")
    return folder


def test_of_several_models_the_syncnet_is_taken(tmp_path: Path) -> None:
    accelerate(tmp_path, model={"generator.weight": A}, model_1={ANCHOR: B})
    for number, name in enumerate(("optimizer.bin", "optimizer_1.bin")):
        torch.save({"state": {0: {"step": number + 3}}, "param_groups": []}, tmp_path / name)
    contents = read_checkpoint(tmp_path)
    assert list(contents.data["model"]) == [ANCHOR]
    assert contents.data["step"] == 4
    assert "only this one is a SyncNet" in told(contents, "weights")


def test_two_models_that_could_be_meant_are_refused(tmp_path: Path) -> None:
    accelerate(tmp_path, model={ANCHOR: A}, model_1={ANCHOR: B})
    assert "of which 2 look" in refusal(lambda: read_checkpoint(tmp_path), UNSUPPORTED)


def test_a_registered_counter_gives_step_and_epoch(tmp_path: Path) -> None:
    accelerate(tmp_path, model=NET)
    torch.save({"global_step": 70, "epoch": 2}, tmp_path / "custom_checkpoint_0.pkl")
    contents = read_checkpoint(tmp_path)
    assert (contents.data["step"], contents.data["epoch"]) == (70, 2)
    assert "custom_checkpoint_0.pkl" in told(contents, "step")
    assert "random_states_0.pkl" in str(contents.notes[-1].value)


def test_the_folders_of_fsdp_are_read(tmp_path: Path) -> None:
    accelerate(tmp_path)
    save_dcp(tmp_path / "pytorch_model_fsdp_0", {"model": NET})
    save_dcp(tmp_path / "optimizer_0", {"optimizer": {"state": {"a": {"step": torch.tensor(3.0)}}, "param_groups": []}})
    contents = read_checkpoint(tmp_path)
    assert torch.equal(contents.data["model"]["b"], B)
    assert contents.data["step"] == 3


def test_whole_weights_of_fsdp_are_read(tmp_path: Path) -> None:
    accelerate(tmp_path)
    torch.save(NET, tmp_path / "pytorch_model_fsdp.bin")
    torch.save({"state": {"a": {"step": torch.tensor(3.0)}}, "param_groups": []}, tmp_path / "optimizer.bin")
    contents = read_checkpoint(tmp_path)
    assert torch.equal(contents.data["model"]["b"], B) and contents.data["step"] == 3


# ---- torch.distributed.checkpoint


def test_the_metadata_alone_names_its_folder(tmp_path: Path) -> None:
    folder = save_dcp(tmp_path / "step_2", NET)
    message = refusal(lambda: inspect(folder / ".metadata"), RefusalReason.NO_WEIGHTS)
    assert "torch.distributed.checkpoint" in message


def save_dcp(folder: Path, state: dict[str, Any]) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(state, checkpoint_id=folder, no_dist=True)
    return folder


def edit(folder: Path, change: Callable[[Any], None]) -> None:
    """Change the metadata."""
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    change(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def test_nested_lists_come_back(tmp_path: Path) -> None:
    state = {"app": {"model": NET, "list": [{"x": A}, [B, 1]], "optim": {"state": {3: {"step": 2}}}}}
    data = read_checkpoint(save_dcp(tmp_path / "dcp", state)).data
    assert torch.equal(data["list"][0]["x"], A) and torch.equal(data["list"][1][0], B) and data["list"][1][1] == 1
    assert data["optim"]["state"][3] == {"step": 2}


def test_transformed_items_are_refused(tmp_path: Path) -> None:
    folder = save_dcp(tmp_path / "dcp", NET)
    edit(folder, lambda made: [setattr(x, "transform_descriptors", ["zstd"]) for x in made.storage_data.values()])
    assert "zstd" in refusal(lambda: read_checkpoint(folder), UNSUPPORTED)


def _grow(made: Any) -> None:
    made.state_dict_metadata["a"].size = torch.Size((1 << 20, 1 << 20))


def _shrink_piece(made: Any) -> None:
    made.state_dict_metadata["a"].chunks[0].sizes = torch.Size((1, 3))


def _move_piece(made: Any) -> None:
    made.state_dict_metadata["a"].chunks[0].offsets = torch.Size((1, 0))


def _no_pieces(made: Any) -> None:
    made.state_dict_metadata["a"].chunks = None


def _same_place(made: Any) -> None:
    first, second = made.storage_data.values()
    second.offset = first.offset


def _huge_place(made: Any) -> None:
    next(iter(made.storage_data.values())).offset = 1 << 200


def _negative_place(made: Any) -> None:
    next(iter(made.storage_data.values())).offset = -1


def _beyond(made: Any) -> None:
    for place in made.storage_data.values():
        place.offset += 1 << 30


def _nowhere(made: Any) -> None:
    made.storage_data.clear()


def _other_spelling(made: Any) -> None:
    next(iter(made.storage_data.values())).relative_path = "./__0_0.distcp"


def _bad_path(made: Any) -> None:
    made.planner_data = {"a": (0,), "b": ()}


def _clash(made: Any) -> None:
    made.planner_data = {"a": ("x",), "b": ("x", "y")}


def _no_tables(made: Any) -> None:
    made.state_dict_metadata = made.storage_data = None


SPOILERS = (
    _grow, _shrink_piece, _move_piece, _no_pieces, _same_place, _huge_place, _negative_place, _beyond, _nowhere,
    _other_spelling, _bad_path, _clash, _no_tables,
)  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILERS)
def test_wrong_metadata_is_damage(tmp_path: Path, spoil: Callable[[Any], None]) -> None:
    folder = save_dcp(tmp_path / "dcp", NET)
    edit(folder, spoil)
    refusal(lambda: read_checkpoint(folder), CORRUPT)


def test_pieces_that_overlap_are_damage(tmp_path: Path) -> None:
    folder = save_dcp(tmp_path / "dcp", {"a": A[:1].clone(), "b": A[1:].clone()})

    def join(made: Any) -> None:
        """`a` gets both pieces, at the same place in it."""
        one, two = made.state_dict_metadata["a"], made.state_dict_metadata.pop("b")
        one.size = torch.Size((2, 3))
        two.chunks[0].offsets = torch.Size((0, 0))
        one.chunks += two.chunks

    edit(folder, join)
    assert "overlap" in refusal(lambda: read_checkpoint(folder), CORRUPT)


def test_pieces_are_put_together(tmp_path: Path) -> None:
    folder = save_dcp(tmp_path / "dcp", {"a": A[:1].clone(), "b": A[1:].clone()})

    def join(made: Any) -> None:
        one, two = made.state_dict_metadata["a"], made.state_dict_metadata.pop("b")
        one.size = torch.Size((2, 3))
        two.chunks[0].offsets = torch.Size((1, 0))
        one.chunks += two.chunks
        index = next(key for key in made.storage_data if key.fqn == "b")
        made.storage_data[type(index)("a", (1, 0), 1)] = made.storage_data.pop(index)

    edit(folder, join)
    assert torch.equal(read_checkpoint(folder).data["a"], A)


# ---- DeepSpeed


def deepspeed(folder: Path, model: dict[str, Any], *ranks: dict[str, Any]) -> Path:
    torch.save(model, folder / "mp_rank_00_model_states.pt")
    for rank, content in enumerate(ranks):
        torch.save({"optimizer_state_dict": content}, folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    return folder


def two_groups(**more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """`a` and `b` each in a group of its own, one rank; a buffer and a second name for `a`."""
    base = {g: {"exp_avg": t.flatten() + 1, "exp_avg_sq": t.flatten() * 2} for g, t in enumerate((A, B))}
    model = {
        "module": {"b": B.half(), "a": A.half(), "again": A.half(), "mean": torch.ones(2)},
        "buffer_names": ["mean"],
        "param_shapes": [{"a": A.shape}, {"b": B.shape}],
        "shared_params": {"again": "a"},
        "global_steps": 5,
        "lr_scheduler": {"last_batch_iteration": 5},
        **more,
    }
    optimizer = {
        "zero_stage": 1,
        "partition_count": [1, 1],
        "single_partition_of_fp32_groups": [A.flatten(), B],
        "base_optimizer_state": {"state": base, "param_groups": [{"lr": 0.1, "step": 5, "params": [0]}]},
    }
    return model, optimizer


def test_groups_buffers_and_shared_parameters(tmp_path: Path) -> None:
    data = read_checkpoint(deepspeed(tmp_path, *two_groups())).data
    assert list(data["model"]) == ["b", "a", "again", "mean"]
    assert torch.equal(data["model"]["again"], A) and data["model"]["a"].dtype == torch.float32
    assert torch.equal(data["optimizer"]["state"]["b"]["exp_avg"], B + 1)
    assert data["optimizer"]["state"]["a"]["step"] == 5
    assert data["optimizer"]["param_groups"] == [{"lr": 0.1, "params": ["b", "a"]}]
    assert data["global_step"] == 5 and data["lr_scheduler"] == {"last_batch_iteration": 5}


def test_what_the_trainer_added_comes_along(tmp_path: Path) -> None:
    model, optimizer = two_groups(epoch=2, best_loss=0.25, ds_version="0.15", callbacks={"a": 1})
    data = read_checkpoint(deepspeed(tmp_path, model, optimizer)).data
    assert (data["epoch"], data["best_loss"], data["callbacks"]) == (2, 0.25, {"a": 1})
    assert "ds_version" not in data and data["global_step"] == 5


def test_one_rank_is_not_copied(tmp_path: Path) -> None:
    contents = read_checkpoint(deepspeed(tmp_path, *two_groups()))
    part = next(part for part in contents.parts if "optim" in part.blob.name)
    start = torch.frombuffer(part.blob.view, dtype=torch.uint8).data_ptr()
    assert start <= contents.data["model"]["a"].data_ptr() < start + part.blob.size


def test_moments_in_a_list_and_moments_that_do_not_fit(tmp_path: Path) -> None:
    model, optimizer = two_groups()
    states = [{**state, "step": 5} for state in optimizer["base_optimizer_state"]["state"].values()]
    data = read_checkpoint(deepspeed(tmp_path, model, {**optimizer, "base_optimizer_state": states})).data
    assert torch.equal(data["optimizer"]["state"]["a"]["exp_avg"], A + 1)
    contents = read_checkpoint(deepspeed(tmp_path, model, {**optimizer, "base_optimizer_state": states[:1]}))
    assert "optimizer" not in contents.data and "no Adam moments" in told(contents, "optimizer")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("mp_rank_01_model_states.pt", "tensor parallelism"),
        ("layer_01-model_00-model_states.pt", "pipeline"),
        ("layer_0_expert_1_mp_rank_00_model_states.pt", "experts"),
    ],
)
def test_models_cut_in_other_ways_are_refused(tmp_path: Path, name: str, how: str) -> None:
    deepspeed(tmp_path, *two_groups())
    torch.save({}, tmp_path / name)
    assert how in refusal(lambda: read_checkpoint(tmp_path), UNSUPPORTED)


def test_a_missing_description_of_the_module_is_named(tmp_path: Path) -> None:
    folder = deepspeed(tmp_path, *two_groups())
    (folder / "mp_rank_00_model_states.pt").rename(folder / "zero_pp_rank_1_mp_rank_00_model_states.pt")
    message = refusal(lambda: read_checkpoint(folder), CORRUPT)
    assert "zero_pp_rank_0_mp_rank_00_model_states.pt is missing" in message


def test_without_zero_the_module_is_whole(tmp_path: Path) -> None:
    model, _ = two_groups(optimizer={"state": {}, "param_groups": []}, ds_config={"zero_optimization": {"stage": 0}})
    data = read_checkpoint(deepspeed(tmp_path, model)).data
    assert torch.equal(data["model"]["b"], B.half()) and data["optimizer"] == {"state": {}, "param_groups": []}


@pytest.mark.parametrize(
    "change",
    [
        {"single_partition_of_fp32_groups": [A.flatten()]},
        {"single_partition_of_fp32_groups": [A.flatten(), B[:2]]},
        {"single_partition_of_fp32_groups": [A.flatten(), torch.cat([B, B, B])]},
        {"single_partition_of_fp32_groups": [A, B]},
        {"single_partition_of_fp32_groups": "x"},
        {"partition_count": None},
        {"partition_count": 1 << 80},
        {"partition_count": [2, 2]},
        {"partition_count": []},
    ],
)
def test_parts_that_do_not_add_up_are_damage(tmp_path: Path, change: dict[str, Any]) -> None:
    model, optimizer = two_groups()
    refusal(lambda: read_checkpoint(deepspeed(tmp_path, model, {**optimizer, **change})), CORRUPT)


def test_empty_tensors_of_absurd_shapes_do_no_harm(tmp_path: Path) -> None:
    model, optimizer = two_groups(param_shapes=[{"a": A.shape}, {"b": B.shape, "c": (0, *(1 << 47,) * 9)}])
    assert read_checkpoint(deepspeed(tmp_path, model, optimizer)).data["model"]["c"].numel() == 0


@pytest.mark.parametrize("shapes", [None, [{"a": "x"}], [{1: (2,)}], [{"a": (1 << 60, 1 << 60)}], "x", [{"a": (-1,)}]])
def test_wrong_shapes_are_damage(tmp_path: Path, shapes: Any) -> None:
    model, optimizer = two_groups(param_shapes=shapes)
    refusal(lambda: read_checkpoint(deepspeed(tmp_path, model, optimizer)), CORRUPT)


# ---- MLflow


@pytest.mark.parametrize(
    ("text", "reason", "says"),
    [
        ("flavors:\n  python_function: {}\n  sklearn: {}\n", UNSUPPORTED, "`sklearn`"),
        ("flavors: [1]\n", CORRUPT, "no flavors"),
        ("a: [", CORRUPT, "YAML"),
        ("a: 2020-99-99", CORRUPT, "no flavors"),
        ("flavors: !!python/object/apply:os.system [true]", CORRUPT, "no flavors"),
        ("flavors: " + ":".join("1" * 60_000), CORRUPT, "no flavors"),
        ("[" * 5000, CORRUPT, "YAML"),
        ("flavors:\n  pytorch:\n    model_data: ../../etc\n", UNSAFE, "../../etc"),
        ("flavors:\n  pytorch:\n    model_data: [3]\n", CORRUPT, "where"),
        ("flavors:\n  pytorch:\n    model_data: data\n", CORRUPT, "data/model.pth is missing"),
    ],
)
def test_other_models_of_mlflow_are_told(tmp_path: Path, text: str, reason: RefusalReason, says: str) -> None:
    (tmp_path / "MLmodel").write_text(text)
    assert says in refusal(lambda: read_checkpoint(tmp_path), reason)


def test_a_state_dict_logged_as_a_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors:\n  pytorch:\n    model_data: data\n")
    (tmp_path / "data").mkdir()
    torch.save({"state_dict": NET}, tmp_path / "data" / "model.pth")
    contents = read_checkpoint(tmp_path)
    assert contents.container == "mlflow" and torch.equal(contents.data["state_dict"]["a"], A)


# ---- exported programs


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {"path_name": "../x", "use_pickle": False},
        {"path_name": "w", "use_pickle": False, "tensor_meta": {"dtype": 7, "sizes": [{"as_int": 1 << 50}]}},
        {"path_name": "w", "use_pickle": False, "tensor_meta": {"dtype": [], "sizes": 3}},
        {"path_name": "w", "use_pickle": False, "tensor_meta": {
            "dtype": 7, "sizes": [{"as_int": 9}], "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}}},
    ],
)  # fmt: skip
def test_wrong_lists_of_exported_weights_are_damage(tmp_path: Path, entry: Any) -> None:
    (tmp_path / "archive_format").write_text("pt2")
    write_json(tmp_path / "data" / "weights" / "model_weights_config.json", {"config": {"a": entry}})
    (tmp_path / "data" / "weights" / "w").write_bytes(b"\0" * 8)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path)
    assert caught.value.reason in (CORRUPT, UNSAFE)


# ---- checksums


def test_a_flipped_bit_in_an_item_is_found(tmp_path: Path) -> None:
    folder = save_dcp(tmp_path / "dcp", NET)
    data = folder / "__0_0.distcp"
    content = bytearray(data.read_bytes())
    content[content.index(A.numpy().tobytes()) + 5] ^= 1
    data.write_bytes(content)
    contents = read_checkpoint(folder)
    assert "does not match its checksum" in refusal(lambda: scan(folder, contents.parts), CORRUPT)


def test_every_file_that_was_read_is_part_of_the_digest(tmp_path: Path) -> None:
    contents = read_checkpoint(deepspeed(tmp_path, *two_groups()))
    names = [part.blob.name for part in contents.parts]
    assert names == ["mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"]
    assert scan(tmp_path, contents.parts).size == sum((tmp_path / name).stat().st_size for name in names)
