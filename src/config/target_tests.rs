use super::tests::sentence;
use super::*;

const TEXT: &str = r#"
libvirt: {uri: ""}
collection: {groups: [state, block], workers: 3, intervals: {iothread: 2m}}
metadata: {labels: {owner: title}}
targets:
  hv-1.example: {uri: "qemu+tls://hv-1.example/system", profile: remote}
  session: {uri: "qemu+unix:///session?socket=/run/user/1000/libvirt/libvirt-sock"}
  pods: {uri: "qemu+unix:///session?socket=/run/pods/*/libvirt-sock", name_regex: "/run/pods/([^/]+)/libvirt-sock"}
profiles:
  remote:
    collection: {workers: 1, cpu_source: libvirt, intervals: {dirtyrate: 5m}}
    metadata: {labels: {team: description}}
    metrics: {exclude: [libvirt_domain_perf_.*]}
  bare: {}
probe: {allow: ["test:///default"], idle_timeout: 1m, max_connections: 50, rescan_interval: 3s}
"#;

fn config() -> Config {
    parse(TEXT, "x.yaml").expect("valid")
}

#[test]
fn a_profile_is_laid_over_the_other_settings_key_by_key() {
    let config = config();
    let names: Vec<&str> = config.targets.keys().map(TargetName::as_str).collect();
    assert_eq!(names, ["hv-1.example", "pods", "session"]);
    let of = |name: &str| {
        let target = &config.targets[name];
        config.of_target(&target.uri, target.profile()).expect("a known profile")
    };
    let (remote, session) = (of("hv-1.example"), of("session"));
    assert_eq!(remote.libvirt.uri.as_str(), "qemu+tls://hv-1.example/system");
    assert_eq!((remote.collection.workers, session.collection.workers), (1, 3));
    assert_eq!(*remote.collection.groups, [Group::State, Group::Block]);
    assert_eq!(remote.collection.cpu_source, CpuSource::Libvirt);
    let intervals =
        Intervals { dirtyrate: Duration::from_secs(300), iothread: Duration::from_secs(120), ..Intervals::default() };
    assert_eq!(remote.collection.intervals, intervals);
    let labels: Vec<&str> = remote.metadata.labels.keys().map(LabelName::as_str).collect();
    assert_eq!(labels, ["owner", "team"]);
    assert!(
        !remote.metrics.selects("libvirt_domain_perf_cmt_bytes")
            && session.metrics.selects("libvirt_domain_perf_cmt_bytes")
    );
    assert!(remote.targets.is_empty() && remote.profiles.is_empty());
    assert!(config.of_target(&remote.libvirt.uri, "bare").is_some_and(|bare| bare.collection == config.collection));
    assert!(config.of_target(&remote.libvirt.uri, "other").is_none());
    assert_eq!(config.known_profiles(), "`default`, `bare`, `remote`");
    let written = serde_yaml::to_string(&config).expect("YAML");
    assert_eq!(parse(&written, "written").expect("valid"), config);
}

#[test]
fn a_pattern_names_the_sockets_that_it_finds() {
    let config = config();
    let (path, regex) = config.targets["pods"].pattern().expect("a pattern");
    assert_eq!(path, "/run/pods/*/libvirt-sock");
    assert_eq!(regex.capture("/run/pods/vm-7/libvirt-sock"), Some("vm-7"));
    assert_eq!(config.targets["session"].pattern(), None);
}

#[test]
fn no_user_or_password_of_a_target_is_shown() {
    let config = parse("targets: {a: {uri: 'qemu+ssh://me:secret@h/system'}}", "x.yaml").expect("valid");
    let shown = config.to_public_yaml().expect("YAML");
    assert!(!shown.contains("secret") && shown.contains("<hidden>@h"), "{shown}");
}

