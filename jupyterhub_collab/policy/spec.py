"""The merge: a team's group and its contest's group become one `TeamSpec`.

Hub (before a spawn) and provisioner (before it renders) both call this on what the hub's groups
say and must get the same bytes: readiness is that the hash in the namespace equals this one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from .. import names
from ..constants import (
    HOME_PRIORITY_CLASS,
    PROPERTIES_KEY,
    ROSTER_KEY,
    TEAM_PROPERTIES_MAX_BYTES,
)
from ..errors import Problem, SpecError
from ..models import (
    ContestProperties,
    Dataset,
    Gate,
    Image,
    Platform,
    Profile,
    Retention,
    TeamProperties,
    TeamSpec,
    Tier,
)
from . import egress
from .contest_life import strictest
from .contest_rounds import check_round, check_rounds, images_in, profiles_in, round_of, tier_of
from .node_pool import check_pool, check_tolerations, profiles_on
from .problems import D, DocumentError, FieldProblem, one_of, to_document, to_field, to_found

_CLUSTER_PRIORITY: Final = "system-"
_CLUSTER_S_OWN: Final = "those put the cluster's own pods before everybody else's"
_NOT_RECORDED: Final = (
    "false: reads from a mounted volume are not recorded. Where its owner is content with a record"
    " of each mount, say so in the platform's settings: protected_data: mounts-recorded"
)
SPEC_MAX_BYTES = 200 * 1024  # all annotations of an object together: 256 KiB in Kubernetes


def is_team_group(name: str, properties: Mapping[str, Any]) -> bool:
    """Whether a hub group is a team's: named as one, and holding our corner of the properties."""
    return names.is_team_id(name) and PROPERTIES_KEY in properties


def to_team_properties(team: str, properties: Mapping[str, Any]) -> TeamProperties:
    """Our corner of a team group's properties, without the roster. Raises SpecError."""
    corner = _corner(f"groups.{team}", without_roster(properties))
    size = len(json.dumps(corner, separators=(",", ":"), ensure_ascii=False).encode())
    if size > TEAM_PROPERTIES_MAX_BYTES:
        field = f"groups.{team}.{PROPERTIES_KEY}"
        expected = f"at most {TEAM_PROPERTIES_MAX_BYTES}"
        raise SpecError([Problem(field, f"{size} bytes", expected)])
    return _to_document(TeamProperties, corner, where=f"groups.{team}")


