"""Ways into prod without its people: forged and replayed runs and artifacts, a real approval for something else, a merge, the application's own role,
dev's credentials, a false page, what is deleted. Two persons of prod's policy have to sign, neither of whom promoted.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tasks.approval import documents, ssh
from tasks.approval.documents import Contents, ContentsPart, ContentsStep, Envelope, Signature
from tests.attacks import siege
from tests.attacks.siege import APPLICATION, NEXT, PROD, SERVICE, Siege
from tests.flows import prefect_api

pytestmark = [pytest.mark.attack, pytest.mark.slow]

EVIL = "CREATE TABLE evil (id bigint);"
MIGRATION = f"-- +goose Up\n{EVIL}\n-- +goose Down\nDROP TABLE evil;\n"


@pytest.fixture(scope="module")
def waiting(demo: Siege) -> Any:
    """The plan that waits: signed by prod's worker, by nobody else."""
    return demo.planned()


@pytest.fixture(scope="module")
def approved(demo: Siege, waiting: Any) -> str:
    """A real approval of it, which nobody has used yet; the run's id."""
    return demo.genuine(waiting)


@pytest.fixture(scope="module")
def own_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key that the attacker has made."""
    path = tmp_path_factory.mktemp("attacker") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def forms(waiting: Any, **changes: Any) -> dict[str, Any]:
    manifest = waiting.approval.manifest
    given = {"environment": PROD, "bundle": manifest.bundle, "plan": manifest.plan, "confirm": f"deploy-{PROD}"}
    return {**given, "approver": "Ada", "reason": "CHG-1", **changes}


def rows_of(waiting: Any) -> list[dict[str, str]]:
    return [{"service": item.service, "bundle": item.bundle, "plan": item.plan} for item in waiting.approval.services]


# --- nobody approved ---------------------------------------------------------------------------------------------------------------------


def test_bad_flow_prod_is_entered_without_an_approval(demo: Siege) -> None:
    demo.refused(demo.deploy(), "approval-missing")


def test_bad_flow_one_service_is_entered_without_an_approval(demo: Siege) -> None:
    run = demo.start("deploy-service/deploy-service-prod", service=SERVICE, environment=PROD)
    demo.refused(run, "approval-missing")


def test_bad_flow_an_approval_that_never_ran_is_posted_as_completed_with_its_artifact(demo: Siege, waiting: Any) -> None:
    run = demo.posted("approve-release", forms(waiting))
    demo.publish(f"approval-{PROD}", rows_of(waiting), run)
    demo.refused(demo.deploy(run), "approval-unsigned")


def test_bad_flow_an_approval_is_given_over_the_api_without_a_signature(demo: Siege, waiting: Any) -> None:
    run = demo.start("approve-release/approve", **forms(waiting))
    assert demo.ended(run)["state_type"] == "COMPLETED"
    demo.refused(demo.deploy(run), "approval-unsigned")


def test_bad_flow_a_failed_approval_is_set_to_completed(demo: Siege, waiting: Any) -> None:
    run = demo.start("approve-release/approve", **forms(waiting, plan="0" * 64))
    assert demo.ended(run)["state_type"] == "FAILED"
    demo.api("POST", f"/flow_runs/{run}/set_state", {"force": True, "state": {"type": "COMPLETED"}})
    demo.refused(demo.deploy(run), "approval-unsigned")


def test_bad_flow_the_attacker_signs_with_a_key_of_their_own(demo: Siege, waiting: Any, own_key: Path) -> None:
    signature = ssh.sign(waiting.approval.signed, own_key, ssh.APPROVAL)
    line = Envelope(document=waiting.approval.canonical, worker=waiting.signature, signature=signature).packed()
    demo.refused(demo.deploy(demo.approve(waiting, line, "eve")), "approval-signature")


def test_bad_flow_one_person_of_two_signs_and_the_attacker_adds_a_signature(demo: Siege, waiting: Any, own_key: Path) -> None:
    """ada approves a plan of its own here; eve's key is nobody's, and ada's signature posted once more is still ada's."""
    found = demo.planned()
    line = demo.people.signed(found, "ada")
    run = demo.approve(found, line)
    demo.posted("approve-release", forms(found, signature=line, approver="Grace"))
    signature = ssh.sign(found.approval.signed, own_key, ssh.APPROVAL)
    eve = Envelope(document=found.approval.canonical, worker=found.signature, signature=signature).packed()
    demo.approve(found, eve, "grace")
    demo.refused(demo.deploy(run), "approval-minimum")


def test_bad_flow_who_promoted_approves(demo: Siege) -> None:
    found = demo.planned()
    demo.refused(demo.deploy(demo.approve(found, demo.people.signed(found, "pat"), "pat")), "approval-promoter")


def test_bad_flow_a_key_on_the_revocation_list_signs(demo: Siege) -> None:
    found = demo.planned()
    demo.refused(demo.deploy(demo.approve(found, demo.people.signed(found, "grace-old"), "grace")), "approval-revoked")


def test_bad_flow_an_approval_that_has_ended_is_given_again(demo: Siege, waiting: Any) -> None:
    """Signed by prod's worker and ada, two days ago."""
    old = demo.people.old(waiting)
    demo.refused(demo.deploy(demo.approve(waiting, demo.people.signed(old, "ada"))), "approval-expired")


