#![allow(clippy::unwrap_used)]

use super::{help, run};
use crate::daemon::FakeLibvirtd;
use crate::scenario::Scenario;
use crate::template::Template;

fn daemon() -> FakeLibvirtd {
    let scenario = Scenario::builder().domains(2, Template::small());
    FakeLibvirtd::start(scenario.build()).unwrap()
}

#[test]
fn every_command_is_taken() {
    let daemon = daemon();
    for line in [
        "",
        "hang vm-0",
        "release vm-0",
        "delay vm-0 300ms",
        "busy vm-0 2",
        "busy vm-0 all",
        "busy vm-0 off",
        "silence vm-0 32",
        "die vm-0",
        "record vm-0 renamed \"two words\"",
        "record vm-0 id -",
        "record vm-0 missing",
        "param vm-0 unknown-type 9",
        "param vm-0 long-key 79",
        "param vm-0 not-utf8",
        "ghost nobody",
        "clear-domain vm-0",
        "accept off",
        "accept on",
        "pong off",
        "freeze",
        "thaw",
        "drop-after 5",
        "drop-after off",
        "reply-limit 1000",
        "lose-events all",
        "lose-events 3",
        "lose-events off",
        "reply connect_get_all_domain_stats next 2 cut 100",
        "reply all error 88 \"access denied\"",
        "reply 344 trickle 5s",
        "clear-replies",
        "clear",
        "event vm-0 reboot",
        "event vm-0 lifecycle 2 0",
        "storm 10 1ms reboot watchdog",
        "closed 1",
        "add vm-9 medium",
        "remove vm-9",
        "define vm-9 small",
        "rename vm-9 vm-8",
        "suspend vm-8",
        "resume vm-8",
        "reboot vm-8",
        "kill vm-8",
        "start vm-8",
        "shutdown vm-8",
        "state vm-8 paused",
        "id vm-8 77",
        "undefine vm-8",
        "advance 1m",
        "disconnect",
        "reset-counters",
        "counters",
        "domains",
        "help",
        "restart",
        "stop",
    ] {
        assert!(run(&daemon, line).is_ok(), "{line}: {:?}", run(&daemon, line));
    }
}

#[test]
fn a_wrong_command_says_what_is_wrong() {
    let daemon = daemon();
    for (line, message) in [
        ("explode", "no command \"explode\""),
        ("hang", "a domain is missing"),
        ("hang vm-7", "no domain is called \"vm-7\""),
        ("delay vm-0 soon", "\"soon\" is not a time"),
        ("accept maybe", "\"maybe\" is not on or off"),
        ("reply no_such swallow", "\"no_such\" is not a procedure"),
        ("freeze now", "unexpected \"now\""),
        ("hang \"vm", "\"\\\"vm\" is not a JSON string"),
    ] {
        assert_eq!(run(&daemon, line).unwrap_err().to_string(), message);
    }
}

#[test]
fn help_is_the_table_of_the_documentation() {
    let help = help();
    assert!(help.starts_with("hang D, release D"));
    assert!(help.lines().count() > 20);
}
