//! Our own share of a scrape, by parameter: visit libvirt's reply, match and build, encode. `cargo bench --bench pipeline`
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, dead_code)]

#[path = "../tests/support/golden.rs"]
mod golden;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use domstats_exporter::catalogue::Catalogue;
use domstats_exporter::encode::Format;
use domstats_exporter::libvirt::{Records, Reply};
use uuid::Uuid;

/// `domains` domains with the parameters of the golden KVM guest.
fn host(domains: u32, of: &Records) -> Records {
    let guest = of.domain(0);
    let mut records = Records::default();
    for number in 0..domains {
        records.push_domain(&format!("guest-{number:05}"), Uuid::from_u128(u128::from(number)), Some(number));
        for param in guest.params() {
            records.push(param.key, param.value);
        }
    }
    records
}

fn pipeline(c: &mut Criterion) {
    let (config, guest) = golden::load("running-kvm");
    for domains in [150, 1000] {
        let records = host(domains, &guest);
        let catalogue = Catalogue::new(&config);
        let mut group = c.benchmark_group(format!("{domains} domains"));
        group.sample_size(20).throughput(Throughput::Elements(records.param_count().try_into().unwrap_or(1)));
        let reply = Reply::new(&guest, 0);
        let visit = || {
            let mut records = Records::default();
            for number in 0..domains {
                records.push_domain("guest", Uuid::from_u128(u128::from(number)), Some(number));
                black_box(&reply).visit(&mut records);
            }
            records
        };
        group.bench_function("visit", |b| b.iter(visit));
        group.bench_function("match and build", |b| b.iter(|| catalogue.build(&[black_box(&records)])));
        let families = Arc::new(catalogue.build(&[&records]).families);
        let formats = [("openmetrics", Format::OpenMetrics), ("text", Format::Text), ("protobuf", Format::Protobuf)];
        for (name, format) in formats {
            group.bench_function(name, |b| b.iter(|| format.encode(black_box(&families))));
        }
        group.bench_function("all, to openmetrics", |b| {
            b.iter(|| Format::OpenMetrics.encode(&Arc::new(catalogue.build(&[&visit()]).families)));
        });
        group.finish();
    }
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
