"""Which token may be sent to Vault at all: the audience of a signed token, read before anything leaves the machine."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from tasks.credentials import service_tokens


def token(claims: Any) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"alg": "ES256"}, claims))
    return ".".join([*parts, "c2lnbmF0dXJl"])


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        ({"aud": "vault"}, ("vault",)),
        ({"aud": ["vault", "https://kubernetes.default.svc"]}, ("vault", "https://kubernetes.default.svc")),
        ({"sub": "x"}, ()),
        ([], ()),
    ],
)
def test_the_audience_is_one_or_several(claims: Any, found: tuple[str, ...]) -> None:
    assert service_tokens.audiences(token(claims)) == found


@given(st.text())
def test_a_text_that_is_no_token_has_no_audience(text: str) -> None:
    assert service_tokens.audiences(text) in (None, ())


@given(st.lists(st.text(min_size=1), min_size=1))
def test_every_audience_of_a_token_is_accepted(names: list[str]) -> None:
    for name in names:
        service_tokens.require_audience(token({"aud": names}), name, "GREYLAG_VAULT_JWT_FILE")


def test_bad_flow_a_token_for_the_api_server_is_not_sent_to_vault() -> None:
    with pytest.raises(errors.UsageError) as caught:
        service_tokens.require_audience(token({"aud": ["https://kubernetes.default.svc"]}), "vault", "GREYLAG_VAULT_KUBERNETES_TOKEN_FILE")
    assert caught.value.code == "vault-audience"
    assert 'is for https://kubernetes.default.svc, not for "vault"; it was not sent' in caught.value.message
    assert "audience: vault" in caught.value.hint


def test_bad_flow_a_file_without_a_signed_token() -> None:
    with pytest.raises(errors.UsageError) as caught:
        service_tokens.require_audience("hvs.CAESIJ", "vault", "GREYLAG_VAULT_JWT_FILE")
    assert caught.value.code == "vault-token" and "hvs" not in caught.value.describe()


def test_without_a_wanted_audience_vault_alone_looks() -> None:
    service_tokens.require_audience("anything", "", "GREYLAG_VAULT_JWT_FILE")
