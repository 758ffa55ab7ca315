//! Keys and parameters, as a daemon may send them: to families, through every encoder, and back.

use std::sync::{Arc, LazyLock};
use std::time::UNIX_EPOCH;

use domstats_exporter::config::{self, Config, Naming, Temporality};
use domstats_exporter::encode::Format;
use domstats_exporter::encode::otlp::{Chunks, Dialect, Part, Starts, to_json};
use domstats_exporter::libvirt::{ParamValue, Records};
use domstats_exporter::metrics::{Families, FamilyBuilder};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;
use uuid::Uuid;

use super::exposition::{read_protobuf, read_text};
use super::input::Input;

static EVERYTHING: LazyLock<Config> = LazyLock::new(|| {
    let groups = "state, cpu_total, balloon, vcpu, interface, block, perf, iothread, memory, dirtyrate, vm, vcpu_kvm";
    config::parse(&format!("collection: {{groups: [{groups}], backing_chain: true}}"), "fuzz").unwrap()
});
/// It lives as long as the process, as in the exporter: what one input leaves in its memory, the next one meets.
static BUILDER: LazyLock<FamilyBuilder> = LazyLock::new(|| FamilyBuilder::new(&EVERYTHING));

/// What keys are made of.
const WORDS: &[&str] = &[
    "state",
    "reason",
    "cpu",
    "time",
    "user",
    "system",
    "cache",
    "monitor",
    "count",
    "bank",
    "bytes",
    "vcpus",
    "name",
    "id",
    "haltpoll",
    "success",
    "fail",
    "energy",
    "package",
    "balloon",
    "current",
    "maximum",
    "rss",
    "swap_in",
    "vcpu",
    "halted",
    "wait",
    "delay",
    "exits",
    "sum",
    "cur",
    "max",
    "x_ns",
    "net",
    "rx",
    "tx",
    "pkts",
    "errs",
    "drop",
    "block",
    "path",
    "backingIndex",
    "rd",
    "wr",
    "fl",
    "reqs",
    "times",
    "allocation",
    "capacity",
    "physical",
    "threshold",
    "errors",
    "limits",
    "timed_group",
    "interval",
    "rd_latency_min",
    "latency_histogram",
    "read",
    "bin",
    "start",
    "value",
    "perf",
    "cmt",
    "iothread",
    "poll-max-ns",
    "poll-grow",
    "memory",
    "bandwidth",
    "node",
    "total",
    "local",
    "dirtyrate",
    "calc_status",
    "calc_mode",
    "megabytes_per_second",
    "vm",
    "remote_tlb_flush",
    "0",
    "1",
    "2",
    "3",
    "10",
    "01",
    "4294967295",
    "4294967296",
    "",
];

/// Each line is a key of one domain, with its number as the value.
pub(crate) fn keys(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut records = Records::default();
    records.push_domain("a", Uuid::nil(), Some(1));
    for (number, key) in text.lines().enumerate() {
        records.push(key, ParamValue::ULLong(u64::try_from(number).unwrap()));
    }
    let build = || Arc::new(BUILDER.build(&[&records]).families);
    let first = build();
    check(&first);
    // From the cache, and not in the order that was guessed.
    assert_eq!(
        Format::Text.encode(&first),
        Format::Text.encode(&build()),
        "a key means something else the second time"
    );
}

/// Domains and their parameters, decided by the input.
pub(crate) fn params(data: &[u8]) {
    let mut input = Input::new(data);
    let mut records = Records::default();
    while !input.is_empty() {
        let name = if input.byte() < 200 { format!("vm-{}", input.byte()) } else { input.text(40) };
        let id = Some(u32::from(input.byte())).filter(|id| *id > 20);
        records.push_domain(&name, Uuid::from_u128(u128::from(input.byte())), id);
        for _ in 0..input.below(80) {
            if input.is_empty() {
                break;
            }
            push(&mut input, &mut records);
        }
    }
    check(&Arc::new(BUILDER.build(&[&records]).families));
}

fn push(input: &mut Input<'_>, records: &mut Records) {
    let key = if input.byte() < 240 {
        let words: Vec<&str> = (0..=input.below(5)).map(|_| input.pick(WORDS)).collect();
        words.join(".")
    } else {
        input.text(80)
    };
    let word = if input.byte() < 64 {
        input.pick(&[0, 1, u64::MAX, i64::MAX.cast_unsigned(), i64::MIN.cast_unsigned(), f64::NAN.to_bits()])
    } else {
        input.word()
    };
    let half = u32::from_le_bytes(word.to_le_bytes()[..4].try_into().unwrap());
    let text;
    let value = match input.byte() % 12 {
        0..5 => ParamValue::ULLong(word),
        5 => ParamValue::LLong(word.cast_signed()),
        6 => ParamValue::UInt(half),
        7 => ParamValue::Int(half.cast_signed()),
        8 => ParamValue::Double(f64::from_bits(word)),
        9 => ParamValue::Boolean(word & 1 == 1),
        10 => {
            text = input.text(40);
            ParamValue::String(&text)
        }
        _ => ParamValue::Unknown(half.cast_signed()),
    };
    records.push(&key, value);
}

/// All formats say the same, and each is what its readers take.
fn check(families: &Arc<Families>) {
    let text = String::from_utf8(Format::Text.encode(families)).expect("text");
    let openmetrics = String::from_utf8(Format::OpenMetrics.encode(families)).expect("text");
    assert!(openmetrics.ends_with("# EOF\n"));
    let samples = read_text(&text);
    assert_eq!(samples, read_text(&openmetrics), "OpenMetrics differs from text");
    assert_eq!(samples, read_protobuf(&Format::Protobuf.encode(families)), "protobuf differs from text");
    let all: usize = families.families.iter().map(|family| family.samples.len()).sum();
    for naming in [Naming::Otel, Naming::Prometheus] {
        assert_eq!(pushed(families, naming), all, "points of a push");
    }
}

/// How many points a push has.
fn pushed(families: &Arc<Families>, naming: Naming) -> usize {
    let dialect = Dialect {
        naming,
        temporality: Temporality::Cumulative,
        resource: Vec::new(),
        domain_resource: naming == Naming::Prometheus,
    };
    let part = Part { families: Arc::clone(families), starts: Starts::OfFamilies, at: UNIX_EPOCH, ended: false };
    let mut chunks = Chunks::new(dialect, vec![part]);
    let mut all = 0;
    while let Some(chunk) = chunks.next_chunk() {
        let request = ExportMetricsServiceRequest::decode(&*chunk.body).expect("a request");
        let metrics = request.resource_metrics.iter().flat_map(|of| &of.scope_metrics).flat_map(|of| &of.metrics);
        let points = metrics.map(|metric| match metric.data.as_ref().expect("data") {
            Data::Gauge(gauge) => gauge.data_points.len(),
            Data::Sum(sum) => sum.data_points.len(),
            Data::Histogram(histogram) => histogram.data_points.len(),
            other => panic!("{other:?}"),
        });
        let points: usize = points.sum();
        assert_eq!(points, chunk.points, "points of a chunk");
        assert!(to_json(&chunk.body).is_ok());
        all += points;
    }
    all
}
