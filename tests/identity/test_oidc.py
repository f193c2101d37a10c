"""OpenID Connect: a provider's word about this login lets in; nobody else's, and no other word."""

import base64
import hashlib
import json
from datetime import timedelta

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyterhub_collab.identity import jwks, oidc
from jupyterhub_collab.identity.documents import (
    DocumentReader,
    SourceMisconfiguredError,
    SourceUnavailableError,
)
from jupyterhub_collab.identity.oidc import ClaimError, OIDCProvider, parse_metadata, to_facts
from jupyterhub_collab.identity.signed_token import TokenRefusedError
from jupyterhub_collab.models.facts import Identity
from jupyterhub_collab.policy.group_claim import GroupClaimError, GroupOverageError
from tests.identity.publishing import (
    EC_KEY,
    ED_KEY,
    NOW,
    OTHER_ED_KEY,
    RSA_KEY,
    by_hand,
    serving,
)

CLIENT = "the-hub"
NONCE = "nonce-of-this-login"
T = int(NOW.timestamp())
KEYS = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
IDS = {name: jwks.thumbprint(key.public_key()) for name, key in KEYS.items()}


def discovery_of(url):
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/auth",
        "token_endpoint": f"{url}/token",
        "jwks_uri": f"{url}/jwks",
        "userinfo_endpoint": f"{url}/me",
        "id_token_signing_alg_values_supported": ["RS256", "ES256", "EdDSA", "HS256", "none"],
        "code_challenge_methods_supported": ["S256"],
        "backchannel_logout_supported": True,
    }


@pytest.fixture
async def site():
    async with serving() as site:
        site.documents["/.well-known/openid-configuration"] = discovery_of(site.url)
        site.documents["/jwks"] = jwks.to_key_set(*(key.public_key() for key in KEYS.values()))
        yield site


@pytest.fixture
async def provider(site, reader, clock):
    found = OIDCProvider(site.url, CLIENT, reader, now=clock.now, clock=clock)
    yield found
    await found.close()


@pytest.fixture
def claims(site):
    return {
        "iss": site.url,
        "sub": "person-7",
        "aud": CLIENT,
        "iat": T,
        "exp": T + 300,
        "nonce": NONCE,
        "preferred_username": "ada",
    }


@pytest.fixture
def logout(site):
    return {
        "iss": site.url,
        "sub": "person-7",
        "sid": "session-1",
        "aud": CLIENT,
        "iat": T,
        "exp": T + 120,
        "jti": "logout-1",
        "events": {oidc.LOGOUT_EVENT: {}},
    }


def sign(claims, algorithm="EdDSA", **header):
    head = {"alg": algorithm, "kid": IDS[algorithm], "typ": "JWT", **header}
    head = {name: value for name, value in head.items() if value is not ...}
    signing = None if algorithm == "EdDSA" else algorithm
    return by_hand(head, claims, KEYS[algorithm], signing)


async def refuse(work):
    with pytest.raises(TokenRefusedError) as refused:
        await work
    told = f"{refused.value!r} {refused.value.reason} {refused.value.__cause__!r}"
    for secret in ("person-7", NONCE, "session-1", "logout-1"):
        assert secret not in told
    return refused.value.reason


# ID tokens


