"""What is installed on the collecting host of the laboratory: rotel in front of ClickHouse, and rsyslog in front of PostgreSQL."""
import os, shutil, subprocess, sys, time

import lab

HERE = os.path.dirname(os.path.abspath(__file__))
DEBIAN = os.path.join(HERE, "../../deploy/fleet/debian")
POSTGRESQL = "/usr/lib/postgresql/15/bin"
CERTIFICATES = """set -e
new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
openssl req -x509 $new -keyout ca.key -out ca.pem -subj /CN=authority -days 2
for name in server client; do
    openssl req $new -keyout $name.key -out $name.csr -subj /CN=$name
    echo "subjectAltName=$NAMES,DNS:$name.hosts.example" > names
    openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $name.pem -days 2 -extfile names
done"""


def wait(what, is_so, seconds=30):
    """Asks until it is so."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds} s for {what}")
        time.sleep(0.1)


def wait_a_while(what, is_so):
    """Asks until it is so; where it does not come to be, the comparison that follows fails."""
    try:
        wait(what, is_so)
    except RuntimeError as error:
        print(f"  {error}")


def is_listening(port):
    """Whether a program listens on a port of the collecting host."""
    return f":{port} " in lab.Lab.inside("col", "ss", "-Hltn")


def start_rotel(hosts, directory):
    """Starts the HTTP interface of ClickHouse's engine, and rotel, which exports to it."""
    address = lab.address("col")
    front = hosts.start("col", [sys.executable, f"{HERE}/clickhouse.py", f"{directory}/clickhouse-otel", address, "8123"], stdout=subprocess.PIPE, text=True)
    if front.stdout.readline() != "ready\n":
        raise RuntimeError("the HTTP interface does not start")
    import rotel
    program = os.path.join(os.path.dirname(rotel.__file__), "rotel-agent")
    log = open(f"{directory}/rotel.log", "w")
    agent = hosts.start("col", [program, "start", "--otlp-grpc-endpoint", f"{address}:4317", "--otlp-http-endpoint", f"{address}:4318",
                                "--exporter", "clickhouse", "--clickhouse-exporter-endpoint", f"http://{address}:8123",
                                "--clickhouse-exporter-database", "rsttrace", "--clickhouse-exporter-compression", "none"],
                        stdout=log, stderr=log)
    wait("rotel", lambda: is_listening(4318))
    return front, agent, f"otlp:http://{address}:4318"


def lacks_debian():
    """What the way over rsyslog and PostgreSQL lacks here; None without a lack."""
    if not shutil.which("rsyslogd") or not os.path.exists("/usr/lib/x86_64-linux-gnu/rsyslog/ompgsql.so"):
        return "rsyslog with ompgsql (cargo xtask setup --fleet)"
    return None if os.path.exists(f"{POSTGRESQL}/initdb") else "PostgreSQL 15"


class Debian:
    """rsyslog and PostgreSQL, each with a directory of its own."""

    def __init__(self, hosts, directory):
        self.directory = f"{directory}/debian"
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)
        os.chmod(directory, 0o755)
        shutil.chown(self.directory, "postgres", "postgres")
        self.as_postgres(f"{POSTGRESQL}/initdb", "-D", f"{self.directory}/data", "-A", "trust")
        log = open(f"{self.directory}/log", "w")
        self.server = hosts.start("col", ["runuser", "-u", "postgres", "--", f"{POSTGRESQL}/postgres", "-D", f"{self.directory}/data", "-k", self.directory, "-h", ""], stdout=log, stderr=log)
        wait("PostgreSQL", lambda: os.path.exists(f"{self.directory}/.s.PGSQL.5432"))
        wait("PostgreSQL", lambda: subprocess.run(["psql", "-h", self.directory, "-U", "postgres", "-c", "SELECT 1"], capture_output=True).returncode == 0)
        self.psql("CREATE DATABASE rsttrace", "postgres")
        lab.run("psql", "-q", "-h", self.directory, "-U", "postgres", "-d", "rsttrace", "-v", "ON_ERROR_STOP=1", "-f", f"{DEBIAN}/postgresql.sql")
        self.certify()
        self.rsyslog = hosts.start("col", ["rsyslogd", "-n", "-i", "NONE", "-f", self.configuration()], stdout=log, stderr=log)
        wait("rsyslog", lambda: is_listening(6514))
        own = self.directory
        self.sink = f"syslog:tls://{lab.address('col')}:6514,ca={own}/ca.pem,cert={own}/client.pem,key={own}/client.key,name=server.hosts.example"

    @staticmethod
    def as_postgres(*command):
        return lab.run("runuser", "-u", "postgres", "--", *command, cwd="/")

    def psql(self, sql, database="rsttrace"):
        return lab.run("psql", "-h", self.directory, "-U", "postgres", "-d", database, "-At", "-v", "ON_ERROR_STOP=1", "-c", sql)

    def certify(self):
        lab.run("sh", "-c", CERTIFICATES, cwd=self.directory, env={**os.environ, "NAMES": f"IP:{lab.address('col')}"})

    def configuration(self):
        """The file of deploy/ with the paths of the laboratory."""
        with open(f"{DEBIAN}/rsyslog.conf") as file:
            text = file.read()
        text = text.replace("/etc/rsttrace/", f"{self.directory}/").replace("/run/postgresql", self.directory).replace('uid="rsyslog"', 'uid="postgres"')
        path = f"{self.directory}/rsyslog.conf"
        with open(path, "w") as file:
            file.write(f'global(workDirectory="{self.directory}")\n{text}')
        return path
