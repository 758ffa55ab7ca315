//! What is shipped beside the program: manual pages, completions, units, examples, the package itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

#[path = "../packaging/manual.rs"]
mod manual;
#[path = "support/package.rs"]
mod package;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use domstats_exporter::config::Config;
use serde::Deserialize as _;
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The manual and the completions in their own folder.
fn written() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    manual::write_all(folder.path()).unwrap();
    folder
}

/// Standard output and error of a program that must be there and end well.
fn run(command: &mut Command, package: &str) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.output().unwrap_or_else(|error| panic!("{name}: {error}; install the Debian package {package}"));
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{name}: {}: {said}", done.status);
    said
}

#[test]
fn manual_pages_are_formatted_without_a_warning() {
    let folder = written();
    for page in ["domstats-exporter.8", "domstats-exporter.yaml.5"] {
        let mut man = Command::new("man");
        man.args(["--warnings", "--local-file", "--encoding=utf8"]).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
        let done = man.arg(folder.path().join(page)).output().expect("man; install the Debian package man-db");
        assert!(done.status.success());
        assert_eq!(String::from_utf8_lossy(&done.stderr), "", "{page}");
        assert!(String::from_utf8_lossy(&done.stdout).contains("SEE ALSO"), "{page}");
    }
}

#[test]
fn the_manual_has_every_flag_command_and_setting() {
    let folder = written();
    let text = |page: &str| {
        let mut man = Command::new("man");
        let man = man.args(["--local-file", "--encoding=utf8"]).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "200");
        run(man.arg(folder.path().join(page)), "man-db")
    };
    let program = text("domstats-exporter.8");
    let command = manual::command();
    for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
        assert!(program.contains(&format!("--{flag}")), "{flag}");
    }
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        assert!(program.contains(&format!("\n       {}", subcommand.get_name())), "{}", subcommand.get_name());
    }
    let settings = text("domstats-exporter.yaml.5");
    let yaml = serde_yaml::to_value(Config::default()).unwrap();
    for (section, keys) in yaml.as_mapping().unwrap() {
        let heading = section.as_str().unwrap().to_uppercase();
        let (_, body) =
            settings.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
        let body = body.split("\n\n\n").next().unwrap();
        for key in keys.as_mapping().unwrap().keys() {
            assert!(body.contains(&format!("\n       {}: ", key.as_str().unwrap())), "{section:?} {key:?}");
        }
    }
}

#[test]
fn each_shell_completes_flags_commands_and_values() {
    let folder = written();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let bash = format!(
        "source {}; COMP_WORDS=(domstats-exporter --web.li); COMP_CWORD=1; _domstats__exporter domstats-exporter --web.li; \
         echo \"${{COMPREPLY[@]}}\"; complete -p domstats-exporter",
        at("domstats-exporter.bash")
    );
    let said = run(Command::new("bash").args(["--norc", "-c", &bash]), "bash");
    assert!(
        said.starts_with("--web.listen-address\n") && said.contains("-F _domstats__exporter domstats-exporter"),
        "{said}"
    );

    let said = run(Command::new("fish").args(["--no-config", "-c"]).arg(format!(
        "source {}; complete --do-complete 'domstats-exporter --web.li'; complete --do-complete 'domstats-exporter scrape --format '",
        at("domstats-exporter.fish")
    )).env("HOME", folder.path()), "fish");
    for word in ["--web.listen-address", "openmetrics", "params"] {
        assert!(said.contains(word), "{word}: {said}");
    }

    let zsh = format!(
        "fpath=({} $fpath); autoload -Uz compinit; compinit -u -D; autoload +X -Uz _domstats-exporter; \
         print $_comps[domstats-exporter]; functions _domstats-exporter",
        folder.path().display()
    );
    let said = run(Command::new("zsh").args(["-f", "-c", &zsh]), "zsh");
    assert!(said.starts_with("_domstats-exporter\n") && said.contains("--web.listen-address"), "{said}");
}

#[test]
fn the_service_is_hardened() {
    let unit = root().join("systemd/domstats-exporter.service");
    let mut analyze = Command::new("systemd-analyze");
    // Ten times the exposure; it ends with an error above that.
    let said = run(analyze.args(["security", "--offline=yes", "--threshold=15"]).arg(unit), "systemd");
    assert!(said.contains("Overall exposure level"), "{said}");
}

