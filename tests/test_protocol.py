"""docs/protocol.md tells of every route, with the role it needs, every limit and every error."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from bundle.data.limits import Limits, variable_of
from monailabel_app.server.access import ROUTES, Role

_ROW = re.compile(r"^\| (GET|HEAD|PUT|POST|DELETE) \| `([^`]+)` \| (\w+|nobody's) \| (.+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def protocol(repository) -> str:
    return (repository / "docs" / "protocol.md").read_text(encoding="utf-8")


def test_its_table_of_routes_is_the_servers(protocol):
    told = {
        (method, path): None if role == "nobody's" else Role[role] for method, path, role, _ in _ROW.findall(protocol)
    }
    assert told == dict(ROUTES)


def test_it_names_every_limit_with_its_variable(protocol):
    named = set(re.findall(r"`(?:MONAI_SAM_MAX|\.\.\.)_([A-Z_]+)`", protocol))
    assert {variable_of(field.name).removeprefix("MONAI_SAM_MAX_") for field in fields(Limits)} <= named


def test_it_names_every_status_that_the_server_refuses_with(protocol, repository):
    table = protocol.split("## Errors")[1].split("\n## ")[0]
    told = {int(number) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for number in row.split(",")}
    code = "\n".join(path.read_text(encoding="utf-8") for path in (repository / "monailabel_app").rglob("*.py"))
    said = {int(number) for number in re.findall(r"(?:status=|status_code=|_refusal\(|_reply\()([45]\d{2})", code)}
    assert said and said <= told


def test_deploy_names_each_test_that_holds_what_it_says(repository):
    text = (repository / "docs" / "deploy.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+\.py)`", text))
    assert named and not {name for name in named if not (repository / "tests" / name).is_file()}
