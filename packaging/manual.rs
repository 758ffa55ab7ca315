//! Writes the manual pages, the shells' completions, the pages of the documentation and the licences into a folder:
//! `cargo run --locked --example manual -- FOLDER`.
//!
//! Nothing is said twice: domstats-exporter(8) is the definition of the command line, domstats-exporter.yaml(5) is
//! config.example.yaml. Only what is in neither is written here.

#[path = "licences.rs"]
pub mod licences;
#[path = "pages.rs"]
mod pages;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use domstats_exporter::cli::Cli;
use flate2::Compression;
use flate2::write::GzEncoder;
use roff::{Inline, Roff, bold, italic, line_break, roman};

/// The source of domstats-exporter.yaml(5).
const SETTINGS: &str = include_str!("../config.example.yaml");
const NAME: &str = "domstats-exporter";

fn main() -> io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: manual FOLDER"));
    };
    write_all(Path::new(&folder))
}

/// Writes `domstats-exporter.8`, `domstats-exporter.yaml.5`, the completions for bash, zsh and fish, the pages of the
/// documentation, and `third-party-licences.gz`.
///
/// # Errors
/// If the folder cannot be written to, or a licence is not there.
pub fn write_all(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(format!("{NAME}.8")), program_page(&command()))?;
    fs::write(folder.join(format!("{NAME}.yaml.5")), settings_page(SETTINGS))?;
    for shell in [Shell::Bash, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command(), NAME, folder)?;
    }
    let mut fish = Vec::new();
    clap_complete::generate(Shell::Fish, &mut command(), NAME, &mut fish);
    fs::write(folder.join(format!("{NAME}.fish")), fish_completions(&String::from_utf8_lossy(&fish)))?;
    pages::write_all(folder)?;
    let mut licences = GzEncoder::new(Vec::new(), Compression::best());
    licences.write_all(licences::text()?.as_bytes())?;
    fs::write(folder.join("third-party-licences.gz"), licences.finish()?)
}

/// clap_complete finds the command in a line by fish's `argparse`, which refuses names of flags with a dot: it is looked for by
/// name instead.
fn fish_completions(generated: &str) -> String {
    const AFTER: &str = "function __fish_domstats_exporter_using_subcommand";
    let rest = generated.split_once(AFTER).map_or(generated, |(_, rest)| rest);
    let commands: Vec<_> = command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    format!(
        "# Whether a command is still to be given; if not, prints it.\n\
         function __fish_domstats_exporter_needs_command\n    \
             for word in (commandline -opc)[2..-1]\n        \
                 if contains -- $word {} help\n            \
                     echo $word\n            \
                     return 1\n        \
                 end\n    \
             end\n    \
             return 0\n\
         end\n\n{AFTER}{rest}",
        commands.join(" ")
    )
}

/// The definition of the command line.
pub fn command() -> Command {
    <Cli as CommandFactory>::command()
}

fn page(name: &str, section: &str, summary: &str) -> Roff {
    let version = format!("{NAME} {}", env!("CARGO_PKG_VERSION"));
    let mut page = Roff::new();
    page.control("TH", [name, section, "", &version, "System Administration"]);
    // Words are not divided, and lines not stretched: flags and paths stay as they are typed.
    page.control("nh", []);
    page.control("ad", ["l"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - {summary}"))]);
    page
}

/// domstats-exporter(8), from the definition of the command line.
pub fn program_page(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut page = page(NAME, "8", about.trim_end_matches('.'));
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold(NAME), roman(" ["), italic("FLAG"), roman("...] ["), italic("COMMAND"), roman("]")]);

    page.control("SH", ["DESCRIPTION"]);
    let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    // The first paragraph is the summary above.
    for paragraph in long.split("\n\n").skip(1) {
        page.control("PP", []);
        page.text([roman(paragraph.replace('\n', " "))]);
    }
    page.control("PP", []);
    page.text([roman(
        "The exporter queries libvirt over its read-only socket and changes nothing. While libvirt is unreachable it \
         still responds, with libvirt_up 0 and its own metrics.",
    )]);

    page.control("SH", ["COMMANDS"]);
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        entry(&mut page, [bold(subcommand.get_name())], &subcommand.get_about().map(ToString::to_string));
        for argument in subcommand.get_arguments().filter(|argument| !is_help(argument)) {
            page.control("RS", []);
            flag(&mut page, argument);
            page.control("RE", []);
        }
    }
    page.control("SH", ["FLAGS"]);
    for argument in command.get_arguments() {
        flag(&mut page, argument);
    }

    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (rest, codes) = after.split_once("Exit codes: ").unwrap_or((&after, ""));
    let (examples, environment) = rest.split_once("Environment:\n").unwrap_or((rest, ""));
    page.control("SH", ["EXAMPLES"]);
    for example in examples.lines().skip(1).filter(|line| !line.is_empty()).collect::<Vec<_>>().chunks(2) {
        let [line, meaning] = example else { continue };
        entry(&mut page, [bold(line.trim())], &Some(format!("{}.", meaning.trim())));
    }
    page.control("SH", ["EXIT STATUS"]);
    page.text([roman(codes)]);

    page.control("SH", ["SIGNALS"]);
    entry(
        &mut page,
        [bold("SIGHUP")],
        &Some("Reload the configuration. If it is invalid, the previous one stays active.".into()),
    );
    entry(
        &mut page,
        [bold("SIGTERM"), roman(", "), bold("SIGINT")],
        &Some("Finish running scrapes, then exit.".into()),
    );
    page.control("SH", ["FILES"]);
    for (path, what) in [
        ("/etc/domstats-exporter/config.yaml", "Settings of the service; see domstats-exporter.yaml(5)."),
        ("/etc/default/domstats-exporter", "Flags of the service, in ARGS."),
        (
            "/usr/share/doc/domstats-exporter/",
            "All metrics (METRICS.md), guides, and examples for systemd, Prometheus and others.",
        ),
    ] {
        entry(&mut page, [italic(path)], &Some(what.into()));
    }
    page.control("SH", ["ENVIRONMENT"]);
    let mut lines = environment.lines().filter(|line| !line.is_empty()).peekable();
    while let Some(line) = lines.next() {
        page.control("PP", []);
        let Some(meaning) = lines.next_if(|next| next.starts_with("     ")) else {
            page.text([roman(line)]);
            continue;
        };
        // A list of names, which is too long for the tag of an entry.
        page.text([bold(line.trim())]);
        page.control("RS", []);
        page.text([roman(format!("{}.", meaning.trim()))]);
        page.control("RE", []);
    }
    let variables = "systemd sets NOTIFY_SOCKET and WATCHDOG_USEC, through which the exporter reports readiness, reloads and \
                     heartbeats.";
    page.control("PP", []);
    page.text([roman(variables)]);
    page.control("SH", ["SEE ALSO"]);
    page.text([
        bold("domstats-exporter.yaml"),
        roman("(5), "),
        bold("virsh"),
        roman("(1), "),
        bold("libvirtd"),
        roman("(8)"),
    ]);
    page.to_roff()
}

