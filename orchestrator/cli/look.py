"""The commands that look and change nothing: `plan`, `status`, `doctor`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from orchestrator.cli.console import (
    AsJson,
    ConfigFile,
    NameOrNone,
    Overrides,
    err,
    out,
    print_card,
    print_json,
    print_notes,
)

if TYPE_CHECKING:
    from orchestrator.runtime.status import RunStatus

Storage = Annotated[str, typer.Option(help="The folder that holds the runs; also a URI.")]
_WATCH_S = 1.0


def plan(
    config: ConfigFile,
    overrides: Overrides = None,
    name: NameOrNone = None,
    probe: Annotated[bool, typer.Option(help="Measure some real steps on this machine, for the ETA.")] = True,
    as_json: AsJson = False,
) -> None:
    """What would happen: start decision, steps, sizes, memory, ETA, and every problem at once."""
    from orchestrator.planning import plan as look_ahead

    result = look_ahead(config, overrides or [], name=name, probe=probe)
    if as_json:
        print_json({"start": result.start, **result.facts, "notes": result.notes, "problems": result.problems})
    else:
        print_card(str(config), {"start": result.start, **result.facts})
        print_notes(result.notes)
        for problem in result.problems:
            err.print(f"problem: {problem}", markup=False, soft_wrap=True)
    raise typer.Exit(int(bool(result.problems)))


def status(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A run; all of them when left out.")] = None,
    storage: Storage = "runs",
    watch: Annotated[bool, typer.Option("--watch", help="Look again every second, as long as something runs.")] = False,
    as_json: AsJson = False,
) -> None:
    """How runs stand: state, progress, ETA, best value, what the chance detector says; of one NAME, everything."""
    from orchestrator.runtime.status import RunState, read_statuses

    if watch and as_json:
        raise typer.BadParameter("--watch is for people and --json for programs: give one of them")
    found = read_statuses(storage, name)
    if as_json:
        runs = [status.to_dict() for status in found]
        print_json(runs if name is None else runs[0])
        return
    if not watch:
        out.print(_shown(found, name))
        return
    with Live(_shown(found, name), console=out, auto_refresh=False) as live:
        while any(status.state in (RunState.RUNNING, RunState.STALLED) for status in found):
            time.sleep(_WATCH_S)
            found = read_statuses(storage, name)
            live.update(_shown(found, name), refresh=True)


def doctor(
    storage: Annotated[str | None, typer.Option(help="Where the runs live; of this machine alone: runs.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="A prepared corpus to look at, too.")] = None,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Look at every node of a Ray cluster, for half a minute at most.")
    ] = False,
    address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="With --cluster: where its head is, HOST:6379.")
    ] = None,
    cache: Annotated[
        str | None, typer.Option(metavar="DIR", help="With --cluster: the nodes' own folder for data, `data.cache`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Numbered checks of this machine, or of a cluster: versions, limits, storage, MLflow, Ray, data."""
    from dataclasses import asdict

    from orchestrator.doctor import examine
    from orchestrator.doctor.cluster import Request, examine_cluster

    if cluster:
        findings = examine_cluster(Request(address or "auto", storage, data, cache))
    else:
        findings = examine(storage or "runs", data)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for number, finding in enumerate(findings, 1):
            mark = "[red]problem[/]" if not finding.ok else "[yellow]note[/]" if finding.hint else "[green]ok[/]"
            out.print(f"{number}. {mark} {escape(finding.check)}: {escape(finding.found)}", soft_wrap=True)
            if finding.hint:
                out.print(f"   {finding.hint}", markup=False, soft_wrap=True)
    raise typer.Exit(int(not all(finding.ok for finding in findings)))


def _shown(found: list[RunStatus], name: str | None) -> RenderableType:
    return _table(found) if name is None else _card(found[0])


def _table(found: list[RunStatus], **options: Any) -> Table:
    from orchestrator.runtime.progress import coloured, look
    from orchestrator.runtime.status import RunState

    table = Table("run", "state", "progress", "best", "MLflow run", box=None, **options)
    for status in found:
        progress = f"{status.step}/{status.total_steps} {look(status).text}"
        best = "" if status.best is None else f"{status.best[0]:.4f} {'of' if status.is_sweep else 'at step'} "
        best += "" if status.best is None else str(status.best[1])
        table.add_row(
            escape(status.name),
            coloured(status.state),
            escape(status.error) if status.state is RunState.DAMAGED else progress,
            escape(best),
            status.run_id,
        )
    return table


def _card(status: RunStatus) -> RenderableType:
    from orchestrator.runtime.progress import coloured

    table = Table(title=escape(status.name), show_header=False, box=None, title_justify="left", title_style="bold")
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("state", coloured(status.state) + _after(status))
    for key, value in _facts(status).items():
        table.add_row(key, escape(str(value)))
    return Group(table, _table(list(status.trials), title="trials", title_justify="left")) if status.trials else table


def _after(status: RunStatus) -> str:
    """What follows from a state: what to do, in the same line."""
    from orchestrator.runtime.status import RunState

    match status.state:
        case RunState.STALLED:
            return ": its driver lives, but reports nothing; `orchestrator doctor` and the workers' logs may tell why"
        case RunState.INTERRUPTED | RunState.STOPPED | RunState.FAILED:
            return ": give its command again to continue from the last checkpoint"
        case _:
            return ""


def _facts(status: RunStatus) -> dict[str, Any]:
    from orchestrator.runtime.status import tracking_hint
    from orchestrator.storage import redacted

    facts: dict[str, Any] = {}
    if status.total_steps:
        what = "trials ended" if status.is_sweep else "steps"
        share = status.step / status.total_steps
        facts["progress"] = f"{status.step} of {status.total_steps} {what} ({share:.1%})"
    if status.eta is not None:
        facts["ETA"] = status.eta
    if status.age_s is not None:
        facts["last report"] = _ago(status.age_s)
    shown = {key: value for key, value in status.metrics.items() if key.startswith(("train/", "val/"))}
    for part in ("train", "val"):
        figures = {key.partition("/")[2]: value for key, value in shown.items() if key.startswith(f"{part}/")}
        if figures:
            facts[part] = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
    if status.best is not None:
        facts["best"] = f"{status.best[0]:.4f} {'of' if status.is_sweep else 'at step'} {status.best[1]}"
    if status.verdict:
        facts["verdict"] = f"{status.verdict.get('state')}: {status.verdict.get('why', '')}"
        facts |= {f"likely cause {number}": cause for number, cause in enumerate(status.verdict.get("causes") or (), 1)}
    if status.ended:
        facts["ended"] = status.ended.get("why", "")
    if status.error:
        facts["error"] = status.error
    if status.start:
        facts["start"] = " ".join(str(status.start[key]) for key in ("verb", "source") if status.start.get(key))
    facts["restarts"] = status.restarts
    if status.checkpoint is not None:
        age = "" if status.checkpoint_age_s is None else f", {_ago(status.checkpoint_age_s)}"
        facts["last checkpoint"] = f"step {status.checkpoint}{age}"
    facts["folder"] = redacted(status.folder)
    if status.run_id:
        facts["MLflow run"] = status.run_id
        facts["open MLflow"] = tracking_hint(status.folder) or "see `tracking.uri` of its configuration"
    return facts


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
