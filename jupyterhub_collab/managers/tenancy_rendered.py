"""What teams' objects should look like, kept for those that are worked on at the moment.

A team comes by a handful of times while its tenancy is made (the quota is in force, a volume is
bound); rendering costs more than all else that the provisioner does for it. To keep the manifests
of all teams would cost hundreds of megabytes, so only the last ones are kept. It does no I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from ..constants import ANNOTATION_SPEC_HASH
from ..manifests.tenancy import make_tenancy
from ..models import Platform, TeamSpec
from ..reconcile.objects import Manifest
from .tenancy_desired import DesiredTeams, Properties

_KEPT: Final = 256  # more than are worked on at once; about 5 MB


@dataclass(frozen=True)
class Rendered:
    """A team's spec, its hash and its objects. Not to be changed."""

    spec: TeamSpec
    hash: str
    manifests: tuple[Manifest, ...]


class RenderedTeams:
    """Renders teams as the hub's groups say."""

    def __init__(self, desired: DesiredTeams, platform: Platform) -> None:
        self._desired, self._platform = desired, platform
        self._kept: OrderedDict[str, tuple[tuple[Properties | None, ...], Rendered]] = OrderedDict()

    def of_team(self, team: str) -> Rendered:
        """As the groups say now. Raises SpecError; KeyError for no such team."""
        source = self._desired.source_of(team)
        kept = self._kept.get(team)
        # The very same objects: properties that did not change are not replaced.
        if kept is not None and all(a is b for a, b in zip(kept[0], source, strict=True)):
            self._kept.move_to_end(team)
            return kept[1]
        rendered = self.of_spec(self._desired.spec_of(team))
        self._kept[team] = (source, rendered)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return rendered

    def of_spec(self, spec: TeamSpec) -> Rendered:
        """As a spec says. Raises SpecError."""
        manifests = make_tenancy(spec, self._platform)
        (space, *_) = manifests  # it bears the hash, which need not be computed once more
        annotations = space["metadata"]["annotations"]
        return Rendered(spec, annotations[ANNOTATION_SPEC_HASH], manifests)