@pytest.mark.parametrize("algorithm", KEYS)
async def test_lets_in_who_the_provider_says(provider, claims, algorithm, site):
    for header in ({}, {"typ": "jwt"}, {"typ": ...}, {"kid": ...}):
        token = sign(claims, algorithm, **header)
        assert await provider.verify_id_token(token, nonce=NONCE) == claims
    assert sorted(site.asked) == ["/.well-known/openid-configuration", "/jwks"]


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"iss": None}, "claim iss: missing"),
        ({"iss": "https://other.example.org"}, "claim iss"),
        ({"iss": ["x"]}, "claim iss"),
        ({"sub": None}, "claim sub: missing"),
        ({"sub": ""}, "claim sub"),
        ({"sub": 7}, "claim sub"),
        ({"sub": "x" * 256}, "claim sub"),
        ({"sub": "a\nb"}, "claim sub"),
        ({"sub": "a\u202eb"}, "claim sub"),
        ({"aud": None}, "claim aud: missing"),
        ({"aud": "another"}, "claim aud"),
        ({"aud": "the-hub2"}, "claim aud"),
        ({"aud": []}, "claim aud"),
        ({"aud": {CLIENT: 1}}, "claim aud"),
        ({"aud": [CLIENT, 7], "azp": CLIENT}, "claim aud"),
        ({"aud": [CLIENT, "another"]}, "claim azp: missing"),
        ({"aud": [CLIENT, "another"], "azp": "another"}, "claim azp"),
        ({"azp": "another"}, "claim azp"),
        ({"azp": [CLIENT]}, "claim azp"),
        ({"exp": None}, "claim exp"),
        ({"exp": T - 30}, "claim exp"),
        ({"exp": str(T + 60)}, "claim exp"),
        ({"exp": True}, "claim exp"),
        ({"exp": [T + 60]}, "claim exp"),
        ({"exp": -1}, "claim exp"),
        ({"exp": 10**30}, "claim exp"),
        ({"iat": None}, "claim iat"),
        ({"iat": T + 31}, "claim iat"),
        ({"iat": "now"}, "claim iat"),
        ({"iat": {}}, "claim iat"),
        ({"nbf": T + 31}, "claim nbf"),
        ({"nbf": "now"}, "claim nbf"),
        ({"nonce": None}, "claim nonce"),
        ({"nonce": "another"}, "claim nonce"),
        ({"nonce": NONCE + "x"}, "claim nonce"),
        ({"nonce": NONCE[:-1]}, "claim nonce"),
        ({"nonce": [NONCE]}, "claim nonce"),
        ({"auth_time": "now"}, "claim auth_time"),
        ({"events": {oidc.LOGOUT_EVENT: {}}}, "claim events"),
    ],
    ids=ascii,
)
async def test_wrong_claims_are_refused_by_name(provider, claims, changes, about):
    for removed in (True, False):  # missing is as good as null
        changed = {**claims, **changes}
        if removed:
            changed = {name: value for name, value in changed.items() if value is not None}
        reason = await refuse(provider.verify_id_token(sign(changed), nonce=NONCE))
        assert about.removesuffix(": missing") in reason


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [CLIENT]},
        {"aud": [CLIENT, "another"], "azp": CLIENT},
        {"azp": CLIENT},
        {"exp": T - 29.5},
        {"iat": T + 30, "nbf": T + 30},
        {"iat": T - 0.5, "auth_time": T - 10},
        {"sub": "山田"},
    ],
    ids=str,
)
async def test_what_the_standard_allows(provider, claims, changes):
    found = await provider.verify_id_token(sign({**claims, **changes}), nonce=NONCE)
    assert found == {**claims, **changes}


@pytest.mark.parametrize(
    ("header", "about"),
    [
        ({"typ": "logout+jwt"}, "typ"),
        ({"typ": "at+jwt"}, "typ"),
        ({"typ": "portal+jwt"}, "typ"),
        ({"typ": 7}, "typ"),
        ({"alg": "none"}, "alg"),
        ({"alg": "HS256"}, "alg"),
        ({"alg": "RS384"}, "alg"),
        ({"alg": "RS256"}, "kid"),
        ({"kid": "unknown"}, "kid"),
        ({"kid": IDS["RS256"]}, "kid"),
        ({"crit": ["exp"]}, "crit"),
    ],
    ids=str,
)
async def test_wrong_headers_are_refused_by_name(provider, claims, header, about):
    assert about in await refuse(provider.verify_id_token(sign(claims, **header), nonce=NONCE))


async def test_another_key_under_a_known_id_is_refused(provider, claims):
    for algorithm in KEYS:
        head = {"alg": "EdDSA", "kid": IDS[algorithm]}
        token = by_hand(head, claims, OTHER_ED_KEY)
        await refuse(provider.verify_id_token(token, nonce=NONCE))
    head = {"alg": "HS256", "kid": IDS["EdDSA"]}
    token = by_hand(head, claims, ED_KEY.public_key().public_bytes_raw(), "HS256")
    assert "alg" in await refuse(provider.verify_id_token(token, nonce=NONCE))


