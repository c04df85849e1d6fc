"""The journal: journald on each host, systemd-journal-upload → systemd-journal-remote on the collecting one."""
import json, os, shutil, subprocess, uuid

import collector, lab

SYSTEMD = "/usr/lib/systemd"
PORT = 19532
# journald has the directories of the host in a mount namespace of its own: /run/systemd/journal has its sockets, /run/log/journal its
# files, and the identifier of the machine is the host's. It needs no systemd as PID 1, but control groups, which `ip netns exec` hides.
JOURNALD = """set -e
mount --make-rprivate /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd /run/log
mount -t tmpfs tmpfs /run/systemd
mkdir /run/systemd/journal
mount --bind "$1/run" /run/systemd/journal
mount --bind "$1/log" /run/log
mount --bind "$1/machine-id" /etc/machine-id
exec "$2/systemd-journald"
"""
# What the journal has beside the fields of a record, under the prefix that these have.
PREFIX = "RSTTRACE_"


def lacks():
    """What the way over the journal lacks here; None without a lack."""
    for program in ("systemd-journald", "systemd-journal-upload", "systemd-journal-remote"):
        if not os.path.exists(f"{SYSTEMD}/{program}"):
            return f"{program} (cargo xtask setup --fleet)"
    return None if shutil.which("journalctl") else "journalctl"


class Journal:
    """The collecting host's receiver, and the journals of the hosts."""

    def __init__(self, hosts, directory):
        self.hosts, self.directory, self.hosts_with_journal = hosts, f"{directory}/journal", []
        self.log, self.children = None, []
        self.received = f"{self.directory}/received"
        os.makedirs(self.received)
        self.log = open(f"{self.directory}/log", "w")
        address = f"{lab.address('col')}:{PORT}"
        self.start("col", f"{SYSTEMD}/systemd-journal-remote", f"--listen-http={address}", "--split-mode=host", f"--output={self.received}")
        self.url = f"http://{address}"
        collector.wait("systemd-journal-remote", lambda: collector.is_listening(PORT))

    def start(self, name, *command):
        self.children.append(self.hosts.start(name, command, stdout=self.log, stderr=self.log))

    def begin(self, name):
        """Starts journald and the upload of a host; returns the sink for it."""
        own = f"{self.directory}/{name}"
        for part in ("run", "log"):
            os.makedirs(f"{own}/{part}")
        machine = uuid.uuid4().hex
        with open(f"{own}/machine-id", "w") as file:
            file.write(f"{machine}\n")
        self.start(name, "unshare", "--mount", "sh", "-c", JOURNALD, "sh", own, SYSTEMD)
        files = f"{own}/log/journal/{machine}"
        collector.wait("journald", lambda: os.path.exists(f"{own}/run/socket") and os.path.exists(f"{files}/system.journal"))
        self.start(name, f"{SYSTEMD}/systemd-journal-upload", f"--url={self.url}", f"--directory={files}", "--follow", f"--save-state={own}/state")
        self.hosts_with_journal.append(name)
        return f"journald:{own}/run/socket"

    def records(self):
        """Resets that have arrived: host, and the fields of the record under the names of the flat format."""
        command = ["journalctl", f"--directory={self.received}", "--output=json", "--all", "--no-pager", "--identifier=rsttrace"]
        done = subprocess.run(command, capture_output=True, text=True)
        entries = [json.loads(line) for line in done.stdout.splitlines()]
        fields = lambda entry: {name[len(PREFIX):].lower(): value for name, value in entry.items() if name.startswith(PREFIX)}
        return [(entry["_HOSTNAME"], fields(entry)) for entry in entries if entry.get("RSTTRACE_TYPE") == "reset"]

    def wait_for(self, count):
        collector.wait_a_while("the journal of the collecting host", lambda: len(self.records()) >= count)

    def end(self):
        for child in reversed(self.children):
            self.hosts.end(child)


def flat(lines):
    """Records of `rsttrace replay --output json-flat`, with the texts that the journal has in place of numbers: 20, not 20.0."""
    whole = lambda value: int(value) if isinstance(value, float) and value.is_integer() else value
    text = lambda value: value if isinstance(value, str) else json.dumps(whole(value))
    for line in lines:
        record = json.loads(line)
        if record["type"] == "reset":
            yield {name: text(value) for name, value in record.items() if name != "schema"}
