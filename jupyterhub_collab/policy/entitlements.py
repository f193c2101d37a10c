"""From facts about a person to teams, roles and data sets: the one decider. Pure.

Rules come from the admin's file. Each names the source that must say so, so that a portal cannot
give what a directory gives by calling a group alike. What is given is the sum of all rules that
hold; no rule takes away. A person whom no rule and no roster names is nobody here, whoever let them
in.

Matching: a text is compared as it is; distinguished names by what they name
(`policy.distinguished_name`). In a pattern (``like``) ``*`` is any run of characters within one
step of a distinguished name, or within the text, and ``{team}`` is an id that the rule then gives.
Patterns that could be read in two ways are refused, so that nobody gets into another team by a
cleverly named group.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .. import names
from ..models import HUB_ADMIN, ClaimMatch, EntitlementRules, Facts, Gives, Pattern, Rule
from ..models.entitlement import Entitlement, Entitlements, Granted, Role
from .distinguished_name import MAX_LENGTH, Rdn, fold, parse_dn
from .document_file import read_document
from .problems import FieldProblem, Path, to_found

KIND: Final = "Entitlements"
_PLACE = re.compile(r"(\*|\{[^{}]*\})")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_VALUES_MAX: Final = 10_000  # of one claim; a directory's largest groups are smaller

Captured = Mapping[str, str]


def parse_entitlement_rules(text: str | bytes, *, file: str) -> EntitlementRules:
    """Read and check a file of rules. Raises SpecError with all problems, by line."""
    return read_document(EntitlementRules, text, file=file, kind=KIND, check=_check_rules)


def decide(
    facts: Facts, rules: EntitlementRules, *, exists: Callable[[Entitlement], bool]
) -> Entitlements:
    """All that the rules give this person.

    Parameters
    ----------
    exists
        Whether there is that team, contest or data set. What there is not is given to nobody:
        whoever makes it later decides who is in it.
    """
    granted: dict[Entitlement, Granted] = {}
    notes: dict[str, None] = {}
    for number, rule in enumerate(rules.rules, start=1):
        if rule.issuer != facts.identity.issuer:
            continue
        for captured, because in _matches(rule, facts, notes):
            what = _fill(rule.gives, captured)
            if what is None or not (what == HUB_ADMIN or exists(what)):
                found = _fill_text(_target(rule.gives), captured)
                notes[f"rule {number} would give {to_found(found)}, which there is not"] = None
            else:
                granted.setdefault(what, Granted(what, f"{because} (rule {number})"))
    return Entitlements(tuple(granted[what] for what in sorted(granted, key=_order)), tuple(notes))


def matching_groups(facts: Facts, rules: EntitlementRules) -> tuple[str, ...]:
    """Those of a person's groups that some rule of their source looks at, in the facts' order.

    Whether these are still the person's groups decides whether the rules would say the same, as far
    as groups go: it is what a source is asked in bulk.
    """
    wanted = [rule.group for rule in rules.rules if rule.issuer == facts.identity.issuer]
    matchers = [_to_matcher(group) for group in wanted if group is not None]
    return tuple(g for g in facts.groups if any(m.match(g) is not None for m in matchers))


def explain(entitlements: Entitlements) -> list[str]:
    """A line for each thing given, and for each that could not be; for people."""
    return [str(granted) for granted in entitlements.granted] + list(entitlements.notes)


def _order(what: Entitlement) -> tuple[str, ...]:
    return (what.team, what.contest, what.dataset, what.role.value if what.role else "")


def _matches(rule: Rule, facts: Facts, notes: dict[str, None]) -> Iterator[tuple[Captured, str]]:
    """What each way in which the rule holds captured, and why it holds."""
    reasons: list[str] = []
    if rule.subject is not None:
        if rule.subject != facts.identity.subject:
            return
        reasons.append("named by the rule itself")
    for by_group, group in _match_group(rule.group, facts):
        for by_claim, claim in _match_claim(rule.claim, facts, notes):
            if any(by_claim.get(key, value) != value for key, value in by_group.items()):
                continue  # {team} here and {team} there must be the same
            words = [*reasons, *group, *claim] or [f"known to {facts.identity.issuer}"]
            yield {**by_group, **by_claim}, " and ".join(words)


_ANYWAY: Final[tuple[tuple[Captured, list[str]], ...]] = (({}, []),)


def _match_group(
    wanted: str | Pattern | None, facts: Facts
) -> Iterable[tuple[Captured, list[str]]]:
    if wanted is None:
        return _ANYWAY
    matcher = _to_matcher(wanted)
    found = ((matcher.match(group), group) for group in facts.groups)
    return [({**c}, [f"member of {group}"]) for c, group in found if c is not None]


def _match_claim(
    wanted: ClaimMatch | None, facts: Facts, notes: dict[str, None]
) -> Iterable[tuple[Captured, list[str]]]:
    if wanted is None:
        return _ANYWAY
    path = (wanted.name,) if isinstance(wanted.name, str) else wanted.name
    label = ".".join(path)
    value: Any = facts.claims
    for step in path:
        if not isinstance(value, Mapping):
            notes[f"claim {label} is not where the rules look for it"] = None
            return ()
        value = value.get(step)
    values = _values_of(value)
    if values is None:
        notes[f"claim {label} holds {to_found(value)}, nothing to compare"] = None
        return ()
    if wanted.like is None:
        if any(type(v) is type(wanted.is_) and v == wanted.is_ for v in values):
            return [({}, [f"{label} is {to_found(wanted.is_)}"])]
        return ()
    matcher = _Matcher(wanted.like, is_pattern=True)
    texts = [v for v in values if isinstance(v, str)]
    return [({**c}, [f"{label} is {v}"]) for v in texts if (c := matcher.match(v)) is not None]


def _values_of(value: object) -> list[object] | None:
    """Plain values of a claim, one or a list of them; None: something else. Absent: none."""
    if value is None:
        return []
    if isinstance(value, (str, int, bool)):
        return [value]
    if not isinstance(value, (list, tuple)) or len(value) > _VALUES_MAX:
        return None
    return list(value) if all(isinstance(v, (str, int, bool)) for v in value) else None


def _target(gives: Gives) -> str:
    return gives.team or gives.dataset or gives.contest or "admin"


def _fill(gives: Gives, captured: Captured) -> Entitlement | None:
    """The rule's gift with the captured ids in it; None when one of them is no id."""
    texts = {key: getattr(gives, key) for key in ("team", "contest", "dataset")}
    filled = {key: _fill_text(text, captured) for key, text in texts.items() if text is not None}
    if not all(names.is_team_id(text) for text in filled.values()):
        return None
    role = gives.role or (Role.MEMBER if gives.team else None)
    return Entitlement(**filled, role=role)


