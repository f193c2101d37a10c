"""A provider of identities with faults made to order: a real web server in threads of this process.

By itself it does what the standard says: codes and refresh tokens once, PKCE, ID tokens that are
signed. `answers` takes over a path; `claims` and `sign` change what an ID token says.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt

from jupyterhub_collab.identity import jwks
from tests.identity.publishing import ED_KEY

CLIENT, SECRET = "the-hub", "client-secret-" + "x" * 20


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    form: dict[str, str]
    headers: dict[str, str]


@dataclass
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class StubProvider:
    def __init__(self) -> None:
        self.person: dict[str, Any] = {"sub": "1", "preferred_username": "ada", "groups": []}
        self.claims: dict[str, Any] = {}  # over those of the ID token; None takes one away
        self.userinfo: dict[str, Any] = {}  # over those of userinfo
        self.metadata: dict[str, Any] = {}
        self.token_answer: dict[str, Any] = {}
        self.back: dict[str, Any] = {}  # over what goes back with the browser
        self.key: Any = ED_KEY
        self.algorithm = "EdDSA"
        self.published: tuple[Any, ...] = (ED_KEY.public_key(),)
        self.sign: Callable[[dict[str, Any]], str] | None = None
        self.answers: dict[str, Callable[[Request], Answer]] = {}
        self.hanging: set[str] = set()  # paths that accept and never answer
        self.gives_refresh_tokens = True
        self.takes_codes_twice = False
        self.asked: list[Request] = []
        self.codes: dict[str, dict[str, str]] = {}
        self.refresh_tokens: dict[str, str] = {}  # to the subject
        self.spent: set[str] = set()
        self.reused: list[str] = []
        self.access_tokens: dict[str, str] = {}
        self.secrets: list[str] = []  # all that must never be seen
        self.people: dict[str, dict[str, Any]] = {}
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def asked_at(self, path: str) -> list[Request]:
        return [request for request in self.asked if request.path == path]

    # -- what it does ---------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        self.asked.append(request)
        if request.path in self.hanging:
            self._over.wait(60)
        if request.path in self.answers:
            return self.answers[request.path](request)
        does: dict[str, Callable[[Request], Answer]] = {
            "/.well-known/openid-configuration": self.discovery,
            "/jwks": lambda _: Answer(body=jwks.to_key_set(*self.published)),
            "/auth": self.authorize,
            "/token": self.token,
            "/me": self.me,
        }
        return does.get(request.path, lambda _: Answer(404))(request)

    def discovery(self, _: Request) -> Answer:
        said = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/auth",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "userinfo_endpoint": f"{self.url}/me",
            "end_session_endpoint": f"{self.url}/end",
            "id_token_signing_alg_values_supported": ["EdDSA", "RS256", "HS256", "none"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "backchannel_logout_supported": True,
            **self.metadata,
        }
        return Answer(body={key: value for key, value in said.items() if value is not None})

    def authorize(self, request: Request) -> Answer:
        code = self._secret()
        self.codes[code] = request.query
        back = {"code": code, "state": request.query["state"], **self.back}
        query = urlencode({key: value for key, value in back.items() if value is not None})
        return Answer(302, headers={"Location": f"{request.query['redirect_uri']}?{query}"})

    def token(self, request: Request) -> Answer:
        pair = base64.b64decode(request.headers.get("authorization", "")[6:]).decode()
        if pair != f"{CLIENT}:{SECRET}":
            return Answer(401, {"error": "invalid_client"})
        if request.form["grant_type"] == "refresh_token":
            return self.refresh(request.form["refresh_token"])
        asked = self.codes.get(request.form["code"])
        if asked is None:
            return Answer(400, {"error": "invalid_grant"})
        if not self.takes_codes_twice:
            del self.codes[request.form["code"]]
        digest = hashlib.sha256(request.form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        assert asked["code_challenge_method"] == "S256"
        if challenge != asked["code_challenge"]:
            return Answer(400, {"error": "invalid_grant"})
        if request.form["redirect_uri"] != asked["redirect_uri"]:
            return Answer(400, {"error": "invalid_grant"})
        self.people[self.person["sub"]] = self.person
        return self.tokens(self.person, nonce=asked["nonce"])

    def refresh(self, token: str) -> Answer:
        if token in self.spent:
            self.reused.append(token)
            self.refresh_tokens.clear()  # the whole family, as providers do
        if token not in self.refresh_tokens:
            return Answer(400, {"error": "invalid_grant"})
        subject = self.refresh_tokens.pop(token)
        self.spent.add(token)
        return self.tokens(self.people[subject])

    def tokens(self, person: dict[str, Any], **claims: Any) -> Answer:
        access = self._secret()
        self.access_tokens[access] = person["sub"]
        told = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": 3600,
            "id_token": self.id_token(person, access, **claims),
        }
        if self.gives_refresh_tokens:
            told["refresh_token"] = self._secret()
            self.refresh_tokens[told["refresh_token"]] = person["sub"]
        said = {**told, **self.token_answer}
        return Answer(body={key: value for key, value in said.items() if value is not None})

    def id_token(self, person: dict[str, Any], access: str, **more: Any) -> str:
        now = int(time.time())
        digest = hashlib.sha512(access.encode()).digest()
        said = {
            "iss": self.url,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "at_hash": base64.urlsafe_b64encode(digest[:32]).rstrip(b"=").decode(),
            **person,
            **more,
            **self.claims,
        }
        payload = {key: value for key, value in said.items() if value is not None}
        if self.sign is not None:
            token = self.sign(payload)
        else:
            key_id = jwks.thumbprint(self.key.public_key())
            token = jwt.encode(payload, self.key, algorithm=self.algorithm, headers={"kid": key_id})
        self.secrets.append(token)
        return token

    def me(self, request: Request) -> Answer:
        subject = self.access_tokens.get(request.headers.get("authorization", "")[7:])
        if subject is None:
            return Answer(401, {"error": "invalid_token"})
        return Answer(body={**self.people[subject], **self.userinfo})

    def logout_token(self, **more: Any) -> str:
        now = int(time.time())
        said = {
            "iss": self.url,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 120,
            "jti": secrets.token_hex(8),
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
            **more,
        }
        key_id = jwks.thumbprint(self.key.public_key())
        headers = {"kid": key_id, "typ": "logout+jwt"}
        payload = {key: value for key, value in said.items() if value is not None}
        return jwt.encode(payload, self.key, algorithm=self.algorithm, headers=headers)

    def _secret(self) -> str:
        found = secrets.token_urlsafe(32)
        self.secrets.append(found)
        return found

    # -- how it is asked ------------------------------------------------------------------------

    def _handler(provider) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._do()

            def do_POST(self) -> None:
                self._do()

            def _do(self) -> None:
                parts = urlsplit(self.path)
                data = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                request = Request(
                    self.command,
                    parts.path,
                    {k: v[0] for k, v in parse_qs(parts.query).items()},
                    {k: v[0] for k, v in parse_qs(data).items()},
                    {k.lower(): v for k, v in self.headers.items()},
                )
                answer = provider.answer(request)
                body = answer.body
                if not isinstance(body, bytes):
                    body = b"" if body is None else json.dumps(body).encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                with suppress(OSError):  # whoever asked did not wait
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        return Handler
