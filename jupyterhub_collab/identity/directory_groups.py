"""Which groups a person is in, and who is in a group: nested ones too, by the directory's means.

An answer is whole or none: what goes past a bound, or cannot be read to the end, is an error. Half
a list would take rights away, or leave some.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

from .directory_entries import (
    Entry,
    all_of,
    any_of,
    normalise_dn,
    substitute,
    to_filter_value,
    to_group_sid,
    to_rdn_filter,
    to_relative_id,
    to_sid_filter,
)
from .directory_errors import DirectorySettingsError, GroupNotFoundError
from .directory_link import Link
from .directory_settings import DirectorySettings, GroupStrategy

_CHAIN: Final = "1.2.840.113556.1.4.1941"  # LDAP_MATCHING_RULE_IN_CHAIN, MS-ADTS 3.1.1.3.4.4.3
_TERMS: Final = 50  # in one filter; servers bound its length
T = TypeVar("T")


def attributes_of_person(settings: DirectorySettings) -> list[str]:
    """What a person's entry must be read with, for `find_groups`."""
    names = [settings.identity_attribute, settings.username_attribute, *settings.attributes]
    if settings.group_strategy is GroupStrategy.MEMBEROF:
        names.append("memberOf")
    if settings.counts_primary_group:
        names += ["objectSid", "primaryGroupID"]
    return list(dict.fromkeys(names))


def find_groups(
    settings: DirectorySettings, link: Link, person: Entry, username: str
) -> tuple[str, ...]:
    """Distinguished names of all groups of a person, sorted.

    Raises
    ------
    DirectorySettingsError
        More groups or levels than the settings allow, or a base that is not there.
    """
    strategy = settings.group_strategy
    first = [] if strategy is GroupStrategy.TOKEN_GROUPS else _primary(settings, link, person)
    if strategy is GroupStrategy.MEMBEROF:
        found = [*person.texts("memberOf"), *first]
    elif strategy is GroupStrategy.TOKEN_GROUPS:
        found = _by_token(settings, link, person)
    elif strategy is GroupStrategy.AD_CHAIN:
        found = [*first]
        for dn in (person.dn, *first):
            found += _group_names(settings, link, f"(member:{_CHAIN}:={to_filter_value(dn)})")
    else:
        found = _upwards(settings, link, person.dn, username, first)
    unique = {normalise_dn(dn): dn for dn in found}
    if len(unique) > settings.max_groups:
        raise _too_many(settings, person.dn)
    return tuple(sorted(unique.values()))


def _too_many(settings: DirectorySettings, dn: str) -> DirectorySettingsError:
    return DirectorySettingsError(
        f"{dn!r} of directory {settings.name} has more than {settings.max_groups} groups, or more"
        f" than {settings.max_depth} levels of them. Raise max_groups or max_depth, or narrow"
        " group_filter"
    )


def _group_names(settings: DirectorySettings, link: Link, fitting: str) -> list[str]:
    full = all_of(settings.group_filter, fitting)
    return [entry.dn for base in settings.group_bases for entry in link.search(base, full, [])]


def _primary(settings: DirectorySettings, link: Link, person: Entry) -> list[str]:
    """Active Directory names a person's primary group by number, and in no list of members."""
    numbers, sids = person.texts("primaryGroupID"), person.raw("objectSid")
    if not settings.counts_primary_group or not numbers or not sids:
        return []
    try:
        sid = to_group_sid(sids[0], int(numbers[0]))
    except (ValueError, OverflowError) as e:
        raise DirectorySettingsError(f"{person.dn!r} has no primary group that is one: {e}") from e
    bases = settings.group_bases or settings.user_bases
    return [entry.dn for base in bases for entry in link.search(base, to_sid_filter(sid), [])]


def _by_token(settings: DirectorySettings, link: Link, person: Entry) -> list[str]:
    entry = link.read(person.dn, ["tokenGroups"])  # computed for one entry at a time
    sids = [] if entry is None else list(entry.raw("tokenGroups"))
    if not sids:
        raise DirectorySettingsError(
            f"{person.dn!r} has no tokenGroups: not Active Directory, or our account may not read"
            " them. Choose another group_strategy"
        )
    found = []
    for some in _chunks(sids):
        found += _group_names(settings, link, any_of(to_sid_filter(sid) for sid in some))
    return found


def _upwards(
    settings: DirectorySettings, link: Link, dn: str, username: str, first: Sequence[str]
) -> list[str]:
    """Groups of this entry, then groups of those, until no new one comes."""
    seen = {normalise_dn(dn): dn}
    level = [dn]
    names = settings.member_name_attributes
    by_name = [f"({name}={to_filter_value(username)})" for name in names]
    found: list[str] = []
    fresh: list[str] = list(first)
    for _ in range(settings.max_depth + 1):
        for some in _chunks(level):
            terms = [
                f"({name}={to_filter_value(each)})"
                for each in some
                for name in settings.member_attributes
            ]
            fresh += _group_names(settings, link, any_of([*terms, *by_name]))
            by_name = []  # names are of people: asked once
        level = []
        for group in fresh:
            if normalise_dn(group) not in seen:  # cycles end here
                seen[normalise_dn(group)] = group
                level.append(group)
        found, fresh = found + level, []
        if not level:
            return found
        if len(found) > settings.max_groups:
            break
    raise _too_many(settings, dn)


