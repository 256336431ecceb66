"""The approval's form as a link, and the page that shows what waits (pure)."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from flows import forms

ASKED = forms.Asked("prod", "b" * 64, "c" * 64)
ROWS = [
    {"service": "auth", "migrations": 2, "from": 1, "to": 3, "warnings": "a|b", "bundle": "d" * 64, "plan": "e" * 64},
    {"service": "audit", "migrations": 0, "from": 1, "to": 1, "warnings": "", "bundle": "f" * 64, "plan": "0" * 64},
]


@pytest.mark.parametrize("ui", ["https://prefect.example", "https://prefect.example/", "https://prefect.example/v2"])
def test_a_link_opens_the_form_with_what_is_to_be_approved_and_leaves_the_confirmation_to_the_person(ui: str) -> None:
    address = urlsplit(forms.filled(ui, "1234", ASKED))
    assert (address.netloc, address.path) == ("prefect.example", "/v2/deployments/deployment/1234/run")
    assert json.loads(parse_qs(address.query)["parameters"][0]) == {"environment": "prod", "bundle": "b" * 64, "plan": "c" * 64}


def test_the_page_names_both_digests_every_service_and_both_ways_to_approve() -> None:
    page = forms.page(ASKED, ROWS, "https://prefect.example/form")
    for part in ("(https://prefect.example/form)", ASKED.command, f"| release | `{'b' * 64}` |", f"| release plan | `{'c' * 64}` |"):
        assert part in page
    assert "| auth | 2 | 1 | 3 | a\\|b | `dddddddddddd` | `eeeeeeeeeeee` |" in page
    assert page.endswith("The files' own text: the artifacts `plan-auth-prod`.")


def test_the_page_of_a_server_without_the_form_still_says_how() -> None:
    assert "Start `approve-release/approve` in the UI." in forms.page(ASKED, ROWS, "")
