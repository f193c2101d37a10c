"""Portal tokens: what a portal signs lets one person in once; nothing else lets anybody in."""

import json
import logging
from base64 import urlsafe_b64decode
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyterhub_collab.identity import jwks
from jupyterhub_collab.identity.documents import SourceMisconfiguredError
from jupyterhub_collab.identity.portal_token import (
    MAX_BYTES,
    TYPE,
    PortalVerifier,
    make_portal_token,
    to_audience,
)
from jupyterhub_collab.identity.signed_token import TokenRefusedError
from jupyterhub_collab.models.facts import Identity
from tests.identity.publishing import (
    EC_KEY,
    ED_KEY,
    NOW,
    OTHER_ED_KEY,
    RSA_KEY,
    b64,
    by_hand,
    claims_of,
    encode,
)

HUB = "https://hub.example.org/"
ISSUER = "https://portal.example.org"
NONCE = "nonce-of-this-login"
ED_ID = jwks.thumbprint(ED_KEY.public_key())
EC_ID = jwks.thumbprint(EC_KEY.public_key())
HEADER = {"alg": "EdDSA", "typ": TYPE, "kid": ED_ID}
REQUIRED = ["iss", "aud", "sub", "jti", "iat", "exp", "nonce"]
T = int(NOW.timestamp())


class Spent:
    """What `SpentTokens` does, in memory: its own tests are in tests/storage."""

    def __init__(self):
        self.seen = {}

    async def __call__(self, issuer, token_id, expires):
        first = (issuer, token_id) not in self.seen
        self.seen.setdefault((issuer, token_id), expires)
        return first


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("portal") / "keys.json"
    keys = jwks.to_key_set(ED_KEY.public_key(), EC_KEY.public_key(), RSA_KEY.public_key())
    path.write_text(json.dumps(keys))
    path.chmod(0o644)
    return path


@pytest.fixture(scope="module")
def keys(key_file):
    return jwks.KeyFile(key_file, algorithms=jwks.ALGORITHMS)


@pytest.fixture
def spent():
    return Spent()


@pytest.fixture
def portal(keys, spent):
    return make_verifier(keys, spent)


def make_verifier(keys, spent, now=NOW):
    return PortalVerifier(
        "xprize", issuer=ISSUER, hub_url=HUB, keys=keys, spend=spent, now=lambda: now
    )


def make(key=ED_KEY, **changes):
    given = {
        "issuer": ISSUER,
        "hub_url": HUB,
        "contest": "ocean-2027",
        "subject": "person-7",
        "nonce": NONCE,
        "now": NOW,
        "token_id": "token-1",
    }
    return make_portal_token(key, **{**given, **changes})


def good_claims():
    return claims_of(make())


async def refuse(portal, token, *, contest="ocean-2027", nonce=NONCE):
    """The reason in the log; and that neither it nor the person's text repeats the token."""
    with pytest.raises(TokenRefusedError) as refused:
        await portal.verify(token, contest=contest, nonce=nonce)
    told = f"{refused.value!r} {refused.value} {refused.value.reason} {refused.value.__cause__!r}"
    for secret in ("person-7", "token-1", NONCE):
        assert secret not in told
    if isinstance(token, str) and len(token) > 20:
        assert token not in told
        assert token.split(".")[-1][:20] not in told or not token.split(".")[-1]
    return refused.value.reason


@pytest.mark.parametrize("key", [ED_KEY, EC_KEY], ids=["EdDSA", "ES256"])
async def test_says_who_has_come(portal, spent, key):
    token = make(
        key, username="Ada Lovelace", groups=["team-a", "b, c"], claims={"country": ["GB"]}
    )
    facts = await portal.verify(token, contest="ocean-2027", nonce=NONCE)
    assert facts.identity == Identity("xprize", "person-7")
    assert facts.username == "Ada Lovelace"
    assert facts.groups == ("team-a", "b, c")
    assert facts.at == NOW
    assert facts.claims == {
        "preferred_username": "Ada Lovelace",
        "groups": ["team-a", "b, c"],
        "country": ["GB"],
    }
    assert spent.seen == {(ISSUER, "token-1"): NOW + timedelta(seconds=90)}


