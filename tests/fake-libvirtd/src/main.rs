//! The program: a daemon on a socket, until it is ended, with a control socket if asked for.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use fake_libvirtd::control::{self, ControlSocket};
use fake_libvirtd::{Clock, FakeLibvirtd, Scenario, Template};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A libvirt daemon for tests: any libvirt client connects to it with qemu+unix:///system?socket=PATH.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The socket to listen on.
    #[arg(long, value_name = "PATH", required_unless_present = "send")]
    socket: Option<PathBuf>,
    /// Domains to make from the template, beside those of the scenario.
    #[arg(long, value_name = "N")]
    domains: Option<usize>,
    /// The template: small, medium, large or everything.
    #[arg(long, value_name = "NAME", default_value = "medium", value_parser = template)]
    template: Template,
    /// A scenario file (YAML).
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Let counters grow with time, whatever the scenario says.
    #[arg(long)]
    live: bool,
    /// The socket to take commands on, or with --send, to send one to.
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Send this command to the control socket of a running daemon and print its answer ("help" lists them).
    #[arg(long, value_name = "COMMAND", requires = "control")]
    send: Option<String>,
}

fn template(name: &str) -> Result<Template, String> {
    Template::named(name).ok_or_else(|| "no such template".to_owned())
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            let mut message = format!("fake-libvirtd: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                message.push_str(&format!(": {error}"));
                cause = error.source();
            }
            // There is nowhere else to say it.
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    if let (Some(control), Some(command)) = (&arguments.control, &arguments.send) {
        let answer = control::send(control, command)?;
        writeln!(io::stdout(), "{answer}")?;
        let refused = answer.lines().last().is_none_or(|line| line != "ok");
        return Ok(ExitCode::from(u8::from(refused)));
    }
    let Some(socket) = arguments.socket else {
        return Err("--socket is missing".into());
    };
    let mut scenario = match &arguments.scenario {
        Some(path) => Scenario::from_file(path)?,
        None => Scenario::default(),
    };
    if arguments.live {
        scenario.clock = Clock::Time;
    }
    if let Some(count) = arguments.domains {
        let made = Scenario::builder().domains(count, arguments.template);
        scenario.domains.extend(made.build().domains);
    }
    let daemon = Arc::new(FakeLibvirtd::start_at(scenario, socket)?);
    writeln!(io::stdout(), "{}", daemon.uri())?;
    let control = arguments.control.map(ControlSocket::bind).transpose()?;
    if let Some(control) = control.as_ref().map(ControlSocket::listener).transpose()? {
        let daemon = Arc::clone(&daemon);
        std::thread::spawn(move || control::serve(&control, &daemon));
    }
    // Both sockets are removed on the way out.
    Signals::new([SIGINT, SIGTERM])?.forever().next();
    daemon.kill();
    drop(control);
    Ok(ExitCode::SUCCESS)
}