fn is_help(argument: &clap::Arg) -> bool {
    argument.is_global_set() || ["help", "version"].contains(&argument.get_id().as_str())
}

/// A flag, its values and what it does.
fn flag(page: &mut Roff, argument: &clap::Arg) {
    let mut title = Vec::new();
    if let Some(short) = argument.get_short() {
        title.extend([bold(format!("-{short}")), roman(", ")]);
    }
    title.push(bold(format!("--{}", argument.get_long().unwrap_or_default())));
    if argument.get_action().takes_values() {
        for name in argument.get_value_names().unwrap_or_default() {
            title.extend([roman(" "), italic(name.as_str())]);
        }
    }
    entry(page, title, &argument.get_help().map(|help| format!("{}.", help.to_string().trim_end_matches('.'))));
    for value in argument.get_possible_values().iter().filter(|value| value.get_help().is_some()) {
        page.control("RS", []);
        entry(page, [bold(value.get_name())], &value.get_help().map(ToString::to_string));
        page.control("RE", []);
    }
}

/// A term and what it means.
fn entry(page: &mut Roff, title: impl IntoIterator<Item = Inline>, text: &Option<String>) {
    page.control("TP", []);
    page.text(title.into_iter().collect::<Vec<_>>());
    page.text([roman(text.clone().unwrap_or_default())]);
}

/// domstats-exporter.yaml(5), from the comments and values of the example.
pub fn settings_page(example: &str) -> String {
    let mut page = page("domstats-exporter.yaml", "5", "settings of domstats-exporter");
    page.control("SH", ["DESCRIPTION"]);
    page.text([
        roman("A YAML file, which "),
        bold("--config.file"),
        roman(" names: "),
        italic("/etc/domstats-exporter/config.yaml"),
        roman(
            " for the service, which `check` reads by itself. All keys are optional; flags override the file. Unknown keys and invalid \
             values are errors, which name file, line and column; ",
        ),
        bold("domstats-exporter check"),
        roman(" finds them. SIGHUP reloads the file. Each key is shown here with its default."),
    ]);
    let mut comment: Vec<&str> = Vec::new();
    let mut lines = example.lines().skip_while(|line| line.starts_with('#')).peekable();
    while let Some(line) = lines.next() {
        let text = line.trim_start();
        if let Some(text) = text.strip_prefix('#') {
            comment.push(text.trim());
        } else if !text.is_empty() && !line.starts_with(' ') {
            let (section, value) = text.split_once(':').unwrap_or((text, ""));
            page.control("SH", [section.to_uppercase().as_str()]);
            match value.trim() {
                "" => page.text([roman("Keys of the section "), bold(section), roman(".")]),
                value => page.text([bold(section), roman(": "), roman(value), roman(".")]),
            };
            section_comment(&mut page, &mut comment);
        } else if let Some((key, value)) = text.split_once(':') {
            let mut value = value.trim().to_owned();
            let mut items = Vec::new();
            while let Some(item) = lines.next_if(|line| line.trim_start().starts_with("- ")) {
                items.push(item.trim_start().trim_start_matches("- ").trim_matches('"'));
            }
            if !items.is_empty() {
                value = format!("[{}]", items.join(", "));
            } else if value.is_empty() {
                let deeper = |other: &&str| other.len() - other.trim_start().len() > line.len() - text.len();
                items.extend(std::iter::from_fn(|| lines.next_if(deeper)).map(str::trim));
                value = format!("{{{}}}", items.join(", "));
            }
            page.control("TP", []);
            page.text([bold(key), roman(": "), roman(value)]);
            page.text([roman(std::mem::take(&mut comment).join(" "))]);
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("domstats-exporter"), roman("(8)"), line_break()]);
    page.to_roff()
}

/// What the example says of a section as a whole.
fn section_comment(page: &mut Roff, comment: &mut Vec<&str>) {
    if !comment.is_empty() {
        page.text([roman(std::mem::take(comment).join(" "))]);
    }
}
