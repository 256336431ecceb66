"""fleet.yaml: what it derives for each service, and how it refuses what it can't understand."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from tasks import fleet
from tasks.fleet.models import Fleet

SMALL = """\
namespace: "{environment}-shop"
vault:
  path: "shop/{environment}/{service}/{store}"
environments:
  dev: {suffix: _dev}
  prod: {aliases: [production], protected: true}
services:
  orders:
    engine: postgres
    database: orders_db
    migrations: orders/sql
  reports:
    engine: clickhouse
    database: reports_db
    migrations: reports/sql
    depends_on: [orders]
"""


def parsed(text: str) -> Fleet:
    return fleet.parse(textwrap.dedent(text), Path("/fleet/fleet.yaml"))


def refused(text: str) -> errors.UsageError:
    with pytest.raises(errors.UsageError) as caught:
        parsed(text)
    assert caught.value.code == "bad-fleet"
    return caught.value


def line_of(text: str, fragment: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if fragment in line)


def test_the_repository_fleet_has_the_six_services_of_the_recipe() -> None:
    found = fleet.load()
    engines = {name: str(service.engine) for name, service in found.services.items()}
    assert engines == {
        "auth-service": "postgres",
        "personal-service": "postgres",
        "authorization-service": "postgres",
        "identity-service": "postgres",
        "audit-service": "clickhouse",
        "analytics-service": "clickhouse",
    }


def test_every_directory_of_the_repository_fleet_exists_and_holds_migrations() -> None:
    for target in fleet.load().targets():
        assert list(Path(target.directory).glob("*.sql")), target.directory


def test_identity_service_keeps_its_files_in_the_postgres_directory() -> None:
    assert fleet.load().target("identity-service", "dev").directory.endswith("services/identity-service/migrations/postgres")


@pytest.mark.parametrize(
    ("environment", "database"),
    [("dev", "analytics_db_dev"), ("release", "analytics_db_release"), ("prod", "analytics_db"), ("production", "analytics_db")],
)
def test_databases_follow_the_recipe_in_every_environment(environment: str, database: str) -> None:
    assert fleet.load().target("analytics-service", environment).database == database


def test_a_target_carries_references_as_the_recipe_spells_them() -> None:
    target = fleet.load().target("auth-service", "dev")
    assert f"{target.vault_mount}/{target.vault_path}" == "secret/apps/my-girok/dev/auth-service/postgres"
    assert (target.namespace, target.work_pool, target.workload.name) == ("dev-my-girok", "greylag-dev", "auth-service")
    assert (target.limit, target.label) == ("greylag-auth-service-dev", "dev/auth-service")
    assert fleet.load().target("audit-service", "dev").vault_path == "apps/my-girok/dev/audit-service/clickhouse"


def test_production_is_another_name_of_prod_and_protected() -> None:
    found = fleet.load()
    assert found.environment_name("production") == "prod"
    assert found.target("auth-service", "production") == found.target("auth-service", "prod")
    assert [name for name, item in found.environments.items() if item.protected] == ["prod"]


def test_all_targets_have_different_databases_limits_and_secrets() -> None:
    targets = fleet.load().targets()
    assert len(targets) == 18
    for key in (lambda item: item.database, lambda item: item.limit, lambda item: item.vault_path):
        assert len({key(item) for item in targets}) == 18


def test_promotion_follows_the_order_of_the_file() -> None:
    found = fleet.load()
    assert [found.previous(name) for name in ("dev", "release", "prod", "production")] == [None, "dev", "release", "release"]


def test_dependencies_run_in_waves_and_independent_services_side_by_side() -> None:
    waves = fleet.load().order()
    assert waves[0] == ("auth-service", "audit-service")
    assert set(waves[1]) == {"personal-service", "authorization-service", "identity-service", "analytics-service"}


def test_a_dependency_through_an_unselected_service_still_counts() -> None:
    found = parsed(
        SMALL + "  billing: {engine: postgres, database: billing_db, migrations: billing, depends_on: [reports]}\n",
    )
    assert found.order(["billing", "orders"]) == (("orders",), ("billing",))
    assert found.prerequisites("billing") == {"orders", "reports"}


def test_commands_after_a_migration_are_those_of_the_environment_with_words_filled_in() -> None:
    found = fleet.load()
    assert found.target("auth-service", "dev").after_migrate[0].run == (
        "pnpm",
        "--filter",
        "@my-girok/auth-service",
        "prisma",
        "db",
        "pull",
    )
    assert found.target("auth-service", "prod").after_migrate == ()


def test_argo_cds_settings_are_the_services_else_its_environments_else_the_fleets() -> None:
    text = SMALL.replace("vault:", "argocd: {server: 'https://{environment}.argocd.example/', prune: true}\nvault:")
    text = text.replace("protected: true", "protected: true, argocd: {server: 'https://prod.example', sync: follow}")
    text = text.replace("database: orders_db", "database: orders_db\n    argocd: {application: 'shop-{environment}', project: shop}")
    found = parsed(text)
    orders, reports = found.target("orders", "prod").argocd, found.target("reports", "dev").argocd
    assert (orders.server, orders.application, orders.project, orders.sync, orders.prune) == (
        "https://prod.example",
        "shop-prod",
        "shop",
        "follow",
        True,
    )
    assert (reports.server, reports.application, reports.project, reports.sync) == (
        "https://dev.argocd.example",
        "reports-dev",
        "default",
        "start",
    )
    assert parsed(SMALL).target("orders", "dev").argocd.server == ""


@pytest.mark.parametrize(
    ("section", "part"),
    [
        ("{sever: x}", 'did you mean "server"?'),
        ("{server: argocd.example}", "https://"),
        ("{server: 'https://user:word@argocd.example'}", "no user, password"),
        ("{sync: never}", "start"),
        ("{application: '{store}'}", "{environment}, {service}"),
    ],
)
def test_bad_flow_a_mistake_in_argo_cds_settings_is_named_with_its_line(section: str, part: str) -> None:
    text = SMALL.replace("dev: {suffix: _dev}", f"dev:\n    suffix: _dev\n    argocd: {section}")
    error = refused(text)
    assert part in f"{error.message} {error.hint}"
    assert error.where is not None and error.where.line == line_of(text, "argocd:")


def test_a_service_overrides_the_parameters_of_its_environment() -> None:
    text = SMALL.replace("dev: {suffix: _dev}", "dev: {suffix: _dev, parameters: {postgres: {sslmode: disable, connect_timeout: '3'}}}")
    text = text.replace("migrations: orders/sql", "migrations: orders/sql\n    parameters: {sslmode: require}")
    assert parsed(text).target("orders", "dev").parameters == {"sslmode": "require", "connect_timeout": "3"}
    assert parsed(text).target("reports", "dev").parameters == {}


def test_directories_are_relative_to_the_file_and_its_root() -> None:
    assert parsed(SMALL).target("orders", "dev").directory == "/fleet/orders/sql"
    assert parsed("root: ../checkout\n" + SMALL).target("orders", "dev").directory == "/checkout/orders/sql"


def test_greylag_fleet_names_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(SMALL, encoding="utf-8")
    monkeypatch.setenv("GREYLAG_FLEET", str(path))
    assert fleet.service_names() == ("orders", "reports")
    assert fleet.environment_names() == ("dev", "prod")
    assert fleet.load().path == path


def test_a_missing_file_is_named_with_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError) as caught:
        fleet.load(tmp_path / "none.yaml")
    assert caught.value.code == "no-fleet"
    assert "greylag init" in caught.value.hint


def test_an_unknown_service_or_environment_is_answered_with_the_nearest_name() -> None:
    found = fleet.load()
    with pytest.raises(errors.UsageError) as caught:
        found.target("auth-servce", "dev")
    assert (caught.value.code, caught.value.hint) == ("unknown-service", 'did you mean "auth-service"?')
    with pytest.raises(errors.UsageError) as caught:
        found.environment("releese")
    assert (caught.value.code, caught.value.hint) == ("unknown-environment", 'did you mean "release"?')


@pytest.mark.parametrize(
    ("old", "new", "fragment", "message", "hint"),
    [
        ("    database: orders_db", "    databse: orders_db", "databse", 'has no "databse"', 'did you mean "database"?'),
        ("  path:", "  paht:", "paht", 'vault has no "paht"', 'did you mean "path"?'),
        ("protected: true", "protect: true", "prod:", 'has no "protect"', 'did you mean "protected"?'),
        ("engine: clickhouse", "engine: clikhouse", "clikhouse", "services.reports.engine", "correct the value"),
        ("[orders]", "[ordres]", "ordres", 'depends on "ordres"', 'did you mean "orders"?'),
        ("  orders:", "  Orders:", "Orders", '"Orders" is not a name', "correct the value"),
        ("{service}", "{servce}", "servce", '"{servce}" means nothing', "{service}"),
        ("suffix: _dev", "suffix: dev", "suffix: dev", '"dev" is not an environment suffix', '"_dev"'),
        ("database: reports_db", "database: reports_db_dev", "reports_db_dev", "already ends with the suffix", "reports_db"),
        ("aliases: [production]", "aliases: [dev]", "prod:", '"dev" already means dev', "another alias"),
        ("aliases: [production]", 'suffix: "_dev"', "prod:", "the same names", "its own suffix"),
    ],
)
def test_a_mistake_is_refused_at_its_line_with_a_remedy(old: str, new: str, fragment: str, message: str, hint: str) -> None:
    text = SMALL.replace(old, new)
    error = refused(text)
    assert message in error.message
    assert hint in error.hint
    assert error.where is not None
    assert error.where.line == line_of(text, fragment)


def test_a_missing_key_is_refused_at_the_service_that_lacks_it() -> None:
    text = SMALL.replace("    database: orders_db\n", "")
    error = refused(text)
    assert (error.message, error.hint) == ('services.orders lacks "database"', "add `database:`")
    assert error.where is not None and error.where.line == line_of(text, "orders:")


def test_several_mistakes_are_listed_the_first_one_first() -> None:
    error = refused(SMALL.replace("engine: postgres", "engine: mysql").replace("reports/sql", "reports/sql\n    colour: red"))
    assert "services.orders.engine" in error.message
    assert 'services.reports has no "colour"' in error.detail


def test_a_circle_of_dependencies_is_refused_with_its_path() -> None:
    error = refused(SMALL.replace("migrations: orders/sql", "migrations: orders/sql\n    depends_on: [reports]"))
    assert "orders -> reports -> orders" in error.message


def test_a_service_that_depends_on_itself_is_refused() -> None:
    assert "reports -> reports" in refused(SMALL.replace("[orders]", "[orders, reports]")).message


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "services: {a: 1, a: 2}", "services: [", "a: b: c", "\x00"])
def test_text_that_is_no_fleet_is_refused_with_a_place(text: str) -> None:
    error = refused(text)
    assert error.where is not None and error.where.path == "/fleet/fleet.yaml"


@given(st.text(max_size=200))
def test_any_text_is_a_fleet_or_a_usage_error(text: str) -> None:
    try:
        fleet.parse(text, Path("fleet.yaml"))
    except errors.UsageError as error:
        assert error.code == "bad-fleet"


@given(st.dictionaries(st.integers(0, 7), st.sets(st.integers(0, 7), max_size=4), min_size=1, max_size=8))
def test_waves_hold_every_service_once_and_after_what_it_needs(graph: dict[int, set[int]]) -> None:
    names = {number: f"s{number}" for number in graph}
    services = {
        names[number]: {
            "engine": "postgres",
            "database": f"db{number}",
            "migrations": "m",
            "depends_on": sorted(names[other] for other in needs if other in names and other < number),
        }
        for number, needs in graph.items()
    }
    found = Fleet.model_validate({"environments": {"dev": {}}, "services": services})
    waves = found.order()
    position = {name: index for index, wave in enumerate(waves) for name in wave}
    assert sorted(name for wave in waves for name in wave) == sorted(services)
    for name, service in services.items():
        assert all(position[other] < position[name] for other in service["depends_on"])


JOB = """\
environments: {dev: {suffix: _dev}}
job:
  image: "registry.example/{service}"
  service_account: "{service}-migration"
