"""Vault's policy rules as pure data: what a reader of Vault's documentation would expect of patterns, precedence and joining."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.vault import vault_policies

SEGMENT = st.text("abc-_", min_size=1, max_size=4)
PATH = st.lists(SEGMENT, min_size=1, max_size=5).map("/".join)
NAMES = st.frozensets(st.sampled_from(sorted(vault_policies.CAPABILITIES)), min_size=1)


def allowed(path: str, *texts: str) -> frozenset[str]:
    return vault_policies.capabilities([vault_policies.parse(text) for text in texts], path)


def rule(path: str, *names: str) -> str:
    return f'path "{path}" {{ capabilities = {json.dumps(list(names))} }}\n'


@given(st.dictionaries(PATH, NAMES, max_size=4))
def test_hcl_and_json_mean_the_same(rules: dict[str, frozenset[str]]) -> None:
    in_hcl = "".join(rule(path, *sorted(names)) for path, names in rules.items())
    in_json = json.dumps({"path": {path: {"capabilities": sorted(names)} for path, names in rules.items()}})
    assert vault_policies.parse(in_hcl) == vault_policies.parse(in_json) == vault_policies.Policy(rules)


@given(PATH, PATH)
def test_an_exact_rule_speaks_for_its_path_alone(path: str, other: str) -> None:
    assert allowed(other, rule(path, "read")) == (frozenset({"read"}) if other == path else frozenset())


@given(PATH, PATH)
def test_a_star_speaks_for_everything_below(prefix: str, rest: str) -> None:
    assert allowed(f"{prefix}/{rest}", rule(prefix + "/*", "read")) == {"read"}
    assert allowed(prefix, rule(prefix + "/*", "read")) == frozenset()


@given(SEGMENT, SEGMENT, SEGMENT)
def test_a_plus_speaks_for_exactly_one_segment(first: str, middle: str, last: str) -> None:
    assert allowed(f"{first}/{middle}/{last}", rule(f"{first}/+/{last}", "read")) == {"read"}
    assert allowed(f"{first}/{middle}/{middle}/{last}", rule(f"{first}/+/{last}", "read")) == frozenset()


@given(PATH, PATH, NAMES)
def test_deny_at_the_most_specific_rule_leaves_nothing(prefix: str, rest: str, names: frozenset[str]) -> None:
    path = f"{prefix}/{rest}"
    assert allowed(path, rule(prefix + "/*", "read"), rule(path, "deny", *names)) == frozenset()


@pytest.mark.parametrize(
    "specific, general",
    [
        ("secret/data/a/b", "secret/data/a/*"),
        ("secret/data/a/*", "secret/data/*"),
        ("secret/data/a/b", "secret/data/+/b"),
        ("secret/data/a/+", "secret/data/+/b"),
        ("secret/data/+/b", "secret/data/+/*"),
    ],
)
def test_the_more_specific_rule_wins(specific: str, general: str) -> None:
    assert allowed("secret/data/a/b", rule(general, "read", "update"), rule(specific, "read")) == {"read"}


def test_rules_of_several_policies_for_one_pattern_are_joined() -> None:
    assert allowed("a/b", rule("a/*", "read"), rule("a/*", "list")) == {"read", "list"}


@pytest.mark.parametrize(
    "text, reason",
    [
        ('path "a" { capabilities = ["reed"] }', 'path "a": invalid capability "reed"'),
        ("path a { }", "only `path"),
        ('{"path": {"a": {}}}', "not a JSON policy"),
        ("{", "not a JSON policy"),
    ],
)
def test_bad_flow_what_is_not_a_policy_is_refused(text: str, reason: str) -> None:
    with pytest.raises(vault_policies.BadPolicy, match=reason):
        vault_policies.parse(text)
