//! Which exposition format a scraper gets, from its `Accept` header (RFC 9110, section 12.5.1).
//!
//! No scraper is refused: what cannot be parsed is ignored, and one that accepts none of the formats gets the text format,
//! as every Prometheus client library does it.

use std::cmp::Reverse;

use crate::encode::Format;

/// The formats in the order in which equally welcome ones are chosen.
const FORMATS: [Format; 3] = [Format::Text, Format::OpenMetrics, Format::Protobuf];

/// Media type and subtype.
fn media_type(format: Format) -> (&'static str, &'static str) {
    match format {
        Format::OpenMetrics => ("application", "openmetrics-text"),
        Format::Text => ("text", "plain"),
        Format::Protobuf => ("application", "vnd.google.protobuf"),
    }
}

/// What a scraper gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The format.
    pub format: Format,
    /// Whether the scraper asked for an escaping of metric names. Each name of this exporter is valid in every scheme, so
    /// that any escaping leaves it as it is; but Prometheus wants to be told which one it got.
    pub escaping: bool,
}

impl Negotiated {
    /// The `Content-Type` of the answer.
    #[must_use]
    pub fn content_type(self) -> String {
        let escaping = if self.escaping { "; escaping=underscores" } else { "" };
        format!("{}{escaping}", self.format.content_type())
    }
}

/// Chooses the format by the `Accept` header; no header is an empty one.
#[must_use]
pub fn negotiate(accept: &str) -> Negotiated {
    let ranges: Vec<_> = accept.split(',').filter_map(Range::parse).collect();
    let mut best = (Format::Text, None);
    for format in FORMATS {
        let offer = Offer::of(format, &ranges);
        // `None` is less than any offer, and `*/*` is the same offer for each.
        if offer > best.1 {
            best = (format, offer);
        }
    }
    Negotiated { format: best.0, escaping: best.1.is_some_and(|offer| offer.escaping) }
}

/// How welcome a format is. The order of the fields is the order of preference: quality first, then a range that names the format
/// before one that only covers it, then the scraper's own order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offer {
    quality: u16,
    specificity: u8,
    position: Reverse<usize>,
    escaping: bool,
}

impl Offer {
    /// The most specific range decides about a format, whatever the others say; none, or a quality of zero, refuses it.
    fn of(format: Format, ranges: &[Range<'_>]) -> Option<Self> {
        let offers = ranges.iter().enumerate().filter_map(|(position, range)| {
            let specificity = range.specificity(format)?;
            Some(Self { quality: range.quality, specificity, position: Reverse(position), escaping: range.escaping })
        });
        offers.max_by_key(|offer| (offer.specificity, offer.quality, offer.position)).filter(|offer| offer.quality > 0)
    }
}

/// One media range: `text/plain;version=0.0.4;q=0.5`.
#[derive(Debug)]
struct Range<'a> {
    main: &'a str,
    sub: &'a str,
    version: Option<&'a str>,
    proto: Option<&'a str>,
    encoding: Option<&'a str>,
    escaping: bool,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (main, sub) = parts.next()?.split_once('/')?;
        let mut range = Self { main, sub, version: None, proto: None, encoding: None, escaping: false, quality: 1000 };
        for part in parts {
            let (name, value) = part.split_once('=')?;
            let value = value.trim().trim_matches('"');
            match name.trim() {
                name if name.eq_ignore_ascii_case("q") => range.quality = parse_quality(value)?,
                name if name.eq_ignore_ascii_case("version") => range.version = Some(value),
                name if name.eq_ignore_ascii_case("proto") => range.proto = Some(value),
                name if name.eq_ignore_ascii_case("encoding") => range.encoding = Some(value),
                name if name.eq_ignore_ascii_case("escaping") => range.escaping = true,
                _ => {}
            }
        }
        Some(range)
    }

    /// How closely this range describes `format`; `None` if it does not.
    fn specificity(&self, format: Format) -> Option<u8> {
        let (main, sub) = media_type(format);
        if self.main == "*" && self.sub == "*" {
            return Some(0);
        }
        if !self.main.eq_ignore_ascii_case(main) {
            return None;
        }
        if self.sub == "*" {
            return Some(1);
        }
        if !self.sub.eq_ignore_ascii_case(sub) {
            return None;
        }
        let version = match format {
            Format::OpenMetrics => "1.0.0",
            Format::Text => "0.0.4",
            // Any message in any encoding may be meant: only the one that there is will do.
            Format::Protobuf => {
                let ours =
                    self.proto == Some("io.prometheus.client.MetricFamily") && self.encoding == Some("delimited");
                return ours.then_some(3);
            }
        };
        match self.version {
            None => Some(2),
            Some(asked) => (asked == version).then_some(3),
        }
    }
}

