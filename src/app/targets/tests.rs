//! Which targets are open, and for how long.

use super::*;
use crate::config;

const TEXT: &str = "
libvirt: {uri: ''}
targets:
  a: {uri: 'test:///default'}
  b: {uri: 'test:///default', profile: small}
profiles: {small: {collection: {workers: 1}}, large: {collection: {workers: 16}}}
probe: {allow: ['test:///def.*', 'qemu[+]ext:.*'], max_connections: 24}
";

fn parsed(text: &str) -> Arc<Config> {
    Arc::new(config::parse(text, "test").expect("a configuration"))
}

fn probe(targets: &Targets, target: &str, profile: Option<&str>) -> Result<Arc<Exporter>, ProbeError> {
    let request = ProbeRequest { target: target.to_owned(), profile: profile.map(str::to_owned) };
    targets.probe(&request).map(|daemon| daemon.handle)
}

fn refusal(targets: &Targets, target: &str, profile: Option<&str>) -> String {
    probe(targets, target, profile).expect_err("refused").to_string()
}

#[test]
fn a_target_has_one_exporter_for_each_profile() {
    let targets = Targets::new(parsed(TEXT), 1000);
    let a = probe(&targets, "a", None).expect("known");
    assert!(Arc::ptr_eq(&a, &probe(&targets, "a", Some("default")).expect("the same")));
    let b = probe(&targets, "b", None).expect("known");
    assert_eq!((a.config().collection.workers, b.config().collection.workers), (4, 1));
    let other = probe(&targets, "a", Some("small")).expect("another profile");
    assert!(!Arc::ptr_eq(&a, &other));
    let counts = TargetCounts { open: 2, closed: 0, connections: 18, refused: 0 };
    assert_eq!(targets.counts(), Some(counts));
    assert!(probe(&targets, "test:///default", Some("small")).is_ok(), "allowed");
    for (target, expected) in [
        ("c", "unknown target \"c\", /probe-targets lists the known ones"),
        ("qemu:///system", "probe.allow does not match the URI \"qemu:///system\""),
        ("test:///default/x y", "probe.allow does not match the URI \"test:///default/x y\""),
        ("qemu+ext:///?command=x", "probe.allow does not match the URI \"qemu+ext:///?command=x\""),
    ] {
        assert_eq!(refusal(&targets, target, None), expected);
    }
    assert_eq!(
        refusal(&targets, "a", Some("tiny")),
        "unknown profile \"tiny\", expected one of `default`, `large`, `small`"
    );
}

#[test]
fn connections_are_limited_and_idle_targets_make_room() {
    let targets = Targets::new(parsed(TEXT), 1000);
    drop(probe(&targets, "a", None).expect("8 of 24"));
    let busy = probe(&targets, "b", None).expect("5 of 24");
    let full = "the limit of 24 connections to targets (probe.max_connections) is reached, try again";
    assert_eq!(refusal(&targets, "a", Some("large")), full, "all were probed just now");
    let long_ago = Instant::now().checked_sub(LEAST_IDLE).expect("a clock");
    targets.state().open.values_mut().for_each(|open| open.probed = long_ago);
    assert_eq!(refusal(&targets, "a", Some("large")), full, "one is busy");
    assert_eq!(targets.counts().map(|counts| counts.open), Some(2), "none is closed where that frees too little");
    drop(busy);
    assert!(probe(&targets, "a", Some("large")).is_ok());
    let counts = targets.counts().expect("targets");
    assert_eq!((counts.connections, counts.refused, counts.closed), (20, 2, 1));
    assert_eq!(refusal(&Targets::new(parsed(TEXT), 7), "a", None), full.replace("24", "7"), "descriptors");
}

#[test]
fn what_is_idle_or_gone_is_closed_and_others_stay() {
    let targets = Targets::new(parsed(TEXT), 1000);
    let a = Arc::downgrade(&probe(&targets, "a", None).expect("known"));
    let b = Arc::downgrade(&probe(&targets, "b", None).expect("known"));
    targets.reload(
        parsed(&TEXT.replace("  a: {uri: 'test:///default'}\n", "").replace("workers: 1}", "workers: 2}")),
        1000,
    );
    assert!(a.upgrade().is_none());
    assert_eq!(b.upgrade().expect("as it was").config().collection.workers, 2);
    targets.close_idle();
    assert!(b.upgrade().is_some());
    let long_ago = Instant::now().checked_sub(Duration::from_secs(300)).expect("a clock");
    targets.state().open.values_mut().for_each(|open| open.probed = long_ago);
    targets.close_idle();
    assert!(b.upgrade().is_none());
    assert_eq!(targets.counts(), Some(TargetCounts { open: 0, closed: 1, connections: 0, refused: 0 }));
}

#[test]
fn targets_are_listed_for_prometheus_without_secrets() {
    let text = "targets: {hv: {uri: 'qemu+ssh://me:secret@hv/system', profile: far}}\nprofiles: {far: {}}";
    let groups = Targets::new(parsed(text), 10).groups("monitor:9177");
    let json = serde_json::to_string(&groups).expect("JSON");
    assert_eq!(
        json,
        "[{\"targets\":[\"monitor:9177\"],\"labels\":{\"__meta_libvirt_target\":\"hv\",\
         \"__meta_libvirt_target_profile\":\"far\",\"__meta_libvirt_target_uri\":\"qemu+ssh://<hidden>@hv/system\",\
         \"__metrics_path__\":\"/probe\",\"__param_target\":\"hv\",\"instance\":\"hv\"}}]"
    );
}

#[test]
fn a_search_that_ends_after_a_reload_brings_no_pattern_back() {
    let text =
        "targets: {pods: {uri: 'qemu+unix:///s?socket=/pods/*/s', name_regex: '/(.*)/s'}, a: {uri: 'test:///default'}}";
    let targets = Targets::new(parsed(text), 10);
    let found = || {
        let known =
            Known { uri: "test:///default".parse().expect("a URI"), profile: "default".to_owned(), socket: None };
        let search = Search { name: "pods".to_owned(), ..Search::default() };
        Found { targets: [("pods/x".to_owned(), known)].into(), searches: vec![search] }
    };
    assert!(targets.found(found()) && !targets.found(found()));
    assert!(probe(&targets, "pods/x", None).is_ok());
    targets.reload(parsed("targets: {a: {uri: 'test:///default'}}"), 10);
    assert!(!targets.found(found()), "nothing is new");
    assert_eq!(refusal(&targets, "pods/x", None), "unknown target \"pods/x\", /probe-targets lists the known ones");
}
