//! An error as users read it: one line with its causes.

use std::error::Error;

/// The error and its causes on one line, each cause once.
#[must_use]
pub fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some errors repeat the text of their cause.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn causes_follow_and_none_is_repeated() {
        let link = |text, source| Some(Box::new(Link { text, source }));
        let error = link("cannot read x", link("disk: timed out", link("timed out", None))).expect("a link");
        assert_eq!(one_line(&error), "cannot read x: disk: timed out");
    }
}
