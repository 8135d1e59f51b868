"""The API keeps what its description promises, whatever is sent to it."""

import json
import re

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from worker.ingest.diff import MOST_ENTRIES

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# A piece of an upload is bytes like others; it only has a type of its own.
schemathesis.serializer.alias(
    "application/offset+octet-stream", "application/octet-stream"
)
MAX_EXAMPLES = 5  # of each operation; the same ones each time


def test_no_request_is_answered_against_the_description(app, rows):
    owner = rows.user()
    dataset = rows.dataset(owner)
    rows.forecast(owner, dataset)
    rows.publish(rows.job(owner, dataset, group_key="g"))
    headers = {"Authorization": f"Bearer {rows.token(owner)}"}
    description = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app)
    operations = [found.ok() for found in description.get_all_operations()]

    for operation in operations:
        _try_out(operation, headers)

    assert len(operations) > 20


def test_every_reference_of_the_description_leads_somewhere(app):
    description = app.test_client().get("/api/v1/openapi.json").json

    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(description)))
    assert "#/components/schemas/SourceIn" in references
    for reference in references:
        place = description
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_a_list_that_ends_somewhere_says_where(app):
    paths = app.test_client().get("/api/v1/openapi.json").json["paths"]
    (diff,) = [told["get"] for path, told in paths.items() if path.endswith("/diff")]

    told = f"{diff['summary']} {diff.get('description', '')}"
    assert f"the first {MOST_ENTRIES:,}" in told
    assert "`counts` are of all" in told


def _try_out(operation, headers):
    @settings(
        max_examples=MAX_EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def run(case):
        case.call_and_validate(headers=headers, checks=CHECKS)

    run()
