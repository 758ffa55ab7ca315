//! Our own share of a scrape, by parameter: visit libvirt's reply, match and build, encode. `cargo bench --bench pipeline`
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, dead_code)]

#[path = "../tests/support/golden.rs"]
mod golden;
#[path = "support/host.rs"]
mod host;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use domstats_exporter::config::MetricNaming;
use domstats_exporter::encode::Format;
use domstats_exporter::libvirt::{Records, Reply};
use domstats_exporter::metrics::{Families, FamilyBuilder, Lifetimes, Started, Taken, translate};
use host::{batches, host, push};
use uuid::Uuid;

fn pipeline(c: &mut Criterion) {
    let (config, guest) = golden::load("running-kvm");
    for domains in [100, 1_000, 10_000] {
        let records = host(domains, &guest);
        let records: Vec<&Records> = records.iter().collect();
        let params: usize = records.iter().map(|records| records.param_count()).sum();
        let builder = FamilyBuilder::new(&config);
        let mut group = c.benchmark_group(format!("{domains} domains"));
        // Of ten thousand, each turn takes a second.
        group
            .sample_size(if domains > 1_000 { 10 } else { 20 })
            .throughput(Throughput::Elements(params.try_into().unwrap_or(1)));
        let reply = Reply::new(&guest, 0);
        let visit = || batches(domains).map(|ids| black_box(&reply).visit(ids)).collect::<Vec<_>>();
        group.bench_function("visit", |b| b.iter(visit));
        group.bench_function("match and build", |b| b.iter(|| builder.build(black_box(&records))));
        let families = Arc::new(builder.build(&records).families);
        let formats = [("openmetrics", Format::OpenMetrics), ("text", Format::Text), ("protobuf", Format::Protobuf)];
        for (name, format) in formats {
            group.bench_function(name, |b| b.iter(|| format.encode(black_box(&families))));
        }
        // Since when each counter counts: what a scrape adds that shows it, the same counters as before in the same order.
        let mut followed = Families::clone(&families);
        for (number, subject) in (0..).zip(followed.subjects.iter_mut()) {
            let incarnation = Some((Uuid::from_u128(number), 1));
            subject.started = Some(Started { incarnation, process: Some(UNIX_EPOCH), ..Started::default() });
        }
        let mut lifetimes = Lifetimes::of_scrapes();
        group.bench_function("follow", |b| {
            b.iter(|| {
                let taken = Taken { span: Instant::now()..Instant::now(), at: SystemTime::now() };
                lifetimes.follow(black_box(&mut followed), &taken);
            });
        });
        group.bench_function("otlp", |b| {
            b.iter(|| {
                let mut chunks = push(black_box(&families));
                std::iter::from_fn(|| chunks.next_chunk()).map(|chunk| chunk.body.len()).sum::<usize>()
            });
        });
        for naming in MetricNaming::ALL.iter().filter(|naming| **naming != MetricNaming::Native) {
            let native = || builder.build(&records).families;
            let translated = |families| translate(families, *naming, false, &|_| true);
            group.bench_function(format!("to the names of {naming}"), |b| {
                b.iter_batched(native, translated, BatchSize::LargeInput);
            });
        }
        group.bench_function("all, to openmetrics", |b| {
            b.iter(|| {
                let records = visit();
                Format::OpenMetrics.encode(&builder.build(&records.iter().collect::<Vec<_>>()).families)
            });
        });
        group.finish();
    }
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
