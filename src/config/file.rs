//! Reads the files that the configuration names.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Certificates and keys; the CA bundle of a system has a quarter of a megabyte.
const MAX_PEM_BYTES: u64 = 8 << 20;

/// Reads a file of certificates or keys.
pub(crate) fn read_pem(path: &Path) -> io::Result<Vec<u8>> {
    read_file(path, MAX_PEM_BYTES)
}

/// Reads a regular file of at most `most` bytes ([`ErrorKind::FileTooLarge`] otherwise). To open anything else, a FIFO for
/// one, could wait for another program for ever.
pub(super) fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
    let kind = file.metadata()?.file_type();
    // What is wrong with a directory, reading it says.
    if !kind.is_file() && !kind.is_dir() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > most) {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn only_regular_files_are_read_and_none_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let fifo = folder.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).expect("made");
        for path in [fifo.as_path(), Path::new("/dev/zero")] {
            let error = read_file(path, 100).expect_err("not regular");
            assert_eq!(error.to_string(), "it is not a regular file");
        }
        let regular = folder.path().join("regular");
        std::fs::write(&regular, [b'x'; 100]).expect("written");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&regular, &link).expect("linked");
        assert_eq!(read_file(&link, 100).expect("read").len(), 100);
        assert_eq!(read_file(&link, 99).expect_err("too large").kind(), ErrorKind::FileTooLarge);
    }
}