def find_members(
    settings: DirectorySettings, link: Link, group_dn: str, attributes: Sequence[str]
) -> list[Entry]:
    """People in a group or in one of its groups, who fit user_filter and active_filter.

    Raises
    ------
    GroupNotFoundError
        The group is not there, or not to be seen.
    """
    group = link.read(group_dn, _lists(settings))
    if group is None:
        raise GroupNotFoundError(
            f"directory {settings.name} shows no group {group_dn!r}: deleted, moved, or our account"
            " may not see it. Nobody is taken for having left it"
        )
    strategy = settings.group_strategy
    if strategy is GroupStrategy.BREADTH_FIRST:
        found = _downwards(settings, link, group, attributes)
    else:
        rule = "" if strategy is GroupStrategy.MEMBEROF else f":{_CHAIN}:"
        term = f"(memberOf{rule}={to_filter_value(group_dn)})"
        found = _people(settings, link, term, attributes)
        groups = [group]
        if settings.counts_primary_group:
            if rule:
                full = all_of(settings.group_filter, term)
                for base in settings.group_bases:
                    groups += link.search(base, full, ["objectSid"])
            found += _of_primary(settings, link, groups, attributes)
    return list({normalise_dn(entry.dn): entry for entry in found}.values())


def _lists(settings: DirectorySettings) -> list[str]:
    """What a group must be read with, to know who is in it."""
    sid = ["objectSid"] if settings.counts_primary_group else []
    return [*settings.member_attributes, *settings.member_name_attributes, *sid]


def _people(
    settings: DirectorySettings, link: Link, fitting: str, attributes: Sequence[str]
) -> list[Entry]:
    everybody = substitute(settings.user_filter, username="*")
    full = all_of(everybody, settings.active_filter, fitting)
    found = []
    for base in settings.user_bases:
        found += link.search(base, full, attributes)
    return found


def find_people(settings: DirectorySettings, link: Link, terms: Sequence[str]) -> list[Entry]:
    """People whom one of these filters fits, and user_filter and active_filter."""
    wanted = [settings.identity_attribute]
    found = []
    for some in _chunks(terms):
        found += _people(settings, link, any_of(some), wanted)
    return found


def _of_primary(
    settings: DirectorySettings, link: Link, groups: Iterable[Entry], attributes: Sequence[str]
) -> list[Entry]:
    numbers = [to_relative_id(sid) for group in groups for sid in group.raw("objectSid")]
    found = []
    for some in _chunks(numbers):
        terms = any_of(f"(primaryGroupID={number})" for number in some)
        found += _people(settings, link, terms, attributes)
    return found


def _downwards(
    settings: DirectorySettings, link: Link, top: Entry, attributes: Sequence[str]
) -> list[Entry]:
    """Members of this group, of the groups among them, and so on."""
    lists = _lists(settings)
    seen = {normalise_dn(top.dn)}
    people: list[Entry] = []
    groups, count = [top], 1
    for _ in range(settings.max_depth + 1):
        if not groups:
            return people
        if settings.counts_primary_group:
            people += _of_primary(settings, link, groups, attributes)
        wanted: dict[str, str] = {}
        names: set[str] = set()
        for group in groups:
            for attribute in settings.member_attributes:
                wanted.update((normalise_dn(dn), dn) for dn in group.texts(attribute))
            for attribute in settings.member_name_attributes:
                names.update(group.texts(attribute))
        wanted = {key: dn for key, dn in wanted.items() if key not in seen}
        seen |= set(wanted)
        groups = []
        for some in _chunks(list(wanted.values())):
            # By the first part of their names, 50 in one search rather than one by one.
            terms = any_of(text for text in map(to_rdn_filter, some) if text)
            if terms == "(|)":
                continue
            for entry in _people(settings, link, terms, attributes):
                if normalise_dn(entry.dn) in wanted:
                    people.append(entry)
            for base in settings.group_bases:
                for entry in link.search(base, all_of(settings.group_filter, terms), lists):
                    if normalise_dn(entry.dn) in wanted and any(map(entry.raw, lists)):
                        groups.append(entry)
        for batch in _chunks(sorted(names)):
            terms = any_of(
                f"({settings.username_attribute}={to_filter_value(name)})" for name in batch
            )
            people += _people(settings, link, terms, attributes)
        count += len(groups)
        if count > settings.max_groups:
            break
    raise _too_many(settings, top.dn)


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _TERMS):
        yield items[start : start + _TERMS]
