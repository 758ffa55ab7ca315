//! The Helm chart and the Kustomize base: rendered by the real tools, held against the schemas of Kubernetes and of Prometheus'
//! operator, against each other, and against what they render to before.
//!
//! The tools are built from Go's module proxy, once a machine (tests/lab/gotool.sh). Where that is impossible, each test says so by its
//! name and is passed over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use domstats_exporter::config;
use serde::Deserialize as _;
use serde_yaml::Value;

const CHART: &str = "packaging/helm/domstats-exporter";
/// Helm without a cluster takes an old one for granted.
const CLUSTER: &str = "1.37.0";
const REPOSITORY: &str = "image.repository=registry.example/domstats-exporter";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the script prints, or nothing where this machine cannot have it.
fn lab(test: &str, script: &str, arguments: &[&str]) -> Option<PathBuf> {
    let done = Command::new(root().join("tests/lab").join(script)).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.code() == Some(3) {
        eprintln!("SKIPPED kubernetes::{test}: {script} {arguments:?}: {}", said.trim());
        return None;
    }
    assert!(done.status.success(), "{script} {arguments:?}: {said}");
    Some(PathBuf::from(String::from_utf8(done.stdout).unwrap().trim()))
}

fn tool(test: &str, name: &str) -> Option<PathBuf> {
    lab(test, "gotool.sh", &[name])
}

/// Whether it ended well, and all that it said.
fn run(command: &mut Command) -> (bool, String) {
    let done = command.current_dir(root()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.success(), said)
}

/// What it prints; it has to end well. On standard error, Helm names each symbolic link of the chart.
fn good(command: &mut Command) -> String {
    let done = command.current_dir(root()).output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The chart with its defaults, and with everything switched on.
fn renders(helm: &Path) -> [(&'static str, String); 2] {
    let template = |arguments: &[&str]| {
        let mut command = Command::new(helm);
        command.args(["template", "domstats-exporter", CHART, "--namespace=monitoring", "--kube-version", CLUSTER]);
        good(command.args(arguments))
    };
    [
        ("default", template(&["--set", REPOSITORY])),
        ("everything", template(&["--values", "tests/golden/kubernetes/everything.values.yaml"])),
    ]
}

fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text).map(|one| Value::deserialize(one).unwrap());
    documents.filter(|document| !document.is_null()).collect()
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    documents.iter().find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn file(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn helm_finds_no_fault_in_the_chart() {
    let Some(helm) = tool("helm_finds_no_fault_in_the_chart", "helm") else { return };
    for values in [["--set", REPOSITORY], ["--values", "tests/golden/kubernetes/everything.values.yaml"]] {
        let said = good(Command::new(&helm).args(["lint", "--strict", CHART]).args(values));
        assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{said}");
    }
    for (value, expected) in [
        ("port=9177", "where do the nodes find the image?"),
        ("image.repo=x", "repo"),
        ("podMonitor.interval=often", "interval"),
        ("port=0", "port"),
    ] {
        let (good, said) =
            run(Command::new(&helm).args(["template", CHART, "--kube-version", CLUSTER, "--set", value]));
        assert!(!good && said.contains(expected), "{value}: {said}");
    }
}

/// `UPDATE_GOLDEN=1` writes the files again. Rules and dashboards are held against those of the repository instead.
#[test]
fn the_chart_renders_as_before() {
    let Some(helm) = tool("the_chart_renders_as_before", "helm") else { return };
    for (name, text) in renders(&helm) {
        let elsewhere = |part: &&str| part.contains("kind: PrometheusRule\n") || part.contains("-libvirt-");
        let rendered: String = text.split_inclusive("---\n").filter(|part| !elsewhere(part)).collect();
        let golden = root().join(format!("tests/golden/kubernetes/{name}.yaml"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &rendered).unwrap();
        }
        let before = fs::read_to_string(&golden).unwrap_or_default();
        assert!(before == rendered, "{name}: {}", similar::TextDiff::from_lines(&before, &rendered).unified_diff());
    }
}

#[test]
fn rules_and_dashboards_are_those_of_the_repository() {
    let Some(helm) = tool("rules_and_dashboards_are_those_of_the_repository", "helm") else { return };
    let Some(kustomize) = tool("rules_and_dashboards_are_those_of_the_repository", "kustomize") else { return };
    let groups = |path: &str| {
        let parsed: Value = serde_yaml::from_str(&file(path)).unwrap();
        parsed["groups"].as_sequence().unwrap().clone()
    };
    let mut expected = groups("alerts/rules.yaml");
    expected.extend(groups("alerts/alerts.yaml"));
    let [_, (_, everything)] = renders(&helm);
    let overlay = good(Command::new(kustomize).args(["build", "packaging/kustomize/example"]));
    for (place, text, without) in [("helm", everything, Some("LibvirtDown")), ("kustomize", overlay, None)] {
        let documents = documents(&text);
        let mut expected = expected.clone();
        for group in &mut expected {
            let rules = group["rules"].as_sequence_mut().unwrap();
            rules.retain(|rule| without.is_none_or(|name| rule["alert"] != name));
        }
        assert_eq!(of_kind(&documents, "PrometheusRule")["spec"]["groups"], Value::Sequence(expected), "{place}");
        let mut found = 0;
        for map in documents.iter().filter(|document| document["metadata"]["labels"]["grafana_dashboard"] == "1") {
            for (name, text) in map["data"].as_mapping().unwrap() {
                let path = format!("dashboards/{}", name.as_str().unwrap());
                assert!(text.as_str().unwrap() == file(&path), "{place}: {path}");
                found += 1;
            }
        }
        let there = fs::read_dir(root().join("dashboards")).unwrap();
        let there = there.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "json"));
        assert_eq!(found, there.count(), "{place}");
    }
}

