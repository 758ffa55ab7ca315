//! Compression of an exposition on its way to the scraper.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Level 1 of zlib-rs does not look for repetitions further back and leaves half as much again; levels above 2 save 3 % more for
/// up to twice the time (benches/README.md).
const GZIP_LEVEL: u32 = 2;
/// The lowest: higher ones take twice as long for a third less.
const ZSTD_LEVEL: i32 = 1;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// What every HTTP client can read.
    Gzip,
    /// Faster and smaller than gzip.
    Zstd,
}

impl Coding {
    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Compresses `body`. Takes a while for a large one: not for async threads.
    ///
    /// # Errors
    /// If memory runs out within a C library.
    pub fn apply(self, body: Vec<u8>) -> io::Result<Vec<u8>> {
        if self == Self::Identity { Ok(body) } else { self.apply_to([body]) }
    }

    /// Likewise for a body in pieces, of which one is there at a time.
    pub(super) fn apply_to(self, pieces: impl IntoIterator<Item = Vec<u8>>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        match self {
            Self::Identity => pieces.into_iter().for_each(|piece| out.extend(piece)),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(&mut out, Compression::new(GZIP_LEVEL));
                pieces.into_iter().try_for_each(|piece| encoder.write_all(&piece))?;
                encoder.finish()?;
            }
            Self::Zstd => {
                let mut encoder = zstd::Encoder::new(&mut out, ZSTD_LEVEL)?;
                pieces.into_iter().try_for_each(|piece| encoder.write_all(&piece))?;
                encoder.finish()?;
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn each_coding_can_be_read_back() {
        let body = b"libvirt_up 1\n".repeat(10_000);
        assert_eq!(Coding::Identity.apply(body.clone()).expect("nothing to do"), body);
        let gzip = Coding::Gzip.apply(body.clone()).expect("compressed");
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&*gzip).read_to_end(&mut back).expect("gzip");
        assert!(gzip.len() < body.len() / 50 && back == body);
        let zstd = Coding::Zstd.apply(body.clone()).expect("compressed");
        let back = zstd::bulk::decompress(&zstd, body.len()).expect("zstd");
        assert!(zstd.len() < body.len() / 50 && back == body);
    }
}