@pytest.mark.parametrize(
    ("claims", "emails"),
    [
        ({}, ()),
        ({"email": "ada@x.org"}, ("ada@x.org",)),
        ({"email": "ada@x.org", "email_verified": True}, ("ada@x.org",)),
        ({"email": "ada@x.org", "email_verified": False}, ()),
        ({"email": "ada@x.org", "email_verified": None}, ()),
        ({"email": ["ada@x.org"]}, ()),
    ],
)
async def test_addresses_that_the_portal_vouches_for(portal, claims, emails):
    facts = await portal.verify(make(claims=claims), contest="ocean-2027", nonce=NONCE)
    assert facts.emails == emails


async def test_is_spent_once_and_what_is_refused_is_not_spent(portal, spent):
    token = make()
    await refuse(portal, token, nonce="another")
    assert not spent.seen
    facts = await portal.verify(token, contest="ocean-2027", nonce=NONCE)
    assert (facts.username, facts.groups) == ("person-7", ())
    with pytest.raises(TokenRefusedError, match="used already"):
        await portal.verify(token, contest="ocean-2027", nonce=NONCE)


async def test_when_nobody_knows_whether_it_was_spent_nobody_is_let_in(keys):
    async def unsure(*_):
        raise RuntimeError("no database")

    with pytest.raises(RuntimeError):
        await make_verifier(keys, unsure).verify(make(), contest="ocean-2027", nonce=NONCE)


async def test_is_for_one_hub_and_one_contest(portal):
    assert "claim aud" in await refuse(portal, make(), contest="ocean-2028")
    for hub in (
        "https://hub.example.org/other",
        "https://hub2.example.org",
        "http://hub.example.org",
    ):
        assert "claim aud" in await refuse(portal, make(hub_url=hub))
    assert "claim iss" in await refuse(portal, make(issuer=ISSUER + "/"))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://Hub.Example.org:443/", "https://hub.example.org#c"),
        ("https://hub.example.org/base/", "https://hub.example.org/base#c"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000#c"),
        ("http://[::1]:8000/", "http://[::1]:8000#c"),
    ],
)
def test_audience_is_written_one_way(address, shown):
    assert to_audience(address, "c") == shown


@pytest.mark.parametrize(
    ("address", "contest"),
    [(HUB, "a#b"), (HUB, ""), (HUB, "A"), (HUB + "?x", "a"), (HUB + "#x", "a"), ("hub", "a")],
)
def test_audience_of_nonsense(address, contest):
    with pytest.raises(SourceMisconfiguredError):
        to_audience(address, contest)


# Times


@pytest.mark.parametrize(
    ("after_s", "fine"),
    [(-31, False), (-30, True), (0, True), (89, True), (90, False), (9e9, False)],
)
async def test_is_good_for_its_time_and_half_a_minute_of_clocks_apart(keys, spent, after_s, fine):
    portal = make_verifier(keys, spent, NOW + timedelta(seconds=after_s))
    if fine:
        await portal.verify(make(), contest="ocean-2027", nonce=NONCE)
    else:
        assert "claim" in await refuse(portal, make())


async def test_whoever_is_late_is_told_so(keys, spent):
    portal = make_verifier(keys, spent, NOW + timedelta(minutes=5))
    with pytest.raises(TokenRefusedError, match="took too long"):
        await portal.verify(make(), contest="ocean-2027", nonce=NONCE)


async def test_lives_two_minutes_at_most(portal):
    await portal.verify(make(lifetime_s=120), contest="ocean-2027", nonce=NONCE)
    for exp in (T + 121, T + 10**6, T, T - 5):
        claims = {**good_claims(), "exp": exp, "jti": "t"}
        assert "apart" in await refuse(portal, by_hand(HEADER, claims, ED_KEY))
    for seconds in (0, 121, -1):
        with pytest.raises(ValueError, match="lifetime_s"):
            make(lifetime_s=seconds)


# Claims


