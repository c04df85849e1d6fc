"""Records of simulated hosts, made from real ones: other hosts, addresses, ports, processes, times, numbers and figures.

Hosts are in clusters of 20, ten clients and ten servers, that have connections with each other alone; each has a clock of its own,
up to two seconds off. Two of five records tell of resets of which both ends have one; of one in a hundred of these the sender's is
left out, and of one in two hundred the receiver's. The others are resets with peers outside. The first million covers a tenth of a day;
further ones are copies of it at later times, of other hosts, with other numbers, which the engine makes itself.
"""
import collections, json, random, re, subprocess, time

HOSTS, CLUSTER = 2000, 20
# Beginning of the records, seconds since 1970, and how long those of the first part go on.
BEGIN, SPAN = 1_795_996_800, 8640
# Rows of a file.
BATCH = 125_000
SERVICES = [f"{word}-{part}" for word in ("cart", "search", "billing", "mail", "stock", "auth", "ledger", "media") for part in ("api", "web", "worker", "cache", "proxy")]
POOL = 509
MARK = "\x00"


def host_name(number):
    return f"{'app' if number % CLUSTER < CLUSTER // 2 else 'srv'}-{number // CLUSTER:03d}-{number % CLUSTER:02d}"


def address(number):
    return f"10.{100 + number // 1000}.{number // CLUSTER % 50 + 1}.{number % CLUSTER + 1}"


def clock_ns(number):
    """How far the clock of a host is ahead, nanoseconds."""
    return random.Random(number).randrange(-2_000_000_000, 2_000_000_000)


class Template:
    """A real line, with places for what differs."""

    # Fields of the record, and what stands there; numbers that are not named vary below their value.
    FIXED = {"schema", "type", "count", "direction", "hook", "family", "ttl", "handshake_ttl", "uid", "accept_queue_limit", "record", "inode", "netns_cookie",
             "provenance", "raw_state", "shutdown", "file_refcount", "tick_ms"}
    NAMED = {("time",): "time", ("host",): "host", ("seq",): "record", ("local", "address"): "local", ("local", "port"): "local_port",
             ("peer", "address"): "peer", ("peer", "port"): "peer_port", ("reset", "seq"): "seq", ("reset", "ack"): "ack",
             ("process", "comm"): "service", ("process", "executable"): "service", ("process", "command_line"): "service",
             ("incident",): "record", ("facts", "owner", "comm"): "service", ("facts", "holder", "comm"): "service", ("facts", "ktime_ns"): "ktime"}

    def __init__(self, line, rng):
        # Where both ends were on one host, the simulated ones are on two.
        line = {**line, "other_end": None}
        self.is_refused = line["reset"]["seq"] in (None, 0)
        self.server_port = line["local"]["port"] if line["direction"] == "sent" else line["peer"]["port"]
        text = json.dumps(self.placed(line, (), rng), separators=(",", ":"), ensure_ascii=False)
        text = re.sub(rf'"\\u0000([^"]*)\\u0001"|\\u0000([^"\\]*)\\u0001', lambda found: MARK + (found[1] or found[2]) + MARK, text)
        parts = text.split(MARK)
        self.texts, self.slots = parts[::2], parts[1::2]
        self.pools = {}
        for slot in self.slots:
            if slot[0] in "if" and slot[1:2] == ":":
                value = float(slot[2:])
                pick = [value * rng.uniform(0.5, 1.0) for _ in range(POOL)]
                self.pools[slot] = [str(int(number)) if slot[0] == "i" else f"{number:.3f}" for number in pick]

    def placed(self, value, path, rng):
        name = self.NAMED.get(path)
        if name and value is not None and not (name == "seq" and value == 0):
            return f"{MARK}q:{name}\x01" if isinstance(value, str) else f"{MARK}{name}\x01"
        if isinstance(value, dict):
            return {key: self.placed(part, (*path, key), rng) for key, part in value.items()}
        if isinstance(value, bool) or not isinstance(value, (int, float)) or path[-1] in self.FIXED or not value:
            return value
        return f"{MARK}{'i' if isinstance(value, int) else 'f'}:{value}\x01"

    def line(self, values, start):
        parts = []
        for number, (text, slot) in enumerate(zip(self.texts, self.slots)):
            parts.append(text)
            pool = self.pools.get(slot)
            parts.append(pool[(start + number * 1031) % POOL] if pool else values[slot])
        parts.append(self.texts[-1])
        return "".join(parts)


def read(paths):
    for path in paths:
        with open(path) as file:
            yield from (json.loads(line) for line in file)


