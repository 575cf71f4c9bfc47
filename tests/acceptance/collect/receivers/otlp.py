"""A receiver of OpenTelemetry's metrics by HTTP and by gRPC, decoded by its own generated classes.

Strict: a field that is not in the protocol, or a point that its data model does not allow, refuses the whole request.
"""

import re
from concurrent import futures

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service
from opentelemetry.proto.metrics.v1 import metrics_pb2

from played import Receiver, Refused

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,254}")
CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE


def wrong(what):
    raise Refused(400, what)


def without_unknown(message):
    """Refuses fields that the protocol does not have, however deep."""
    if len(UnknownFieldSet(message)):
        wrong(f"unknown fields in {message.DESCRIPTOR.full_name}")
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                without_unknown(inner)


def attributes(pairs):
    """Attributes as an object; their names are there once each."""
    found = {}
    for pair in pairs:
        if not pair.key or pair.key in found:
            wrong(f"the attribute {pair.key!r} is empty or there twice")
        if pair.value.WhichOneof("value") != "string_value":
            wrong(f"the attribute {pair.key!r} is no text")
        found[pair.key] = pair.value.string_value
    return found


def point(data):
    """A number of a gauge or of a sum."""
    which = data.WhichOneof("value")
    if which is None:
        wrong("a point without a value")
    if not data.time_unix_nano or data.start_time_unix_nano > data.time_unix_nano:
        wrong("a point without a time, or before its start")
    return {
        "time": data.time_unix_nano, "start": data.start_time_unix_nano, "flags": data.flags,
        "type": {"as_int": "int", "as_double": "double"}[which], "value": getattr(data, which),
        "attributes": attributes(data.attributes),
    }


def points(request):
    """All points of a request, each with everything that is said of it."""
    found, seen = [], set()
    for of_resource in request.resource_metrics:
        resource = attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_metrics:
            scope = {"name": of_scope.scope.name, "version": of_scope.scope.version}
            for metric in of_scope.metrics:
                if not NAME.fullmatch(metric.name):
                    wrong(f"the name {metric.name!r}")
                kind = metric.WhichOneof("data")
                if kind not in ("gauge", "sum"):
                    wrong(f"{metric.name} is neither a gauge nor a sum, but {kind}")
                data = getattr(metric, kind)
                told = {"resource": resource, "scope": scope, "name": metric.name, "unit": metric.unit,
                        "description": metric.description, "kind": kind}
                if kind == "sum":
                    if data.aggregation_temporality != CUMULATIVE:
                        wrong(f"{metric.name} is a sum that is not cumulative")
                    told["monotonic"] = data.is_monotonic
                if not data.data_points:
                    wrong(f"{metric.name} has no points")
                for one in data.data_points:
                    all_of_it = {**told, **point(one)}
                    identity = (tuple(sorted(resource.items())), metric.name, one.time_unix_nano,
                                tuple(sorted(all_of_it["attributes"].items())))
                    if identity in seen:
                        wrong(f"{metric.name} is there twice at one time")
                    seen.add(identity)
                    found.append(all_of_it)
    return found


class Otlp(Receiver):
    content_type = "application/x-protobuf"

    def __init__(self):
        super().__init__()
        self.arguments.add_argument("--refuse", default="", help="the name of a metric whose points are refused")

    def judged(self, request, by):
        """Takes what it is to take, and says of the rest that it is refused in part."""
        without_unknown(request)
        found = points(request)
        kept = [it for it in found if it["name"] != self.options.refuse]
        for one in kept:
            self.write("taken", {**one, "by": by})
        answer = service.ExportMetricsServiceResponse()
        if len(kept) < len(found):
            answer.partial_success.rejected_data_points = len(found) - len(kept)
            answer.partial_success.error_message = f"{self.options.refuse} is refused"
        return answer

    def take(self, request):
        if request.path != "/v1/metrics":
            raise Refused(404, "no such path")
        if request.method != "POST":
            raise Refused(405, "only POST")
        if request.headers.get("content-type") != "application/x-protobuf":
            raise Refused(415, "not application/x-protobuf")
        request.unpack(["identity", "gzip"])
        try:
            message = service.ExportMetricsServiceRequest.FromString(request.body)
        except DecodeError as err:
            raise Refused(400, str(err)) from err
        ordered = self.ordered()
        if ordered:
            status = ordered["status"]
            return status, ordered.get("headers", {}), self.refusal(status, f"ordered: {status}")
        return 200, {}, self.judged(message, "http").SerializeToString()

    def refusal(self, status, why):
        code = grpc.StatusCode.INVALID_ARGUMENT if status < 429 else grpc.StatusCode.UNAVAILABLE
        return Status(code=code.value[0], message=why).SerializeToString()

    def export(self, message, context):
        """The one method of the service by gRPC."""
        with self.lock:
            metadata = {it.key: it.value for it in context.invocation_metadata() if isinstance(it.value, str)}
            told = {"method": "gRPC", "path": "Export", "headers": metadata, "plain": message.ByteSize()}
            ordered = self.ordered()
            try:
                if ordered:
                    self.write("requests", {**told, "status": ordered["grpc"]})
                    code = getattr(grpc.StatusCode, ordered["grpc"])
                    if "retry_s" in ordered:
                        status = Status(code=code.value[0], message="ordered")
                        status.details.add().Pack(RetryInfo(retry_delay=Duration(seconds=ordered["retry_s"])))
                        details = status.SerializeToString()
                        context.set_trailing_metadata((("grpc-status-details-bin", details),))
                    context.abort(code, "ordered")
                answer = self.judged(message, "grpc")
            except Refused as refused:
                self.write("requests", {**told, "status": "INVALID_ARGUMENT"})
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, refused.why)
            self.write("requests", {**told, "status": "OK"})
            return answer

    def listen(self):
        """Serves gRPC too, and answers on which port."""
        handler = grpc.unary_unary_rpc_method_handler(
            self.export,
            request_deserializer=service.ExportMetricsServiceRequest.FromString,
            response_serializer=service.ExportMetricsServiceResponse.SerializeToString,
        )
        name = "opentelemetry.proto.collector.metrics.v1.MetricsService"
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, {"Export": handler})])
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        return port


if __name__ == "__main__":
    receiver = Otlp()
    receiver.parse()
    receiver.serve(f", by gRPC on {receiver.listen()}")
