//! Documents and files that are no configuration at all.

use std::fs;

use proptest::prelude::*;

use super::*;

#[test]
fn no_document_takes_the_parser_down() {
    let nested = "[".repeat(20_000);
    let mut bomb = String::from("a0: &a0 [x]\n");
    for level in 1..30 {
        bomb.push_str(&format!("a{level}: &a{level} [*a{0}, *a{0}, *a{0}]\n", level - 1));
    }
    for text in [
        nested.as_str(),
        &bomb,
        "? [a, b]\n: c\n",
        "!x y",
        "{1: 2, 1: 3}",
        "a: !t {b: 1, b: 2}",
        "~: 1",
        "\0",
        "%YAML 9.9\n---\n",
    ] {
        let message = refusal(text);
        assert!(message.starts_with("x.yaml:") && !message.contains('\n'), "{message}");
        assert!(message.len() < 300, "{message}");
    }
}

#[test]
fn each_bad_file_gets_one_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x.yaml");
    let name = file.display().to_string();
    let load_error = || sentence(&load(&file).expect_err("refused"));
    assert_eq!(
        load_error(),
        format!("cannot read the configuration file {name}: No such file or directory (os error 2)")
    );
    fs::write(&file, b"# gr\xc3\xbc\xc3\x9fe\nlog: {} # \xfc\n").expect("written");
    assert_eq!(load_error(), format!("{name}:2:11: this is not UTF-8 text"));
    fs::write(&file, "#".repeat((1 << 20) + 1)).expect("written");
    assert_eq!(load_error(), format!("{name} is larger than 1 MiB, which no configuration file is"));
    fs::write(&file, "#".repeat(1 << 20)).expect("written");
    assert_eq!(load(&file).expect("valid"), Config::default());
    fs::write(&file, "otlp:\n  enabled: true\n").expect("written");
    let contradiction = load(&file).expect("good by itself").check(Some(&file)).expect_err("no endpoint");
    assert!(sentence(&contradiction).starts_with(&format!("{name}:2:12: otlp.enabled: ")), "{contradiction}");
    let absent = folder.path().join("web.yaml");
    assert_eq!(
        sentence(&load_web_file(&absent).expect_err("refused")),
        format!("cannot read the web configuration file {}: No such file or directory (os error 2)", absent.display())
    );
    let is_folder = sentence(&load(folder.path()).expect_err("refused"));
    assert!(is_folder.ends_with(": Is a directory (os error 21)"), "{is_folder}");
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_one_sentence(text in "[a-z:{}\\[\\],\\-&*!|>%@`\"'#\\\\ \\t\\n\\PC]{0,60}") {
        if let Err(error) = parse(&text, "x.yaml") {
            let message = sentence(&error);
            prop_assert!(message.starts_with("x.yaml:") && !message.contains('\n'), "{}", message);
        }
    }
}
