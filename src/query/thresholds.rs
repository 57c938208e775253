//! From which duration on a query is slow: for all, and for some by user, database or operation.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::slow::Origin;

/// The thresholds as they are set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slow {
    /// For queries that no rule is for.
    pub threshold: Duration,
    /// The first that fits counts.
    pub rules: Vec<SlowRule>,
}

/// A threshold of some queries: `user=etl database=shop operation=COPY 10s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowRule {
    /// Only of this user.
    pub user: Option<String>,
    /// Only in this database.
    pub database: Option<String>,
    /// Only with this verb, in capitals.
    pub operation: Option<String>,
    /// From this duration on.
    pub threshold: Duration,
}

/// Why a rule cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlowRuleError {
    /// The duration at its end is missing, or is none.
    #[error("it must end with a duration, as in \"user=etl 10s\"")]
    Duration,
    /// A part is none of the three.
    #[error("{0:?} is none of user=…, database=…, operation=…")]
    Part(String),
    /// A part stands there twice.
    #[error("{0} stands there twice")]
    Twice(&'static str),
    /// There is nothing that it is for.
    #[error("it must say what it is for: user=…, database=… or operation=…")]
    Nothing,
}

/// The thresholds in use. They can be changed while queries run.
#[derive(Debug)]
pub(super) struct Thresholds {
    /// Nanoseconds; what took less is slow by none of them.
    lowest: AtomicU64,
    /// Taken by queries that took longer than the lowest.
    slow: Mutex<Arc<Slow>>,
}

impl Thresholds {
    pub(super) fn new(slow: Slow) -> Self {
        Self {
            lowest: AtomicU64::new(slow.lowest()),
            slow: Mutex::new(Arc::new(slow)),
        }
    }

    #[inline]
    pub(super) fn lowest(&self) -> u64 {
        self.lowest.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, slow: Slow) {
        self.lowest.store(slow.lowest(), Ordering::Relaxed);
        *self.slow.lock() = Arc::new(slow);
    }

    pub(super) fn get(&self) -> Arc<Slow> {
        Arc::clone(&self.slow.lock())
    }

    /// From when on a query of this origin and operation is slow.
    pub(super) fn of(&self, origin: &Origin, operation: &str) -> Duration {
        let slow = self.get();
        let rule = slow.rules.iter().find(|rule| rule.fits(origin, operation));
        rule.map_or(slow.threshold, |rule| rule.threshold)
    }
}

impl Slow {
    fn lowest(&self) -> u64 {
        let rules = self.rules.iter().map(|rule| rule.threshold);
        let lowest = rules.fold(self.threshold, Duration::min);
        u64::try_from(lowest.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl SlowRule {
    fn fits(&self, origin: &Origin, operation: &str) -> bool {
        let fits = |wanted: &Option<String>, has: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == has)
        };
        fits(&self.user, &origin.user)
            && fits(&self.database, &origin.database)
            && fits(&self.operation, operation)
    }
}

impl FromStr for SlowRule {
    type Err = SlowRuleError;

    fn from_str(text: &str) -> Result<Self, SlowRuleError> {
        let (parts, threshold) = text
            .trim()
            .rsplit_once(char::is_whitespace)
            .ok_or(SlowRuleError::Duration)?;
        let mut rule = Self {
            user: None,
            database: None,
            operation: None,
            threshold: humantime::parse_duration(threshold).map_err(|_| SlowRuleError::Duration)?,
        };
        for part in parts.split_whitespace() {
            let (name, place, value) = match part.split_once('=') {
                Some(("user", value)) => ("user", &mut rule.user, value.to_owned()),
                Some(("database", value)) => ("database", &mut rule.database, value.to_owned()),
                Some(("operation", value)) => {
                    ("operation", &mut rule.operation, value.to_uppercase())
                }
                _ => return Err(SlowRuleError::Part(part.to_owned())),
            };
            if place.replace(value).is_some() {
                return Err(SlowRuleError::Twice(name));
            }
        }
        let is_for = [&rule.user, &rule.database, &rule.operation];
        if is_for.into_iter().all(Option::is_none) {
            return Err(SlowRuleError::Nothing);
        }
        Ok(rule)
    }
}

impl std::fmt::Display for SlowRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in [
            ("user", &self.user),
            ("database", &self.database),
            ("operation", &self.operation),
        ] {
            if let Some(value) = value {
                write!(f, "{name}={value} ")?;
            }
        }
        humantime::format_duration(self.threshold).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(user: &str, database: &str) -> Origin {
        Origin {
            user: user.to_owned(),
            database: database.to_owned(),
            application: String::new(),
            pool: String::new(),
        }
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rules = [
            "user=etl operation=copy 1m",
            "user=etl 10s",
            "database=audit 50ms",
        ];
        let thresholds = Thresholds::new(Slow {
            threshold: Duration::from_millis(500),
            rules: rules.map(|rule| rule.parse().expect("a rule")).to_vec(),
        });
        for (user, database, operation, milliseconds) in [
            ("etl", "audit", "COPY", 60_000),
            ("etl", "audit", "SELECT", 10_000),
            ("app", "audit", "COPY", 50),
            ("app", "shop", "COPY", 500),
        ] {
            let found = thresholds.of(&origin(user, database), operation);
            assert_eq!(
                found,
                Duration::from_millis(milliseconds),
                "{user} {database} {operation}"
            );
        }
        assert_eq!(thresholds.lowest(), 50_000_000);
    }

    #[test]
    fn a_rule_is_written_as_it_is_read() {
        for text in [
            "user=etl database=shop operation=COPY 1m",
            "operation=SELECT 250ms",
        ] {
            assert_eq!(text.parse::<SlowRule>().expect("a rule").to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_said() {
        for (text, error) in [
            ("10s", SlowRuleError::Duration),
            ("user=etl", SlowRuleError::Duration),
            ("user=etl soon", SlowRuleError::Duration),
            ("etl 10s", SlowRuleError::Part("etl".to_owned())),
            ("table=x 10s", SlowRuleError::Part("table=x".to_owned())),
            ("user=a user=b 10s", SlowRuleError::Twice("user")),
        ] {
            assert_eq!(text.parse::<SlowRule>(), Err(error), "{text}");
        }
    }
}
