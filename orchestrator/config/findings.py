"""What pydantic found, in our grammar: "`optim.lr` must be > 0, but is -1", one sentence for each wrong value.

Promises: a setting is called by its dotted name, whatever stands between its parts in pydantic's own places; unknown
keys get a did-you-mean; a value that fits no member of a union is one problem that names them all.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from orchestrator.config.model import FAMILY_NAMES, StableSyncNetConfig
from orchestrator.config.schema import RunConfig

Finding = Mapping[str, Any]
"""One of pydantic's: `loc`, `type`, `input`, `msg` and mostly `ctx`."""
Place = tuple[str | int, ...]
"""Where pydantic found it: names and indices, and between them the tags of unions."""

_SIGNS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}
_MEMBERS = {
    "bool": ("true", "false"),
    "int": ("a whole number",),
    "constrained-int": ("a whole number",),
    "tuple[int, int]": ("a pair of whole numbers",),
}
"""What pydantic puts into a place for the member of a union that it tried, and what that member takes."""
_LITERAL = "literal["


def describe_validation(error: ValidationError, schema: type[BaseModel], prefix: str = "") -> list[str]:
    """pydantic's findings in our grammar."""
    problems: list[str] = []
    for _, group in groupby(error.errors(), key=lambda finding: _split(finding["loc"])[0]):
        findings = list(group)
        # a value may have the shape of one member and be wrong inside it: then that is what there is to say
        inside = [finding for finding in findings if len(_split(finding["loc"])[1]) > 1]
        if len(findings) > 1 and not inside:
            problems.append(_describe_union(findings, schema, prefix))
        else:
            problems += [_describe(finding, schema, prefix) for finding in inside or findings]
    return problems


def setting_names(schema: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[str]:
    """Every dotted setting of the schema."""
    for key, field in schema.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from setting_names(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def section_names(schema: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[str]:
    """Every dotted section of the schema, the whole not among them."""
    for key, field in schema.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield f"{prefix}{key}"
            yield from section_names(inner, f"{prefix}{key}.")


def is_whole_number(dotted: str) -> bool:
    """Whether a setting is a whole number, or none."""
    *sections, key = dotted.split(".")
    schema: Any = RunConfig
    for section in sections:
        schema = schema.model_fields[section].annotation if section in getattr(schema, "model_fields", {}) else None
    field = getattr(schema, "model_fields", {}).get(key)
    members = () if field is None else get_args(field.annotation) or (field.annotation,)
    return int in members and float not in members


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`; did you mean ...?`, or nothing when no known word is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""


def _split(loc: Place) -> tuple[Place, Place]:
    """A place up to the union that stands there, and from the member that was tried; nothing where there is none."""
    at = next((place for place, part in enumerate(loc) if _is_member(part)), len(loc))
    return loc[:at], loc[at:]


def _is_member(part: str | int) -> bool:
    return part in _MEMBERS or str(part).startswith(_LITERAL)


def _describe_union(findings: Sequence[Finding], schema: type[BaseModel], prefix: str) -> str:
    path = _plain(findings[0]["loc"])
    *others, last = [text for finding in findings for text in _wanted(finding["loc"][-1], schema, path)]
    return f"`{prefix}{_dotted(path)}` must be {', '.join(others)} or {last}, but is {findings[0]['input']!r}"


def _wanted(member: str, schema: type[BaseModel], path: list[Any]) -> list[str]:
    """What a member of the union at `path` takes."""
    if member.startswith(_LITERAL):
        return member.removeprefix(_LITERAL).removesuffix("]").split(",")
    bounds = _bounds(schema, path) if member.startswith("constrained-") else []
    return [" ".join([text, *bounds]) for text in _MEMBERS[member]]


def _bounds(schema: type[BaseModel], path: list[Any]) -> list[str]:
    """The bounds of the number in a union, such as `>= 1`; pydantic tells them only to a number that breaks them."""
    field = schema.model_fields[path[0]]
    if len(path) > 1:
        assert isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        return _bounds(field.annotation, path[1:])
    infos = [info for member in get_args(field.annotation) for info in getattr(member, "__metadata__", ())]
    limits = [limit for info in infos for limit in info.metadata]
    return [f"{sign} {getattr(limit, key)}" for limit in limits for key, sign in _SIGNS.values() if hasattr(limit, key)]


def _plain(loc: Place) -> list[Any]:
    """A place without what pydantic adds to it."""
    return [part for part in loc if part not in FAMILY_NAMES and not _is_member(part)]


def _describe(finding: Finding, schema: type[BaseModel], prefix: str) -> str:
    path = _plain(finding["loc"])
    dotted = prefix + _dotted(path)
    value, context = finding["input"], finding.get("ctx", {})
    match finding["type"]:
        case "extra_forbidden":
            return f"`{dotted}` is not a setting{_suggest(path, schema, prefix)}"
        case "missing":
            return f"`{dotted}` is required, but missing"
        case "literal_error":
            return f"`{dotted}` must be {context['expected']}, but is {value!r}"
        case "union_tag_invalid":
            found = value.get("name") if isinstance(value, Mapping) else value
            return f"`{dotted}.name` must be one of {context['expected_tags']}, but is {found!r}"
        case "union_tag_not_found":
            return f"`{dotted}.name` is required, but missing: one of {', '.join(FAMILY_NAMES)}"
        case kind if kind in _SIGNS:
            key, sign = _SIGNS[kind]
            return f"`{dotted}` must be {sign} {context[key]}, but is {value!r}"
        case "value_error":
            return f"`{dotted}` {context['error']}" if dotted else str(context["error"])
        case _:
            return f"`{dotted}`: {finding['msg'][0].lower()}{finding['msg'][1:]}, but it is {value!r}"


def _suggest(path: list[Any], schema: type[BaseModel], prefix: str) -> str:
    known = list(setting_names(schema, prefix)) + [f"{prefix}{key}" for key in schema.model_fields]
    if path and path[0] == "model":
        known += [f"model.{key}" for key in StableSyncNetConfig.model_fields]
    dotted = prefix + _dotted(path)
    by_leaf = {name.rpartition(".")[2]: name for name in known}
    leaf = dotted.rpartition(".")[2]
    if dotted in known:  # no typing error, but a setting of another network
        return " of this network"
    return did_you_mean(dotted, known) or (f"; did you mean `{by_leaf[leaf]}`?" if leaf in by_leaf else "")


def _dotted(path: list[Any]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
