//! The response to a request: the head, as much of the body as is kept, and what kept it from being whole.

use std::io::Read as _;
use std::time::SystemTime;

use bytes::Buf as _;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Body;
use hyper::header::HeaderMap;
use hyper::http::response::Parts;

/// A response is a few hundred bytes. More is not kept, and is not decompressed either.
const MAX_BODY: usize = 64 << 10;
/// As much of a receiver's text as belongs in a log line, in characters.
const MAX_MESSAGE: usize = 200;

/// A response that has ended, or broken off.
#[derive(Debug)]
pub struct Reply {
    /// Status and headers.
    pub head: Parts,
    /// The body, up to 64 KiB.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: Option<HeaderMap>,
    /// Why `body` and `trailers` are not all that was sent.
    pub fault: Option<String>,
    /// When it had arrived.
    pub at: SystemTime,
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
}

/// A body or message that is compressed in the given coding.
pub(super) fn decompress(bytes: &[u8], coding: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let limit = u64::try_from(MAX_BODY).unwrap_or(u64::MAX);
    let read = match coding {
        "" | "identity" => return Ok(bytes.to_vec()),
        "gzip" | "x-gzip" => MultiGzDecoder::new(bytes).take(limit + 1).read_to_end(&mut out),
        "deflate" => ZlibDecoder::new(bytes).take(limit + 1).read_to_end(&mut out),
        other => return Err(format!("it is compressed with `{}`", excerpt(other))),
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

/// The beginning of a receiver's text, on one line.
pub(super) fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
