"""A receiver of Datadog's series, version 2, decoded by the models of its own client.

Strict: what its client would not send, an unknown field or a value that does not fit, refuses the whole request. The limits
are those that its documentation of the API states.
"""

import json
import re
import time

from datadog_api_client import ApiClient, Configuration
from datadog_api_client.exceptions import OpenApiException
from datadog_api_client.model_utils import ModelNormal, UnparsedObject
from datadog_api_client.v2.model.metric_payload import MetricPayload

from played import Receiver, Refused

SENT, PLAIN = 512_000, 5_242_880
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,199}")
TAG = re.compile(r"[^\W\d_][\w\-:./\\]{0,199}")
# Of the list of units that its documentation has, those that can be meant by what is measured here.
UNITS = {"byte", "nanosecond", "percent"}
CLIENT = ApiClient(Configuration())


def wrong(what):
    raise Refused(400, what)


def without_unknown(value, where):
    """Refuses what the models keep without knowing it, and leave out where it is required."""
    if isinstance(value, UnparsedObject) or getattr(value, "_unparsed", False):
        wrong(f"{where} is none of its values")
    if isinstance(value, ModelNormal):
        unknown = set(value._data_store) - set(value.attribute_map)
        if unknown:
            wrong(f"{where} has the unknown fields {sorted(unknown)}")
        for name, inner in value._data_store.items():
            without_unknown(inner, f"{where}.{name}")
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            without_unknown(inner, f"{where}[{at}]")


def payload(body):
    """The payload, and nothing else."""
    try:
        found = CLIENT.deserialize(body.decode(), (MetricPayload,), True)
    except (OpenApiException, ValueError, TypeError, KeyError) as err:
        raise Refused(400, str(err)) from err
    without_unknown(found, "payload")
    # What the models make of it again is what came: nothing was changed on the way into them.
    if found.to_dict() != json.loads(body):
        wrong("it is another payload when it comes out of the models")
    return found


def points(found):
    now = time.time()
    for series in found.series:
        if "metric" not in series or "points" not in series or not series.points:
            wrong("a series without a metric or points")
        if not NAME.fullmatch(series.metric):
            wrong(f"the name {series.metric!r}")
        tags = list(series.tags) if "tags" in series else []
        for tag in tags:
            if not TAG.fullmatch(tag):
                wrong(f"the tag {tag!r}")
        unit = series.unit if "unit" in series else None
        if unit is not None and unit not in UNITS:
            wrong(f"the unit {unit!r}")
        resources = series.resources if "resources" in series else []
        for point in series.points:
            if not now - 3600 <= point.timestamp <= now + 600:
                wrong(f"{series.metric} is too old, or from the future: {point.timestamp}")
            yield {
                "metric": series.metric, "type": series.type.value if "type" in series else None, "unit": unit, "tags": sorted(tags),
                "resources": [[it.type, it.name] for it in resources],
                "timestamp": point.timestamp, "value": point.value,
            }


class Datadog(Receiver):
    def __init__(self):
        super().__init__()
        self.arguments.add_argument("--key", required=True)

    def take(self, request):
        if request.method != "POST" or request.path != "/api/v2/series":
            raise Refused(404, "Not found")
        if request.headers.get("dd-api-key") != self.options.key:
            raise Refused(403, "Forbidden")
        if request.headers.get("content-type") != "application/json":
            raise Refused(415, "not application/json")
        if len(request.sent) > SENT:
            raise Refused(413, "Payload too large")
        request.unpack(["identity", "deflate", "gzip"])
        if len(request.body) > PLAIN:
            raise Refused(413, "Payload too large")
        ordered = self.ordered()
        if ordered:
            status = ordered["status"]
            return status, ordered.get("headers", {}), self.refusal(status, f"ordered: {status}")
        for point in list(points(payload(request.body))):
            self.write("taken", point)
        return 202, {}, b'{"errors":[]}'

    def refusal(self, status, why):
        return json.dumps({"errors": [why]}).encode()


if __name__ == "__main__":
    receiver = Datadog()
    receiver.parse()
    receiver.serve()
