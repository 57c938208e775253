//! A scrape of our own `/metrics` as numbers.
//!
//! Reads the text on purpose, and not the registry in our own memory: the report shows what Prometheus would.

use std::collections::BTreeMap;

/// The pool that poolwatch keeps for itself; not the load's.
const CONTROL: &str = "db_client_connection_pool_name=\"control\"";

/// The samples of one scrape, without the control pool's.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// Name, labels as they stand in the text, value.
    samples: Vec<(String, String, f64)>,
}

/// A histogram, summed over its series.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Distribution {
    /// Upper bound in seconds and cumulative count, ascending.
    buckets: Vec<(f64, f64)>,
}

impl Figures {
    /// Reads the text format; a line that is none of its samples is passed over.
    pub(super) fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains(CONTROL))
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                let (name, labels) = series.split_once('{').unwrap_or((series, ""));
                Some((name.to_owned(), labels.to_owned(), number(value)?))
            })
            .collect();
        Self { samples }
    }

    /// The sum over all series of this name in which the label has the value.
    pub(super) fn with(&self, name: &str, label: &str, value: &str) -> f64 {
        self.of(name)
            .filter(|(labels, _)| label_value(labels, label) == Some(value))
            .map(|(_, value)| value)
            .sum()
    }

    /// The sum over all series of this name.
    pub(super) fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|(_, value)| value).sum()
    }

    /// The sums by the value of a label, without those that are 0.
    pub(super) fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for (labels, value) in self.of(name).filter(|(_, value)| *value != 0.0) {
            if let Some(key) = label_value(labels, label) {
                *sums.entry(key.to_owned()).or_default() += value;
            }
        }
        sums
    }

    /// A histogram over all of its series.
    pub(super) fn distribution(&self, name: &str) -> Distribution {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (labels, count) in self.of(&format!("{name}_bucket")) {
            let Some(bound) = label_value(labels, "le").and_then(number) else {
                continue;
            };
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, sum)) => *sum += count,
                None => buckets.push((bound, count)),
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Distribution { buckets }
    }

    fn of(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.samples
            .iter()
            .filter(move |(is, _, _)| is == name)
            .map(|(_, labels, value)| (labels.as_str(), *value))
    }
}

impl Distribution {
    /// The bounds in seconds between which the quantile lies: those of its bucket, the upper one infinite beyond the last.
    /// A histogram knows no more; a value interpolated between them may be one that was never seen. `None` without
    /// observations.
    pub(super) fn quantile(&self, quantile: f64) -> Option<(f64, f64)> {
        let total = self.buckets.last().map(|(_, count)| *count)?;
        if total <= 0.0 {
            return None;
        }
        let rank = quantile * total;
        let (mut lower, mut below) = (0.0, 0.0);
        for (upper, count) in &self.buckets {
            if *count >= rank && *count > below {
                return Some((lower, *upper));
            }
            (lower, below) = (*upper, *count);
        }
        None
    }

    /// What was observed since an earlier look at the same histogram.
    pub(super) fn since(&self, earlier: &Distribution) -> Distribution {
        let buckets = self
            .buckets
            .iter()
            .map(|(bound, count)| {
                let before = earlier.buckets.iter().find(|(known, _)| known == bound);
                (*bound, count - before.map_or(0.0, |(_, count)| *count))
            })
            .collect();
        Distribution { buckets }
    }
}

/// The value of a label in `a="x",b="y"}`. No value we look for holds a quote.
fn label_value<'a>(labels: &'a str, label: &str) -> Option<&'a str> {
    let start = labels.match_indices(label).find_map(|(at, _)| {
        let whole = at == 0 || labels.as_bytes()[at - 1] == b',';
        let rest = labels[at + label.len()..].strip_prefix("=\"")?;
        whole.then_some(rest)
    })?;
    start.split_once('"').map(|(value, _)| value)
}

fn number(text: &str) -> Option<f64> {
    if text == "+Inf" {
        return Some(f64::INFINITY);
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP checkouts_total x
checkouts_total{db_client_connection_pool_name=\"a@h:1/d\",outcome=\"direct\"} 5
checkouts_total{db_client_connection_pool_name=\"a@h:1/d\",outcome=\"waited\"} 2
checkouts_total{db_client_connection_pool_name=\"b@h:1/d\",outcome=\"direct\"} 1
checkouts_total{db_client_connection_pool_name=\"b@h:1/d\",outcome=\"timeout\"} 0
checkouts_total{db_client_connection_pool_name=\"control\",outcome=\"direct\"} 900
wait_bucket{pool=\"a\",le=\"0.1\"} 50
wait_bucket{pool=\"a\",le=\"1\"} 90
wait_bucket{pool=\"a\",le=\"+Inf\"} 100
";

    #[test]
    fn sums_leave_out_the_control_pool() {
        let figures = Figures::parse(TEXT);
        assert_eq!(figures.sum("checkouts_total"), 8.0);
        assert_eq!(figures.with("checkouts_total", "outcome", "direct"), 6.0);
        let by = figures.by("checkouts_total", "outcome");
        let expected = [("direct".to_owned(), 6.0), ("waited".to_owned(), 2.0)];
        assert_eq!(by, BTreeMap::from(expected));
        assert_eq!(figures.sum("unknown"), 0.0);
    }

    #[test]
    fn quantiles_are_between_the_bounds_of_their_bucket() {
        let wait = Figures::parse(TEXT).distribution("wait");
        assert_eq!(wait.quantile(0.25), Some((0.0, 0.1)));
        assert_eq!(
            wait.quantile(0.5),
            Some((0.0, 0.1)),
            "the last of its bucket"
        );
        assert_eq!(wait.quantile(0.7), Some((0.1, 1.0)));
        assert_eq!(
            wait.quantile(0.99),
            Some((1.0, f64::INFINITY)),
            "beyond the last bound"
        );
        assert_eq!(Distribution::default().quantile(0.5), None);
        assert_eq!(wait.since(&wait).quantile(0.5), None);
    }
}
