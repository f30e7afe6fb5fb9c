"""What containers run, run here: the head's command and every health check, as the files have them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.scripts.scripts import start as ray_start

from tests.cluster.alone import OWN_MACHINE, missing
from tests.cluster.manifests import CLUSTER
from tests.cluster.test_image import instructions

_SERVICES: dict[str, Any] = yaml.safe_load((CLUSTER / "compose" / "compose.yaml").read_text())["services"]
_SCRIPT = """
RAY_AUTH_TOKEN= ray start --head --num-cpus=0 2>&1 | grep -o -m 1 'no authentication token was found'
ray stop > stopped 2>&1
{head} > head.txt 2>&1 &
head=$!
for check in {checks}; do
    until sh -c "$check" 2> /dev/null; do
        kill -0 $head || {{ cat head.txt; exit 1; }}
        sleep 0.5
    done
    echo "healthy: $check"
done
wget -q -O - http://127.0.0.1:8080/metrics | grep -c '^ray_' > /dev/null && echo metrics
wget -S -q -O - http://127.0.0.1:8265/api/jobs/ 2>&1 | grep -o -m 1 '401 Unauthorized'
kill -TERM $head
wait $head
grep -o -m 1 'Local node finished draining' head.txt
"""
"""Before the head there is nothing that answers, so that a check which succeeds has found this one."""


@pytest.mark.parametrize("name", ["head", "worker"])
def test_ray_knows_the_options_of_a_command(name: str) -> None:
    words = _SERVICES[name]["command"]
    known = {option for parameter in ray_start.params for option in parameter.opts}
    assert words[:2] == ["ray", "start"]
    assert {word.partition("=")[0] for word in words[2:]} <= known
    assert "--block" in words  # else the container ends at once


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_head_wants_its_token_answers_the_checks_and_leaves_in_order() -> None:
    (image_check,) = (words for name, words in instructions(_dockerfile()) if name == "HEALTHCHECK")
    checks = [shlex.join(_SERVICES["head"]["healthcheck"]["test"][1:]), shlex.join(_exec_form(image_check))]
    script = _SCRIPT.format(head=shlex.join(_SERVICES["head"]["command"]), checks=" ".join(map(shlex.quote, checks)))
    with tempfile.TemporaryDirectory(prefix="head-", dir="/tmp") as short:  # Ray's sockets have short names
        done = subprocess.run(
            [*OWN_MACHINE, "bash", "-c", script],
            cwd=short,
            env={**os.environ, **_environment(), "PATH": _path(), "HOME": short, "RAY_TMPDIR": short},
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )
    assert done.stdout.splitlines() == [
        "no authentication token was found",
        *(f"healthy: {check}" for check in checks),
        "metrics",
        "401 Unauthorized",
        "Local node finished draining",
    ], done.stderr


def _dockerfile() -> str:
    return (CLUSTER / "image" / "Dockerfile").read_text()


def _environment() -> dict[str, str]:
    """The image's own, and a token."""
    words = next(words for name, words in instructions(_dockerfile()) if name == "ENV")
    return dict(word.split("=", 1) for word in shlex.split(words)) | {"RAY_AUTH_TOKEN": "of-this-test"}


def _exec_form(words: str) -> list[str]:
    return list(yaml.safe_load(words[words.index("CMD ") + 4 :]))


def _path() -> str:
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"
