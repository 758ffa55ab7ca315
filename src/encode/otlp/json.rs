//! A request as OTLP's JSON, laid out for people: a line for each metric and each of its points.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use prost::Message as _;
use serde::Serialize;
use serde::ser::Error as _;
use serde_json::{Result, Value, to_string, to_value};

/// The request in `body`.
///
/// # Errors
/// If it is none, which cannot be where this program has written it.
pub fn to_json(body: &[u8]) -> Result<String> {
    let request = ExportMetricsServiceRequest::decode(body).map_err(serde_json::Error::custom)?;
    Ok(format!("{{\"resourceMetrics\":[{}]}}\n", joined(&request.resource_metrics, of_resource)?))
}

fn joined<T>(all: &[T], each: impl Fn(&T) -> Result<String>) -> Result<String> {
    Ok(all.iter().map(each).collect::<Result<Vec<_>>>()?.join(","))
}

fn of_resource(of: &ResourceMetrics) -> Result<String> {
    let scopes = joined(&of.scope_metrics, of_scope)?;
    let (resource, schema) = (short(&of.resource)?, to_string(&of.schema_url)?);
    Ok(format!("{{\"resource\":{resource},\"schemaUrl\":{schema},\"scopeMetrics\":[{scopes}]}}"))
}

fn of_scope(of: &ScopeMetrics) -> Result<String> {
    let metrics = joined(&of.metrics, of_metric)?;
    let (scope, schema) = (short(&of.scope)?, to_string(&of.schema_url)?);
    Ok(format!("{{\"scope\":{scope},\"schemaUrl\":{schema},\"metrics\":[{metrics}\n]}}"))
}

fn of_metric(metric: &Metric) -> Result<String> {
    let (kind, more, points) = match &metric.data {
        Some(Data::Gauge(gauge)) => ("gauge", String::new(), of_points(&gauge.data_points)?),
        Some(Data::Sum(sum)) => {
            let (temporality, monotonic) = (sum.aggregation_temporality, sum.is_monotonic);
            let more = format!("\"aggregationTemporality\":{temporality},\"isMonotonic\":{monotonic},");
            ("sum", more, of_points(&sum.data_points)?)
        }
        Some(Data::Histogram(histogram)) => {
            let more = format!("\"aggregationTemporality\":{},", histogram.aggregation_temporality);
            ("histogram", more, of_points(&histogram.data_points)?)
        }
        _ => return Err(serde_json::Error::custom("a metric of a kind that is never pushed")),
    };
    let (name, unit) = (to_string(&metric.name)?, to_string(&metric.unit)?);
    let description = to_string(&metric.description)?;
    Ok(format!(
        "\n{{\"name\":{name},\"unit\":{unit},\"description\":{description},\"{kind}\":{{{more}\"dataPoints\":[{points}\n]}}}}"
    ))
}

fn of_points<T: Serialize>(points: &[T]) -> Result<String> {
    joined(points, |point| Ok(format!("\n  {}", short(point)?)))
}

/// Without the fields that are not set, which OTLP's JSON may omit.
fn short(of: &impl Serialize) -> Result<String> {
    let mut value = to_value(of)?;
    if let Value::Object(fields) = &mut value {
        fields.retain(|name, value| match value {
            Value::Array(entries) => !entries.is_empty(),
            Value::Number(number) => {
                number.as_u64() != Some(0) || !["droppedAttributesCount", "flags"].contains(&name.as_str())
            }
            Value::String(text) => name != "startTimeUnixNano" || text != "0",
            Value::Null => false,
            _ => true,
        });
    }
    to_string(&value)
}
