"""What MLflow has recorded: functions for `Host.call`, which take and give plain values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recorded:
    """One run of MLflow."""

    run_id: str
    name: str
    status: str
    parent: str | None
    """The run that it is a child of."""
    steps: dict[str, list[int]] = field(default_factory=dict)
    """Of each metric: the steps at which it was recorded, in their order, with every repetition."""

    @property
    def repeated(self) -> list[str]:
        """Metrics that were recorded twice at a step."""
        return sorted(key for key, steps in self.steps.items() if len(set(steps)) < len(steps))


def runs(tracking_uri: str) -> list[Recorded]:
    """All runs of all experiments."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = []
    for run in client.search_runs(experiments):
        name, run_id = run.info.run_name, run.info.run_id
        history = {key: client.get_metric_history(run_id, key) for key in run.data.metrics}
        steps = {key: sorted(row.step for row in rows) for key, rows in history.items()}
        found.append(Recorded(run_id, name, run.info.status, run.data.tags.get("mlflow.parentRunId"), steps))
    return found


def everything(database_uri: str) -> str:
    """All rows of all tables of the database below, as text."""
    import io

    import psycopg2

    text = io.StringIO()
    with psycopg2.connect(database_uri.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        for (table,) in cursor.fetchall():
            cursor.copy_expert(f'COPY "{table}" TO STDOUT', text)
    return text.getvalue()
