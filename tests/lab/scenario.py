"""A site from nothing to a finished sweep, with a node that is lost and a head that is restarted on the way.

Videos and a weights-only file are uploaded; everything after that is `ray job submit`, and everything that lasts is in
object storage or in MLflow. At the end it is not asked whether the commands said yes, but what is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.lab import recorded, stored
from tests.lab.hosts import run
from tests.lab.lab import DATA, RUNS, Lab
from tests.lab.leaks import leaks
from tests.lab.nodes import PROGRAMS
from tests.lab.project import PREPARE, STEPS, SWEEP, TRAIN, make_videos, make_weights

NAME, TWIN, SEARCH = "lab-train", "lab-undisturbed", "lab-sweep"
_LOST_AFTER, _STOPPED_AFTER = 60, 200
"""The checkpoints' steps after which a node is lost, and the job is stopped."""


class Transcript:
    """What is done, how long it took, and what turned out wrong."""

    def __init__(self, say: Callable[[str], None] = print, clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock, self._began = say, clock, clock()
        self.wrong: list[str] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A heading; an error in the block is written down, and the scenario goes on."""
        began = self._clock()
        self._say(f"[{began - self._began:5.0f} s] {title}")
        try:
            yield
        except AssertionError as error:
            self.wrong.append(title)
            self.tell(f"FAILED: {error}")
        self.tell(f"took {self._clock() - began:.1f} s")

    def tell(self, text: str) -> None:
        """Something worth knowing, below the heading."""
        for line in text.strip().splitlines():
            self._say(f"          {line}")

    def check(self, holds: bool, what: str) -> None:
        """Write down whether something is as it must be."""
        self.tell(f"{'ok   ' if holds else 'WRONG'} {what}")
        if not holds:
            self.wrong.append(what)

    def verdict(self) -> bool:
        """The last line."""
        said = "everything ended right" if not self.wrong else f"{len(self.wrong)} wrong: {'; '.join(self.wrong)}"
        self._say(f"[{self._clock() - self._began:5.0f} s] verdict: {said}")
        return not self.wrong


def play(transcript: Transcript) -> bool:
    """Run the whole scenario; true when everything ended right."""
    with transcript.step("services, and a head and a worker that share nothing but a network"):
        lab = Lab()
    try:
        transcript.tell(f"S3 (Swift) {lab.s3.endpoint}; MLflow {lab.tracking.uri} over PostgreSQL; Redis; no way out")
        _play(lab, transcript)
    finally:
        lab.close()
    return transcript.verdict()


def _play(lab: Lab, transcript: Transcript) -> None:
    with transcript.step("nodes, and who may use them"):
        transcript.tell("\n".join(f"{address} {name}" for address, name in lab.head.members().items()))
        refused = lab.submit("prepare", "--help", env={"RAY_AUTH_TOKEN": "0" * 64})
        transcript.check(refused.wait() != 0 and "oken" in refused.said, "a job with a wrong token is refused")
    with transcript.step("upload videos and a weights-only file"):
        make_videos(lab.root / "videos")
        make_weights(lab.root / "weights.pt")
        for name in ("videos", "weights.pt"):
            lab.ask(stored.upload, lab.root / name, f"{DATA}/{name}")
        transcript.tell(f"{len(lab.ask(stored.sizes, f'{DATA}/videos'))} files of videos, {DATA}/weights.pt")
    with transcript.step("ray job submit -- python jobs/doctor.py"):
        job = lab.submit("doctor", "--storage", lab.s3.uri(RUNS), "--data", lab.s3.uri(DATA, "videos"))
        transcript.check(job.wait() == 0, "nothing is wrong with the cluster")
        transcript.tell(_last(job.said, 40))
    with transcript.step("ray job submit -- python jobs/prepare.py"):
        job = lab.submit("prepare", lab.s3.uri(DATA, "videos"), "--out", lab.s3.uri(DATA, "corpus"), *PREPARE)
        transcript.tell(_last(job.finish()))
    with transcript.step("ray job submit -- python jobs/normalize.py"):
        weights, states = lab.s3.uri(DATA, "weights.pt"), lab.s3.uri(DATA, "states")
        transcript.tell(_last(lab.submit("normalize", weights, "--out", states, "--config", TRAIN).finish()))
    with transcript.step("ray job submit -- python jobs/train.py: two workers on two nodes, one of which is lost"):
        _train(lab, transcript)
    with transcript.step("the same training, undisturbed"):
        lab.submit("train", TRAIN, "--name", TWIN, *lab.places()).finish(600)
        ends = [_tensors(lab, f"{RUNS}/{name}/step-{STEPS:09d}") for name in (NAME, TWIN)]
        transcript.check(bool(ends[0]) and ends[0] == ends[1], f"both ended with the same bits in {sorted(ends[0])}")
    with transcript.step("SIGKILL of the head; it starts again over Redis, the worker stays"):
        lab.restart_head()
        lab.head.wait_for_members(2)
        known = run(lab.head.machine, [PROGRAMS / "ray", "job", "list"], env=lab.head.variables)
        transcript.check(NAME in known, "it knows the jobs of its former life")
    with transcript.step("ray job submit -- python jobs/sweep.py"):
        transcript.tell(_last(lab.submit("sweep", SWEEP, "--name", SEARCH, *lab.places()).finish(600)))
    with transcript.step("what is there at the end"):
        _judge(lab, transcript)


def _train(lab: Lab, transcript: Transcript) -> None:
    job = lab.submit("train", TRAIN, "--name", NAME, *lab.places())
    lab.until_saved(job, NAME, _LOST_AFTER)
    transcript.check(sorted(lab.where("RayTrainWorker")) == ["head", "worker-1"], "its two workers are on two nodes")
    lost = lab.kill_worker()
    transcript.tell(f"SIGKILL of all of {lost.machine.name} after the checkpoint of step {lab.saved(NAME)[-1]}")
    transcript.tell(f"{lab.add_worker().machine.name} joins")
    lab.until_saved(job, NAME, _STOPPED_AFTER)
    job.stop()
    job.wait()
    transcript.tell(f"ray job stop after the checkpoint of step {lab.saved(NAME)[-1]}: {_last(job.said, 2)}")
    transcript.tell(_last(lab.submit("train", TRAIN, "--name", NAME, *lab.places()).finish(600)))


def _judge(lab: Lab, transcript: Transcript) -> None:
    runs = lab.call(recorded.runs, lab.tracking.uri)
    top = sorted((run.name, run.status) for run in runs if run.parent is None)
    named = [(name, "FINISHED") for name in sorted((NAME, TWIN, SEARCH))]
    transcript.check(top == named, f"one run each in MLflow: {top}")
    transcript.check(all(run.status == "FINISHED" for run in runs), f"and {len(runs) - len(top)} trials, all FINISHED")
    twice = [f"{run.name}: {key}" for run in runs for key in run.repeated]
    transcript.check(not twice, f"no metric was recorded twice at a step {twice or ''}")
    losses = [max(run.steps.get("train/loss", [0])) for run in runs if run.name == NAME]
    transcript.check(losses == [STEPS], f"the run was recorded up to step {losses}")
    for step in lab.saved(NAME):
        told = _command(lab, "verify", lab.s3.uri(RUNS, f"{NAME}/step-{step:09d}"))
        transcript.tell(f"ok    the checkpoint of step {step} is whole: {_last(told, 1)}")
    transcript.check(STEPS in lab.saved(NAME), "the last step has one")
    everywhere = [name for bucket in (DATA, RUNS) for name in lab.ask(stored.sizes, bucket)]
    hidden = [name for name in everywhere if name.endswith(".tmp")]
    transcript.tell(f"{len(everywhere)} objects, {len(hidden)} of them hidden, left by killed writers {hidden or ''}")
    found = leaks(lab)
    transcript.check(not found, f"no secret in logs, objects and records {found or ''}")


def _tensors(lab: Lab, where: str) -> dict[str, str]:
    """Digests of the files of tensors in a checkpoint."""
    return {name: digest for name, digest in lab.ask(stored.digests, where).items() if name.endswith(".safetensors")}


def _command(lab: Lab, *arguments: str) -> str:
    """What a command of the product says on the head; it must end well."""
    project = {"PYTHONPATH": str(lab.head.machine.folder / "project")}
    command = [PROGRAMS / "python", "-m", "orchestrator.cli", *arguments]
    return run(lab.head.machine, command, env={**lab.head.variables, **project})


def _last(text: str, count: int = 12) -> str:
    """The end of what a job said, without what Ray says about it."""
    lines = [line for line in text.splitlines() if line.strip() and " -- " not in line]
    return "\n".join(lines[-count:])
