//! The words of a command.

use std::time::Duration;

use super::{CommandError, Result, malformed};
use crate::daemon::FakeLibvirtd;
use crate::domains::UnknownDomain;
use crate::template::Template;

/// The words of a command, taken one by one.
pub(super) struct Words<'a> {
    pub(super) rest: &'a str,
}

impl Words<'_> {
    pub(super) fn optional(&mut self) -> Result<Option<String>> {
        let rest = self.rest.trim_start();
        if rest.is_empty() {
            self.rest = rest;
            return Ok(None);
        }
        if !rest.starts_with('"') {
            let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            self.rest = rest;
            return Ok(Some(word.to_owned()));
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        match values.next() {
            Some(Ok(word)) => {
                self.rest = &rest[values.byte_offset()..];
                Ok(Some(word))
            }
            _ => Err(malformed("a JSON string", rest)),
        }
    }

    pub(super) fn word(&mut self, what: &'static str) -> Result<String> {
        self.optional()?.ok_or(CommandError::Missing(what))
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self, what: &'static str) -> Result<T> {
        let word = self.word(what)?;
        word.parse().map_err(|_| malformed(what, &word))
    }

    pub(super) fn time(&mut self) -> Result<Duration> {
        let word = self.word("a time")?;
        humantime::parse_duration(&word).map_err(|_| malformed("a time", &word))
    }

    pub(super) fn on_or_off(&mut self) -> Result<bool> {
        match self.word("on or off")?.as_str() {
            "on" => Ok(true),
            "off" => Ok(false),
            other => Err(malformed("on or off", other)),
        }
    }

    /// A number, or `off`.
    pub(super) fn number_or_off<T: std::str::FromStr>(&mut self) -> Result<Option<T>> {
        let word = self.word("a number or off")?;
        if word == "off" {
            return Ok(None);
        }
        let number = word.parse();
        number.map(Some).map_err(|_| malformed("a number or off", &word))
    }

    pub(super) fn template(&mut self) -> Result<Template> {
        let name = self.word("a template")?;
        Template::named(&name).ok_or_else(|| malformed("a template", &name))
    }

    pub(super) fn domain(&mut self, daemon: &FakeLibvirtd) -> Result<String> {
        let name = self.word("a domain")?;
        if daemon.domains().get(&name).is_none() {
            return Err(UnknownDomain(name).into());
        }
        Ok(name)
    }

    pub(super) fn end(mut self) -> Result<()> {
        match self.optional()? {
            Some(word) => Err(CommandError::Trailing(word)),
            None => Ok(()),
        }
    }
}
