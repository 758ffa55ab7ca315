# What there is to do here; README.md says more.
.PHONY: check demo test build deb rpm release reproduce packages-test lint deny miri fuzz soak bench fleet demo-once install cargo-deb dashboards dashboards-png

# The loop while changing code, under a minute once built: what needs no libvirtd, no QEMU and no network.
check:
	cargo fmt --all --check
	cargo clippy --locked --lib --bins --test golden --test contract --test libvirt_keys --test docs -- -D warnings
	cargo test --locked --quiet --lib --test golden --test contract --test libvirt_keys --test docs

# Three real guests on a private libvirtd, and the exporter on it, until Ctrl-C (DEMO_ONCE=1: one scrape).
demo:
	@tests/lab/demo.sh

# Everything: lints, all tests (with real libvirt, QEMU and Prometheus; see tests/lab), and the demo, of the program that was tested.
# A failing test binary does not keep those after it from running; the last lines name it.
test: SHELL := /bin/bash
test: .SHELLFLAGS := -o pipefail -c
test: install
	@tests/lab/prepare.sh $$PPID >/dev/null 2>&1 &
	@$(MAKE) --no-print-directory lint
	cargo test --workspace --locked --no-fail-fast 2>&1 | tests/lab/summary.sh
	@EXPORTER="$${CARGO_TARGET_DIR:-target}/debug/domstats-exporter" $(MAKE) --no-print-directory demo-once

build:
	@tests/lab/install.sh build
	@release/build.sh

# The Debian package, and one with its debug symbols, in target/debian.
deb:
	@tests/lab/install.sh deb
	@$(MAKE) --no-print-directory cargo-deb
	@release/deb.sh target/debian

# The rpm, in target/rpm, of a program that runs where the C library is not older than this machine's.
rpm:
	@tests/lab/install.sh rpm
	@release/rpm.sh target/rpm

# Everything of a release, in target/dist; RELEASING.md says what that is.
release:
	@tests/lab/install.sh release
	@$(MAKE) --no-print-directory cargo-deb
	@release/all.sh

# Whether the last commit gives the same packages when it is built twice.
reproduce:
	@tests/lab/install.sh release
	@$(MAKE) --no-print-directory cargo-deb
	@release/reproduce.sh

# What was released, where it runs: the image, the role, the package on other releases, arm64. Needs root, and half an hour or more.
packages-test:
	@tests/lab/install.sh packages
	@tests/packages/all.sh

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	shellcheck -x tests/lab/*.sh tests/systemd/*.sh packaging/rpm/*.sh packaging/container/*.sh release/*.sh tests/packages/*.sh dashboards/renderer/*.sh benches/*.sh benches/support/*.sh .ci/run

# Advisories (where the database can be reached), licences, duplicates and sources of all dependencies.
deny:
	@command -v cargo-deny >/dev/null || { echo "installing cargo-deny (some minutes)"; cargo install --locked --quiet cargo-deny; }
	cargo deny --locked check bans licenses sources
	@if git ls-remote https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then cargo deny --locked check advisories; \
	else echo "deny: the advisory database is out of reach; advisories were not looked at"; fi

# The unsafe code that calls nothing of libvirt, under Miri, which is for nightly compilers only; tests/memory.rs has the rest.
miri:
	@cargo +nightly miri --version >/dev/null 2>&1 || { echo "installing Miri"; \
	rustup --quiet toolchain install nightly --profile minimal --component miri --component rust-src; }
	cargo +nightly miri test --locked --lib -- libvirt::

# The fuzz targets, FUZZ_SECONDS each; `cargo test` gives them three.
fuzz: export FUZZ_SECONDS ?= 60
fuzz: export LIBVIRT_LOG_OUTPUTS ?= 4:file:/dev/null
fuzz:
	cargo test --release --locked --test fuzz --test fuzz_frames -- --nocapture

# Half an hour of scrapes, pushes and reloads while domains come and go; `cargo test` does it for two minutes.
# And ten minutes in which the sockets of targets come and go.
soak: export SOAK_SECONDS ?= 1800
soak: export TARGET_SOAK_SECONDS ?= 600
soak:
	cargo test --release --locked --test soak -- --nocapture
	cargo test --release --locked --test many_daemons sockets_of_a_pattern -- --nocapture

# The figures of benches/README.md; benches/real.sh needs root.
bench:
	@tests/lab/install.sh bench
	cargo bench --locked --bench pipeline --bench allocations --bench scrape
	cargo build --release --locked --workspace
	benches/flat.sh
	benches/targets.sh
	benches/real.sh $(N)

# A hundred exporters, each on a fake libvirtd of its own, and one Prometheus with the shipped rules: what that asks of it.
fleet:
	cargo build --release --locked -p domstats-exporter -p fake-libvirtd
	benches/fleet.sh

# Writes dashboards/*.json and alerts/*.yaml from dashboards/generator.
dashboards:
	cargo run --quiet --locked -p dashboards

# Pictures of the dashboards with real guests behind them, in dashboards/pictures; needs npm and chromium.
dashboards-png:
	@dashboards/renderer/pictures.sh

# The demo as a test: it fails unless one scrape has all three guests.
demo-once:
	@DEMO_ONCE=1 tests/lab/demo.sh >/dev/null && echo "demo: ok"

# The Debian packages that the tests need, where they are missing.
install:
	@tests/lab/install.sh test
	@$(MAKE) --no-print-directory cargo-deb

cargo-deb:
	@command -v cargo-deb >/dev/null || { echo "installing cargo-deb (a minute or two)"; cargo install --locked --quiet cargo-deb; }
