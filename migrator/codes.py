"""The one table of error codes: each has one exit code and one meaning, because a code is a public promise of the product.

The codes of all packages are here, including those of the flows and of the Kubernetes Jobs, so that a program that reads a code knows its exit code
without knowing where it was raised. docs/errors.md tells what to do about each; a test compares it with this table.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class ExitCode(enum.IntEnum):
    """Exit codes of the command. 10 to 19 are permanent (a retry can't help), 20 and above are transient."""

    DONE = 0
    AS_GOOSE = 1  # where goose itself ends with 1: `up-by-one` with nothing left, `down` at version 0
    USAGE = 2
    PENDING = 3
    FILE = 10
    REFUSED = 11
    LOGIN = 12
    NOT_FOUND = 13
    REJECTED = 14
    QUESTION = 15
    VERIFICATION = 16
    LOCK = 20
    UNAVAILABLE = 21
    TIMEOUT = 22
    INTERRUPTED = 23
    NOT_YET = 24


PERMANENT = tuple(code for code in ExitCode if code == ExitCode.USAGE or 10 <= code <= 19)
"""Exit codes on which a Job stops at once (`podFailurePolicy`, action FailJob) and a flow does not retry."""

TRANSIENT = tuple(code for code in ExitCode if code >= 20)
"""Exit codes worth another attempt."""


class Code(NamedTuple):
    """The exit code and the meaning of a code."""

    exit_code: ExitCode
    meaning: str


_MEANINGS: dict[ExitCode, dict[str, str]] = {
    ExitCode.AS_GOOSE: {
        "as-goose": "goose ends with 1 here, and so does greylag",
        "error": "something else is wrong; the message says what",
        "internal": "a fault of greylag itself",
        "file-missing": "a version is to be rolled back whose Down text neither this directory nor the database holds",
        "no-current-version": "nothing is applied that could be rolled back, or the directory has no file for it",
        "no-row": "the version table has no applied row, not even version 0",
        "no-table": "nothing was ever applied: there is no version table",
        "nothing-left": "`up-by-one` found no pending migration",
        # flows and Jobs
        "job-failed": "a migration Job failed and left no words of greylag's",
        "argocd-failed": "a sync of Argo CD failed, and not in a migration",
        "argocd-terminated": "somebody terminated the sync that the run waited for",
        "run-failed": "a flow run failed and left no cause",
    },
    ExitCode.USAGE: {
        "usage": "the command line, a parameter or a setting can't be understood",
        "bad-address": "the database's address can't be understood, or holds a parameter that the server refuses",
        "bad-duration": "a duration is not written as Go writes it",
        "bad-env-file": "a line of the file with variables can't be read",
        "bad-host": "the address names a host that none can have",
        "bad-lease": "`greylag_lease` is out of its bounds",
        "bad-name": "the name of a service, an environment or a database can't be used",
        "bad-port": "the port is not a number from 1 to 65535",
        "bad-profile": "`greylag_profile` names none, or lacks its cluster",
        "bad-secret": "a value of the secret is no text, or not UTF-8",
        "bad-table": "what `-table` says is no name of a table",
        "bad-target": "the target's expression can't be understood, or means more than one where one is needed",
        "bad-variable": "an environment variable holds what its flag does not take",
        "empty-host": "the address or the secret names no host",
        "empty-username": "the secret names no user",
        "native-port": "a ClickHouse address names a native port whose HTTP port is unknown",
        "missing-extra": "a command of the checkout needs a package that is not installed",
        "needs-checkout": "the command needs a checkout: this installation holds the engine alone",
        "no-env-file": "the file that `-env` names can't be read",
        "no-fleet": "a target is named and there is no fleet.yaml",
        "not-installed": "the checkout is newer than its installation, which does not know the command yet",
        "no-target": "the target's expression names no service",
        "no-terminal": "`plan -expand` prints to a terminal only",
        "unknown-command": "there is no such command",
        "unknown-driver": "the driver is none of postgres, pgx and clickhouse",
        "unknown-type": "`create` writes SQL files only",
        "unknown-version": "no file has the version that was named",
        "wrong-flag": "the flag means nothing to this command",
        # fleet, credentials, Kubernetes
        "bad-backoff": "a negative backoffLimit or first delay",
        "bad-commit": "what a worker's runs are pinned to is no commit of its checkout",
        "bad-fleet": "fleet.yaml can't be understood",
        "signing-failed": "a signature can't be made: the key or ssh-keygen is not usable here",
        "bad-policy": "the file that GREYLAG_POLICY names, or a key or list that it names, can't be understood, or allows what can't be meant",
        "bad-image": "what was given as image is no reference",
        "bad-setting": "a `GREYLAG_` variable of the flows holds what it can't",
        "credentials-dynamic": "short-lived credentials were asked for where nothing keeps them alive",
        "image-missing": "mode job without an image that can be run",
        "kube-context": "the kubeconfig has no such context, or it can't be used",
        "kube-refused": "the Kubernetes API refused a request as wrong",
        "limit-missing": "the database's concurrency limit does not exist on the Prefect server",
        "no-cluster": "mode job without a cluster",
        "no-argocd": "mode argocd without Argo CD's address in fleet.yaml, or without a token",
        "release-unknown": "neither an image nor the state before the run is known, so no rollout can be told from an older one",
        "unknown-environment": "the fleet has no such environment",
        "unknown-pool": "the fleet gives the work pool to no environment, or to several",
        "unknown-service": "the fleet has no such service",
        "vault-address": "the address is not Vault's: a page of HTML, a redirect, http to an https port",
        "vault-audience": "the token in the file is for somebody else; it was not sent",
        "vault-ca-file": "the file of certificate authorities can't be read",
        "vault-settings": "no way to log in to Vault is configured, or two are, or one lacks its file",
        "vault-token": "the file of a Vault token can't be read, is empty or holds more than the value",
        # flows and console
        "bad-deployments": "prefect.yaml names a flow, an environment or a parameter that does not exist",
        "bad-parameters": "the deployment does not take these parameters",
        "bad-path": "the last environment of the promotion comes before its first",
        "no-after-migrate": "the service has no `after_migrate` command for this environment",
        "no-plan": "no plan of the environment has been published",
        "not-protected": "the environment is not protected, so nothing needs an approval",
        "prefect-address": "no Prefect server is configured",
    },
    ExitCode.FILE: {
        "bad-file": "a directory or a file name breaks goose's rules",
        "parse-error": "the text of a migration can't be split into statements",
        "bad-annotation": "a comment mentions `+goose` and is none of goose's annotations",
        "bad-file-name": "a `.sql` file has no version in its name",
        "bad-note": "a `-- greylag:` note has a value that it can't have",
        "create-failed": "the migration file can't be written",
        "directory-exists": "`init` found the directory, and files in it",
        "duplicate-up": "a file has two Up annotations",
        "duplicate-version": "two files have one version; goose panics there",
        "file-exists": "a file of the new name exists already",
        "fleet-exists": "`init` found a fleet.yaml",
        "line-too-long": "a line is longer than goose reads",
        "lossy-hazard": "`validate` found a file that goose would not apply as written; the finding has a code of its own",
        "misplaced-down": "a Down annotation stands where goose takes none",
        "misplaced-statement-begin": "a StatementBegin annotation stands where goose takes none",
        "misplaced-statement-end": "a StatementEnd annotation stands where goose takes none",
        "missing-directory": "`-dir` names nothing",
        "missing-semicolon": "a statement has no end that goose would see",
        "missing-statement-end": "a StatementBegin annotation is never closed",
        "no-migration-files": "the directory holds nothing that goose would read",
        "no-up-annotation": "a file has no Up annotation",
        "not-created": "a directory or file of `init` can't be written",
        "not-text": "a migration file that a ConfigMap shall hold is not UTF-8",
        "repeated-note": "a file says the same `-- greylag:` note twice",
        "substitution-failed": "a variable under ENVSUB is not set, or its expression can't be read",
        "text-before-up": "something other than a comment stands before the Up annotation",
        "unknown-note": "there is no such `-- greylag:` note",
        "unreadable-directory": "the directory can't be read",
        "unreadable-file": "the file can't be read",
    },
    ExitCode.REFUSED: {
        "plan-refused": "the plan would do what must not be done",
        "bundle-changed": "the files here are not the release's files",
        "checksum-changed": "an applied file is not what was applied",
        "cluster-unnamed": "ClickHouse files are for several servers, and the address names no cluster",
        "file-renamed": "a pending file is one that was applied under another version",
        "go-migration": "a Go migration is pending; greylag runs SQL only",
        "half-applied": "a rollback would take back what a half-applied migration builds on",
        "history-elsewhere": "the version table's place is empty, and another schema has one with applied versions",
        "missing-versions": "older files were never applied",
        "no-session": "a proxy before ClickHouse does not pass on the session or the database of a request",
        "older-app": "the database carries a version that this image is too old for",
        "plan-moved": "somebody else migrated meanwhile: what is left is not part of the plan",
        "protected-environment": "a protected environment is never rolled back",
        "run-refused": "the environment's worker does not start this run: it carries more than a flow's name and parameters",
        "rows-hidden": "row-level security or a row policy hides rows of the version table",
        "transaction-pooler": "the address is a PgBouncer that pools transactions or statements",
        "version-taken": "the version was applied from another file than the one that has its number now",
        # hazards that lose something: goose would not apply the file as written
        "comment-after-semicolon": "goose sees no semicolon before such a comment, and sends two commands as one",
        "cut-statement": "goose ends a statement inside a string, a comment or a body",
        "dropped-after-carriage-return": "goose drops a line as a comment that a carriage return has ended",
        "empty-statement": "goose sends a statement without text, which ClickHouse rejects",
        "glued-block": "goose glues an unfinished statement to the block after it",
        "glued-comment": "goose takes `;--` for one word, and sends two commands as one",
        "hidden-semicolon": "goose takes ` --` for a comment inside a string, and misses the semicolon behind it",
        "in-transaction": "a warning: PostgreSQL refuses a command inside a transaction",
        "enum-value-used": "a warning: a transaction uses an enum's value that it adds itself",
        "psql-command": "a warning: a meta-command of psql, or a COPY's data, is no SQL",
        "not-alone": "a command that needs a statement of its own is sent together with others",
        "house-rule": "a file stands against a house rule that fleet.yaml refuses (`rules`)",
        "own-transaction": "a file ends the transaction in which it is applied",
        "several-commands": "several commands are sent as one statement, which ClickHouse rejects",
        "stray-dollar": "ENVSUB leaves a single `$` where the file has two",
        "swallowed-line": "goose drops the line after an empty block",
        "unclosed": "a string, a comment or a body has no end",
        # preflight and approvals
        "database-halted": "somebody has set the database's concurrency limit to 0, so that no run migrates it",
        "approval-expired": "the approval is older than approvals may be",
        "approval-mismatch": "the approval is for another bundle or plan than this run is",
        "signature-invalid": "a worker's signature is not valid",
        "proof-refused": "the previous environment's worker has not signed that it holds this release",
        "proof-expired": "the previous environment's proof is older than ten minutes at the first statement",
        "key-unknown": "a worker's key is not in the policy",
        "key-revoked": "a worker's key is revoked in the policy",
        "image-refused": "the image is from another repository than is allowed in this environment",
        "bad-document": "what should be a signed document is none, or shows other SQL than was signed",
        "approval-used": "the approval has been used up in this database: its plan was applied",
        "approval-unsigned": "the policy asks for signatures, and there are none",
        "approval-signature": "a signature or token is not one that the policy accepts",
        "approval-revoked": "the key of the signature is on the revocation list",
        "approval-promoter": "the one who promoted approves, or nobody has signed the promotion",
        "approval-other-database": "the database is another one than the approval names",
        "approval-other-run": "the run asks for another image, mode, number of attempts or set of services than was approved",
        "approval-other-policy": "the worker's policy or fleet.yaml has changed since the plan",
        "approval-minimum": "fewer persons have signed than the policy asks for",
        "approval-missing": "nobody has approved this for the protected environment",
        "argocd-ignored": "Argo CD has answered a request with another operation than the one asked for",
        "argocd-refused": "Argo CD refuses the sync: an unknown revision, an application that is being deleted …",
        "approval-other-bundle": "the nearest approval is for another bundle",
        "approval-other-plan": "the nearest approval is for another plan: the databases moved since",
        "approval-superseded": "another release was proposed instead of the one that is approved",
        "approval-unconfirmed": "what was typed does not confirm the approval",
        "approval-unknown-plan": "no published plan has these digests",
        "preflight-failed": "a preflight command found something, or can't be run",
        "promotion-superseded": "a newer proposal took the place of the one that waited",
        "release-unproven": "the environment before has not verified this bundle a short while ago",
    },
    ExitCode.LOGIN: {
        "login-failed": "the server refused the user or the password",
        "permission-denied": "the user lacks a right that the message names",
        "kube-forbidden": "the Kubernetes role lacks a rule, or the cluster's own rules refuse this",
        "argocd-forbidden": "the account of Argo CD may not do this, or not see that application",
        "argocd-login": "Argo CD does not accept the token",
        "kube-unauthenticated": "the cluster does not know the token or certificate",
        "prefect-login": "the Prefect server refused the login",
        "vault-certificate": "Vault's certificate does not verify",
        "vault-forbidden": "this worker's Vault policy does not allow the path",
        "vault-login": "Vault refused the login, and says why",
        "registry-login": "a registry does not let the worker look at an image",
        "vault-refused": "Vault refused the request, and says why",
        "vault-wrapping-foreign": "the wrapping token was not made by an AppRole",
        "vault-wrapping-used": "the wrapping token was used before, or has expired",
    },
    ExitCode.NOT_FOUND: {
        "not-found": "something that was named does not exist",
        "key-missing": "the secret lacks a key",
        "no-question": "there is no open question about that statement",
        "no-schema": "no schema would take the version table: it does not exist",
        "not-applied": "that version is not applied",
        "role-missing": "the role of `-role`, `owner_role` or of the credentials does not exist",
        "secret-missing": "the secret's path never existed, or its directory is not mounted",
        "image-unknown": "a registry does not have the tag of the release's image",
        "unknown-database": "the database does not exist",
        "wrong-database": "the secret's database is not the environment's",
        "mount-kind": "the mount is a KV mount and gives no logins",
        "mount-missing": "Vault has no secrets engine there",
        "secret-deleted": "the newest version of the secret was deleted",
        "secret-destroyed": "the newest version of the secret was destroyed for good",
        # Kubernetes
        "external-secret-missing": "the ExternalSecret that fleet.yaml names does not exist",
        "external-secret-failed": "External Secrets can't sync the ExternalSecret",
        "external-secret-other": "the ExternalSecret makes another Secret, or reads another one, than the run's",
        "command-not-started": "the image can't start the command",
        "container-not-created": "the container can't be made: a Secret, a key or a ConfigMap is missing",
        "image-not-pulled": "the image can't be pulled",
        "job-conflict": "a Job of that name was made by somebody else",
        "argocd-no-application": "there is no such application in the project",
        "job-deleted": "somebody deleted the Job meanwhile",
        "kube-not-found": "the namespace or the object does not exist",
        "secret-not-mounted": "the Secret can't be mounted into the pod",
        "workload-deleted": "the workload was there and is gone",
        "workload-reference": "the Rollout's `workloadRef` leads to no Deployment",
        # flows and sandbox
        "no-artifact": "the run published no such artifact",
        "no-such-block": "the Prefect server has no block of that name",
        "no-deployment": "the Prefect server does not know that deployment",
        "sandbox-missing": "a program of the sandbox is not installed",
        "sandbox-secret": "the sandbox's secrets server has nothing at that path",
    },
    ExitCode.REJECTED: {
        "sql-rejected": "the database refused a statement",
        "mutation-fails": "the mutation of a statement fails on ClickHouse, and the server tries it again and again",
        "copy-from-stdin": "a migration has no data to send to COPY FROM STDIN",
        "nul-byte": "a statement holds a NUL byte",
        "sandbox-sql": "a database of the sandbox refused a statement",
    },
    ExitCode.QUESTION: {
        "statement-unknown": "the outcome of a statement is unknown and can't be read from the catalogue",
        "statement-changed": "a statement was executed by an earlier run with another text than the file has now",
        "temporary-data-lost": "a run would go on behind statements that filled a temporary table, whose rows ended with the broken run's session",
    },
    ExitCode.VERIFICATION: {
        "verification-failed": "what the files leave behind is missing or not valid",
        "unproven": "another tool applied a version, so no checksum is recorded",
        "after-migrate-failed": "a command of `codegen` failed",
        "down-incomplete": "`test` found a Down that does not take back what its Up did",
        "chain-broken": "a link between fleet.yaml and the running workload is broken",
        "migration-job-failed": "the database is as it should be, but the newest migration Job has failed",
        "argocd-hollow": "a sync succeeded that did not migrate: a dry run, a selective one, or one without the migration's hook",
        "argocd-not-migrated": "a sync and its hook succeeded, and the database still lacks migrations",
        "rollout-failed": "the controller gave up, or a container fails for good",
        "environments-differ": "a schema differs from that of the environment before, and fleet.yaml says that this fails",
        "schema-differs": "`test` found that the second way up makes another schema than the first",
    },
    ExitCode.LOCK: {
        "lock-held": "another run holds the migration lock",
        "lock-budget": "a statement did not get its table lock within the budget; the blocker is named",
        "lock-lost": "the run stood still for longer than its lock lasts",
        "lock-timeout": "a lock was not free in time, or a deadlock was broken",
        "no-keeper-map": "the ClickHouse servers can't keep a lock in Keeper",
        "still-running": "the server still works on a statement of an earlier run",
        "job-running": "another release's migration Job is at work",
        "argocd-busy": "another operation of the application is at work",
        "limit-held": "another run, which lives, migrates this database",
    },
    ExitCode.UNAVAILABLE: {
        "unavailable": "the server can't be reached, or goes down",
        "connection-lost": "the connection broke under the run",
        "read-only": "this server takes no writes",
        "server-busy": "ClickHouse can't do it now: its message says why",
        "mutation-unfinished": "ClickHouse stopped waiting for a mutation that goes on, on replicas that are inactive or slow",
        "server-exhausted": "PostgreSQL is out of connections, memory or disk",
        "unexpected": "an error that nobody expected, and that may pass",
        "unexpected-answer": "ClickHouse answered the login with an unexpected error",
        # credentials and Kubernetes
        "credentials-ended": "a short-lived login was revoked or expired in mid-run",
        "kube-unavailable": "the Kubernetes API server throttles, or fails inside",
        "kube-unreachable": "the Kubernetes API server can't be reached",
        "argocd-unavailable": "Argo CD can't be reached, or can't answer now",
        "argocd-unexpected": "what answers is not Argo CD's API",
        "registry-unreachable": "a registry can't say which digest a tag has",
        "issuer-unreachable": "an identity provider can't be asked for its public keys",
        "out-of-memory": "the migration's container was killed for want of memory",
        "pod-not-created": "a quota, an admission rule or a missing service account keeps the pod from being made",
        "pod-unschedulable": "no node fits the pod",
        "vault-error": "Vault failed inside",
        "vault-gateway": "the proxy before Vault got no answer from it",
        "vault-rate-limited": "Vault's quota is used up for now",
        "vault-review": "Vault could not have the service account's token reviewed",
        "vault-sealed": "Vault is sealed, or a standby without a leader",
        "vault-timeout": "Vault did not answer in time",
        "vault-unexpected": "Vault or a proxy gave an unusual answer",
        "vault-uninitialised": "Vault is not initialised",
        "vault-unreachable": "Vault can't be reached",
        # flows and sandbox
        "prefect-unavailable": "the Prefect server does not answer",
        "run-crashed": "a flow run lost its process, or never got one",
        "no-sandbox": "no sandbox is running there",
        "sandbox-build": "a program of the sandbox can't be built",
        "sandbox-argocd": "the sandbox's Argo CD refuses a request, or does not answer",
        "sandbox-dump": "the sandbox's schema can't be read",
        "sandbox-kubernetes": "the sandbox's cluster refuses a request, or does not start",
        "sandbox-running": "a sandbox is already running there",
        "sandbox-server": "a server of the sandbox refuses a request, or does not answer",
        "sandbox-start": "a server of the sandbox does not start",
    },
    ExitCode.TIMEOUT: {
        "timeout": "a limit in time was reached",
        "connect-timeout": "no answer came to the attempt to connect",
        "deadline": "the command took longer than `-timeout`",
        "deadline-exceeded": "all attempts together took longer than `active_deadline_seconds`",
        "preflight-timeout": "a preflight command took too long",
        "statement-timeout": "a statement took longer than its time-out",
    },
    ExitCode.INTERRUPTED: {
        "interrupted": "a signal or a cancellation ended the run",
        "cancelled": "somebody cancelled the statement on the server",
        "run-cancelled": "the flow run was cancelled, or not let in",
    },
    ExitCode.NOT_YET: {
        "not-yet": "what is awaited has not happened yet",
        "already-proposed": "another promotion waits for an approval of this very release",
        "job-unfinished": "the Job is over its deadline and nobody ended it",
        "argocd-not-synced": "no sync has brought these files within the time",
        "argocd-replaced": "another operation took the place of the run's before its end was seen",
        "argocd-unfinished": "the sync has not ended within the time",
        "argocd-window": "a sync window of the project forbids the sync now",
        "migration-job-unfinished": "the database is as it should be, but the newest migration Job still runs",
        "not-rolled-out": "the workload still carries another image, or the pod template from before the run",
        "promotion-skipped": "a schedule started this promotion while another scheduled one was at work",
        "rollout-unfinished": "new pods are not all available yet, or old ones still end",
        "run-unfinished": "the flow run has not ended within the time to follow it; it goes on",
        "secret-stale": "the Secret of the migration's pod is not yet the one that this release names, or not yet synced anew",
        "version-not-reached": "the database has not reached the version that `wait` waits for",
        "workload-recreated": "the workload was replaced by another object of its name meanwhile",
    },
}

CODES: Mapping[str, Code] = MappingProxyType(
    {code: Code(exit_code, meaning) for exit_code, meanings in _MEANINGS.items() for code, meaning in meanings.items()}
)
"""Every code, by name."""


def recognised(code: object, exit_code: object, *, otherwise: str) -> str:
    """Returns this version's code for an error that another process reported, which may be another version of greylag, or not greylag at all.

    Args:
        code, exit_code: the reported values; they may be anything, because they were read from JSON.

    Returns:
        The code, if it is known here; else the general code of the exit code, which is its first; `otherwise` if the exit code only says that something failed.
    """
    if isinstance(code, str) and code in CODES:
        return code
    return _GENERAL.get(exit_code, otherwise) if isinstance(exit_code, int) else otherwise


_GENERAL = {int(exit_code): next(iter(meanings)) for exit_code, meanings in _MEANINGS.items() if exit_code is not ExitCode.AS_GOOSE}
