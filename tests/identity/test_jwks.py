"""Key sets: what is in them, and what becomes of them when their server misbehaves."""

import asyncio
import gzip
import json
import os

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab.identity import documents, jwks
from jupyterhub_collab.identity.documents import (
    DocumentReader,
    SourceMisconfiguredError,
    SourceUnavailableError,
    check_address,
)
from jupyterhub_collab.identity.signed_token import TokenRefusedError
from jupyterhub_collab.identity.strict_json import parse_object
from jupyterhub_collab.timeouts import timeout
from tests.identity.publishing import (
    EC_KEY,
    ED_KEY,
    OTHER_ED_KEY,
    RSA_KEY,
    make_certificate,
    raw_server,
    serving,
)

ED, EC, RSA = (key.public_key() for key in (ED_KEY, EC_KEY, RSA_KEY))
OTHER = OTHER_ED_KEY.public_key()
ED_ID = jwks.thumbprint(ED)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def raw(key):
    return key.public_bytes_raw()


@pytest.fixture
async def site():
    async with serving() as site:
        site.documents["/jwks"] = jwks.to_key_set(ED)
        yield site


@pytest.fixture
async def keys(site, reader, clock):
    found = jwks.RemoteKeys(f"{site.url}/jwks", reader, algorithms=jwks.ALGORITHMS, clock=clock)
    yield found
    await found.close()


# What is in a set


def test_round_trip_of_each_kind():
    found = jwks.parse_key_set(jwks.to_key_set(ED, EC, RSA), algorithms=jwks.ALGORITHMS)
    assert found.skipped == ()
    for key, algorithm in [(ED, "EdDSA"), (EC, "ES256"), (RSA, "RS256"), (RSA, "PS512")]:
        assert found.find(jwks.thumbprint(key), algorithm) == key


def test_thumbprint_is_that_of_rfc_7638():
    jwk = {  # RFC 7638, 3.1
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tS"
        "oc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR"
        "0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhA"
        "I4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
        "alg": "RS256",
        "kid": "2011-04-29",
    }
    key = jwks.parse_key_set({"keys": [jwk]}, algorithms={"RS256"}).find("2011-04-29", "RS256")
    assert jwks.thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_a_key_is_for_its_own_algorithms_only():
    keys = {"keys": [{**jwks.to_jwk(RSA, key_id="r"), "alg": "RS256"}, jwks.to_jwk(ED, key_id="e")]}
    found = jwks.parse_key_set(keys, algorithms=jwks.ALGORITHMS)
    assert found.find("r", "RS256") == RSA
    for key_id, algorithm in [("r", "PS256"), ("r", "EdDSA"), ("e", "RS256"), ("e", "HS256")]:
        assert found.find(key_id, algorithm) is None


def test_without_an_id_only_the_one_key_fits():
    one = jwks.parse_key_set(jwks.to_key_set(ED, RSA), algorithms=jwks.ALGORITHMS)
    two = jwks.parse_key_set(jwks.to_key_set(ED, OTHER), algorithms=jwks.ALGORITHMS)
    assert one.find(None, "EdDSA") == ED
    assert two.find(None, "EdDSA") is None


WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
P384 = ec.generate_private_key(ec.SECP384R1()).public_key()
BROKEN = [
    ("a text", "no JSON object"),
    (None, "no JSON object"),
    ({}, "no algorithm"),
    ({"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"}, "symmetric"),
    ({**jwks.to_jwk(ED), "d": "AAAA"}, "private part"),
    ({**jwks.to_jwk(ED), "use": "enc"}, "use"),
    ({**jwks.to_jwk(ED), "key_ops": ["sign"]}, "key_ops"),
    ({**jwks.to_jwk(ED), "key_ops": "verify"}, "key_ops"),
    ({**jwks.to_jwk(ED), "kid": 7}, "kid"),
    ({**jwks.to_jwk(ED), "kid": ""}, "kid"),
    ({**jwks.to_jwk(ED), "x": "AAAA"}, "broken"),
    ({**jwks.to_jwk(ED), "x": 7}, "broken"),
    ({**jwks.to_jwk(ED), "x": "é"}, "broken"),
    ({**jwks.to_jwk(ED), "crv": "Ed448"}, "no algorithm"),
    ({**jwks.to_jwk(ED), "alg": "none"}, "no algorithm"),
    ({**jwks.to_jwk(ED), "alg": ["EdDSA"]}, "no algorithm"),
    ({**jwks.to_jwk(EC), "y": jwks.to_jwk(EC)["x"]}, "broken"),
    ({**jwks.to_jwk(EC), "crv": "P-384"}, "broken"),
    ({**jwks.to_jwk(EC), "crv": ["P-256"]}, "no algorithm"),
    ({**jwks.to_jwk(EC), "crv": "secp256k1"}, "no algorithm"),
    (jwks.to_jwk(WEAK), "1024 bits"),
    ({**jwks.to_jwk(RSA), "e": "AQ"}, "broken|exponent"),
    ({**jwks.to_jwk(RSA), "e": "Ag"}, "broken|exponent"),
    ({**jwks.to_jwk(RSA), "n": "AAAA"}, "broken|bits"),
    ({"kty": "RSA"}, "broken"),
]


@pytest.mark.parametrize(("item", "why"), BROKEN, ids=str)
def test_a_key_that_is_none_is_passed_over_by_name(item, why):
    found = jwks.parse_key_set(
        {"keys": [item, jwks.to_jwk(OTHER, key_id="good")]}, algorithms=jwks.ALGORITHMS
    )
    (skipped,) = found.skipped
    assert skipped.startswith("key 1 (")
    assert any(part in skipped for part in why.split("|")), skipped
    assert found.find("good", "EdDSA") == OTHER


def test_an_id_used_twice_is_the_first_ones():
    keys = {"keys": [jwks.to_jwk(ED, key_id="a"), jwks.to_jwk(OTHER, key_id="a")]}
    found = jwks.parse_key_set(keys, algorithms=jwks.ALGORITHMS)
    assert found.find("a", "EdDSA") == ED
    assert found.skipped == ("key 2 ('a'): an earlier key has the same id",)


def test_keys_for_algorithms_that_are_not_allowed_are_passed_over():
    found = jwks.parse_key_set(jwks.to_key_set(ED, RSA), algorithms={"EdDSA"})
    assert [key.key for key in found.keys] == [ED]


@given(JSON)
def test_nonsense_is_a_value_error_or_a_set(document):
    if not isinstance(document, dict):
        document = {"keys": document}
    try:
        jwks.parse_key_set(document, algorithms=jwks.ALGORITHMS)
    except ValueError:
        assert not isinstance(document.get("keys"), list)


@given(st.sampled_from([jwks.to_jwk(ED), jwks.to_jwk(EC), jwks.to_jwk(RSA)]), st.data())
def test_a_key_with_any_member_garbled_never_raises(jwk, data):
    name = data.draw(st.sampled_from(sorted(jwk)))
    garbled = {**jwk, name: data.draw(JSON)}
    found = jwks.parse_key_set({"keys": [garbled]}, algorithms=jwks.ALGORITHMS)
    assert len(found.keys) + len(found.skipped) == 1


@pytest.mark.parametrize("wanted", [[], ["none"], ["HS256"], ["RS256", "HS256"], "ES256K"])
def test_algorithms_that_could_be_forged_cannot_be_configured(wanted):
    with pytest.raises(SourceMisconfiguredError, match="expected some of ES256"):
        jwks.check_algorithms(wanted)


# A set at an address


async def test_is_read_once_for_all_who_ask_at_the_same_time(keys, site):
    found = await asyncio.gather(*(keys.find(ED_ID, "EdDSA") for _ in range(50)))
    assert set(map(raw, found)) == {raw(ED)}
    assert site.asked == ["/jwks"]