@pytest.mark.parametrize(
    ("algorithm", "make"), [("RS256", hashlib.sha256), ("EdDSA", hashlib.sha512)]
)
async def test_an_access_token_of_another_answer_is_refused(provider, claims, algorithm, make):
    digest = make(b"access").digest()
    half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    token = sign({**claims, "at_hash": half}, algorithm)
    await provider.verify_id_token(token, nonce=NONCE, access_token="access")
    await provider.verify_id_token(token, nonce=NONCE)
    await provider.verify_id_token(sign(claims), nonce=NONCE, access_token="any: says nothing")
    reason = await refuse(provider.verify_id_token(token, nonce=NONCE, access_token="another"))
    assert "at_hash" in reason


async def test_at_hash_is_that_of_the_standards_example():
    access_token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"  # OpenID Connect Core A.3
    assert oidc._access_token_hash(access_token, "RS256") == "77QmUPtjPfzWtF2AnpK9RQ"


async def test_how_long_ago_the_person_showed_who_they_are(provider, claims, clock):
    token = sign({**claims, "auth_time": T})
    await provider.verify_id_token(token, nonce=NONCE, max_auth_age_s=60)
    clock.seconds += 90
    assert "auth_time" in await refuse(
        provider.verify_id_token(token, nonce=NONCE, max_auth_age_s=60)
    )
    assert "auth_time: missing" in await refuse(
        provider.verify_id_token(sign(claims), nonce=NONCE, max_auth_age_s=60)
    )


async def test_a_login_needs_a_nonce(provider, claims):
    with pytest.raises(ValueError, match="nonce"):
        await provider.verify_id_token(sign(claims), nonce="")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
NAMES = ["iss", "sub", "aud", "azp", "exp", "iat", "nbf", "nonce", "at_hash", "events", "auth_time"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes=st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1))
async def test_genuine_signatures_over_any_claims(provider, claims, changes):
    changed = {**claims, **changes}
    try:
        found = await provider.verify_id_token(sign(changed), nonce=NONCE, access_token="a")
    except TokenRefusedError:
        return
    assert (found["iss"], found["nonce"]) == (claims["iss"], NONCE)
    assert found["aud"] == CLIENT or CLIENT in found["aud"]
    assert found.get("azp", CLIENT) == CLIENT
    assert isinstance(found["sub"], str)
    assert found["exp"] > T - 30


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(token=st.text(max_size=80) | st.binary() | st.none() | VALUES)
async def test_nonsense_is_refused_without_asking_anybody(provider, site, token):
    with pytest.raises(TokenRefusedError):
        await provider.verify_id_token(token, nonce=NONCE)
    assert site.asked == []


async def test_a_huge_token_is_not_looked_at(provider, claims, site):
    token = sign({**claims, "groups": ["g" * 36] * 2000})
    assert "longer than" in await refuse(provider.verify_id_token(token, nonce=NONCE))
    assert site.asked == []
    two_hundred = sign({**claims, "groups": ["g" * 36] * 200})
    await provider.verify_id_token(two_hundred, nonce=NONCE)


async def test_two_claims_of_one_name_are_refused(provider, claims):
    twice = json.dumps(claims)[:-1] + ', "sub": "admin"}'
    reason = await refuse(provider.verify_id_token(sign(twice.encode()), nonce=NONCE))
    assert "says a name twice" in reason


# Refresh


async def test_a_refresh_is_of_the_same_person(provider, claims):
    before = {**claims, "auth_time": T - 60}
    again = {name: value for name, value in before.items() if name != "nonce"}
    later = {**again, "iat": T + 20, "exp": T + 600}
    assert await provider.verify_refreshed_id_token(sign(later), previous=before) == later
    await provider.verify_refreshed_id_token(sign({**later, "nonce": NONCE}), previous=before)
    for changes in (
        {"sub": "person-8"},
        {"aud": [CLIENT, "another"], "azp": CLIENT},
        {"auth_time": T},
        {"nonce": "another"},
        {"exp": T - 60},
        {"events": {}},
    ):
        token = sign({**later, **changes})
        (name, *_) = changes
        reason = await refuse(provider.verify_refreshed_id_token(token, previous=before))
        assert f"claim {name}" in reason


