"""A receiver of Elasticsearch's `_bulk`, with what a real one says of documents that do not fit its mapping.

It maps as Elasticsearch does unless told otherwise: names with dots are objects in objects, the first value of a field decides
its type, and what has another type is refused, that document alone. Index templates may turn `subobjects` off. What it took
comes out by `/INDEX/_doc/ID`, `/INDEX/_count` and `/INDEX/_mapping`.
"""

import collections
import fnmatch
import json
import re

from played import Receiver, Refused

LONGS = range(-(2**63), 2**63)
DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\d([.,]\d{1,9})?)?)?(Z|[+-]\d\d(:?\d\d)?)?)?)?)?")
FIELDS, DEPTH = 1000, 20


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


class Unfit(Exception):
    """Why a document does not fit."""


class Index:
    """Fields by their whole names, and documents by their ids."""

    def __init__(self, mappings):
        self.types, self.flat, self.documents = {}, set(), {}
        self.declare(mappings, "")

    def declare(self, mappings, path):
        if mappings.get("subobjects") is False:
            self.flat.add(path)
        for name, field in mappings.get("properties", {}).items():
            whole = f"{path}.{name}" if path else name
            self.types[whole] = field.get("type", "object")
            self.declare(field, whole)

    def fit(self, name, document):
        """Adds the fields of a document, all or none."""
        fitting = Fitting(self, name)
        fitting.fields("", document)
        # A text has a second field for its keyword.
        counted = {**self.types, **fitting.added}.values()
        if fitting.added and len(counted) + sum(it == "text" for it in counted) > FIELDS:
            raise Unfit(f"Limit of total fields [{FIELDS}] has been exceeded")
        self.types.update(fitting.added)


class Fitting:
    """One document on its way into a mapping."""

    def __init__(self, index, name):
        self.index, self.name, self.added = index, name, {}

    def type(self, path):
        return self.added.get(path) or self.index.types.get(path)

    def fields(self, path, document):
        flat = any(path == it or path.startswith(f"{it}." if it else "") for it in self.index.flat)
        for key, value in document.items():
            if not key.strip():
                raise Unfit("field name cannot contain only whitespace" if key else "field name cannot be an empty string")
            *above, last = [key] if flat else key.split(".")
            if not all(it.strip() for it in [*above, last]):
                raise Unfit(f"field name starting or ending with a [.] makes object resolution ambiguous: [{key}]")
            whole = path
            for part in above:
                whole = f"{whole}.{part}" if whole else part
                known = self.type(whole)
                if known not in (None, "object"):
                    raise Unfit(f"Could not dynamically add mapping for field [{path}.{key}]. Existing mapping for "
                                f"[{whole}] must be of type object but found [{known}].")
                self.added.setdefault(whole, "object")
            self.field(f"{whole}.{last}" if whole else last, value, flat)

    def field(self, path, value, flat):
        if path.count(".") >= DEPTH and not flat:
            raise Unfit(f"Limit of mapping depth [{DEPTH}] has been exceeded due to object field [{path}]")
        if value is None:
            return
        if isinstance(value, list):
            for one in value:
                self.field(path, one, flat)
            return
        known = self.type(path)
        if isinstance(value, dict):
            if flat:
                for key, inner in value.items():
                    self.field(f"{path}.{key}", inner, flat)
                return
            if known not in (None, "object"):
                raise Unfit(f"failed to parse field [{path}] of type [{known}] in document with id '{self.name}'. "
                            f"Preview of field's value: '{value}'")
            self.added.setdefault(path, "object")
            self.fields(path, value)
            return
        if known == "object":
            raise Unfit(f"object mapping for [{path}] tried to parse field [{path.rsplit('.', 1)[-1]}] as object, but found "
                        "a concrete value")
        if known is None:
            known = self.added[path] = first_type(value)
        if not fits(known, value):
            raise Unfit(f"failed to parse field [{path}] of type [{known}] in document with id '{self.name}'. "
                        f"Preview of field's value: '{value}'")


