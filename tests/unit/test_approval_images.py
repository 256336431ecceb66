"""An image is pinned by its digest, from allowed repositories only; a small registry answers over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from migrator import errors
from tasks.approval import images

DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture
def registry() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            host = self.headers["Host"]
            if self.path.startswith("/v2/private/") and self.headers.get("Authorization") != "Bearer good":
                self.send_response(401)
                self.send_header("WWW-Authenticate", f'Bearer realm="http://{host}/token",service="reg",scope="x"')
            elif self.path.endswith("/manifests/1.4.2"):
                self.send_response(200)
                self.send_header("Docker-Content-Digest", DIGEST)
            elif self.path.endswith("/manifests/odd"):
                self.send_response(200)
            else:
                self.send_response(404)
            self.end_headers()

        def do_GET(self) -> None:
            good = self.headers.get("Authorization") == "Basic dTpw"
            body = json.dumps({"token": "good" if good else "bad"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def refused(code: str, image: str, *repositories: str, credentials: Path | None = None) -> None:
    with pytest.raises(errors.GreylagError) as caught:
        images.pinned(image, repositories, "prod/auth", credentials)
    assert caught.value.code == code, caught.value.describe()


def test_a_tag_becomes_the_digest_that_its_registry_tells(registry: str) -> None:
    assert images.pinned(f"{registry}/shop/auth:1.4.2", [f"{registry}/shop/auth"], "prod/auth") == f"{registry}/shop/auth@{DIGEST}"


def test_a_digest_is_taken_as_it_is_without_asking() -> None:
    other = f"registry.invalid/shop/auth@{DIGEST}"
    assert images.pinned(other, ["registry.invalid/shop/auth"], "prod/auth") == other
    assert images.pinned(f"registry.invalid/shop/auth:1@{DIGEST}", ["registry.invalid/shop/auth"], "prod/auth") == other


@pytest.mark.parametrize(
    "image", ["evil.example/x:1", "registry.example/shop/auth-2:1", "shop/auth:1", ":1", DIGEST, "registry.example:5000/shop/auth:1"]
)
def test_bad_flow_another_repository_is_refused(image: str) -> None:
    refused("image-refused", image, "registry.example/shop/auth")
    refused("image-refused", image)


def test_bad_flow_what_the_registry_does_not_say_is_not_guessed(registry: str) -> None:
    refused("image-unknown", f"{registry}/shop/auth:2", f"{registry}/shop/auth")
    refused("registry-unreachable", f"{registry}/shop/auth:odd", f"{registry}/shop/auth")
    refused("registry-unreachable", "127.0.0.1:1/shop/auth:1", "127.0.0.1:1/shop/auth")


def test_a_private_registry_gets_the_login_of_its_own_line_in_the_file(registry: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(
        json.dumps({"auths": {f"https://{registry}/v2/": {"auth": "dTpw"}, "other.example": {"auth": "eA=="}}}), encoding="utf-8"
    )
    image, repository = f"{registry}/private/auth:1.4.2", f"{registry}/private/auth"
    assert images.pinned(image, [repository], "prod/auth", file).endswith(DIGEST)
    refused("registry-login", image, repository)
    file.write_text("no json", encoding="utf-8")
    refused("bad-policy", image, repository, credentials=file)