class Simulation:
    """Templates from real lines: pairs of a sender's and a receiver's record, and single ones."""

    def __init__(self, paths):
        rng = random.Random(1)
        lines = [line for line in read(paths) if line["type"] == "reset" and line["count"] == 1]
        number = lambda line: (line["reset"]["seq"] or None, line["reset"]["ack"] if not line["reset"]["seq"] else None)
        sent = {number(line): line for line in lines if line["direction"] == "sent" and number(line) != (None, None)}
        self.pairs = []
        for line in lines:
            other = sent.get(number(line))
            mirrored = other and (other["local"]["address"], other["local"]["port"]) == (line["peer"]["address"], line["peer"]["port"])
            if line["direction"] == "received" and mirrored and other["host"] != line["host"]:
                self.pairs.append((Template(other, rng), Template(line, rng)))
        self.singles = [Template(line, rng) for line in lines if line["host"] == "shop-1"]

    def batch(self, number, path):
        """Writes one batch; returns its rows, and how many pairs of each kind are in it."""
        rng, truth, rows = random.Random(number), collections.Counter(), 0
        # A record has its number once.
        self.record = number * 2 * BATCH
        process = subprocess.Popen(["zstd", "-q", "-1", "-f", "-o", path], stdin=subprocess.PIPE)
        out, lines = process.stdin, []
        while rows < BATCH:
            now = (BEGIN + rng.random() * SPAN) * 1e9
            start = rng.randrange(POOL)
            if rng.random() < 0.25:
                made = self.pair(rng, int(now), start, truth)
            else:
                made = [self.single(rng, int(now), start)]
            lines += made
            rows += len(made)
            if len(lines) > 2000:
                out.write(("\n".join(lines) + "\n").encode())
                lines.clear()
        out.write(("\n".join(lines) + "\n").encode())
        out.close()
        process.wait()
        return rows, truth

    def pair(self, rng, now, start, truth):
        client = rng.randrange(HOSTS // CLUSTER) * CLUSTER + rng.randrange(CLUSTER // 2)
        server = client // CLUSTER * CLUSTER + CLUSTER // 2 + rng.randrange(CLUSTER // 2)
        sent, received = self.pairs[start % len(self.pairs)]
        chance = rng.random()
        kind = "not-sent" if chance < 0.01 else "never-arrived" if chance < 0.015 else "sent"
        port, service_port = str(rng.randrange(32768, 61000)), str(8000 + server % 97)
        seq, ack = str(rng.randrange(1, 1 << 32)), str(rng.randrange(1, 1 << 32))
        # A service is a client's or a server's; the record on the wire is the sender's.
        from_server = sent.server_port < 32768
        ends = (server, client) if from_server else (client, server)
        ports = (service_port, port) if from_server else (port, service_port)
        made = []
        for template, own, other, own_port, other_port, delay in ((sent, ends[0], ends[1], *ports, 0), (received, ends[1], ends[0], *ports[::-1], rng.randrange(50_000, 900_000))):
            if kind == "not-sent" and template is sent or kind == "never-arrived" and template is received:
                continue
            made.append(template.line(self.values(rng, now + delay, own, other_port, address(other), own_port, seq, ack), start))
        truth[kind] += 1
        return made

    def single(self, rng, now, start):
        own = rng.randrange(HOSTS)
        peer = f"203.0.{rng.randrange(113, 115)}.{rng.randrange(1, 255)}"
        template = self.singles[rng.randrange(len(self.singles))]
        return template.line(self.values(rng, now, own, str(8000 + rng.randrange(97)), peer, str(rng.randrange(32768, 61000)), str(rng.randrange(1, 1 << 32)), str(rng.randrange(1, 1 << 32))), start)

    def values(self, rng, now, own, other_port, other, own_port, seq, ack):
        self.record += 1
        at = now + CLOCKS[own]
        seconds, rest = divmod(at, 1_000_000_000)
        minutes, second = divmod(seconds - BEGIN, 60)
        text = f"{MINUTES[minutes]}:{second:02d}.{rest:09d}Z"
        service = SERVICES[(own + rng.randrange(3)) % len(SERVICES)]
        return {"q:time": f'"{text}"', "q:host": f'"{host_name(own)}"', "record": str(self.record), "q:local": f'"{address(own)}"',
                "local_port": own_port, "q:peer": f'"{other}"', "peer_port": other_port, "seq": seq, "ack": ack, "ktime": str(1_000_000_000_000 + now - (BEGIN - 60) * 1_000_000_000), "q:service": f'"{service}"'}


MINUTES = {minute: time.strftime("%Y-%m-%dT%H:%M", time.gmtime(BEGIN + 60 * minute)) for minute in range(-1, SPAN // 60 + 1)}
CLOCKS = [clock_ns(number) for number in range(HOSTS)]
