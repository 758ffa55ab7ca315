#![allow(clippy::unwrap_used)]

use super::{Domain, Reason, Value, parse, write};
use uuid::Uuid;

const UUID: &str = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0";

fn domain(params: Vec<(&str, Value)>) -> Domain {
    Domain {
        name: "vm \"one\"\n\u{1f600}".to_owned(),
        uuid: Uuid::try_parse(UUID).unwrap(),
        id: Some(3),
        params: params.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}

fn reason(text: &str) -> (usize, Reason) {
    let error = parse(text).unwrap_err();
    (error.line, error.reason)
}

#[test]
fn the_format_of_the_documentation_is_read() {
    let text = format!(
        "# a comment line; blank lines are ignored\n\ndomain 3 {UUID} \"vm one\"\nstate.state int 1\r\n\
         cpu.time ullong 123\n  block.0.name   string \"vda\"  \nx.ratio double 1.5\nx.flag boolean 1\n\
         x.new unknown(9)\n\"a key\" llong -5\ndomain - {UUID} \"\"\n"
    );
    let domains = parse(&text).unwrap();
    assert_eq!(domains.len(), 2);
    assert_eq!(domains[0].name, "vm one");
    assert_eq!(domains[0].id, Some(3));
    let expected = [
        ("state.state", Value::Int(1)),
        ("cpu.time", Value::ULLong(123)),
        ("block.0.name", Value::String("vda".to_owned())),
        ("x.ratio", Value::Double(1.5)),
        ("x.flag", Value::Boolean(true)),
        ("x.new", Value::Unknown(9)),
        ("a key", Value::LLong(-5)),
    ];
    for ((key, value), (expected_key, expected_value)) in domains[0].params.iter().zip(&expected) {
        assert_eq!((key.as_str(), value), (*expected_key, expected_value));
    }
    assert_eq!(domains[0].params.len(), expected.len());
    assert_eq!((domains[1].id, domains[1].params.len()), (None, 0));
}

#[test]
fn what_is_written_is_read_back() {
    let first = domain(vec![
        ("state.state", Value::Int(i32::MIN)),
        ("vcpu.maximum", Value::UInt(u32::MAX)),
        ("dirtyrate.calc_start_time", Value::LLong(i64::MIN)),
        ("cpu.time", Value::ULLong(u64::MAX)),
        ("a", Value::Double(1e300)),
        ("b", Value::Double(f64::INFINITY)),
        ("c", Value::Double(f64::NEG_INFINITY)),
        ("d", Value::Double(-0.1)),
        ("flag", Value::Boolean(false)),
        ("text", Value::String("tab\t \\ \u{0} é".to_owned())),
        ("new", Value::Unknown(-7)),
        ("", Value::Int(0)),
        ("domain", Value::Int(1)),
        ("#key", Value::Int(2)),
        ("two words", Value::Int(3)),
        ("quo\"te", Value::Int(4)),
        ("ключ", Value::Int(5)),
    ]);
    let second = Domain { id: None, ..domain(vec![]) };
    let domains = vec![first, second];
    assert_eq!(parse(&write(&domains)).unwrap(), domains);
}

#[test]
fn not_a_number_survives() {
    let text = write(&[domain(vec![("x", Value::Double(f64::NAN))])]);
    assert!(text.contains("x double NaN"));
    let read = parse(&text).unwrap();
    assert!(matches!(read[0].params[0].1, Value::Double(value) if value.is_nan()));
}

#[test]
fn errors_name_the_line_and_the_reason() {
    let head = format!("domain 1 {UUID} \"vm\"\n");
    assert_eq!(reason("# x\ncpu.time ullong 1"), (2, Reason::NoDomain));
    for (line, message) in [
        ("cpu.time", "line 2: the type is missing"),
        ("cpu.time ullong", "line 2: the value is missing"),
        ("cpu.time ullong -1", "line 2: \"-1\" is not a ullong"),
        ("cpu.time long 1", "line 2: unknown type \"long\""),
        ("cpu.time ullong 1 2", "line 2: unexpected \"2\" at the end"),
        ("x boolean yes", "line 2: \"yes\" is not 0 or 1"),
        ("x string vda", "line 2: \"vda\" is not a JSON string"),
        ("x string", "line 2: the value is missing"),
        ("x unknown(z)", "line 2: \"z\" is not a type tag"),
        ("x unknown(9) 1", "line 2: unexpected \"1\" at the end"),
        ("domain", "line 2: the domain's id is missing"),
        ("domain -1 x", "line 2: \"-1\" is not an id or -"),
        ("domain 1 abc \"x\"", "line 2: \"abc\" is not a uuid"),
        ("\"open int 1", "line 2: \"\\\"open int 1\" is not a JSON string"),
    ] {
        assert_eq!(parse(&format!("{head}{line}\n")).unwrap_err().to_string(), message);
    }
    let nameless = format!("domain - {UUID}");
    assert_eq!(reason(&nameless), (1, Reason::Missing("the domain's name")));
}
