//! What an expression yields: its labels, its unit, and whether Prometheus would do with it what was meant.
//!
//! Stricter than Prometheus: a metric or label that is not exported, a rate of a gauge, a sum of seconds and bytes, or a match
//! between vectors that have different labels is an error here and an empty panel there. So is whatever depends on how many scrape
//! jobs ask a host: the label `job` has to be gone before series are counted, added up, compared or shown.

use std::collections::{BTreeMap, BTreeSet};

use domstats_exporter::metrics::MetricDoc;
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality, VectorSelector, parse,
};

/// Exponents of bytes, seconds and joules; all zero is a count or a share.
pub type Dimension = [i32; 3];
const NUMBER: Dimension = [0; 3];
const SECONDS: Dimension = [0, 1, 0];
const PER_SECOND: Dimension = [0, -1, 0];

/// A metric that may be asked for.
#[derive(Debug, Clone)]
pub struct Metric {
    pub labels: BTreeSet<String>,
    pub dimension: Dimension,
    pub counter: bool,
    /// The unit of the label `le`.
    le: Option<Dimension>,
}

/// All metrics by name.
#[derive(Debug, Default)]
pub struct Metrics(BTreeMap<String, Metric>);

/// What an expression yields.
#[derive(Debug, Clone)]
pub struct Yield {
    /// `None` for a scalar.
    pub labels: Option<BTreeSet<String>>,
    pub dimension: Dimension,
    /// A number as it was written, which fits any unit in a comparison.
    literal: bool,
    counter: bool,
    le: Option<Dimension>,
}

impl Yield {
    /// Whether its series differ by the job that scraped them.
    fn has_job(&self) -> bool {
        self.labels.as_ref().is_some_and(|labels| labels.contains("job"))
    }
}

impl Metrics {
    /// Those of the exporter, and what Prometheus itself knows of a target.
    pub fn new(listed: &[MetricDoc]) -> Self {
        let mut metrics = Self::default();
        for metric in listed {
            let mut labels = set(&["job", "instance"]);
            labels.extend(metric.labels.iter().cloned());
            let owners: [(&str, &[&str]); 3] = [
                ("libvirt_domain_", &["domain", "uuid"]),
                ("libvirt_pool_", &["pool"]),
                ("libvirt_network_", &["network"]),
            ];
            for (prefix, own) in owners {
                if metric.name.starts_with(prefix) {
                    labels.extend(set(own));
                }
            }
            let dimension = dimension_of_unit(metric.unit);
            if metric.kind == "histogram" {
                let plain: BTreeSet<String> = labels.iter().filter(|label| *label != "le").cloned().collect();
                metrics.add(&format!("{}_bucket", metric.name), labels, NUMBER, true);
                metrics.add(&format!("{}_count", metric.name), plain.clone(), NUMBER, true);
                metrics.add(&format!("{}_sum", metric.name), plain, dimension, true);
                metrics.0.get_mut(&format!("{}_bucket", metric.name)).unwrap().le = Some(dimension);
            } else {
                metrics.add(&metric.name, labels, dimension, metric.kind == "counter");
            }
        }
        metrics.add("up", set(&["job", "instance"]), NUMBER, false);
        metrics.add("job:libvirt_up:group", set(&["job"]), NUMBER, false);
        metrics.add("scrape_duration_seconds", set(&["job", "instance"]), SECONDS, false);
        metrics.add(
            "ALERTS",
            set(&["instance", "domain", "uuid", "alertname", "alertstate", "severity"]),
            NUMBER,
            false,
        );
        metrics
    }

    /// Adds what a recording rule records.
    pub fn record(&mut self, name: &str, what: Yield) {
        self.add(name, what.labels.expect("a rule records a vector"), what.dimension, false);
    }

    fn add(&mut self, name: &str, labels: BTreeSet<String>, dimension: Dimension, counter: bool) {
        let before = self.0.insert(name.to_owned(), Metric { labels, dimension, counter, le: None });
        assert!(before.is_none(), "{name} is there twice");
    }