/// A number from 0 to 1 with at most three decimals, in thousandths.
pub(super) fn parse_quality(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if !decimals.bytes().all(|byte| byte.is_ascii_digit()) || decimals.len() > 3 {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROMETHEUS_2_42: &str = "application/openmetrics-text;version=1.0.0,\
        application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const PROMETHEUS_2_53_PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
        encoding=delimited;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4,\
        application/openmetrics-text;version=0.0.1;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    const PROMETHEUS_3_5: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
        application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
        text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    const PROMETHEUS_3_5_PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
        encoding=delimited;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
        application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
        text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    const VMAGENT: &str = "text/plain;version=0.0.4;q=1,*/*;q=0.1";
    const FIREFOX: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

    #[test]
    fn each_scraper_gets_what_it_likes_best() {
        let open_metrics = Format::OpenMetrics.content_type();
        let text = Format::Text.content_type();
        let open_metrics_escaped = format!("{open_metrics}; escaping=underscores");
        let protobuf = Format::Protobuf.content_type();
        let protobuf_escaped = format!("{protobuf}; escaping=underscores");
        let text_escaped = format!("{text}; escaping=underscores");
        let cases = [
            (PROMETHEUS_2_42, open_metrics),
            (PROMETHEUS_2_53_PROTOBUF, protobuf),
            (PROMETHEUS_3_5, &open_metrics_escaped),
            (PROMETHEUS_3_5_PROTOBUF, &protobuf_escaped),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text, text/plain;q=0.1",
                text,
            ),
            ("application/vnd.google.protobuf;proto=a.B;encoding=delimited, text/plain;q=0.1", text),
            ("application/vnd.google.protobuf, text/plain;q=0.1", text),
            (VMAGENT, text),
            (FIREFOX, text),
            ("*/*", text),
            ("", text),
            // Named beats covered, then the scraper's order decides.
            ("*/*, application/openmetrics-text", open_metrics),
            ("application/openmetrics-text, text/plain", open_metrics),
            ("text/plain, application/openmetrics-text", text),
            ("application/*", open_metrics),
            ("text/*, application/openmetrics-text;q=0.9", text),
            // Zero refuses, however much a wider range allows.
            ("application/openmetrics-text;q=0, */*", text),
            ("text/plain;q=0, */*;q=0.1", open_metrics),
            ("application/openmetrics-text;q=0.000", text),
            ("application/openmetrics-text;q=0.001, */*;q=0", open_metrics),
            // Versions that there are, and that there are not.
            ("application/openmetrics-text;version=0.0.1, text/plain;q=0.1", text),
            ("text/plain;version=1.0.0, application/openmetrics-text;q=0.1", open_metrics),
            ("application/openmetrics-text;version=\"1.0.0\"", open_metrics),
            ("text/plain;version=0.0.4;escaping=dots", &text_escaped),
            // Any case and any space.
            (" Application/OpenMetrics-Text ; Version=1.0.0 ; Q=0.5 , text/plain ; q=0.4", open_metrics),
            // What is no media range is passed over.
            ("application/openmetrics-text;q=2, text/plain;q=0.1", text),
            ("application/openmetrics-text;q=-1", text),
            ("application/openmetrics-text;q=NaN", text),
            ("application/openmetrics-text;q=0.1234", text),
            ("application/openmetrics-text;q=", text),
            ("application/openmetrics-text;;", text),
            ("garbage", text),
            (",;/=,,\u{0}", text),
            ("application/openmetrics-text, garbage", open_metrics),
        ];
        for (accept, expected) in cases {
            assert_eq!(negotiate(accept).content_type(), expected, "{accept:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_there_is_an_answer(accept in "[a-z*/;,=.0-9\" ]{0,80}", anything in any::<String>()) {
            prop_assert!(!negotiate(&anything).content_type().is_empty());
            let refused = format!("{accept},application/openmetrics-text;q=0");
            prop_assert_eq!(negotiate(&refused).format, Format::Text);
        }
    }
}