def without_roster(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """A team group's properties without who is in the team; the same object if they say nothing.

    What a team is in the cluster does not depend on who is in it, nor on whether that can be read.
    """
    corner = properties.get(PROPERTIES_KEY)
    if not isinstance(corner, Mapping) or ROSTER_KEY not in corner:
        return properties
    less = {key: value for key, value in corner.items() if key != ROSTER_KEY}
    return {**properties, PROPERTIES_KEY: less}


def to_contest_properties(contest: str, properties: Mapping[str, Any]) -> ContestProperties:
    """Our corner of a contest group's properties. Raises SpecError."""
    group = f'groups."{names.contest_group(contest)}"'
    return _to_document(ContestProperties, _corner(group, properties), where=group)


def merge_team_spec(
    team: str, properties: Mapping[str, Any], contest_properties: Mapping[str, Any] | None
) -> TeamSpec:
    """Merge raw properties of the team's group and of its contest's group.

    Parameters
    ----------
    properties, contest_properties
        As the hub has them: ``{"collab": {...}, ...}``. None: there is no such group.

    Raises
    ------
    SpecError
        With all problems: not valid, or one names what the other does not have.
    """
    if not names.is_team_id(team):
        raise SpecError([Problem("groups", to_found(team), names.TEAM_ID_RULE)])
    mine = to_team_properties(team, properties)
    if contest_properties is None:
        group = names.contest_group(mine.contest)
        found = f"contest {to_found(mine.contest)}, but no hub group {to_found(group)}"
        field = f"groups.{team}.{PROPERTIES_KEY}.contest"
        raise SpecError([Problem(field, found, "a contest that has been applied")])
    return merge_read(team, mine, read_contest(mine.contest, contest_properties))


@dataclass(frozen=True)
class ReadContest:
    """A contest's properties, and what is wrong between their parts."""

    properties: ContestProperties
    problems: tuple[Problem, ...]


def read_contest(contest: str, properties: Mapping[str, Any]) -> ReadContest:
    """A contest's group, read and checked once for all its teams. Raises SpecError."""
    theirs = to_contest_properties(contest, properties)
    where = f'groups."{names.contest_group(contest)}".{PROPERTIES_KEY}'
    problems = tuple(
        Problem(f"{where}.{to_field(p.path)}", p.found, p.expected) for p in check_contest(theirs)
    )
    return ReadContest(theirs, problems)


def merge_read(team: str, mine: TeamProperties, contest: ReadContest) -> TeamSpec:
    """As `merge_team_spec`, of properties that are read already. Raises SpecError."""
    theirs = contest.properties
    where = f"groups.{team}.{PROPERTIES_KEY}"
    problems = [
        Problem(f"{where}.{to_field(p.path)}", p.found, p.expected)
        for p in check_team(mine, theirs)
    ]
    problems += contest.problems
    if problems:
        raise SpecError(problems)
    of_round = round_of(mine, theirs)
    granted = {*mine.datasets, *of_round.datasets}
    # Nothing starts in what is to be destroyed, and what runs there is seen off.
    widest = Gate.CLOSED if mine.retention is Retention.DESTROY else Gate.OPEN
    spec = TeamSpec(
        team=team,
        contest=mine.contest,
        gate=strictest(mine.gate, theirs.gate, widest),
        host=None if theirs.domain is None else names.team_host(team, theirs.domain),
        tier_name=tier_of(mine, theirs),
        tier=effective_tier(mine, theirs),
        images=images_in(theirs, of_round),
        profiles=profiles_on(profiles_in(theirs.profiles, of_round), theirs.node_pool),
        volumes=theirs.volumes,
        egress=theirs.egress,
        datasets={
            key: dataset
            for key, dataset in theirs.datasets.items()
            if dataset.every_team or key in granted
        },
    )
    # Images stand beside the spec once more, where the cluster's policies read them.
    size = len(spec.to_canonical_json().encode())
    size += sum(len(image.reference) + 1 for image in spec.images.values())
    if size > SPEC_MAX_BYTES:
        expected = f"at most {SPEC_MAX_BYTES}: the whole spec is kept on the team's namespace"
        raise SpecError([Problem(f"groups.{team}", f"a spec of {size} bytes", expected)])
    return spec


def gate_of_running(team: TeamProperties, contest: ContestProperties, *, now: datetime) -> Gate:
    """What counts for a server that runs already: a gate that leaves it time counts as open."""
    gates = [
        gate
        for gate, until in (
            (team.gate, team.servers_until),
            (contest.gate, contest.servers_until),
        )
        if until is None or until <= now
    ]
    if team.retention is Retention.DESTROY:
        gates.append(Gate.CLOSED)
    return strictest(*gates)


def effective_tier(team: TeamProperties, contest: ContestProperties) -> Tier:
    """The tier of the team, or of its round, with the team's overrides over it. It must exist."""
    changes = _overrides(team)
    return contest.tiers[tier_of(team, contest)].model_copy(update=changes)


def _overrides(team: TeamProperties) -> dict[str, int]:
    """What is overridden, by field name, as numbers (a dump would give quantities)."""
    return {name: value for name, value in team.overrides if value is not None}


def check_team(team: TeamProperties, contest: ContestProperties) -> list[FieldProblem]:
    """What a team names that its contest does not have, and limits that cannot hold."""
    problems = [
        FieldProblem(("datasets", i), to_found(d), one_of(d, contest.datasets))
        for i, d in enumerate(team.datasets)
        if d not in contest.datasets
    ]
    if team.tier not in contest.tiers:
        problems.append(
            FieldProblem(("tier",), to_found(team.tier), one_of(team.tier, contest.tiers))
        )
    elif _overrides(team) and tier_of(team, contest) in contest.tiers:
        tier = effective_tier(team, contest)
        problems += [
            FieldProblem(("overrides", *p.path), p.found, p.expected)
            for p in check_tier(tier, contest)
        ]
    return [*problems, *check_round(team, contest)]


def check_contest(contest: ContestProperties) -> list[FieldProblem]:
    """What is wrong between the parts of a contest, each of them valid by itself."""
    problems: list[FieldProblem] = []
    for key, tier in contest.tiers.items():
        problems += [
            FieldProblem(("tiers", key, *p.path), p.found, p.expected)
            for p in check_tier(tier, contest)
        ]
    for key, profile in contest.profiles.items():
        where: tuple[str | int, ...] = ("profiles", key)
        for i, image in enumerate(profile.images or ()):
            if image not in contest.images:
                expected = one_of(image, contest.images)
                problems.append(FieldProblem((*where, "images", i), to_found(image), expected))
        if profile.images == ():
            expected = "at least one image; leave the field out to allow all"
            problems.append(FieldProblem((*where, "images"), "an empty list", expected))
        for word, amount in (("cpu", profile.cpu_millicores), ("memory", profile.memory_bytes)):
            if amount == 0:
                problems.append(FieldProblem((*where, word), "0", "more than nothing"))
        expected = _refused_priority(profile.priority_class or "")
        if expected:
            found = to_found(profile.priority_class)
            problems.append(FieldProblem((*where, "priorityClass"), found, expected))
    for word, size in (
        ("team", contest.volumes.team_bytes),
        ("personal", contest.volumes.personal_bytes),
    ):
        if size == 0:
            problems.append(FieldProblem(("volumes", word), "0", "more than nothing"))
    for key, dataset in contest.datasets.items():
        if (dataset.csi is None) == (dataset.nfs is None):
            found = "neither csi nor nfs" if dataset.csi is None else "both csi and nfs"
            problems.append(FieldProblem(("datasets", key), found, "exactly one of csi and nfs"))
        if dataset.size_bytes == 0:
            problems.append(FieldProblem(("datasets", key, "size"), "0", "more than nothing"))
    problems += check_pool(contest.profiles, contest.node_pool)
    return [*problems, *check_rounds(contest), *_check_egress(contest)]


def _refused_priority(name: str) -> str:
    """What is expected instead of a priority class that no server may have; else empty."""
    if name.startswith(_CLUSTER_PRIORITY):
        return f"a class that does not begin with {_CLUSTER_PRIORITY}: {_CLUSTER_S_OWN}"
    if name == HOME_PRIORITY_CLASS:
        return "a class of your own: this one puts the hub itself before all servers"
    return ""


def check_protected(
    datasets: Mapping[str, Dataset], platform: Platform | None
) -> list[FieldProblem]:
    """Protected data: refused where the platform does not record mounts, or is not known.

    What is read from a mounted volume nobody records; that takes a data gateway, which does not
    exist yet. No audit, no protected data.
    """
    if platform is not None and platform.protected_data == "mounts-recorded":
        return []
    return [
        FieldProblem(("datasets", key, "protected"), "true", _NOT_RECORDED)
        for key, dataset in datasets.items()
        if dataset.protected
    ]


def check_tier(tier: Tier, contest: ContestProperties) -> list[FieldProblem]:
    """Limits under which no server could ever start."""
    problems = [
        FieldProblem((word,), "0", 'more than nothing; to stop a team, set its gate to "closed"')
        for word, amount in (
            ("cpu", tier.cpu_millicores),
            ("memory", tier.memory_bytes),
            ("ephemeralStorage", tier.ephemeral_storage_bytes),
        )
        if amount == 0
    ]
    needed = contest.volumes.team_bytes + contest.volumes.personal_bytes
    if tier.storage_bytes < needed:
        expected = "at least volumes.team and one volumes.personal together"
        found = to_found(tier.to_wire()["storage"])
        problems.append(FieldProblem(("storage",), found, expected))
    return problems


def check_platform(spec: TeamSpec, platform: Platform) -> tuple[Problem, ...]:
    """What this platform refuses of a spec: protected data, drivers, addresses."""
    problems = [
        Problem(to_field(p.path), p.found, p.expected)
        for p in (
            *check_protected(spec.datasets, platform),
            *check_datasets(spec.datasets, platform),
            *check_pods(spec.images, spec.profiles, platform),
        )
    ]
    domain = None if spec.host is None else spec.host.removeprefix(f"{spec.team}.")
    problems += [
        Problem(to_field(p.path), p.found, p.expected) for p in check_domain(domain, platform)
    ]
    for rule in spec.egress:
        reason = egress.refusal(rule, platform)
        if reason is not None:
            problems.append(Problem(f"egress.{rule.name}.cidr", reason, "a public network"))
    problems += [
        Problem(f"groups.{spec.team}", p.found, p.expected)
        for p in check_namespace(spec.team, platform)
    ]
    return tuple(problems)


def check_pods(
    images: Mapping[str, Image], profiles: Mapping[str, Profile], platform: Platform
) -> list[FieldProblem]:
    """Images and placement that this platform does not allow; its admission policies say the same.

    Without this check a server would be refused at its start instead of the spec before it.
    """
    problems: list[FieldProblem] = []
    if platform.image_prefixes:
        expected = "an image that begins with " + " or ".join(platform.image_prefixes)
        problems += [
            FieldProblem(("images", key, "image"), to_found(image.reference), expected)
            for key, image in images.items()
            if not image.reference.startswith(platform.image_prefixes)
        ]
    for key, profile in profiles.items():
        where: tuple[str | int, ...] = ("profiles", key)
        priority, allowed = profile.priority_class, platform.priority_classes
        if priority and allowed is not None and priority not in allowed:
            expected = f"{one_of(priority, allowed)} (this platform's priority classes)"
            problems.append(FieldProblem((*where, "priorityClass"), to_found(priority), expected))
        problems += check_tolerations(profile.tolerations, platform, where=(*where, "tolerations"))
    return problems


def check_datasets(datasets: Mapping[str, Dataset], platform: Platform) -> list[FieldProblem]:
    """Sources of data sets that this platform does not allow."""
    problems: list[FieldProblem] = []
    for key, dataset in datasets.items():
        if dataset.csi and dataset.csi.driver not in platform.dataset_csi_drivers:
            expected = one_of(dataset.csi.driver, platform.dataset_csi_drivers)
            path = ("datasets", key, "csi", "driver")
            found = to_found(dataset.csi.driver)
            problems.append(FieldProblem(path, found, f"{expected} (this platform's drivers)"))
        if dataset.nfs and not platform.dataset_nfs:
            expected = "csi: this platform's settings do not allow NFS"
            problems.append(FieldProblem(("datasets", key, "nfs"), "an NFS export", expected))
    return problems


def check_domain(domain: str | None, platform: Platform) -> list[FieldProblem]:
    """A domain, or a name in one, that this platform does not give to contests."""
    if domain is None:
        return []
    allowed = () if platform.names is None else platform.names.suffixes
    if any(domain == suffix or domain.endswith(f".{suffix}") for suffix in allowed):
        return []
    expected = (
        "no domain: this platform's settings have no names for teams. Take it out of the contest's"
        " manifest, or have an administrator give the settings `names`"
        if not allowed
        else "a domain in " + " or ".join(allowed)
    )
    return [FieldProblem(("contest", "domain"), to_found(domain), expected)]


def check_namespace(team: str, platform: Platform) -> list[FieldProblem]:
    """Whether the team's namespace would be one that no team may have."""
    namespace = names.namespace_of(team, prefix=platform.namespace_prefix)
    if not names.is_reserved_namespace(namespace, hub_namespace=platform.hub_namespace):
        return []
    found = f"{to_found(team)}, whose namespace would be {namespace}"
    expected = "a team whose namespace is not the hub's or the cluster's own"
    return [FieldProblem((), found, expected)]


def _check_egress(contest: ContestProperties) -> list[FieldProblem]:
    problems: list[FieldProblem] = []
    seen: set[str] = set()
    for i, rule in enumerate(contest.egress):
        if rule.name in seen:
            expected = "a name that no other rule has"
            problems.append(FieldProblem(("egress", i, "name"), to_found(rule.name), expected))
        seen.add(rule.name)
        reason = egress.refusal(rule, None)
        if reason is not None:
            problems.append(FieldProblem(("egress", i, "cidr"), reason, "a public network"))
        for j, ports in enumerate(rule.ports):
            if ports.end_port is not None and ports.end_port < ports.port:
                path = ("egress", i, "ports", j, "endPort")
                problems.append(FieldProblem(path, str(ports.end_port), f"at least {ports.port}"))
    return problems


def _corner(where: str, properties: Mapping[str, Any]) -> object:
    if PROPERTIES_KEY not in properties:
        raise SpecError([Problem(f"{where}.{PROPERTIES_KEY}", "nothing", "a mapping")])
    return properties[PROPERTIES_KEY]


def _to_document(model: type[D], corner: object, *, where: str) -> D:
    try:
        return to_document(model, corner)
    except DocumentError as e:
        raise SpecError(
            [
                Problem(f"{where}.{PROPERTIES_KEY}.{to_field(p.path)}", p.found, p.expected)
                for p in e.problems
            ]
        ) from e
