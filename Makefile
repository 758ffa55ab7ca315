# What there is to do here; README.md says more.
.PHONY: demo test build lint demo-once install

# Three real guests on a private libvirtd, and the exporter on it, until Ctrl-C (DEMO_ONCE=1: one scrape).
demo:
	@tests/lab/demo.sh

# Everything: lints, all tests (with real libvirt, QEMU and Prometheus; see tests/lab), and the demo.
test: install lint
	cargo test --workspace --locked
	@$(MAKE) --no-print-directory demo-once

build:
	@tests/lab/install.sh build
	cargo build --release --locked

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	shellcheck -x tests/lab/*.sh .ci/run

# The demo as a test: it fails unless one scrape has all three guests.
demo-once:
	@DEMO_ONCE=1 tests/lab/demo.sh >/dev/null && echo "demo: ok"

# The Debian packages that the tests need, where they are missing.
install:
	@tests/lab/install.sh test