def test_bad_flow_a_plan_that_prods_worker_never_made_is_signed(demo: Siege, waiting: Any, own_key: Path) -> None:
    """The attacker's own document, under the name of prod's key."""
    made = waiting.approval.model_copy(update={"id": documents.nonce()})
    forged = Signature(key=waiting.signature.key, signature=waiting.signature.signature)
    line = Envelope(document=made.canonical, worker=forged, signature=ssh.sign(made.signed, own_key, ssh.APPROVAL)).packed()
    demo.refused(demo.deploy(demo.approve(waiting, line, "eve")), "signature-invalid")
    unknown = Signature(key="dev-1", signature=waiting.signature.signature)
    line = Envelope(document=made.canonical, worker=unknown, signature=ssh.sign(made.signed, own_key, ssh.APPROVAL)).packed()
    demo.refused(demo.deploy(demo.approve(waiting, line, "eve")), "key-unknown")


def test_bad_flow_a_signed_promotion_is_replayed_for_other_files(demo: Siege) -> None:
    """pat has signed a promotion; the attacker merges a file and has it planned as pat's."""
    signed = demo.promotion()
    with demo.merged(f"services/{SERVICE}/migrations/20990301000000_evil.sql", MIGRATION):
        run = demo.start("plan-environment/plan-environment-prod", environment=PROD, promotion=signed)
        demo.refused(run, "bad-document")


# --- a real approval, for something else -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"image": "evil.example/x:1"},
        {"image": "evil.example/x@sha256:" + "1" * 64},
        {"mode": "job"},
        {"mode": "argocd"},
        {"backoff_limit": 9},
        {"active_deadline_seconds": 5.0},
        {"services": [SERVICE]},
        {"bundles": {SERVICE: "0" * 64}},
    ],
    ids=["tag", "digest", "job", "argocd", "backoff", "deadline", "services", "bundle"],
)
def test_bad_flow_a_real_approval_is_used_for_something_else(demo: Siege, approved: str, given: dict[str, Any]) -> None:
    demo.refused(demo.deploy(approved, **given), "approval-other-run")


@pytest.mark.parametrize(
    "given", [{"plan": "0" * 64}, {"bundle": "0" * 64}, {"image": "evil.example/x:1"}], ids=["plan", "bundle", "image"]
)
def test_bad_flow_a_real_approval_is_used_for_one_service_with_something_else(demo: Siege, approved: str, given: dict[str, Any]) -> None:
    run = demo.start("deploy-service/deploy-service-prod", service=SERVICE, environment=PROD, approval=approved, **given)
    demo.refused(run, "approval-other-run", "approval-mismatch")