def _fill_text(text: str, captured: Captured) -> str:
    return re.sub(r"\{([^{}]*)\}", lambda m: captured.get(m.group(1), ""), text)


@dataclass(frozen=True)
class _Steps:
    """A distinguished name to match: for each step its types with what their values are like."""

    steps: tuple[tuple[tuple[str, re.Pattern[str]], ...], ...]

    def match(self, found: tuple[Rdn, ...]) -> Captured | None:
        if len(found) != len(self.steps):
            return None
        captured: dict[str, str] = {}
        for wanted, step in zip(self.steps, found, strict=True):
            if len(wanted) != len(step):
                return None
            values = dict(step)
            for kind, pattern in wanted:
                m = pattern.fullmatch(values.get(kind, ""))
                ids = None if m is None else _ids(m)
                if ids is None or any(captured.get(k, v) != v for k, v in ids.items()):
                    return None
                captured.update(ids)
        return captured


def _ids(match: re.Match[str]) -> Captured | None:
    """What was captured; None when something of it is longer than an id."""
    found = match.groupdict()
    return found if all(names.is_team_id(text) for text in found.values()) else None


class _Matcher:
    """Whether texts are the wanted one, or like it."""

    def __init__(self, wanted: str, *, is_pattern: bool) -> None:
        make = _compile if is_pattern else (lambda text: re.compile(re.escape(text), re.DOTALL))
        self._text = make(wanted)
        steps = parse_dn(wanted)
        self._steps = steps and _Steps(
            tuple(tuple((kind, make(value)) for kind, value in sorted(step)) for step in steps)
        )

    def match(self, text: str) -> Captured | None:
        """What it captures; None when it does not match."""
        if self._steps:
            found = parse_dn(text)
            return None if found is None else self._steps.match(found)
        m = self._text.fullmatch(text) if len(text) <= MAX_LENGTH else None
        return None if m is None else _ids(m)


def _to_matcher(wanted: str | Pattern) -> _Matcher:
    if isinstance(wanted, Pattern):
        return _Matcher(wanted.like, is_pattern=True)
    return _Matcher(wanted, is_pattern=False)


