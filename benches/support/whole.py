#!/usr/bin/env python3
"""Scrapes N times, and says in how many scrapes each guest was whole: whole.py TITLE URL GUESTS SCRAPES INTERVAL

A guest is whole if each family that it had a sample of in any scrape has one now; what the exporter says of that itself
(libvirt_domain_stats_complete) is compared with it. SHOW_MISSING=1 prints what each scrape says is missing.
"""

import os
import re
import statistics
import sys
import time
import urllib.request

SAMPLE = re.compile(r'^(libvirt_domain_\w+)\{(?:[^}]*,)?domain="([^"]+)"[^}]*\} (\S+)', re.MULTILINE)
OF_EXPORTER = {"libvirt_domain_stats_complete", "libvirt_domain_stats_missing", "libvirt_domain_quarantined"}

title, url, guests, scrapes, interval = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
taken, times = [], []
for _ in range(scrapes):
    began = time.monotonic()
    with urllib.request.urlopen(urllib.request.Request(url, headers={"X-Prometheus-Scrape-Timeout-Seconds": "10"})) as answer:
        body = answer.read().decode()
    times.append(time.monotonic() - began)
    families, marked = {}, set()
    for name, domain, value in SAMPLE.findall(body):
        if name == "libvirt_domain_stats_complete" and value == "0":
            marked.add(domain)
        if name not in OF_EXPORTER:
            families.setdefault(domain, set()).add(name)
    taken.append((families, marked))
    if os.environ.get("SHOW_MISSING"):
        sys.stdout.writelines(f"{time.strftime('%T')} {times[-1]:.3f} s {line}\n" for line in body.splitlines() if line.startswith("libvirt_domain_stats_missing{"))
    time.sleep(max(0.0, interval - (time.monotonic() - began)))

expected = {}
for families, _ in taken:
    for domain, names in families.items():
        expected.setdefault(domain, set()).update(names)
whole = [sum(families.get(domain) == names for domain, names in expected.items()) for families, _ in taken]
silent = sum(families.get(domain) != names and domain not in marked for families, marked in taken for domain, names in expected.items())
print(
    f"{title}: {sum(count == guests for count in whole)} of {scrapes} scrapes whole, worst {min(whole)} of {guests} guests, "
    f"{silent} incomplete ones not marked; {statistics.median(times) * 1e3:.0f} ms a scrape, at most {max(times) * 1e3:.0f}"
)