def test_bad_flow_an_image_from_elsewhere_is_not_even_planned(demo: Siege) -> None:
    run = demo.start("plan-environment/plan-environment-prod", environment=PROD, image="evil.example/x:1", promotion=demo.promotion())
    demo.refused(run, "image-refused")


def test_bad_flow_the_approved_files_are_exchanged(demo: Siege, approved: str) -> None:
    with demo.merged(f"services/{SERVICE}/migrations/{NEXT}", MIGRATION):
        demo.refused(demo.deploy(approved), "bundle-changed")


def test_bad_flow_a_file_is_added_to_what_was_approved(demo: Siege, approved: str) -> None:
    with demo.merged("services/personal-service/migrations/20990301000000_evil.sql", MIGRATION):
        demo.refused(demo.deploy(approved), "bundle-changed")


# --- merges that weaken -----------------------------------------------------------------------------------------------------------------------


def weakened(demo: Siege, what: str) -> str:
    return {
        "protection": demo.fleet.replace("protected: true", "protected: false"),
        "approvers": demo.fleet.replace("protected: true", "protected: true\n    approval: {minimum: 1, not_promoter: false}"),
        "an approver": demo.fleet.replace("protected: true", "protected: true\n    approval: {approvers: {eve: [eve]}}"),
        "a command": demo.fleet.replace("protected: true", "protected: true\n    preflight:\n      - run: [touch, MARKER]"),
        "another database": demo.fleet.replace("database: personal_db", "database: auth_db"),
        "a hazard": demo.fleet.replace(
            "    database: auth_db\n",
            f"    database: auth_db\n    accepted_hazards:\n      - {{file: {NEXT}, hazard: cut-statement, reason: because}}\n",
        ),
    }[what]


@pytest.mark.parametrize("what", ["protection", "approvers", "a command", "another database", "a hazard"])
def test_bad_flow_a_merge_that_weakens_fleet_yaml_makes_a_real_approval_void(demo: Siege, approved: str, what: str, tmp_path: Path) -> None:
    text = weakened(demo, what).replace("MARKER", str(tmp_path / "marker"))
    assert text != demo.fleet
    with demo.merged("deployments/fleet.yaml", text):
        demo.refused(demo.deploy(approved), "approval-other-policy")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("what", ["protection", "a command"])
def test_bad_flow_a_merge_that_weakens_fleet_yaml_opens_nothing_without_an_approval(demo: Siege, what: str, tmp_path: Path) -> None:
    with demo.merged("deployments/fleet.yaml", weakened(demo, what).replace("MARKER", str(tmp_path / "marker"))):
        demo.refused(demo.deploy(services=[SERVICE]), "approval-missing")
    assert not (tmp_path / "marker").exists(), "a command of the merge ran in prod's worker"


def test_bad_flow_a_merge_that_weakens_fleet_yaml_and_is_planned_needs_as_many_persons(demo: Siege) -> None:
    with demo.merged("deployments/fleet.yaml", weakened(demo, "approvers")):
        found = demo.planned()
        demo.refused(demo.deploy(demo.approve(found, demo.people.signed(found, "ada"))), "approval-minimum")


def test_bad_flow_a_merge_adds_an_approver(demo: Siege) -> None:
    """Who approves is the policy's matter: fleet.yaml knows no such key, and a file that can't be read starts nothing."""
    with demo.merged("deployments/fleet.yaml", weakened(demo, "an approver")):
        run = demo.ended(demo.deploy())
        assert run["state_type"] in ("FAILED", "CRASHED"), run["state"]
        demo.note(run["state"]["message"], str(run["labels"].get("greylag.code", "")))


# --- proof ------------------------------------------------------------------------------------------------------------------------------------


