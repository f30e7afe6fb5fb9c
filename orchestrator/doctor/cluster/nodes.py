"""What is wrong with the nodes of a cluster: who does not answer, whose versions differ, what they lack.

Pure functions of what was heard. One trouble is one finding that names the node, what it has and what was expected.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from orchestrator.doctor.cluster.facts import Cluster, Node
from orchestrator.doctor.finding import Finding

_GB = 1e9
_FULL_GB = 1.0
_LITTLE_GB = 10.0
_SPILLS_UNTIL = 0.05
"""Share of a disk that must be free, else Ray spills nothing to it any more."""
_NOTHING_BYTES = 16 << 20
"""A disk with less than this is full for everybody."""
_FILES = 8192
_SHARED_GB = 1.0
_SAME = "install the same on every node: the same image, or `pip install -c constraints.txt .`"


def judge(cluster: Cluster) -> list[Finding]:
    """All findings about nodes."""
    checks = (answers, versions, product, gpus, processors, memory, disks, open_files)
    return [finding for check in checks for finding in check(cluster)]


def answers(cluster: Cluster) -> Iterator[Finding]:
    """Who answers, and why others do not."""
    well = cluster.well
    yield Finding("nodes", f"{len(well)} of {len(cluster.nodes)} answer: {', '.join(node.name for node in well)}")
    for node in cluster.nodes.values():
        if node.facts is None:
            yield _silent(node)


def versions(cluster: Cluster) -> Iterator[Finding]:
    """Every version that is another than the driver's."""
    expected = cluster.driver.get("versions", {})
    found: dict[tuple[str, str | None], list[Node]] = defaultdict(list)
    for node in cluster.well:
        for package, version in (node.facts or {})["versions"].items():
            if _public(version) != _public(expected.get(package)):
                found[package, version].append(node)
    for (package, version), nodes in found.items():
        has = f"has {package} {version}" if version else f"has no {package}"
        text = f"{_names(nodes)} {has}, expected {expected.get(package) or 'none'} as the driver has"
        yield Finding(f"version of {package}", text, False, _SAME)
    if not found and cluster.well:
        yield Finding("versions", ", ".join(f"{name} {version}" for name, version in expected.items() if version))


def product(cluster: Cluster) -> Iterator[Finding]:
    """Whether every node runs this code."""
    expected = cluster.driver.get("product", {})
    found: dict[str, list[Node]] = defaultdict(list)
    for node in cluster.well:
        has = (node.facts or {})["product"]
        if "error" in has:
            found[f"cannot import it: {has['error']}"].append(node)
        elif (has["version"], has["code"]) != (expected.get("version"), expected.get("code")):
            found[f"has {_code(has)} in {has['where']}"].append(node)
    hint = f"{_SAME}; or submit with `--working-dir .`, with which the driver's code travels"
    for text, nodes in found.items():
        yield Finding("this product", f"{_names(nodes)} {text}, expected {_code(expected)}", False, hint)
    if not found and cluster.well:
        yield Finding("this product", _code(expected))


def gpus(cluster: Cluster) -> Iterator[Finding]:
    """Whether the GPUs that Ray gives away are there and can be used."""
    good = []
    for node in cluster.well:
        finding = _gpus(node)
        if finding is not None:
            yield finding
        elif node.resources.get("GPU"):
            good.append(f"{node.name}: {_cards(node)}")
    models = {name for node in cluster.well for name in (node.facts or {})["gpus"]["names"]}
    hint = "GPUs of several kinds: a group is as slow as its slowest" if len(models) > 1 else ""
    if good:
        yield Finding("GPUs", "; ".join(good), hint=hint)
    elif not any(node.resources.get("GPU") for node in cluster.well):
        yield Finding("GPUs", "none that Ray knows of: everything runs on CPUs")


def processors(cluster: Cluster) -> Iterator[Finding]:
    """Ray's CPUs against those of the nodes."""
    over = [node for node in cluster.well if node.resources["CPU"] > 1.01 * (node.facts or {})["cpus"]]
    text = ", ".join(
        f"{node.name}: {(node.facts or {})['cpus']:g}, Ray gives {node.resources['CPU']:g}" for node in over
    )
    if over:
        yield Finding("processors", text, hint="workers share cores there: fewer `--num-cpus` at `ray start`")
    elif cluster.well:
        yield Finding("processors", ", ".join(f"{node.name}: {node.resources['CPU']:g}" for node in cluster.well))


def memory(cluster: Cluster) -> Iterator[Finding]:
    """Main and shared memory of the nodes against what Ray gives away."""
    notes = {node.name: note for node in cluster.well if (note := _memory_note(node))}
    for name, (text, hint) in notes.items():
        yield Finding("memory", f"{name}: {text}", hint=hint)
    if not notes and cluster.well:
        text = ", ".join(f"{node.name}: {(node.facts or {})['memory'] / _GB:.1f} GB" for node in cluster.well)
        yield Finding("memory", f"{text}; room for the object store in /dev/shm")


