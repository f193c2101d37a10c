"""Fixed words of the project: labels, annotations, field manager, paths.

Everything here is seen from outside (in a cluster, in a pod, in the hub's database): a change
is a change of interface and needs an upgrade note.
"""

from typing import Final

DOMAIN: Final = "jupyterhub-collab.org"

# Ownership. Nothing that lacks all three is ever changed or deleted.
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "jupyterhub-collab"
LABEL_HUB: Final = f"{DOMAIN}/hub"  # which hub of several on one cluster
LABEL_TEAM: Final = f"{DOMAIN}/team"

LABEL_CONTEST: Final = f"{DOMAIN}/contest"
LABEL_DATASET: Final = f"{DOMAIN}/dataset"
LABEL_PROTECTED: Final = f"{DOMAIN}/protected"  # "true" on volumes of protected data sets
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
COMPONENT_SERVER: Final = "singleuser-server"  # a member's pod, its Secret
COMPONENT_PERSONAL_VOLUME: Final = "personal-volume"
COMPONENT_TEAM_VOLUME: Final = "team-volume"
COMPONENT_DATASET_VOLUME: Final = "dataset-volume"
COMPONENT_ARCHIVE: Final = "archive"  # a Job that copies a volume or back, its pod, its Secret

ANNOTATION_SPEC: Final = f"{DOMAIN}/spec"  # the merged team spec, canonical JSON
ANNOTATION_SPEC_HASH: Final = f"{DOMAIN}/spec-hash"  # its SHA-256, 64 hex digits
ANNOTATION_READY_HASH: Final = f"{DOMAIN}/ready-hash"  # the spec hash whose whole tenancy stands
ANNOTATION_TOLD: Final = f"{DOMAIN}/told"  # when a portal was told that this team is ready
# Set by an administrator on a namespace: the contest that may have it though another had it before.
ANNOTATION_GIVE_TO_CONTEST: Final = f"{DOMAIN}/give-to-contest"
# Set by an administrator on what may be destroyed: the contest whose end lets it go.
ANNOTATION_DESTROY: Final = f"{DOMAIN}/destroy-with-contest"
ANNOTATION_OBJECT_HASH: Final = f"{DOMAIN}/object-hash"  # SHA-256 of the manifest as applied
ANNOTATION_ARCHIVE: Final = f"{DOMAIN}/archive"  # on an archive Job: which copy
ANNOTATION_VOLUME: Final = f"{DOMAIN}/volume"  # on an archive Job: of which claim
ANNOTATION_USERNAME: Final = "hub.jupyter.org/username"  # KubeSpawner's own

FIELD_MANAGER: Final = "jupyterhub-collab"  # server-side apply

# Hub groups. A team's group is named as the team; a contest's starts with this. The dot cannot
# stand in a team id, so the two never meet.
CONTEST_GROUP_PREFIX: Final = "contest."
PROPERTIES_KEY: Final = "collab"  # our corner of a group's properties
TEAM_PROPERTIES_MAX_BYTES: Final = 4096  # a page of 200 teams stays below 1 MiB
ROSTER_KEY: Final = "members"  # in our corner; who is in the team is no part of what it is
# A class of a school is a team, a country is not. The roster is read whole with its group, so the
# bytes bound what one team costs each reader: the hub at a log-in, the provisioner at a page.
ROSTER_MAX_ENTRIES: Final = 1000
ROSTER_MAX_BYTES: Final = 64 * 1024

# In a member's pod.
HOME: Final = "/home/jovyan"
TEAM_MOUNT: Final = "/home/jovyan/team"
DATASETS_MOUNT: Final = "/home/jovyan/data"  # a folder for each data set below it
POD_UID: Final = 1000
POD_GID: Final = 100
POD_MAX_GRACE_S: Final = 300  # between being asked to stop and being killed
SERVER_PORT: Final = 8888

# Names of what every team namespace holds.
QUOTA_NAME: Final = "team"
DATASET_STORAGE_CLASS: Final = "collab-datasets"  # of static data-set volumes; has no provisioner
LIMIT_RANGE_NAME: Final = "team"
TEAM_CLAIM_NAME: Final = "team"
SERVICE_ACCOUNT_NAME: Final = "member"
HUB_ROLE_BINDING_NAME: Final = "hub"
TEAM_NAME_ROUTE: Final = "team-name"
POLICY_DENY_ALL: Final = "deny-all"
POLICY_PLATFORM: Final = "platform"
POLICY_ARCHIVE: Final = "archive"
HUB_CLUSTER_ROLE: Final = "jupyterhub-collab-hub"  # what the hub may do in a team namespace
HUB_WATCH_CLUSTER_ROLE: Final = "jupyterhub-collab-hub-watch"  # and in the whole cluster
PROVISIONER_CLUSTER_ROLE: Final = "jupyterhub-collab-provisioner"
ANNOTATION_SERVERNAME: Final = "hub.jupyter.org/servername"  # KubeSpawner's own; absent: default
ANNOTATION_SERVER_ID: Final = f"{DOMAIN}/server-id"  # one start of a server; its credential's jti
ANNOTATION_CORRELATION: Final = f"{DOMAIN}/correlation"  # of the start, in the audit log
CULLER_MARK: Final = "cull"  # in the name of a service that stops idle servers

