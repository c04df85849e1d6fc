"""What was found, and what the recordings have, which everything else is compared with."""
import collections, glob, json, subprocess

import zstandard


class Results:
    """What was found; a comparison that fails is kept until the end."""

    def __init__(self):
        self.figures, self.failures, self.not_run = {}, [], {}

    def figure(self, name, value):
        self.figures[name] = value
        print(f"  {name}: {value}", flush=True)

    def equal(self, what, one, other):
        is_equal = one == other
        print(f"  {'equal' if is_equal else 'NOT EQUAL'}: {what}: {one}{'' if is_equal else f' and {other}'}", flush=True)
        self.figures[what] = one
        if not is_equal:
            self.failures.append(f"{what}: {one} and {other}")

    def lacks(self, what, why):
        self.not_run[what] = why
        print(f"  not run: {what}: {why}", flush=True)


def step(title):
    print(f"== {title}", flush=True)


def rsttrace(program, *arguments, stdin=None):
    done = subprocess.run([program, *arguments], input=stdin, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{program} {' '.join(arguments)}: {done.stderr.decode()}")
    return done.stdout


def lines_of(directory):
    """The lines of all recordings below a directory, as they are, with the host."""
    for path in sorted(glob.glob(f"{directory}/host=*/*.jsonl*")):
        host = path.split("host=")[1].split("/")[0]
        opened = zstandard.open(path, "rt") if path.endswith(".zst") else open(path)
        with opened as file:
            for line in file:
                yield host, line.removesuffix("\n")


def records(directory):
    """The records of all recordings below a directory, with the host."""
    for host, line in lines_of(directory):
        yield host, json.loads(line)


def count_resets(directory):
    return sum(record["type"] == "reset" for _, record in records(directory))


def count_causes(directory):
    """Resets of the recordings by host and cause."""
    counted = collections.Counter()
    for host, record in records(directory):
        if record["type"] == "reset":
            counted[host, record["cause"]["code"]] += record["count"]
    return counted


def differences(one, other):
    """How many of both, as multisets, the other one has not."""
    one, other = collections.Counter(one), collections.Counter(other)
    return sum(((one - other) + (other - one)).values())


def compare_causes(results, what, directory, rows):
    """Compares rows of host, cause and count with the lines themselves."""
    counted = count_causes(directory)
    found = {(host, cause): int(count) for host, cause, count in rows}
    results.equal(f"{what}: resets", sum(found.values()), sum(counted.values()))
    results.equal(f"{what}: hosts and causes that agree", len(found.items() & counted.items()), len(counted))
