"""What `doctor` is told of a portal, without a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from jupyterhub_collab.hub.auth.portal import PortalAuthenticator
from tests.auth.portals import ISSUER, write_keys


def make(tmp_path: Path, **more: Any) -> PortalAuthenticator:
    config = Config()
    config.PortalAuthenticator = Config(
        name="xprize",
        portal_issuer=ISSUER,
        portal_login_url="https://portal.example.org/login",
        key_file=str(write_keys(tmp_path)),
        contests=["sea"],
        hub_url="https://hub.example.org/base",
    )
    config.PortalAuthenticator.update(more)
    return PortalAuthenticator(config=config)


async def test_all_is_well(tmp_path: Path) -> None:
    found = await make(tmp_path).check("ada")
    assert found.is_fine
    texts = {one.step: one.text for one in found.found}
    callback = "https://hub.example.org/base/hub/portal/xprize/callback"
    assert texts["settings"] == f"tokens come back to {callback}"
    assert texts["keys"] == "1 usable"
    assert "nobody" in texts["person"]


@pytest.mark.parametrize(
    ("more", "step", "words"),
    [
        ({"hub_url": ""}, "settings", "public_url"),
        ({"contests": []}, "settings", "contests"),
        ({"key_file": "/nowhere/keys.json"}, "keys", "cannot be read"),
        ({"key_file": "", "jwks_url": "https://127.0.0.1:1/keys"}, "keys", "127.0.0.1:1"),
        ({"key_file": "", "jwks_url": "http://p.example.org/"}, "settings", "http"),
    ],
)
async def test_what_is_wrong_is_named(
    tmp_path: Path, more: dict[str, Any], step: str, words: str
) -> None:
    found = await make(tmp_path, **more).check()
    assert not found.is_fine
    (bad,) = [one for one in found.found if one.is_fine is False]
    assert bad.step == step
    assert words in bad.text
