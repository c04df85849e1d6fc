"""Hosts in network namespaces, with real connections whose resets are known by construction.

Four hosts (two clients, two servers) and a collector are behind one router, which translates addresses, rejects and drops. Each
host has a name and a namespace of its own, and an rsttrace that records its namespace. How many resets of each kind there are is a
prime number, so that a count that is right by chance is unlikely.
"""
import contextlib, os, signal, socket, struct, subprocess, sys, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
NETWORK = "10.77"
# Name: number of its network, 10.77.N.2; the router has 10.77.N.1.
HOSTS = {"web-1": 1, "web-2": 2, "db-1": 3, "db-2": 4, "col": 9}
RECORDED = ["web-1", "web-2", "db-1", "db-2"]
ROUTER = "mid"
PREFIX = "rstfleet-"

REFUSED, UNREAD, ABORTED, FORGED, DROPPED, CLIENT = 9, 9002, 9003, 9004, 9005, 9006
# Pairs of a client and a server, the port, and how often.
PLAN = [
    ("web-1", "db-1", REFUSED, 23),
    ("web-2", "db-1", UNREAD, 17),
    ("web-1", "db-2", ABORTED, 13),
    ("web-2", "db-2", ABORTED, 11),  # behind masquerading
    ("web-1", "db-1", UNREAD, 5),
    ("web-1", "db-2", CLIENT, 7),
    ("web-2", "db-1", CLIENT, 3),
    ("web-1", "db-1", FORGED, 19),  # by the router, in the server's name
    ("web-2", "db-1", DROPPED, 2),  # the server's reset does not pass the router
]


def address(host):
    return f"{NETWORK}.{HOSTS[host]}.2"


def namespace(name):
    return PREFIX + name


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Lab:
    """The namespaces, and the processes in them; ends both when it is left."""

    def __init__(self, rsttrace, directory):
        self.rsttrace, self.directory, self.children = rsttrace, directory, []

    def __enter__(self):
        self.remove()
        for name in [*HOSTS, ROUTER]:
            run("ip", "netns", "add", namespace(name))
            self.ip(name, "link set lo up")
        for name, number in HOSTS.items():
            run("ip", "link", "add", "e0", "netns", namespace(name), "type", "veth", "peer", "name", f"e{number}", "netns", namespace(ROUTER))
            self.ip(name, f"addr add {address(name)}/24 dev e0")
            self.ip(name, "link set e0 up")
            self.ip(ROUTER, f"addr add {NETWORK}.{number}.1/24 dev e{number}")
            self.ip(ROUTER, f"link set e{number} up")
            self.ip(name, f"route add default via {NETWORK}.{number}.1")
        self.inside(ROUTER, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        rules = f"""
            table ip fleet {{
                chain forward {{
                    type filter hook forward priority 0;
                    tcp dport {FORGED} tcp flags & psh == psh reject with tcp reset
                    tcp sport {DROPPED} tcp flags & rst == rst drop
                }}
                chain out {{
                    type nat hook postrouting priority 100;
                    ip saddr {address('web-2')} ip daddr {address('db-2')} masquerade
                }}
            }}"""
        self.inside(ROUTER, "nft", "-f", "-", input=rules)
        return self

    def __exit__(self, *_):
        for child in self.children:
            self.end(child)
        self.remove()

    @staticmethod
    def remove():
        for name in [*HOSTS, ROUTER]:
            subprocess.run(["ip", "netns", "del", namespace(name)], capture_output=True)

    @staticmethod
    def ip(name, command):
        run("ip", "-n", namespace(name), *command.split())

    @staticmethod
    def inside(name, *command, **options):
        return run("ip", "netns", "exec", namespace(name), *command, **options)

    def start(self, name, command, **options):
        """Starts a program on a host, with the host's name."""
        script = f"hostname {name}; exec \"$@\""
        child = subprocess.Popen(["ip", "netns", "exec", namespace(name), "unshare", "--uts", "sh", "-c", script, "sh", *command], **options)
        self.children.append(child)
        return child

    @staticmethod
    def end(child, by=signal.SIGTERM):
        if child.poll() is None:
            child.send_signal(by)
            child.wait(timeout=30)

    def recording(self, name):
        """The directory of a host's recording."""
        directory = f"{self.directory}/recordings/host={name}"
        os.makedirs(directory, exist_ok=True)
        return directory

    def record(self, name, sinks=(), options=()):
        """Starts the recorder of a host, and waits until it is ready."""
        directory = self.recording(name)
        sinks = [option for sink in [f"recording:{directory}", *sinks] for option in ("--sink", sink)]
        log = open(f"{self.directory}/{name}.log", "w+")
        command = [self.rsttrace, "--netns", namespace(name), "--ignored", "--output", "none", *sinks, *options]
        ready, notify = notification(f"{self.directory}/{name}.notify")
        child = self.start(name, command, stderr=log, env={**os.environ, "NOTIFY_SOCKET": notify})
        ready.settimeout(60)
        while b"READY=1" not in ready.recv(4096):
            pass
        return child

    def play(self):
        """Makes the resets of PLAN."""
        with contextlib.ExitStack() as stack:
            for server in ("db-1", "db-2"):
                stack.enter_context(self.program(server, "serve", address(server)))
            for client, server, port, count in PLAN:
                self.inside(client, sys.executable, __file__, "connect", address(server), str(port), str(count))

    @contextlib.contextmanager
    def program(self, name, *arguments):
        child = self.start(name, [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
        if child.stdout.readline() != "ready\n":
            raise RuntimeError(f"{arguments} does not start")
        try:
            yield
        finally:
            self.end(child)


def notification(path):
    """Socket that a program tells its start to, and its path."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ready.bind(path)
    return ready, path


def abort(connection):
    """Closes a connection by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def serve(host):
    """The services of a server; each takes connections one after the other."""

    def answer(connection, port):
        if port in (UNREAD, DROPPED):
            # A byte is read and the others are not: the close resets the connection.
            connection.recv(1)
            connection.close()
        elif port == ABORTED:
            connection.recv(64)
            abort(connection)
        else:
            with contextlib.suppress(OSError):
                connection.settimeout(1)
                connection.recv(64)
                connection.recv(64)
            connection.close()

    def service(listener, port):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection, port), daemon=True).start()

    for port in (UNREAD, ABORTED, FORGED, DROPPED, CLIENT):
        listener = socket.create_server((host, port))
        threading.Thread(target=service, args=(listener, port), daemon=True).start()
    print("ready", flush=True)
    signal.pause()


def connect(host, port, count):
    """Connects so many times, and waits for the end of each connection."""
    for _ in range(count):
        try:
            connection = socket.create_connection((host, port), timeout=2)
        except ConnectionRefusedError:
            continue
        connection.sendall(b"request")
        if port == CLIENT:
            time.sleep(0.02)
            abort(connection)
            continue
        if port == DROPPED:
            # Less than the service's own timeout: the connection is given up without an answer.
            connection.settimeout(0.3)
        with contextlib.suppress(OSError):
            connection.recv(64)
        connection.close()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", host]:
            serve(host)
        case ["connect", host, port, count]:
            connect(host, int(port), int(count))
