"""What searches of the audit log should find, beside what the database says they find.

An event that no search finds is as good as gone, so the tables that repeat an event's names and
data sets are compared with the events themselves.

It must not: repeat a name in what it tells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from .audit_bundle import read_json
from .audit_finding import Findings, Kind

_LISTS_MAX: Final = 10_000

Key = TypeVar("Key", bytes, tuple[bytes, bytes])


class SearchIndex:
    """Collects what events say, then compares.

    Attributes
    ----------
    names
        Of each name the events that name it, rising.
    """

    def __init__(self) -> None:
        self.names: defaultdict[bytes, list[int]] = defaultdict(list)
        self._datasets: defaultdict[tuple[bytes, bytes], list[int]] = defaultdict(list)
        self._lists: dict[tuple[bytes, bytes], list[list[int]]] = {}  # most come again and again

    def add_name(self, sequence: int, name: bytes) -> None:
        """An event names somebody. Sequences rise."""
        self.names[name].append(sequence)

    def add_datasets(self, sequence: int, contest: bytes, datasets: bytes) -> None:
        """An event is about data sets: a JSON list. Sequences rise."""
        key = (contest, datasets)
        found = self._lists.get(key)
        if found is None:
            found = [self._datasets[contest, dataset] for dataset in _to_names(datasets)]
            if len(self._lists) < _LISTS_MAX:
                self._lists[key] = found
        for sequences in found:
            sequences.append(sequence)

    def compare(
        self,
        names: Iterable[tuple[bytes, bytes]],
        datasets: Iterable[tuple[bytes, bytes, bytes]],
    ) -> Findings:
        """What does not fit.

        Parameters
        ----------
        names
            For each name in the database its events: ``b"1, 5, 9"``.
        datasets
            Likewise, for each contest and data set.
        """
        findings = Findings()
        _compare(findings, self.names, names, "person")
        found = (((contest, dataset), events) for contest, dataset, events in datasets)
        _compare(findings, self._datasets, found, "data set")
        return findings


def _compare(
    findings: Findings,
    wanted: Mapping[Key, list[int]],
    found: Iterable[tuple[Key, bytes]],
    what: str,
) -> None:
    left = set(wanted)
    for key, text in found:
        right = wanted.get(key, [])
        left.discard(key)
        if b"[%b]" % text == str(right).encode():
            continue
        there = {int(sequence) for sequence in text.split(b",")}
        for sequence in sorted(set(right) - there):
            _tell_hidden(findings, sequence, what)
        for sequence in sorted(there - set(right)):
            findings.add(
                Kind.INDEX,
                sequence,
                f"Searches for a {what} find event {sequence}, which does not name it (any more).",
            )
    for key in left:
        for sequence in wanted[key]:
            _tell_hidden(findings, sequence, what)


def _tell_hidden(findings: Findings, sequence: int, what: str) -> None:
    findings.add(
        Kind.INDEX,
        sequence,
        f"Event {sequence} is hidden from searches for a {what} that it names.",
    )


def _to_names(datasets: bytes) -> tuple[bytes, ...]:
    names = read_json(b'{"names":' + datasets + b"}")["names"]
    return tuple(dict.fromkeys(name.encode() for name in names))
