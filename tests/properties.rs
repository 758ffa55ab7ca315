//! Properties that hold for whatever a daemon sends.
#![allow(clippy::expect_used)]

use std::collections::HashSet;
use std::sync::Arc;

use domstats_exporter::config::{self, Config};
use domstats_exporter::encode::Format;
use domstats_exporter::libvirt::{ParamValue, Records};
use domstats_exporter::metrics::{Families, FamilyBuilder};
use proptest::prelude::*;
use uuid::Uuid;

/// A value that a test can own.
#[derive(Debug, Clone)]
enum Owned {
    Int(i32),
    UInt(u32),
    LLong(i64),
    ULLong(u64),
    Double(f64),
    Boolean(bool),
    String(String),
    Unknown(i32),
}

/// Name, UUID, id and parameters.
type OwnedDomain = (String, u128, Option<u32>, Vec<(String, Owned)>);

impl Owned {
    fn borrow(&self) -> ParamValue<'_> {
        match self {
            Self::Int(v) => ParamValue::Int(*v),
            Self::UInt(v) => ParamValue::UInt(*v),
            Self::LLong(v) => ParamValue::LLong(*v),
            Self::ULLong(v) => ParamValue::ULLong(*v),
            Self::Double(v) => ParamValue::Double(*v),
            Self::Boolean(v) => ParamValue::Boolean(*v),
            Self::String(v) => ParamValue::String(v),
            Self::Unknown(v) => ParamValue::Unknown(*v),
        }
    }
}

fn value() -> impl Strategy<Value = Owned> {
    prop_oneof![
        any::<i32>().prop_map(Owned::Int),
        any::<u32>().prop_map(Owned::UInt),
        any::<i64>().prop_map(Owned::LLong),
        any::<u64>().prop_map(Owned::ULLong),
        any::<f64>().prop_map(Owned::Double),
        any::<bool>().prop_map(Owned::Boolean),
        ".{0,20}".prop_map(Owned::String),
        any::<i32>().prop_map(Owned::Unknown),
    ]
}

/// Keys near those of the tables, and any others.
fn key() -> impl Strategy<Value = String> {
    let near = "(state|cpu|balloon|vcpu|net|block|iothread|vm|memory\\.bandwidth\\.monitor|cpu\\.cache\\.monitor|\
                cpu\\.energy\\.monitor|dirtyrate)(\\.(state|reason|time|count|name|path|backingIndex|[0-3]|\
                rd\\.bytes|rx\\.bytes|capacity|timed_group|interval|rd_latency_min|latency_histogram\\.read\\.bin|start|\
                value|exits\\.sum|exits\\.cur|x_ns\\.max|poll-grow|node|id|bank|bytes|bytes\\.total)){1,4}";
    prop_oneof![4 => near.prop_map(String::from), 1 => ".{0,79}".prop_map(String::from)]
}

fn domains() -> impl Strategy<Value = Vec<OwnedDomain>> {
    let params = prop::collection::vec((key(), value()), 0..60);
    prop::collection::vec((".{0,12}", any::<u128>(), any::<Option<u32>>(), params), 0..4)
}

fn everything() -> Config {
    let groups = "state, cpu_total, balloon, vcpu, interface, block, perf, iothread, memory, dirtyrate, vm, vcpu_kvm";
    config::parse(&format!("collection: {{groups: [{groups}], backing_chain: true}}"), "test").expect("a configuration")
}

fn build(domains: &[OwnedDomain]) -> Arc<Families> {
    let mut records = Records::default();
    for (name, uuid, id, params) in domains {
        records.push_domain(name, Uuid::from_u128(*uuid), *id);
        for (key, value) in params {
            records.push(key, value.borrow());
        }
    }
    Arc::new(FamilyBuilder::new(&everything()).build(&[&records]).families)
}

fn text(format: Format, families: &Arc<Families>) -> String {
    String::from_utf8(format.encode(families)).expect("a text format is text")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever the keys, no two lines of an exposition are the same series, and no label value breaks a line.
    #[test]
    fn an_exposition_is_well_formed(domains in domains()) {
        let families = build(&domains);
        let exposition = text(Format::Text, &families);
        let mut series = HashSet::new();
        let mut typed = HashSet::new();
        for line in exposition.lines() {
            if let Some(of) = line.strip_prefix("# TYPE ") {
                prop_assert!(typed.insert(of.split(' ').next().unwrap_or_default().to_owned()), "twice: {}", of);
            } else if !line.starts_with('#') {
                let (labels, number) = line.rsplit_once(' ').expect("a series and a value");
                prop_assert!(number.parse::<f64>().is_ok(), "{}", line);
                prop_assert!(labels.starts_with("libvirt_domain_") && labels.ends_with('}'), "{}", line);
                prop_assert!(series.insert(labels.to_owned()), "twice: {}", labels);
            }
        }
        prop_assert_eq!(series.len(), families.series());
        let openmetrics = text(Format::OpenMetrics, &families);
        prop_assert!(openmetrics.ends_with("# EOF\n"));
        let samples = openmetrics.lines().filter(|line| !line.starts_with('#')).count();
        prop_assert_eq!(samples, families.series());
    }

    /// A counter is never negative and never "not a number"; buckets only grow.
    #[test]
    fn counters_and_buckets_are_what_they_must_be(domains in domains()) {
        let families = build(&domains);
        for line in text(Format::Text, &families).lines().filter(|line| !line.starts_with('#')) {
            let (series, number) = line.rsplit_once(' ').expect("a series and a value");
            if series.split('{').next().is_some_and(|name| name.ends_with("_total")) {
                let number: f64 = number.parse().expect("a number");
                prop_assert!(number >= 0.0, "{}", line);
            }
        }
        for histogram in &families.histograms {
            let grow = histogram.buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            prop_assert!(grow && histogram.buckets.last().is_some_and(|bucket| bucket.0 == f64::INFINITY));
        }
    }
}