# In a member's pod, besides: where the personal volume lies while the team's gate is frozen (the
# home is scratch space then), and the keys of the server's Secret.
FROZEN_PERSONAL_MOUNT: Final = "/home/jovyan/personal"
SECRET_KEY_API_TOKEN: Final = "api-token"  # noqa: S105 - the name of a key
SECRET_KEY_CREDENTIAL: Final = "server-credential"  # noqa: S105
ENV_CREDENTIAL: Final = "COLLAB_SERVER_CREDENTIAL"
PROVISIONER_LEASE_NAME: Final = "jupyterhub-collab-provisioner"  # in the hub's namespace
SCOPE_PROVISION: Final = "custom:collab:provision"  # hub scope: may set the provisioner to work
SCOPE_AUDIT_MANAGE: Final = "custom:collab:audit:manage"  # hub scope: may erase and retire
# Hub scope: this token may read in the audit log all that its owner may, not only of its owner.
SCOPE_AUDIT_READ: Final = "custom:collab:audit:read"
SCOPE_CONTESTS_NOTICES: Final = "custom:collab:contests:notices"  # may read notices to anybody

# In an archive Job's pod.
ARCHIVE_PROGRAM: Final = ("python3", "-m", "jupyterhub_collab.singleuser.archive")
ARCHIVE_MOUNT: Final = "/volume"
ARCHIVE_TOKEN_MOUNT: Final = "/run/archive"  # noqa: S105 - a folder
# Behind the copy itself: one JSON object with its checksum, padded, a line feed at the end.
ARCHIVE_FOOTER_BYTES: Final = 1024
ARCHIVE_CHECKSUM_HEADER: Final = "X-Archive-SHA256"
ARCHIVE_TOKEN_KEY: Final = "token"  # noqa: S105 - the name of a key

# In the hub's namespace, where hub and services run as pods.
HUB_SERVICE: Final = "collab-hub"  # the hub's API at an address that stays; servers know it
PROVISIONER_SERVICE: Final = "collab-provisioner"
PROVISIONER_PORT: Final = 8085
AUDIT_SERVICE: Final = "collab-audit"
AUDIT_PORT: Final = 8086
AUDIT_SECRET: Final = "collab-audit"  # noqa: S105 - a name; emitters' are this, a hyphen and theirs
CONTESTS_SERVICE: Final = "collab-contests"
CONTESTS_PORT: Final = 8087
CONTESTS_SECRET: Final = "collab-contests"  # noqa: S105 - a name; its keys are variables
ARCHIVES_CLAIM: Final = "collab-archives"  # copies of teams' volumes
HOME_PRIORITY_CLASS: Final = "jupyterhub-collab-home"  # of hub, proxy and provisioner
PLATFORM_CONFIG_MAP: Final = "collab-platform"
PLATFORM_FILE: Final = "platform.json"
PROXY_API_PORT: Final = 8001  # configurable-http-proxy's own, as the chart sets it

# What a team's pods may have, on its namespace, one entry a line: admission policies read these.
ANNOTATION_IMAGES: Final = f"{DOMAIN}/images"
ANNOTATION_PRIORITY_CLASSES: Final = f"{DOMAIN}/priority-classes"
ANNOTATION_TOLERATIONS: Final = f"{DOMAIN}/tolerations"  # key|operator|value|effect
ANNOTATION_HOST_ALIASES: Final = f"{DOMAIN}/host-aliases"  # address name
ANNOTATION_STORAGE_CLASS: Final = f"{DOMAIN}/storage-class"  # empty: the cluster's default
ANNOTATION_GATE: Final = f"{DOMAIN}/gate"
LABEL_POLICIES: Final = f"{DOMAIN}/policies"  # on an admission policy: which version of them it is
# Hub scopes: a program may do what a contest's host may; register teams and members (the portal).
SCOPE_CONTESTS_MANAGE: Final = "custom:collab:contests:manage"
SCOPE_CONTESTS_REGISTER: Final = "custom:collab:contests:register"
