"""The rounds of benches/targets.sh: probes at an interval, and what the exporter holds meanwhile."""

import glob
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request

folder, port, pid, targets, domains, interval, seconds, fake = sys.argv[1:]
port, pid, targets, domains = int(port), int(pid), int(targets), int(domains)
interval, seconds = float(interval), float(seconds)


def probe(number):
    url = f"http://127.0.0.1:{port}/probe?target=hv-{number}"
    request = urllib.request.Request(url, headers={"X-Prometheus-Scrape-Timeout-Seconds": "10"})
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=20) as answer:
        body = answer.read()
    took = time.monotonic() - began
    whole = len(re.findall(rb"(?m)^libvirt_domain_stats_complete\{.*\} 1$", body))
    return took, b"\nlibvirt_up 1\n" in body, whole


def held():
    status = open(f"/proc/{pid}/status").read()
    number = lambda key: int(re.search(rf"{key}:\s+(\d+)", status).group(1))
    return number("VmRSS") // 1024, number("Threads"), len(os.listdir(f"/proc/{pid}/fd"))


def cpu():
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def round_of(name, numbers, well):
    """Probes `numbers` at the interval; the times are those of targets that are `well`."""
    times, faults, ended = [], [], time.monotonic() + seconds
    lock = threading.Lock()

    def scrape(number):
        # Each at its own moment of the interval, as Prometheus does.
        time.sleep(interval * numbers.index(number) / len(numbers))
        while time.monotonic() < ended:
            began = time.monotonic()
            took, up, whole = probe(number)
            if number in well:
                with lock:
                    times.append(took)
                    if not up or whole != domains:
                        faults.append(number)
            time.sleep(max(0, began + interval - time.monotonic()))

    before, began = cpu(), time.monotonic()
    threads = [threading.Thread(target=scrape, args=(number,)) for number in numbers]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    share = (cpu() - before) / (time.monotonic() - began)
    times.sort()
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))] * 1000
    rss, count, files = held()
    print(
        f"| {name} | {len(times)} | {at(0.5):.1f} | {at(0.99):.1f} | {at(1):.1f} | {len(faults)} | {rss} | {count} | {files} | {share * 100:.1f} % |",
        flush=True,
    )


def start(number):
    path = f"{folder}/{number}"
    log = open(f"{path}.log", "a")
    command = [fake, "--socket", f"{path}.sock", "--scenario", f"{folder}/scenario.yaml", "--live"]
    return subprocess.Popen(command, stdout=log, stderr=log)


everyone = list(range(1, targets + 1))
for _ in range(200):
    try:
        if all(probe(number)[2] == domains for number in everyone):
            break
    except OSError:
        pass
    time.sleep(0.2)
print("| probes | number | p50 ms | p99 ms | longest ms | incomplete | RSS MiB | threads | descriptors | CPU of a core |")
print("|---|---|---|---|---|---|---|---|---|---|")
single = interval
interval = min(1.0, interval)
round_of("one target, each second", [1], {1})
interval = single
round_of(f"{targets} targets", everyone, set(everyone))
for number in everyone[:10]:
    os.kill(int(open(f"{folder}/{number}.pid").read()), signal.SIGSTOP)
round_of("10 of them frozen", everyone, set(everyone[10:]))
stop = threading.Event()
running = {number: None for number in everyone[10:20]}
for number in running:
    os.kill(int(open(f"{folder}/{number}.pid").read()), signal.SIGKILL)


def restart():
    while not stop.is_set():
        for number in running:
            running[number] = start(number)
        stop.wait(3)
        for number, process in running.items():
            process.kill()
            process.wait()
        stop.wait(2)


restarting = threading.Thread(target=restart)
restarting.start()
round_of("10 frozen, 10 restarting every 5 s", everyone, set(everyone[20:]))
stop.set()
restarting.join()
