//! Regular expressions that have to match the whole of a text, as Prometheus' own do.
//!
//! Those of the configuration are the operator's. Those of a request are an outsider's: what parsing, compiling and keeping
//! them costs has one bound, however many there are.

use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use regex_automata::meta::{BuildError, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_syntax::ast::{self, Ast, ClassSetItem, Flag, FlagsItemKind, GroupKind};
use regex_syntax::hir::{Hir, Look, translate};

use super::error::ValueError;
use super::value::scalar;

/// Larger than any sensible filter, small enough that a file cannot eat the host's memory.
const CONFIGURED_BYTES: usize = 4 << 20;
/// All expressions of a request together, compiled: some ten milliseconds of work.
const REQUESTED_BYTES: usize = 1 << 20;
/// What the look-up of states may add to an expression that is in use, for each thread that uses it.
const CACHE_BYTES: usize = 1 << 20;
/// Characters in the classes of a request's expressions that ignore case, each of which is looked up when a class is parsed:
/// some twenty milliseconds of work.
const REQUESTED_FOLDS: u64 = 1_500_000;
/// Characters of a class with a name, such as `\w` and `\pL`, and of its opposite.
const NAMED_CLASS: u64 = 140_000;
const NEGATED_CLASS: u64 = 1_100_000;

/// A regular expression that has to match the whole of a text, as Prometheus' own do.
#[derive(Debug, Clone)]
pub struct AnchoredRegex {
    source: String,
    compiled: Regex,
}

impl AnchoredRegex {
    /// Whether the whole of `text` matches.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    fn compile(text: &str, parsed: Hir, captures: WhichCaptures) -> Result<Self, ValueError> {
        let compiled = compile(vec![parsed], CONFIGURED_BYTES, captures).map_err(|fault| bad(text, fault))?;
        Ok(Self { source: text.to_owned(), compiled })
    }
}

impl PartialEq for AnchoredRegex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for AnchoredRegex {}

impl Display for AnchoredRegex {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl FromStr for AnchoredRegex {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (_, parsed) = parse(text, None)?;
        Self::compile(text, parsed, WhichCaptures::None)
    }
}

scalar!(AnchoredRegex, "a regular expression");

/// A regular expression that has to match the whole of a text, and whose first group is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturingRegex(AnchoredRegex);

impl CapturingRegex {
    /// What the first group matches, if the whole of `text` does.
    #[must_use]
    pub fn capture<'t>(&self, text: &'t str) -> Option<&'t str> {
        let mut captures = self.0.compiled.create_captures();
        self.0.compiled.captures(text, &mut captures);
        captures.get_group(1).map(|group| &text[group.range()])
    }
}

impl Display for CapturingRegex {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CapturingRegex {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (_, parsed) = parse(text, None)?;
        if parsed.properties().explicit_captures_len() == 0 {
            return Err(ValueError::NoGroup { regex: text.to_owned() });
        }
        AnchoredRegex::compile(text, parsed, WhichCaptures::All).map(Self)
    }
}

scalar!(CapturingRegex, "a regular expression");

/// The regular expressions of one request, of which one has to match the whole of a name. None match every name.
#[derive(Debug, Clone, Default)]
pub struct NamePatterns {
    sources: Vec<String>,
    compiled: Option<Regex>,
}

impl NamePatterns {
    /// Compiles `sources` into one expression.
    ///
    /// # Errors
    /// If one of them is no expression, or all together would cost too much.
    pub fn new(mut sources: Vec<String>) -> Result<Self, ValueError> {
        sources.sort();
        sources.dedup();
        let mut folds = REQUESTED_FOLDS;
        let mut parsed = Vec::with_capacity(sources.len());
        for source in &sources {
            let (left, expression) = parse(source, Some(folds))?;
            folds = left;
            parsed.push(expression);
        }
        let compiled = if parsed.is_empty() {
            None
        } else {
            Some(
                compile(parsed, REQUESTED_BYTES, WhichCaptures::None)
                    .map_err(|fault| bad(&sources.join("|"), fault))?,
            )
        };
        Ok(Self { sources, compiled })
    }

