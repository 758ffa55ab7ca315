//! The top image of each disk, as records have it.
//!
//! libvirt reports one numbered record for each image of a disk, all under the disk's name: first the image that the disk is on,
//! then those below or beside it.

use crate::libvirt::{DomainRecord, ParamValue, Records};

/// The image that a disk is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopImage<'r> {
    /// The name of the disk.
    pub disk: &'r str,
    /// The path of the image. Only local images have one.
    pub path: Option<&'r str>,
}

/// What the keys of records tell of images, found out once for all of their domains.
#[derive(Debug)]
pub struct ImageKeys(Vec<Fact>);

/// What a parameter is about, by its key.
#[derive(Debug, Clone, Copy)]
enum Fact {
    Name(u32),
    Path(u32),
    Other,
}

impl ImageKeys {
    /// Those of `records`.
    #[must_use]
    pub fn of(records: &Records) -> Self {
        Self(records.keys().map(fact).collect())
    }

    /// The top images of a domain of these records, in the order of its disks.
    #[must_use]
    pub fn top_images<'r>(&self, record: &DomainRecord<'r>) -> Vec<TopImage<'r>> {
        let mut tops: Vec<(u32, TopImage<'r>)> = Vec::new();
        let mut paths: Vec<(u32, &'r str)> = Vec::new();
        for param in record.params() {
            match (self.0[param.number], param.value) {
                (Fact::Name(number), ParamValue::String(disk)) if tops.iter().all(|(_, top)| top.disk != disk) => {
                    tops.push((number, TopImage { disk, path: None }));
                }
                (Fact::Path(number), ParamValue::String(path)) => paths.push((number, path)),
                _ => {}
            }
        }
        for (number, path) in paths {
            tops.iter_mut().filter(|(of, _)| *of == number).for_each(|(_, top)| top.path = Some(path));
        }
        tops.into_iter().map(|(_, top)| top).collect()
    }
}

fn fact(key: &str) -> Fact {
    let Some((number, what)) = key.strip_prefix("block.").and_then(|rest| rest.split_once('.')) else {
        return Fact::Other;
    };
    match (number.parse(), what) {
        (Ok(number), "name") => Fact::Name(number),
        (Ok(number), "path") => Fact::Path(number),
        _ => Fact::Other,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_first_record_of_a_name_is_the_top_image() {
        let mut records = Records::default();
        records.push_domain("x", Uuid::nil(), Some(1));
        for (key, value) in [
            ("block.count", "4"),
            ("block.0.name", "vda"),
            ("block.0.path", "/top"),
            ("block.1.name", "vda"),
            ("block.1.path", "/below"),
            ("block.2.name", "vdb"),
            ("block.10.path", "/later"),
            ("block.10.name", "sda"),
        ] {
            records.push(key, ParamValue::String(value));
        }
        let top = |disk, path| TopImage { disk, path };
        let expected = [top("vda", Some("/top")), top("vdb", None), top("sda", Some("/later"))];
        assert_eq!(ImageKeys::of(&records).top_images(&records.domain(0)), expected);
    }
}
