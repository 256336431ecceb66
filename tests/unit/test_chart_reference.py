"""docs/chart-values.md is what the charts say of their values."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from deployments.chart import reference
from tests import chart_cases as cases

CHARTS = cases.ROOT / "deployments" / "chart"


def load(chart: str) -> tuple[Any, Any]:
    defaults = yaml.safe_load((CHARTS / chart / "values.yaml").read_text(encoding="utf-8"))
    return defaults, json.loads((CHARTS / chart / "values.schema.json").read_text(encoding="utf-8"))


def test_the_page_is_the_one_that_is_written() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "python -m deployments.chart.reference"


@pytest.mark.parametrize("chart", ["greylag", "service"])
def test_schema_and_defaults_know_the_same_values(chart: str) -> None:
    def compare(defaults: Any, schema: Any, path: str) -> None:
        known = set(schema["properties"]) - {"global", "migration"}
        told = set(defaults) - {"global"}
        optional = {"http_port"} if path.endswith("keys") else set()
        if path.endswith("secretKeys"):
            return
        assert known - optional == told, path
        for name in told:
            if "properties" in schema["properties"][name]:
                compare(defaults[name], schema["properties"][name], f"{path}.{name}")

    defaults, schema = load(chart)
    compare(defaults, schema, chart)


@pytest.mark.parametrize("chart", ["greylag", "service"])
def test_a_misspelt_value_is_refused_at_every_level(chart: str) -> None:
    def closed(schema: Any, path: str) -> None:
        if "properties" in schema:
            assert schema["additionalProperties"] is False, path
            for name, below in schema["properties"].items():
                closed(below, f"{path}.{name}")

    closed(load(chart)[1], chart)


@pytest.mark.parametrize("chart", ["greylag", "service"])
def test_every_value_of_the_page_is_a_value_of_the_chart(chart: str) -> None:
    defaults, _ = load(chart)
    found = list(reference.read((CHARTS / chart / "values.yaml").read_text(encoding="utf-8")))
    assert len(found) > 20
    for value in found:
        place = defaults
        for name in value.path.split("."):
            place = place[name]
        if value.default:
            assert yaml.safe_load(value.default) == place, value.path


def test_comments_stand_above_their_value_and_nothing_else() -> None:
    text = "# a header\n\n# one\n# and two\na: 1\nb:\n  # three\n  c: {d: e}\n  f:\n    g: 2\n"
    assert list(reference.read(text)) == [
        reference.Value("a", "1", "one and two"),
        reference.Value("b.c", "{d: e}", "three"),
        reference.Value("b.f.g", "2", ""),
    ]
