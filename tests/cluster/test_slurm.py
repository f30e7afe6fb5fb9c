"""The SLURM script, really run: under a `srun`, a `scontrol` and a `ray` that write down what they are asked.

What it decides itself is what counts: what is started where, who hears of the end that comes, and when a job goes back
into the queue. The slow test runs Ray's own `symmetric-run` below it.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from ray.scripts.scripts import start as ray_start

from tests.cluster.alone import OWN_MACHINE, missing
from tests.cluster.manifests import CLUSTER
from tests.cluster.slurm import SCRIPT, Site

_DRIVER = """
import json, os, pathlib, signal, sys, urllib.error, urllib.request
import ray

fake = pathlib.Path(os.environ["FAKE_SLURM"])
ray.init(address="auto", log_to_driver=False)
try:
    urllib.request.urlopen("http://127.0.0.1:8265/api/jobs/", timeout=30)
    print("without a token: let in", flush=True)
except urllib.error.HTTPError as error:
    print("without a token:", error.code, flush=True)

def leave(number, frame):
    found = {"nodes": len(ray.nodes()), "cpus": ray.cluster_resources()["CPU"], "words": sys.argv[1:]}
    (fake / "saved").write_text(json.dumps(found))
    sys.exit(130)

signal.signal(signal.SIGTERM, leave)
os.kill(1, signal.SIGUSR1)  # the batch script, from SLURM
while True:
    signal.pause()
"""


_SHELL = sorted(path for path in CLUSTER.rglob("*") if path.suffix in (".sh", ".sbatch"))
_KNOWN = {
    "job-name",
    "nodes",
    "ntasks-per-node",
    "cpus-per-task",
    "exclusive",
    "time",
    "signal",
    "requeue",
    "open-mode",
    "output",
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Two nodes that are not there."""
    return Site.make(tmp_path)


def test_a_job_runs_on_a_cluster_of_all_nodes(site: Site) -> None:
    code, _ = site.run("ends", "0", "--name", "a b", "data.path=/shared/$x")
    assert code == 0 and not site.requeued
    (step,), (ray,) = site.asked("srun"), site.asked("ray")
    assert step["environment"]["SRUN_CPUS_PER_TASK"] == "16"
    options = ray["arguments"][: ray["arguments"].index("--")]
    pairs = dict(zip(options[1::2], options[2::2], strict=True))
    assert options[0] == "symmetric-run"
    assert pairs.pop("--address") == "node7:6379"
    assert pairs.pop("--min-nodes") == "2"
    assert pairs == {"--num-cpus": "16", "--num-gpus": "4", "--dashboard-host": "127.0.0.1"}
    assert site.asked("python")[-1]["arguments"] == ["ends", "0", "--name", "a b", "data.path=/shared/$x"]


def test_ray_starts_a_node_with_these_options(site: Site) -> None:
    """`symmetric-run` hands them on to `ray start`, on the head and on all others."""
    site.run("ends", "0")
    (ray,) = site.asked("ray")
    known = {option for parameter in ray_start.params for option in parameter.opts}
    used = {word for word in ray["arguments"][: ray["arguments"].index("--")] if word.startswith("--")}
    assert used - known <= {"--min-nodes"}
    assert used.isdisjoint({"--head", "--port", "--node-ip-address", "--block", "--include-dashboard"})


def test_the_token_is_new_and_on_no_command_line(site: Site) -> None:
    site.run("ends", "0")
    site.run("ends", "0")
    environments = [said["environment"] for said in site.asked("ray")]
    tokens = {environment["RAY_AUTH_TOKEN"] for environment in environments}
    assert {environment["RAY_AUTH_MODE"] for environment in environments} == {"token"}
    assert len(tokens) == 2 and all(re.fullmatch("[0-9a-f]{64}", token) for token in tokens)
    lines = [said["arguments"] for program in ("srun", "ray", "python") for said in site.asked(program)]
    assert not any(token in word for token in tokens for words in lines for word in words)


@pytest.mark.parametrize("code", [1, 2, 130])
def test_how_a_job_ended_is_how_the_script_ends(site: Site, code: int) -> None:
    assert site.run("ends", str(code))[0] == code
    assert not site.requeued


def test_before_the_time_limit_the_job_saves_and_goes_back_into_the_queue(site: Site) -> None:
    code, said = site.run("waits", "130", tell=signal.SIGUSR1)
    assert code == 130 and site.saved and site.requeued
    assert "the time limit is near" in said


