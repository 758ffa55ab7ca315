//! What came back for a request: the head, as much of the body as is read, and what kept it from being whole.

use std::io::Read as _;
use std::time::SystemTime;

use bytes::Buf as _;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Body;
use hyper::header::HeaderMap;
use hyper::http::response::Parts;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message as _;

use super::transport::Answer;

/// An answer is a few hundred bytes. More is not kept, and is not decompressed either.
const MAX_BODY: usize = 64 << 10;
/// As much of a receiver's own words as belongs in a log line.
const MAX_WORDS: usize = 200;

/// A response that has ended, or broken off.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) head: Parts,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
    /// Why `body` and `trailers` are not all that was sent.
    pub(super) fault: Option<String>,
    pub(super) at: SystemTime,
}

impl Reply {
    /// Reads a response to its end. Trailers are read even if the body is too large to keep.
    pub(super) async fn read<B: Body + Unpin>(response: Response<B>) -> Self
    where
        B::Error: std::fmt::Display,
    {
        let (head, mut rest) = response.into_parts();
        let (mut body, mut trailers, mut fault) = (Vec::new(), None, None);
        while let Some(frame) = rest.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    fault = Some(format!("it broke off: {error}"));
                    break;
                }
            };
            match frame.into_data() {
                Ok(data) if fault.is_none() => {
                    let mut data = data.take(MAX_BODY + 1 - body.len());
                    while data.has_remaining() {
                        let chunk = data.chunk();
                        body.extend_from_slice(chunk);
                        data.advance(chunk.len());
                    }
                    fault = (body.len() > MAX_BODY).then(|| format!("it is longer than {MAX_BODY} bytes"));
                }
                Ok(_) => {}
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        Self { head, body, trailers, fault, at: SystemTime::now() }
    }

    /// The text of a header, or nothing.
    pub(super) fn header(&self, name: &str) -> &str {
        text(&self.head.headers, name)
    }

    /// What the receiver says of a request that it has accepted, in `message`. A message that cannot be read changes nothing
    /// about that: sent again, its points would be counted twice.
    pub(super) fn accepted(&self, message: Result<Vec<u8>, String>) -> Answer {
        let whole = self.fault.clone().map_or(Ok(()), Err);
        let decoded = whole
            .and(message)
            .and_then(|message| ExportMetricsServiceResponse::decode(&*message).map_err(|error| error.to_string()));
        match decoded {
            Ok(response) => {
                let partial = response.partial_success.unwrap_or_default();
                let rejected = u64::try_from(partial.rejected_data_points).unwrap_or(0);
                Answer::Taken { rejected, words: words(&partial.error_message) }
            }
            Err(error) => Answer::Taken { rejected: 0, words: format!("its answer cannot be read: {error}") },
        }
    }
}

/// A body or message that is compressed in the given coding.
pub(super) fn decompress(bytes: &[u8], coding: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let limit = u64::try_from(MAX_BODY).unwrap_or(u64::MAX);
    let read = match coding {
        "" | "identity" => return Ok(bytes.to_vec()),
        "gzip" | "x-gzip" => MultiGzDecoder::new(bytes).take(limit + 1).read_to_end(&mut out),
        "deflate" => ZlibDecoder::new(bytes).take(limit + 1).read_to_end(&mut out),
        other => return Err(format!("it is compressed with `{}`", words(other))),
    };
    match read {
        Ok(_) if out.len() > MAX_BODY => Err(format!("decompressed it is longer than {MAX_BODY} bytes")),
        Ok(_) => Ok(out),
        Err(error) => Err(format!("it is not `{coding}`: {error}")),
    }
}

/// The text of a header, or nothing.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The beginning of what the receiver says, on one line.
pub(super) fn words(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_WORDS) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