async def test_one_who_gives_up_does_not_take_the_others_along(keys, site):
    arrived, go = asyncio.Event(), asyncio.Event()

    async def held(request):
        arrived.set()
        await go.wait()
        return web.json_response(jwks.to_key_set(ED))

    site.answer = held
    first, second = (asyncio.create_task(keys.find(ED_ID, "EdDSA")) for _ in range(2))
    await arrived.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go.set()
    assert await second == ED
    assert len(site.asked) == 1


async def test_a_new_key_counts_at_once_and_an_old_one_no_longer(keys, site, clock):
    assert await keys.find(ED_ID, "EdDSA") == ED
    site.documents["/jwks"] = jwks.to_key_set(OTHER)
    clock.seconds += 31
    assert await keys.find(jwks.thumbprint(OTHER), "EdDSA") == OTHER
    with pytest.raises(TokenRefusedError):
        await keys.find(ED_ID, "EdDSA")
    assert len(site.asked) == 2


async def test_a_key_that_was_taken_out_is_refused_when_the_set_is_old(keys, site, clock):
    assert await keys.find(ED_ID, "EdDSA") == ED
    site.documents["/jwks"] = {"keys": []}
    clock.seconds += jwks.MAX_AGE_S - 1
    assert await keys.find(ED_ID, "EdDSA") == ED
    clock.seconds += 1
    with pytest.raises(TokenRefusedError):
        await keys.find(ED_ID, "EdDSA")


async def test_made_up_ids_cost_the_owner_one_read_in_a_while(keys, site, clock):
    await keys.find(ED_ID, "EdDSA")
    clock.seconds += 31
    for i in range(100):
        with pytest.raises(TokenRefusedError) as refused:
            await keys.find(f"made-up-{i}", "EdDSA")
        assert f"made-up-{i}" not in refused.value.reason + str(refused.value)
    assert len(site.asked) == 2
    clock.seconds += jwks.COOL_DOWN_S
    with pytest.raises(TokenRefusedError):
        await keys.find("made-up", "EdDSA")
    assert len(site.asked) == 3


async def test_an_outage_throws_nobody_out_for_a_bounded_time(keys, site, clock):
    assert await keys.find(ED_ID, "EdDSA") == ED

    async def broken(request):
        return web.Response(status=500)

    site.answer = broken
    clock.seconds += jwks.MAX_AGE_S + jwks.STALE_S - 1
    for _ in range(20):
        assert await keys.find(ED_ID, "EdDSA") == ED
    assert len(site.asked) == 2  # nobody else waits for a dead server
    with pytest.raises(SourceUnavailableError, match="status 500"):
        await keys.find("unknown while the server is away", "EdDSA")
    clock.seconds += 1
    with pytest.raises(SourceUnavailableError, match="status 500"):
        await keys.find(ED_ID, "EdDSA")
    site.answer = None
    clock.seconds += jwks.RETRY_S
    assert await keys.find(ED_ID, "EdDSA") == ED


async def test_a_set_without_usable_keys_counts_and_says_so(keys, site):
    site.documents["/jwks"] = {"keys": [{**jwks.to_jwk(ED, key_id="mine"), "use": "enc"}]}
    with pytest.raises(TokenRefusedError) as refused:
        await keys.find("mine", "EdDSA")
    assert "key 1 ('mine'): not for signatures" in refused.value.reason


