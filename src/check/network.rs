//! The two ends beside libvirt: the addresses that scrapers connect to, and the receiver of pushes.

use std::error::Error;

use super::report::{Report, Status};
use crate::config::{Config, ListenAddress};
use crate::errors::one_line;
use crate::push::{self, Outcome};
use crate::web::{self, Answer};

/// Whether the server could listen: each address is opened and closed again.
pub(super) async fn listen(report: &mut Report, config: &Config) {
    const PART: &str = "listen address";
    let web = &config.web;
    if web.systemd_socket {
        return report.fact(PART, "the sockets that systemd passes");
    }
    if web.listen_addresses.is_empty() {
        return report.fact(PART, "none, metrics are only pushed");
    }
    for address in web.listen_addresses.iter() {
        match web::try_address(address) {
            Ok(()) => report.fact(PART, format!("{address} is free")),
            Err(error) => {
                let protected = web.config_file.is_some();
                match asked(address.clone()).await {
                    Some(Answer::Exporter) => {
                        report.fact(PART, format!("{address} is in use by an exporter that runs already"));
                    }
                    Some(Answer::Protected) if protected => report.fact(
                        PART,
                        format!("{address} is in use by a program with TLS or a password, most likely the exporter's service"),
                    ),
                    _ => {
                        let (text, remedy) = cause_and_remedy(&error);
                        report.fault(PART, Status::Failed, text, remedy);
                    }
                }
            }
        }
    }
}

/// The texts of the server end in what to do.
fn cause_and_remedy(error: &dyn Error) -> (String, String) {
    let text = one_line(error);
    match text.split_once(": ") {
        Some((cause, remedy)) if error.source().is_none() => (cause.to_owned(), remedy.to_owned()),
        _ => (text, "correct web.listen_addresses: the host needs to have this address (ip addr)".to_owned()),
    }
}

async fn asked(address: ListenAddress) -> Option<Answer> {
    tokio::task::spawn_blocking(move || web::ask(&address).ok()).await.ok().flatten()
}

/// Whether the receiver accepts a push, which has no points.
pub(super) async fn receiver(report: &mut Report, config: &Config) {
    const PART: &str = "OTLP endpoint";
    // The settings have been read before.
    let Ok(Some(settings)) = push::otlp::settings(config) else { return };
    let verdict = settings.send_empty().await;
    let message = verdict.message;
    match verdict.outcome {
        Outcome::Success | Outcome::Partial if message.is_empty() => report.fact(PART, "accepts an empty push"),
        Outcome::Success | Outcome::Partial => {
            report.fact(PART, format!("accepts an empty push, with a remark: {message}"));
        }
        Outcome::Refused => {
            report.fault(PART, Status::Incomplete, format!("refuses an empty push: {message}"), refused(&message));
        }
        Outcome::Dropped => {
            report.fault(PART, Status::Incomplete, format!("is unavailable: {message}"), unavailable(&message));
        }
    }
}

fn refused(message: &str) -> &'static str {
    if ["401", "403", "status 7:", "status 16:"].iter().any(|code| message.contains(code)) {
        "correct the credentials in otlp.headers (OTEL_EXPORTER_OTLP_HEADERS)"
    } else if ["404", "405", "status 12:"].iter().any(|code| message.contains(code)) {
        "correct the path of otlp.endpoint: a base URL gets /v1/metrics, and docs/otlp.md has the paths of receivers"
    } else {
        "see the receiver's log, and whether its port is that of otlp.protocol (4318 for HTTP, 4317 for gRPC)"
    }
}

fn unavailable(message: &str) -> &'static str {
    if message.contains("certificate") || message.contains("UnknownIssuer") {
        "set otlp.tls.ca_file to the CA of the receiver's certificate, and name the host in otlp.endpoint as the certificate does"
    } else if message.contains("tls") || message.contains("TLS") || message.contains("corrupt message") {
        "see whether the receiver speaks TLS at that port: https:// in otlp.endpoint is with it, http:// is without"
    } else if message.contains("Connection refused") {
        "start the receiver, or correct the port of otlp.endpoint (4318 for HTTP, 4317 for gRPC)"
    } else if message.contains("dns error") || message.contains("lookup") {
        "correct the host of otlp.endpoint, or have its name resolved (getent hosts NAME)"
    } else if message.contains("in time") {
        "see whether a firewall drops packets to otlp.endpoint, and whether the receiver hangs"
    } else {
        "see the receiver's log, and whether its port is that of otlp.protocol (4318 for HTTP, 4317 for gRPC)"
    }
}