    pub fn find(&self, name: &str) -> Result<Metric, String> {
        if let Some(metric) = self.0.get(name) {
            return Ok(metric.clone());
        }
        // The metrics that stand for a rule: KVM's own statistics by their names.
        let ruled = self.0.iter().filter(|(rule, _)| {
            let Some((start, end)) = rule.split_once("<name>") else { return false };
            name.starts_with(start) && name.ends_with(end) && (end == "_total") == name.ends_with("_total")
        });
        let mut metric =
            ruled.map(|(_, metric)| metric.clone()).next().ok_or_else(|| format!("{name} is not exported"))?;
        if name.contains("_seconds") {
            metric.dimension = SECONDS;
        }
        Ok(metric)
    }

    /// What `expression` yields.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(&self, expression: &str) -> Result<Yield, String> {
        let parsed = parse(expression).map_err(|error| format!("{expression}: {error}"))?;
        let found = self.expression(&parsed).map_err(|error| format!("{expression}: {error}"))?;
        if found.has_job() {
            return Err(format!("{expression}: as many results as there are jobs"));
        }
        if found.counter { Err(format!("{expression}: a counter as it is")) } else { Ok(found) }
    }

    /// The labels of the series that a selector finds.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn labels(&self, selector: &str) -> Result<BTreeSet<String>, String> {
        match parse(selector).map_err(|error| format!("{selector}: {error}"))? {
            Expr::VectorSelector(found) => Ok(self.selector(&found)?.labels.unwrap_or_default()),
            _ => Err(format!("{selector} is no selector")),
        }
    }

    fn expression(&self, expression: &Expr) -> Result<Yield, String> {
        match expression {
            Expr::Paren(inner) => self.expression(&inner.expr),
            Expr::Unary(inner) => self.expression(&inner.expr),
            Expr::NumberLiteral(_) => Ok(scalar(NUMBER, true)),
            Expr::StringLiteral(_) => Ok(scalar(NUMBER, false)),
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs),
            Expr::Subquery(subquery) => self.expression(&subquery.expr),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Call(call) => self.call(call),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Extension(_) => Err("an extension".into()),
        }
    }

    fn selector(&self, selector: &VectorSelector) -> Result<Yield, String> {
        let name = selector.name.as_deref().ok_or("a selector without a name")?;
        let metric = self.find(name)?;
        for matcher in &selector.matchers.matchers {
            if !metric.labels.contains(&matcher.name) {
                return Err(format!("{name} has no label {}", matcher.name));
            }
        }
        let Metric { labels, dimension, counter, le } = metric;
        Ok(Yield { labels: Some(labels), dimension, literal: false, counter, le })
    }

    fn aggregate(&self, aggregate: &AggregateExpr) -> Result<Yield, String> {
        // A sum over the jobs alone is meant; one over something else has each series once for each job.
        let over_jobs =
            matches!(&aggregate.modifier, Some(LabelModifier::Exclude(without)) if without.labels == ["job"]);
        let operator = aggregate.op.to_string();
        // The same counter, as one of the jobs saw it.
        let same = over_jobs && operator == "max";
        let inner = if same { self.expression(&aggregate.expr)? } else { self.plain(&aggregate.expr)? };
        let labels = inner.labels.clone().ok_or("an aggregation of a scalar")?;
        let grouped = match &aggregate.modifier {
            Some(LabelModifier::Include(by)) => {
                contains(&labels, &by.labels)?;
                by.labels.iter().cloned().collect()
            }
            Some(LabelModifier::Exclude(without)) => {
                contains(&labels, &without.labels)?;
                labels.iter().filter(|label| !without.labels.contains(label)).cloned().collect()
            }
            None => BTreeSet::new(),
        };
        // An average is the same where each thing is there once for each job, if that is said.
        let averages_jobs = operator == "avg"
            && matches!(&aggregate.modifier, Some(LabelModifier::Exclude(without)) if without.labels.iter().any(|label| label == "job"));
        // What stays apart by jobs is aggregated in each of them.
        let loses_jobs = inner.has_job() && !grouped.contains("job");
        if loses_jobs && !over_jobs && !averages_jobs && !["min", "max", "group"].contains(&operator.as_str()) {
            return Err(format!("{operator} has each series as often as there are jobs"));
        }
        match operator.as_str() {
            "topk" | "bottomk" => Ok(inner),
            "count" | "group" => Ok(Yield { labels: Some(grouped), dimension: NUMBER, le: None, ..inner }),
            "sum" | "avg" | "min" | "max" => Ok(Yield { labels: Some(grouped), ..inner }),
            _ => Err(format!("{operator} is not known here")),
        }
    }

    fn call(&self, call: &Call) -> Result<Yield, String> {
        let arguments: Vec<Yield> =
            call.args.args.iter().map(|argument| self.expression(argument)).collect::<Result<_, _>>()?;
        let last = arguments.last().cloned();
        match (call.func.name, last) {
            ("time", None) => Ok(scalar(SECONDS, false)),
            ("vector", Some(_)) => Ok(Yield { labels: Some(BTreeSet::new()), ..scalar(NUMBER, true) }),
            ("abs", Some(of)) if !of.counter => Ok(of),
            ("absent", Some(_)) => Ok(Yield { labels: Some(BTreeSet::new()), ..scalar(NUMBER, false) }),
            ("rate", Some(of)) if of.counter => {
                Ok(Yield { dimension: minus(of.dimension, SECONDS), counter: false, ..of })
            }
            ("increase", Some(of)) if of.counter => Ok(Yield { counter: false, ..of }),
            ("rate" | "increase", Some(_)) => Err(format!("{} of something that is no counter", call.func.name)),
            ("avg_over_time" | "max_over_time" | "min_over_time" | "sum_over_time", Some(of)) if !of.counter => Ok(of),
            ("count_over_time", Some(of)) => Ok(Yield { dimension: NUMBER, counter: false, le: None, ..of }),
            ("last_over_time", Some(of)) => Ok(of),
            ("label_replace", _) => {
                let mut of = arguments.into_iter().next().ok_or("no vector")?;
                let texts: Vec<String> = call.args.args[1..].iter().map(|text| text.to_string()).collect();
                let [label, _, from, _] = &texts[..] else { return Err("label_replace of too few texts".into()) };
                let [label, from] = [label, from].map(|text| text.trim_matches('"').to_owned());
                let labels = of.labels.as_mut().ok_or("a label for a scalar")?;
                if !from.is_empty() && !labels.contains(&from) {
                    return Err(format!("there is no label {from} in {labels:?}"));
                }
                labels.insert(label);
                Ok(of)
            }
            ("label_join", _) => {
                let mut of = arguments.into_iter().next().ok_or("no vector")?;
                let texts: Vec<String> =
                    call.args.args[1..].iter().map(|text| text.to_string().trim_matches('"').to_owned()).collect();
                let [label, _, from @ ..] = &texts[..] else { return Err("label_join of too few texts".into()) };
                let labels = of.labels.as_mut().ok_or("a label for a scalar")?;
                contains(labels, from)?;
                labels.insert(label.clone());
                Ok(of)
            }
            ("predict_linear", _) => match arguments.into_iter().next() {
                Some(of) if !of.counter => Ok(of),
                _ => Err("a prediction of a counter".into()),
            },
            ("histogram_quantile", Some(of)) if !of.counter => {
                let mut labels = of.labels.ok_or("a quantile of a scalar")?;
                if !labels.remove("le") {
                    return Err("a quantile without le".into());
                }
                let dimension = of.le.ok_or("a quantile of something that is no histogram")?;
                Ok(Yield { labels: Some(labels), dimension, le: None, ..of })
            }
            (name, _) => Err(format!("{name} is not known here")),
        }
    }

    fn binary(&self, binary: &BinaryExpr) -> Result<Yield, String> {
        let operator = binary.op.to_string();
        if operator == "unless" {
            // A counter may stand on both sides: that it is there now and was not before is no use of its value.
            let (left, right) = (self.expression(&binary.lhs)?, self.expression(&binary.rhs)?);
            self.matched(binary, &left, &right)?;
            return Ok(Yield { counter: left.counter && !right.counter, ..left });
        }
        let (left, right) = (self.plain(&binary.lhs)?, self.plain(&binary.rhs)?);
        let labels = match (&left.labels, &right.labels) {
            (None, labels) | (labels, None) => labels.clone(),
            _ => Some(self.matched(binary, &left, &right)?),
        };
        let same = left.dimension == right.dimension;
        let fits = same || left.literal || right.literal;
        let dimension = match operator.as_str() {
            "*" => plus(left.dimension, right.dimension),
            "/" if per_range(&binary.lhs, &binary.rhs) => minus(left.dimension, SECONDS),
            "/" => minus(left.dimension, right.dimension),
            "+" | "-" if same => left.dimension,
            "and" => left.dimension,
            "or" if fits => left.dimension,
            "==" | "!=" | "<" | ">" | "<=" | ">=" if fits && binary.return_bool() => NUMBER,
            "==" | "!=" | "<" | ">" | "<=" | ">=" if fits => left.dimension,
            _ => {
                return Err(format!(
                    "{:?} {operator} {:?}: these units do not go together",
                    left.dimension, right.dimension
                ));
            }
        };
        let le = if labels.as_ref().is_some_and(|labels| labels.contains("le")) { left.le } else { None };
        Ok(Yield { labels, dimension, literal: left.literal && right.literal, counter: false, le })
    }

    /// The labels of a match between two vectors.
    fn matched(&self, binary: &BinaryExpr, left: &Yield, right: &Yield) -> Result<BTreeSet<String>, String> {
        let (Some(left), Some(right)) = (&left.labels, &right.labels) else { return Err("a set with a scalar".into()) };
        let operator = binary.op.to_string();
        let modifier = binary.modifier.as_ref();
        let matching = modifier.and_then(|modifier| modifier.matching.as_ref());
        // In-job arithmetic is left to the expression that merges the jobs around it; a set operation has to say that it means each job.
        let each_job =
            matches!(matching, Some(LabelModifier::Include(on)) if on.labels.iter().any(|label| label == "job"));
        let both = left.contains("job") && right.contains("job");
        let set = ["and", "or", "unless"].contains(&operator.as_str());
        // What has no job any more is the same for the series of each job.
        let many = matches!(modifier.map(|modifier| &modifier.card), Some(VectorMatchCardinality::ManyToOne(_)));
        let same_for_each = !right.contains("job") && (many || operator == "and" || operator == "unless");
        if (left.contains("job") || right.contains("job"))
            && !(each_job || same_for_each || both && !set && matching.is_none())
        {
            return Err("a match of series that may be of different jobs".into());
        }
        let result = match matching {
            Some(LabelModifier::Include(on)) => {
                contains(left, &on.labels)?;
                contains(right, &on.labels)?;
                on.labels.iter().cloned().collect()
            }
            Some(LabelModifier::Exclude(_)) => return Err("ignoring is not known here".into()),
            // vector(0), where there is nothing else.
            None if operator == "or" && right.is_empty() => return Ok(left.clone()),
            None if left == right => left.clone(),
            None => return Err(format!("{left:?} and {right:?} never match")),
        };
        match modifier.map(|modifier| &modifier.card) {
            _ if set => Ok(left.clone()),
            Some(VectorMatchCardinality::ManyToOne(include)) => {
                contains(right, &include.labels)?;
                Ok(left.iter().chain(&include.labels).cloned().collect())
            }
            Some(VectorMatchCardinality::OneToMany(_)) => Err("group_right is not known here".into()),
            _ => Ok(result),
        }
    }

    /// As [`Self::expression`], for places where a counter's value means nothing.
    fn plain(&self, expression: &Expr) -> Result<Yield, String> {
        let found = self.expression(expression)?;
        if found.counter { Err(format!("{expression}: a counter as it is")) } else { Ok(found) }
    }
}

