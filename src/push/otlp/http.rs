//! OTLP over HTTP: what an answer to a POST means.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{self, HeaderMap};

use super::super::reply::{Reply, decompress, excerpt, text};
use super::super::verdict::Verdict;
use super::response::accepted;
use super::status::Status;

/// The same text is another URL in another place, which is what OTLP's specification wants.
const NOT_FOUND: &str = "; a path in otlp.endpoint or OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is used as it is, \
    OTEL_EXPORTER_OTLP_ENDPOINT gets /v1/metrics added; most receivers take metrics at /v1/metrics";

/// What the status says; the body only adds to it.
pub(super) fn verdict(reply: &Reply) -> Verdict {
    let status = reply.head.status;
    let content_type = reply.header(header::CONTENT_TYPE.as_str());
    let body = decompress(&reply.body, reply.header(header::CONTENT_ENCODING.as_str()));
    if status.is_success() {
        // A page for people has not come from an OTLP receiver, but from a login in front of one.
        if content_type.starts_with("text/html") {
            let reason = format!("it answered {status} with `text/html`, which no OTLP receiver does");
            return Verdict::refused(reason);
        }
        // Some receivers answer with JSON, or with plain text.
        let body = if content_type.starts_with("application/x-protobuf") || reply.body.is_empty() {
            body
        } else {
            Err(format!("it is `{}`", excerpt(content_type)))
        };
        return accepted(reply, body);
    }
    let said = match body {
        Ok(body) if content_type.starts_with("application/x-protobuf") => Status::read(&body).message,
        Ok(body) if content_type.starts_with("text/") || content_type.starts_with("application/json") => {
            String::from_utf8_lossy(&body).into_owned()
        }
        _ => String::new(),
    };
    let mut reason = format!("it answered {status}");
    if !said.is_empty() {
        reason.push_str(": ");
        reason.push_str(&excerpt(&said));
    }
    if status == StatusCode::NOT_FOUND {
        reason.push_str(NOT_FOUND);
    }
    if is_passing(status) {
        Verdict::unavailable(reason, retry_after(&reply.head.headers, reply.at))
    } else {
        Verdict::refused(reason)
    }
}

/// What OTLP says may be sent again.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// Seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = text(headers, header::RETRY_AFTER.as_str()).trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or(Duration::ZERO)),
    }
}
