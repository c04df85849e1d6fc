"""Closed segments on object storage: weed's S3, filled by the files of deploy/fleet/upload, read by DuckDB and ClickHouse's engine."""
import glob, json, os, re, shutil, socket, subprocess, sys

import duckdb, duckdb_extension_httpfs

import collector, lab

HERE = os.path.dirname(os.path.abspath(__file__))
DEPLOY = os.path.join(HERE, "../../deploy/fleet")
KEY, SECRET, BUCKET = "fleet", "fleet-secret", "archive"


def queries():
    """The queries of duckdb/queries.sql by name."""
    with open(f"{DEPLOY}/duckdb/queries.sql") as file:
        parts = re.split(r"-- name: (\w+)\n", file.read())
    return dict(zip(parts[1::2], parts[2::2]))


def connect(archive, secret=None):
    """DuckDB with the views over an archive."""
    database = duckdb.connect()
    if secret:
        path = os.path.dirname(duckdb_extension_httpfs.__file__)
        database.install_extension(glob.glob(f"{path}/extensions/*/httpfs.duckdb_extension")[0])
        database.load_extension("httpfs")
        database.execute(secret)
    database.execute(f"SET VARIABLE archive = '{archive}'")
    database.execute("SET VARIABLE deployed = TIMESTAMP '2000-01-01'")
    database.execute(queries()["views"])
    return database


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Store:
    """weed with its S3 interface on loopback."""

    def __init__(self, directory):
        self.directory, self.port = f"{directory}/weed", free_port()
        os.makedirs(self.directory)
        with open(f"{self.directory}/s3.json", "w") as file:
            json.dump({"identities": [{"name": "fleet", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin", "Read", "Write", "List"]}]}, file)
        log = open(f"{self.directory}/log", "w")
        program = shutil.which("weed", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
        ports = [option for name in ("master", "volume", "filer") for option in (f"-{name}.port", str(free_port()))]
        self.process = subprocess.Popen([program, "server", f"-dir={self.directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", f"-s3.port={self.port}",
                                         f"-s3.config={self.directory}/s3.json", "-volume.max=20", "-master.volumeSizeLimitMB=256", *[f"{a}={b}" for a, b in zip(ports[::2], ports[1::2])]],
                                        stdout=log, stderr=log)
        # rclone 1.60 does not start where another program's certificates are named.
        inherited = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
        self.environment = {**inherited, "RCLONE_CONFIG_ARCHIVE_TYPE": "s3", "RCLONE_CONFIG_ARCHIVE_PROVIDER": "Other",
                            "RCLONE_CONFIG_ARCHIVE_ENDPOINT": f"http://127.0.0.1:{self.port}", "RCLONE_CONFIG_ARCHIVE_ACCESS_KEY_ID": KEY,
                            "RCLONE_CONFIG_ARCHIVE_SECRET_ACCESS_KEY": SECRET}
        try:
            self.wait()
        except RuntimeError:
            self.end()
            raise

    def wait(self):
        collector.wait("weed", lambda: subprocess.run(["rclone", "mkdir", f"archive:{BUCKET}"], env=self.environment, capture_output=True).returncode == 0, seconds=60)

    def upload(self, name, directory):
        """Uploads as a host, by the script of the unit."""
        script = f"hostname {name}; exec {DEPLOY}/upload/rsttrace-upload {directory} archive:{BUCKET}/rsttrace"
        lab.run("unshare", "--uts", "sh", "-c", script, env=self.environment)

    def files(self):
        return lab.run("rclone", "lsf", "-R", "--files-only", f"archive:{BUCKET}/rsttrace", env=self.environment).split()

    def secret(self):
        return f"CREATE SECRET (TYPE s3, KEY_ID '{KEY}', SECRET '{SECRET}', ENDPOINT '127.0.0.1:{self.port}', URL_STYLE 'path', USE_SSL false, REGION 'us-east-1')"

    def clickhouse(self):
        """The table function of ClickHouse over all segments."""
        return f"s3('http://127.0.0.1:{self.port}/{BUCKET}/rsttrace/host=*/date=*/*.jsonl.zst', '{KEY}', '{SECRET}', 'LineAsString', 'line String')"

    def end(self):
        self.process.terminate()
        self.process.wait(timeout=60)
