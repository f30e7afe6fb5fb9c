"""The dashboard, the alerts and Prometheus' configuration say what is true: of what is exported, and of one another.

Prometheus itself checks its files where `promtool` is installed.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.runtime.gauges import EXPORTED, LEARNING_STATES, PREFIX, RUN_STATES
from tests.cluster.boards import dashboard_problems, known, query_problems, rule_problems, schema_problems
from tests.cluster.manifests import CLUSTER, ROOT

FOLDER = CLUSTER / "observability"
BOARD = FOLDER / "grafana" / "dashboards" / "syncnet.json"
PAGE = ROOT / "docs" / "observability.md"
_NOT_SHOWN = {"syncnet_samples", "syncnet_best_step", "syncnet_total_trials"}
"""What is exported for other people's dashboards only."""

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool, a part of Prometheus, is not installed"
)


@pytest.fixture
def board() -> dict[str, Any]:
    return dict(json.loads(BOARD.read_text()))


@pytest.fixture
def rules() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "alerts.yml").read_text()))


def test_the_dashboard_asks_for_what_is_there(board: dict[str, Any]) -> None:
    assert list(dashboard_problems(board)) == []


def test_the_dashboard_shows_what_is_exported(board: dict[str, Any]) -> None:
    text = json.dumps(board["panels"])
    assert {metric.name for metric in EXPORTED if f"{PREFIX}{metric.name}{{" not in text} == _NOT_SHOWN


def test_numbers_are_shown_as_the_states_that_they_mean(board: dict[str, Any]) -> None:
    shown = {
        panel["title"]: panel["fieldConfig"]["defaults"].get("mappings")
        for panel in board["panels"][1:]
        if "fieldConfig" in panel
    }
    for title, states in (("Run state", RUN_STATES), ("Chance detector", LEARNING_STATES)):
        texts = [shown[title][0]["options"][str(number)]["text"] for number in range(len(states))]
        assert texts == [str(state).lower().replace("_", " ") for state in states]


def _panel(board: dict[str, Any], title: str) -> dict[str, Any]:
    return next(panel for panel in board["panels"] if panel["title"] == title)


def _in_query(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(board: dict[str, Any]) -> None:
        target = _panel(board, "Loss")["targets"][0]
        assert old in target["expr"]
        target["expr"] = target["expr"].replace(old, new)

    return change


def _set(title: str, path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(board: dict[str, Any]) -> None:
        thing = _panel(board, title) if title else board
        *parents, last = path.split(".")
        for key in parents:
            thing = thing[int(key)] if isinstance(thing, list) else thing[key]
        thing[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_in_query("train_loss", "training_loss"), "nobody exports ray_syncnet_training_loss"),
        (_in_query("ray_", ""), "nobody exports syncnet_train_loss"),
        (_in_query("{run", "{runs"), "has no label runs"),
        (_in_query("by (run", "by (job_name"), "has no label job_name"),
        (
            _in_query(
                ")",
                "",
            ),
            "unclosed left parenthesis",
        ),
        (_in_query("$trial", "$tryal"), "there is no variable tryal"),
        (_set("Loss", "datasource", {"type": "prometheus", "uid": "PBFA97CFB590B2093"}), "its data source is"),
        (_set("Loss", "targets.0.datasource", None), "its data source is None"),
        (_set("Loss", "id", 2), "2 panels have the id 2"),
        (_set("Loss", "gridPos.x", 13), "reaches beyond the right edge"),
        (_set("Loss", "gridPos.y", 12), "overlap"),
        (_set("Loss", "targets.1.refId", "A"), "two queries have the same refId"),
        (_set("Loss", "description", ""), "does not say what it shows"),
        (_set("Loss", "fieldConfig.defaults.custom.lineWith", 2), "lineWith: Grafana has no such field"),
        (_set("Loss", "options.legend.place", "bottom"), "place: Grafana has no such field"),
        (_set("", "templating.list.1.query.query", "label_values(ray_run_state, run)"), "nobody exports ray_run_state"),
        (_set("", "annotations.list.1.expr", "ray_syncnet_restarts[1m"), "Restarts: "),
        (_set("Loss", "type", "graph"), "no panel of type graph"),
    ],
)
def test_a_broken_dashboard_is_noticed(board: dict[str, Any], change: Callable[[Any], None], said: str) -> None:
    change(board)
    assert any(said in problem for problem in dashboard_problems(board)), list(dashboard_problems(board))


