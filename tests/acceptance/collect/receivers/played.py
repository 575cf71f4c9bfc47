"""What the played receivers share: HTTP on a free port, answers that were ordered, and a record of what came.

A receiver prints `listens on PORT`. In its folder it writes, a JSON object a line and before it answers: `requests`, with
each request and the status of its answer, and `taken`, with what it took. `--answers` is a JSON list of answers that it gives
first, in order, to requests that it would take.
"""

import argparse
import collections
import gzip
import json
import pathlib
import sys
import threading
import urllib.parse
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Refused(Exception):
    """What the service answers instead of taking a request."""

    def __init__(self, status, why):
        super().__init__(why)
        self.status = status
        self.why = why


class Request:
    """A request with its body as it was sent, and unpacked."""

    def __init__(self, method, target, headers, sent):
        place = urllib.parse.urlsplit(target)
        self.method, self.path = method, place.path
        self.query = dict(urllib.parse.parse_qsl(place.query, keep_blank_values=True))
        self.headers, self.sent = headers, sent
        self.body = sent

    def unpack(self, encodings):
        """Unpacks the body, whose encoding has to be one of those that the service takes."""
        encoding = self.headers.get("content-encoding", "identity")
        if encoding not in encodings:
            raise Refused(415, f"the encoding {encoding}")
        try:
            if encoding == "gzip":
                self.body = gzip.decompress(self.sent)
            elif encoding == "deflate":
                # HTTP's deflate is zlib's format, and not the bare one.
                self.body = zlib.decompress(self.sent)
        except (OSError, EOFError, zlib.error) as err:
            raise Refused(400, f"the body is no {encoding}: {err}") from err


class Receiver:
    """A service. Each kind says what it takes, and how its answers look."""

    content_type = "application/json"
    headers = {}

    def __init__(self):
        self.arguments = argparse.ArgumentParser()
        self.arguments.add_argument("--folder", type=pathlib.Path, required=True)
        self.arguments.add_argument("--port", type=int, default=0)
        self.arguments.add_argument("--answers", type=json.loads, default=[])

    def parse(self, arguments=None):
        self.options = self.arguments.parse_args(arguments)
        self.answers = collections.deque(self.options.answers)
        self.options.folder.mkdir(parents=True, exist_ok=True)
        self.files = {it: open(self.options.folder / it, "a", encoding="utf-8") for it in ("requests", "taken")}
        self.lock = threading.Lock()
        # What is to be noted of the request in hand, beside what is noted of each.
        self.noted = {}

    def write(self, name, value):
        self.files[name].write(json.dumps(value) + "\n")
        self.files[name].flush()

    def ordered(self):
        """The next answer that was ordered, as `{"status", "headers", …}`."""
        return self.answers.popleft() if self.answers else None

    def take(self, request):
        """Answers with a status, headers and bytes."""
        raise NotImplementedError

    def refusal(self, status, why):
        """The body of an answer that refuses."""
        raise NotImplementedError

    def answer(self, request):
        with self.lock:
            try:
                status, headers, body = self.take(request)
            except Refused as refused:
                status, headers, body = refused.status, {}, self.refusal(refused.status, refused.why)
            self.write("requests", {
                "method": request.method, "path": request.path, "query": request.query,
                "headers": {name.lower(): value for name, value in request.headers.items()},
                "sent": len(request.sent), "plain": len(request.body), "status": status, **self.noted,
            })
            self.noted = {}
            return status, headers, body

    def serve(self, more=""):
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # One write an answer; with two of them the second one waits for the other end's word.
            wbufsize = -1

            def any_method(self):
                length = int(self.headers.get("content-length") or 0)
                sent = self.rfile.read(length)
                if len(sent) < length:
                    # Who was killed half way has sent nothing.
                    self.close_connection = True
                    return
                request = Request(self.command, self.path, self.headers, sent)
                status, headers, body = receiver.answer(request)
                self.send_response(status)
                for name, value in {"Content-Type": receiver.content_type, **receiver.headers, **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = any_method

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                # Who was killed does not want its answer.
                if not isinstance(sys.exc_info()[1], ConnectionError):
                    super().handle_error(request, client_address)

        server = Server(("127.0.0.1", self.options.port), Handler)
        print(f"listens on {server.server_address[1]}{more}", flush=True)
        server.serve_forever()
