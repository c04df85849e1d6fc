"""ClickHouse's engine in this process (chdb): the files of deploy/fleet/clickhouse, and an HTTP interface for collectors.

As a program, `clickhouse.py DIRECTORY ADDRESS PORT`, it stands for the server, which cannot be had here: it takes what an exporter
posts to ClickHouse's HTTP interface and hands the query and its data to the engine. As with the server's asynchronous insertions
(wait_for_async_insert=0) the answer does not wait for it: rotel gives up after five seconds, and has then lost records here. What has
been taken is inserted before the program ends.
"""
import json, os, queue, re, signal, sys, tempfile, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

from chdb import session

FILES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../deploy/fleet/clickhouse")


def statements(name):
    """The statements of a file."""
    with open(os.path.join(FILES, name)) as file:
        parts = re.split(r";[ \t]*(?:\n|$)", file.read())
    return [part for part in parts if re.sub(r"--[^\n]*", "", part).strip()]


def queries():
    """The queries of queries.sql by name."""
    with open(os.path.join(FILES, "queries.sql")) as file:
        return dict(re.findall(r"-- name: (\w+)\n(.*?);\n", file.read(), re.S))


class Engine:
    """One database in a directory."""

    def __init__(self, directory):
        self.session = session.Session(directory)

    def close(self):
        self.session.close()

    def run(self, sql, **values):
        wanted = {name: value for name, value in values.items() if "{%s:" % name in sql}
        return self.session.query(sql, params=wanted)

    def rows(self, sql, **values):
        text = str(self.run(sql.rstrip().rstrip(";") + " FORMAT JSONCompactEachRow", **values))
        return [json.loads(line) for line in text.splitlines()]

    def value(self, sql, **values):
        return self.rows(sql, **values)[0][0]

    def script(self, name, **values):
        """Runs a file; returns the seconds of each statement, by the table or what else it makes."""
        took = []
        for statement in statements(name):
            began = time.monotonic()
            self.run(statement, **values)
            title = re.sub(r"--[^\n]*", "", statement).split()
            took.append((" ".join(title[:6]), time.monotonic() - began))
        return took

    def load(self, pattern):
        """Inserts the lines of files."""
        self.run(f"INSERT INTO rsttrace.lines (raw) SELECT line FROM file('{pattern}', 'LineAsString', 'line String')")

    def bytes_of(self, table, column=None):
        """Bytes on disk of a table or one of its columns: compressed, and before."""
        what = f"AND column = '{column}'" if column else ""
        return self.rows(f"SELECT sum(column_data_compressed_bytes), sum(column_data_uncompressed_bytes) FROM system.parts_columns "
                         f"WHERE active AND database = 'rsttrace' AND table = '{table}' {what}")[0]


class Front(BaseHTTPRequestHandler):
    """Takes what is posted. Of the protocol only what the exporters use."""

    protocol_version = "HTTP/1.1"
    # Of this kind a handler of signals may put into it, too.
    taken = queue.SimpleQueue()

    def do_POST(self):
        asked = parse_qs(urlsplit(self.path).query)
        body, query = self.body(), asked.get("query", [""])[0]
        try:
            found = re.fullmatch(r"INSERT INTO (\w+) \(([\w,]+)\) FORMAT (\w+)", query)
            if not found:
                raise ValueError(f"not an insertion: {query}")
            self.taken.put((*found.groups(), body))
            status, text = 200, b""
        except ValueError as error:
            status, text = 500, str(error).encode()
            print(error, file=sys.stderr, flush=True)
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline().strip(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_):
        pass


def insert(engine, table, columns, form, body):
    """Inserts what was posted."""
    types = dict(engine.rows(f"SELECT name, type FROM system.columns WHERE database = 'rsttrace' AND table = '{table}'"))
    structure = ", ".join(f"{column} {types[column]}" for column in columns.split(",")).replace("'", "\\'")
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        engine.run(f"INSERT INTO rsttrace.{table} ({columns}) SELECT * FROM file('{file.name}', '{form}', '{structure}')")


def main(directory, address, port):
    engine = Engine(directory)
    engine.script("schema.sql")
    engine.script("otel.sql")
    server = HTTPServer((address, port), Front)
    signal.signal(signal.SIGTERM, lambda *_: Front.taken.put(None))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    while posted := Front.taken.get():
        insert(engine, *posted)
    engine.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
