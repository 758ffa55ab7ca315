//! One host in several scrape jobs.
//!
//! A host is its `instance`. Two jobs that ask one exporter for different groups (`collect[]`, `exclude[]`) both have the
//! exporter's own series, and what one expression compares may come from different jobs. So every expression takes each series
//! without its label `job`, before it does anything else with it. Series of one group come from one job: what is made of them alone
//! is cheaper to compute in each job and to merge [`once`]. Merging costs as much as a rate: what leaves few series comes before it.

use promql_parser::label::Labels;
use promql_parser::parser::token::{T_MAX, T_MIN, T_SUM, TokenId, TokenType};
use promql_parser::parser::{AggregateExpr, BinaryExpr, Expr, LabelModifier, NumberLiteral, parse};

/// `expression` with the series of all jobs merged; `expression` as it is where it is no PromQL, which the tests refuse.
pub(crate) fn across_jobs(expression: &str) -> String {
    parse(expression).map_or_else(
        |_| expression.trim().to_owned(),
        |mut parsed| {
            merge(&mut parsed);
            parsed.to_string()
        },
    )
}

/// `expression`, of series of one group, computed in each job and merged then.
pub(crate) fn once(expression: &str) -> String {
    format!("max without (job) ({expression})")
}

fn merge(expression: &mut Expr) {
    match expression {
        Expr::Paren(inner) => merge(&mut inner.expr),
        Expr::Unary(inner) => merge(&mut inner.expr),
        Expr::Subquery(subquery) => merge(&mut subquery.expr),
        Expr::Binary(binary) if leaves_few(binary) => merge_as(T_MAX, expression),
        Expr::Binary(binary) => {
            merge(&mut binary.lhs);
            merge(&mut binary.rhs);
        }
        Expr::Aggregate(aggregate) if merges(aggregate) => {}
        Expr::Aggregate(aggregate) => merge(&mut aggregate.expr),
        Expr::Call(call) if !call.args.args.iter().any(|argument| matches!(**argument, Expr::MatrixSelector(_))) => {
            call.args.args.iter_mut().for_each(|argument| merge(argument));
        }
        Expr::Call(_) | Expr::VectorSelector(_) => {
            if let Some(operator) = metric(expression).and_then(operator) {
                merge_as(operator, expression);
            }
        }
        Expr::MatrixSelector(_) | Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

fn merge_as(operator: TokenId, expression: &mut Expr) {
    let nothing = Expr::NumberLiteral(NumberLiteral { val: 0.0 });
    *expression = Expr::Aggregate(AggregateExpr {
        op: TokenType::new(operator),
        expr: Box::new(std::mem::replace(expression, nothing)),
        param: None,
        modifier: Some(LabelModifier::Exclude(Labels::new(vec!["job"]))),
    });
}

/// Whether a comparison may come before the merging: the highest of several is above a limit where any of them is.
fn leaves_few(comparison: &BinaryExpr) -> bool {
    let leaf = match &*comparison.lhs {
        Expr::VectorSelector(_) => true,
        Expr::Call(call) => call.args.args.iter().any(|argument| matches!(**argument, Expr::MatrixSelector(_))),
        _ => false,
    };
    let above = comparison.op.to_string() == ">" && !comparison.return_bool();
    let limit = matches!(&*comparison.rhs, Expr::NumberLiteral(_));
    leaf && above && limit && metric(&comparison.lhs).and_then(operator) == Some(T_MAX)
}

/// Whether an aggregation says itself what becomes of the jobs, or does to its series what would be done to them before.
fn merges(aggregate: &AggregateExpr) -> bool {
    match &aggregate.modifier {
        Some(LabelModifier::Exclude(without)) if without.labels.iter().any(|label| label == "job") => true,
        Some(LabelModifier::Include(by)) if by.labels.iter().any(|label| label == "job") => true,
        Some(LabelModifier::Exclude(_)) => false,
        _ => metric(&aggregate.expr).and_then(operator) == Some(aggregate.op.id()),
    }
}

/// The metric that a selector, or a function of its past, is about.
fn metric(leaf: &Expr) -> Option<&str> {
    match leaf {
        Expr::VectorSelector(selector) => selector.name.as_deref(),
        Expr::MatrixSelector(matrix) => matrix.vs.name.as_deref(),
        Expr::Call(call) => call.args.args.iter().find_map(|argument| metric(argument)),
        _ => None,
    }
}

/// What makes one series of those of several jobs; nothing where the label is gone: alerts and recorded series have none.
fn operator(metric: &str) -> Option<TokenId> {
    match metric {
        "ALERTS" => None,
        recorded if recorded.contains(':') => None,
        // A domain is complete where each job has all that it asked for.
        "libvirt_domain_stats_complete" => Some(T_MIN),
        // Each exposition says how many it has.
        "libvirt_exporter_series" | "libvirt_exporter_unmapped_keys" => Some(T_SUM),
        // Of a counter, the job that saw it grow last; of a fact, any.
        _ => Some(T_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::across_jobs;

    #[test]
    fn each_series_is_merged_before_it_is_used() {
        for (expression, merged) in [
            ("libvirt_up == 0", "max without (job) (libvirt_up) == 0"),
            ("x > 0.5", "max without (job) (x > 0.5)"),
            ("rate(x_total[5m]) > 1", "max without (job) (rate(x_total[5m]) > 1)"),
            ("x < 0.5", "max without (job) (x) < 0.5"),
            ("x / y > 1", "max without (job) (x) / max without (job) (y) > 1"),
            ("libvirt_exporter_series > 9", "sum without (job) (libvirt_exporter_series) > 9"),
            ("libvirt_domain_stats_complete > 0", "min without (job) (libvirt_domain_stats_complete) > 0"),
            (
                "sum by (instance) (1 - libvirt_domain_stats_complete{instance=~\"$instance\"})",
                "sum by (instance) (1 - min without (job) (libvirt_domain_stats_complete{instance=~\"$instance\"}))",
            ),
            (
                "histogram_quantile(0.99, rate(x_bucket[5m])) >= 0",
                "histogram_quantile(0.99, max without (job) (rate(x_bucket[5m]))) >= 0",
            ),
            ("max_over_time(x[6h:5m]) == 1", "max_over_time(max without (job) (x)[6h:5m]) == 1"),
            ("x unless x offset 15m", "max without (job) (x) unless max without (job) (x offset 15m)"),
            ("-x + 1.5", "-max without (job) (x) + 1.5"),
        ] {
            assert_eq!(across_jobs(expression), merged);
        }
    }

    #[test]
    fn what_needs_no_merging_stays() {
        for expression in [
            "max by (domain) (rate(x_total[5m]))",
            "min(libvirt_domain_stats_complete)",
            "sum without (job, vcpu) (x)",
            "min without (job) (up and on (job) group by (job) (libvirt_up)) == 0",
            "instance:x:sum > 3",
            "count(ALERTS{alertstate=\"firing\"}) or vector(0)",
            "time() - 5",
        ] {
            assert_eq!(across_jobs(expression), expression);
        }
    }
}
