"""Who may tell what."""

from __future__ import annotations

import json

import pytest

from jupyterhub_collab.models.audit import Verb
from jupyterhub_collab.policy.audit_emitters import (
    DEFAULT_VERBS,
    Emitter,
    Emitters,
    EmittersError,
    hash_token,
    read_emitters,
)


def make(verbs: tuple[str, ...], name: str = "hub", token: str = "t") -> Emitter:
    return Emitter(name=name, token_sha256=hash_token(token), verbs=verbs)


@pytest.mark.parametrize(
    ("verbs", "told", "not_told"),
    [
        (("login",), {Verb.LOGIN}, {Verb.LOGOUT, Verb.SERVER_START}),
        (("server.*",), {Verb.SERVER_START, Verb.SERVER_STOP}, {Verb.SHARE_CREATE, Verb.LOGIN}),
        (("server.start",), {Verb.SERVER_START}, {Verb.SERVER_STOP}),
        (("*",), {v for v in Verb if not v.value.startswith("audit.")}, {Verb.AUDIT_ERASE}),
    ],
)
def test_verbs(verbs: tuple[str, ...], told: set[Verb], not_told: set[Verb]) -> None:
    emitter = make(verbs)
    assert all(emitter.may_tell(verb) for verb in told)
    assert not any(emitter.may_tell(verb) for verb in not_told)


def test_nobody_is_found_but_by_their_token() -> None:
    emitters = Emitters((make(("*",), "a", "one"), make(("login",), "b", "two")))
    assert [e and e.name for e in map(emitters.find, ("one", "two", "", "One", "\udcff"))] == [
        "a",
        "b",
        None,
        None,
        None,
    ]
    assert read_emitters(emitters.to_text()) == emitters


def test_our_own_programs_tell_only_what_there_is_and_nothing_of_the_services() -> None:
    text = Emitters(
        tuple(make(verbs, name, name) for name, verbs in DEFAULT_VERBS.items())
    ).to_text()
    assert {e.name for e in read_emitters(text).all} == {"hub", "provisioner", "contests"}


HASH = hash_token("t")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ({"emitters": [{"name": "a", "token_sha256": "hunter2", "verbs": ["*"]}]}, "token_sha256"),
        ({"emitters": [{"name": "A", "token_sha256": HASH, "verbs": ["*"]}]}, "name"),
        ({"emitters": [{"name": "audit", "token_sha256": HASH, "verbs": ["*"]}]}, "own"),
        ({"emitters": [{"name": "a", "token_sha256": HASH, "verbs": []}]}, "verbs"),
        ({"emitters": [{"name": "a", "token_sha256": HASH, "verbs": ["audit.*"]}]}, "only the"),
        ({"emitters": [{"name": "a", "token_sha256": HASH, "verbs": ["logn"]}]}, "no verb logn"),
        ({"emitters": [{"name": "a", "token_sha256": HASH, "verbs": ["serv*"]}]}, "verbs"),
        (
            {
                "emitters": [
                    {"name": name, "token_sha256": HASH, "verbs": ["*"]} for name in ("a", "b")
                ]
            },
            "same token_sha256",
        ),
    ],
)
def test_what_is_no_list_of_emitters_is_refused_and_not_repeated(value: object, said: str) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    with pytest.raises(EmittersError, match=said) as refused:
        read_emitters(text)
    assert "hunter2" not in str(refused.value)