def test_bad_flow_a_file_that_release_never_held_is_proven_by_forged_runs(demo: Siege) -> None:
    """People have really approved it. Everything that could prove it is posted: completed runs, tables, an answer to the nonce."""
    with demo.merged("services/personal-service/migrations/20990201000000_unproven.sql", MIGRATION):
        found = demo.planned()
        run = demo.genuine(found)
        bundles = dict(found.approval.manifest.bundles)
        for flow in ("verify-environment", "deploy-environment"):
            forged = demo.posted(flow, {"environment": "release", "bundles": bundles})
            table = [{"service": name, "outcome": "verified", "bundle": digest} for name, digest in bundles.items()]
            demo.publish("verification-release", table, forged)
            demo.publish("result-release", [{**row, "outcome": "migrated"} for row in table], forged)
        answered: set[str] = set()

        def asked() -> list[dict[str, Any]]:
            wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}, "name": {"like_": "for prod"}}}
            return [item for item in demo.api("POST", "/flow_runs/filter", wanted) if item["id"] not in answered]

        def answer(item: dict[str, Any]) -> None:
            answered.add(item["id"])
            held = [{"service": name, "database": "postgres:1/x", "bundle": digest, "version": 1} for name, digest in bundles.items()]
            proof = documents.proof_of("release", item["parameters"]["nonce"], documents.instant(found.approval.made), held)
            row = {"document": proof.canonical, "key": "release-demo", "signature": found.signature.signature}
            demo.publish("proof-release", [row], item["id"])
            demo.api("POST", f"/flow_runs/{item['id']}/set_state", {"force": True, "state": {"type": "COMPLETED"}})

        deployment = demo.deploy(run)
        siege.until(lambda: demo.api("GET", f"/flow_runs/{deployment}")["state_type"] in prefect_api.FINAL, asked, answer)
        assert answered, "the nonce's question was seen"
        demo.refused(deployment, "signature-invalid", "proof-refused")


def test_bad_flow_a_file_that_release_never_held_is_approved(demo: Siege) -> None:
    with demo.merged("services/personal-service/migrations/20990201000000_unproven.sql", MIGRATION):
        demo.refused(demo.deploy(demo.genuine(demo.planned())), "proof-refused")


# --- replays ----------------------------------------------------------------------------------------------------------------------------------


def used(demo: Siege) -> str:
    """The line by which an approval was signed that prod has used up."""
    first = demo.sql("SELECT approval FROM greylag_approval WHERE state = 'used' LIMIT 1")
    runs = demo.api("POST", "/flow_runs/filter", {"flows": {"name": {"any_": ["approve-release"]}}, "sort": "START_TIME_ASC", "limit": 200})
    for run in runs:
        line = run["parameters"].get("signature") or ""
        if line and documents.Approval.read(Envelope.unpacked(line).document).digest == first:
            return str(run["id"])
    raise AssertionError(f"no run has given the approval {first}")


def test_bad_flow_a_used_approval_is_used_again_for_the_next_release(demo: Siege) -> None:
    demo.refused(demo.deploy(used(demo)), "bundle-changed")


def test_bad_flow_a_used_approval_is_used_again_after_history_rows_have_gone(demo: Siege) -> None:
    """The files are those of the used approval again, its run is posted once more, and the newest row of the history is missing, as its owner could have
    removed it: what is used up stands in prod's database.
    """
    run = demo.posted("approve-release", demo.api("GET", f"/flow_runs/{used(demo)}")["parameters"])
    path = demo.home / f"services/{SERVICE}/migrations/{NEXT}"
    text = path.read_text(encoding="utf-8")
    newest = demo.sql("SELECT max(version_id) FROM goose_db_version")
    path.unlink()
    demo.sql(
        f"CREATE TABLE kept AS SELECT * FROM goose_db_version WHERE version_id = {newest}; DELETE FROM goose_db_version WHERE version_id = {newest}"
    )
    try:
        demo.refused(demo.deploy(run), "approval-used")
    finally:
        demo.sql("INSERT INTO goose_db_version OVERRIDING SYSTEM VALUE SELECT * FROM kept; DROP TABLE kept")
        path.write_text(text, encoding="utf-8")


