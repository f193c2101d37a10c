"""Whether an audit log is what it was: all that can be told from the log and from heads outside.

One pass in bounded memory. Blocks are checked by themselves (`audit_block`, in as many processes as
one likes) and put together here in the log's order: the tree and its heads (`audit_tree`), each
emitter's count, absences and the events that allow them.

Three things outside the log are believed: its public key, and checkpoints and tiles that somebody
else kept. Up to the last such checkpoint every change is found, also one by whoever holds the log's
key and all of its database; what comes after is checked in itself and reported as not anchored.

It must not: read anything, or tell the time.
"""

from __future__ import annotations

import bisect
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from ..models.audit import Verb
from .audit_block import PART_NUMBERS, PARTS_SHIFT, BlockReport, Run
from .audit_bundle import BundleError, read_json
from .audit_finding import OF_EVENTS, Finding, Findings, Kind
from .audit_form import Facts
from .audit_marks import Gap, read_erased, read_gap, read_retired
from .audit_tree import DerivedTiles, Fetch, LogTree, TrustedTiles
from .checkpoint import Checkpoint, CheckpointError, LogVerifier
from .tiles import TILE_WIDTH, MissingTileError

SPOOLS_MAX: Final = 100_000  # each start of an emitter without its old spool is one
_OWN: Final = b"audit"
_TRIES: Final = 100  # checkpoints that tiles are tried against, newest first


class CannotCheckError(Exception):
    """Nothing can be said about the log. The text says why and what to do."""


@dataclass(frozen=True)
class Note:
    """A signed checkpoint, and where it is from, for people: ``anchor/checkpoints/5000``."""

    place: str
    text: str


@dataclass(frozen=True)
class Evidence:
    """What a log is checked against.

    Attributes
    ----------
    key
        The log's public key, from somebody who can be trusted.
    outside
        Checkpoints that were kept outside of the log.
    tiles
        Tiles that were kept outside.
    """

    key: LogVerifier
    outside: Sequence[Note] = ()
    tiles: Sequence[Fetch] = ()


@dataclass(frozen=True)
class LogShape:
    """What a log holds, beside its events.

    Attributes
    ----------
    first, last
        Its first and last event; `last` 0 for none.
    inside
        Checkpoints that it keeps itself.
    full_tile
        Full tiles that it keeps itself, by level and number. None: it keeps none at all.
    leaf_hashes
        Hashes of leaves start..end-1 (from 0) of its events, to make other tiles of.
    fetch
        Tiles of any width that it keeps.
    is_copy
        It was taken at some time: a checkpoint from outside may be younger.
    """

    first: int
    last: int
    inside: Sequence[Note] = ()
    full_tile: Callable[[int, int], bytes | None] | None = None
    leaf_hashes: Callable[[int, int], list[bytes]] | None = None
    fetch: Fetch | None = None
    is_copy: bool = False


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes
    ----------
    findings
        All that is wrong, by event; at most some hundred of a kind. `counts` counts all.
    anchored
        Up to which event a checkpoint from outside says that the log is what it was. 0: to none.
    outside, inside
        How many checkpoints from outside, and of the log itself, fit.
    retired
        The last event that was taken away with authority; 0 for none.
    redacted
        By an erasing event: how many parts of people it allows to be gone.
    selected
        Of a bundle of some events: how many.
    warnings
        What is not wrong and should be known.
    """

    size: int
    findings: tuple[Finding, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    anchored: int = 0
    outside: int = 0
    inside: int = 0
    people: int = 0
    retired: int = 0
    retired_by: int = 0
    redacted: dict[int, int] = field(default_factory=dict)
    selected: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_fine(self) -> bool:
        """Whether nothing is wrong; there may be events that are not anchored."""
        return not self.findings

    @property
    def unanchored(self) -> tuple[int, int] | None:
        """First and last event that no checkpoint from outside vouches for."""
        return (self.anchored + 1, self.size) if self.anchored < self.size else None

    @property
    def first_bad(self) -> Finding | None:
        """The first thing that is wrong, as narrowly as is known.

        Where heads alone tell, something before the first event that is bad by itself may be bad,
        too. Heads that the log keeps itself narrow it from above only: its key may be stolen.
        """
        found = [finding for finding in self.findings if finding.first] or list(self.findings)
        if not found:
            return None
        first = found[0]
        if first.is_exact:
            return first
        last, text = first.last, first.text
        for other in found[1:]:
            upto = other.first if other.is_exact else other.last
            if other.kind in OF_EVENTS and upto < last:
                last = upto
                text = f"The first bad event is one of {first.first} to {last}. {other.text}"
        return Finding(first.kind, first.first, last, text, is_exact=False)

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON values."""
        first = self.first_bad
        return {
            "fine": self.is_fine,
            "size": self.size,
            "anchored": self.anchored,
            "unanchored": self.unanchored,
            "checkpoints": {"outside": self.outside, "inside": self.inside},
            "people": self.people,
            "retired": {"until": self.retired, "by": self.retired_by} if self.retired else None,
            "redacted": {str(event): count for event, count in sorted(self.redacted.items())},
            "firstBad": None if first is None else _to_wire(first),
            "findings": [_to_wire(found) for found in self.findings],
            "counts": self.counts,
            "selected": self.selected,
            "warnings": list(self.warnings),
        }


