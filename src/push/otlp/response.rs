//! The message that a receiver sends with its acceptance.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message as _;

use super::super::reply::{Reply, excerpt};
use super::super::verdict::Verdict;

/// The verdict of an accepted request, whose response has `message`. A message that cannot be read changes nothing about the
/// acceptance: sent again, the points would be counted twice.
pub(super) fn accepted(reply: &Reply, message: Result<Vec<u8>, String>) -> Verdict {
    let whole = reply.fault.clone().map_or(Ok(()), Err);
    let decoded = whole
        .and(message)
        .and_then(|message| ExportMetricsServiceResponse::decode(&*message).map_err(|error| error.to_string()));
    match decoded {
        Ok(response) => {
            let partial = response.partial_success.unwrap_or_default();
            let rejected = u64::try_from(partial.rejected_data_points).unwrap_or(0);
            Verdict::accepted(rejected, excerpt(&partial.error_message))
        }
        Err(error) => Verdict::accepted(0, format!("its answer cannot be read: {error}")),
    }
}
