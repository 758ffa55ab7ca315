//! How the body of a scrape is compressed, from the `Accept-Encoding` header (RFC 9110, section 12.5.3).

use super::negotiate::parse_quality;
use crate::encode::Coding;

/// In the order in which equally welcome ones are chosen: zstd only for those who name it.
const CODINGS: [Coding; 3] = [Coding::Zstd, Coding::Gzip, Coding::Identity];

/// Chooses the coding by the `Accept-Encoding` header; no header is an empty one, and gets the body as it is.
#[must_use]
pub(super) fn negotiate_coding(accept_encoding: &str) -> Coding {
    let asked: Vec<(&str, u16)> = accept_encoding.split(',').filter_map(parse).collect();
    let quality = |coding: Coding| {
        let named = asked.iter().find(|(name, _)| name.eq_ignore_ascii_case(coding.as_str()));
        let named = named.or_else(|| asked.iter().find(|(name, _)| *name == "*" && coding == Coding::Gzip));
        named.map_or(0, |(_, quality)| *quality)
    };
    let best = CODINGS.into_iter().map(quality).max().filter(|best| *best > 0);
    best.and_then(|best| CODINGS.into_iter().find(|coding| quality(*coding) == best)).unwrap_or(Coding::Identity)
}

/// `gzip;q=0.5`; what cannot be parsed is passed over.
fn parse(text: &str) -> Option<(&str, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let Some(parameter) = parts.next() else { return Some((name, 1000)) };
    let (key, value) = parameter.split_once('=')?;
    key.trim().eq_ignore_ascii_case("q").then(|| parse_quality(value.trim()))?.map(|quality| (name, quality))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_gets_what_it_can_read() {
        for (accept_encoding, expected) in [
            ("", Coding::Identity),
            ("gzip", Coding::Gzip),
            ("GZip", Coding::Gzip),
            ("gzip, deflate, br, zstd", Coding::Zstd),
            ("gzip;q=1.0, zstd;q=0.9", Coding::Gzip),
            ("zstd;q=0, gzip;q=0.001", Coding::Gzip),
            ("*", Coding::Gzip),
            ("*;q=0.5, gzip;q=0", Coding::Identity),
            ("identity;q=1, gzip;q=0.5", Coding::Identity),
            ("gzip, identity", Coding::Gzip),
            ("identity;q=0, *;q=0", Coding::Identity),
            ("br", Coding::Identity),
            ("gzip;q=2", Coding::Identity),
            ("gzip;level=1", Coding::Identity),
            (" ;;=,,gzip ; q = 0.1 ,", Coding::Gzip),
        ] {
            assert_eq!(negotiate_coding(accept_encoding), expected, "{accept_encoding:?}");
        }
    }
}
