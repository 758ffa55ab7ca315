//! The pause before an attempt is repeated.

use std::time::Duration;

/// The pause after `failures` attempts in a row failed, the first of which counts as 0: `first`, doubled for each, at most
/// `longest`. `chance` from 0 to 1 takes away up to half of it, so that a thousand hosts do not come back at once.
#[must_use]
pub fn pause(first: Duration, longest: Duration, failures: u32, chance: f64) -> Duration {
    let whole = first.saturating_mul(2_u32.saturating_pow(failures)).min(longest);
    whole.mul_f64(0.5 + 0.5 * chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_are_spread() {
        let pause = |failures, chance| pause(Duration::from_secs(1), Duration::from_secs(30), failures, chance);
        assert_eq!([0, 1, 4, 5, 40].map(|failures| pause(failures, 1.0).as_secs()), [1, 2, 16, 30, 30]);
        assert_eq!(pause(3, 0.0), Duration::from_secs(4));
    }
}
