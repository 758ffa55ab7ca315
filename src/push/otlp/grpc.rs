//! As much of gRPC as a unary call needs: the frame around the message, and the status in the trailers.
//!
//! It is not tonic that does this: its client reports an answer that it cannot read as a different error and drops the
//! status that came with it. Here that status decides whether deltas are sent again.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use hyper::header::{self, HeaderMap};
use percent_encoding::percent_decode_str;

use super::super::reply::{Reply, decompress, excerpt, text};
use super::super::verdict::Verdict;
use super::http::{is_passing, retry_after};
use super::response::accepted;
use super::status::Status;

/// The method that takes metrics.
pub(super) const PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// The compressions of an answer that are understood ([`decompress`]).
pub(super) const ACCEPTED: &str = "identity,deflate,gzip";

const FRAME_HEAD: usize = 5;
const OK: u32 = 0;
const RESOURCE_EXHAUSTED: u32 = 8;
/// Cancelled, deadline exceeded, aborted, out of range, unavailable, data loss: OTLP says to try again.
const PASSING: [u32; 6] = [1, 4, 10, 11, 14, 15];
/// gRPC leaves the padding out, or does not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The message with its length, and whether it is compressed, in front.
pub(super) fn frame(message: &[u8], compressed: bool) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_HEAD + message.len());
    frame.push(u8::from(compressed));
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

/// What the status says, which is in the trailers, or in the header if there is nothing else.
pub(super) fn verdict(reply: &Reply) -> Verdict {
    let headers = &reply.head.headers;
    let status = |of: &HeaderMap| text(of, "grpc-status").parse::<u32>().ok();
    let found = reply.trailers.as_ref().and_then(|of| Some((status(of)?, of)));
    let Some((code, of)) = found.or_else(|| Some((status(headers)?, headers))) else {
        return without_status(reply);
    };
    if code == OK {
        return accepted(reply, message(&reply.body, reply.header("grpc-encoding")));
    }
    let said = excerpt(&percent_decode_str(text(of, "grpc-message")).decode_utf8_lossy());
    let reason = format!("it answered with gRPC status {code}: {said}");
    let details = BASE64.decode(text(of, "grpc-status-details-bin")).unwrap_or_default();
    let after = Status::read(&details).retry_delay();
    if PASSING.contains(&code) || (code == RESOURCE_EXHAUSTED && after.is_some()) {
        Verdict::unavailable(reason, after)
    } else {
        Verdict::refused(reason)
    }
}

/// gRPC whose trailers did not arrive leaves open what became of the request; anything else comes from a proxy.
fn without_status(reply: &Reply) -> Verdict {
    let status = reply.head.status;
    let fault = reply.fault.as_ref().map(|fault| format!(", {fault}")).unwrap_or_default();
    let reason = format!("it answered {status} without a gRPC status{fault}");
    if status.is_success() && reply.header(header::CONTENT_TYPE.as_str()).starts_with("application/grpc") {
        Verdict::unanswered(reason)
    } else if is_passing(status) {
        Verdict::unavailable(reason, retry_after(&reply.head.headers, reply.at))
    } else {
        Verdict::refused(reason)
    }
}

