"""A team's tenancy: all its objects, in the order in which they are applied.

Policies before anything that could run or mount; quota and limits before anything that counts; a
data set's volume before its claim. Deletion is the reverse.
"""

from __future__ import annotations

from ..errors import SpecError
from ..models import Platform, TeamSpec
from ..policy.spec import check_platform
from .limit_range import make_limit_range
from .manifest import Manifest
from .namespace import make_namespace
from .network_policy import make_network_policies
from .quota import make_quota
from .role_binding import make_role_binding
from .service_account import make_service_account
from .team_name import make_team_name
from .volumes import make_dataset_claim, make_dataset_volume, make_team_claim


def make_tenancy(spec: TeamSpec, platform: Platform) -> tuple[Manifest, ...]:
    """All objects of a team, in apply order.

    Raises
    ------
    SpecError
        The spec asks for what this platform does not allow, with all reasons. Nothing of such a
        spec is applied.
    """
    problems = check_platform(spec, platform)
    if problems:
        raise SpecError(problems)
    manifests = [
        make_namespace(spec, platform),
        *make_network_policies(spec, platform),
        make_quota(spec, platform),
        make_limit_range(spec, platform),
        make_service_account(spec, platform),
        make_role_binding(spec, platform),
        make_team_claim(spec, platform),
    ]
    for key, dataset in spec.datasets.items():
        manifests.append(make_dataset_volume(key, dataset, spec, platform))
        manifests.append(make_dataset_claim(key, dataset, spec, platform))
    if spec.host is not None and platform.names is not None:
        manifests.append(make_team_name(spec, spec.host, platform, platform.names))
    return tuple(manifests)
