#!/usr/bin/env python3
"""Clients of libvirt in turn on the same guests, and a process that does nothing. Run by real.sh.

    turns.py turns ROUNDS LIBVIRTD_PID QEMU_PIDS OPTIONS...    a table; see below for the options
    turns.py idle SECONDS PID                                  CPU time and voluntary context switches of all its threads

The CPU time is that of the kernel's clock of a process, which counts threads that have ended too.
"""

import argparse
import collections
import functools
import glob
import http.client
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

# How much earlier than a client that keeps its own time the others are done.
MARGIN = 0.7
# How long its reading is given before it is asked for what it read.
READING = 4
# Calls to libvirtd as a client writes them: length, program 0x20008086 (libvirt itself), version, procedure, type 0 (a call).
CALL = re.compile(r'"(?:\\x..){4}\\x20\\x00\\x80\\x86\\x00\\x00\\x00\\x01((?:\\x..){4})\\x00\\x00\\x00\\x00')


def cpu(pids):
    """CPU time of processes in milliseconds, to the microsecond where /proc has hundredths of a second."""
    # clock_getcpuclockid(3): the complement of the process in the upper bits, 2 for the scheduler's own account.
    return sum(time.clock_gettime_ns(~pid << 3 | 2) for pid in pids) / 1e6


