"""Machines of a lab: what they share, how they are cut off and killed, and that nothing is left of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.hosts import listens, run, start, until_answers
from tests.lab.machines import Machine, missing
from tests.processes import is_alive, wait_for

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """A switch and a machine that is plugged into it."""
    switch = Machine("services", 1, tmp_path, None)
    node = Machine("node", 2, tmp_path, switch)
    yield switch, node
    for machine in (node, switch):
        machine.kill()


def test_they_share_a_network_and_no_file(machines: tuple[Machine, Machine]) -> None:
    switch, node = machines
    port = switch.free_port()
    server = start(switch, [sys.executable, "-m", "http.server", str(port), "--bind", switch.address], "http.txt")
    until_answers(switch, port, server, "a web server")
    assert node.call(listens, switch.address, port)
    assert run(node, ["ip", "route", "show", "default"]) == "", "there is no way out"
    run(
        node,
        ["sh", "-c", "echo mine > note; echo mine > $TMPDIR/note; echo mine > $HOME/note; echo mine > /dev/shm/note"],
    )
    seen = run(switch, ["sh", "-c", "find . /dev/shm -name note; hostname"])
    assert seen == "services\n"
    refused = run(node, ["sh", "-c", f"touch {Path(__file__).parent}/note {node.folder.parent}/note 2>&1 || true"])
    assert refused.count("Read-only file system") == 2


def test_one_is_cut_off_slowed_and_mended(machines: tuple[Machine, Machine]) -> None:
    switch, node = machines
    port = node.free_port()
    server = start(node, [sys.executable, "-m", "http.server", str(port), "--bind", node.address], "http.txt")
    until_answers(node, port, server, "a web server")
    node.unplug()
    assert not switch.call(listens, node.address, port)
    node.plug()
    wait_for(lambda: switch.call(listens, node.address, port), "the link", 30)
    discipline = node.slow(mbit=1, ms=50)
    assert discipline in run(node, ["tc", "qdisc", "show", "dev", "eth0"])
    node.fast()
    assert discipline not in run(node, ["tc", "qdisc", "show", "dev", "eth0"])


def test_a_killed_one_comes_back_with_its_files(machines: tuple[Machine, Machine]) -> None:
    switch, node = machines
    sleeper = start(node, ["sleep", "infinity"], "sleep.txt")
    run(node, ["sh", "-c", "echo kept > note"])
    wait_for(lambda: list(node.processes().values()).count("sleep infinity ") == 2, "a process", 30)
    sleeper.pause()
    before = node.processes()
    node.kill()
    wait_for(lambda: not any(map(is_alive, before)), "its processes to be gone", 30)
    assert "port2" not in run(switch, ["ip", "link"])
    node.boot()
    assert run(node, ["cat", "note"]) == "kept\n"
    assert "port2" in run(switch, ["ip", "link"])


def test_nothing_is_left_when_who_made_them_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.lab.machines import Machine\n"
        "switch = Machine('services', 1, Path(sys.argv[1]), None)\n"
        "node = Machine('node', 2, Path(sys.argv[1]), switch)\n"
        "print(*switch.processes(), *node.processes(), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        made = [int(pid) for pid in maker.stdout.readline().split()]
        assert len(made) >= 2 and all(os.path.exists(f"/proc/{pid}") for pid in made)
        maker.kill()
    wait_for(lambda: not any(map(is_alive, made)), "the machines to be gone", 30)