def test_bad_flow_a_used_approval_is_copied_into_a_new_run(demo: Siege) -> None:
    parameters = demo.api("GET", f"/flow_runs/{used(demo)}")["parameters"]
    run = demo.posted("approve-release", parameters)
    demo.publish(f"approval-{PROD}", [{"service": SERVICE, "bundle": "0" * 64, "plan": "0" * 64}], run)
    demo.refused(demo.deploy(run), "bundle-changed")


# --- what is shown, and what is deleted --------------------------------------------------------------------------------------------------------


def test_bad_flow_a_false_page_shows_other_sql(demo: Siege, waiting: Any) -> None:
    """The page and the document in the UI are the attacker's; who approves by the command sees what prod's worker signed."""
    harmless = "-- +goose Up\nSELECT 'harmless';\n"
    step = ContentsStep.of(20990101000000, NEXT, "up", harmless.encode())
    contents = Contents(environment=PROD, services=(ContentsPart(service=SERVICE, steps=(step,)),))
    run = demo.posted("plan-environment", {"environment": PROD})
    demo.publish(f"plan-{SERVICE}-{PROD}", f"# {PROD}/{SERVICE}\n\n```sql\n{harmless}```", run)
    row = {"document": waiting.approval.canonical, "key": waiting.signature.key, "signature": waiting.signature.signature}
    demo.publish(f"plan-document-{PROD}", [{**row, "contents": contents.canonical}], run)
    forged = replace(waiting, approval=waiting.approval.model_copy(update={"contents": contents.digest}))
    demo.publish(f"plan-document-{PROD}", [{**row, "document": forged.approval.canonical, "contents": contents.canonical}], run)
    policy = demo.people.directory / "prod.yaml"
    done = demo.greylag("approve", PROD, "-policy", str(policy))
    shown = done.stdout + done.stderr
    assert "CREATE TABLE notes" in shown, shown
    assert "harmless" not in shown
    demo.note("`greylag approve` shows the SQL that prod's worker signed, and computes its digest")


def test_bad_flow_a_false_plan_is_approved_in_the_form(demo: Siege) -> None:
    """A table with digests of the attacker's own makes the form accept them; prod asks for the signature."""
    run = demo.posted("plan-environment", {"environment": PROD})
    rows = [{"service": SERVICE, "bundle": "1" * 64, "plan": "2" * 64, "migrations": 1}]
    demo.publish(f"plan-{PROD}", rows, run)
    from tasks import approval

    manifest = approval.ReleaseManifest(bundles={SERVICE: "1" * 64}, plans={SERVICE: "2" * 64})
    given = {"environment": PROD, "bundle": manifest.bundle, "plan": manifest.plan, "confirm": f"deploy-{PROD}"}
    given |= {"approver": "Ada", "reason": "CHG"}
    made = demo.start("approve-release/approve", **given)
    assert demo.ended(made)["state_type"] == "COMPLETED"
    demo.refused(demo.deploy(made), "approval-unsigned")


def test_bad_flow_the_approvals_run_is_deleted(demo: Siege) -> None:
    found = demo.planned()
    runs = [demo.approve(found, demo.people.signed(found, who), who) for who in ("ada", "grace")]
    for run in runs:
        demo.api("DELETE", f"/flow_runs/{run}")
    demo.refused(demo.deploy(runs[0]), "approval-missing")


# --- limits -----------------------------------------------------------------------------------------------------------------------------------