def status(pid, field):
    with open(f"/proc/{pid}/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def get(url):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    connection.request("GET", parts._replace(scheme="", netloc="").geturl())
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        sys.exit(f"{url}: {answer.status} {answer.reason}")
    return body


class Measure:
    """What passes between enter and exit; wall and own, of which a client may know better, can be set meanwhile."""

    def __init__(self, clients, pid):
        self.pid, self.clients, self.wall, self.own = pid, clients, None, None

    def __enter__(self):
        if self.pid:
            with open(f"/proc/{self.pid}/clear_refs", "w") as file:
                file.write("5")  # the peak of the resident memory counts from here on
        self.cpus = [cpu(pids) for pids in self.processes()]
        self.began = time.monotonic()
        return self

    def __exit__(self, *_):
        if self.wall is None:
            self.wall = (time.monotonic() - self.began) * 1e3
        after = [cpu(pids) for pids in self.processes()]
        spent = [a - b for a, b in zip(after, self.cpus)]
        self.daemon, self.guests = spent[:2]
        if self.pid:
            self.own, self.peak = spent[2], status(self.pid, "VmHWM") / 1024

    def processes(self):
        return [[self.clients.libvirtd], self.clients.guests] + ([[self.pid]] if self.pid else [])


class Clients:
    def __init__(self, libvirtd, guests, clients):
        self.libvirtd, self.guests, self.all = libvirtd, guests, clients


class Command:
    """A program that is started for each turn."""

    def __init__(self, name, pattern, command):
        self.name, self.pattern, self.pid = name, re.compile(pattern.encode(), re.M), None
        self.command = command.split()

    def turn(self, clients):
        with Measure(clients, None) as measured:
            child = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
            _, code, usage = os.wait4(child.pid, 0)
        if code:
            sys.exit(f"{self.name} failed")
        child.returncode = 0
        measured.own, measured.peak = (usage.ru_utime + usage.ru_stime) * 1e3, usage.ru_maxrss / 1024
        return measured

    def body(self):
        return subprocess.run(self.command, check=True, capture_output=True).stdout

    def traced(self, trace):
        subprocess.run(trace + self.command, check=True, capture_output=True)


class Scraped:
    """A server of metrics that asks libvirt when it is asked."""

    def __init__(self, name, pattern, pid, url):
        self.name, self.pattern, self.pid, self.url = name, re.compile(pattern.encode(), re.M), int(pid), url

    def body(self):
        return get(self.url)

    def turn(self, clients):
        with Measure(clients, self.pid) as measured:
            self.body()
        return measured

    def traced(self, trace):
        strace = subprocess.Popen(trace + ["-p", str(self.pid)], stderr=subprocess.PIPE)
        strace.stderr.readline()  # that it is attached
        time.sleep(0.5)
        self.body()
        strace.send_signal(signal.SIGINT)
        strace.communicate()


class Periodic(Scraped):
    """A server of metrics that asks libvirt by itself, and writes at each sample when it had it, in milliseconds.

    Its turn is one of its readings and one response to its scraper. The wall time is that from its first sample to its last: all
    of the reading but what comes before the first sample.
    """

    def __init__(self, name, pattern, pid, url, interval):
        super().__init__(name, pattern, pid, url)
        self.interval = float(interval)
        self.began, _ = self.read(0)

    def read(self, since):
        """Waits for a whole reading that began after this moment: when it began and ended."""
        for _ in range(100):
            stamps = [int(line.rsplit(b" ", 1)[1]) / 1e3 for line in self.body().splitlines() if self.pattern.match(line)]
            if stamps and min(stamps) > since and max(stamps) < time.time() - 0.4:
                return min(stamps), max(stamps)
            time.sleep(0.5)
        sys.exit(f"{self.name}: no whole reading in 50 s")

    def due(self):
        """When its next reading begins."""
        passed = max(time.time() + MARGIN - self.began, 0) // self.interval + 1
        return self.began + passed * self.interval

    def turn(self, clients):
        lasts, due = MARGIN / 2 + READING, self.due()
        # What the guests, the daemon and the server use by themselves in such a time is not its reading.
        time.sleep(max(due - MARGIN / 2 - lasts - time.time(), 0))
        with Measure(clients, self.pid) as quiet:
            time.sleep(max(due - MARGIN / 2 - time.time(), 0))
        with Measure(clients, self.pid) as measured:
            time.sleep(lasts)
            self.began, ended = self.read(due - MARGIN)
            measured.wall = (ended - self.began) * 1e3
        share = lasts * 1e3 / quiet.wall
        for field in "own", "daemon", "guests":
            setattr(measured, field, getattr(measured, field) - share * getattr(quiet, field))
        return measured

    def traced(self, trace):
        time.sleep(max(self.due() - MARGIN - time.time(), 0))
        strace = subprocess.Popen(trace + ["-p", str(self.pid)], stderr=subprocess.PIPE)
        time.sleep(MARGIN + 2 * READING)
        strace.send_signal(signal.SIGINT)
        strace.communicate()


class Gathered(Periodic):
    """The same, of which a sample says how long a reading took, in nanoseconds, some seconds after it."""

    def __init__(self, name, pattern, pid, url, interval, took):
        self.took = re.compile(f"^{took} ([0-9.e+]+)".encode(), re.M)
        super().__init__(name, pattern, pid, url, interval)

    def took_ms(self):
        return float(self.took.search(self.body())[1]) / 1e6

    def read(self, since):
        # Its first sample comes at the end.
        began, ended = super().read(since)
        return began - self.took_ms() / 1e3, ended

    def turn(self, clients):
        measured = super().turn(clients)
        measured.wall = self.took_ms()
        return measured


def calls(client):
    """How many calls of each procedure it sends to libvirtd in a turn. A turn of its own, for being traced takes time."""
    with tempfile.NamedTemporaryFile("r") as file:
        client.traced(["strace", "-f", "-xx", "-s", "24", "-e", "trace=write,sendto,sendmsg", "-e", "signal=none", "-o", file.name])
        found = CALL.findall(file.read())
    return collections.Counter(int(procedure.replace("\\x", ""), 16) for procedure in found)


def turns(rounds, clients):
    periodic = [client for client in clients.all if isinstance(client, Periodic)]
    others = [client for client in clients.all if client not in periodic]
    measured = collections.defaultdict(list)
    bodies = {client.name: client.body() for client in others}
    for number in range(rounds):
        for client in periodic:
            measured[client.name].append(client.turn(clients))
            bodies[client.name] = client.body()
        # Who comes first is another one in each round.
        first = number % len(others)
        for client in others[first:] + others[:first]:
            measured[client.name].append(client.turn(clients))
        for client in periodic:
            if time.time() > client.began + client.interval:
                print(f"round {number + 1}: {client.name} began to read before all had had their turn", file=sys.stderr)
    counted = {client.name: calls(client) for client in clients.all}
    reference = measured[others[0].name]
    print(f"{rounds} rounds in turn, medians; CPU in ms of the client, libvirtd and all QEMUs; load {os.getloadavg()[0]:.1f}")
    print("| | series | wall ms | beside the first | its CPU | libvirtd's | QEMUs' | calls | bytes | peak RSS MiB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for client in clients.all:
        of = measured[client.name]

        def middle(field):
            return statistics.median(getattr(one, field) for one in of)

        body = bodies[client.name]
        ratio = statistics.median(one.wall / other.wall for one, other in zip(of, reference))
        print(f"| {client.name} | {len(client.pattern.findall(body)):,} | {middle('wall'):.1f} | {ratio:.2f} | {middle('own'):.1f} | "
              f"{middle('daemon'):.1f} | {middle('guests'):.1f} | {counted[client.name].total():,} | {len(body):,} | {middle('peak'):.1f} |")
    for client in clients.all:
        of = counted[client.name].most_common()
        walls = sorted(one.wall for one in measured[client.name])
        print(f"{client.name}: wall {walls[0]:.1f} to {walls[-1]:.1f} ms; procedures of libvirt's remote_protocol.x: "
              + ", ".join(f"{procedure} x {count}" for procedure, count in of))


def idle(seconds, pid):
    def switches():
        found = {}
        for task in glob.glob(f"/proc/{pid}/task/*"):
            with open(f"{task}/comm") as comm:
                found[task] = (comm.read().strip(), status(f"{pid}/task/{os.path.basename(task)}", "voluntary_ctxt_switches"))
        return found

    before, spent = switches(), cpu([pid])
    time.sleep(seconds)
    spent, after = cpu([pid]) - spent, switches()
    by_name = collections.Counter()
    for task, (name, count) in after.items():
        by_name[name] += count - before.get(task, (name, 0))[1]
    print(f"idle for {seconds:.0f} s: {spent:.1f} ms of CPU ({spent / seconds / 10:.4f} % of a core), "
          f"{by_name.total() * 60 / seconds:.0f} voluntary switches a minute: "
          + ", ".join(f"{name} {count}" for name, count in by_name.most_common() if count))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    of_turns = commands.add_parser("turns")
    of_turns.add_argument("rounds", type=int)
    of_turns.add_argument("libvirtd", type=int)
    of_turns.add_argument("guests", type=lambda text: [int(pid) for pid in text.split()])
    # In the order in which they are to be printed; the first one is what the others are compared with.
    for kind, words in [(Command, "COMMAND"), (Scraped, "PID URL"), (Periodic, "PID URL INTERVAL"),
                        (Gathered, "PID URL INTERVAL TOOK")]:
        names = ("NAME", "PATTERN", *words.split())
        of_turns.add_argument(f"--{kind.__name__.lower()}", action="append", nargs=len(names), metavar=names, dest="clients",
                              type=functools.partial(lambda kind, text: (kind, text), kind))
    of_idle = commands.add_parser("idle")
    of_idle.add_argument("seconds", type=float)
    of_idle.add_argument("pid", type=int)
    given = parser.parse_args()
    if given.command == "idle":
        return idle(given.seconds, given.pid)
    clients = [words[0][0](*(text for _, text in words)) for words in given.clients]
    return turns(given.rounds, Clients(given.libvirtd, given.guests, clients))


main()