@pytest.mark.parametrize("name", REQUIRED)
async def test_each_claim_is_required(portal, name):
    for empty in ({}, {name: None}):
        claims = {k: v for k, v in good_claims().items() if k != name} | empty
        reason = await refuse(portal, by_hand(HEADER, claims, ED_KEY))
        assert f"claim {name}:" in reason
    (await portal.verify(make(), contest="ocean-2027", nonce=NONCE))


WRONG = [True, False, 0, -1, 1.5, 10**30, "", " ", " a", "a\n", "\x00", "\ud800", "‮x", "é" * 256]
WRONG += [[], {}, ["a"], {"a": 1}, [[]]]


@pytest.mark.parametrize("name", [*REQUIRED, "nbf", "preferred_username", "groups"])
@pytest.mark.parametrize("value", WRONG, ids=ascii)
async def test_wrong_types_and_texts_are_refused(portal, name, value):
    if name == "nbf" and value in (0, 1.5) and value is not False:  # in 1970, which is past
        await verify_with(portal, name, value)
        return
    if name == "groups" and value in ([], ["a"], " a", "é" * 256):
        assert (await verify_with(portal, name, value)).groups is not None  # those are groups
        return
    claims = {**good_claims(), name: value}
    reason = await refuse(portal, by_hand(HEADER, claims, ED_KEY))
    assert name in reason


async def verify_with(portal, name, value):
    claims = {**good_claims(), name: value}
    return await portal.verify(by_hand(HEADER, claims, ED_KEY), contest="ocean-2027", nonce=NONCE)


@pytest.mark.parametrize(
    "aud",
    [
        ["https://hub.example.org#ocean-2027", "https://hub2.example.org#ocean-2027"],
        ["https://hub.example.org#ocean-2027", ""],
        ["https://hub.example.org#ocean-2027", 7],
        ["https://hub.example.org", "ocean-2027"],
        "https://hub.example.org#ocean-2027 ",
        "https://hub.example.org",
        "ocean-2027",
    ],
    ids=str,
)
async def test_audiences_that_are_more_or_less(portal, aud):
    assert "claim aud" in await refuse(
        portal, by_hand(HEADER, {**good_claims(), "aud": aud}, ED_KEY)
    )


async def test_an_audience_in_a_list_of_one_is_fine(portal):
    await verify_with(portal, "aud", ["https://hub.example.org#ocean-2027"])


async def test_a_subject_may_be_any_readable_text(portal):
    for number, subject in enumerate(["Ådä", "山田", "a b", "x" * 255, "<b>", "o'hara"]):
        claims = {**good_claims(), "sub": subject, "jti": f"t{number}"}
        token = by_hand(HEADER, claims, ED_KEY)
        facts = await portal.verify(token, contest="ocean-2027", nonce=NONCE)
        assert facts.identity.subject == subject


@pytest.mark.parametrize("left_out", [{"hasgroups": True}, {"_claim_names": {"groups": "src1"}}])
async def test_groups_that_were_left_out_are_not_no_groups(portal, left_out):
    token = by_hand(HEADER, {**good_claims(), **left_out}, ED_KEY)
    assert "too many" in await refuse(portal, token)


# Signatures and headers


def pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def forged():
    claims = good_claims()
    none = {**HEADER, "alg": "none"}
    hs = {**HEADER, "alg": "HS256"}
    es = {**HEADER, "alg": "ES256", "kid": EC_ID}
    embedded = {**HEADER, "jwk": jwks.to_jwk(OTHER_ED_KEY.public_key())}
    rsa_id = jwks.thumbprint(RSA_KEY.public_key())
    p384 = ec.generate_private_key(ec.SECP384R1())
    return {
        "none": by_hand(none, claims, None, "none"),
        "none, with a signature": by_hand(none, claims, ED_KEY),
        "nOnE": by_hand({**HEADER, "alg": "nOnE"}, claims, ED_KEY),
        "HMAC with the public key": by_hand(
            hs, claims, ED_KEY.public_key().public_bytes_raw(), "HS256"
        ),
        "HMAC with the PEM": by_hand(hs, claims, pem(ED_KEY), "HS256"),
        "HMAC with the PEM of P-256": by_hand({**hs, "kid": EC_ID}, claims, pem(EC_KEY), "HS256"),
        "HMAC with nothing": by_hand(hs, claims, b"", "HS256"),
        "another's key": by_hand(HEADER, claims, OTHER_ED_KEY),
        "another's key, brought along": by_hand(embedded, claims, OTHER_ED_KEY),
        "swapped id": by_hand({**HEADER, "kid": EC_ID}, claims, ED_KEY),
        "swapped algorithm": by_hand({**es, "kid": ED_ID}, claims, EC_KEY, "ES256"),
        "another curve": encode(claims, p384, "ES384", kid=EC_ID, typ=TYPE),
        "a portal's RSA key": encode(claims, RSA_KEY, "RS256", kid=rsa_id, typ=TYPE),
        "no id": by_hand({"alg": "EdDSA", "typ": TYPE}, claims, ED_KEY),
        "id null": by_hand({**HEADER, "kid": None}, claims, ED_KEY),
        "id empty": by_hand({**HEADER, "kid": ""}, claims, ED_KEY),
        "id a number": by_hand({**HEADER, "kid": 7}, claims, ED_KEY),
        "id a path": by_hand({**HEADER, "kid": "../../dev/null"}, claims, ED_KEY),
        "no type": by_hand({"alg": "EdDSA", "kid": ED_ID}, claims, ED_KEY),
        "type JWT": by_hand({**HEADER, "typ": "JWT"}, claims, ED_KEY),
        "type of a list": by_hand({**HEADER, "typ": [TYPE]}, claims, ED_KEY),
        "no algorithm": by_hand({"typ": TYPE, "kid": ED_ID}, claims, ED_KEY),
        "algorithm of a list": by_hand({**HEADER, "alg": ["EdDSA"]}, claims, ED_KEY),
        "crit": by_hand({**HEADER, "crit": ["b64"], "b64": False}, claims, ED_KEY),
        "header a list": by_hand([], claims, ED_KEY),
        "claims a list": by_hand(HEADER, [claims], ED_KEY),
        "claims a text": by_hand(HEADER, "claims", ED_KEY),
        "claims no JSON": by_hand(HEADER, b"{", ED_KEY),
        "claims no UTF-8": by_hand(HEADER, b'{"sub": "\xff"}', ED_KEY),
        "claims of NaN": by_hand(HEADER, b'{"exp": NaN}', ED_KEY),
        "claims of infinity": by_hand(
            HEADER,
            json.dumps({**claims, "exp": 0}).replace('"exp": 0', '"exp": 1e999').encode(),
            ED_KEY,
        ),
        "claims without end": by_hand(HEADER, b'{"a":' * 900 + b"1" + b"}" * 900, ED_KEY),
        "a number of 5000 digits": by_hand(HEADER, b'{"exp": ' + b"9" * 5000 + b"}", ED_KEY),
        "a claim twice": by_hand(
            HEADER, json.dumps(claims).encode()[:-1] + b', "sub": "admin"}', ED_KEY
        ),
        "a header twice": by_hand(
            json.dumps(HEADER).encode()[:-1] + b', "alg": "none"}', claims, ED_KEY
        ),
        "a claim twice, deep": by_hand(
            HEADER, json.dumps(claims).encode()[:-1] + b', "x": {"y": 1, "y": 2}}', ED_KEY
        ),
        "huge": by_hand(HEADER, {**claims, "x": "x" * MAX_BYTES}, ED_KEY),
        "encrypted": "a.b.c.d.e",
        "JSON form": json.dumps({"payload": b64(json.dumps(claims).encode())}),
    }


FORGED = forged()


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED.keys())
async def test_forged_tokens_are_refused(portal, spent, token):
    await refuse(portal, token)
    assert not spent.seen


async def test_the_ways_to_forge_begin_with_a_good_token(portal):
    """Else they might be refused for something else."""
    token = by_hand(HEADER, good_claims(), ED_KEY)
    await portal.verify(token, contest="ocean-2027", nonce=NONCE)
    claims = {**good_claims(), "jti": "2"}
    token = by_hand({**HEADER, "alg": "ES256", "kid": EC_ID}, claims, EC_KEY, "ES256")
    await portal.verify(token, contest="ocean-2027", nonce=NONCE)