def test_a_job_that_ends_in_time_does_not_come_back(site: Site) -> None:
    assert site.run("waits", "0", tell=signal.SIGUSR1)[0] == 0
    assert site.saved and not site.requeued


def test_a_job_that_is_terminated_saves_and_does_not_come_back(site: Site) -> None:
    assert site.run("waits", "130", tell=signal.SIGTERM)[0] == 130
    assert site.saved and not site.requeued


def test_the_time_limit_can_come_before_the_driver(site: Site) -> None:
    (site.fake / "ray-hangs").touch()
    code, _ = site.run("waits", "130", tell=signal.SIGUSR1, once="ray-began")
    assert code != 0 and site.requeued
    assert not (site.fake / "runs").exists()


def test_nothing_is_left_behind(site: Site) -> None:
    before = set(site.folder.rglob("*"))
    site.run("ends", "0")
    assert {path.parent for path in set(site.folder.rglob("*")) - before} == {site.fake}


def test_without_a_job_nothing_is_started(site: Site) -> None:
    code, said = site.run()
    assert code == 2 and "no job was given" in said
    assert not (site.fake / "asked").exists()


def test_slurm_knows_the_options_and_gives_time_to_save() -> None:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", SCRIPT.read_text(), re.MULTILINE))
    assert set(options) == _KNOWN
    name, seconds = re.fullmatch(r"B:(\w+)@(\d+)", options["signal"]).groups()  # type: ignore[union-attr]
    assert f"' {name}\n" in SCRIPT.read_text() and int(seconds) > 120
    assert options["open-mode"] == "append"  # what was said before a requeue stays


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_rays_own_command_takes_it_all_and_the_job_saves(tmp_path: Path) -> None:
    """`ray symmetric-run` is real: a head that asks for the token, a driver on it that is told, and an end to both."""
    site = Site.make(tmp_path)
    driver = tmp_path / "driver.py"
    driver.write_text(_DRIVER)
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as short:  # Ray's sockets have short names
        others = {
            "VENV": sys.prefix,
            "FAKE_HOSTS": "127.0.0.1",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_CPUS_PER_TASK": "2",
            "SLURM_GPUS_ON_NODE": "0",
            "RAY_TMPDIR": short,
        }
        code, said = site.run(str(driver), "--name", "first", others=others, below=OWN_MACHINE)
    assert code == 130 and site.saved and site.requeued, said
    assert json.loads((site.fake / "saved").read_text()) == {"nodes": 1, "cpus": 2.0, "words": ["--name", "first"]}
    assert "without a token: 401" in said


@pytest.mark.parametrize("path", _SHELL, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    assert lint(path.read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('python "$@" &', "python $@ &", 2068),
        ('"$SLURM_JOB_NODELIST")', "$SLURM_JOB_NODELIST)", 2086),
        ('cd "${SLURM_SUBMIT_DIR:-$PWD}"', "cd ${SLURM_SUBMIT_DIR:-$PWD}", 2086),
        ("((seen != signals))", "[ $seen > $signals ]", 2071),
        ("\nfi\nexit", "\nexit", 1046),
        ("step=$!", "stepp=$!", 2154),
    ],
)
def test_shellcheck_notices_a_broken_script(old: str, new: str, code: int) -> None:
    text = SCRIPT.read_text()
    assert old in text
    assert code in lint(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('kill -TERM "$(<"$driver")"', 'kill -USR2 "$(<"$driver")"'),  # the driver is not asked, but killed
        ("trap 'limit=yes; ", "trap '"),  # nobody knows what the reason was
        ("trap 'limit=yes; ", "# trap '"),  # the script ends, the job goes on
        ("while ((seen != signals))", "while ((seen == -1))"),  # the script does not wait for the job to save
        ("scontrol requeue", "scontrol release"),
    ],
)
def test_a_script_that_does_not_save_and_come_back_is_noticed(tmp_path: Path, old: str, new: str) -> None:
    text = SCRIPT.read_text()
    assert old in text
    (tmp_path / "broken.sbatch").write_text(text.replace(old, new))
    site = Site.make(tmp_path, tmp_path / "broken.sbatch")
    code, _ = site.run("waits", "130", tell=signal.SIGUSR1)
    assert not (code == 130 and site.saved and site.requeued)


def lint(text: str) -> list[int]:
    """The codes of what shellcheck has to say."""
    command = [Path(sys.executable).with_name("shellcheck"), "--shell=bash", "--format=json", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    return [item["code"] for item in json.loads(done.stdout)]