def _compile(pattern: str) -> re.Pattern[str]:
    """A pattern's expression. Whoever calls has refused those of `_ambiguity`."""
    parts: list[str] = []
    seen: set[str] = set()
    for part in _PLACE.split(pattern):
        if part == "*":
            parts.append(".*")
        elif part.startswith("{") and _PLACE.fullmatch(part):
            name = part[1:-1]
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{names.TEAM_ID_PATTERN})")
            seen.add(name)
        else:
            parts.append(re.escape(part))
    return re.compile("".join(parts), re.DOTALL)


def _check_rules(document: EntitlementRules) -> Iterator[FieldProblem]:
    for number, rule in enumerate(document.rules):
        for problem in (*_check_rule(rule), *_check_gives(rule)):
            yield FieldProblem(("rules", number, *problem.path), problem.found, problem.expected)


def _check_rule(rule: Rule) -> Iterator[FieldProblem]:
    for path, text in _patterns(rule):
        reason = _ambiguity(text)
        if reason:
            yield FieldProblem(path, to_found(text), reason)
    claim = rule.claim
    is_anybody = all(part is None for part in (rule.subject, rule.group, claim))
    if rule.gives.role is Role.ADMIN and is_anybody:
        expected = (
            "a subject, a group or a claim: everybody of this source would be the hub's admin"
        )
        yield FieldProblem(("gives", "role"), "admin", expected)
    if claim is not None and (claim.is_ is None) == (claim.like is None):
        yield FieldProblem(("claim",), "both or neither of is and like", "exactly one of them")


def _patterns(rule: Rule) -> Iterator[tuple[Path, str]]:
    if isinstance(rule.group, Pattern):
        yield ("group", "like"), rule.group.like
    if rule.claim is not None and rule.claim.like is not None:
        yield ("claim", "like"), rule.claim.like


def _ambiguity(pattern: str) -> str:
    """What must be otherwise for a pattern to be read in one way only; empty: it is."""
    steps = parse_dn(pattern)
    values = [pattern] if steps is None else [value for step in steps for _, value in step]
    for value in values:
        tokens = _PLACE.split(value)
        captures = [t[1:-1] for t in tokens[1::2] if t != "*"]
        if not all(_NAME.fullmatch(name) for name in captures):
            return "names in braces of small letters, digits and underscores"
        if any("{" in text or "}" in text for text in tokens[0::2]):
            return "braces only around a name"
        stars = tokens.count("*")
        if stars > (1 if captures else 4):
            return "at most one * beside a name in braces, and at most four at all"
        between = tokens[2:-1:2]
        if captures and any(re.fullmatch(r"[a-z0-9-]*", fold(text)) for text in between):
            return (
                "between two of * and {name} something that no id has, such as an underscore: "
                "one text could be read in two ways"
            )
    return ""


_ROLES_OF: Final[Mapping[str, frozenset[Role | None]]] = {
    "team": frozenset({None, Role.MEMBER, Role.CAPTAIN}),
    "dataset": frozenset({None, Role.DATA_STEWARD}),
    "contest": frozenset({Role.JUDGE, Role.HOST}),
    "": frozenset({Role.ADMIN}),
}


def _check_gives(rule: Rule) -> Iterator[FieldProblem]:
    gives = rule.gives
    if gives.team and (gives.contest or gives.dataset):
        yield FieldProblem(("gives",), "a team and more", "a team alone: it knows its contest")
        return
    if gives.dataset and not gives.contest:
        yield FieldProblem(("gives", "contest"), "nothing", "the contest whose data set it is")
    target = next((k for k in ("team", "dataset", "contest") if getattr(gives, k)), "")
    if gives.role not in _ROLES_OF[target]:
        allowed = sorted(role.value for role in _ROLES_OF[target] if role)
        found = to_found(gives.role.value if gives.role else None)
        what = f"of a {target}" if target else "without team, contest or data set"
        yield FieldProblem(("gives", "role"), found, f"{what}: {', '.join(allowed)}")
    captured = {t[1:-1] for _, text in _patterns(rule) for t in _PLACE.findall(text) if t != "*"}
    for key in ("team", "contest", "dataset"):
        text = getattr(gives, key)
        if text is None:
            continue
        wanted = {place[1:-1] for place in _PLACE.findall(text) if place != "*"}
        if len(_PLACE.findall(text)) > 1:
            expected = "one name in braces: two ids in one text could be split in two ways"
            yield FieldProblem(("gives", key), to_found(text), expected)
        elif wanted - captured:
            expected = "names in braces that the rule's group or claim has too"
            yield FieldProblem(("gives", key), to_found(text), expected)
        elif not wanted and not names.is_team_id(text):
            yield FieldProblem(("gives", key), to_found(text), names.TEAM_ID_RULE)
