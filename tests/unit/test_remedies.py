"""What to do about a failure of the sequence: the hint knows the other environments, and paths begin at the fleet's root (pure)."""

from __future__ import annotations

from flows import endings, remedies
from migrator import errors
from tasks import fleet

FOUND = fleet.load()
RELEASE, DEV = (FOUND.target("auth-service", name) for name in ("release", "dev"))


def rejected(hint: str) -> errors.GreylagError:
    where = errors.Location(f"{RELEASE.directory}/1_a.sql", 2)
    return errors.StatementRejected("no such column", where=where, hint=hint, detail=f"in {RELEASE.directory}/1_a.sql")


def test_a_file_that_release_rejects_is_not_simply_corrected_because_dev_holds_it() -> None:
    told = remedies.adapted(rejected("nothing of this file was recorded: correct 1_a.sql and run the same command again"), RELEASE, ["dev"])
    assert told.hint.startswith("nothing of this file was recorded: dev may hold this file already")
    for part in ("`greylag down @dev/auth-service`", "mend release's data and press Retry", "promote again"):
        assert part in told.hint
    assert "run the same command again" not in told.hint


def test_the_engines_own_remedy_stays() -> None:
    assert remedies.adapted(rejected("drop the index"), RELEASE, ["dev"]).hint.startswith("drop the index; dev may hold")
    assert remedies.adapted(rejected("correct 1_a.sql and run the same command again"), DEV, []).hint.startswith("correct 1_a.sql")


def test_a_changed_file_of_dev_can_be_taken_back_and_of_prod_it_can_not() -> None:
    changed = errors.PlanRefused("1_a.sql changed", code="checksum-changed", hint="restore the file")
    assert "`greylag down @dev/auth-service`" in remedies.adapted(changed, DEV, []).hint
    prod = FOUND.target("auth-service", "prod")
    assert remedies.adapted(changed, prod, ["dev", "release"]).hint == "restore the file"


def test_paths_begin_at_the_fleets_root_and_the_original_is_left_as_it_was() -> None:
    error = rejected("")
    told = remedies.adapted(error, RELEASE, [])
    assert str(told.where) == f"{RELEASE.directory.removeprefix(RELEASE.root + '/')}/1_a.sql:2"
    assert RELEASE.root not in told.describe() and RELEASE.root in error.describe()
    assert (told.code, told.exit_code) == (error.code, error.exit_code)


def test_the_reason_of_a_failed_run_is_its_own_cause() -> None:
    assert endings.reason(endings.RunFailed("deploy ended failed", detail="a.sql:2: no such column\nmore")) == "a.sql:2: no such column"
    assert endings.reason(errors.PlanRefused("nobody approved", code="approval-missing", detail="x")) == "nobody approved"
