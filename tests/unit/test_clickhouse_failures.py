"""What the server's messages mean, without a server."""

from __future__ import annotations

import pytest

from migrator import errors
from migrator.clickhouse import clusters, failures
from migrator.clickhouse.clusters import HostResult
from migrator.clickhouse.failures import Lost, Refusal


def test_refusal_is_read_as_goose_prints_it() -> None:
    text = b"Code: 60. DB::Exception: Unknown table x. (UNKNOWN_TABLE) (version 26.9.2.1 (official build))\n"
    found = failures.of_answer(404, "60", text)
    assert isinstance(found, Refusal)
    assert str(found) == "code: 60, message: Unknown table x. (UNKNOWN_TABLE)"


def test_code_is_found_in_the_text_where_a_proxy_drops_the_header() -> None:
    found = failures.of_answer(500, None, b"Code: 159. DB::Exception: Timeout exceeded")
    assert isinstance(found, Refusal)
    assert (found.code, found.message) == (159, "Timeout exceeded")


@pytest.mark.parametrize("text", [b"Code: 15", b"Code: 159", b"C", b""])
def test_code_that_is_cut_short_is_none(text: bytes) -> None:
    assert isinstance(failures.of_answer(500, None, text), Lost)


def test_stack_trace_of_the_server_is_left_out() -> None:
    found = failures.of_answer(500, "341", b"Code: 341. DB::Exception: failed\n\n0. ? @ 0x01\n1. ? @ 0x02\n")
    assert isinstance(found, Refusal)
    assert found.message == "failed"


def test_answer_of_something_that_is_not_clickhouse_is_no_answer() -> None:
    found = failures.of_answer(502, None, b"<html>Bad Gateway</html>\n")
    assert isinstance(found, Lost)
    assert (str(found), found.status) == ("HTTP status 502, server response: <html>Bad Gateway</html>", 502)


@pytest.mark.parametrize(
    ("code", "kind", "name"),
    [
        (516, errors.LoginFailed, "login-failed"),
        (497, errors.LoginFailed, "permission-denied"),
        (164, errors.LoginFailed, "permission-denied"),
        (81, errors.NotFound, "unknown-database"),
        (372, errors.LockUnavailable, "lock-lost"),
        (373, errors.LockUnavailable, "still-running"),
        (394, errors.Interrupted, "cancelled"),
        (159, errors.TimedOut, "statement-timeout"),
        (202, errors.Unavailable, "server-busy"),
        (209, errors.Unavailable, "server-busy"),
        (210, errors.Unavailable, "server-busy"),
        (242, errors.Unavailable, "server-busy"),
        (243, errors.Unavailable, "server-busy"),
        (252, errors.Unavailable, "server-busy"),
        (999, errors.Unavailable, "server-busy"),
        (62, errors.StatementRejected, "sql-rejected"),
        (395, errors.StatementRejected, "sql-rejected"),
    ],
)
def test_codes_become_classes(code: int, kind: type[errors.GreylagError], name: str) -> None:
    error = failures.of_server(Refusal(code, "said"), "to do it")
    assert (type(error), error.code) == (kind, name)


def test_quota_that_is_used_up_passes_and_says_when() -> None:
    said = "Quota for user `m` for 3600s has been exceeded: queries = 4/3. Interval will end at 2026-12-01 00:00:00. Name of quota template: `q`"
    error = failures.of_server(Refusal(201, said), "to do it")
    assert (type(error), error.code, error.exit_code) == (errors.Unavailable, "server-busy", errors.ExitCode.UNAVAILABLE)
    assert "2026-12-01 00:00:00" in error.hint


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("(total) memory limit exceeded: would use 3 GiB", errors.Unavailable),
        ("Query memory limit exceeded: would use 3 GiB", errors.StatementRejected),
    ],
)
def test_memory_of_the_server_passes_and_that_of_a_query_does_not(said: str, kind: type[errors.GreylagError]) -> None:
    assert type(failures.of_server(Refusal(241, said), "to do it")) is kind


def test_user_who_may_only_read_is_told_so() -> None:
    error = failures.of_server(Refusal(164, "Cannot modify 'send_progress_in_http_headers' setting in readonly mode"), "to take the lock")
    assert (type(error), error.code, error.exit_code) == (errors.LoginFailed, "permission-denied", errors.ExitCode.LOGIN)
    assert "may only read" in error.hint


def test_time_out_of_a_cluster_names_its_entry() -> None:
    message = "Distributed DDL task /clickhouse/task_queue/ddl/query-0000000004 is not finished on 1 of 2 hosts"
    assert clusters.entry_of(Refusal(159, message)) == "query-0000000004"
    assert clusters.entry_of(Refusal(57, message)) is None
    assert clusters.entry_of(Refusal(159, "Timeout exceeded: elapsed 1 s")) is None


def test_time_out_of_a_cluster_is_no_failure_when_every_host_finished() -> None:
    timeout = Refusal(159, "not finished on 1 of 2 hosts")
    assert clusters.verdict([HostResult("a:9000", True), HostResult("b:9000", True)], timeout) is None


def test_error_of_one_host_counts_before_the_time_out() -> None:
    timeout = Refusal(159, "not finished on 1 of 2 hosts")
    found = clusters.verdict([HostResult("a:9000", True, 57, "exists"), HostResult("b:9000", False)], timeout)
    assert found is not None
    assert (found.code, found.message) == (57, "There was an error on [a:9000]: exists")
    assert clusters.failed_on_one_host(found)


def test_host_that_is_still_to_do_it_is_named() -> None:
    found = clusters.verdict([HostResult("a:9000", True), HostResult("b:9000", False)], Refusal(159, "not finished"))
    assert found is not None
    assert (found.code, found.message) == (159, "not finished (still to do it: b:9000)")
    assert clusters.verdict([], Refusal(159, "not finished")) is not None
