"""An OTLP backend with TLS, client certificates and tokens, and an HTTP proxy with credentials:

    backend.py serve JSON    prints "ready"; JSON has
        out          file for what arrives: one JSON object a record
        http, grpc   ports; TLS where there is a certificate
        cert, key    certificate of the server
        client_ca    authority of the certificates that clients need
        token        file with the token that requests need, read for each request
        plan         what happens to the first requests of each way, one entry a request: "ok", "slow SECONDS" (the records are
                     kept, the answer comes late), "status CODE [RETRY_AFTER]", "partial N", "close"
    backend.py proxy PORT USER:PASSWORD LOG    forwards CONNECT and absolute requests, and writes each request's line to LOG
"""

import base64
import gzip
import json
import select
import socket
import ssl
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def serve(settings):
    import grpc
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as service

    lock = threading.Lock()
    plans = {"http": list(settings.get("plan", [])), "grpc": list(settings.get("plan", []))}

    def read(name):
        with open(settings[name], "rb") as file:
            return file.read()

    def planned(way):
        with lock:
            return plans[way].pop(0).split() if plans[way] else ["ok"]

    def is_allowed(authorization):
        return "token" not in settings or authorization == "Bearer " + read("token").decode().strip()

    def value(of):
        kind = of.WhichOneof("value")
        return [value(one) for one in of.array_value.values] if kind == "array_value" else getattr(of, kind)

    def attributes(pairs):
        return {pair.key: value(pair.value) for pair in pairs}

    def keep(way, request, headers, rejected=0):
        lines = []
        for resource in request.resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records[rejected:]:
                    lines.append(json.dumps({
                        "way": way,
                        "time": time.time(),
                        "headers": headers,
                        "resource": attributes(resource.resource.attributes),
                        "attributes": attributes(record.attributes),
                    }) + "\n")
        with lock, open(settings["out"], "a") as out:
            out.writelines(lines)

    class Server(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            # Clients refuse certificates, and have theirs refused: that is what is tested.
            if not isinstance(sys.exc_info()[1], (OSError, ssl.SSLError)):
                super().handle_error(request, client_address)

    class Http(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            headers = {name.lower(): text for name, text in self.headers.items()}
            body = self.rfile.read(int(headers["content-length"]))
            if not is_allowed(headers.get("authorization")):
                # The message repeats what was sent, as some do.
                return self.answer(401, b"no access for " + headers.get("authorization", "").encode())
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            what, *more = planned("http")
            if what == "close":
                self.close_connection = True
                return None
            if what == "status":
                return self.answer(int(more[0]), b"", more[1:])
            answer = logs.ExportLogsServiceResponse()
            rejected = int(more[0]) if what == "partial" else 0
            if rejected:
                answer.partial_success.rejected_log_records = rejected
                answer.partial_success.error_message = "too long"
            keep("http", logs.ExportLogsServiceRequest.FromString(body), headers, rejected)
            if what == "slow":
                time.sleep(float(more[0]))
            return self.answer(200, answer.SerializeToString())

        def answer(self, status, body, retry_after=()):
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf" if status == 200 else "text/plain")
            for seconds in retry_after:
                self.send_header("Retry-After", seconds)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Grpc(service.LogsServiceServicer):
        def Export(self, request, context):
            headers = dict(context.invocation_metadata())
            if not is_allowed(headers.get("authorization")):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no access for " + headers.get("authorization", ""))
            what, *more = planned("grpc")
            if what in ("close", "status"):
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            keep("grpc", request, {name: text for name, text in headers.items() if isinstance(text, str)})
            if what == "slow":
                time.sleep(float(more[0]))
            return logs.ExportLogsServiceResponse()

    is_secure = "cert" in settings
    if "grpc" in settings:
        server = grpc.server(ThreadPoolExecutor(4))
        service.add_LogsServiceServicer_to_server(Grpc(), server)
        address = f"0.0.0.0:{settings['grpc']}"
        if is_secure:
            authority = read("client_ca") if "client_ca" in settings else None
            credentials = grpc.ssl_server_credentials(
                [(read("key"), read("cert"))], authority, require_client_auth=authority is not None
            )
            server.add_secure_port(address, credentials)
        else:
            server.add_insecure_port(address)
        server.start()
    http = Server(("0.0.0.0", settings["http"]), Http)
    if is_secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings["cert"], settings["key"])
        if "client_ca" in settings:
            context.load_verify_locations(settings["client_ca"])
            context.verify_mode = ssl.CERT_REQUIRED
        # The handshake belongs to the thread of the connection.
        http.socket = context.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
    print("ready", flush=True)
    http.serve_forever()


def proxy(port, credentials, log):
    expected = "Basic " + base64.b64encode(credentials.encode()).decode()

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def is_allowed(self):
            with open(log, "a") as out:
                out.write(self.requestline + "\n")
            if self.headers.get("Proxy-Authorization") == expected:
                return True
            self.send_response(407)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False

        def do_CONNECT(self):
            if not self.is_allowed():
                return
            host, port = self.path.rsplit(":", 1)
            with socket.create_connection((host, int(port))) as other:
                self.send_response(200)
                self.end_headers()
                ends = {self.connection: other, other: self.connection}
                while True:
                    for end in select.select(list(ends), [], [])[0]:
                        data = end.recv(65536)
                        if not data:
                            self.close_connection = True
                            return
                        ends[end].sendall(data)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not self.is_allowed():
                return
            authority, path = self.path.split("://", 1)[1].split("/", 1)
            host, port = authority.rsplit(":", 1)
            kept = [f"{name}: {text}" for name, text in self.headers.items() if not name.lower().startswith("proxy-")]
            head = "\r\n".join([f"POST /{path} HTTP/1.1", "Connection: close", *kept]) + "\r\n\r\n"
            with socket.create_connection((host, int(port))) as other:
                other.sendall(head.encode() + body)
                while data := other.recv(65536):
                    self.wfile.write(data)
            self.close_connection = True

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("0.0.0.0", port), Proxy)
    print("ready", flush=True)
    server.serve_forever()


if sys.argv[1] == "serve":
    serve(json.loads(sys.argv[2]))
else:
    proxy(int(sys.argv[2]), sys.argv[3], sys.argv[4])
