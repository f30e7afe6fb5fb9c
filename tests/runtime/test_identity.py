"""What a run is called by: no credentials are written down, and new ones make no other run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig, apply_settings
from orchestrator.errors import RunError
from orchestrator.runtime.identity import claim
from orchestrator.runtime.lease import driving
from orchestrator.runtime.paths import RunPaths, read_json, write_json


def test_credentials_in_addresses_are_not_kept_and_may_change(tiny_config: RunConfig, tmp_path: Path) -> None:
    paths = RunPaths(tmp_path, "a")
    assert not claim(paths, at(tiny_config, "user:hidden-word@bucket"), {"corpus": "1"})
    assert "hidden-word" not in paths.identity.read_text()
    assert claim(paths, at(tiny_config, "user:other-word@bucket"), {"corpus": "1"})
    with pytest.raises(RunError, match=r"exists with other settings: `start\.checkpoint` was") as caught:
        claim(paths, at(tiny_config, "user:other-word@basket"), {"corpus": "1"})
    assert "word" not in str(caught.value)
    with pytest.raises(RunError, match="`corpus` was '1' and is '2'"):
        claim(paths, at(tiny_config, "user:other-word@bucket"), {"corpus": "2"})


def test_settings_that_an_older_run_did_not_know_count_as_their_defaults(
    tiny_config: RunConfig, tmp_path: Path
) -> None:
    paths = RunPaths(tmp_path, "a")
    claim(paths, tiny_config, {})
    old = read_json(paths.identity)
    assert old is not None
    del old["settings"]["train.ema_decay"]
    old["settings"]["checkpoint.every"] = 99  # was once part of what a run means
    write_json(paths.identity, old)
    changed = apply_settings(tiny_config, {"speed.compile": True, "checkpoint.every": 5, "scale.num_workers": 3})
    assert claim(paths, changed, {})
    with pytest.raises(RunError, match=r"`train\.ema_decay` was 0\.0 and is 0\.9"):
        claim(paths, apply_settings(tiny_config, {"train.ema_decay": 0.9}), {})
    with pytest.raises(RunError, match=r"`checkpoint\.metric` was"):
        claim(paths, apply_settings(tiny_config, {"checkpoint.metric": "val/loss"}), {})


@pytest.mark.parametrize("content", ['{"state": "run', "[]", ""])
def test_a_damaged_record_costs_the_record_alone(content: str, tmp_path: Path) -> None:
    file = tmp_path / "status.json"
    file.write_text(content)
    with pytest.raises(RunError, match=r"status\.json is damaged") as caught:
        read_json(file)
    assert caught.value.hint is not None and "remove this file" in caught.value.hint


def test_a_storage_that_takes_nothing_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")  # nobody may make a folder in a file
    paths = RunPaths(tmp_path / "file", "a")
    with pytest.raises(RunError, match=r"a cannot be written: Not a directory"), driving(paths):
        pass
    with pytest.raises(RunError, match=r"status\.json cannot be written: Not a directory"):
        write_json(paths.status, {})
    (tmp_path / "taken" / "inside").mkdir(parents=True)  # and no file takes the place of a folder
    with pytest.raises(RunError, match="cannot be written"):
        write_json(tmp_path / "taken", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def at(config: RunConfig, place: str) -> RunConfig:
    """The configuration with its corpus and its checkpoint in object storage."""
    changes: dict[str, Any] = {
        "data": config.data.model_copy(update={"path": f"s3://{place}/corpus"}),
        "start": config.start.model_copy(update={"checkpoint": f"s3://{place}/file.pt"}),
    }
    return config.model_copy(update=changes)
