"""Waits for a fleet to be scraped, measures for some minutes, and prints what it came to. Run by fleet.sh."""

import json
import os
import re
import signal
import statistics
import sys
import time
import urllib.parse
import urllib.request

PROMETHEUS, FOLDER, DASHBOARD = sys.argv[1:]
HOSTS, DOMAINS, INTERVAL, EVALUATION = (int(os.environ[name]) for name in ("HOSTS", "DOMAINS", "INTERVAL", "EVALUATION"))
MINUTES = float(os.environ["MINUTES"])
BEGAN = time.time()
TICKS = os.sysconf("SC_CLK_TCK")

# What has a cause in fleet.sh: the alert, a label, its value, and how many minutes the cause has to last.
CAUSES = [
    ("LibvirtDomainCrashed", "domain", "crashed", 0),
    ("LibvirtDown", "instance", "without-libvirt", 2),
    ("LibvirtExporterDown", "instance", "down", 5),
]

# Panels of the dashboard Fleet whose queries are also asked with nothing recorded: of guests in a table, of hosts as lines.
ALSO_RAW = [("CPU", True), ("Disk latency", True), ("Steal", False), ("Network", False), ("Slowest disks", False)]


def fetch(path, **arguments):
    url = f"{PROMETHEUS}{path}?{urllib.parse.urlencode(arguments)}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode()


def ask(query):
    """The samples of an instant query: labels and value."""
    result = json.loads(fetch("/api/v1/query", query=query))["data"]["result"]
    return [(sample["metric"], float(sample["value"][1])) for sample in result]


def one(query):
    return next((value for _, value in ask(query)), 0.0)


def processes(role):
    with open(f"{FOLDER}/processes", encoding="ascii") as file:
        return [pid for name, pid in map(str.split, file) if name == role]


