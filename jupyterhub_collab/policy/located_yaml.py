"""YAML to plain values, with the line of every key and value, and without YAML's traps.

Scalars follow YAML 1.2's core schema: ``NO``, ``on``, ``1:30``, ``007`` and dates are text; only
``true``/``false``/``null`` and decimal numbers are not. Duplicate keys, keys that are no text, tags
and merge keys are errors. Size, depth and the number of nodes, aliases expanded, are bounded, so
that no file costs more than its size promises. Nothing is ever constructed but dict, list, str,
int, float, bool and None.

Notes
-----
https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from .problems import DocumentError, FieldProblem, Path, to_found

MAX_BYTES: Final = 5 << 20
MAX_DEPTH: Final = 32  # a contest manifest needs eight
MAX_NODES: Final = 500_000  # a 5 MiB manifest of short lines has about as many
MAX_NUMBER_LENGTH: Final = 40  # int() refuses thousands of digits, and nobody means them

_STR = "tag:yaml.org,2002:str"
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_BOOL = "tag:yaml.org,2002:bool"
_NULL = "tag:yaml.org,2002:null"
_SYNTAX: Path = ("(YAML)",)

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]  # libyaml's where there is one: ten times as fast
    """Composes nodes with the core schema's scalars."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    (_BOOL, r"(true|True|TRUE|false|False|FALSE)", "tTfF"),
    (_NULL, r"(~|null|Null|NULL|)", ["~", "n", "N", ""]),
    (_INT, r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (_FLOAT, r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+0123456789."),
):
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list(_first))


@dataclass(frozen=True)
class Lines:
    """Lines, from 1, of each key and of what stands behind it."""

    of_key: dict[Path, int] = field(default_factory=dict)
    of_value: dict[Path, int] = field(default_factory=dict)

    def find(self, path: Path) -> int:
        """Line of a path: of its key, or of the nearest thing around what is missing."""
        while path:
            line = self.of_key.get(path, self.of_value.get(path))
            if line is not None:
                return line
            path = path[:-1]
        return 1


class LocatedError(DocumentError):
    """The text is no acceptable YAML. `line` of each problem beside it."""

    def __init__(self, located: list[tuple[FieldProblem, int]]) -> None:
        self.located = tuple(located)
        super().__init__(problem for problem, _ in located)


def parse_yaml(text: str | bytes) -> tuple[Any, Lines]:
    """Plain value of one YAML document, and where everything stands.

    Raises
    ------
    LocatedError
        Not UTF-8, not YAML, too large, or one of the traps above.
    """
    decoded = _decode(text)
    try:
        _check_shape(decoded)
        node = _Loader(decoded).get_single_node()
    except yaml.MarkedYAMLError as e:
        raise _syntax_error(e, decoded) from e
    except yaml.reader.ReaderError as e:
        raise _one("a character that YAML forbids", "printable text", _line(decoded, e)) from e
    if node is None:
        raise _one("an empty file", "a YAML document", 1)
    reader = _Reader()
    value = reader.to_value(node, ())
    if reader.errors:
        raise LocatedError(reader.errors)
    return value, reader.lines


def _decode(text: str | bytes) -> str:
    size = len(text)
    if size > MAX_BYTES:
        raise _one(f"{size} bytes", f"at most {MAX_BYTES} bytes", 1)
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = text.count(b"\n", 0, e.start) + 1
        raise _one("bytes that are no UTF-8 text", "a text file in UTF-8", line) from e


def _check_shape(text: str) -> None:
    """Bound depth and nodes before anything is built: composing nests as deep as the text does."""
    depth = nodes = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        nodes += isinstance(event, (yaml.CollectionStartEvent, yaml.ScalarEvent))
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            bound = f"{MAX_DEPTH} levels" if depth > MAX_DEPTH else f"{MAX_NODES} entries"
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise _one(f"more than {bound}", f"at most {bound}", line)


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> LocatedError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    said = error.problem or error.context or "no YAML"
    if mark and text.split("\n")[mark.line : mark.line + 1] and "\t" in _indent(text, mark.line):
        return _one("a tab", "spaces: YAML forbids tabs for indentation", line)
    if "another document" in said or "single document" in (error.context or ""):
        return _one("a second document", "one document in a file", line)
    if "undefined alias" in said:
        return _one("an alias to nothing", "an anchor (&name) that stands before its alias", line)
    return _one(f"text that is no YAML ({said})", "valid YAML", line)


