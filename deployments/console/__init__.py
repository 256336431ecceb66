"""Verbs of the `greylag` command that need the fleet, Vault, Prefect or the sandbox: one module each, whose `VERB` is an entry point of the group
`greylag.verbs` in pyproject.toml. Only a checkout (or the worker image) has them.
"""
