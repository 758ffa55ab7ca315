//! As much of gRPC as a unary call needs: the frame around the message, and the status in the trailers.

use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use hyper::Response;
use hyper::header::HeaderMap;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use percent_encoding::percent_decode_str;
use prost::Message;

use super::transport::{Answer, is_passing, retry_after, taken, text, words};

/// The method that takes metrics.
pub(super) const PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

const FRAME_HEAD: usize = 5;
const OK: u32 = 0;
const RESOURCE_EXHAUSTED: u32 = 8;
/// Cancelled, deadline exceeded, aborted, out of range, unavailable, data loss: OTLP says to try again.
const PASSING: [u32; 6] = [1, 4, 10, 11, 14, 15];
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
/// gRPC leaves the padding out, or does not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `google.rpc.Status`, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The message with its length, and whether it is compressed, in front.
pub(super) fn frame(message: &[u8], compressed: bool) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_HEAD + message.len());
    frame.push(u8::from(compressed));
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

/// What the status says, which is in the trailers, or in the header if there is nothing else.
pub(super) fn answer(response: &Response<Bytes>, trailers: Option<&HeaderMap>) -> Answer {
    let headers = response.headers();
    let status = |of: &HeaderMap| text(of, "grpc-status").parse::<u32>().ok();
    let found = trailers.and_then(|of| Some((status(of)?, of))).or_else(|| Some((status(headers)?, headers)));
    let Some((code, of)) = found else {
        // Something in between has answered.
        let reason = format!("it answered {} without a gRPC status", response.status());
        if is_passing(response.status()) {
            return Answer::Later { after: retry_after(headers, std::time::SystemTime::now()), reason };
        }
        return Answer::Refused { reason };
    };
    if code == OK {
        let message = response.body().get(FRAME_HEAD..).unwrap_or_default();
        return match ExportMetricsServiceResponse::decode(message) {
            Ok(response) => taken(response),
            Err(error) => Answer::Refused { reason: format!("its answer is no OTLP: {error}") },
        };
    }
    let said = words(&percent_decode_str(text(of, "grpc-message")).decode_utf8_lossy());
    let reason = format!("it answered with gRPC status {code}: {said}");
    let after = retry_delay(text(of, "grpc-status-details-bin"));
    if PASSING.contains(&code) || (code == RESOURCE_EXHAUSTED && after.is_some()) {
        Answer::Later { after, reason }
    } else {
        Answer::Refused { reason }
    }
}

fn retry_delay(details: &str) -> Option<Duration> {
    let status = Status::decode(&*BASE64.decode(details).ok()?).ok()?;
    let info = status.details.iter().find(|detail| detail.type_url == RETRY_INFO)?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?))
}