# Log-out


async def test_says_whose_sessions_are_over(provider, logout, site):
    for typ in ("logout+jwt", "application/logout+jwt", "JWT", ...):
        found = await provider.verify_logout_token(sign(logout, typ=typ))
        assert (found.issuer, found.subject, found.session_id) == (
            site.url,
            "person-7",
            "session-1",
        )
        assert found.token_id == "logout-1"
        assert found.expires == NOW + timedelta(seconds=330)
        for secret in ("person-7", "session-1", "logout-1"):
            assert secret not in repr(found)
    for name in ("sub", "sid", "exp"):
        less = {key: value for key, value in logout.items() if key != name}
        await provider.verify_logout_token(sign(less))


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"nonce": NONCE}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"events": ...}, "events"),
        ({"events": None}, "events"),
        ({"events": {}}, "events"),
        ({"events": [oidc.LOGOUT_EVENT]}, "events"),
        ({"events": {oidc.LOGOUT_EVENT: True}}, "events"),
        ({"events": {oidc.LOGOUT_EVENT + "x": {}}}, "events"),
        ({"jti": ...}, "jti"),
        ({"jti": 7}, "jti"),
        ({"iat": ...}, "iat"),
        ({"iat": T - 330}, "iat"),
        ({"iat": T + 31}, "iat"),
        ({"exp": T - 30}, "exp"),
        ({"exp": "x"}, "exp"),
        ({"aud": ...}, "aud"),
        ({"aud": "another"}, "aud"),
        ({"iss": ...}, "iss"),
        ({"iss": "x"}, "iss"),
        ({"sub": ..., "sid": ...}, "sub and sid"),
        ({"sub": 7}, "sub"),
        ({"sid": None}, "sid"),
        ({"sid": ["a"]}, "sid"),
    ],
    ids=ascii,
)
async def test_a_log_out_that_is_none(provider, logout, changes, about):
    changed = {k: v for k, v in {**logout, **changes}.items() if v is not ...}
    assert about in await refuse(provider.verify_logout_token(sign(changed)))


async def test_neither_stands_in_for_the_other(provider, claims, logout):
    assert "events" in await refuse(
        provider.verify_refreshed_id_token(sign({**claims, **logout}), previous=claims)
    )
    await refuse(provider.verify_logout_token(sign(claims)))
    await refuse(provider.verify_logout_token(sign(logout, typ="at+jwt")))
    await refuse(provider.verify_id_token(sign(logout), nonce=NONCE))


# Discovery and keys


async def test_keys_that_change_count_at_once(provider, claims, site, clock):
    await provider.verify_id_token(sign(claims), nonce=NONCE)
    site.documents["/jwks"] = jwks.to_key_set(OTHER_ED_KEY.public_key())
    clock.seconds += 31
    head = {"alg": "EdDSA", "kid": jwks.thumbprint(OTHER_ED_KEY.public_key())}
    fresh = by_hand(head, claims, OTHER_ED_KEY)
    assert await provider.verify_id_token(fresh, nonce=NONCE) == claims
    await refuse(provider.verify_id_token(sign(claims), nonce=NONCE))


async def test_a_key_without_an_id_that_changes(provider, claims, site, clock):
    site.documents["/jwks"] = {"keys": [jwks.to_jwk(ED_KEY.public_key())]}
    token = sign(claims, kid=...)
    assert await provider.verify_id_token(token, nonce=NONCE) == claims
    site.documents["/jwks"] = {"keys": [jwks.to_jwk(OTHER_ED_KEY.public_key())]}
    clock.seconds += jwks.MAX_AGE_S
    await refuse(provider.verify_id_token(token, nonce=NONCE))


async def test_an_address_of_keys_that_changes_is_followed(provider, claims, site, clock):
    await provider.verify_id_token(sign(claims), nonce=NONCE)
    document = discovery_of(site.url) | {"jwks_uri": f"{site.url}/keys-2"}
    site.documents["/.well-known/openid-configuration"] = document
    site.documents["/keys-2"] = jwks.to_key_set(OTHER_ED_KEY.public_key())
    clock.seconds += oidc.METADATA_AGE_S
    token = sign({**claims, "iat": T + 3600, "exp": T + 3900})
    assert "kid" in await refuse(provider.verify_id_token(token, nonce=NONCE))
    assert "/keys-2" in site.asked


