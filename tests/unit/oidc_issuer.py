"""A small OpenID Connect issuer: its configuration, its public keys and tokens, over HTTP on this machine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm


class Issuer:
    """The issuer at `address`; it signs with `key`, which it publishes as `kid`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.kid = "key-1"
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.asked: list[str] = []

    def keys(self) -> dict[str, Any]:
        public = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**public, "kid": self.kid, "use": "sig", "alg": "RS256"}]}

    def token(self, audience: str, *, algorithm: str = "RS256", key: Any = None, at: float | None = None, **claims: Any) -> str:
        now = int(time.time() if at is None else at)
        given = {
            "iss": self.address,
            "aud": audience,
            "sub": "repo:acme/shop:environment:prod",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "repository": "acme/shop",
            "repository_id": "4711",
            "environment": "prod",
            "job_workflow_ref": "acme/shop/.github/workflows/release.yml@refs/heads/main",
            "actor": "ada",
        }
        return jwt.encode({**given, **claims}, self.key if key is None else key, algorithm=algorithm, headers={"kid": self.kid})


@contextmanager
def running() -> Iterator[Issuer]:
    found: list[Issuer] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer = found[0]
            issuer.asked.append(self.path)
            answers = {
                "/.well-known/openid-configuration": {"issuer": issuer.address, "jwks_uri": f"{issuer.address}/keys"},
                "/keys": issuer.keys(),
            }
            body = json.dumps(answers.get(self.path, {})).encode()
            self.send_response(200 if self.path in answers else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.append(Issuer(f"http://127.0.0.1:{server.server_port}"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found[0]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
