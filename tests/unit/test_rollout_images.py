"""Image references: defaults as container runtimes fill them in, and what two names prove about each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from tasks.rollout import images
from tasks.rollout.images import Match, Reference
from tests.unit.rollout_objects import DIGEST, OTHER_DIGEST


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", Reference("docker.io", "library/nginx", "latest", "")),
        ("nginx:1.27", Reference("docker.io", "library/nginx", "1.27", "")),
        ("acme/web:2", Reference("docker.io", "acme/web", "2", "")),
        ("docker.io/nginx", Reference("docker.io", "library/nginx", "latest", "")),
        ("index.docker.io/acme/web", Reference("docker.io", "acme/web", "latest", "")),
        ("localhost/web:2", Reference("localhost", "web", "2", "")),
        ("localhost:5000/web", Reference("localhost:5000", "web", "latest", "")),
        ("Registry.Example/team/web:2.0.0", Reference("registry.example", "team/web", "2.0.0", "")),
        (f"registry.example/web@{DIGEST}", Reference("registry.example", "web", "", DIGEST)),
        (f"registry.example:8443/web:2@{DIGEST.upper().replace('SHA', 'sha')}", Reference("registry.example:8443", "web", "2", DIGEST)),
        (":2.0.0", Reference("", "", "2.0.0", "")),
        (f"@{DIGEST}", Reference("", "", "", DIGEST)),
        (DIGEST, Reference("", "", "", DIGEST)),
        (f":2@{DIGEST}", Reference("", "", "2", DIGEST)),
    ],
)
def test_a_reference_is_read_with_its_defaults(text: str, expected: Reference) -> None:
    assert images.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "web:", "web@", "web@sha256:12", "WEB", "a b", "web:ta g", "registry.example/", "https://registry.example/web", "web:-x"]
)
def test_bad_flow_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        images.parse(text)
    assert caught.value.code == "bad-image"


@pytest.mark.parametrize(
    ("wanted", "carried", "match"),
    [
        ("nginx:1", "docker.io/library/nginx:1", Match.SAME),
        ("nginx", "nginx:latest", Match.SAME),
        ("registry.example/web:2", "registry.example/web:2", Match.SAME),
        ("registry.example/web:2", "registry.example/web:1", Match.OTHER),
        ("registry.example/web:2", "elsewhere.example/web:2", Match.OTHER),
        ("registry.example/web:2", "registry.example/web2:2", Match.OTHER),
        ("web:2", f"web:2@{DIGEST}", Match.SAME),  # a tag and the digest that it had
        ("web:2", f"web:1@{DIGEST}", Match.OTHER),
        ("web:2", f"web@{DIGEST}", Match.UNPROVEN),
        (f"web@{DIGEST}", f"web@{DIGEST}", Match.SAME),
        (f"web@{DIGEST}", f"web:2@{DIGEST}", Match.SAME),
        (f"web:2@{DIGEST}", f"web:9@{DIGEST}", Match.SAME),  # where there is a digest, no runtime looks at the tag
        (f"web:2@{DIGEST}", f"web:2@{OTHER_DIGEST}", Match.OTHER),
        (f"web@{DIGEST}", "web:2", Match.UNPROVEN),
        (f"web:2@{DIGEST}", "web:2", Match.UNPROVEN),
        (f"web:2@{DIGEST}", "web:1", Match.OTHER),
        (":2", "registry.example/anything:2", Match.SAME),
        (":2", "registry.example/anything:1", Match.OTHER),
        (f"@{DIGEST}", f"registry.example/anything:1@{DIGEST}", Match.SAME),
        (f"@{DIGEST}", "registry.example/anything:1", Match.UNPROVEN),
    ],
)
def test_two_references(wanted: str, carried: str, match: Match) -> None:
    assert images.compare(images.parse(wanted), images.parse(carried)) is match


@pytest.mark.parametrize(
    ("identity", "digest"),
    [
        (f"registry.example/web@{DIGEST}", DIGEST),
        (f"docker-pullable://registry.example/web@{DIGEST}", DIGEST),
        (DIGEST, ""),  # the configuration's digest, which is not the manifest's
        ("", ""),
    ],
)
def test_the_digest_that_a_node_reports(identity: str, digest: str) -> None:
    assert images.digest_of(identity) == digest


def test_a_tag_and_a_name_may_look_alike() -> None:
    assert images.is_tag("2.0.0") and images.is_tag("v2_RC1") and images.is_tag("web")
    assert not images.is_tag("a b") and not images.is_tag("web:2")


_PART = st.from_regex(r"\A[a-z0-9]{1,8}\Z")
_TAGS = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,10}\Z")
_REGISTRIES = st.sampled_from(["", "docker.io/", "registry.example/", "localhost:5000/"])


@given(_REGISTRIES, st.lists(_PART, min_size=1, max_size=3), _TAGS, _TAGS)
def test_a_reference_is_itself_and_differs_by_its_tag(registry: str, parts: list[str], tag: str, other: str) -> None:
    name = registry + "/".join(parts)
    mine, theirs = images.parse(f"{name}:{tag}"), images.parse(f"{name}:{other}")
    assert images.compare(mine, mine) is Match.SAME
    assert images.compare(mine, theirs) is (Match.SAME if tag == other else Match.OTHER)
    pinned = images.parse(f"{name}:{tag}@{DIGEST}")
    assert images.compare(mine, pinned) is Match.SAME
    assert images.compare(pinned, mine) is Match.UNPROVEN


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        found = images.parse(text)
    except errors.UsageError:
        return
    assert found.tag or found.digest
    assert bool(found.registry) is bool(found.repository)
