"""Memory of the host: kept when it is freed, and never against somebody's own choice."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from orchestrator.training.host_memory import ask_for_huge_pages

PROGRAM = """
import sys
from orchestrator.training.host_memory import keep_freed_memory

def resident():
    fields = dict(line.split(":") for line in open("/proc/self/status"))
    return int(fields["VmRSS"].split()[0]) >> 10

if sys.argv[1] == "keep":
    keep_freed_memory()
before = resident()
block = b"x" * (300 << 20)
del block
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="nothing is done elsewhere")
def test_freed_memory_is_kept_only_where_it_was_asked_for() -> None:
    kept, usual = (
        int(subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True).stdout)
        for how in ("keep", "usual")
    )
    assert kept >= 290 and usual < 50


def test_somebodys_own_choice_of_pages_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    ask_for_huge_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    ask_for_huge_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