BAD_BODIES = {
    "not JSON": b"<html>",
    "no object": b"[]",
    "no keys": b"{}",
    "keys no list": b'{"keys": {}}',
    "a name twice": b'{"keys": [], "keys": []}',
    "too large": b'{"keys": ["' + b"a" * documents.MAX_BYTES + b'"]}',
    "too many": json.dumps({"keys": [{}] * 101}).encode(),
    "too deep": b'{"keys": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "no UTF-8": b'{"keys": ["\xff"]}',
    "NaN": b'{"keys": [NaN]}',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_an_answer_that_is_no_key_set_is_no_answer(keys, site, clock, body):
    await keys.find(ED_ID, "EdDSA")
    site.documents["/jwks"] = body
    clock.seconds += jwks.MAX_AGE_S
    assert await keys.find(ED_ID, "EdDSA") == ED  # the earlier one still counts
    assert len(site.asked) == 2
    clock.seconds += jwks.STALE_S
    with pytest.raises(SourceUnavailableError) as refused:
        await keys.find(ED_ID, "EdDSA")
    assert "aaaa" not in str(refused.value)


async def test_an_endless_answer_ends(keys, site):
    gone = asyncio.Event()

    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65536)
        except (ConnectionError, asyncio.CancelledError):
            gone.set()
            raise

    site.answer = endless
    with pytest.raises(SourceUnavailableError, match="more than"):
        await keys.find(ED_ID, "EdDSA")
    async with timeout(10):
        await gone.wait()


async def test_a_small_answer_that_unpacks_to_a_large_one_is_not_unpacked(keys, site):
    async def packed(request):
        body = gzip.compress(b" " * 50_000_000)
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    site.answer = packed
    with pytest.raises(SourceUnavailableError, match="compressed"):
        await keys.find(ED_ID, "EdDSA")


async def test_a_redirect_is_not_followed(keys, site):
    site.documents["/elsewhere"] = jwks.to_key_set(OTHER)

    async def redirect(request):
        raise web.HTTPFound("/elsewhere")

    site.answer = redirect
    with pytest.raises(SourceUnavailableError, match="status 302"):
        await keys.find(ED_ID, "EdDSA")
    assert site.asked == ["/jwks"]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        b"garbage with a secret in it\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
    ],
    ids=["says nothing", "hangs up", "garbage", "half an answer"],
)
async def test_a_server_that_is_none(answer, clock):
    reader = DocumentReader(timeout_s=0.3)
    try:
        async with raw_server(answer) as url:
            keys = jwks.RemoteKeys(url, reader, algorithms=["EdDSA"], clock=clock)
            with pytest.raises(SourceUnavailableError) as refused:
                await keys.find("a", "EdDSA")
            assert "secret" not in str(refused.value)
        with pytest.raises(SourceUnavailableError):  # by now nobody listens at all
            await jwks.RemoteKeys(url, reader, algorithms=["EdDSA"]).find("a", "EdDSA")
    finally:
        await reader.close()


async def test_plain_text_on_a_tls_port_and_a_wrong_address(reader, site):
    url = site.url.replace("http:", "https:")
    with pytest.raises(SourceUnavailableError):
        await reader.read(url, "key set")


async def test_only_a_certificate_of_an_authority_we_trust_will_do(tmp_path, reader):
    tls, authority = make_certificate(tmp_path)
    private = DocumentReader(ca_file=str(authority))
    async with serving(tls) as site:
        site.documents["/jwks"] = jwks.to_key_set(ED)
        assert await private.read(f"{site.url}/jwks", "key set") == jwks.to_key_set(ED)
        with pytest.raises(SourceMisconfiguredError, match="cannot be verified"):
            await reader.read(f"{site.url}/jwks", "key set")
        assert site.asked == ["/jwks"]
    await private.close()


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_file_of_authorities_that_is_none(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceMisconfiguredError, match="ca_file"):
        DocumentReader(ca_file=str(path))


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example.org/jwks",
        "http://127.0.0.1.example.org/jwks",
        "http://localhost.example.org/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "https://",
        "https://user:secret@idp.example.org/",
        "https://idp.example.org/#a",
        "https://idp.example.org:99999999/",
        "https://idp.example.org\\@evil.example.org/",
        "https://idp.example.org/\n",
        "//idp.example.org",
        "",
        None,
        7,
        ["https://idp.example.org"],
    ],
    ids=str,
)
def test_addresses_that_may_not_say_who_gets_in(url):
    with pytest.raises(SourceMisconfiguredError, match="jwks_uri") as refused:
        check_address(url, "jwks_uri")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["https://idp.example.org/a?b=c", "http://127.0.0.1:1/", "http://[::1]/", "http://localhost"],
)
def test_addresses_that_may(url):
    assert check_address(url, "jwks_uri") == url