/// `sum_over_time(x[10m]) / 600`: how much a second, over all jobs or in one.
fn per_range(whole: &Expr, seconds: &Expr) -> bool {
    match (whole, seconds) {
        (Expr::Aggregate(aggregate), seconds) => per_range(&aggregate.expr, seconds),
        (Expr::Call(call), Expr::NumberLiteral(number)) => {
            let range = match call.args.args.first().map(|argument| &**argument) {
                Some(Expr::MatrixSelector(matrix)) => matrix.range.as_secs_f64(),
                _ => return false,
            };
            call.func.name == "sum_over_time" && range == number.val
        }
        _ => false,
    }
}

/// Every vector selector of an expression, with its label matchers as `name op value`.
pub fn selectors(expression: &str) -> Result<Vec<(String, BTreeSet<String>)>, String> {
    let mut found = Vec::new();
    walk(expression, &mut |part| {
        let selector = match part {
            Expr::VectorSelector(selector) => selector,
            Expr::MatrixSelector(matrix) => &matrix.vs,
            _ => return,
        };
        let matchers = &selector.matchers.matchers;
        let matchers = matchers.iter().map(|m| format!("{}{}\"{}\"", m.name, m.op, m.value)).collect();
        found.push((selector.name.clone().unwrap_or_default(), matchers));
    })?;
    Ok(found)
}

