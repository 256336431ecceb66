"""What Job mode sends to an API server and what it makes of the answers: Jobs, their events and logs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrator import errors
from tasks.job import manifest
from tests.unit import fake_api_server
from tests.unit.fake_api_server import FakeApiServer, Handler, refused
from tests.unit.job_objects import job, order, target


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with fake_api_server.running() as found:
        yield found


def test_the_manifest_is_sent_as_it_is(server: FakeApiServer) -> None:
    wanted = manifest.manifest(order(target=target(substitute_password=True)))
    server.script = [lambda handler: handler.answer(201, job())]
    assert server.api().create_job("n", wanted) == job()
    assert server.bodies == [wanted]
    assert server.asked == ["/apis/batch/v1/namespaces/n/jobs"]


def test_a_name_that_is_taken_is_no_error(server: FakeApiServer) -> None:
    server.script = [refused(409, "AlreadyExists")]
    assert server.api().create_job("n", manifest.manifest(order())) is None


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (409, "Conflict", errors.Unavailable),
        (429, "", errors.Unavailable),
        (503, "", errors.Unavailable),
        (422, "Invalid", errors.UsageError),
    ],
)
def test_bad_flow_a_job_that_can_not_be_made(server: FakeApiServer, status: int, reason: str, kind: type[errors.GreylagError]) -> None:
    server.script = [refused(status, reason)]
    with pytest.raises(kind, match="creating Job n/auth-service-migration-"):
        server.api().create_job("n", manifest.manifest(order()))


def test_a_job_is_deleted_by_its_uid_alone(server: FakeApiServer) -> None:
    server.script = [lambda handler: handler.answer(200, {}), refused(409, "Conflict"), refused(404)]
    api = server.api()
    for _ in range(3):
        api.delete_job("n", "x", "u-1")
    assert server.bodies[0]["preconditions"] == {"uid": "u-1"}
    assert server.bodies[0]["propagationPolicy"] == "Foreground"


def test_a_job_that_is_not_there_is_none(server: FakeApiServer) -> None:
    server.script = [refused(404)]
    assert server.api().job("n", "x") is None


def test_a_log_comes_line_by_line_with_its_times(server: FakeApiServer) -> None:
    def play(handler: Handler) -> None:
        handler.stream(
            b"2026-01-01T00:00:00.000000001Z one tw", b"o\n2026-01-01T00:00:00.000000002Z \n", b"2026-01-01T00:00:00.000000003Z l\xff"
        )
        handler.close_stream()

    server.script = [play]
    assert list(server.api().log_lines("n", "p", container="migrate", since_seconds=7)) == [
        ("2026-01-01T00:00:00.000000001Z", "one two"),
        ("2026-01-01T00:00:00.000000002Z", ""),
        ("2026-01-01T00:00:00.000000003Z", "l�"),
    ]
    for part in ("follow=True", "timestamps=True", "sinceSeconds=7", "container=migrate"):
        assert part.lower() in server.asked[0].lower()


def test_bad_flow_a_log_that_can_not_be_read_tells_why(server: FakeApiServer) -> None:
    server.script = [refused(400, "waiting to start"), refused(404), refused(403)]
    api = server.api()
    for kind in (errors.UsageError, errors.NotFound, errors.LoginFailed):
        with pytest.raises(kind):
            list(api.log_lines("n", "p", container="migrate"))


def test_bad_flow_a_log_on_a_half_open_connection_is_given_up_after_its_silence(server: FakeApiServer) -> None:
    def play(handler: Handler) -> None:
        handler.stream(b"2026-01-01T00:00:00.000000001Z one\n")
        handler.server.over.wait(30)

    server.script = [play]
    lines = server.api().log_lines("n", "p", container="migrate")
    assert next(lines)[1] == "one"
    with pytest.raises(errors.Unavailable, match="the connection was lost"):
        next(lines)


def test_events_are_asked_for_by_the_objects_uid(server: FakeApiServer) -> None:
    server.script = [lambda handler: handler.answer(200, {"items": [{"reason": "FailedCreate"}], "metadata": {}})]
    assert server.api().events("n", "u-1") == [{"reason": "FailedCreate"}]
    assert "involvedObject.uid%3Du-1" in server.asked[0]
