"""Knocking at a head: each trouble is one error that says what to do, and comes soon."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.errors import RunError
from orchestrator.runtime.head import host_and_port, knock
from tests.runtime import heads

TOKEN = "0123456789abcdef0123456789abcdef"
KNOCK = """
import sys
from orchestrator.errors import RunError
from orchestrator.runtime.head import knock
try:
    print(knock(sys.argv[1], restart_s=0))
except RunError as error:
    print(error)
"""
"""In a process of its own, because Ray reads its token once."""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("auto", None),
        ("10.0.0.1:6379", ("10.0.0.1", 6379)),
        ("ray://head:10001", ("head", 10001)),
        ("ray://head", ("head", 10001)),
        ("[::1]:6379", ("::1", 6379)),
    ],
)
def test_addresses_of_ray(address: str, expected: tuple[str, int] | None) -> None:
    assert host_and_port(address) == expected


@pytest.mark.parametrize("address", ["nowhere", "host:", "host:99999999", ":6379"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        host_and_port(address)
    with pytest.raises(RunError, match="cannot be joined"):
        knock(address)


def test_a_head_tells_its_version_and_whether_it_asks_for_a_token() -> None:
    with heads.head("2.60.1") as open_to_all, heads.head(token=TOKEN) as closed:
        found = knock(open_to_all)
        assert found is not None and (found.ray_version, found.asks_for_token) == ("2.60.1", False)
        assert "asks_for_token=True" in knocked(closed, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN})


def test_a_wrong_or_missing_token_is_one_error(tmp_path: Path) -> None:
    with heads.head(token=TOKEN) as closed:
        wrong = knocked(closed, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN[::-1]})
        missing = knocked(closed, {"RAY_AUTH_MODE": "disabled"})
        unreadable = knocked(closed, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")})
    for said in (wrong, missing):
        assert (
            said.startswith(f"Ray at {closed} refuses this token, or that there is none") and "RAY_AUTH_TOKEN" in said
        )
    assert "cannot be opened or is empty" in unreadable and "RAY_AUTH_MODE=token" in unreadable
    for said in (wrong, missing, unreadable):
        assert TOKEN[::-1] not in said and len(said.splitlines()) == 2, said


def test_silence_and_a_closed_port_end_in_time() -> None:
    with heads.silent() as address, pytest.raises(RunError, match=f"{address} does not answer within 0.3 s"):
        knock(address, patience_s=0.3)
    with pytest.raises(RunError, match="cannot be reached: Connection refused") as refused:
        knock(heads.nobody(), restart_s=0)
    assert "is the head running" in refused.value.hint


def test_a_head_that_is_just_starting_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    address, pauses = heads.nobody(), []
    with ExitStack() as stack:

        def started(_: float) -> None:
            if not pauses:
                stack.enter_context(heads.head(at=address))
            pauses.append(1)

        monkeypatch.setattr("orchestrator.runtime.head.time.sleep", started)
        assert knock(address, restart_s=60) is not None
    assert pauses


def test_what_no_program_can_join() -> None:
    assert knock("local") is None
    with pytest.raises(RunError, match="no address that a program can join"):
        knock("http://127.0.0.1:8265")


def knocked(address: str, env: Mapping[str, str]) -> str:
    """What a process with these variables prints that knocks at an address."""
    command = [sys.executable, "-c", KNOCK, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **env})
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.strip()