def _indent(text: str, line_index: int) -> str:
    line = text.split("\n")[line_index]
    return line[: len(line) - len(line.lstrip())]


def _line(text: str, error: yaml.reader.ReaderError) -> int:
    return text.count("\n", 0, error.position) + 1


def _one(found: str, expected: str, line: int) -> LocatedError:
    return LocatedError([(FieldProblem(_SYNTAX, found, expected), line)])


class _Reader:
    """Walks the composed nodes once; collects lines and errors."""

    def __init__(self) -> None:
        self.lines = Lines()
        self.errors: list[tuple[FieldProblem, int]] = []
        self._open: set[int] = set()  # nodes on the way down: an alias to one is a loop
        self._nodes = 0

    def to_value(self, node: yaml.Node, path: Path) -> Any:
        """Plain value of a node; None where it is wrong, with an error noted."""
        line = node.start_mark.line + 1
        self.lines.of_value[path] = line
        self._nodes += 1
        if self._nodes > MAX_NODES:
            # Aliases of aliases: the text is small, what it stands for is not.
            found = f"aliases that stand for more than {MAX_NODES} entries"
            raise _one(found, "the entries written out", line)
        if id(node) in self._open or len(path) > MAX_DEPTH:
            raise _one("an alias to what holds it", "no loops", line)
        if isinstance(node, yaml.ScalarNode):
            return self._to_scalar(node, path)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                self._check_tag(node, path, "tag:yaml.org,2002:seq")
                return [self.to_value(item, (*path, i)) for i, item in enumerate(node.value)]
            self._check_tag(node, path, "tag:yaml.org,2002:map")
            return {key: self.to_value(item, (*path, key)) for key, item in self._keys(node, path)}
        finally:
            self._open.discard(id(node))

    def _keys(self, node: yaml.Node, path: Path) -> Iterator[tuple[str, yaml.Node]]:
        seen: dict[str, int] = {}
        for key_node, item in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(path, "a key that is a list or a mapping", "text", line)
                continue
            key = str(key_node.value)
            where = (*path, key)
            if key_node.tag != _STR:
                found = f"the key {key or '(empty)'}, which YAML does not read as text"
                self._note(where, found, "text; put it in quotes", line)
            elif key == "<<" and key_node.style in (None, ""):
                self._note(where, "a merge key", "the fields written out", line)
            elif key in seen:
                expected = f"it once; it stands on line {seen[key]} too"
                self._note(where, "the key a second time", expected, line)
            else:
                seen[key] = line
                self.lines.of_key[where] = line
                yield key, item

    def _to_scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = str(node.value)
        if node.tag == _NULL:
            return None
        if node.tag == _BOOL:
            return text.lower() == "true"
        if node.tag == _INT and len(text) <= MAX_NUMBER_LENGTH:
            return _number(text, int)
        if node.tag == _FLOAT and len(text) <= MAX_NUMBER_LENGTH:
            return _number(text, float)
        if node.tag not in (_STR, _INT, _FLOAT):
            self._check_tag(node, path, _STR)
        return text

    def _check_tag(self, node: yaml.Node, path: Path, tag: str) -> None:
        if node.tag != tag:
            found = f"the tag {to_found(node.tag)}"
            self._note(path, found, "no tag", node.start_mark.line + 1)

    def _note(self, path: Path, found: str, expected: str, line: int) -> None:
        self.errors.append((FieldProblem(path, found, expected), line))


def _number(text: str, kind: type[int] | type[float]) -> int | float | str:
    """The number; the text where an explicit tag calls something a number that is none."""
    try:
        return kind(text)
    except ValueError:
        return text
