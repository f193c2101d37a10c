"""The directory of `up --auth ldap`: whole, this machine's alone, closed to strangers."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jupyterhub_collab.cli.up import directory as d
from jupyterhub_collab.cli.up.data_folder import DataFolder, open_data_folder
from jupyterhub_collab.cli.up.ports import find_free_port
from jupyterhub_collab.errors import CollabError, UserError
from jupyterhub_collab.identity.directory import Directory
from jupyterhub_collab.identity.directory_errors import BadCredentialsError
from jupyterhub_collab.identity.directory_settings import DirectorySettings

HAS_SLAPD = shutil.which("slapd", path="/usr/sbin:/usr/bin:/sbin:/bin") is not None
needs_slapd = pytest.mark.skipif(not HAS_SLAPD, reason="NOT PROVED: up --auth ldap (no slapd)")


def manifest(**teams: Any) -> Any:
    entries = {name: SimpleNamespace(members=members) for name, members in teams.items()}
    return SimpleNamespace(teams=entries)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    opened = open_data_folder(tmp_path / "data")
    yield opened.folder
    opened.lease.release()


@contextmanager
def running(directory: d.DemoDirectory) -> Iterator[None]:
    program = d.make_directory_program(directory)
    process = subprocess.Popen(program.command, cwd=program.cwd, stderr=subprocess.DEVNULL)
    try:

        async def wait() -> None:
            while not await program.is_ready():
                assert process.poll() is None, "slapd ended"
                await asyncio.sleep(0.02)

        asyncio.run(wait())
        yield
    finally:
        process.terminate()
        process.wait(20)


def settings(directory: d.DemoDirectory, **more: Any) -> DirectorySettings:
    said = {
        "name": d.NAME,
        "servers": [f"127.0.0.1:{directory.port}"],
        "ca_file": directory.ca_file,
        "bind_dn": d.READER,
        "bind_password": directory.password_file.read_text(),
        "user_bases": [d.PEOPLE],
        "group_bases": [d.GROUPS],
    }
    return DirectorySettings.model_validate({**said, **more})


def log_in(directory: d.DemoDirectory, name: str, password: str) -> tuple[str, ...] | None:
    """Groups of whoever this is; None: refused."""

    async def go() -> tuple[str, ...] | None:
        async with Directory(settings(directory)) as link:
            try:
                return (await link.authenticate(name, password)).groups
            except BadCredentialsError:
                return None

    return asyncio.run(go())


def sees(directory: d.DemoDirectory, name: str, **account: Any) -> bool:
    """Whether an account may read of somebody."""

    async def go() -> bool:
        async with Directory(settings(directory, **account)) as link:
            return await link.look_up(name) is not None

    return asyncio.run(go())


@needs_slapd
def test_everybody_whom_a_manifest_names_has_an_account(folder: DataFolder) -> None:
    port = find_free_port("127.0.0.1")
    named = manifest(ocean=("ada", "bob"), reef=("ada", {"issuer": "x", "subject": "y"}))
    directory = d.put_directory(folder, [named], host="host", port=port)
    accounts = json.loads(folder.accounts.read_text())
    assert sorted(accounts) == ["ada", "bob", "host"]
    with running(directory):
        for name, password in accounts.items():
            assert log_in(directory, name, password) == ((d.HOSTS,) if name == "host" else ())
            assert log_in(directory, name, password + "x") is None

    # Named later: added, and nobody else's password changes.
    later = manifest(ocean=("ada", "cora"))
    again = d.put_directory(folder, [named, later], host="host", port=port)
    assert again.password_file.read_text() == directory.password_file.read_text()
    grown = json.loads(folder.accounts.read_text())
    assert {**grown, **accounts} == grown
    assert sorted(set(grown) - set(accounts)) == ["cora"]
    with running(again):
        assert log_in(again, "cora", grown["cora"]) == ()
        assert log_in(again, "ada", grown["ada"]) == ()


@needs_slapd
def test_strangers_read_nothing_and_secrets_are_the_owner_s(folder: DataFolder) -> None:
    port = find_free_port("127.0.0.1")
    directory = d.put_directory(folder, [manifest(ocean=("ada",))], host="host", port=port)
    for file in ("hub-password", "server.key", "slapd.conf"):
        assert stat.S_IMODE((directory.folder / file).stat().st_mode) == 0o600
    command = d.make_directory_program(directory).command
    assert f"ldaps://127.0.0.1:{port}" in command
    assert not any(part.startswith("ldap://") for part in command)
    accounts = json.loads(folder.accounts.read_text())
    assert not any(password in str(command) for password in accounts.values())
    assert accounts["ada"] not in (directory.folder / "slapd.conf").read_text()
    with running(directory):
        assert sees(directory, "host")
        member = {"bind_dn": f"uid=ada,{d.PEOPLE}", "bind_password": accounts["ada"]}
        nobody = {"bind_dn": "", "bind_password": "", "anonymous_search": True}
        for account in (member, nobody):
            with pytest.raises(CollabError):
                sees(directory, "host", **account)


@needs_slapd
@pytest.mark.parametrize(
    "name", ["a,b", "x\ndn: cn=evil", "a+b=c", "\u00e4", "ada)(uid=*", "", "a b"]
)
def test_hostile_names_make_nobody(folder: DataFolder, name: str) -> None:
    port = find_free_port("127.0.0.1")
    d.put_directory(folder, [manifest(ocean=("ada", name))], host="host", port=port)
    assert sorted(json.loads(folder.accounts.read_text())) == ["ada", "host"]


def test_no_slapd_is_a_sentence(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d.shutil, "which", lambda *_, **__: None)
    with pytest.raises(UserError, match="--auth ldap needs OpenLDAP's slapd"):
        d.put_directory(folder, [], host="host", port=1)
    assert not folder.accounts.exists()


@needs_slapd
def test_a_first_start_that_was_cut_short_is_done_over(folder: DataFolder) -> None:
    port = find_free_port("127.0.0.1")
    directory = d.put_directory(folder, [manifest(ocean=("ada",))], host="host", port=port)
    directory.password_file.unlink()  # as if it had ended before its last step
    again = d.put_directory(folder, [manifest(ocean=("ada",))], host="host", port=port)
    with running(again):
        accounts = json.loads(folder.accounts.read_text())
        assert log_in(again, "ada", accounts["ada"]) == ()


def test_nothing_answers_is_not_ready(tmp_path: Path) -> None:
    from jupyterhub_collab.cli.up.probes import tls_probe

    port = find_free_port("127.0.0.1")
    assert asyncio.run(tls_probe("127.0.0.1", port, ca_file=tmp_path / "none")()) is False
