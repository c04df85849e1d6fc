"""A collector that writes the records that it receives to a file, one JSON object per record. It rejects everything for
SECONDS after the first request of each protocol: collector.py HTTP_PORT GRPC_PORT SECONDS FILE"""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as service

http_port, grpc_port, seconds = (int(argument) for argument in sys.argv[1:4])
lock = threading.Lock()
first = {}


def is_refusing(way):
    """Whether it is too early, by this way."""
    with lock:
        start = first.setdefault(way, time.monotonic())
        return time.monotonic() < start + seconds


def attributes(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def keep(way, request):
    lines = []
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                lines.append(json.dumps({
                    "way": way,
                    "resource": attributes(resource.resource.attributes),
                    "scope": scope.scope.name,
                    "time": record.time_unix_nano,
                    "severity": record.severity_number,
                    "body": record.body.string_value,
                    "attributes": attributes(record.attributes),
                }) + "\n")
    with lock, open(sys.argv[4], "a") as out:
        out.writelines(lines)


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/logs" and self.headers["Content-Type"] == "application/x-protobuf"
        if is_refusing("http"):
            self.send_response(503)
            answer = b""
        else:
            keep("http", logs.ExportLogsServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            answer = logs.ExportLogsServiceResponse().SerializeToString()
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Grpc(service.LogsServiceServicer):
    def Export(self, request, context):
        if is_refusing("grpc"):
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        keep("grpc", request)
        return logs.ExportLogsServiceResponse()


server = grpc.server(ThreadPoolExecutor(2))
service.add_LogsServiceServicer_to_server(Grpc(), server)
server.add_insecure_port(f"127.0.0.1:{grpc_port}")
server.start()
http = ThreadingHTTPServer(("127.0.0.1", http_port), Http)
print("ready", flush=True)
http.serve_forever()
