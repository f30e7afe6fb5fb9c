"""Python of the documentation, read and not run: names are defined, attributes exist, calls fit the real signatures.

Contract: what a name holds is followed through imports, assignments and the annotations of what is called. Where that
is not known nothing is said, so every finding is a real one.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from orchestrator.config import load_config
from tests.docs.programs import problems as command_problems
from tests.docs.settings import run_problems
from tests.docs.shell import commands

READERS_OWN = frozenset({"audio", "frames", "labels", "vision"})
"""Names that examples take for granted: tensors of the reader's."""


@dataclass(frozen=True)
class Known:
    """An object that is there: a module, a class, a function."""

    value: Any
    bound: bool = False
    """A method of an instance."""


@dataclass(frozen=True)
class Instance:
    """Some object of a class."""

    kind: type


@dataclass(frozen=True)
class Unknown:
    """Anything."""


Thing = Known | Instance | Unknown


def python_problems(source: str) -> list[str]:
    """Everything that is wrong with a block of Python, one sentence each."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    reader = _Reader({name: Unknown() for name in READERS_OWN})
    for statement in tree.body:
        reader.visit(statement)
    return reader.found


@dataclass
class _Reader(ast.NodeVisitor):
    """Goes through statements in order, and tells what each expression holds."""

    names: dict[str, Thing]
    found: list[str] = field(default_factory=list)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            module = self._import(node, alias.name)
            top = importlib.import_module(alias.name.partition(".")[0]) if module is not None else None
            self.names[alias.asname or alias.name.partition(".")[0]] = Known(module if alias.asname else top)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = self._import(node, node.module or "")
        for alias in node.names:
            self.names[alias.asname or alias.name] = self._attribute(node, Known(module), alias.name)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.names[node.name] = Unknown()
        arguments = {argument.arg: Unknown() for argument in [*node.args.args, *node.args.kwonlyargs]}
        inner = _Reader({**self.names, **arguments}, self.found)
        for statement in node.body:
            inner.visit(statement)

    def visit_Assign(self, node: ast.Assign) -> None:
        value = self.visit(node.value)
        for target in node.targets:
            self._assign(target, value)

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self._assign(node.target, Unknown())
        for statement in node.body:
            self.visit(statement)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            value = self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._assign(item.optional_vars, value)
        for statement in node.body:
            self.visit(statement)

    def visit_ListComp(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp) -> Thing:
        for part in node.generators:
            self.visit(part.iter)
            self._assign(part.target, Unknown())
        self.generic_visit(node)
        return Unknown()

    visit_GeneratorExp = visit_SetComp = visit_DictComp = visit_ListComp

    def visit_Name(self, node: ast.Name) -> Thing:
        if node.id in self.names:
            return self.names[node.id]
        if hasattr(builtins, node.id):
            return Known(getattr(builtins, node.id))
        self._say(node, f"the name {node.id} is not defined")
        return Unknown()

    def visit_Attribute(self, node: ast.Attribute) -> Thing:
        return self._attribute(node, self.visit(node.value), node.attr)

    def visit_Call(self, node: ast.Call) -> Thing:
        called = self.visit(node.func)
        for value in [*node.args, *(keyword.value for keyword in node.keywords)]:
            self.visit(value)
        if isinstance(called, Unknown):
            return called
        function = called.value if isinstance(called, Known) else _call_of(called.kind)
        self._check_call(node, function, bound=isinstance(called, Instance) or called.bound)
        return _result(function) if isinstance(called, Known) else Unknown()

    def generic_visit(self, node: ast.AST) -> Thing:
        super().generic_visit(node)
        return Unknown()

    def _import(self, node: ast.AST, name: str) -> Any:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            self._say(node, str(error))
            return None

    def _assign(self, target: ast.expr, value: Thing) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
        for element in getattr(target, "elts", ()):
            self._assign(element, Unknown())

    def _attribute(self, node: ast.AST, thing: Thing, name: str) -> Thing:
        if isinstance(thing, Unknown) or (isinstance(thing, Known) and thing.value is None):
            return Unknown()
        if isinstance(thing, Instance):
            return self._attribute_of_instance(node, thing.kind, name)
        if not hasattr(thing.value, name):
            self._say(node, f"{_name(thing.value)} has no {name}")
            return Unknown()
        return Known(getattr(thing.value, name))

    def _attribute_of_instance(self, node: ast.AST, kind: type, name: str) -> Thing:
        hints = _hints(kind)
        member = inspect.getattr_static(kind, name, None)
        if isinstance(member, property):
            return _thing(_hints(member.fget).get("return"))
        if inspect.isfunction(member):
            return Known(member, bound=True)
        if name in hints:
            return _thing(hints[name])
        if not hasattr(kind, name) and not hasattr(kind, "__getattr__") and not _sets(kind, name):
            self._say(node, f"a {kind.__name__} has no {name}")
        return Unknown()

    def _check_call(self, node: ast.Call, function: Any, bound: bool) -> None:
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # builtins of C have none
            return
        starred = any(isinstance(value, ast.Starred) for value in node.args)
        keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg is not None}
        if not starred and len(keywords) == len(node.keywords):
            try:
                signature.bind(*[None] * (len(node.args) + bound), **keywords)
            except TypeError as error:
                self._say(node, f"{_name(function)}: {error}")
        self._check_values(node, function)

    def _check_values(self, node: ast.Call, function: Any) -> None:
        """Configurations and entry points are checked by what they say."""
        literals = [value.value for value in node.args if isinstance(value, ast.Constant)]
        if function is load_config and literals:
            overrides = ast.literal_eval(node.args[1]) if len(node.args) > 1 else []
            self.found += [f"line {node.lineno}: {problem}" for problem in run_problems(literals[0], overrides)]
        for keyword in node.keywords:
            if keyword.arg == "entrypoint" and isinstance(keyword.value, ast.Constant):
                for command in commands(str(keyword.value.value)):
                    self.found += [f"line {node.lineno}: {problem}" for problem in command_problems(command)]

    def _say(self, node: ast.AST, what: str) -> None:
        self.found.append(f"line {getattr(node, 'lineno', 0)}: {what}")


def _call_of(kind: type) -> Any:
    """What runs when an instance is called."""
    return kind.forward if issubclass(kind, nn.Module) else inspect.getattr_static(kind, "__call__", None)


def _result(function: Any) -> Thing:
    """What a call gives, as far as annotations tell."""
    return Instance(function) if inspect.isclass(function) else _thing(_hints(function).get("return"))


def _thing(hint: Any) -> Thing:
    return Instance(hint) if inspect.isclass(hint) and hint is not type(None) else Unknown()


def _hints(thing: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(thing)
    except (NameError, TypeError):  # annotated with what is imported for type checkers only
        return {}


def _sets(kind: type, name: str) -> bool:
    """Whether a class of ours or of others sets an attribute on itself somewhere."""
    return any(f"self.{name}" in source for source in _sources(kind))


def _sources(kind: type) -> Iterator[str]:
    for each in kind.__mro__[:-1]:
        try:
            yield inspect.getsource(each)
        except (OSError, TypeError):
            continue


def _name(value: Any) -> str:
    return str(getattr(value, "__name__", value))
