"""What a Grafana dashboard and Prometheus' rules must hold to, against what is really exported.

Contract: every function takes what was loaded and yields one line per violation; tests break copies to see it. PromQL
is read by a parser of its own; a dashboard is compared with Grafana's types, which its Foundation SDK for Python has: a
field that Grafana does not know is lost in them. Grafana itself is asked by nobody.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations
from typing import Any

import promql_parser
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.cog.runtime import panelcfg_config
from grafana_foundation_sdk.models.dashboard import Dashboard
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

from orchestrator.runtime.gauges import EXPORTED, PREFIX

Thing = Mapping[str, Any]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_UNTYPED = re.compile(r"annotations/list/\d+/(step|titleFormat|textFormat)")
"""What only Prometheus' own part of Grafana knows."""
_BUILT_IN = {"__range": "1h"}
_WIDTH = 24


@cache
def known() -> dict[str, frozenset[str]]:
    """Every metric that a query may name, with its labels: ours, and those that Ray measures of its nodes."""
    ours = {PREFIX + metric.name: frozenset(metric.labels) for metric in EXPORTED}
    return ours | {PREFIX + gauge.name: frozenset(map(str, gauge.view.columns)) for gauge in METRICS_GAUGES.values()}


def query_problems(query: str) -> Iterator[str]:
    """PromQL must parse, and name what there is."""
    try:
        parsed = promql_parser.parse(query)
    except ValueError as error:
        yield f"{query!r}: {error}"
        return
    names, labels = set[str](), set[str]()

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            names.add(str(node.name))
            labels.update(matcher.name for matcher in node.matchers.matchers)
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            labels.update(node.modifier.labels)

    promql_parser.walk(parsed, visit)
    yield from (f"{query!r}: nobody exports {name}" for name in sorted(names - known().keys()))
    has = frozenset[str]().union(*(known().get(name, frozenset()) for name in names))
    yield from (f"{query!r}: {', '.join(sorted(names))} has no label {label}" for label in sorted(labels - has))


def dashboard_problems(board: Thing) -> Iterator[str]:
    """A whole dashboard: its fields, its panels, its queries."""
    yield from schema_problems(board)
    panels, variables = board["panels"], {variable["name"] for variable in board["templating"]["list"]}
    for number, count in Counter(panel["id"] for panel in panels).items():
        if count > 1:
            yield f"{count} panels have the id {number}"
    for panel in panels:
        yield from (f"{panel['title']}: {problem}" for problem in _panel_problems(panel, variables))
    for one, other in combinations(panels, 2):
        if _overlap(one["gridPos"], other["gridPos"]):
            yield f"{one['title']} and {other['title']} overlap"
    for extra in (*board["templating"]["list"], *board["annotations"]["list"]):
        yield from (f"{extra['name']}: {problem}" for problem in _extra_problems(extra, variables))


def schema_problems(board: Thing) -> list[str]:
    """What Grafana's types do not know of a dashboard."""
    register_default_plugins()
    try:
        understood = json.loads(JSONEncoder().encode(Dashboard.from_json(dict(board))))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        return [f"it is no dashboard: {error}"]
    return [problem for problem in _lost(board, understood) if not _UNTYPED.match(problem)]


def rule_problems(rules: Thing) -> Iterator[str]:
    """Alerts: what they ask, and what they tell a person."""
    every = [rule for group in rules["groups"] for rule in group["rules"]]
    for rule in every:
        yield from (f"{rule['alert']}: {problem}" for problem in query_problems(rule["expr"]))
        if rule.get("labels", {}).get("severity") not in ("warning", "critical"):
            yield f"{rule['alert']}: its severity is neither warning nor critical"
        for word in ("summary", "description"):
            if not rule.get("annotations", {}).get(word):
                yield f"{rule['alert']}: has no {word}"
        carried = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule.get("annotations", {}))))
        yield from (f"{rule['alert']}: tells of the label {one}" for one in sorted(carried - _kept(rule["expr"])))
    if len({rule["alert"] for rule in every}) < len(every):
        yield "two alerts have the same name"


def _kept(query: str) -> set[str]:
    """The labels that the outermost aggregations leave."""
    return {label for group in re.findall(r"by \(([^)]*)\)", query) for label in re.split(r",\s*", group)}


def _panel_problems(panel: Thing, variables: set[str]) -> Iterator[str]:
    place = panel["gridPos"]
    if place["x"] + place["w"] > _WIDTH:
        yield "reaches beyond the right edge"
    if panel["type"] == "row":
        return
    if panelcfg_config(panel["type"]) is None:
        yield f"Grafana has no panel of type {panel['type']}"
    if not panel.get("description"):
        yield "does not say what it shows"
    if not panel.get("targets"):
        yield "asks nothing"
    if len({target["refId"] for target in panel["targets"]}) < len(panel["targets"]):
        yield "two queries have the same refId"
    for thing in (panel, *panel["targets"]):
        if thing.get("datasource") != DATASOURCE:
            yield f"its data source is {thing.get('datasource')}"
    for target in panel["targets"]:
        yield from _templated_problems(target["expr"], variables)


def _extra_problems(extra: Thing, variables: set[str]) -> Iterator[str]:
    """Of a variable or an annotation."""
    if extra.get("type") == "datasource" or extra.get("builtIn"):
        return
    if extra.get("datasource") != DATASOURCE:
        yield f"its data source is {extra.get('datasource')}"
    query = extra["expr"] if "expr" in extra else extra["query"]["query"]
    asked = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
    if asked is None:
        yield from _templated_problems(query, variables)
    else:
        yield from _templated_problems(f"max by ({asked[2]}) ({asked[1]})", variables)


def _templated_problems(query: str, variables: set[str]) -> Iterator[str]:
    used = set(re.findall(r"\$\{?(\w+)", query))
    yield from (f"{query!r}: there is no variable {name}" for name in sorted(used - variables - _BUILT_IN.keys()))
    yield from query_problems(re.sub(r"\$\{?(\w+)\}?", lambda match: _BUILT_IN.get(match[1], ".*"), query))


def _overlap(one: Thing, other: Thing) -> bool:
    across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
    return across and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]


def _lost(given: Any, understood: Any, path: str = "") -> Iterator[str]:
    if isinstance(given, Mapping) and isinstance(understood, Mapping):
        for key, value in given.items():
            where = f"{path}/{key}".lstrip("/")
            yield from (
                _lost(value, understood[key], where) if key in understood else [f"{where}: Grafana has no such field"]
            )
    elif isinstance(given, list) and isinstance(understood, list) and len(given) == len(understood):
        for index, pair in enumerate(zip(given, understood, strict=True)):
            yield from _lost(*pair, f"{path}/{index}")