def test_what_is_no_dashboard_is_noticed() -> None:
    assert schema_problems({"title": "nothing", "panels": 3})


def test_the_alerts_ask_for_what_is_there(rules: dict[str, Any]) -> None:
    assert list(rule_problems(rules)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"expr": "ray_syncnet_run_stat == 4"}, "nobody exports ray_syncnet_run_stat"),
        ({"expr": "max by (run (ray_syncnet_run_state)"}, "SyncNetFailed: "),
        ({"labels": {"severity": "bad"}}, "its severity is neither"),
        ({"annotations": {"summary": "{{ $labels.host }} has failed", "description": "x"}}, "tells of the label host"),
        ({"annotations": {"summary": "it has failed"}}, "has no description"),
        ({"alert": "SyncNetGone"}, "two alerts have the same name"),
    ],
)
def test_a_broken_alert_is_noticed(rules: dict[str, Any], change: dict[str, Any], said: str) -> None:
    rules["groups"][0]["rules"][0] |= change
    assert any(said in problem for problem in rule_problems(rules))


def test_what_ray_exports_is_known_from_ray() -> None:
    assert list(query_problems("max by (ip) (ray_node_cpu_utilization)")) == []
    assert "GpuIndex" in known()["ray_node_gpus_utilization"]


def test_prometheus_and_grafana_find_their_files() -> None:
    prometheus = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert [(FOLDER / name).exists() for name in prometheus["rule_files"]] == [True]
    found = prometheus["scrape_configs"][0]["file_sd_configs"][0]["files"]
    from ray._common.utils import get_default_ray_temp_dir
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    assert found == [f"{get_default_ray_temp_dir()}/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"], "where Ray lists its nodes"
    provider = yaml.safe_load((BOARD.parent / "syncnet.yaml").read_text())["providers"][0]
    assert provider["options"]["path"] == f"$GF_PATHS_PROVISIONING/{BOARD.parent.name}"
    source = yaml.safe_load((FOLDER / "grafana" / "datasources" / "prometheus.yaml").read_text())["datasources"][0]
    assert source["url"] == "$PROMETHEUS_URL" and source["isDefault"] is True
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]


@needs_promtool
def test_prometheus_takes_its_files(tmp_path: Path) -> None:
    assert _promtool("check", "config", FOLDER / "prometheus.yml") == 0
    shutil.copytree(FOLDER, tmp_path / "copy")
    for name, old, new in (("prometheus.yml", "labeldrop", "dropall"), ("alerts.yml", "for: 2h", "for: long")):
        path = tmp_path / "copy" / name
        path.write_text(path.read_text().replace(old, new))
        assert _promtool("check", "config", tmp_path / "copy" / "prometheus.yml") != 0, "a broken copy is noticed"
        shutil.copy(FOLDER / name, path)


@needs_promtool
def test_the_alerts_fire_when_they_should(tmp_path: Path) -> None:
    cases = yaml.safe_load((Path(__file__).parent / "alerts.yaml").read_text())
    cases["rule_files"] = [str(FOLDER / "alerts.yml")]
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(cases))
    assert _promtool("test", "rules", tmp_path / "cases.yaml") == 0
    broken = copy.deepcopy(cases)
    broken["tests"][0]["alert_rule_test"][0]["exp_alerts"] = []
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(broken))
    assert _promtool("test", "rules", tmp_path / "cases.yaml") != 0
    fired = {case["alertname"] for test in cases["tests"] for case in test["alert_rule_test"] if case["exp_alerts"]}
    every = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
    assert fired == {rule["alert"] for rule in every}


def test_the_page_lists_what_is_exported() -> None:
    text = PAGE.read_text()
    rows = re.findall(r"^\| `(ray_\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    wanted = [
        (PREFIX + metric.name, metric.meaning, metric.unit, ", ".join(f"`{label}`" for label in metric.labels))
        for metric in EXPORTED
    ]
    assert rows == wanted


def test_the_page_tells_numbers_and_alerts(rules: dict[str, Any]) -> None:
    text = PAGE.read_text()
    for states in (RUN_STATES, LEARNING_STATES):
        assert ", ".join(f"{number} {state}" for number, state in enumerate(states)) in text
    told = re.findall(r"^\| `(SyncNet\w+)` \|", text, re.MULTILINE)
    assert told == [rule["alert"] for rule in rules["groups"][0]["rules"]]


def _promtool(*words: object) -> int:
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    print(done.stdout + done.stderr)
    return done.returncode
