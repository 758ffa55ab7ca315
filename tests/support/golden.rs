//! The golden cases: `tests/golden/<case>.params` as records, with the configuration that the case asks for.

use std::fs;
use std::path::{Path, PathBuf};

use domstats_exporter::config::{self, Config};
use domstats_exporter::libvirt::{ParamValue, Records};
use fake_libvirtd::params::{self, Value};

/// Where the cases are.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The names of all cases, in order.
pub(crate) fn cases() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("the folder of the golden cases");
    let paths = entries.map(|entry| entry.expect("an entry of the folder").path());
    let inputs = paths.filter(|path| path.extension().is_some_and(|extension| extension == "params"));
    let mut cases: Vec<String> = inputs.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    cases.sort();
    cases
}

/// A case: the configuration of its `# config: ` comment (YAML on one line), and its records.
pub(crate) fn load(case: &str) -> (Config, Records) {
    let path = folder().join(case).with_extension("params");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let config = text.lines().find_map(|line| line.strip_prefix("# config: ")).unwrap_or_default();
    let config = config::parse(config, case).unwrap_or_else(|error| panic!("{case}: {error}"));
    (config, records(&text).unwrap_or_else(|error| panic!("{case}: {error}")))
}

/// The records that a text in the format of the golden cases describes.
pub(crate) fn records(text: &str) -> Result<Records, params::ParseError> {
    let mut records = Records::default();
    for domain in params::parse(text)? {
        records.push_domain(&domain.name, domain.uuid, domain.id);
        for (key, value) in &domain.params {
            let value = match value {
                Value::Int(value) => ParamValue::Int(*value),
                Value::UInt(value) => ParamValue::UInt(*value),
                Value::LLong(value) => ParamValue::LLong(*value),
                Value::ULLong(value) => ParamValue::ULLong(*value),
                Value::Double(value) => ParamValue::Double(*value),
                Value::Boolean(value) => ParamValue::Boolean(*value),
                Value::String(value) => ParamValue::String(value),
                Value::Unknown(tag) => ParamValue::Unknown(*tag),
            };
            records.push(key, value);
        }
    }
    Ok(records)
}