#[test]
fn lintian_finds_no_fault_in_the_package() {
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--allow-root"]);
    run(lintian.arg(package::build("1")), "lintian");
}

#[test]
fn the_package_has_everything_that_the_documentation_names() {
    let contents = run(Command::new("dpkg-deb").arg("--contents").arg(package::build("1")), "dpkg");
    let has = |path: &str| contents.lines().any(|line| line.ends_with(&format!(" ./{path}")));
    let mut expected: Vec<String> = [
        "usr/bin/domstats-exporter",
        "etc/domstats-exporter/config.yaml",
        "etc/default/domstats-exporter",
        "usr/lib/systemd/system/domstats-exporter.service",
        "usr/lib/systemd/system/domstats-exporter.socket",
        "usr/share/man/man8/domstats-exporter.8.gz",
        "usr/share/man/man5/domstats-exporter.yaml.5.gz",
        "usr/share/bash-completion/completions/domstats-exporter",
        "usr/share/zsh/vendor-completions/_domstats-exporter",
        "usr/share/fish/vendor_completions.d/domstats-exporter.fish",
        "usr/share/doc/domstats-exporter/third-party-licences.gz",
    ]
    .map(str::to_owned)
    .into();
    let doc = "usr/share/doc/domstats-exporter";
    for (folder, there) in [("docs", "docs"), ("examples", "examples"), ("systemd/examples", "examples/systemd")] {
        for file in files(folder) {
            expected.push(format!("{doc}/{there}/{}", file.file_name().unwrap().to_str().unwrap()));
        }
    }
    // Alert rules and dashboards, but not what Kustomize makes of them, nor what contributors read.
    for folder in ["alerts", "dashboards"] {
        let for_users = |file: &PathBuf| !file.ends_with("kustomization.yaml") && !file.ends_with("README.md");
        for file in files(folder).into_iter().filter(for_users) {
            expected
                .push(format!("usr/share/domstats-exporter/{folder}/{}", file.file_name().unwrap().to_str().unwrap()));
        }
    }
    let missing: Vec<_> = expected.iter().filter(|path| !has(path)).collect();
    assert!(missing.is_empty(), "{missing:?} not in\n{contents}");
}

/// The pages in the package have links to each other and to the world, and none that leads nowhere.
#[test]
fn links_of_the_installed_pages_lead_somewhere() {
    let installed = tempfile::tempdir().unwrap();
    run(Command::new("dpkg-deb").arg("--extract").arg(package::build("1")).arg(installed.path()), "dpkg");
    let link = regex::Regex::new(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)").unwrap();
    let share = installed.path().join("usr/share");
    let pages = ["doc/domstats-exporter", "doc/domstats-exporter/docs", "domstats-exporter/alerts"];
    let pages = pages.iter().flat_map(|folder| files(share.join(folder).to_str().unwrap()));
    let mut checked = 0;
    for page in pages.filter(|page| page.extension().is_some_and(|kind| kind == "md")) {
        let text = fs::read_to_string(&page).unwrap();
        for target in link.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()) {
            assert!(page.parent().unwrap().join(target).exists(), "{}: {target}", page.display());
            checked += 1;
        }
    }
    assert!(checked > 5, "{checked}");
}

/// What the newest symbol asks for that the program uses: dpkg's list of them says since which version each is there.
#[test]
fn the_package_asks_for_the_libvirt_that_it_uses() {
    let symbols = run(Command::new("objdump").arg("-T").arg(env!("CARGO_BIN_EXE_domstats-exporter")), "binutils");
    let version = regex::Regex::new(r"\(?LIBVIRT_(\d+)\.(\d+)\.(\d+)\)?").unwrap();
    let number = |found: regex::Captures<'_>| [1, 2, 3].map(|part| found[part].parse::<u32>().unwrap());
    let newest = version.captures_iter(&symbols).map(number).max().unwrap();
    let depends = run(Command::new("dpkg-deb").args(["--field"]).arg(package::build("1")).arg("Depends"), "dpkg");
    // Debian's own list of symbols may ask for the next release that it packaged.
    let asked = regex::Regex::new(r"libvirt0 \(>= (\d+)\.(\d+)\.(\d+)").unwrap();
    let asked = asked.captures(&depends).map(number).unwrap_or_else(|| panic!("{depends}"));
    assert!(asked >= newest && asked < [newest[0] + 2, 0, 0], "{newest:?}: {depends}");
}