def cpu(role):
    """Seconds of CPU time so far, of all processes of a role."""
    total = 0
    for pid in processes(role):
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(") ", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory(role, file, field):
    """MiB of each process of a role."""
    found = []
    for pid in processes(role):
        with open(f"/proc/{pid}/{file}", encoding="ascii") as lines:
            found += [int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")]
    return found


def machine():
    """Seconds of CPU time that this machine's CPUs were busy with any process."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + irq + softirq) / TICKS


class Moment:
    """What is counted, at one moment."""

    def __init__(self):
        self.time = time.time()
        self.cpu = {role: cpu(role) for role in ("prometheus", "exporter", "fake")}
        self.machine = machine()
        counted = fetch("/metrics").splitlines()
        self.counters = {}
        for line in counted:
            if not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                name = series.partition("{")[0]
                self.counters[name] = self.counters.get(name, 0.0) + float(value)
        wal = f"{FOLDER}/tsdb/wal"
        self.wal = sum(entry.stat().st_size for entry in os.scandir(wal) if entry.is_file())


def wait_until(minutes):
    time.sleep(max(0.0, BEGAN + minutes * 60 - time.time()))


def row(what, *figures):
    print(f"| {what} | {' | '.join(figures)} |", flush=True)


def percentiles(values, digits=0, unit="ms"):
    values = sorted(values)
    at = lambda share: values[min(len(values) - 1, int(share * len(values)))]
    return f"{at(0.5):.{digits}f} {unit}, {at(0.99):.{digits}f} {unit}, {values[-1]:.{digits}f} {unit}"


def looked_at():
    """The samples that a minute of all rules looks at: what a rule costs, on any machine."""
    groups = json.loads(fetch("/api/v1/rules"))["data"]["groups"]
    return sum(cost(rule["query"], True, 0)[1] * 60 / group["interval"] for group in groups for rule in group["rules"])


def recorded():
    """What each recording rule records."""
    groups = json.loads(fetch("/api/v1/rules", type="record"))["data"]["groups"]
    return {rule["name"]: rule["query"] for group in groups for rule in group["rules"]}


def costliest():
    """The five rules whose last evaluation took longest."""
    groups = json.loads(fetch("/api/v1/rules"))["data"]["groups"]
    took = [(rule["name"], rule["evaluationTime"]) for group in groups for rule in group["rules"]]
    return sorted(took, key=lambda rule: -rule[1])[:5]


def raw(query, rules):
    """A query with the expressions in place of what they record."""
    while True:
        expanded = re.sub(r"\b[a-z]+:libvirt_\w+:\w+", lambda found: f"({rules[found[0]]})", query)
        if expanded == query:
            return query
        query = expanded


def panels(of):
    for panel in of:
        for target in panel.get("targets", []):
            # Every host is chosen: what the variables then stand for.
            yield panel["title"], target["expr"].replace("$instance", ".+"), panel["type"] == "table"
        yield from panels(panel.get("panels", []))


def cost(query, instant, seconds):
    """Milliseconds that a query takes, and the samples it looks at."""
    now = time.time()
    began = time.perf_counter()
    if instant:
        answer = fetch("/api/v1/query", query=query, stats="all")
    else:
        answer = fetch("/api/v1/query_range", query=query, start=now - seconds, end=now, step=INTERVAL, stats="all")
    took = 1000 * (time.perf_counter() - began)
    return took, json.loads(answer)["data"]["stats"]["samples"]["totalQueryableSamples"]


def dashboard(seconds):
    """The queries of the dashboard Fleet over recorded series, and some of them with nothing recorded."""
    rules = recorded()
    with open(DASHBOARD, encoding="utf-8") as file:
        queries = list(panels(json.load(file)["panels"]))
    everything = [cost(query, instant, seconds) for _, query, instant in queries]
    rows = []
    for title, query, instant in queries:
        if (title, instant) in ALSO_RAW:
            # The raw form has no matchers: all of them match everything here.
            short = re.sub(r"\{.*?\}", "", query)
            quick = [cost(query, instant, seconds) for _ in range(3)]
            rows.append((title, instant, short, *statistics.median_low(quick), *cost(raw(short, rules), instant, seconds)))
    print(f"\nAll {len(queries)} queries of the dashboard Fleet, lines over {seconds} s, one after the other: "
          f"{sum(took for took, _ in everything):,.0f} ms, {sum(samples for _, samples in everything):,} samples looked at\n")
    print("| query | as it is | samples | with nothing recorded | samples |\n|---|---|---|---|---|")
    for title, instant, short, quick, few, slow, many in rows:
        row(f"{title}{'' if instant else ', line'}: `{short}`", f"{quick:,.0f} ms", f"{few:,}", f"{slow:,.0f} ms", f"{many:,}")


def alerts():
    """Prints every alert, once those with a cause have had the time to fire; returns what is wrong with them."""
    late = BEGAN + 60 * max(minutes for *_, minutes in CAUSES) + 2 * EVALUATION
    while True:
        wrong, lines, firing = [], {}, set()
        for alert in json.loads(fetch("/api/v1/alerts"))["data"]["alerts"]:
            labels, state = alert["labels"], alert["state"]
            cause = next((cause for cause in CAUSES if (labels["alertname"], labels.get(cause[1])) == (cause[0], cause[2])), None)
            lines.setdefault((labels["alertname"], state, cause), []).append(labels.get("domain") or labels.get("instance", ""))
            if state == "firing" and cause:
                firing.add(cause)
        if len(firing) == len(CAUSES) or time.time() > late:
            break
        time.sleep(1)
    print(f"\nAlerts after {(time.time() - BEGAN) / 60:.1f} minutes:")
    for (name, state, cause), whom in sorted(lines.items(), key=str):
        print(f"- {name} is {state} for {len(whom)} ({', '.join(whom[:3])}): {'as it should' if cause else 'WITHOUT A CAUSE'}")
        if not cause:
            wrong.append(f"{name} is {state} without a cause")
    return wrong + [f"{name} of the {label} {value} does not fire" for name, label, value, _ in set(CAUSES) - firing]


def use(rules):
    """Has Prometheus evaluate the rules of this folder from now on."""
    link = f"{FOLDER}/rules"
    os.symlink(rules, link + ".new")
    os.rename(link + ".new", link)
    for pid in processes("prometheus"):
        os.kill(int(pid), signal.SIGHUP)


def compare(before, after):
    """What a minute of two sets of rules costs, evaluated in turns after some minutes without any."""
    seconds, rounds = int(os.environ["PHASE"]), int(os.environ["ROUNDS"])
    nothing = f"{FOLDER}/nothing"
    os.mkdir(nothing)
    found = {"none": [], "before": [], "after": []}
    print("| rules | rounds take, a minute | Prometheus' CPU, a minute | samples looked at, a minute | recorded series | load |\n|---|---|---|---|---|---|")
    for name, rules in [("none", nothing)] + rounds * [("before", before), ("after", after)]:
        use(rules)
        # The first round of a rule has nothing of the last one to build on.
        time.sleep(EVALUATION + INTERVAL)
        first = Moment()
        time.sleep(seconds)
        last = Moment()
        minutes = (last.time - first.time) / 60
        total = "prometheus_rule_group_duration_seconds_sum"
        took = (last.counters[total] - first.counters[total]) / minutes
        used = (last.cpu["prometheus"] - first.cpu["prometheus"]) / minutes
        recorded = one("count({__name__=~%s})" % json.dumps("[a-z]+:libvirt_.+"))
        found[name].append((took, used))
        row(name, f"{took:.2f} s", f"{used:.2f} s", f"{looked_at():,.0f}", f"{recorded:,.0f}", f"{os.getloadavg()[0]:.1f}")
        for rule, last_took in costliest():
            print(f"    {1000 * last_took:.0f} ms {rule}", flush=True)
    [(_, scraping)] = found.pop("none")
    for name, phases in found.items():
        took, used = (statistics.mean(column) for column in zip(*phases))
        a_guest = 1000 * (used - scraping) / (HOSTS * DOMAINS)
        print(f"{name}: rounds take {took:.2f} s a minute, and {a_guest:.2f} ms of CPU time a guest", flush=True)


def main():
    deadline = BEGAN + 60 + 4 * INTERVAL
    while True:
        try:
            up = one('sum(up{job="libvirt"})')
        except OSError:
            up = 0
        if up == HOSTS + 1:
            break
        if time.time() > deadline:
            sys.exit(f"fleet: {up:.0f} of {HOSTS + 1} exporters are scraped")
        time.sleep(1)
    print(f"{HOSTS} hosts of {DOMAINS} guests, scraped every {INTERVAL} s, rules every {EVALUATION} s; all up after {time.time() - BEGAN:.0f} s", flush=True)
    if os.environ["BEFORE"]:
        # A rate over five minutes looks at all of them when the first rules are used.
        wait_until(max(1, 4 - int(os.environ["PHASE"]) / 60))
        compare(os.environ["BEFORE"], os.environ["AFTER"])
        return
    # By then every series exists, and what its making took is past.
    wait_until(max(MINUTES / 4, (time.time() - BEGAN + INTERVAL + EVALUATION / 2) / 60))
    first = Moment()
    wait_until(MINUTES)
    last = Moment()
    took = last.time - first.time
    if took < 2 * max(INTERVAL, EVALUATION):
        sys.exit("fleet: too few minutes for two scrapes and evaluations")
    window = f"[{took:.0f}s]"
    grown = lambda name: last.counters[name] - first.counters[name]
    samples = grown("prometheus_tsdb_head_samples_appended_total")
    live = '{job="libvirt",instance=~"hypervisor-.+"}'

    print(f"Measured over {took:.0f} s; of {os.cpu_count()} CPUs, other work on this machine took "
          f"{100 * (last.machine - first.machine - sum(last.cpu.values()) + sum(first.cpu.values())) / took:.0f} % of one\n")
    print("| what | figure |\n|---|---|")
    series, scraped = last.counters["prometheus_tsdb_head_series"], one(f"avg(scrape_samples_scraped{live})")
    row("active series", f"{series:,.0f}, of them {one('count({__name__=~%s})' % json.dumps('[a-z]+:libvirt_.+')):,.0f} recorded")
    row("samples a scrape of one host", f"{scraped:,.0f} ({scraped / DOMAINS:.1f} a guest)")
    row("samples a second", f"{samples / took:,.0f}")
    query = f"scrape_duration_seconds{live}{window}"
    values = [1000 * float(value) for result in json.loads(fetch("/api/v1/query", query=query))["data"]["result"] for _, value in result["values"]]
    row(f"duration of a scrape: p50, p99, longest of {len(values):,}", percentiles(values))
    failed = one(f"sum(count_over_time(up{live}{window}) - sum_over_time(up{live}{window}))")
    row("scrapes that failed", f"{failed:.0f}")
    rss = memory("prometheus", "status", "VmRSS")[0]
    row("Prometheus: RSS now, highest", f"{rss:,.0f} MiB ({1024 * rss / series:.1f} KiB a series), {memory('prometheus', 'status', 'VmHWM')[0]:,.0f} MiB")
    used = {role: last.cpu[role] - first.cpu[role] for role in last.cpu}
    row("Prometheus: CPU", f"{100 * used['prometheus'] / took:.0f} % of one ({1e6 * used['prometheus'] / samples:.1f} µs a sample)")
    row("WAL", f"{(last.wal - first.wal) / samples:.2f} bytes a sample")
    evaluations = {}
    for labels, value in ask(f"quantile_over_time(0.5, prometheus_rule_group_last_duration_seconds{window})"):
        evaluations[labels["rule_group"].rpartition(";")[2]] = [1000 * value]
    for labels, value in ask(f"max_over_time(prometheus_rule_group_last_duration_seconds{window})"):
        evaluations[labels["rule_group"].rpartition(";")[2]].append(1000 * value)
    for group, (median, longest) in sorted(evaluations.items(), key=lambda found: -found[1][0]):
        row(f"evaluation of {group}: median, longest", f"{median:.0f} ms, {longest:.0f} ms")
    row("all groups: median", f"{sum(median for median, _ in evaluations.values()):.0f} ms of each {EVALUATION} s")
    # Since the start, not only while it was measured.
    failures, missed = (int(last.counters[f"prometheus_rule_{name}_total"]) for name in ("evaluation_failures", "group_iterations_missed"))
    for rule, seconds in costliest():
        row(f"of that, {rule}", f"{1000 * seconds:.0f} ms")
    row("evaluations that failed, rounds that were missed", f"{failures}, {missed}")
    rss, shared = memory("exporter", "status", "VmRSS"), memory("exporter", "smaps_rollup", "Pss")
    row("exporters: RSS, median and sum", f"{statistics.median(rss):.0f} MiB, {sum(rss):,.0f} MiB ({sum(shared):,.0f} MiB with shared pages counted once)")
    scrapes = HOSTS * took / INTERVAL
    row("exporters: CPU", f"{100 * used['exporter'] / took:.0f} % of one, all together ({1000 * used['exporter'] / scrapes:.1f} ms a scrape)")
    row("fake daemons: CPU", f"{100 * used['fake'] / took:.0f} % of one, all together ({1000 * used['fake'] / scrapes:.1f} ms a scrape)")

    dashboard(min(300, int(time.time() - BEGAN)))
    wrong = alerts()
    if failures:
        wrong.append(f"{failures} evaluations failed")
    if failed:
        wrong.append(f"{failed:.0f} scrapes failed")
    if wrong:
        sys.exit("fleet: " + "; ".join(wrong))


main()
