"""`orchestrator sweep CONFIG --name NAME`, and `extend` and `fork` of a sweep that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperGroup

from orchestrator.cli.console import ConfigFile, Overrides, out, print_card

Name = Annotated[str, typer.Option("--name", help="The sweep's name: the same name continues the same sweep.")]
Known = Annotated[str, typer.Argument(metavar="NAME", help="The sweep.")]
Storage = Annotated[str, typer.Option(help="The folder that holds the runs; also a URI.")]
_DEFAULT = "run"


class _Group(TyperGroup):
    """`sweep CONFIG` is `sweep run CONFIG`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    help="Start or continue a sweep (CONFIG --name NAME), or get more out of one: extend, fork.",
)


@app.command(_DEFAULT)
def run(
    config: ConfigFile,
    name: Name,
    overrides: Overrides = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="How many trials; without a `sweep` section, over a default space.")
    ] = None,
    hours: Annotated[float | None, typer.Option(min=0.0, help="Stop after so many hours of wall time.")] = None,
) -> None:
    """Start or continue a sweep from normalized states, ranked together with the untouched files."""
    from orchestrator.cli.console import print_notes
    from orchestrator.config import load_config_with_notes
    from orchestrator.runtime.sweep import sweep
    from orchestrator.sweeps.default import with_sweep

    checked, notes = load_config_with_notes(config, overrides or [])
    print_notes(notes)
    _print_ranking(sweep(with_sweep(checked, trials=trials, hours=hours), name, console=out))


@app.command()
def extend(
    name: Known,
    overrides: Overrides = None,
    trials: Annotated[int, typer.Option(min=0, help="How many trials more.")] = 0,
    hours: Annotated[float, typer.Option(min=0.0, help="How many hours more.")] = 0,
    samples: Annotated[int, typer.Option(min=0, help="How many samples more.")] = 0,
    storage: Storage = "runs",
) -> None:
    """Give a sweep a larger budget, and continue it; without one it is only continued."""
    from orchestrator.runtime.sweep import extend as more

    found = more(
        name, trials=trials, hours=hours, samples=samples, storage=storage, overrides=overrides or [], console=out
    )
    _print_ranking(found)


@app.command()
def fork(
    name: Known,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps in all, those of the trial included.")],
    new: Annotated[str, typer.Option("--name", help="The name of the new run.")],
    overrides: Overrides = None,
    trial: Annotated[str | None, typer.Option(help="Go on from this trial instead of the best.")] = None,
    storage: Storage = "runs",
) -> None:
    """Go on from the best trial of a sweep for longer, as a run of its own."""
    from orchestrator.cli.console import print_result
    from orchestrator.runtime.sweep import fork_config
    from orchestrator.runtime.train import train

    config = fork_config(name, steps, trial=trial, storage=storage, overrides=overrides or [])
    print_result(train(config, new, console=out))


def _print_ranking(result: Any) -> None:
    from orchestrator.storage import redacted

    table = Table("rank", "trial", result.summary.metric, "gain", "step", "state", "settings", box=None)
    for rank, row in enumerate(result.ranking, 1):
        settings = ", ".join(f"{key}={_short(value)}" for key, value in row.settings.items())
        name = f"{row.trial} (untouched {Path(row.init).name})" if row.baseline else row.trial
        table.add_row(
            str(rank), name, _interval(row.best), _interval(row.gain), str(row.best_step), row.state, settings
        )
    out.print(table)
    out.print(result.summary.answer, markup=False, soft_wrap=True)
    print_card(result.name, {"report": redacted(result.report), "open MLflow": result.summary.open_mlflow}, result.name)


def _interval(interval: Any) -> str:
    return "" if interval is None else f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