@pytest.mark.parametrize("key", [ED_KEY, EC_KEY], ids=["EdDSA", "ES256"])
async def test_one_changed_character_anywhere_is_refused(portal, key):
    token = make(key)
    for i in range(len(token)):  # the last one too: there is one spelling only
        for other in "AB-" if token[i] not in "AB-" else "zy":
            with pytest.raises(TokenRefusedError):
                await portal.verify(
                    token[:i] + other + token[i + 1 :], contest="ocean-2027", nonce=NONCE
                )
    await portal.verify(token, contest="ocean-2027", nonce=NONCE)


async def test_another_spelling_of_the_same_signature_is_refused(portal):
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = make()
    last = alphabet.index(token[-1])
    assert last % 16 == 0  # 64 bytes leave four bits of the last character unused
    for other in alphabet[last + 1 : last + 16]:
        respelt = token[:-1] + other
        signatures = [urlsafe_b64decode(t.split(".")[2] + "==") for t in (token, respelt)]
        assert signatures[0] == signatures[1]
        assert "spelling" in await refuse(portal, respelt)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    token=st.text(max_size=60)
    | st.binary(max_size=9)
    | st.none()
    | st.lists(st.binary(max_size=30).map(b64), min_size=1, max_size=6).map(".".join)
)
async def test_nonsense_is_refused(portal, token):
    with pytest.raises(TokenRefusedError):
        await portal.verify(token, contest="ocean-2027", nonce=NONCE)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes=st.dictionaries(st.sampled_from([*REQUIRED, "nbf", "groups", "hasgroups"]), VALUES))
async def test_genuine_signatures_over_any_claims_let_in_nobody_else(keys, changes):
    """A portal that goes mad: whoever gets in is who its token says, in good order."""
    portal = make_verifier(keys, Spent())
    claims = {**good_claims(), **changes}
    try:
        token = by_hand(HEADER, claims, ED_KEY)
    except UnicodeEncodeError:
        return
    try:
        facts = await portal.verify(token, contest="ocean-2027", nonce=NONCE)
    except TokenRefusedError:
        return
    assert facts.identity == Identity("xprize", claims["sub"])
    assert claims["nonce"] == NONCE
    assert claims["aud"] in (
        "https://hub.example.org#ocean-2027",
        ["https://hub.example.org#ocean-2027"],
    )
    assert 0 < claims["exp"] - claims["iat"] <= 120
    assert all(isinstance(group, str) for group in facts.groups)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(header=st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "jwk", "zip"]), VALUES))
async def test_genuine_signatures_under_any_header(keys, header):
    portal = make_verifier(keys, Spent())
    try:
        await portal.verify(
            by_hand({**HEADER, **header}, good_claims(), ED_KEY), contest="ocean-2027", nonce=NONCE
        )
    except TokenRefusedError:
        return
    assert not {"crit", "alg", "kid"} & set(header)


async def test_an_unset_nonce_is_nobodys(portal):
    with pytest.raises(ValueError, match="nonce"):
        await portal.verify(make(), contest="ocean-2027", nonce="")


def test_what_a_portal_cannot_make():
    with pytest.raises(ValueError, match="P-256"):
        make(ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(ValueError, match="by itself"):
        make(claims={"sub": "somebody else"})


def test_a_portals_token_is_read_by_any_library():
    token = make(EC_KEY, key_id="k1")
    key = EC_KEY.public_key()
    audience = "https://hub.example.org#ocean-2027"
    claims = jwt.decode(
        token,
        key,
        algorithms=["ES256"],
        audience=audience,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims["sub"] == "person-7"
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": "k1", "typ": TYPE}


async def test_nothing_of_a_token_is_logged(portal, caplog):
    caplog.set_level(logging.DEBUG)
    await portal.verify(make(), contest="ocean-2027", nonce=NONCE)
    for token in FORGED.values():
        await refuse(portal, token)
    for secret in ("person-7", "token-1", NONCE, make().split(".")[2]):
        assert secret not in caplog.text
