//! What `check` found, as text for people and as JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

/// How something is; the worst of all decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be, or a plain fact.
    Ok,
    /// The exporter works, but this part does not, or not for all domains.
    Incomplete,
    /// The exporter would not start, or have nothing to export.
    Failed,
    /// A setting is wrong.
    Misconfigured,
}

impl Status {
    /// 0 all works, 1 failed, 2 bad flag or configuration, 3 works in part.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Incomplete => 3,
            Self::Failed => 1,
            Self::Misconfigured => 2,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "works",
            Self::Incomplete => "works in part",
            Self::Failed => "does not work",
            Self::Misconfigured => "the settings are wrong",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The part that was checked.
    pub part: &'static str,
    /// How it is.
    pub status: Status,
    /// What there is to say of it: a fact, or the cause of a fault.
    pub text: String,
    /// Lines that belong to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// What to do about a fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// All findings, in the order of the report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Json<'a> {
    status: Status,
    exit_code: u8,
    findings: &'a [Finding],
}

impl Report {
    /// The report of settings that cannot be used at all.
    #[must_use]
    pub fn refused(error: String) -> Self {
        let mut report = Self::default();
        report.add("configuration", Status::Misconfigured, error);
        report
    }

    /// A fact.
    pub(super) fn fact(&mut self, part: &'static str, text: impl Into<String>) {
        self.add(part, Status::Ok, text.into());
    }

    /// A fault, and what to do about it.
    pub(super) fn fault(
        &mut self,
        part: &'static str,
        status: Status,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (text, remedy) = (text.into(), Some(remedy.into()));
        self.findings.push(Finding { part, status, text, details: Vec::new(), remedy });
    }

    /// A line that belongs to the last finding.
    pub(super) fn detail(&mut self, text: impl Into<String>) {
        if let Some(last) = self.findings.last_mut() {
            last.details.push(text.into());
        }
    }

    fn add(&mut self, part: &'static str, status: Status, text: String) {
        self.findings.push(Finding { part, status, text, details: Vec::new(), remedy: None });
    }

    /// The worst of all.
    #[must_use]
    pub fn status(&self) -> Status {
        self.findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok)
    }

    /// A line for each finding, its details and its remedy below, and the result at the end.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Finding { part, text: is, details, remedy, .. } in &self.findings {
            line(&mut text, part, is);
            details.iter().for_each(|detail| line(&mut text, "", detail));
            remedy.iter().for_each(|remedy| line(&mut text, "remedy", remedy));
        }
        let faults = self.findings.iter().filter(|finding| finding.status != Status::Ok);
        let mut parts: Vec<&str> = faults.map(|finding| finding.part).collect();
        parts.dedup();
        let parts = if parts.is_empty() { String::new() } else { format!(": see {}", parts.join(", ")) };
        line(&mut text, "result", &format!("{}{parts}", self.status().as_str()));
        text
    }

    /// An object with `status`, `exit_code` and `findings`.
    ///
    /// # Errors
    /// Never in practice: every field is text or a number.
    pub fn json(&self) -> serde_json::Result<String> {
        let (status, findings) = (self.status(), self.findings.as_slice());
        Ok(serde_json::to_string_pretty(&Json { status, exit_code: status.exit_code(), findings })? + "\n")
    }
}

fn line(text: &mut String, what: &str, is: &str) {
    let separator = if what.is_empty() { ' ' } else { ':' };
    let written = writeln!(text, "{:<24} {is}", format!("{what}{separator}"));
    debug_assert!(written.is_ok());
}