def first_type(value):
    """The type that a field gets by the first value that it has."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "long"
    if isinstance(value, float):
        return "float"
    # What could be a number is never taken for a date.
    return "date" if DATE.fullmatch(value) and not is_number(value) else "text"


def fits(known, value):
    if known == "boolean":
        return isinstance(value, bool) or value in ("true", "false", "")
    if known in ("long", "float", "double"):
        if isinstance(value, bool) or (isinstance(value, str) and not is_number(value)):
            return False
        return known != "long" or int(float(value) if isinstance(value, str) else value) in LONGS
    if known == "date":
        return not isinstance(value, (bool, float)) and (isinstance(value, int) or DATE.fullmatch(value) is not None)
    # Texts take every value, and so does what this receiver does not know.
    return True


def filtered(value, paths):
    """What is left of an answer by `filter_path`."""
    if isinstance(value, list):
        kept = [filtered(it, paths) for it in value]
        return [it for it in kept if it not in ({}, [])]
    if not isinstance(value, dict):
        return value
    left = {}
    for key, inner in value.items():
        below = [rest for first, *rest in paths if fnmatch.fnmatchcase(key, first)]
        if any(not rest for rest in below):
            left[key] = inner
        elif below and isinstance(inner, (dict, list)):
            inner = filtered(inner, below)
            if inner not in ({}, []):
                left[key] = inner
    return left


class Bulk(Receiver):
    # Its clients refuse a server that does not say so.
    headers = {"X-Elastic-Product": "Elasticsearch"}

    def __init__(self):
        super().__init__()
        self.arguments.add_argument("--api-key")
        self.arguments.add_argument("--templates", type=json.loads, default={})
        self.indices = {}

    def parse(self, arguments=None):
        super().parse(arguments)
        self.templates = self.options.templates

    def index(self, name):
        if name not in self.indices:
            fitting = [it for it in self.templates.values() if any(fnmatch.fnmatchcase(name, p) for p in it["index_patterns"])]
            best = max(fitting, key=lambda it: it.get("priority", 0), default={})
            self.indices[name] = Index(best.get("template", {}).get("mappings", {}))
        return self.indices[name]

    def take(self, request):
        key = self.options.api_key
        if key and request.headers.get("authorization") != f"ApiKey {key}":
            raise Refused(401, "unable to authenticate with the provided credentials")
        kind = request.headers.get("content-type")
        accept = request.headers.get("accept") or ""
        status, answer = self.routed(request, kind)
        if "filter_path" in request.query:
            answer = filtered(answer, [it.split(".") for it in request.query["filter_path"].split(",")])
        headers = {"Content-Type": accept} if accept.startswith("application/vnd.elasticsearch+json") else {}
        return status, headers, json.dumps(answer).encode()

    def routed(self, request, kind):
        parts = request.path.strip("/").split("/")
        if request.path == "/":
            return 200, {"name": "played", "cluster_name": "played", "version": {"number": "9.5.1"}, "tagline": "You Know, for Search"}
        if parts[-1] == "_bulk" and request.method in ("POST", "PUT"):
            if not kind or kind.split(";")[0] not in ("application/json", "application/x-ndjson", "application/vnd.elasticsearch+x-ndjson"):
                raise Refused(406, f"Content-Type header [{kind}] is not supported")
            request.unpack(["identity", "gzip"])
            return self.bulk(request, parts[0] if len(parts) > 1 else None)
        if parts[0] == "_index_template" and request.method == "PUT":
            self.templates[parts[1]] = json.loads(request.body)
            return 200, {"acknowledged": True}
        if parts[0] in self.indices:
            index = self.indices[parts[0]]
            match parts[1:]:
                case ["_refresh"]:
                    return 200, {"_shards": {"total": 1, "successful": 1, "failed": 0}}
                case ["_count"]:
                    return 200, {"count": len(index.documents), "_shards": {"total": 1, "successful": 1, "failed": 0}}
                case ["_mapping"]:
                    return 200, {parts[0]: {"types": index.types}}
                case ["_doc", name] if name in index.documents:
                    return 200, {"_index": parts[0], "_id": name, "found": True, "_source": index.documents[name]}
                case ["_doc", name]:
                    return 404, {"_index": parts[0], "_id": name, "found": False}
        raise Refused(404, f"no handler found for uri [{request.path}], or no such index")

    def bulk(self, request, default):
        if not request.body.endswith(b"\n"):
            raise Refused(400, "The bulk request must be terminated by a newline [\\n]")
        # Each document may have its own: of a list of statuses, those that are not null are given.
        ordered = self.ordered()
        # With `late` the documents are taken before that answer, as by a server that dies in between.
        if ordered and "status" in ordered and not ordered.get("late"):
            raise Refused(ordered["status"], f"ordered: {ordered['status']}")
        each = iter((ordered or {}).get("documents", []))
        lines = iter(request.body.split(b"\n")[:-1])
        items = []
        for line in lines:
            try:
                (action, at), = json.loads(line).items()
                source = json.loads(next(lines))
            except (ValueError, StopIteration) as err:
                raise Refused(400, f"Malformed action/metadata line [{len(items) * 2 + 1}]: {err}") from err
            if action not in ("create", "index") or set(at) - {"_index", "_id"}:
                raise Refused(400, f"Malformed action/metadata line, found [{action}] of {sorted(at)}")
            items.append({action: self.document(action, at, source, default, next(each, None))})
        told = [item for one in items for item in one.values()]
        self.noted = {"documents": dict(collections.Counter(it["status"] for it in told)),
                      "errors": [it["error"] for it in told if "error" in it and it["status"] != 409]}
        if ordered and ordered.get("late"):
            raise Refused(ordered["status"], f"ordered: {ordered['status']}")
        errors = any("error" in it for it in told)
        return 200, {"took": 1, "errors": errors, "items": items}

    def document(self, action, at, source, default, ordered):
        name = at.get("_index", default)
        told = {"_index": name, "_id": at.get("_id")}
        if ordered:
            kind = "es_rejected_execution_exception" if ordered == 429 else "ordered"
            return {**told, "status": ordered, "error": {"type": kind, "reason": "ordered"}}
        if not name or name != name.lower() or set(name) & set('\\/*?"<>| ,#:') or name[0] in "-_+":
            error = {"type": "invalid_index_name_exception", "reason": f"Invalid index name [{name}]"}
            return {**told, "status": 400, "error": error}
        index = self.index(name)
        identity = told["_id"] = at.get("_id") or f"auto-{len(index.documents)}"
        there = identity in index.documents
        if there and action == "create":
            reason = f"[{identity}]: version conflict, document already exists (current version [1])"
            return {**told, "status": 409, "error": {"type": "version_conflict_engine_exception", "reason": reason}}
        try:
            index.fit(identity, source)
        except Unfit as err:
            return {**told, "status": 400, "error": {"type": "document_parsing_exception", "reason": f"[1:1] {err}"}}
        index.documents[identity] = source
        self.write("taken", {"index": name, "id": identity, "source": source})
        done = {"_version": 1 + there, "result": "updated" if there else "created"}
        return {**told, **done, "_shards": {"total": 2, "successful": 1, "failed": 0}, "status": 200 if there else 201}

    def refusal(self, status, why):
        kinds = {401: "security_exception", 413: "content_too_long_exception", 429: "circuit_breaking_exception"}
        error = {"type": kinds.get(status, "illegal_argument_exception"), "reason": why}
        return json.dumps({"error": {"root_cause": [error], **error}, "status": status}).encode()


if __name__ == "__main__":
    receiver = Bulk()
    receiver.parse()
    receiver.serve()
