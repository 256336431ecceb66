"""Does the workload carry this release at all? The question that kubectl does not ask."""

from __future__ import annotations

import pytest

from tasks.rollout import releases
from tasks.rollout.statuses import Progress
from tests.unit.rollout_objects import DIGEST, NEW, OLD, OTHER_DIGEST, container, deployment, pod

REPOSITORY = NEW.rpartition(":")[0]


def test_the_previous_release_fully_healthy_is_not_rolled_out_yet() -> None:
    found = releases.belongs(deployment(image=OLD), NEW, "", None)
    assert found.progress is Progress.NOT_YET
    assert OLD in found.reason


def test_the_image_decides_whatever_the_generation_is() -> None:
    before = releases.snapshot(deployment(image=OLD, generation=1))
    assert releases.belongs(deployment(image=OLD, generation=9), NEW, "", before).progress is Progress.NOT_YET
    assert releases.belongs(deployment(image=NEW, generation=1), NEW, "", before).progress is Progress.DONE


def test_a_sidecar_does_not_count_where_the_container_is_named() -> None:
    assert releases.belongs(deployment(image=OLD), "envoy:1", "app", None).progress is Progress.NOT_YET
    assert releases.belongs(deployment(image=NEW), NEW, "app", None).progress is Progress.DONE


@pytest.mark.parametrize("image", [":2.0.0", f"@{DIGEST}"])
def test_a_tag_or_digest_alone_fits_whatever_repository_a_service_has(image: str) -> None:
    carried = NEW if image.startswith(":") else f"{REPOSITORY}@{DIGEST}"
    assert releases.belongs(deployment(image=carried), image, "app", None).progress is Progress.DONE
    assert releases.belongs(
        deployment(image=OLD if image.startswith(":") else f"{REPOSITORY}@{OTHER_DIGEST}"), image, "app", None
    ).progress is (Progress.NOT_YET)


def test_bad_flow_a_bare_word_is_a_name_and_who_meant_a_tag_is_told() -> None:
    found = releases.belongs(deployment(image=NEW), "2.0.0", "app", None)
    assert found.progress is Progress.NOT_YET
    assert found.reason.endswith("not 2.0.0 (a tag alone is written :2.0.0)")
    assert releases.belongs(deployment(image=OLD), "2.0.0", "app", None).reason.endswith("not 2.0.0")


def test_bad_flow_a_digest_that_the_workload_carries_does_not_prove_a_tag() -> None:
    found = releases.belongs(deployment(image=f"{REPOSITORY}@{DIGEST}"), NEW, "", None)
    assert found.progress is Progress.NOT_YET
    assert "give this release's digest" in found.reason


def test_bad_flow_a_name_that_nobody_could_pull_is_not_this_releases() -> None:
    assert releases.belongs(deployment(image="not an image"), NEW, "app", None).progress is Progress.NOT_YET


@pytest.mark.parametrize(
    ("identities", "progress"),
    [
        ([f"{REPOSITORY}@{DIGEST}", f"{REPOSITORY}@{DIGEST}"], Progress.DONE),
        ([f"{REPOSITORY}@{DIGEST}", ""], Progress.WAITING),
        ([], Progress.WAITING),
        ([f"{REPOSITORY}@{DIGEST}", f"{REPOSITORY}@{OTHER_DIGEST}"], Progress.NOT_YET),
        ([DIGEST], Progress.WAITING),  # an identity that no registry knows proves nothing
    ],
)
def test_where_the_workload_names_a_tag_its_pods_prove_the_digest(identities: list[str], progress: Progress) -> None:
    workload, wanted = deployment(image=NEW), f"{NEW}@{DIGEST}"
    assert releases.belongs(workload, wanted, "", None).progress is Progress.WAITING
    sidecar = container("proxy", image="envoy:1", identity=f"envoy@{OTHER_DIGEST}")
    pods = [pod(f"p{place}", containers=[container(identity=item), sidecar]) for place, item in enumerate(identities)]
    assert releases.proven(workload, wanted, "", pods).progress is progress


def test_without_an_image_a_newer_pod_template_decides() -> None:
    before = releases.snapshot(deployment(image=OLD, generation=1))
    assert releases.belongs(deployment(image=OLD, generation=1), "", "", before).progress is Progress.NOT_YET
    assert releases.belongs(deployment(image=NEW, generation=2), "", "", before).progress is Progress.DONE


def test_scaling_is_a_new_generation_but_no_release() -> None:
    before = releases.snapshot(deployment(image=OLD, generation=1, wanted=2))
    assert releases.belongs(deployment(image=OLD, generation=2, wanted=5), "", "", before).progress is Progress.NOT_YET


def test_a_first_install_and_a_replaced_object_are_new() -> None:
    assert releases.belongs(deployment(), "", "", releases.snapshot(None)).progress is Progress.DONE
    before = releases.snapshot(deployment(uid="d0", generation=7))
    assert releases.belongs(deployment(uid="d1", generation=1), "", "", before).progress is Progress.DONE


def test_with_neither_image_nor_a_look_before_nothing_is_claimed() -> None:
    assert releases.belongs(deployment(), "", "", None).progress is Progress.NOT_YET


@pytest.mark.parametrize(("image", "expected"), [("", "envoy:1"), (":2.0.0", NEW), (NEW, NEW), (f"{NEW}@{DIGEST}", NEW)])
def test_the_outcome_names_the_image_as_the_workload_does(image: str, expected: str) -> None:
    workload = deployment(image=NEW)
    workload["spec"]["template"]["spec"]["containers"].reverse()
    assert releases.carried(workload, image, "") == expected
    assert releases.carried(workload, image, "app") == NEW
