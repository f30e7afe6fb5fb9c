"""Heads of Ray clusters that are none: they answer the first question, or refuse it, or say nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc


@contextmanager
def head(
    version: str = "2.60.0",
    token: str | None = None,
    at: str = "127.0.0.1:0",
    kept: MutableMapping[bytes, bytes] | None = None,
) -> Iterator[str]:
    """A head that says which Ray it is, to whoever has its token; its address.

    Args:
        version: which Ray.
        token: the token; none asks for none.
        at: where it listens.
        kept: what it keeps for others, as Ray's key-value store; none has no such store.
    """

    class Service(gcs_service_pb2_grpc.NodeInfoGcsServiceServicer):
        """Answers `CheckAlive` and nothing else."""

        def CheckAlive(self, request: Any, context: grpc.ServicerContext) -> Any:
            """As Ray's own answers it."""
            given = dict(context.invocation_metadata()).get("authorization")
            if token is not None and given != f"Bearer {token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken: it is missing or incorrect")
            return gcs_service_pb2.CheckAliveReply(ray_version=version)

    class Store(gcs_service_pb2_grpc.InternalKVGcsServiceServicer):
        """Keeps values of the namespace `job`."""

        def InternalKVGet(self, request: Any, context: grpc.ServicerContext) -> Any:
            """A value, or none."""
            assert kept is not None and request.namespace == b"job"
            return gcs_service_pb2.InternalKVGetReply(value=kept.get(request.key, b""))

        def InternalKVPut(self, request: Any, context: grpc.ServicerContext) -> Any:
            """Keep a value."""
            assert kept is not None and request.namespace == b"job" and request.overwrite
            kept[request.key] = request.value
            return gcs_service_pb2.InternalKVPutReply()

    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        gcs_service_pb2_grpc.add_NodeInfoGcsServiceServicer_to_server(Service(), server)
        if kept is not None:
            gcs_service_pb2_grpc.add_InternalKVGcsServiceServicer_to_server(Store(), server)
        port = server.add_insecure_port(at)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


@contextmanager
def silent() -> Iterator[str]:
    """Somebody who listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def nobody() -> str:
    """An address of this machine at which nobody listens."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{place.getsockname()[1]}"