def test_bad_flow_every_concurrency_limit_is_deleted_or_raised(demo: Siege) -> None:
    """Limits are politeness: without them prod still asks for an approval."""
    limits = demo.api("POST", "/v2/concurrency_limits/filter", {})
    before = {item["name"]: item["limit"] for item in limits}
    try:
        for number, name in enumerate(before):
            if number % 2:
                demo.api("PATCH", f"/v2/concurrency_limits/{name}", {"limit": 100})
            else:
                demo.api("DELETE", f"/v2/concurrency_limits/{name}")
        demo.refused(demo.deploy(services=[SERVICE]), "approval-missing")
    finally:
        known = {item["name"] for item in demo.api("POST", "/v2/concurrency_limits/filter", {})}
        for name, limit in before.items():
            if name in known:
                demo.api("PATCH", f"/v2/concurrency_limits/{name}", {"limit": limit})
            else:
                demo.api("POST", "/v2/concurrency_limits/", {"name": name, "limit": limit})


# --- dev's credentials, and the application's ------------------------------------------------------------------------------------------------------


def test_bad_flow_devs_vault_login_asks_for_prods_passwords(demo: Siege) -> None:
    done = demo.greylag("up", f"@{PROD}/{SERVICE}")
    assert done.returncode == 12, done.stdout + done.stderr
    demo.note((done.stderr or done.stdout).strip().splitlines()[0].removeprefix("greylag: "), "vault-forbidden")


def test_bad_flow_devs_database_login_connects_to_prods_database(demo: Siege) -> None:
    target = demo.stack.fleet.target(SERVICE, "dev")
    url = demo.stack.url(target).replace(f"/{target.database}", f"/{demo.stack.fleet.target(SERVICE, PROD).database}")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(url)
    demo.note("PostgreSQL: permission denied for database")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO goose_db_version (version_id, is_applied) VALUES (20990101000000, true)",
        "DELETE FROM goose_db_version WHERE version_id > 0",
        "UPDATE greylag_migration SET checksum = 'x'",
        "UPDATE greylag_approval SET state = 'begun'",
        "DELETE FROM greylag_approval",
        "TRUNCATE greylag_journal",
        "DELETE FROM greylag_fact",
    ],
    ids=lambda text: " ".join(text.split()[:3]).lower(),
)
def test_bad_flow_the_application_forges_the_history(demo: Siege, statement: str) -> None:
    """By the role with which the service reads and writes its own tables."""
    database = demo.stack.fleet.target(SERVICE, PROD).database
    where = {"host": "127.0.0.1", "port": demo.stack.postgres.port, "user": APPLICATION, "password": APPLICATION, "dbname": database}
    with psycopg.connect(**where) as connection:  # type: ignore[arg-type]
        table = demo.sql(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace "
            "AND relname NOT LIKE 'greylag%' AND relname NOT LIKE 'goose%' ORDER BY 1 LIMIT 1"
        )
        connection.execute(f'SELECT * FROM "{table}" LIMIT 1')  # its own tables are its own
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)
    demo.note("PostgreSQL: permission denied for table")


def test_the_real_approval_is_good_all_the_same(demo: Siege, approved: str) -> None:
    """None of what was tried has spent it: the very same approval is accepted to the last question. (It isn't used here: prod has to stay as it is.)"""
    from datetime import UTC, datetime

    from flows import gates
    from tasks import fleet
    from tasks.approval import policy, verifying
    from tasks.settings import Settings

    place = demo.people.directory / "prod.yaml"
    rules = policy.parse(place.read_bytes(), place)
    found = fleet.load(demo.home / "deployments/fleet.yaml")
    first = Envelope.unpacked(gates.approval_run(PROD, approved).signature)
    envelopes = gates._envelopes(PROD, first)
    wanted = verifying.Wanted(PROD, policy.fleet_digest(found))
    accepted = verifying.accepted(envelopes, rules, wanted, Settings(), datetime.now(UTC))
    assert accepted.persons == ("ada", "grace")
