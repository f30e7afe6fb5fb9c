"""One SQLite store for all tests of tracking, since creating one takes seconds; each test has its own experiment."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.tracking import resolve_uri


@pytest.fixture(scope="session")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store below a folder with a blank in its name, which people have."""
    folder: Path = tmp_path_factory.mktemp("tracking") / "my runs"
    return resolve_uri(None, str(folder), {})


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> str:
    """An experiment of the test's own."""
    return str(request.node.name)
