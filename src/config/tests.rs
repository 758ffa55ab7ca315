mod unreadable;

use std::error::Error;

use serde_yaml::Value;

use super::*;

/// The error as `main` prints it: the chain, on one line.
pub(super) fn sentence(error: &ConfigError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn refusal(text: &str) -> String {
    sentence(&parse(text, "x.yaml").expect_err(text))
}

#[test]
fn nothing_is_the_default_configuration() {
    for text in [
        "",
        "\n",
        "# nothing but a comment\n",
        "---\n",
        "\u{feff}# with a byte order mark\r\n",
        "web:\n",
        "log: {}\ncollection:\n  # deadline: 3s\n",
        "domains:\n  include:\n  # - nothing yet\n",
    ] {
        assert_eq!(parse(text, "x.yaml").expect(text), Config::default(), "{text:?}");
    }
}

#[test]
fn the_example_shows_every_key_at_its_default() {
    let text = include_str!("../../config.example.yaml");
    let example: Value = serde_yaml::from_str(text).expect("YAML");
    let default = serde_yaml::to_value(Config::default()).expect("a value");
    assert_eq!(example, default);
    assert_eq!(parse(text, "config.example.yaml").expect("valid"), Config::default());
    for group in Group::ALL {
        assert!(text.contains(group.as_str()), "config.example.yaml does not name the group {group}");
    }
}

#[test]
fn a_collection_ends_before_its_scraper_gives_up() {
    let collection = Collection::default();
    for (timeout, within) in [(10.0, 9.5), (0.6, 0.3), (0.0, 0.0)] {
        assert_eq!(collection.within(Duration::from_secs_f64(timeout)), Duration::from_secs_f64(within), "{timeout}");
    }
}

#[test]
fn every_key_is_read() {
    let text = r#"
libvirt: {uri: "test:///default"}
collection:
  groups: [vcpu_kvm, state]
  backing_chain: true
  inactive_domains: none
  deadline: 1m 30s
  timeout_offset: 250ms
  idle_timeout: 1m
domains:
  include: ["web-.*", db]
  exclude: [".*-tmp"]
  labels: [uuid]
metadata:
  rate: 7
  refresh_interval: 10m
  timeout: 2s
  labels: {owner: "metadata/shop:order/@owner", text: description}
metrics:
  include: [libvirt_domain_.*]
  exclude: [libvirt_domain_vcpu_.*]
  unmapped: count
service_discovery:
  enabled: true
  path: /guests
  port: 9273
  states: [paused, running]
  sources: [agent, arp]
  address_family: ipv6
  networks: [lan-.*, br0]
  refresh_interval: 5m
web:
  listen_addresses: ["127.0.0.1:0", "[::1]:9177", localhost:80, "unix:/run/exporter.sock"]
  systemd_socket: true
  telemetry_path: /libvirt/metrics
  config_file: /etc/web.yaml
  max_requests: 0
  max_response_bytes: 1048576
  enable_lifecycle: true
otlp:
  enabled: true
  endpoint: collector:4317
  protocol: grpc
  insecure: true
  headers: {Authorization: "Bearer x", x-scope: a}
  interval: 5s
  timeout: 1s
  export_timeout: 4s
  compression: none
  temporality: delta
  naming: prometheus
  domain_resource: true
  tls: {ca_file: ca.pem, cert_file: c.pem, key_file: k.pem}
  resource: {deployment.environment.name: lab}
log: {level: trace, format: json}
"#;
    let config = parse(text, "x.yaml").expect("valid");
    assert_eq!(config.libvirt.uri.as_str(), "test:///default");
    assert_eq!(*config.collection.groups, [Group::VcpuKvm, Group::State]);
    assert!(config.collection.backing_chain);
    assert_eq!(config.collection.inactive_domains, InactiveDomains::None);
    assert_eq!(config.collection.deadline, Duration::from_secs(90));
    assert_eq!(config.collection.timeout_offset, Duration::from_millis(250));
    assert_eq!(config.collection.idle_timeout, Duration::from_secs(60));
    let names = |rules: &[DomainRule]| -> Vec<String> {
        rules.iter().filter_map(|rule| rule.name.as_ref()).map(ToString::to_string).collect()
    };
    assert_eq!(names(&config.domains.include), ["web-.*", "db"]);
    assert_eq!(names(&config.domains.exclude), [".*-tmp"]);
    assert_eq!(*config.domains.labels, [DomainLabel::Uuid]);
    assert_eq!(config.metadata.rate, 7);
    assert_eq!(config.metadata.refresh_interval, Duration::from_secs(600));
    assert_eq!(config.metadata.timeout, Duration::from_secs(2));
    let labels: Vec<_> = config.metadata.labels.iter().map(|(name, path)| (name.as_str(), path.to_string())).collect();
    assert_eq!(labels, [("owner", "metadata/shop:order/@owner".to_owned()), ("text", "description".to_owned())]);
    assert!(config.metrics.selects("libvirt_domain_state"));
    assert!(!config.metrics.selects("libvirt_up"));
    assert!(!config.metrics.selects("libvirt_domain_vcpu_state"));
    assert_eq!(config.metrics.unmapped, UnmappedKeys::Count);
    let discovery = &config.service_discovery;
    assert!(discovery.enabled && discovery.path.as_str() == "/guests" && discovery.port == 9273);
    assert_eq!(*discovery.states, [ActiveState::Paused, ActiveState::Running]);
    assert_eq!(*discovery.sources, [DiscoverySource::Agent, DiscoverySource::Arp]);
    assert_eq!(discovery.address_family, AddressFamily::Ipv6);
    assert!(discovery.networks[0].is_match("lan-7") && discovery.networks.len() == 2);
    assert_eq!(discovery.refresh_interval, Duration::from_secs(300));
    let addresses: Vec<_> = config.web.listen_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["127.0.0.1:0", "[::1]:9177", "localhost:80", "unix:/run/exporter.sock"]);
    assert!(config.web.systemd_socket && config.web.enable_lifecycle && config.web.max_requests == 0);
    assert_eq!(config.web.max_response_bytes, 1 << 20);
    assert_eq!(config.web.config_file.as_deref(), Some(Path::new("/etc/web.yaml")));
    assert_eq!(config.web.telemetry_path.as_str(), "/libvirt/metrics");
    assert_eq!((config.log.level, config.log.format), (LogLevel::Trace, LogFormat::Json));
    let otlp = &config.otlp;
    assert_eq!(otlp.url().as_deref(), Some("http://collector:4317"));
    let header = |(name, value): (&HeaderName, &HeaderSecret)| format!("{name}: {}", value.as_str());
    let headers: Vec<_> = otlp.headers.iter().flatten().map(header).collect();
    assert_eq!(headers, ["authorization: Bearer x", "x-scope: a"]);
    let seconds = [otlp.interval(), otlp.timeout(), otlp.export_timeout()].map(|span| span.as_secs());
    assert_eq!(seconds, [5, 1, 4]);
    assert_eq!((otlp.compression(), otlp.temporality()), (OtlpCompression::None, Temporality::Delta));
    assert_eq!((otlp.naming, otlp.resource.len()), (Naming::Prometheus, 1));
    assert!(otlp.domain_resource && !Config::default().otlp.domain_resource);
    assert_eq!(otlp.tls.key_file.as_deref(), Some(Path::new("k.pem")));
    let written = serde_yaml::to_string(&config).expect("YAML");
    assert_eq!(parse(&written, "written").expect("valid"), config);
}

