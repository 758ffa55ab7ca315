//! The resource: what the metrics say of where they come from.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fs;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_semantic_conventions::attribute::{
    HOST_ARCH, HOST_ID, HOST_NAME, SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION,
};

use crate::config::Uri;

/// The attributes in the order of their names: what can be found out, over it what the environment says
/// (`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`), over that `configured`.
///
/// The instance, which is what Prometheus calls `instance`, is named after its host, and after its libvirt where that is not
/// the default: a host may have several daemons, with an exporter each. That of a `target` ends in its name, whatever else is
/// configured, and one on another host has that host's name.
pub(super) fn attributes(
    configured: &BTreeMap<String, String>,
    uri: &Uri,
    target: Option<&str>,
) -> Vec<(String, String)> {
    let this_host = first_line("/proc/sys/kernel/hostname");
    let instance = this_host.clone().map(|host| match uri {
        uri if target.is_some() || uri.is_none() || *uri == Uri::default() => host,
        uri => format!("{host}/{}", uri.redacted()),
    });
    let other_host = uri.host().filter(|_| target.is_some()).map(str::to_owned);
    let here = |value: Option<String>| value.filter(|_| other_host.is_none());
    let found = [
        (SERVICE_NAME, Some(env!("CARGO_PKG_NAME").to_owned())),
        (SERVICE_VERSION, Some(env!("CARGO_PKG_VERSION").to_owned())),
        (SERVICE_INSTANCE_ID, instance),
        (HOST_ID, here(first_line("/etc/machine-id"))),
        (HOST_ARCH, here(Some(arch(ARCH).to_owned()))),
        (HOST_NAME, other_host.clone().or(this_host)),
    ];
    let found = found.into_iter().filter_map(|(name, value)| Some(KeyValue::new(name, value?)));
    let name = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
    let configured = configured.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    let resource = Resource::builder_empty()
        .with_attributes(found)
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_attributes(name.map(|name| KeyValue::new(SERVICE_NAME, name)))
        .with_attributes(configured)
        .build();
    let mut attributes: Vec<_> = resource.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let instance = attributes.iter_mut().find(|(name, _)| name == SERVICE_INSTANCE_ID);
    if let (Some((_, instance)), Some(target)) = (instance, target) {
        instance.push('/');
        instance.push_str(target);
    }
    attributes.sort();
    attributes
}

fn first_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned)
}

/// The semantic conventions' name for what Rust calls `arch`.
fn arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc64" => "ppc64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_comes_before_what_is_found() {
        let configured = [("service.name", "x"), ("deployment.environment.name", "lab")];
        let configured = configured.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let of = |uri: &Uri| super::attributes(&configured, uri, None).into_iter().collect::<BTreeMap<_, _>>();
        let attributes = of(&Uri::default());
        assert_eq!(attributes["service.name"], "x");
        assert_eq!(attributes["deployment.environment.name"], "lab");
        assert_eq!(attributes["service.version"], env!("CARGO_PKG_VERSION"));
        let (host, instance) = (&attributes["host.name"], &attributes["service.instance.id"]);
        assert_eq!(instance, host);
        let session = of(&"qemu+ssh://me:secret@other/session?socket=/x".parse().expect("a URI"));
        assert_eq!(
            session["service.instance.id"],
            format!("{host}/qemu+ssh://<hidden>@other/session?socket=/x"),
            "another daemon of the same host"
        );
        let remote = "qemu+tls://hv-1.example:16514/system".parse().expect("a URI");
        let remote: BTreeMap<_, _> = super::attributes(&configured, &remote, Some("hv-1")).into_iter().collect();
        assert_eq!(remote["service.instance.id"], format!("{host}/hv-1"));
        assert_eq!((remote["host.name"].as_str(), remote.get("host.id")), ("hv-1.example", None));
        let named = BTreeMap::from([("service.instance.id".to_owned(), "me".to_owned())]);
        let named: BTreeMap<_, _> = super::attributes(&named, &Uri::default(), Some("a")).into_iter().collect();
        assert_eq!((named["service.instance.id"].as_str(), &named["host.name"]), ("me/a", host));
        assert!(["amd64", "arm64"].contains(&attributes["host.arch"].as_str()));
    }
}