async def test_an_outage_of_the_provider(provider, claims, site, clock):
    await provider.verify_id_token(sign(claims), nonce=NONCE)

    async def broken(request):
        return web.Response(status=503)

    site.answer = broken
    clock.seconds += oidc.METADATA_AGE_S
    token = sign({**claims, "iat": T + 3600, "exp": T + 3900})
    assert await provider.verify_id_token(token, nonce=NONCE)
    clock.seconds += jwks.STALE_S
    token = sign({**claims, "iat": T + 7200, "exp": T + 7500})
    with pytest.raises(SourceUnavailableError, match="key set"):
        await provider.verify_id_token(token, nonce=NONCE)
    clock.seconds += oidc.METADATA_STALE_S
    with pytest.raises(SourceUnavailableError, match="discovery document"):
        await provider.discover()


async def test_a_provider_that_calls_itself_otherwise(site, reader):
    site.documents["/.well-known/openid-configuration"]["issuer"] = site.url + "/"
    with pytest.raises(SourceMisconfiguredError, match="exactly as"):
        await OIDCProvider(site.url, CLIENT, reader).discover()
    found = await OIDCProvider(site.url + "/", CLIENT, reader).discover()
    assert found.issuer == site.url + "/"


GOOD = discovery_of("https://idp.example.org")


def parse(document, algorithms=("EdDSA", "RS256")):
    return parse_metadata(document, issuer="https://idp.example.org", algorithms=algorithms)


def test_algorithms_are_ours_and_theirs():
    assert parse(GOOD).algorithms == {"EdDSA", "RS256"}
    assert parse(GOOD, ["EdDSA", "PS256"]).algorithms == {"EdDSA"}
    assert parse(GOOD).has_pkce
    assert parse(GOOD).has_backchannel_logout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("issuer", None),
        ("issuer", ["https://idp.example.org"]),
        ("issuer", "https://login.example.org/{tenantid}/v2.0"),
        ("id_token_signing_alg_values_supported", None),
        ("id_token_signing_alg_values_supported", "EdDSA"),
        ("id_token_signing_alg_values_supported", [7]),
        ("id_token_signing_alg_values_supported", ["HS256", "none"]),
        ("id_token_signing_alg_values_supported", []),
        *(
            (name, value)
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
            for value in (
                None,
                7,
                "",
                "/relative",
                "http://idp.example.org/",
                "javascript:alert(1)",
            )
        ),
        ("userinfo_endpoint", "http://idp.example.org/"),
        ("end_session_endpoint", "ftp://idp.example.org/"),
        ("revocation_endpoint", 7),
    ],
    ids=str,
)
def test_discovery_documents_that_cannot_be_used(name, value):
    with pytest.raises(SourceMisconfiguredError, match="discovery document") as refused:
        parse({**GOOD, name: value})
    assert name.split("_")[0] in str(refused.value) or "signs ID tokens" in str(refused.value)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), VALUES))
def test_any_discovery_document(changes):
    try:
        found = parse({**GOOD, **changes})
    except SourceMisconfiguredError:
        return
    assert found.issuer == "https://idp.example.org"
    assert found.jwks_uri.startswith("https://")


@pytest.mark.parametrize("issuer", ["http://idp.example.org", "idp.example.org", ""])
def test_issuers_that_cannot_be_configured(issuer):
    with pytest.raises(SourceMisconfiguredError, match="issuer"):
        OIDCProvider(issuer, CLIENT, DocumentReader())
    with pytest.raises(SourceMisconfiguredError, match="client_id"):
        OIDCProvider("https://idp.example.org", "", DocumentReader())


# Facts

ID = {"iss": "https://idp.example.org", "sub": "7", "iat": T, "aud": CLIENT, "nonce": NONCE}
ADA = {**ID, "preferred_username": "ada", "acr": "mfa", "groups": ["a"]}