def test_plain_http_is_possible_on_purpose_and_loud(caplog):
    assert DocumentReader(plain_http=True).plain_http
    assert "not verified" in caplog.text
    assert check_address("http://idp.example.org", "issuer", plain_http=True)


# A set in a file


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(jwks.to_key_set(ED)))
    path.chmod(0o644)
    return path


async def test_a_file_is_read_again_when_it_is_replaced(key_file):
    keys = jwks.KeyFile(key_file, algorithms=["EdDSA", "ES256"])
    assert await keys.find(ED_ID, "EdDSA") == ED
    other = key_file.with_name("new")
    other.write_text(json.dumps(jwks.to_key_set(OTHER)))
    other.chmod(0o644)
    os.replace(other, key_file)
    assert await keys.find(jwks.thumbprint(OTHER), "EdDSA") == OTHER
    with pytest.raises(TokenRefusedError, match="could not be verified") as refused:
        await keys.find(ED_ID, "EdDSA")
    assert "keys.json (1 usable)" in refused.value.reason


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
async def test_a_file_that_others_can_change_is_refused(key_file, mode):
    key_file.chmod(mode)
    keys = jwks.KeyFile(key_file, algorithms=["EdDSA"])
    with pytest.raises(SourceMisconfiguredError, match="chmod go-w"):
        await keys.find(ED_ID, "EdDSA")
    key_file.chmod(0o644)
    assert await keys.find(ED_ID, "EdDSA") == ED
    key_file.chmod(mode)
    with pytest.raises(SourceMisconfiguredError, match="chmod go-w"):
        await keys.find(ED_ID, "EdDSA")


async def test_a_file_that_is_none(key_file):
    keys = jwks.KeyFile(key_file, algorithms=["EdDSA"])
    key_file.write_bytes(b"secret")
    with pytest.raises(SourceMisconfiguredError, match="no key set: it is not JSON"):
        await keys.find(ED_ID, "EdDSA")
    key_file.write_bytes(b" " * (documents.MAX_BYTES + 1))
    with pytest.raises(SourceMisconfiguredError, match="more than"):
        await keys.find(ED_ID, "EdDSA")
    key_file.unlink()
    with pytest.raises(SourceMisconfiguredError, match="No such file"):
        await keys.find(ED_ID, "EdDSA")


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_strict_json_is_an_object_or_a_value_error_that_repeats_nothing(data):
    try:
        found = parse_object(data)
    except ValueError as refused:
        error: ValueError | None = refused
    else:
        error = None
        assert found == json.loads(data)
    if error is not None:
        assert str(error).startswith("it ")
        assert error.__cause__ is None


def pem_of(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


async def test_a_file_of_public_keys_in_pem(tmp_path):
    path = tmp_path / "keys.pem"
    path.write_bytes(b"# both\n" + pem_of(ED_KEY) + pem_of(EC_KEY))
    path.chmod(0o644)
    keys = jwks.KeyFile(path, algorithms=["EdDSA", "ES256"])
    for key, algorithm in ((ED_KEY, "EdDSA"), (EC_KEY, "ES256")):
        found = await keys.find(jwks.thumbprint(key.public_key()), algorithm)
        assert found == key.public_key()
    assert len((await keys.load()).keys) == 2


@pytest.mark.parametrize("what", ["private", "cut off", "garbage"])
async def test_pem_that_is_no_public_key_is_refused(tmp_path, what):
    private = ED_KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    good = pem_of(ED_KEY)
    data = {
        "private": good + private,
        "cut off": good[:60],
        "garbage": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    }[what]
    path = tmp_path / "keys.pem"
    path.write_bytes(data)
    path.chmod(0o644)
    with pytest.raises(SourceMisconfiguredError) as refused:
        await jwks.KeyFile(path, algorithms=["EdDSA"]).load()
    assert private.decode().split("\n")[1] not in str(refused.value)