#[test]
fn each_bad_target_gets_one_sentence() {
    for (text, expected) in [
        ("targets: {a: {}}", "x.yaml:1:14: targets.a: missing key `uri`"),
        (
            "targets: {a: {uri: ''}}",
            "x.yaml:1:20: targets.a.uri: the libvirt URI is empty, expected one such as `qemu:///system`",
        ),
        (
            "targets: {a: {uri: 'x y'}}",
            "x.yaml:1:20: targets.a.uri: bad libvirt URI \"x y\", expected one such as `qemu:///system`",
        ),
        (
            "targets: {a: {url: x}}",
            "x.yaml:1:15: targets.a: unknown key `url`, expected one of `uri`, `profile`, `name_regex`",
        ),
        (
            "targets: {'a/b': {uri: 'test:///default'}}",
            "x.yaml:1:11: targets: bad name \"a/b\", expected up to 200 letters, digits and characters of `-._:@`",
        ),
        (
            "targets: {a: {uri: 'test:///default'}, a: {uri: 'test:///default'}}",
            "x.yaml:1:40: targets: duplicate key `a`",
        ),
        (
            "targets:\n  a.b:\n    uri: test:///default\n    profile: far\nprofiles: {near: {}}\n",
            "x.yaml:4:14: targets.a.b.profile: unknown profile `far`, expected one of `default`, `near`",
        ),
        (
            "targets: {a: {uri: 'qemu+unix:///session?socket=/run/*/s'}}",
            "x.yaml:1:20: targets.a.uri: the URI \"qemu+unix:///session?socket=/run/*/s\" has a `*`, expected a name_regex beside it whose group is the name of each socket's target",
        ),
        (
            "targets: {a: {uri: 'qemu+unix:///session?socket=/run/**/s', name_regex: '(x)'}}",
            "x.yaml:1:20: targets.a.uri: the path of the socket in \"qemu+unix:///session?socket=/run/**/s\" has `**`, expected `*`, which stands for a part of one name",
        ),
        (
            "targets: {a: {uri: 'qemu+tls://h*/system'}}",
            "x.yaml:1:20: targets.a.uri: the URI \"qemu+tls://h*/system\" has a `*`, expected none outside of the path of its parameter `socket`",
        ),
        (
            "targets: {a: {uri: 'test:///default', name_regex: '(x)'}}",
            "x.yaml:1:51: targets.a.name_regex: the URI has no `*`, expected no name_regex: the target has its name already",
        ),
        (
            "targets: {a: {uri: 'test:///default', name_regex: 'x'}}",
            "x.yaml:1:51: targets.a.name_regex: the regular expression `x` has no group, expected one around the name, as in `/run/([^/]+)/sock`",
        ),
        (
            "profiles: {default: {}}",
            "x.yaml:1:21: profiles.default: the profile `default` is the sections outside of profiles, expected another name",
        ),
        (
            "profiles: {a: {collection: {workers: 17}}}",
            "x.yaml:1:38: profiles.a.collection.workers: bad number `17`, expected one from 1 to 16",
        ),
        (
            "profiles: {a: {web: {}}}",
            "x.yaml:1:16: profiles.a: unknown key `web`, expected one of `collection`, `domains`, `metadata`, `metrics`",
        ),
        (
            "targets: {a: {uri: 'test:///default'}}\nweb: {telemetry_path: /probe}",
            "x.yaml:2:23: web.telemetry_path: bad path `/probe`, which the exporter serves another page at",
        ),
        ("probe: {allow: ['(']}", "x.yaml:1:17: probe.allow[0]: bad regular expression `(`: unclosed group"),
    ] {
        assert_eq!(sentence(&parse(text, "x.yaml").expect_err(text)), expected);
    }
    assert!(parse("web: {telemetry_path: /probe}", "x.yaml").is_ok(), "nothing else is there");
}

#[test]
fn programs_and_the_lack_of_any_daemon_are_told() {
    let faults = |text: &str| {
        let config = parse(text, "x.yaml").expect(text);
        let fault = config.check_uris(None, false).and_then(|()| config.check(None));
        fault.err().map(|error| error.to_string())
    };
    assert_eq!(faults(TEXT), None);
    let program = faults("targets: {a.b: {uri: 'qemu+ext:///?command=/bin/x'}}").expect("a program");
    assert!(
        program.starts_with("targets.a.b.uri: the transport ext has libvirt's client library run a program"),
        "{program}"
    );
    let nothing = faults("libvirt: {uri: ''}").expect("nothing to export");
    assert_eq!(nothing, "libvirt.uri: the URI is empty and there are no targets: there would be nothing to export");
}

#[test]
fn an_expression_admits_users_and_parameters_only_if_it_names_them() {
    let allowed = |expression: &str, uri: &str| {
        let probe = Probe { allow: vec![expression.parse().expect(expression)], ..Probe::default() };
        probe.allows(&uri.parse().expect(uri))
    };
    for (expression, uri) in [
        ("qemu[+]tls://hv-[0-9]+[.]example(:16514)?/system", "qemu+tls://hv-1.example/system"),
        (".*", "qemu+tls://hv-1.example/system"),
        ("esx://.*[.]example/dc/cluster/host", "esx://e.example/dc/cluster/host"),
        ("qemu[+]ssh://metrics@.*/system[?]no_tty=1", "qemu+ssh://metrics@h/system?no_tty=1"),
        ("qemu[+]unix:///session[?]socket=/run/user/[0-9]+/s", "qemu+unix:///session?socket=/run/user/7/s"),
    ] {
        assert!(allowed(expression, uri), "{expression} {uri}");
    }
    for (expression, uri) in [
        (".*", "qemu+tls://h/system?pkipath=/tmp"),
        (".*", "qemu+tls://h/system?no_verify=1"),
        (".*", "qemu+ssh://root@h/system"),
        ("qemu[+]ssh://.*[.]example/system", "qemu+ssh://h/?keyfile=/x;.example/system"),
        ("qemu[+]unix:///system[?]socket=.*", "qemu+unix:///system?socket=/a&name=test:///x"),
        ("qemu[+]unix:///system[?]socket=.*", "qemu+unix:///system?socket=/a;mode=direct"),
        ("qemu[+]unix:///system[?]socket=.*", "qemu+unix:///system?%73ocket=/a"),
        ("qemu[+]tls://hv-[0-9]+[.]example/system", "qemu+tls://hv-1.example/system/x"),
        ("qemu[+]ssh://.*[.]example/system", "qemu+ssh://root%40h.example/system"),
        ("qemu[+]tls://.*[.]example/system", "qemu+tls://evil:443/.example/system"),
        ("qemu[+]tls://.*.example/system", "qemu+tls://evil:443/.example/system"),
        ("qemu[+]tls://.*[.]example/system", "qemu+tls://evil#.example/system"),
    ] {
        assert!(!allowed(expression, uri), "{expression} {uri}");
    }
}
