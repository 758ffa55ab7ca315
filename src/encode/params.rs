//! Raw typed parameters as text: the format of the golden tests, and of bug reports.
//!
//! ```text
//! domain 3 4dea22b3-1d52-d8f3-2516-782e98ab3fa0 "vm one"
//! state.state int 1
//! block.0.name string "vda"
//! ```
//!
//! A domain line has the id (`-` while shut off), the UUID and the name; a parameter line key, type and value. Names and
//! strings are JSON strings, and so is a key that is not a plain word.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::libvirt::{ParamValue, Records};

/// Writes all records, domains ordered by name, parameters in the order in which libvirt sent them.
#[must_use]
pub fn encode_params(batches: &[&Records]) -> String {
    let mut domains: Vec<_> = batches.iter().flat_map(|records| records.domains()).collect();
    domains.sort_by(|a, b| (a.name, a.uuid).cmp(&(b.name, b.uuid)));
    let mut out = String::new();
    for domain in domains {
        let id = domain.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        write_line(&mut out, format_args!("domain {id} {} {}", domain.uuid.hyphenated(), quoted(domain.name)));
        for param in domain.params() {
            let is_word = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
            let key = if !param.key.is_empty() && param.key.bytes().all(is_word) {
                param.key.to_owned()
            } else {
                quoted(param.key)
            };
            let name = param.value.type_name();
            match param.value {
                ParamValue::Int(value) => write_line(&mut out, format_args!("{key} {name} {value}")),
                ParamValue::UInt(value) => write_line(&mut out, format_args!("{key} {name} {value}")),
                ParamValue::LLong(value) => write_line(&mut out, format_args!("{key} {name} {value}")),
                ParamValue::ULLong(value) => write_line(&mut out, format_args!("{key} {name} {value}")),
                ParamValue::Double(value) => write_line(&mut out, format_args!("{key} {name} {value}")),
                ParamValue::Boolean(value) => {
                    write_line(&mut out, format_args!("{key} {name} {}", u8::from(value)));
                }
                ParamValue::String(value) => write_line(&mut out, format_args!("{key} {name} {}", quoted(value))),
                ParamValue::Unknown(tag) => write_line(&mut out, format_args!("{key} {name}({tag})")),
            }
        }
    }
    out
}

fn write_line(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let written = writeln!(out, "{line}");
    debug_assert!(written.is_ok());
}

fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}
