"""An approval says yes to one bundle and one plan, in one environment, for a while; anything else is refused with what is missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from tasks import approval
from tasks.outcomes import PlanOutcome

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
RELEASE = approval.ReleaseManifest(bundles={"auth": "a1", "audit": "b1"}, plans={"auth": "p1", "audit": "p2"})
DAY = timedelta(days=1)


def given_approval(**changes: Any) -> approval.Approval:
    values: dict[str, Any] = {
        "environment": "prod",
        "bundle": RELEASE.bundle,
        "plan": RELEASE.plan,
        "confirm": "deploy-prod",
        "approver": "ada",
        "reason": "CHG-1",
        "given_at": NOW - timedelta(hours=1),
    }
    return approval.Approval(**(values | changes))


def checked(*approvals: approval.Approval, manifest: approval.ReleaseManifest = RELEASE) -> approval.Approval:
    return approval.check(approvals, manifest, "prod", now=NOW, maximum_age=DAY)


def refused(*approvals: approval.Approval) -> errors.PlanRefused:
    with pytest.raises(errors.PlanRefused) as caught:
        checked(*approvals)
    assert f"greylag approve prod --bundle {RELEASE.bundle} --plan {RELEASE.plan}" in caught.value.hint
    return caught.value


def test_an_approval_of_exactly_this_release_passes() -> None:
    assert checked(given_approval()).approver == "ada"


def test_the_newest_of_several_is_taken() -> None:
    older, newer = given_approval(approver="ada"), given_approval(approver="grace", given_at=NOW - timedelta(minutes=1))
    assert checked(older, newer).approver == "grace"


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"environment": "release"}, "approval-missing", "is for release"),
        ({"bundle": "f" * 64}, "approval-other-bundle", "is for bundle ffffffffffff"),
        ({"plan": "f" * 64}, "approval-other-plan", "its databases moved since"),
        ({"confirm": "yes"}, "approval-unconfirmed", '"deploy-prod"'),
        ({"confirm": "deploy-release"}, "approval-unconfirmed", '"deploy-prod"'),
        ({"given_at": NOW - timedelta(hours=25)}, "approval-expired", "25 hours old, at most 24 hours"),
        ({"given_at": NOW + timedelta(hours=1)}, "approval-expired", "in the future"),
    ],
)
def test_bad_flow_an_approval_of_anything_else(change: dict[str, Any], code: str, words: str) -> None:
    error = refused(given_approval(**change))
    assert error.code == code
    assert words in error.message
    assert not error.transient


def test_bad_flow_nobody_approved() -> None:
    assert refused().code == "approval-missing"


def test_the_nearest_approval_explains_the_refusal() -> None:
    assert refused(given_approval(environment="dev"), given_approval(plan="x"), given_approval(bundle="y")).code == "approval-other-plan"


def test_a_server_clock_that_is_slightly_ahead_does_not_matter() -> None:
    assert checked(given_approval(given_at=NOW + timedelta(seconds=30))).approver == "ada"


def test_a_changed_digest_of_any_service_is_another_release() -> None:
    other = approval.ReleaseManifest(bundles={**RELEASE.bundles, "audit": "b2"}, plans=RELEASE.plans)
    assert other.bundle != RELEASE.bundle and other.plan == RELEASE.plan


@given(st.dictionaries(st.text(max_size=8), st.text("0123456789abcdef", min_size=64, max_size=64), max_size=6))
def test_digests_do_not_depend_on_the_order_of_services(bundles: dict[str, str]) -> None:
    turned = dict(reversed(list(bundles.items())))
    assert approval.ReleaseManifest(bundles=bundles).bundle == approval.ReleaseManifest(bundles=turned).bundle


def test_a_manifest_is_made_of_an_environments_plans() -> None:
    plans = [PlanOutcome(service=name, environment="prod", bundle=f"{name}1", plan=f"{name}2", current=0) for name in ("auth", "audit")]
    found = approval.manifest(plans)
    assert (dict(found.bundles), dict(found.plans)) == ({"auth": "auth1", "audit": "audit1"}, {"auth": "auth2", "audit": "audit2"})


def run(parameters: dict[str, Any] | None, **more: Any) -> Any:
    values = {"id": "r1", "parameters": parameters, "created_by": SimpleNamespace(display_value="ci", type="USER"), "end_time": NOW}
    return SimpleNamespace(**(values | {"start_time": NOW} | more))


def test_a_flow_run_is_read_as_an_approval() -> None:
    parameters = {"environment": "prod", "bundle": "a", "plan": "b", "confirm": "deploy-prod", "approver": "ada"}
    found = approval.from_run(run(parameters))
    assert found is not None
    assert (found.run_id, found.created_by, found.reason, found.given_at) == ("r1", "ci", "", NOW)
    assert approval.from_run(run(parameters, created_by=None)) is not None


@pytest.mark.parametrize(
    "parameters", [None, {}, {"environment": "prod"}, {"environment": 1, "bundle": [], "plan": "", "confirm": 1, "approver": ""}]
)
def test_a_run_that_is_no_approval_is_left_out(parameters: dict[str, Any] | None) -> None:
    assert approval.from_run(run(parameters)) is None