services:
  orders: {engine: postgres, database: orders_db, migrations: orders/sql}
  reports:
    engine: clickhouse
    database: reports_db
    migrations: ./reports/sql
    job: {directory: /srv/sql, secret: reports-secret}
"""


def test_what_a_job_needs_has_defaults_and_a_service_overrides_field_by_field() -> None:
    orders, reports = (parsed(JOB).target(name, "dev") for name in ("orders", "reports"))
    assert (orders.job.image, orders.job.directory, orders.job.secret) == (
        "registry.example/orders",
        "/app/orders/sql",
        "orders-postgres-credentials",
    )
    assert (reports.job.image, reports.job.directory, reports.job.secret) == ("registry.example/reports", "/srv/sql", "reports-secret")
    assert reports.job.service_account == "reports-migration"


def test_the_repository_fleet_finds_the_migrations_where_the_recipes_image_has_them() -> None:
    found = fleet.load()
    directories = {name: found.target(name, "dev").job.directory for name in ("auth-service", "identity-service")}
    assert directories == {
        "auth-service": "/app/services/auth-service/migrations",
        "identity-service": "/app/services/identity-service/migrations/postgres",
    }
    assert found.target("audit-service", "prod").job.secret == "audit-service-clickhouse-credentials"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ""),
        ("1.4.2", "registry.example/orders:1.4.2"),
        (":1.4.2", "registry.example/orders:1.4.2"),
        ("sha256:abc", "registry.example/orders@sha256:abc"),
        ("@sha256:abc", "registry.example/orders@sha256:abc"),
        ("other.example/x:1", "other.example/x:1"),
    ],
)
def test_a_run_names_the_image_by_tag_digest_or_whole_reference(given: str, expected: str) -> None:
    assert parsed(JOB).target("orders", "dev").image(given) == expected
    assert parsed(SMALL).target("orders", "dev").image(given) == given


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('  image: "registry.example/x:1"', "has a tag or a digest"),
        ('  image: "registry.example/x@sha256:ab"', "has a tag or a digest"),
        ("  directory: app/migrations", "is not absolute"),
        ('  secret: "{serivce}-db"', '"{serivce}" means nothing'),
        ("  user: 0", "greater than or equal to 1"),
        ("  imgae: x", 'did you mean "image"?'),
    ],
)
def test_bad_flow_a_jobs_section_that_makes_no_sense_is_refused_with_its_line(line: str, words: str) -> None:
    text = JOB.replace("job:\n", f"job:\n{line}\n", 1)
    if "image:" in line and "imgae" not in line:
        text = text.replace('  image: "registry.example/{service}"\n', "", 1)
    error = refused(text)
    assert words in error.describe()
    assert error.where is not None and error.where.line in (line_of(text, "job:"), line_of(text, line))


def test_bad_flow_a_services_own_section_is_checked_too() -> None:
    error = refused(JOB.replace("/srv/sql", "'/srv/{sercive}'"))
    assert error.where is not None and error.where.line == line_of(JOB, "directory: /srv/sql")
    assert "job.directory" in error.message


def test_a_single_value_where_a_list_belongs_is_told_as_one(tmp_path: Path) -> None:
    from tasks.fleet import reading

    path = tmp_path / "fleet.yaml"
    path.write_text(
        "environments:\n  dev: {suffix: _dev}\nservices:\n  a: {engine: postgres, database: a, migrations: a}\n"
        "  b: {engine: postgres, database: b, migrations: b, depends_on: a}\n",
        encoding="utf-8",
    )
    with pytest.raises(errors.GreylagError) as caught:
        reading.load(path)
    assert "services.b.depends_on is a list" in caught.value.describe() and "depends_on: [value]" in caught.value.describe()