#[test]
fn a_path_that_nothing_is_served_at_is_free() {
    let config = parse("web: {telemetry_path: /sd}", "x.yaml").expect("the service discovery is off");
    assert_eq!(config.web.telemetry_path, config.service_discovery.path);
}

#[test]
fn each_bad_document_gets_one_sentence() {
    let groups: Vec<String> = Group::ALL.iter().map(|group| format!("`{group}`")).collect();
    let groups = groups.join(", ");
    let unknown_group = format!("x.yaml:3:13: collection.groups[1]: unknown group `blok`, expected one of {groups}");
    let cases = [
        (
            "collection:\n  deadlin: 8s\n",
            "x.yaml:2:3: collection: unknown key `deadlin`, expected one of `groups`, `cpu_source`, `intervals`, `backing_chain`, `inactive_domains`, `workers`, `batch_size`, `min_interval`, `deadline`, `timeout_offset`, `resync_interval`, `idle_timeout`",
        ),
        (
            "libvirtd:\n  uri: a\n",
            "x.yaml:1:1: unknown key `libvirtd`, expected one of `libvirt`, `collection`, `domains`, `metadata`, `metrics`, `targets`, `profiles`, `probe`, `service_discovery`, `web`, `otlp`, `log`",
        ),
        ("log:\n  level: info\n  level: warn\n", "x.yaml:3:3: log: duplicate key `level`"),
        ("libvirt: {uri: null}", "x.yaml:1:16: libvirt.uri: null is no value, expected one, or no such key"),
        (
            "domains: {include: [web, ~]}",
            "x.yaml:1:26: domains.include[1]: null is no value, expected one, or no such key",
        ),
        ("otlp: {resource: {a: null}}", "x.yaml:1:22: otlp.resource.a: null is no value, expected one, or no such key"),
        (
            "otlp: {resource: {a: ''}}",
            "x.yaml:1:22: otlp.resource.a: the text is empty, expected at least one character",
        ),
        (
            "collection: {min_interval: 1000y}",
            "x.yaml:1:28: collection.min_interval: bad duration `1000y`, expected a number and a unit such as `500ms` or `8s`, from 0s to 1h",
        ),
        ("web: {}\nlog: {}\nweb: {}\n", "x.yaml:3:1: duplicate key `web`"),
        ("collection:\n  groups:\n    [state, blok]\n", unknown_group.as_str()),
        ("collection: {groups: [vm, vm]}", "x.yaml:1:22: collection.groups: `vm` is listed twice"),
        ("collection: {groups: []}", "x.yaml:1:22: collection.groups: the list is empty, expected at least one entry"),
        (
            "collection: {groups: state}",
            "x.yaml:1:22: collection.groups: invalid type: string \"state\", expected a list",
        ),
        (
            "collection: {backing_chain: yes}",
            "x.yaml:1:29: collection.backing_chain: invalid type: string \"yes\", expected a boolean",
        ),
        (
            "collection:\n  deadline: 8\n",
            "x.yaml:2:13: collection.deadline: bad duration `8`, expected a number and a unit such as `500ms` or `8s`, from 100ms to 1h",
        ),
        (
            "collection:\n  deadline: [8s]\n",
            "x.yaml:2:13: collection.deadline: invalid type: sequence, expected a duration such as `8s`",
        ),
        (
            "collection:\n  timeout_offset: 0s\n",
            "x.yaml:2:19: collection.timeout_offset: bad duration `0s`, expected a number and a unit such as `500ms` or `8s`, from 1ms to 1h",
        ),
        (
            "collection:\n  deadline: 61m\n",
            "x.yaml:2:13: collection.deadline: bad duration `61m`, expected a number and a unit such as `500ms` or `8s`, from 100ms to 1h",
        ),
        ("collection: {workers: 17}", "x.yaml:1:23: collection.workers: bad number `17`, expected one from 1 to 16"),
        (
            "collection: {batch_size: -1}",
            "x.yaml:1:26: collection.batch_size: bad number `-1`, expected one from 1 to 1024",
        ),
        (
            "collection: {inactive_domains: some}",
            "x.yaml:1:32: collection.inactive_domains: unknown choice `some`, expected one of `none`, `state`, `all`",
        ),
        (
            "domains:\n  include:\n    - web-.*\n    - a[\n",
            "x.yaml:4:7: domains.include[1]: bad regular expression `a[`: unclosed character class",
        ),
        (
            "domains:\n  exclude: ['a)|(b']\n",
            "x.yaml:2:13: domains.exclude[0]: bad regular expression `a)|(b`: unopened group",
        ),
        (
            "domains:\n  exclude: ['\\w{9999}']\n",
            "x.yaml:2:13: domains.exclude[0]: bad regular expression `\\w{9999}`: it needs more than 4 MiB when compiled",
        ),
        (
            "domains: {labels: [name]}",
            "x.yaml:1:20: domains.labels[0]: unknown domain label `name`, expected one of `domain`, `uuid`",
        ),
        ("domains: {labels: []}", "x.yaml:1:19: domains.labels: the list is empty, expected at least one entry"),
        ("metadata:\n  rate: 0\n", "x.yaml:2:9: metadata.rate: bad number `0`, expected one from 1 to 10000"),
        (
            "metadata:\n  labels:\n    a-b: title\n",
            "x.yaml:3:5: metadata.labels: bad label name `a-b`, expected letters, digits and underscores, not a digit first nor two underscores",
        ),
        (
            "metadata:\n  labels:\n    flavor: title\n",
            "x.yaml:3:5: metadata.labels: the label `flavor` is taken: `libvirt_domain_info` or Prometheus itself uses it",
        ),
        (
            "metadata:\n  labels:\n    owner: /title\n",
            "x.yaml:3:12: metadata.labels.owner: bad path `/title`, expected names of elements, perhaps with an attribute last, such as `metadata/nova:instance/nova:flavor/@name`",
        ),
        ("metadata:\n  labels: {a: title, a: description}\n", "x.yaml:2:22: metadata.labels: duplicate key `a`"),
        ("metadata: {labels: [title]}", "x.yaml:1:20: metadata.labels: invalid type: sequence, expected a map"),
        (
            "metrics: {unmapped: keep}",
            "x.yaml:1:21: metrics.unmapped: unknown choice `keep`, expected one of `export`, `count`",
        ),
        ("metrics: {include: {a: b}}", "x.yaml:1:20: metrics.include: invalid type: map, expected a sequence"),
        (
            "libvirt:\n  uri: \"qemu:///sys\\0tem\"\n",
            "x.yaml:2:8: libvirt.uri: the libvirt URI \"qemu:///sys\\0tem\" contains a NUL character",
        ),
        (
            "libvirt: qemu:///system",
            "x.yaml:1:10: libvirt: invalid type: string \"qemu:///system\", expected a mapping with the keys of `libvirt`",
        ),
        (
            "web: {listen_addresses: [9177]}",
            "x.yaml:1:26: web.listen_addresses[0]: bad listen address `9177`, expected `:port`, `host:port`, `[ipv6]:port` or `unix:/path`",
        ),
        ("web: {listen_addresses: [':1', ':1']}", "x.yaml:1:25: web.listen_addresses: `:1` is listed twice"),
        (
            "web: {telemetry_path: metrics}",
            "x.yaml:1:23: web.telemetry_path: bad path `metrics`, expected one that starts with `/` and holds only characters that a URL path may",
        ),
        (
            "web: {telemetry_path: /}",
            "x.yaml:1:23: web.telemetry_path: bad path `/`, which the exporter serves another page at",
        ),
        (
            "web: {telemetry_path: /-/ready}",
            "x.yaml:1:23: web.telemetry_path: bad path `/-/ready`, which the exporter serves another page at",
        ),
        (
            "service_discovery: {enabled: true, path: /metrics}",
            "x.yaml:1:42: service_discovery.path: `/metrics` is the path of the metrics (web.telemetry_path) too, expected another",
        ),
        (
            "web: {telemetry_path: /sd}\nservice_discovery: {enabled: true}",
            "x.yaml: service_discovery.path: `/sd` is the path of the metrics (web.telemetry_path) too, expected another",
        ),
        (
            "service_discovery: {path: /-/sd}",
            "x.yaml:1:27: service_discovery.path: bad path `/-/sd`, which the exporter serves another page at",
        ),
        (
            "service_discovery: {port: 0}",
            "x.yaml:1:27: service_discovery.port: bad number `0`, expected one from 1 to 65535",
        ),
        (
            "service_discovery: {port: 65536}",
            "x.yaml:1:27: service_discovery.port: bad number `65536`, expected one from 1 to 65535",
        ),
        (
            "service_discovery: {states: [shutoff]}",
            "x.yaml:1:30: service_discovery.states[0]: unknown state `shutoff`, expected one of `running`, `paused`",
        ),
        (
            "service_discovery: {sources: [dns]}",
            "x.yaml:1:31: service_discovery.sources[0]: unknown address source `dns`, expected one of `lease`, `arp`, `agent`",
        ),
        (
            "service_discovery: {sources: []}",
            "x.yaml:1:30: service_discovery.sources: the list is empty, expected at least one entry",
        ),
        (
            "service_discovery: {address_family: inet}",
            "x.yaml:1:37: service_discovery.address_family: unknown address family `inet`, expected one of `any`, `ipv4`, `ipv6`",
        ),
        (
            "service_discovery: {networks: ['(']}",
            "x.yaml:1:32: service_discovery.networks[0]: bad regular expression `(`: unclosed group",
        ),
        (
            "service_discovery: {refresh: 1m}",
            "x.yaml:1:21: service_discovery: unknown key `refresh`, expected one of `enabled`, `path`, `port`, `states`, `sources`, `address_family`, `networks`, `refresh_interval`",
        ),
        (
            "log: {level: loud}",
            "x.yaml:1:14: log.level: unknown log level `loud`, expected one of `error`, `warn`, `info`, `debug`, `trace`",
        ),
        ("log: {format: xml}", "x.yaml:1:15: log.format: unknown log format `xml`, expected one of `logfmt`, `json`"),
        (
            "\"a\\nb\\e[31m\": 1",
            "x.yaml:1:1: unknown key `a\\nb\\u{1b}[31m`, expected one of `libvirt`, `collection`, `domains`, `metadata`, `metrics`, `targets`, `profiles`, `probe`, `service_discovery`, `web`, `otlp`, `log`",
        ),
        ("- log\n", "x.yaml:1:1: invalid type: sequence, expected a mapping with sections such as `libvirt:`"),
        (
            "log:\n\tlevel: info\n",
            "x.yaml:2:1: found character that cannot start any token, while scanning for the next token",
        ),
        (
            "log: {level: info\n",
            "x.yaml:2:1: did not find expected ',' or '}', while parsing a flow mapping at line 1 column 6",
        ),
        (
            "log: {}\n---\nweb: {}\n",
            "x.yaml: deserializing from YAML containing more than one document is not supported",
        ),
        ("log: &a {level: info}\nweb: *b\n", "x.yaml:2:6: unknown anchor"),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text), expected, "{text}");
    }
}

#[test]
fn a_regex_matches_the_whole_text_and_nothing_less() {
    let regex: AnchoredRegex = "a|b.c".parse().expect("valid");
    assert!(regex.is_match("a") && regex.is_match("b\nc"));
    assert!(!regex.is_match("ab") && !regex.is_match("xa") && !regex.is_match("a\n"));
    assert_eq!(regex.to_string(), "a|b.c");
}
