"""Verbs of the `greylag` command that need the fleet, Vault, Prefect or the sandbox: one module each with `SUMMARY` and `run(arguments)`.

Only a checkout (or the worker image) has them; `migrator.cli` hands words that it does not know to the module named here.
"""

from __future__ import annotations

VERBS: dict[str, str] = {
    "fleet": "deployments.console.fleet",
    "targets": "deployments.console.targets",
    "test": "deployments.console.test",
    "codegen": "deployments.console.codegen",
    "deploy": "deployments.console.deploy",
    "promote": "deployments.console.promote",
    "approve": "deployments.console.approve",
    "privileges": "deployments.console.privileges",
}
"""Verb -> module, imported when the verb is used."""