#[test]
fn rpmlint_finds_no_fault_in_the_rpm() {
    let mut rpmlint = Command::new("rpmlint");
    let said = run(
        rpmlint
            .arg("--strict")
            .arg("--config")
            .arg(root().join("packaging/rpm/rpmlint.toml"))
            .arg(package::build_rpm("1")),
        "rpmlint",
    );
    assert!(said.contains(" 0 errors, 0 warnings"), "{said}");
}

/// The same files as in the Debian package, but for those that only one of the two has, and the library by its newest symbol.
#[test]
fn the_rpm_has_what_the_debian_package_has() {
    let rpm =
        |what: &str| run(Command::new("rpm").args(["--query", "--package", what]).arg(package::build_rpm("1")), "rpm");
    let contents = run(Command::new("dpkg-deb").arg("--contents").arg(package::build("1")), "dpkg");
    let deb: BTreeSet<&str> =
        contents.lines().filter_map(|line| line.split(" .").last()).filter(|path| !path.ends_with('/')).collect();
    let listed = rpm("--list");
    let rpm_has: BTreeSet<&str> = listed.lines().collect();
    // Where the two families of distributions have another place for it.
    let places = [
        ("/etc/default/", "/etc/sysconfig/"),
        ("/usr/share/zsh/vendor-completions/", "/usr/share/zsh/site-functions/"),
        (
            "/usr/share/doc/domstats-exporter/third-party-licences.gz",
            "/usr/share/licenses/domstats-exporter/third-party-licences.gz",
        ),
    ];
    let only_deb = [
        "/usr/share/lintian/",
        "/usr/share/doc/domstats-exporter/copyright",
        "/usr/share/doc/domstats-exporter/changelog",
    ];
    let mut missing = deb.iter().filter(|path| !only_deb.iter().any(|only| path.starts_with(only)));
    let place = |path: &str| {
        places.iter().fold(path.to_owned(), |path, (deb, rpm)| path.replace(deb, rpm).replace(".md.gz", ".md"))
    };
    let missing = missing.find(|path| !rpm_has.contains(place(path).as_str()));
    assert_eq!(missing, None, "{listed}");
    let requires = rpm("--requires");
    assert!(requires.contains("libvirt.so.0(LIBVIRT_5.7.0)"), "{requires}");
    // The path of a program is not the same in all distributions; that of the scripts' shell is.
    let paths: BTreeSet<&str> = requires.lines().filter(|name| name.starts_with('/')).collect();
    assert_eq!(paths, BTreeSet::from(["/bin/sh"]), "{requires}");
}

#[test]
fn two_builds_of_the_package_are_the_same_bytes() {
    let [first, second] =
        [package::build_rpm("1"), package::build_rpm_in("rpm-again", "1")].map(|file| fs::read(file).unwrap());
    assert!(first == second, "the rpms differ");
    let [first, second] =
        [package::build("1"), package::build_in("package-again", "1")].map(|file| fs::read(file).unwrap());
    assert!(first == second, "the Debian packages differ");
}

/// cargo's own list of what is linked, and texts that none of them may lack.
#[test]
fn the_licences_of_everything_linked_are_there() {
    let licences = manual::licences::text().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--edges=normal,no-proc-macro", "--prefix=none", "--no-dedupe", "--format={p}"]);
    let tree = run(cargo.current_dir(root()), "cargo");
    let linked: BTreeSet<&str> = tree.lines().filter(|line| !line.contains('(') && line.contains(" v")).collect();
    assert!(linked.len() > 100, "{tree}");
    let (list, texts) = licences.split_once("\n====").unwrap();
    for name in linked.iter().map(|line| line.replacen(" v", " ", 1)) {
        assert!(list.contains(&format!("\n{name}: ")), "{name} is not in the list");
        assert!(texts.contains(&format!("\n{name}\n")), "{name} has no text");
    }
    for text in
        ["GNU LESSER GENERAL PUBLIC LICENSE", "Meta Platforms", "fiat-crypto authors", "TERMS AND CONDITIONS FOR USE"]
    {
        assert!(texts.contains(text), "{text}");
    }
    assert!(!licences.contains(env!("CARGO_MANIFEST_DIR")), "a path of this machine");
}