def disks(cluster: Cluster) -> Iterator[Finding]:
    """Room on the disks of the nodes, each disk once."""
    least: list[str] = []
    for node in cluster.well:
        by_device: dict[int, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        for what, disk in (node.facts or {})["disks"].items():
            by_device[disk["device"]].append((what, disk))
        for uses in by_device.values():
            finding = _disk(node, uses)
            if finding is not None:
                yield finding
        least.append(f"{node.name}: {min(disk['free'] for _, disk in _all(by_device)) / _GB:.1f} GB")
    if least:
        yield Finding("free space", f"at least {', '.join(least)}")


def open_files(cluster: Cluster) -> Iterator[Finding]:
    """Files and connections that one process may hold open."""
    few = [node for node in cluster.well if 0 <= (node.facts or {})["files"] < _FILES]
    text = ", ".join(f"{node.name}: {(node.facts or {})['files']}" for node in few)
    hint = f"Ray wants more on big clusters: `ulimit -n {_FILES}` before `ray start`"
    if cluster.well:
        yield Finding("open files", text or f"at least {_FILES} everywhere", hint=hint if few else "")


def _silent(node: Node) -> Finding:
    full = [(path, disk) for path, disk in node.disks.items() if disk["free"] < _NOTHING_BYTES]
    if full:
        path, disk = full[-1]
        text = f"{node.name}: its disk is full, so that no task starts there: {_room(path, disk)}"
        return Finding("full disk", text, False, "remove what it does not need there, or give Ray another --temp-dir")
    if node.failure == "RuntimeEnvSetupError":
        text = f"{node.name}: the job's runtime environment cannot be set up there: {node.why[-300:]}"
        return Finding("nodes", text, False, "does it reach the package index? an image with all packages needs none")
    if node.failure:
        text = f"{node.name}: processes end at their start there: {node.failure}: {_first_sentence(node.why)}"
        hint = "look into Ray's logs on it; a full disk or too little memory are likely"
        return Finding("nodes", text, False, hint)
    hint = "is it overloaded, cut off, or still installing the job's runtime environment? `ray status` on the head"
    return Finding("nodes", f"{node.name} does not answer in time", False, hint)


def _gpus(node: Node) -> Finding | None:
    facts, believed = (node.facts or {})["gpus"], node.resources.get("GPU", 0)
    has, cuda = len(facts["names"]), node.cuda or {}
    if "error" in facts:
        text = f"{node.name}: NVIDIA's driver does not answer: {facts['error']}"
        return Finding("GPUs", text, False, "does `nvidia-smi` work there? a container needs `--gpus all`")
    if believed > has:
        text = f"{node.name}: Ray gives {believed:g} GPUs, but the node has {has or 'none'}"
        return Finding("GPUs", text, False, "start Ray there without `--num-gpus`, or mend the driver")
    if "error" in cuda or (cuda and len(cuda["names"]) < has):
        what = cuda.get("error") or f"it finds {len(cuda['names'])} of {has}"
        text = f"{node.name}: torch cannot use its GPUs ({_cards(node)}): {what}"
        return Finding("GPUs", text, False, "install a CUDA build of torch that fits the driver there")
    if believed < has:
        text = f"{node.name}: Ray gives {believed:g} of {has} GPUs ({_cards(node)})"
        return Finding(
            "GPUs", text, hint="unset CUDA_VISIBLE_DEVICES and `--num-gpus` where Ray is started, to use all"
        )
    return None


def _cards(node: Node) -> str:
    facts = (node.facts or {})["gpus"]
    counted = {name: facts["names"].count(name) for name in facts["names"]}
    return ", ".join(f"{count} x {name}" for name, count in counted.items()) + f", driver {facts.get('driver', '?')}"


def _memory_note(node: Node) -> tuple[str, str] | None:
    facts = node.facts or {}
    if node.resources["memory"] > facts["memory"]:
        text = f"{facts['memory'] / _GB:.1f} GB, Ray gives {node.resources['memory'] / _GB:.1f} GB"
        return text, "workers will be killed when it is used up: start Ray there without `--memory`"
    if facts["shm"] is None:
        return None
    if facts["shm"] < min(node.resources["object_store_memory"], _SHARED_GB * _GB):
        text = f"/dev/shm has {facts['shm'] / _GB:.2f} GB, the object store wants {_store(node)}"
        return text, "Ray uses slow files instead: `docker run --shm-size`, or an emptyDir with `medium: Memory`"
    return None


def _store(node: Node) -> str:
    return f"{node.resources['object_store_memory'] / _GB:.2f} GB"


def _disk(node: Node, uses: list[tuple[str, dict[str, Any]]]) -> Finding | None:
    what, disk = ", ".join(name for name, _ in uses), uses[-1][1]
    text = f"{node.name}: {_room(disk['path'], disk)} ({what})"
    spills = any("session" in name for name, _ in uses)
    if disk["free"] < _FULL_GB * _GB:
        return Finding("full disk", text, False, "remove what it does not need there, or give Ray another --temp-dir")
    if spills and disk["free"] < _SPILLS_UNTIL * disk["total"]:
        hint = f"below {_SPILLS_UNTIL:.0%} Ray moves no objects to disk any more, and tasks fail instead: make room"
        return Finding("full disk", text, False, hint)
    if disk["free"] < _LITTLE_GB * _GB:
        return Finding("free space", text, hint=f"less than {_LITTLE_GB:g} GB: checkpoints and caches may fill it")
    return None


def _all(by_device: dict[int, list[tuple[str, dict[str, Any]]]]) -> list[tuple[str, dict[str, Any]]]:
    return [use for uses in by_device.values() for use in uses]


def _room(path: str, disk: dict[str, Any]) -> str:
    return f"{path} has {disk['free'] / _GB:.2f} of {disk['total'] / _GB:.1f} GB free"


def _code(product: dict[str, Any]) -> str:
    return f"{product.get('version', 'none')} (code {product.get('code', 'none')})"


def _public(version: str | None) -> str | None:
    """A version without what tells builds of it apart: CPU nodes may have another build of torch than GPU nodes."""
    return version and version.partition("+")[0]


def _names(nodes: list[Node]) -> str:
    return ", ".join(node.name for node in nodes)


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0][:200]