/// The one message of a body, decompressed. No message at all is an empty one.
fn message(body: &[u8], encoding: &str) -> Result<Vec<u8>, String> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let cut = || "it ends within a message".to_owned();
    let (head, rest) = body.split_at_checked(FRAME_HEAD).ok_or_else(cut)?;
    let &[flag, ref length @ ..] = head else { return Err(cut()) };
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (message, more) = rest.split_at_checked(length).ok_or_else(cut)?;
    if !more.is_empty() {
        return Err("it has more than one message".to_owned());
    }
    match flag {
        0 => Ok(message.to_vec()),
        1 if matches!(encoding, "" | "identity") => Err("it is compressed without saying how".to_owned()),
        1 => decompress(message, encoding),
        other => Err(format!("a message has the flags {other}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::SystemTime;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use hyper::Response;
    use hyper::header::HeaderValue;
    use opentelemetry_proto::tonic::collector::metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
    };
    use prost::Message as _;

    use super::*;
    use crate::push::Outcome;

    /// A receiver that rejects seven points.
    fn seven() -> Vec<u8> {
        let partial = ExportMetricsPartialSuccess { rejected_data_points: 7, error_message: "full".into() };
        ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn reply(body: Vec<u8>, encoding: Option<&'static str>, trailers: &[(&'static str, &'static str)]) -> Reply {
        let mut head = Response::new(()).into_parts().0;
        head.headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        if let Some(encoding) = encoding {
            head.headers.insert("grpc-encoding", HeaderValue::from_static(encoding));
        }
        let fields = trailers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let trailers = Some(fields.collect::<HeaderMap>()).filter(|trailers| !trailers.is_empty());
        Reply { head, body, trailers, fault: None, at: SystemTime::now() }
    }

    const GOOD: &[(&str, &str)] = &[("grpc-status", "0")];

    #[test]
    fn an_answer_is_read_as_its_flag_and_its_encoding_say() {
        let rejected = Verdict::accepted(7, "full".into());
        for (body, encoding) in [
            (frame(&seven(), false), None),
            (frame(&seven(), false), Some("gzip")),
            (frame(&gzip(&seven()), true), Some("gzip")),
            (frame(&deflate(&seven()), true), Some("deflate")),
        ] {
            assert_eq!(verdict(&reply(body, encoding, GOOD)), rejected, "{encoding:?}");
        }
        let nothing = Verdict::accepted(0, String::new());
        for body in [Vec::new(), frame(&[], false), frame(&gzip(&[]), true)] {
            assert_eq!(verdict(&reply(body, Some("gzip"), GOOD)), nothing);
        }
    }

    #[test]
    fn what_was_accepted_stays_so_whatever_the_message_is() {
        let whole = frame(&seven(), false);
        let bomb = frame(&gzip(&vec![0; 1 << 20]), true);
        let mut odd = whole.clone();
        odd[0] = 3;
        for (body, encoding, why) in [
            (whole[..3].to_vec(), None, "it ends within a message"),
            (whole[..9].to_vec(), None, "it ends within a message"),
            ([whole.clone(), whole.clone()].concat(), None, "it has more than one message"),
            (odd, None, "a message has the flags 3"),
            (frame(&gzip(&seven()), true), None, "it is compressed without saying how"),
            (frame(&gzip(&seven()), true), Some("br"), "it is compressed with `br`"),
            (frame(&seven(), true), Some("gzip"), "it is not `gzip`: "),
            (bomb, Some("gzip"), "decompressed it is longer than 65536 bytes"),
            (frame(&gzip(&seven()), false), Some("gzip"), "failed to decode Protobuf message"),
        ] {
            let Verdict { rejected: 0, outcome: Outcome::Success, message, .. } = verdict(&reply(body, encoding, GOOD))
            else {
                panic!("{why}")
            };
            assert!(message.starts_with(&format!("its answer cannot be read: {why}")), "{message}");
        }
    }

    #[test]
    fn the_status_is_in_the_trailers_or_in_the_header_or_the_outcome_is_unknown() {
        let refused = |reply: &Reply| verdict(reply).outcome == Outcome::Refused;
        assert!(refused(&reply(Vec::new(), None, &[("grpc-status", "3")])));
        let mut only_header = reply(Vec::new(), None, &[]);
        only_header.head.headers.insert("grpc-status", HeaderValue::from_static("12"));
        assert!(refused(&only_header));
        let mut cut = reply(frame(&seven(), false), None, &[]);
        cut.fault = Some("it broke off: reset".into());
        let reason = "it answered 200 OK without a gRPC status, it broke off: reset".to_owned();
        assert_eq!(verdict(&cut), Verdict::unanswered(reason));
        let mut page = reply(b"<h1>".to_vec(), None, &[]);
        page.head.headers.insert("content-type", HeaderValue::from_static("text/html"));
        assert!(refused(&page));
    }
}