#[test]
fn the_settings_that_are_installed_are_good() {
    let settings = fs::read_to_string(root().join("debian/config.yaml")).unwrap();
    let parse = |text: &str| domstats_exporter::config::parse(text, "config.yaml").unwrap();
    assert_eq!(parse(&settings), Config::default(), "nothing is set");
    // So are its examples, taken out of their comments.
    let examples: String = settings
        .lines()
        .filter_map(|line| line.strip_prefix('#').filter(|line| !line.starts_with(' ') || line.starts_with("  ")))
        .map(|line| line.to_owned() + "\n")
        .collect();
    assert_eq!(parse(&examples).web.listen_addresses.len(), 1, "{examples}");
}

#[test]
fn prometheus_takes_the_example_configuration() {
    let config = root().join("examples/prometheus.yml");
    let said = run(Command::new("promtool").args(["check", "config", "--syntax-only"]).arg(&config), "prometheus");
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
fn every_example_is_yaml_and_names_the_right_port() {
    for file in
        files("examples").into_iter().filter(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml"))
    {
        let text = fs::read_to_string(&file).unwrap();
        let documents = serde_yaml::Deserializer::from_str(&text).map(serde_yaml::Value::deserialize);
        let documents: Vec<_> = documents.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{file:?}: {error}"));
        assert!(documents.iter().all(serde_yaml::Value::is_mapping), "{file:?}");
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(
            text.contains("9177") || !["prometheus", "otel"].iter().any(|scraper| name.starts_with(scraper)),
            "{file:?}"
        );
    }
}

/// What the example has Grafana load is what the packages install, in the folder that the ConfigMaps name, too.
#[test]
fn grafana_is_provisioned_with_the_dashboards_of_the_package() {
    let read = |path: &str| -> serde_yaml::Value {
        serde_yaml::from_str(&fs::read_to_string(root().join(path)).unwrap()).unwrap()
    };
    let provisioning = read("examples/grafana-dashboards.yaml");
    let provider = &provisioning["providers"][0];
    let path = provider["options"]["path"].as_str().unwrap();
    let cargo = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(cargo.contains(&format!("[\"dashboards/*.json\", \"{}/\"", path.trim_start_matches('/'))), "{path}");
    assert_eq!(provider["type"], "file");
    let maps = read("dashboards/kustomization.yaml");
    assert_eq!(provider["folder"], maps["generatorOptions"]["annotations"]["grafana_folder"]);
    // The dashboards have a variable for it, so any name does.
    let source = &read("examples/grafana-datasource.yaml")["datasources"][0];
    let dashboard: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(root().join("dashboards/libvirt-fleet.json")).unwrap()).unwrap();
    let variable = &dashboard["templating"]["list"][0];
    assert_eq!(
        (&variable["type"], &variable["query"]),
        (&"datasource".into(), &source["type"].as_str().unwrap().into())
    );
    let slowest = read("examples/prometheus.yml")["scrape_configs"]
        .as_sequence()
        .unwrap()
        .iter()
        .find_map(|job| job["scrape_interval"].as_str().map(str::to_owned));
    assert_eq!(source["jsonData"]["timeInterval"].as_str(), slowest.as_deref());
}

/// Links between the pages of this repository lead somewhere.
#[test]
fn links_of_the_documentation_lead_somewhere() {
    let pages = ["README.md", "CONTRIBUTING.md", "RELEASING.md", "systemd/examples/README.md"];
    let mut pages = pages.map(|page| root().join(page)).to_vec();
    pages.push(root().join("packaging/ansible/domstats_exporter/README.md"));
    pages.extend(files("docs"));
    let link = regex::Regex::new(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)").unwrap();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page:?}: {error}"));
        for target in link.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()) {
            assert!(page.parent().unwrap().join(target).exists(), "{}: {target}", page.display());
        }
    }
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}