#[test]
fn kubernetes_knows_every_field() {
    let test = "kubernetes_knows_every_field";
    let Some([helm, kustomize, kubeconform]) = ["helm", "kustomize", "kubeconform"]
        .map(|name| tool(test, name))
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .and_then(|tools| <[PathBuf; 3]>::try_from(tools).ok())
    else {
        return;
    };
    let Some(schemas) = lab(test, "kubernetes-schemas.sh", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut texts: Vec<_> = renders(&helm).into();
    texts.push(("kustomize", good(Command::new(kustomize).args(["build", "packaging/kustomize/example"]))));
    let mut files = Vec::new();
    for (name, text) in texts {
        files.push(folder.path().join(format!("{name}.yaml")));
        fs::write(files.last().unwrap(), text).unwrap();
    }
    let check = |version: &str, files: &[PathBuf]| {
        let own = format!("{}/{version}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", schemas.display());
        let operator = format!("{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", schemas.display());
        let mut command = Command::new(&kubeconform);
        run(command.args(["-strict", "-summary", "-schema-location", &own, "-schema-location", &operator]).args(files))
    };
    for version in ["1.25.0", "1.37.0"] {
        let (good, said) = check(version, &files);
        assert!(good && said.contains("Invalid: 0, Errors: 0, Skipped: 0"), "{version}: {said}");
    }
    // A wrong field is found, in a kind of each.
    for kind in ["DaemonSet", "PodMonitor"] {
        let wrong = fs::read_to_string(&files[1]).unwrap();
        let wrong = documents(&wrong).into_iter().find(|document| document["kind"] == kind).unwrap();
        let mut wrong = wrong;
        wrong["spec"]["selektor"] = Value::Null;
        let path = folder.path().join("wrong.yaml");
        fs::write(&path, serde_yaml::to_string(&wrong).unwrap()).unwrap();
        let (good, said) = check("1.37.0", &[path]);
        assert!(!good && said.contains("selektor"), "{kind}: {said}");
    }
}

/// What the exporter itself says of the settings that are rendered for it.
#[test]
fn the_rendered_settings_are_good() {
    let Some(helm) = tool("the_rendered_settings_are_good", "helm") else { return };
    let [default, everything] = renders(&helm).map(|(_, text)| {
        let documents = documents(&text);
        let settings = of_kind(&documents, "ConfigMap")["data"]["config.yaml"].as_str().unwrap();
        config::parse(settings, "config.yaml").unwrap()
    });
    let base = config::parse(&file("packaging/kustomize/base/config.yaml"), "config.yaml").unwrap();
    assert_eq!(base, config::Config::default());
    assert_eq!(default, base);
    assert_eq!(everything.web.listen_addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), [":9199"]);
    assert_eq!(everything.web.max_requests, 10);
    assert_eq!(everything.web.config_file.as_deref(), Some(Path::new("/etc/domstats-exporter-web/web.yaml")));
}

/// The pods of both are the same, but for what Kustomize names otherwise.
#[test]
fn the_kustomize_base_is_the_chart() {
    let test = "the_kustomize_base_is_the_chart";
    let (Some(helm), Some(kustomize)) = (tool(test, "helm"), tool(test, "kustomize")) else { return };
    let [(_, default), _] = renders(&helm);
    let base = good(Command::new(kustomize).args(["build", "packaging/kustomize/base"]));
    let [chart, base] = [default, base].map(|text| {
        let mut set = of_kind(&documents(&text), "DaemonSet").clone();
        let template = &mut set["spec"]["template"];
        template["metadata"].as_mapping_mut().unwrap().remove("annotations");
        let image = template["spec"]["containers"][0]["image"].as_str().unwrap();
        assert!(image.ends_with(concat!("domstats-exporter:", env!("CARGO_PKG_VERSION"))), "{image}");
        template["spec"]["containers"][0]["image"] = Value::Null;
        let volumes = template["spec"]["volumes"].as_sequence_mut().unwrap();
        let config = volumes.iter_mut().find(|volume| volume["name"] == "config").unwrap();
        assert!(config["configMap"]["name"].as_str().unwrap().starts_with("domstats-exporter"));
        config["configMap"]["name"] = Value::Null;
        serde_yaml::to_string(&set["spec"]).unwrap()
    });
    let sorted = |text: &str| serde_yaml::from_str::<Value>(text).unwrap();
    assert!(sorted(&chart) == sorted(&base), "{}", similar::TextDiff::from_lines(&chart, &base).unified_diff());
}
