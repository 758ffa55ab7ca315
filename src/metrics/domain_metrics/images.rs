//! The top image of each disk, as the records have it.

use std::collections::HashMap;

use uuid::Uuid;

use crate::libvirt::{ParamValue, Records};

/// The top images of all domains: the name of each disk, and the path of its image.
#[derive(Debug, Default)]
pub(super) struct TopImages<'r>(HashMap<Uuid, Vec<(&'r str, &'r str)>>);

/// What a parameter is about, by its key.
#[derive(Clone, Copy)]
enum Fact {
    Name(u32),
    Path(u32),
    Other,
}

impl<'r> TopImages<'r> {
    /// Those in `batches`.
    pub(super) fn new(batches: &[&'r Records]) -> Self {
        let mut images: HashMap<Uuid, Vec<(&str, &str)>> = HashMap::new();
        let mut names: Vec<(u32, &str)> = Vec::new();
        for records in batches {
            let facts: Vec<Fact> = records.keys().map(fact).collect();
            for record in records.domains() {
                names.clear();
                let mut disks: Vec<(&str, &str)> = Vec::new();
                for param in record.params() {
                    match (facts[param.number], param.value) {
                        // The first record of a name is the disk itself, the others are images below or beside it.
                        (Fact::Name(number), ParamValue::String(name)) if names.iter().all(|known| known.1 != name) => {
                            names.push((number, name));
                        }
                        (Fact::Path(number), ParamValue::String(path)) => {
                            let name = names.iter().find(|known| known.0 == number);
                            disks.extend(name.map(|(_, name)| (*name, path)));
                        }
                        _ => {}
                    }
                }
                if !disks.is_empty() {
                    images.entry(record.uuid).or_insert(disks);
                }
            }
        }
        Self(images)
    }

    /// The path of the image that a disk of a domain is on; `None` if no record has it.
    pub(super) fn of(&self, uuid: Uuid, disk: &str) -> Option<&'r str> {
        self.0.get(&uuid)?.iter().find(|(name, _)| *name == disk).map(|(_, path)| *path)
    }
}

/// libvirt sends the name of a record before its path.
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
