"""The registry file: contests on several hubs, for one page above them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from .document import Document, Id, Moment, Title

PageUrl = Annotated[
    str,
    StringConstraints(
        strict=True,
        max_length=500,
        # Nothing that runs (javascript:), and no name before an @ that looks like the host.
        pattern=r"^https?://[A-Za-z0-9.\[\]:-]+(/[^\s\"'<>\\]*)?$",
    ),
]
"""Where a browser is led to."""


class ListedContest(Document):
    """One contest, wherever its hub is."""

    id: Id
    title: Title
    description: Title | None = None
    state: Title = Field(description="For people, in your words: Registration is open.")
    url: PageUrl = Field(description="Of its hub.")
    opens: Moment | None = Field(None, description="With time zone.")
    ends: Moment | None = Field(None, description="With time zone; absent: it lasts.")


class Registry(Document):
    """The whole file."""

    api_version: Literal["jupyterhub-collab.org/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Registry"]
    title: Title
    contests: tuple[ListedContest, ...] = Field((), max_length=1000)