def test_what_the_provider_says():
    facts = to_facts(ADA)
    assert facts.identity == Identity("https://idp.example.org", "7")
    assert (facts.username, facts.groups, facts.at) == ("ada", ("a",), NOW)
    assert facts.claims == {"preferred_username": "ada", "acr": "mfa", "groups": ["a"]}


def test_userinfo_was_asked_later():
    later = NOW + timedelta(hours=1)
    told = {"sub": "7", "groups": ["b"], "acr": "none", "iss": "x", "email": "e"}
    facts = to_facts(ADA, userinfo=told, at=later)
    assert (facts.groups, facts.at) == (("b",), later)
    assert facts.claims["email"] == "e"
    assert facts.claims["acr"] == "mfa"  # of the login: only the signed token tells
    assert facts.identity.issuer == "https://idp.example.org"
    assert to_facts(ADA, userinfo={"sub": "7", "groups": []}).groups == ()
    assert to_facts(ADA, userinfo={"sub": "7"}).groups == ("a",)


@pytest.mark.parametrize(
    ("token", "userinfo", "emails"),
    [
        ({}, None, ()),
        ({"email": "a@x.org"}, None, ()),
        ({"email": "a@x.org", "email_verified": False}, None, ()),
        ({"email": "a@x.org", "email_verified": "false"}, None, ()),
        ({"email": "a@x.org", "email_verified": 1}, None, ()),
        ({"email": ["a@x.org"], "email_verified": True}, None, ()),
        ({"email": "A@x.org", "email_verified": True}, None, ("A@x.org",)),
        ({"email": "a@x.org", "email_verified": "true"}, None, ("a@x.org",)),
        ({}, {"email": "b@x.org", "email_verified": True}, ("b@x.org",)),
        # One document's word does not verify the other's address.
        ({"email": "a@x.org", "email_verified": True}, {"email": "b@x.org"}, ()),
        ({"email_verified": True}, {"email": "b@x.org"}, ()),
        ({"email": "a@x.org"}, {"email_verified": True}, ()),
        ({"email": "a@x.org", "email_verified": True}, {"name": "Ada"}, ("a@x.org",)),
    ],
)
def test_addresses_that_the_provider_vouches_for(token, userinfo, emails):
    told = None if userinfo is None else {"sub": "7", **userinfo}
    assert to_facts({**ADA, **token}, userinfo=told).emails == emails


@pytest.mark.parametrize("told", [{}, {"sub": "8"}, {"sub": None}, {"sub": 7}])
def test_userinfo_of_another_person(told):
    with pytest.raises(TokenRefusedError) as refused:
        to_facts(ADA, userinfo=told)
    assert "userinfo" in refused.value.reason


def test_groups_that_were_left_out():
    left_out = {**ADA, "_claim_names": {"groups": "src1"}}
    del left_out["groups"]
    with pytest.raises(GroupOverageError):
        to_facts(left_out)
    with pytest.raises(GroupOverageError):
        to_facts(left_out, userinfo={"sub": "7"})
    with pytest.raises(GroupOverageError):
        to_facts(ADA, userinfo={"sub": "7", "hasgroups": True})
    assert to_facts(left_out, groups=["x", "y", "x"]).groups == ("x", "y")
    assert to_facts(left_out, userinfo={"sub": "7", "groups": ["z"]}).groups == ("z",)


def test_groups_that_are_needed_or_nonsense():
    assert to_facts({**ADA, "groups": None}).groups == ()
    with pytest.raises(ClaimError, match="claim groups: missing"):
        to_facts({**ADA, "groups": None}, groups_required=True)
    assert to_facts({**ADA, "groups": []}, groups_required=True).groups == ()
    with pytest.raises(GroupClaimError):
        to_facts({**ADA, "groups": {"a": 1}})
    assert to_facts({**ADA, "groups": "set"}).groups == ("set",)  # not s, e, t


def test_user_names():
    assert to_facts(ADA, username_claim="sub").username == "7"
    assert to_facts({**ADA, "upn": "a@b"}, username_claim="upn").username == "a@b"
    for value in (None, "", " a", 7, ["ada"], "a\n", "x" * 256):
        with pytest.raises(ClaimError, match="claim preferred_username"):
            to_facts({**ADA, "preferred_username": value})