/// The ranges of an expression, in seconds, with the series that they are of; a subquery's with its expression.
pub fn ranges(expression: &str) -> Result<Vec<(String, u64)>, String> {
    let mut found = Vec::new();
    walk(expression, &mut |part| match part {
        Expr::MatrixSelector(matrix) => {
            found.push((matrix.vs.name.clone().unwrap_or_default(), matrix.range.as_secs()));
        }
        Expr::Subquery(subquery) => found.push((subquery.expr.to_string(), subquery.range.as_secs())),
        _ => {}
    })?;
    Ok(found)
}

/// The names of the functions that an expression calls.
pub fn calls(expression: &str) -> Result<BTreeSet<String>, String> {
    let mut found = BTreeSet::new();
    walk(expression, &mut |part| {
        if let Expr::Call(call) = part {
            found.insert(call.func.name.to_owned());
        }
    })?;
    Ok(found)
}

/// Both sides of every `unless` in an expression.
pub fn unless(expression: &str) -> Result<Vec<[String; 2]>, String> {
    let mut found = Vec::new();
    walk(expression, &mut |part| match part {
        Expr::Binary(binary) if binary.op.to_string() == "unless" => {
            found.push([&binary.lhs, &binary.rhs].map(|side| side.to_string()));
        }
        _ => {}
    })?;
    Ok(found)
}

