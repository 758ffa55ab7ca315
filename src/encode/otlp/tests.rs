use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::metric::Data as Read;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, Metric, NumberDataPoint};
use prost::Message as _;

use super::*;
use crate::metrics::{Family, Histogram, LabelSet, Origin, Sample, Started, Subject, SubjectId, Value};

const AT: u64 = 1_700_000_000_000_000_000;
const START: u64 = 1_600_000_000_000_000_000;

fn time(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

fn dialect(naming: Naming) -> Dialect {
    Dialect {
        naming,
        temporality: Temporality::Cumulative,
        resource: vec![("service.name".into(), "x".into())],
        domain_resource: false,
    }
}

fn family(name: &'static str, otel: &'static str, kind: Kind, unit: Unit, samples: Vec<Sample>) -> Family {
    let direction = if name.contains("read") { "read" } else { "write" };
    let otel_attributes: &[_] = match direction {
        _ if otel != "libvirt.io" => &[],
        "read" => &[("disk.io.direction", "read")],
        _ => &[("disk.io.direction", "write")],
    };
    let (name, otel_name) = (Cow::Borrowed(name), Cow::Borrowed(otel));
    let help = Cow::Owned(format!("help of {name}"));
    Family::new(Arc::new(Meta { name, help, kind, unit, otel_name, otel_attributes }), Origin::Process, samples)
}

/// One domain with a disk, and the exporter.
fn families() -> Families {
    let mut families = Families::default();
    let subject = families.push_subject(Subject::Domain, [("domain", "a\"b"), ("uuid", "u")]);
    let disk = families.labels.push([("device", "vda")]);
    let code = families.labels.push([("path", "/"), ("code", "200")]);
    let odd = families.labels.push([("oddity", "1")]);
    families.histograms.push(Histogram { buckets: vec![(0.5, 2), (1.0, 2), (f64::INFINITY, 7)], sum: Some(1.5) });
    let none = LabelSet::EMPTY;
    let sample = |subject, labels, value| vec![Sample::new(subject, labels, value)];
    families.families = vec![
        family("read", "libvirt.io", Kind::Counter, Unit::Bytes, sample(subject, disk, Value::Unsigned(7))),
        family("mem", "libvirt.mem", Kind::Gauge, Unit::Bytes, sample(subject, none, Value::Unsigned(u64::MAX))),
        family("write", "libvirt.io", Kind::Counter, Unit::Bytes, sample(subject, disk, Value::Float(0.5))),
        family("flag", "libvirt.flag", Kind::Gauge, Unit::None, sample(subject, odd, Value::Signed(-1))),
        family("time", "libvirt.time", Kind::Histogram, Unit::Seconds, sample(subject, disk, Value::Histogram(0))),
        family(
            "http",
            "libvirt.http",
            Kind::Counter,
            Unit::Of("request"),
            sample(SubjectId::EXPORTER, code, Value::Unsigned(3)),
        ),
    ];
    families
}

fn part(families: Families, ended: bool) -> Part {
    let mut families = families;
    let started = Started { seen: Some(time(START)), ..Started::default() };
    families.subjects.iter_mut().for_each(|subject| subject.started = Some(started.clone()));
    Part { families: Arc::new(families), starts: Starts::OfFamilies, at: time(AT), ended }
}

fn decode(chunks: &mut Chunks) -> Vec<Vec<Metric>> {
    let metrics = |chunk: Chunk| {
        let request = ExportMetricsServiceRequest::decode(&*chunk.body).expect("a request");
        let resource = &request.resource_metrics[0];
        let name = &resource.resource.as_ref().expect("a resource").attributes[0];
        assert_eq!((request.resource_metrics.len(), name.key.as_str()), (1, "service.name"));
        let scope = &resource.scope_metrics[0];
        assert_eq!((&*resource.schema_url, &*scope.schema_url), (SCHEMA_URL, SCHEMA_URL));
        let named = scope.scope.as_ref().expect("a scope");
        assert_eq!((named.name.as_str(), named.version.as_str()), ("domstats-exporter", env!("CARGO_PKG_VERSION")));
        // The writer omits what prost omits.
        assert_eq!(request.encoded_len(), chunk.body.len());
        scope.metrics.clone()
    };
    std::iter::from_fn(|| chunks.next_chunk()).map(metrics).collect()
}

fn numbers(metric: &Metric) -> &[NumberDataPoint] {
    match &metric.data {
        Some(Read::Gauge(gauge)) => &gauge.data_points,
        Some(Read::Sum(sum)) => &sum.data_points,
        other => panic!("{other:?}"),
    }
}

fn histogram(metric: &Metric) -> &HistogramDataPoint {
    match &metric.data {
        Some(Read::Histogram(histogram)) => &histogram.data_points[0],
        other => panic!("{other:?}"),
    }
}

fn attributes(point: &NumberDataPoint) -> Vec<(&str, String)> {
    let text = |value: &Any| match value {
        Any::StringValue(text) => text.clone(),
        Any::IntValue(number) => format!("number {number}"),
        other => panic!("{other:?}"),
    };
    let value = |pair: &opentelemetry_proto::tonic::common::v1::KeyValue| {
        text(pair.value.as_ref().and_then(|value| value.value.as_ref()).expect("a value"))
    };
    point.attributes.iter().map(|pair| (pair.key.as_str(), value(pair))).collect()
}

#[test]
fn each_kind_is_its_message() {
    let metrics = decode(&mut Chunks::new(dialect(Naming::Otel), vec![part(families(), false)])).remove(0);
    let names: Vec<_> = metrics.iter().map(|metric| (metric.name.as_str(), metric.unit.as_str())).collect();
    let expected = [("libvirt.io", "By"), ("libvirt.mem", "By"), ("libvirt.flag", ""), ("libvirt.time", "s")];
    assert_eq!(names[..4], expected);
    assert_eq!(metrics[0].description, "help of read; help of write");
    let sums: Vec<_> = metrics
        .iter()
        .map(|metric| match &metric.data {
            Some(Read::Sum(sum)) => Some((sum.aggregation_temporality, sum.is_monotonic)),
            _ => None,
        })
        .collect();
    assert_eq!(sums, [Some((2, true)), Some((2, false)), None, None, Some((2, true))]);
    let [read, write] = numbers(&metrics[0]) else { panic!("two points") };
    assert_eq!((read.value, write.value), (Some(Number::AsInt(7)), Some(Number::AsDouble(0.5))));
    assert_eq!((read.start_time_unix_nano, read.time_unix_nano), (START, AT));
    let of_disk = |direction: &str| {
        let pairs = [
            ("libvirt.domain.name", "a\"b"),
            ("libvirt.domain.uuid", "u"),
            ("system.device", "vda"),
            ("disk.io.direction", direction),
        ];
        pairs.map(|(name, value)| (name, value.to_owned())).to_vec()
    };
    assert_eq!((attributes(read), attributes(write)), (of_disk("read"), of_disk("write")));
    // Beyond what OTLP's integers hold.
    assert_eq!(numbers(&metrics[1])[0].value, Some(Number::AsDouble(1.844_674_407_370_955_2e19)));
    let flag = &numbers(&metrics[2])[0];
    assert_eq!((flag.value, flag.start_time_unix_nano), (Some(Number::AsInt(-1)), 0));
    assert!(attributes(flag).contains(&("libvirt.oddity", "1".into())), "a label that the table does not know");
    let time = histogram(&metrics[3]);
    assert_eq!((time.count, time.sum), (7, Some(1.5)));
    assert_eq!((&*time.bucket_counts, &*time.explicit_bounds), (&[2, 0, 5][..], &[0.5, 1.0][..]));
    assert_eq!(time.attributes.len(), 3);
    let http = attributes(&numbers(&metrics[4])[0]);
    assert_eq!(http, [("http.route", "/".into()), ("http.response.status_code", "number 200".into())]);
}

#[test]
fn prometheus_names_are_those_of_the_scrape() {
    let metrics = decode(&mut Chunks::new(dialect(Naming::Prometheus), vec![part(families(), false)])).remove(0);
    let names: Vec<_> = metrics.iter().map(|metric| (metric.name.as_str(), metric.unit.as_str())).collect();
    assert_eq!(names, ["read", "mem", "write", "flag", "time", "http"].map(|name| (name, "")));
    let labels = [("domain", "a\"b".to_owned()), ("uuid", "u".to_owned()), ("device", "vda".to_owned())];
    assert_eq!(attributes(&numbers(&metrics[0])[0]), labels);
}

#[test]
fn the_end_of_a_series_has_no_value() {
    let metrics = decode(&mut Chunks::new(dialect(Naming::Otel), vec![part(families(), true)])).remove(0);
    assert!(numbers(&metrics[0]).iter().all(|point| point.value.is_none() && point.flags == 1));
    assert_eq!(attributes(&numbers(&metrics[0])[0]).len(), 4);
    let time = histogram(&metrics[3]);
    assert_eq!((time.flags, time.count), (1, 0));
    // Each series that a receiver makes of it.
    assert_eq!((time.sum, &*time.bucket_counts, &*time.explicit_bounds), (Some(0.0), &[0, 0, 0][..], &[0.5, 1.0][..]));
}

#[test]
fn only_totals_are_deltas() {
    let dialect = Dialect { temporality: Temporality::Delta, ..self::dialect(Naming::Otel) };
    let metrics = decode(&mut Chunks::new(dialect, vec![part(families(), false)])).remove(0);
    let temporality = |metric: &Metric| match &metric.data {
        Some(Read::Sum(sum)) => sum.aggregation_temporality,
        Some(Read::Histogram(histogram)) => histogram.aggregation_temporality,
        _ => 0,
    };
    assert_eq!(metrics.iter().map(temporality).collect::<Vec<_>>(), [1, 2, 0, 1, 1]);
    // An end is none.
    let dialect = Dialect { temporality: Temporality::Delta, ..self::dialect(Naming::Otel) };
    let metrics = decode(&mut Chunks::new(dialect, vec![part(families(), true)])).remove(0);
    assert_eq!(metrics.iter().map(temporality).collect::<Vec<_>>(), [2, 2, 0, 2, 2]);
}

#[test]
fn a_domain_is_a_resource_where_that_is_wanted() {
    let resource = vec![("service.instance.id".into(), "host".into())];
    for (naming, of_domain) in [(Naming::Otel, "libvirt.domain.uuid"), (Naming::Prometheus, "uuid")] {
        let dialect = Dialect { resource: resource.clone(), domain_resource: true, ..dialect(naming) };
        let mut families = families();
        let other = families.push_subject(Subject::Domain, [("domain", "b"), ("uuid", "v")]);
        for family in &mut families.families[..3] {
            let more = Sample::new(other, family.samples[0].labels(), family.samples[0].value());
            family.samples.push(more);
        }
        let chunk = Chunks::new(dialect, vec![part(families, false)]).next_chunk().expect("a chunk");
        assert_eq!(chunk.points, 9);
        let request = ExportMetricsServiceRequest::decode(&*chunk.body).expect("a request");
        assert_eq!(request.encoded_len(), chunk.body.len());
        let resources: Vec<_> = request
            .resource_metrics
            .iter()
            .map(|of| {
                let attributes = &of.resource.as_ref().expect("a resource").attributes;
                let text = |name: &str| {
                    let found = attributes.iter().find(|pair| pair.key == name)?.value.clone()?.value?;
                    if let Any::StringValue(text) = found { Some(text) } else { None }
                };
                let metrics = &of.scope_metrics[0].metrics;
                let names: Vec<_> = metrics.iter().map(|metric| metric.name.clone()).collect();
                assert_eq!(of.schema_url, SCHEMA_URL);
                (text("service.instance.id").expect("an id"), text(of_domain), names)
            })
            .collect();
        let names = |otel: &[&str], prometheus: &[&str]| {
            let names = if naming == Naming::Otel { otel } else { prometheus };
            names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            resources,
            [
                ("host".to_owned(), None, names(&["libvirt.http"], &["http"])),
                (
                    "host/u".to_owned(),
                    Some("u".to_owned()),
                    names(
                        &["libvirt.io", "libvirt.mem", "libvirt.flag", "libvirt.time"],
                        &["read", "mem", "write", "flag", "time"]
                    )
                ),
                (
                    "host/v".to_owned(),
                    Some("v".to_owned()),
                    names(&["libvirt.io", "libvirt.mem"], &["read", "mem", "write"])
                ),
            ]
        );
        let of_first = &request.resource_metrics[1].scope_metrics[0].metrics[0];
        assert!(attributes(&numbers(of_first)[0]).iter().all(|(name, _)| *name != of_domain));
    }
}

/// However small the chunks, they carry each point once, in the order of the whole.
#[test]
fn chunks_add_up_to_the_whole() {
    let many = || {
        let mut families = families();
        let subject = families.push_subject(Subject::Domain, [("domain", "c")]);
        for family in &mut families.families[..4] {
            let first = family.samples[0];
            let more = (0..300).map(|number| Sample::new(subject, first.labels(), Value::Unsigned(number)));
            family.samples.extend(more);
        }
        vec![part(families, false), part(self::families(), true)]
    };
    let points = |chunks: &[Vec<Metric>]| {
        let metrics = chunks.iter().flatten().filter(|metric| metric.name != "libvirt.time");
        metrics.flat_map(|metric| numbers(metric).iter().map(|point| (metric.name.clone(), point.clone()))).collect()
    };
    let whole = decode(&mut Chunks::new(dialect(Naming::Otel), many()));
    let expected: Vec<(String, NumberDataPoint)> = points(&whole);
    assert_eq!((whole.len(), expected.len()), (1, 1205 + 5));
    for limit in [HEAD_BYTES, HEAD_BYTES + 400, HEAD_BYTES + 5_000, 60_000] {
        let mut chunks = Chunks::with_limit(dialect(Naming::Otel), many(), limit);
        let mut covered = 0;
        let made: Vec<Chunk> = std::iter::from_fn(|| chunks.next_chunk()).collect();
        for chunk in &made {
            assert!(chunk.body.len() <= limit + 1000 && chunk.points > 0, "{} of {limit}", chunk.body.len());
            assert_eq!(chunk.covers.iter().map(|cover| cover.2.len()).sum::<usize>(), chunk.points);
            covered += chunk.points;
        }
        assert_eq!(covered, expected.len() + 2);
        let decoded = decode(&mut Chunks::with_limit(dialect(Naming::Otel), many(), limit));
        assert!(decoded.len() > 1 && points(&decoded) == expected, "{limit}");
        let described = |chunks: &[Vec<Metric>]| {
            let found = chunks.iter().flatten().find(|metric| metric.name == "libvirt.io");
            found.map(|metric| metric.description.clone())
        };
        assert_eq!(described(&decoded), described(&whole));
    }
}
