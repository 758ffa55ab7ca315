//! How often each stage asks for memory, by parameter, once it has run before: `cargo bench --bench allocations`
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::print_stdout, dead_code)]
#![allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts as figures for people")]

#[path = "../tests/support/golden.rs"]
mod golden;
#[path = "support/host.rs"]
mod host;

use std::alloc::System;
use std::hint::black_box;
use std::sync::Arc;

use domstats_exporter::encode::Format;
use domstats_exporter::libvirt::{Records, Reply};
use domstats_exporter::metrics::FamilyBuilder;
use host::{batches, host, push};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let (config, guest) = golden::load("running-kvm");
    println!("domains  stage        parameters  allocations  a parameter  reallocations  bytes a parameter");
    for domains in [100, 1_000] {
        let records = host(domains, &guest);
        let records: Vec<&Records> = records.iter().collect();
        let params = records.iter().map(|records| records.param_count()).sum();
        let builder = FamilyBuilder::new(&config);
        let reply = Reply::new(&guest, 0);
        let families = Arc::new(builder.build(&records).families);
        count(domains, "visit", params, || batches(domains).for_each(|ids| drop(black_box(reply.visit(ids)))));
        count(domains, "build", params, || drop(black_box(builder.build(&records))));
        let formats = [("openmetrics", Format::OpenMetrics), ("text", Format::Text), ("protobuf", Format::Protobuf)];
        for (name, format) in formats {
            count(domains, name, params, || drop(black_box(format.encode(&families))));
        }
        count(domains, "otlp", params, || {
            let mut chunks = push(&families);
            while let Some(chunk) = chunks.next_chunk() {
                black_box(chunk.body.len());
            }
        });
    }
}

fn count(domains: u32, stage: &str, params: usize, what: impl FnOnce()) {
    let region = Region::new(ALLOCATOR);
    what();
    let change = region.change();
    println!(
        "{domains:7}  {stage:11}  {params:10}  {:11}  {:11.3}  {:13}  {:17.1}",
        change.allocations,
        change.allocations as f64 / params as f64,
        change.reallocations,
        change.bytes_allocated as f64 / params as f64
    );
}