    /// Whether a name is wanted.
    #[must_use]
    pub fn is_match(&self, name: &str) -> bool {
        self.compiled.as_ref().is_none_or(|compiled| compiled.is_match(name))
    }

    /// Whether every name is wanted because nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The expressions, sorted.
    #[must_use]
    pub fn sources(&self) -> &[String] {
        &self.sources
    }
}

impl PartialEq for NamePatterns {
    fn eq(&self, other: &Self) -> bool {
        self.sources == other.sources
    }
}

impl Eq for NamePatterns {}

impl Hash for NamePatterns {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sources.hash(state);
    }
}

/// Parses an expression. Where `folds` bounds how many characters may have to be looked up to ignore case, what is left of them
/// comes back.
fn parse(text: &str, folds: Option<u64>) -> Result<(u64, Hir), ValueError> {
    let syntax = |error: regex_syntax::Error| bad(text, last_line(&error.to_string()));
    let ast = ast::parse::Parser::new().parse(text).map_err(|error| syntax(error.into()))?;
    let left = match folds {
        None => 0,
        Some(folds) => {
            let cost = ast::visit(&ast, Folds::default()).unwrap_or(u64::MAX);
            folds
                .checked_sub(cost)
                .ok_or_else(|| bad(text, "its classes are too large to ignore case in".to_owned()))?
        }
    };
    let mut translator = translate::TranslatorBuilder::new().dot_matches_new_line(true).build();
    Ok((left, translator.translate(text, &ast).map_err(|error| syntax(error.into()))?))
}

/// One expression that matches a whole text that one of `expressions` does.
fn compile(expressions: Vec<Hir>, bytes: usize, captures: WhichCaptures) -> Result<Regex, String> {
    let whole = vec![Hir::look(Look::Start), Hir::alternation(expressions), Hir::look(Look::End)];
    let config =
        Regex::config().nfa_size_limit(Some(bytes)).hybrid_cache_capacity(CACHE_BYTES).which_captures(captures);
    Regex::builder().configure(config).build_from_hir(&Hir::concat(whole)).map_err(|error| build_fault(&error, bytes))
}

fn build_fault(error: &BuildError, bytes: usize) -> String {
    match error.size_limit() {
        Some(_) => format!("it needs more than {} MiB when compiled", bytes >> 20),
        None => last_line(&error.to_string()),
    }
}

