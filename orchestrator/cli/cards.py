"""Reports on checkpoints for a person: rich cards on a terminal, one fact per line everywhere else.

Promise: both say the same, and both end with the exact command that comes next.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from orchestrator.cli.console import out, print_lines

if TYPE_CHECKING:
    from orchestrator.checkpoint import DiffReport, InspectReport, StateRecord, VerifyReport

_MOST_ROWS = 40
_LAYOUT = re.compile(r"\((\w+) layout\)")
_PRESETS = ("16_pixel_attn", "16_pixel", "25_pixel")
_SOURCE_STYLE = {"file": "green", "default": "yellow", "option": "cyan", "derived": "blue"}


def show_inspection(report: InspectReport, next_steps: Iterable[str]) -> None:
    """What a checkpoint is, what is there and what is not, whether it is safe, and what to do next."""
    steps = list(next_steps)
    if not out.is_terminal:
        print_lines([*report.lines(), *(f"next: {step}" for step in steps)])
        return
    parts: list[RenderableType] = [_facts(report), _section("parts"), _parts(report)]
    if report.decisions:
        parts += [_section("settled"), _decisions(report)]
    parts += [_section("safety"), *_safety(report), _section("next"), *(Text(f"  {step}") for step in steps)]
    out.print(Panel(Group(*parts), title=f"[bold]{escape(report.path)}[/]", title_align="left", padding=(1, 2)))


def next_steps(report: InspectReport, options: Mapping[str, str]) -> list[str]:
    """The commands that follow, as they can be typed.

    Args:
        report: of the checkpoint.
        options: what was given to `inspect` and must be given again, by option.
    """
    file = shlex.quote(report.path)
    given = "".join(f" {name} {shlex.quote(value)}" for name, value in options.items())
    train = f"orchestrator train {_preset(report)} --name first data.path=corpus start.checkpoint={file}"
    if report.format == "canonical":
        return [train, f"orchestrator evaluate {file} --data corpus"]
    finite = [decision for decision in report.decisions if decision.field == "weights.finite"]
    given += " --allow-non-finite" if finite else ""
    return [f"orchestrator normalize {file} --out states{given}", train]


def show_states(records: list[StateRecord]) -> None:
    """A folder of states."""
    if not out.is_terminal:
        print_lines(record.line() for record in records)
        return
    table = Table("state", "step", "network", "parameters", "size", "from", box=None)
    for record in records:
        if record.complete:
            size = f"{record.size / 1e6:,.1f} MB"
            network = record.architecture + ", running average" * record.averaged
            row = (str(record.step), network, f"{record.parameters:,}", size, record.file)
            table.add_row(escape(record.name), *map(escape, row))
        else:
            table.add_row(escape(record.name), "[red]incomplete[/]", escape(record.problem))
    out.print(table)


def show_verification(report: VerifyReport) -> None:
    """What was found in one or many directories; damaged ones stand out."""
    if not out.is_terminal:
        print_lines(report.lines())
        return
    for state in report.states:
        mark = "[green]ok[/]" if state.ok else "[bold red]damaged[/]"
        out.print(f"{mark} {escape(state.path)}: {state.files} files, {state.size:,} bytes", soft_wrap=True)
        for problem in state.problems:
            out.print(Text(f"   {problem}", style="red"), soft_wrap=True)
        for note in state.notes:
            out.print(Text(f"   {note}", style="dim"), soft_wrap=True)
    for name in report.leftovers:
        out.print(Text(f"{name}: left by an interrupted program, no checkpoint", style="yellow"), soft_wrap=True)


def show_difference(report: DiffReport) -> None:
    """What differs: plain values, then tensors with the largest difference first."""
    if not out.is_terminal:
        print_lines(report.lines())
        return
    print_lines(report.lines()[:3])
    if report.fields:
        table = Table("field", "a", "b", box=None)
        for field in report.fields:
            table.add_row(*(escape(str(value)) for value in (field.name, field.a, field.b)))
        out.print(table)
    if report.tensors:
        out.print(_tensor_table(report))
    if len(report.tensors) > _MOST_ROWS:
        out.print(f"and {len(report.tensors) - _MOST_ROWS} more tensors; --json prints all")
    if report.same:
        out.print("[green]no difference[/]")


def _tensor_table(report: DiffReport) -> Table:
    table = Table("tensor", "differs in", "a", "b", "max", "mean", "relative", "cosine", box=None)
    for tensor in report.tensors[:_MOST_ROWS]:
        figures = (tensor.max_abs, tensor.mean_abs, tensor.relative, tensor.cosine)
        shown = ["" if figure is None else f"{figure:.4g}" for figure in figures]
        table.add_row(escape(tensor.name), str(tensor.kind), escape(tensor.a), escape(tensor.b), *shown)
    return table


def _facts(report: InspectReport) -> Table:
    dtypes = ", ".join(f"{count} {name}" for name, count in report.dtypes.items())
    rows = {
        "what": f"{report.format} in {report.container}",
        "network": report.architecture,
        "parameters": f"{report.parameters:,} ({dtypes} tensors)",
        "weights": report.weights_line,
        "position": f"step {report.step:,}, sample {report.samples:,}",
        "size": f"{report.size:,} bytes" if report.size else "",
        "sha256": report.sha256,
    }
    table = _grid()
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(value))
    return table


def _parts(report: InspectReport) -> Table:
    """Every part of a training state: there, or missing and what takes its place."""
    defaults = {decision.field: decision for decision in report.decisions}
    table = _grid()
    for name in report.present:
        table.add_row(name, Text("there", style="green"))
    for name in report.missing:
        default = defaults.get(name)
        table.add_row(name, Text(f"missing: {default.why}" if default else "missing", style="yellow"))
    return table


def _decisions(report: InspectReport) -> Table:
    table = Table("field", "value", "from", "why", box=None, header_style="dim")
    missing = set(report.missing)
    for decision in report.decisions:
        if decision.field not in missing:
            source = f"[{_SOURCE_STYLE[decision.source]}]{decision.source}[/]"
            table.add_row(escape(decision.field), escape(str(decision.value)), source, escape(decision.why))
    return table


def _safety(report: InspectReport) -> list[RenderableType]:
    dangerous = set(report.dangerous)
    harmless = [name for name in report.placeholders if name not in dangerous]
    lines: list[RenderableType] = []
    if report.dangerous:
        warning = "it names what would run code in a careless reader; none of it was imported or called here:"
        lines.append(Text(f"  DANGER: {warning}", style="bold red"))
        lines += [Text(f"    {name}", style="red") for name in report.dangerous]
        lines.append(Text("  do not open it with anything else, and ask where it came from", style="red"))
    if harmless:
        lines.append(Text(f"  classes that became placeholders: {', '.join(harmless)}", style="yellow"))
    if not report.placeholders:
        lines.append(Text("  it names nothing but tensors and plain data", style="green"))
    style = "green" if report.values_checked else "yellow"
    return [*lines, Text(f"  {report.values_line}", style=style)]


def _section(title: str) -> Text:
    return Text(f"\n{title}", style="bold cyan")


def _grid() -> Table:
    table = Table(show_header=False, box=None)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _preset(report: InspectReport) -> str:
    """The preset that fits the network, as far as there is one."""
    found: Any = _LAYOUT.search(report.architecture)
    if found and found[1] in _PRESETS:
        return f"configs/latentsync_{found[1]}.yaml"
    return "configs/wav2lip.yaml" if report.model.name == "wav2lip_syncnet" else "CONFIG"