def _to_wire(found: Finding) -> dict[str, Any]:
    return {
        "kind": found.kind.value,
        "first": found.first,
        "last": found.last,
        "exact": found.is_exact,
        "text": found.text,
    }


class LogCheck:
    """One check of one log: `add` all blocks in order, then `finish`.

    Raises
    ------
    CannotCheckError
        Checkpoints from outside were given, and the key signed none of them.
    """

    def __init__(self, shape: LogShape, evidence: Evidence) -> None:
        self._shape = shape
        self._findings = Findings()
        self._warnings: list[str] = []
        self._outside = self._open(evidence.outside, evidence.key, is_outside=True)
        self._inside = self._open(shape.inside, evidence.key, is_outside=False)
        if evidence.outside and not self._outside:
            raise CannotCheckError(
                "None of the checkpoints from outside is signed by this key"
                f" ({self._findings_text()}). Check that it is the key of this log."
            )
        self._signed_to = 0  # how far tiles reach that lead to a head from outside
        trusted = self._trust(evidence.tiles)
        sizes = [checkpoint.size for _, checkpoint in (*self._outside, *self._inside)]
        self._tree = LogTree(
            trusted, shape.full_tile, (size for size in sizes if size <= shape.last)
        )
        self._spools: dict[tuple[bytes, bytes], int] = {}
        self._open_gaps: list[tuple[Gap, int]] = []
        self._gaps: list[Gap] = []
        self._absent = array("Q")
        self._allowed = array("Q")
        self._retired_until = self._retired_by = 0
        self._stored = b""
        self._people = 0
        self._heads: set[int] = set()  # sizes of which some checkpoint fits
        self._begin()

    def add(self, report: BlockReport) -> None:
        """The next block."""
        self._findings.merge(report.findings)
        self._people += report.people
        self._tree.add(report.leaves, report.holes, report.heads)
        for first, last in _ranges(report.holes):
            which = f"Event {first} is" if first == last else f"Events {first} to {last} are"
            self._findings.add(Kind.MISSING, first, f"{which} missing.", last)
        if report.stored is not None:
            if report.stored[0] < self._stored:
                text = f"Event {report.first} was stored before the one before it."
                self._findings.add(Kind.TIME, report.first, text)
            self._stored = max(self._stored, report.stored[1])
        for run in report.runs:
            self._count(run)
        self._absent.extend(report.absent)
        self._allowed.extend([0] * len(report.absent))
        for sequence, facts in report.marks:
            self._take_mark(sequence, facts)

    def add_findings(self, findings: Findings) -> None:
        """What was found elsewhere."""
        self._findings.merge(findings)

    def end_at(self, last: int) -> None:
        """There are no events after this one, whatever was said."""
        if last < self._shape.last:
            text = f"Events {last + 1} to {self._shape.last} are missing."
            self._findings.add(Kind.MISSING, last + 1, text, self._shape.last)
            if self._tree.broken_at is None:
                self._tree.broken_at = last + 1

    def finish(self) -> Verdict:
        """All blocks were added."""
        self._tree.finish()
        self._findings.merge(self._tree.findings)
        self._check_retired()
        self._check_gaps()
        redacted = self._check_absent()
        anchored, outside, inside = self._check_heads()
        for event in sorted(redacted):
            if event > anchored:
                self._warnings.append(f"Event {event}, which erased people, is not anchored yet.")
        if self._retired_by > anchored:
            text = f"Event {self._retired_by}, which retired others, is not anchored yet."
            self._warnings.append(text)
        return Verdict(
            size=self._shape.last,
            findings=tuple(self._findings),
            counts={kind.value: count for kind, count in sorted(self._findings.counts.items())},
            anchored=anchored,
            outside=outside,
            inside=inside,
            people=self._people,
            retired=self._shape.first - 1 if self._retired_until else 0,
            retired_by=self._retired_by,
            redacted=dict(redacted),
            warnings=tuple(self._warnings),
        )

    def _open(
        self, notes: Iterable[Note], key: LogVerifier, *, is_outside: bool
    ) -> list[tuple[Note, Checkpoint]]:
        """Checkpoints that the key signed, smallest first."""
        found = []
        for note in {note.text: note for note in notes}.values():  # a folder holds the newest twice
            try:
                found.append((note, key.open(note.text)))
            except CheckpointError as e:
                text = f"{note.place} is not a checkpoint of this log: {e}."
                self._findings.add(Kind.CHECKPOINT, 0, text)
        found.sort(key=lambda opened: opened[1].size)
        whose = "outside" if is_outside else "the log"
        for (one, before), (other, after) in pairwise(found):
            if before.size == after.size and before.root != after.root:
                text = (
                    f"The log's key signed two heads of {after.size} events, in {whose}:"
                    f" {one.place} and {other.place}."
                )
                self._findings.add(Kind.CHECKPOINT, 0, text)
        return found

    def _findings_text(self) -> str:
        return next((found.text for found in self._findings), "")

    def _trust(self, outside_tiles: Sequence[Fetch]) -> list[TrustedTiles]:
        """Tiles under the newest head of outside that any lead to, then under one of the log."""
        shape = self._shape
        sources = list(outside_tiles)
        if shape.fetch is not None:
            sources.append(shape.fetch)
        if shape.leaf_hashes is not None:
            full = shape.full_tile or (lambda level, number: None)
            sources.append(DerivedTiles(full, shape.leaf_hashes).fetch)
        trusted: list[TrustedTiles] = []
        for opened in (self._outside, self._inside):
            for _, checkpoint in opened[::-1][:_TRIES]:
                if trusted and checkpoint.size <= trusted[-1].size:
                    break
                fitting = _first_fitting(checkpoint, sources)
                if fitting is not None:
                    trusted.append(fitting)
                    if opened is self._outside:
                        self._signed_to = checkpoint.size
                    break
        return trusted

    def _begin(self) -> None:
        """What is not there at the beginning."""
        gone = self._shape.first - 1
        if self._shape.last:
            self._tree.skip(gone - gone % TILE_WIDTH)

    def _count(self, run: Run) -> None:
        spool = (run.emitter, run.incarnation)
        last = self._spools.get(spool)
        if max(len(self._spools), len(self._gaps), len(self._open_gaps)) >= SPOOLS_MAX:
            raise CannotCheckError(
                f"The log has more than {SPOOLS_MAX} spools or gaps of them; no real log has."
            )
        whose = run.emitter.decode(errors="replace")[:100]
        if last is None and self._shape.first > 1:
            last = run.first - 1  # what came before may be retired
        last = last or 0
        if run.first <= last:
            self._findings.add(
                Kind.EMITTER,
                run.at,
                f"Event {run.at} is number {run.first} of emitter {whose}, of which {last} came"
                " before.",
            )
        elif run.first > last + 1:
            gap = Gap(run.emitter.decode(), run.incarnation.decode(), last + 1, run.first - 1)
            self._open_gaps.append((gap, run.at))
        self._spools[spool] = max(last, run.last)

    def _take_mark(self, sequence: int, facts: Facts) -> None:
        if facts.emitter != _OWN:
            text = f"Event {sequence} is one that only the audit service may tell."
            self._findings.add(Kind.FORM, sequence, text)
            return
        try:
            details = read_json(facts.details)
        except BundleError:
            return  # it allows nothing
        if facts.verb == Verb.AUDIT_ERASE.value.encode():
            for erased, part in read_erased(details):
                if erased < sequence:
                    self._allow(erased, part, sequence)
        elif facts.verb == Verb.AUDIT_RETIRE.value.encode():
            until = read_retired(details)
            if self._retired_until < until < sequence:
                self._retired_until, self._retired_by = until, sequence
        elif (gap := read_gap(details)) is not None:
            self._gaps.append(gap)

    def _allow(self, erased: int, part: str, by: int) -> None:
        key = erased << PARTS_SHIFT | PART_NUMBERS[part]
        at = bisect.bisect_left(self._absent, key)
        if at < len(self._absent) and self._absent[at] == key:
            self._allowed[at] = self._allowed[at] or by
        elif erased >= self._shape.first:
            self._warnings.append(
                f"Event {by} erased the {part} of event {erased}; it is still kept."
            )
            del self._warnings[100:]

    def _check_absent(self) -> Counter[int]:
        """Parts that are gone, by the event that allows it."""
        names = {number: part for part, number in PART_NUMBERS.items()}
        redacted: Counter[int] = Counter()
        for key, by in zip(self._absent, self._allowed, strict=True):
            if by:
                redacted[by] += 1
                continue
            sequence, part = key >> PARTS_SHIFT, names[key & (1 << PARTS_SHIFT) - 1]
            text = f"Event {sequence}: its {part} was erased, and no event allows it."
            self._findings.add(Kind.ERASED, sequence, text)
        return redacted

    def _check_retired(self) -> None:
        gone = self._shape.first - 1
        if gone <= 0 or not self._shape.last:
            return
        if gone > self._retired_until:
            first = self._retired_until + 1
            which = f"Event {first} is" if first == gone else f"Events {first} to {gone} are"
            self._findings.add(
                Kind.MISSING, first, f"{which} missing, and no event allows it.", gone
            )

    def _check_gaps(self) -> None:
        told = set(self._gaps)
        for gap, at in self._open_gaps:
            if gap not in told:
                self._findings.add(
                    Kind.EMITTER,
                    at,
                    f"Before event {at}, numbers {gap.first} to {gap.last} of emitter"
                    f" {gap.emitter[:100]} are missing, and no event tells of it.",
                )

    def _check_heads(self) -> tuple[int, int, int]:
        """Up to where outside vouches for the log; how many of outside and of the log fit."""
        opened = (*self._outside, *self._inside)
        roots = self._tree.roots
        self._heads = {found.size for _, found in opened if roots.get(found.size) == found.root}
        outside = self._compare(self._outside, "outside")
        inside = self._compare(self._inside, "the log itself")
        wrong = [size for _, size in self._sizes(self._outside) if size not in outside]
        if wrong and inside and inside[-1] >= wrong[0]:
            text = (
                "The log was rewritten with its own key: checkpoints that it keeps itself fit, and"
                f" one from outside, of {wrong[0]} events, does not."
            )
            first = max((size for size in outside if size < wrong[0]), default=0) + 1
            self._findings.add_between(Kind.REWRITTEN, first, wrong[0], text)
        bad = [found.first for found in self._findings if found.kind in OF_EVENTS and found.first]
        before = min(bad, default=self._shape.last + 1)
        anchored = max((size for size in outside if size < before), default=0)
        return anchored, len(outside), len(inside)

    def _sizes(self, opened: list[tuple[Note, Checkpoint]]) -> list[tuple[Note, int]]:
        """Those that are not larger than the log."""
        last = self._shape.last
        return [(note, found.size) for note, found in opened if found.size <= last]

    def _compare(self, opened: list[tuple[Note, Checkpoint]], whose: str) -> list[int]:
        """Sizes of the checkpoints that fit. Tells of the first that does not."""
        fitting: list[int] = []
        is_other = is_told = False
        broken_at, last = self._tree.broken_at or self._shape.last + 1, self._shape.last
        signed_to = min(self._signed_to, self._tree.signed_to)
        for note, checkpoint in opened:
            size, when = checkpoint.size, checkpoint.at.strftime("%Y-%m-%d %H:%M:%S UTC")
            which = f"the checkpoint of {when} ({note.place}, kept by {whose})"
            if size > last and self._shape.is_copy and last in self._heads:
                self._warnings.append(f"This copy of {last} events is older than {which}.")
            elif size > last:
                text = f"The log was cut after event {last}: {which} counts {size}."
                self._findings.add(Kind.CUT, last + 1, text, size)
            elif self._tree.roots.get(size) == checkpoint.root:
                fitting.append(size)
            elif size <= signed_to or is_other:  # heads from outside say what is right there
                is_other = True
                text = f"Of another history than what is kept outside: {which}."
                self._findings.add(Kind.CHECKPOINT, 0, text)
            elif size < broken_at and not is_told:
                is_told = True
                first = max([signed_to, *fitting]) + 1
                text = (
                    f"Between event {first} and {size} something was edited, taken out, put in or"
                    f" moved: {which} does not fit."
                )
                self._findings.add_between(Kind.CHANGED, first, size, text)
        return fitting


def _first_fitting(checkpoint: Checkpoint, sources: Iterable[Fetch]) -> TrustedTiles | None:
    for fetch in sources:
        try:
            return TrustedTiles(checkpoint.size, checkpoint.root, fetch)
        except MissingTileError:
            continue
    return None


def _ranges(sequences: Iterable[int]) -> list[tuple[int, int]]:
    """Runs of numbers that rise one by one."""
    found: list[tuple[int, int]] = []
    for sequence in sequences:
        if found and found[-1][1] == sequence - 1:
            found[-1] = (found[-1][0], sequence)
        else:
            found.append((sequence, sequence))
    return found
