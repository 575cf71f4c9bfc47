"""The official clients against the played receivers: they have to be told what the services would tell them.

`clients.py KIND FOLDER` starts the receiver of that kind and tries it.
"""

import json
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent


def expect(found, expected, what):
    if found != expected:
        raise SystemExit(f"{what}: expected {expected!r}, found {found!r}")


class Played:
    def __init__(self, kind, folder, *arguments):
        self.folder = folder
        command = [sys.executable, HERE / f"{kind}.py", "--folder", folder, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.told = self.process.stdout.readline()
        self.port = int(self.told.split("listens on ")[1].split(",")[0])
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def lines(self, name):
        return [json.loads(it) for it in (self.folder / name).read_text(encoding="utf-8").splitlines()]


def bulk(folder):
    from elasticsearch import ApiError, Elasticsearch, helpers

    key = "not-a-real-key"
    answers = json.dumps([{"status": 429}, {"documents": [None, 429]}])
    with Played("bulk", folder, "--api-key", key) as played:
        try:
            Elasticsearch(played.url, api_key="another", max_retries=0).info()
        except ApiError as err:
            expect(err.status_code, 401, "another key")
        client = Elasticsearch(played.url, api_key=key, max_retries=0)
        expect(client.info()["version"]["number"], "9.5.1", "info")

        def create(name, source, index="m", action="create"):
            return {"_op_type": action, "_index": index, "_id": name, **source}

        def errors(actions):
            _, found = helpers.bulk(client, actions, raise_on_error=False)
            items = [next(iter(it.values())) for it in found]
            return [(it["status"], it["error"]["type"]) for it in items]

        expect(helpers.bulk(client, [create(f"a{it}", {"n": it}) for it in range(600)]), (600, []), "600 documents")
        expect(client.count(index="m")["count"], 600, "count")
        expect(client.get(index="m", id="a7")["_source"], {"n": 7}, "a document")
        conflict = (409, "version_conflict_engine_exception")
        expect(errors([create("a7", {"n": 8}), create("b", {"n": 9})]), [conflict], "an id that is there")
        expect(client.get(index="m", id="a7")["_source"], {"n": 7}, "it is as it was")
        expect(errors([create("a7", {"n": 8}, action="index")]), [], "written over")
        try:
            helpers.bulk(client, [create("a7", {"n": 8})])
            raise SystemExit("a conflict raised nothing")
        except helpers.BulkIndexError as err:
            expect(err.errors[0]["create"]["status"], 409, "what is raised")
        unfit = (400, "document_parsing_exception")
        expect(errors([create("c1", {"n": "many"}), create("c2", {"n": "12"}), create("c3", {"n": True})]),
               [unfit, unfit], "texts and flags for numbers")
        expect(errors([create("d1", {"p": {"some": 1}}), create("d2", {"p": {"some.avg": 2}})]), [unfit], "an object below a number")
        expect(errors([create("d3", {"q.some.avg": 1}), create("d4", {"q": {"some": 2}})]), [unfit], "a number above a number")
        expect(errors([create("d5", {"r": {"some": 1, "some.avg": 2}})]), [unfit], "both in one document")
        expect("r" in client.indices.get_mapping(index="m")["m"]["types"], False, "what is refused adds no field")
        expect(errors([create("e1", {"day": "2026-11-29"}), create("e2", {"day": "Sunday"})]), [unfit], "a day, then none")
        expect(errors([create("e3", {"year": "2026"}), create("e4", {"year": "none"})]), [], "a number is no day")
        expect(errors([create("f1", {"big": 2**63 - 1}), create("f2", {"big": 2**63})]), [unfit], "beyond a long")
        wide = [create(f"g{it}", {f"w{it}_{n}": n for n in range(600)}, "wide") for it in range(2)]
        expect(errors(wide), [unfit], "more fields than 1000")
        expect(errors([create("h", {"n": 1}, "Upper")]), [(400, "invalid_index_name_exception")], "a name in capitals")
        client.indices.put_index_template(name="t", index_patterns=["flat-*"], template={"mappings": {"subobjects": False}})
        expect(errors([create("i", {"r": {"some": 1, "some.avg": 2}}, "flat-1")]), [], "without objects both fit")
        tried = client.bulk(body=b'{"create":{"_index":"m","_id":"z"}}\n{"n":1}\n', filter_path="errors,items.*.status")
        expect(tried.body, {"errors": False, "items": [{"create": {"status": 201}}]}, "filtered")
    with Played("bulk", folder / "busy", "--answers", answers) as played:
        client = Elasticsearch(played.url, max_retries=0)
        try:
            client.bulk(operations=[{"create": {"_index": "m"}}, {"n": 1}])
            raise SystemExit("429 raised nothing")
        except ApiError as err:
            expect(err.status_code, 429, "busy")
        done = helpers.bulk(client, [create(f"a{it}", {"n": it}) for it in range(3)], max_retries=2,
                            initial_backoff=0.01, raise_on_error=False)
        expect(done, (3, []), "what is busy is sent again by itself")
        expect(len(played.lines("taken")), 3, "and is there once")


def datadog(folder):
    from datadog_api_client import ApiClient, Configuration
    from datadog_api_client.exceptions import ApiException
    from datadog_api_client.v2.api.metrics_api import MetricsApi
    from datadog_api_client.v2.model.metric_content_encoding import MetricContentEncoding
    from datadog_api_client.v2.model.metric_intake_type import MetricIntakeType
    from datadog_api_client.v2.model.metric_payload import MetricPayload
    from datadog_api_client.v2.model.metric_point import MetricPoint
    from datadog_api_client.v2.model.metric_resource import MetricResource
    from datadog_api_client.v2.model.metric_series import MetricSeries

    def series(metric="a.b", at=None, **more):
        points = [MetricPoint(timestamp=int(at or time.time()), value=0.7)]
        return MetricSeries(metric=metric, type=MetricIntakeType.GAUGE, points=points, **more)

    def submit(played, key, found, **more):
        configuration = Configuration(host=played.url)
        configuration.api_key["apiKeyAuth"] = key
        with ApiClient(configuration) as client:
            try:
                MetricsApi(client).submit_metrics(body=MetricPayload(series=found), **more)
                return 202
            except ApiException as err:
                return err.status

    answers = json.dumps([{"status": 429, "headers": {"X-RateLimit-Reset": "1"}}])
    with Played("datadog", folder, "--key", "k", "--answers", answers) as played:
        expect(submit(played, "another", [series()]), 403, "another key")
        expect(submit(played, "k", [series()]), 429, "too often")
        host = [MetricResource(name="h", type="host")]
        found = [series(resources=host, tags=["env:test"], unit="byte")]
        for encoding in (None, MetricContentEncoding.DEFLATE, MetricContentEncoding.GZIP):
            more = {"content_encoding": encoding} if encoding else {}
            expect(submit(played, "k", found, **more), 202, str(encoding))
        taken = played.lines("taken")
        expect([taken[0][it] for it in ("metric", "value", "tags", "resources", "unit")],
               ["a.b", 0.7, ["env:test"], [["host", "h"]], "byte"], "what was taken")
        expect(len(taken), 3, "one each")
        expect(submit(played, "k", [series(at=time.time() - 7200)]), 400, "two hours old")
        expect(submit(played, "k", [series(metric="1st")]), 400, "a name that begins with a digit")
        large = [series(tags=[f"t:{'x' * 190}"])] * 20_000
        expect(submit(played, "k", large, content_encoding=MetricContentEncoding.DEFLATE), 413, "beyond 5 MiB")
        expect(submit(played, "k", large[:2000]), 413, "beyond 512,000 bytes as it is sent")


def otlp(folder):
    import urllib.error
    import urllib.request

    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as ByGrpc
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as ByHttp
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource

    with Played("otlp", folder) as played:
        grpc_port = played.told.strip().rsplit(" ", 1)[1]
        exporters = {
            "http": ByHttp(endpoint=f"{played.url}/v1/metrics", compression=Compression.Gzip),
            "grpc": ByGrpc(endpoint=f"http://127.0.0.1:{grpc_port}", insecure=True),
        }
        for by, exporter in exporters.items():
            reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1e9)
            provider = MeterProvider([reader], resource=Resource({"env": "test"}))
            meter = provider.get_meter("tried")
            meter.create_counter("requests", unit="1").add(7, {"path": "/"})
            meter.create_gauge("level", unit="%").set(0.25)
            expect(provider.force_flush(), True, by)
            provider.shutdown()
            found = {it["name"]: it for it in played.lines("taken") if it["by"] == by}
            counter, gauge = found["requests"], found["level"]
            expect([counter[it] for it in ("kind", "monotonic", "type", "value", "attributes", "unit")],
                   ["sum", True, "int", 7, {"path": "/"}, "1"], by)
            expect([gauge[it] for it in ("kind", "type", "value")], ["gauge", "double", 0.25], by)
            expect(gauge["resource"]["env"], "test", by)

        def post(body):
            headers = {"content-type": "application/x-protobuf"}
            try:
                return urllib.request.urlopen(urllib.request.Request(f"{played.url}/v1/metrics", body, headers)).status
            except urllib.error.HTTPError as err:
                return err.code

        request = ExportMetricsServiceRequest()
        metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
        metric.gauge.data_points.add(time_unix_nano=1, as_int=1)
        expect(post(request.SerializeToString()), 200, "a point")
        expect(post(request.SerializeToString() + b"\xa2\x06\x00"), 400, "an unknown field")
        metric.gauge.data_points.add(time_unix_nano=1, as_int=2)
        expect(post(request.SerializeToString()), 400, "twice at one time")
        expect(post(b"\xff"), 400, "none of its messages")


if __name__ == "__main__":
    {"bulk": bulk, "datadog": datadog, "otlp": otlp}[sys.argv[1]](pathlib.Path(sys.argv[2]))
    print(f"{sys.argv[1]}: as documented")
