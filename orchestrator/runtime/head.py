"""Knocking at the head of a Ray cluster before joining it: who is there, and does it let this process in?

Why: Ray waits minutes for a head that is silent and twenty seconds with a wrong token, fills the screen meanwhile, and
in the end may take the process with it. Contract: an answer, or one error that says what is wrong, within the seconds
that are given; nothing is started and nothing stays connected.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import RunError
from orchestrator.storage import redacted

PATIENCE_S = 10.0
"""Seconds for the answer of a head."""
_RESTART_S = 3.0
"""Seconds for which a closed port may be that of a head that is just being started again."""
_PAUSE_S = 0.5
_DEFAULT_PORTS = {"ray": 10001}
_OPTIONS = [("grpc.enable_http_proxy", 0)]
"""Ray's own connections do not go through a proxy either."""
_RUNNING = "is the head running, and its port open from here? or unset RAY_ADDRESS for a local Ray"
_TOKEN = (
    "set RAY_AUTH_MODE=token and give the cluster's token: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or the file "
    "~/.ray/auth_token"
)


@dataclass(frozen=True)
class Head:
    """A head that answers."""

    address: str
    """HOST:PORT."""
    ray_version: str
    """The version of Ray that it runs."""
    asks_for_token: bool
    """Whether it refuses whoever has no token."""


def knock(address: str, *, patience_s: float = PATIENCE_S, restart_s: float = _RESTART_S) -> Head | None:
    """Ask the head at an address whether it is there.

    Args:
        address: as RAY_ADDRESS has it.
        patience_s: seconds for an answer.
        restart_s: seconds for which a closed port is tried again.

    Returns:
        The head; none where only `ray.init` can tell: a Ray of this machine's own, and Ray's client protocol.

    Raises:
        RunError: there is none, it is silent, or it refuses this process's token.
    """
    where = f"Ray at {redacted(address)}"
    if address == "local":
        return None
    if address.startswith(("http://", "https://")):
        hint = "that is where jobs are submitted; on the cluster RAY_ADDRESS=auto, or HOST:6379"
        raise RunError(f"{where} is no address that a program can join", hint=hint)
    place = _found_here() if address == "auto" else _place(address, where)
    if place is None:
        raise RunError("no Ray runs on this machine, which RAY_ADDRESS=auto asks for", hint="`ray start`, or HOST:6379")
    if address.startswith("ray://"):
        return None
    version = _patiently(lambda: _version(place, patience_s, where), restart_s)
    return Head(place, version, _refuses_strangers(place, patience_s))


def host_and_port(address: str) -> tuple[str, int] | None:
    """Where an address of Ray leads; none for `auto`, which only the machine itself can tell.

    Raises:
        ValueError: it is no address.
    """
    if address == "auto":
        return None
    scheme, _, rest = address.rpartition("://")
    host, colon, port = rest.partition("/")[0].rpartition(":")
    if not colon:
        host, port = rest.partition("/")[0], str(_DEFAULT_PORTS.get(scheme, ""))
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("an address of Ray is `auto`, HOST:PORT or ray://HOST:PORT")
    return host.strip("[]"), int(port)


class _Away(Exception):
    """Nobody listens there, for now."""


def _found_here() -> str | None:
    """The head that `ray start` has started here, as Ray finds it."""
    from ray._private.services import find_bootstrap_address, find_gcs_addresses

    return find_bootstrap_address(None) or next(iter(find_gcs_addresses()), None)


def _place(address: str, where: str) -> str:
    try:
        host, port = host_and_port(address) or ("", 0)
    except ValueError as error:
        raise RunError(f"{where} cannot be joined: {error}", hint="set RAY_ADDRESS to the head's HOST:6379") from None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _patiently(ask: Callable[[], str], restart_s: float) -> str:
    deadline = time.monotonic() + restart_s
    while True:
        try:
            return ask()
        except _Away as error:
            if time.monotonic() >= deadline:
                raise RunError(str(error), hint=_RUNNING) from None
        time.sleep(_PAUSE_S)


def _version(place: str, patience_s: float, where: str) -> str:
    """Ray's version of the head that answers at HOST:PORT."""
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.exceptions import AuthenticationError

    try:
        with init_grpc_channel(place, _OPTIONS) as channel:
            return str(_alive(channel, patience_s).ray_version)
    except AuthenticationError as error:  # it is to be shown, but cannot be read
        raise RunError(f"{where} cannot be asked: {_sentence(str(error))}", hint=_TOKEN) from None
    except grpc.RpcError as error:
        words = _sentence(error.details() or "")
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            raise RunError(f"{where} refuses this token, or that there is none: {words}", hint=_TOKEN) from None
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            hint = "nothing comes back from there: is it the head's port (6379), and no firewall between?"
            raise RunError(f"{where} does not answer within {patience_s:g} s", hint=hint) from None
        raise _Away(f"{where} cannot be reached: {words}") from None


def _refuses_strangers(place: str, patience_s: float) -> bool:
    """Whether a call without any token is refused."""
    import grpc

    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return True  # who has no certificate does not get as far as a token
    try:
        with grpc.insecure_channel(place, _OPTIONS) as channel:
            _alive(channel, patience_s)
    except grpc.RpcError as error:
        return bool(error.code() is grpc.StatusCode.UNAUTHENTICATED)
    return False


def _alive(channel: Any, patience_s: float) -> Any:
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
    return stub.CheckAlive(gcs_service_pb2.CheckAliveRequest(), timeout=patience_s)  # type: ignore[attr-defined]


def _sentence(text: str) -> str:
    """The part of an error's text that a person needs: its first sentence, without the layers it came through."""
    return " ".join(text.split()).rpartition("Failed to connect to remote host: ")[2].partition(". ")[0][:200]