/// Shows `visit` each part of an expression.
fn walk(expression: &str, visit: &mut dyn FnMut(&Expr)) -> Result<(), String> {
    fn each(expression: &Expr, visit: &mut dyn FnMut(&Expr)) {
        visit(expression);
        match expression {
            Expr::Paren(inner) => each(&inner.expr, visit),
            Expr::Unary(inner) => each(&inner.expr, visit),
            Expr::Subquery(subquery) => each(&subquery.expr, visit),
            Expr::Aggregate(aggregate) => each(&aggregate.expr, visit),
            Expr::Call(call) => call.args.args.iter().for_each(|argument| each(argument, visit)),
            Expr::Binary(binary) => {
                each(&binary.lhs, visit);
                each(&binary.rhs, visit);
            }
            Expr::VectorSelector(_)
            | Expr::MatrixSelector(_)
            | Expr::NumberLiteral(_)
            | Expr::StringLiteral(_)
            | Expr::Extension(_) => {}
        }
    }
    let parsed = parse(expression).map_err(|error| format!("{expression}: {error}"))?;
    each(&parsed, visit);
    Ok(())
}

/// The unit that the suffix of a name says.
fn dimension_of_unit(unit: Option<&str>) -> Dimension {
    match unit {
        Some("seconds") => SECONDS,
        Some("bytes") => [1, 0, 0],
        Some("bytes_per_second") => [1, -1, 0],
        Some("requests_per_second") => [0, -1, 0],
        Some("joules") => [0, 0, 1],
        Some("ratio") | None => NUMBER,
        Some(other) => panic!("the unit {other} is not known here"),
    }
}

/// Whether a panel of Grafana's unit `id` may show numbers of this dimension.
pub fn fits_grafana(id: &str, dimension: Dimension) -> bool {
    let fitting: &[&str] = match dimension {
        NUMBER => &["none", "short", "percentunit", "bool_yes_no"],
        SECONDS => &["s"],
        PER_SECOND => &["iops", "ops", "count:p/s", "reqps"],
        [1, 0, 0] => &["bytes"],
        [1, -1, 0] => &["Bps", "binBps"],
        [0, -1, 1] => &["watt"],
        _ => &[],
    };
    fitting.contains(&id)
}

fn scalar(dimension: Dimension, literal: bool) -> Yield {
    Yield { labels: None, dimension, literal, counter: false, le: None }
}

fn set(labels: &[&str]) -> BTreeSet<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

fn contains(labels: &BTreeSet<String>, wanted: &[String]) -> Result<(), String> {
    match wanted.iter().find(|label| !labels.contains(*label)) {
        Some(missing) => Err(format!("there is no label {missing} in {labels:?}")),
        None => Ok(()),
    }
}

fn plus(a: Dimension, b: Dimension) -> Dimension {
    std::array::from_fn(|i| a[i] + b[i])
}

fn minus(a: Dimension, b: Dimension) -> Dimension {
    std::array::from_fn(|i| a[i] - b[i])
}
