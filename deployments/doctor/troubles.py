"""The recipe's troubleshooting table, each row with what shows it: error codes, or a link and its state. Pure.

docs/troubleshooting.md holds the same rows; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trouble:
    """One row.

    Args:
        symptom: what people see, as the recipe calls it.
        shown: how it looks with greylag, for the page.
        why, remedy: its cause, and what to do.
        causes: error codes, house rules and the doctor's own words that are this row.
    """

    symptom: str
    shown: str
    why: str
    remedy: str
    causes: frozenset[str]


TROUBLES = (
    Trouble(
        "Migration Job not created",
        "no migration Job",
        "`migration.enabled` is false, or nothing has been synced since the last change",
        "`migration.enabled: true` in the service's values file; `greylag chart values @environment/service` prints what belongs there",
        frozenset({"migration-disabled", "migration-job-missing"}),
    ),
    Trouble(
        "ExternalSecret not found",
        "no ExternalSecret, or one that is not Ready",
        "External Secrets can't read the Vault path, or the Job ran before it",
        "compare the path with `greylag targets`; the chart's waves put it before the Job ([installing](installing-under-argocd.md))",
        frozenset(
            {
                "external-secret-missing",
                "external-secret-failed",
                "external-secret-other",
                "secret-missing",
                "secret-deleted",
                "secret-destroyed",
                "secret-stale",
            }
        ),
    ),
    Trouble(
        "`invalid port` error",
        "`invalid port` (goose)",
        "a password with `% / : @ # ?` pasted into a URL",
        "nothing: greylag's flows percent-encode every part. At a prompt encode it yourself, or use `@environment/service`",
        frozenset({"bad-url", "bad-port"}),
    ),
    Trouble(
        "`connection refused`",
        "`connection refused` → `[unavailable]`",
        "wrong host or port, server down",
        "the message names host and port; the flow tries again 3 times",
        frozenset({"unavailable", "host-unknown", "port-closed"}),
    ),
    Trouble(
        "Job OutOfSync in ArgoCD",
        "Job OutOfSync in Argo CD",
        "`ttlSecondsAfterFinished` deleted a plain Job",
        "make it a Sync hook: [recipe.md](recipe.md)",
        frozenset({"application-job-gone"}),
    ),
    Trouble(
        "`unknown database` (ClickHouse)",
        "`unknown database` → `[unknown-database]`",
        "the database does not exist",
        "create it: greylag never creates databases",
        frozenset({"unknown-database", "wrong-database"}),
    ),
    Trouble(
        "PL/pgSQL parse error",
        "PL/pgSQL parse error → `[cut-statement]`",
        "a body with `;` outside StatementBegin/End",
        "wrap it; `greylag validate` shows file and line",
        frozenset({"cut-statement", "unclosed", "bare-body", "lossy-hazard"}),
    ),
    Trouble(
        "Hardcoded database name",
        "hard-coded database name",
        "the file names another environment's database",
        "`-- +goose ENVSUB ON` and `${CLICKHOUSE_DATABASE}`",
        frozenset({"hard-coded-database"}),
    ),
)
"""The eight rows, in the recipe's order."""


def of(cause: str) -> Trouble | None:
    """Returns the row that a cause belongs to."""
    return next((row for row in TROUBLES if cause in row.causes), None)


def page_rows() -> str:
    """Returns the rows as docs/troubleshooting.md holds them."""
    return "\n".join(f"| {row.shown} | {row.why} | {row.remedy} |" for row in TROUBLES)