/// The parser draws the expression with a caret below; its last line says what is wrong.
fn last_line(text: &str) -> String {
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

fn bad(text: &str, fault: String) -> ValueError {
    ValueError::Regex { regex: text.to_owned(), fault }
}

/// Adds up the characters in all classes, if anything ignores case.
#[derive(Default)]
struct Folds {
    ignores_case: bool,
    characters: u64,
}

impl Folds {
    fn flags(&mut self, flags: &ast::Flags) {
        let ignores = |item: &ast::FlagsItem| item.kind == FlagsItemKind::Flag(Flag::CaseInsensitive);
        self.ignores_case |= flags.items.iter().any(ignores);
    }

    fn named(&mut self, negated: bool) {
        self.characters += if negated { NEGATED_CLASS } else { NAMED_CLASS };
    }
}

impl ast::Visitor for Folds {
    type Output = u64;
    type Err = std::convert::Infallible;

    fn finish(self) -> Result<u64, Self::Err> {
        Ok(if self.ignores_case { self.characters } else { 0 })
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        match ast {
            Ast::Flags(set) => self.flags(&set.flags),
            Ast::Group(group) => {
                if let GroupKind::NonCapturing(flags) = &group.kind {
                    self.flags(flags);
                }
            }
            // The opposite of these is made after the look-up.
            Ast::ClassUnicode(_) | Ast::ClassPerl(_) => self.named(false),
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Self::Err> {
        match item {
            ClassSetItem::Range(range) => {
                self.characters += u64::from(u32::from(range.end.c).saturating_sub(range.start.c.into())) + 1;
            }
            ClassSetItem::Unicode(class) => self.named(class.is_negated()),
            ClassSetItem::Perl(class) => self.named(class.negated),
            // What is within is looked up once more with what is around it.
            ClassSetItem::Bracketed(_) => self.named(true),
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ast::ClassSetBinaryOp) -> Result<(), Self::Err> {
        self.named(true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_captured_of_a_whole_match() {
        let regex: CapturingRegex = "/run/([^/]+)/(a|b)".parse().expect("an expression");
        assert_eq!(regex.capture("/run/pod-1/b"), Some("pod-1"));
        assert_eq!((regex.capture("/run/pod-1/b/"), regex.capture("x/run/pod-1/b")), (None, None));
        let error = "/run/(?:x)".parse::<CapturingRegex>().expect_err("no group");
        assert!(error.to_string().contains("has no group"), "{error}");
    }

    fn refusal(sources: &[&str]) -> String {
        let sources = sources.iter().map(|source| (*source).to_owned()).collect();
        NamePatterns::new(sources).expect_err("refused").to_string()
    }

    #[test]
    fn an_expression_is_anchored_whatever_is_in_it() {
        let regex = |text: &str| text.parse::<AnchoredRegex>().expect("valid");
        assert!(regex("a|b.c").is_match("b\nc") && !regex("a|b").is_match("ab"));
        let commented = regex("(?x) a # and nothing else");
        assert!(commented.is_match("a") && !commented.is_match("ab"));
        assert!(regex("").is_match("") && !regex("").is_match("a"));
        assert!(regex("^a$").is_match("a"));
        for (text, fault) in [("a)(b", "unopened group"), ("a[", "unclosed character class")] {
            let error = text.parse::<AnchoredRegex>().expect_err("no expression").to_string();
            assert!(error.ends_with(fault), "{error}");
        }
    }

    #[test]
    fn the_expressions_of_a_request_are_one() {
        let patterns = NamePatterns::new(vec!["web-.*".to_owned(), "db".to_owned(), "db".to_owned()]).expect("valid");
        assert_eq!(patterns.sources(), ["db", "web-.*"]);
        assert!(patterns.is_match("web-1") && patterns.is_match("db") && !patterns.is_match("db1"));
        assert!(NamePatterns::default().is_match("anything"));
        let many: Vec<String> = (0..32).map(|number| format!("(?i)web-{number}-[a-z0-9]+")).collect();
        assert!(NamePatterns::new(many).expect("within the budget").is_match("WEB-7-X"));
    }

    #[test]
    fn the_expressions_of_a_request_have_one_budget() {
        let large: Vec<String> = (0..31).map(|number| format!("{number}\\w{{2}}")).collect();
        assert!(NamePatterns::new(large[..4].to_vec()).is_ok());
        let fault = NamePatterns::new(large).expect_err("too large together").to_string();
        assert!(fault.ends_with("it needs more than 1 MiB when compiled"), "{fault}");
        for (sources, fault) in [
            (&["\\w{82}"][..], "it needs more than 1 MiB when compiled"),
            (&["(?i)[\\x{0}-\\x{10ffff}][\\x{0}-\\x{10ffff}]"], "its classes are too large to ignore case in"),
            (&["(?i)[\\W]", "(?i:[\\x{80}-\\x{ffff0}])"], "its classes are too large to ignore case in"),
            (&["(?i)[[[\\w]]]"], "its classes are too large to ignore case in"),
            (&["(?i)[\\w&&\\d&&\\s]"], "its classes are too large to ignore case in"),
        ] {
            assert!(refusal(sources).ends_with(fault), "{sources:?}: {}", refusal(sources));
        }
        // The same classes cost nothing where case counts.
        assert!(NamePatterns::new(vec!["[\\x{0}-\\x{10ffff}][\\x{0}-\\x{10ffff}]".to_owned()]).is_ok());
    }
}
