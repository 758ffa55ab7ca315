//! What is refused or cut, and that any text is one or the other.

use proptest::prelude::*;

use super::*;

fn refusal(xml: &str) -> DefinitionError {
    parse_definition(xml, &MetadataLabels::new()).expect_err("refused")
}

#[test]
fn what_is_no_definition_is_refused_by_reason() {
    let bomb = "<!DOCTYPE d [<!ENTITY a 'x'><!ENTITY b '&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;'>]><domain>&c;</domain>";
    let cases = [
        (bomb, "dtd"),
        ("<!DOCTYPE domain SYSTEM 'file:///etc/passwd'><domain/>", "dtd"),
        ("<!DOCTYPE domain><domain/>", "dtd"),
        ("<domain>&a;</domain>", "malformed"),
        ("", "malformed"),
        ("<domain>", "malformed"),
        ("<domain", "malformed"),
        ("<domain></domains>", "malformed"),
        ("<domain><!-- ", "malformed"),
        ("<domain a='1' a='2'/>", "malformed"),
        ("<nova:domain/>", "malformed"),
        ("<domain/><domain/>", "malformed"),
        ("<domain>\u{0}</domain>", "malformed"),
        ("<!doctype domain><domain/>", "malformed"),
        ("<network/>", "no_domain"),
    ];
    for (xml, reason) in cases {
        let error = refusal(xml);
        let failure = DefinitionFailure::from(&error);
        assert_eq!(failure.as_str(), reason, "{xml}: {error}");
        assert!(DefinitionFailure::ALL.contains(&failure));
    }
    let long = format!("<{0}></{0}>", "n".repeat(1 << 20));
    assert!(refusal(&long).to_string().len() < 300);
    assert!(refusal(&format!("<domain></{}>", "n".repeat(1 << 20))).to_string().len() < 300);
}

#[test]
fn what_would_be_expensive_is_refused() {
    let nested = |depth: usize| format!("<domain>{}{}</domain>", "<a>".repeat(depth), "</a>".repeat(depth));
    assert_eq!(parse(&nested(bounds::MOST_DEPTH - 1)), Metadata::default());
    assert_eq!(refusal(&nested(bounds::MOST_DEPTH)), DefinitionError::TooDeep);
    assert_eq!(refusal(&nested(500_000)), DefinitionError::TooDeep);
    // Depth is counted as the parser does, whatever is in attributes, comments and the like.
    let hidden = "<a b='>' c=\"/>\"><!-- </a> --><![CDATA[</a>]]><?x </a> ?>".repeat(bounds::MOST_DEPTH);
    assert_eq!(refusal(&format!("<domain>{hidden}")), DefinitionError::TooDeep);
    let flat = format!("<domain>{}</domain>", "<a b='>'></a><c/>".repeat(1000));
    assert_eq!(parse(&flat), Metadata::default());
    let empty = |bytes: usize| format!("<domain>{}</domain>", " ".repeat(bytes - "<domain></domain>".len()));
    assert_eq!(parse(&empty(bounds::MOST_BYTES)), Metadata::default());
    assert_eq!(refusal(&empty(bounds::MOST_BYTES + 1)), DefinitionError::TooLarge);
    assert_eq!(refusal(&format!("<domain>{}</domain>", "<a/>".repeat(300_000))), DefinitionError::TooLarge);
    let attributes: String = (0..100_000).map(|n| format!(" a{n}=''")).collect();
    assert_eq!(refusal(&format!("<domain{attributes}/>")), DefinitionError::TooLarge);
    let namespaces: String = (0..2000).map(|n| format!("<a xmlns:n{n}='u'/>")).collect();
    assert_eq!(refusal(&format!("<domain>{namespaces}</domain>")), DefinitionError::TooLarge);
}

#[test]
fn a_text_beyond_any_path_is_cut() {
    let metadata = parse(&format!("<domain><title>{}</title></domain>", "é".repeat(5000)));
    assert_eq!(metadata.title, "é".repeat(2048));
}

fn escaped(text: &str) -> String {
    let escape = |character: char| match character {
        '<' | '>' | '&' | '"' | '\'' | '\n' | '\t' | '\r' => format!("&#{};", u32::from(character)),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}", cut in 0_usize..3000) {
        let _any = parse_definition(&text, &MetadataLabels::new());
        let _any = parse_definition(&format!("<domain><devices>{text}</devices></domain>"), &MetadataLabels::new());
        let _any = parse_definition(&WEB[..WEB.floor_char_boundary(cut)], &MetadataLabels::new());
    }

    #[test]
    fn any_document_of_known_words_is_read_or_refused(
        words in prop::collection::vec(prop::sample::select(vec![
            "<domain>", "</domain>", "<devices>", "</devices>", "<disk type='network'>", "</disk>", "<source name='a'/>",
            "<target dev='vda'/>", "<metadata>", "</metadata>", "<a xmlns='urn:domstats-exporter:scrape:1'>", "</a>",
            "<scrape port='1'/>", "<!--", "-->", "<![CDATA[", "]]>", "<?", "?>", "'", "\"", "&lt;", "<", ">", "=", "x",
        ]), 0..40),
    ) {
        let _any = parse_definition(&words.concat(), &MetadataLabels::new());
        let _any = parse_definition(&format!("<domain>{}</domain>", words.concat()), &MetadataLabels::new());
    }

    #[test]
    fn any_value_survives_its_escapes(value in "[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\u{fffe}\\u{ffff}]{1,80}") {
        let xml = format!(
            "<domain><title>{0}</title><devices><disk type='file'><source file='{0}'/><target dev='{0}'/></disk></devices>\
             <metadata><a b=\"{0}\"/></metadata></domain>",
            escaped(&value),
        );
        let metadata = parse_definition(&xml, &configured(&[("b", "metadata/a/@b")])).expect("well-formed");
        let value = value.trim();
        prop_assert_eq!(&metadata.title, value);
        prop_assert_eq!(metadata.labels.get("b").map_or("", String::as_str), value);
        match metadata.disks.as_slice() {
            [] => prop_assert_eq!(value, ""),
            disks => prop_assert_eq!((&*disks[0].device, &*disks[0].source), (value, value)),
        }
    }
}
