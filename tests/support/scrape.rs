//! A scrape of `/metrics` as values. Only as much of the text format as the product writes, strictly: what does not
//! parse is a failure of the product's.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Clone)]
pub struct Scrape {
    samples: Vec<Sample>,
    /// The text as it came, for messages and for tests of the text itself.
    pub text: String,
}

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// A histogram, summed over all series that match.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Upper bound and cumulative count, ascending; the last bound is infinite.
    pub buckets: Vec<(f64, f64)>,
    /// Sum of the observations.
    pub sum: f64,
    /// Number of observations.
    pub count: f64,
}

impl Scrape {
    /// Parses the text format.
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| parse_sample(line).unwrap_or_else(|| panic!("not a sample line: {line:?}")))
            .collect();
        Self {
            samples,
            text: text.to_owned(),
        }
    }

    /// The value of the one series with this name and (at least) these labels; 0 series or several are a failure.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found: Vec<&Sample> = self.matching(name, labels).collect();
        match found.as_slice() {
            [one] => one.value,
            [] => panic!(
                "no series {name}{labels:?}; there are: {:#?}",
                self.like(name)
            ),
            several => panic!("several series match {name}{labels:?}: {several:#?}"),
        }
    }

    /// As [`Scrape::value`], `None` where there is no such series.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.matching(name, labels)
            .next()
            .map(|sample| sample.value)
    }

    /// The sum over all series with this name and (at least) these labels; 0 if there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// The sum of a family over the values of one label, by that label.
    pub fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.matching(name, &[]) {
            if let Some(value) = sample.labels.get(label) {
                *sums.entry(value.clone()).or_default() += sample.value;
            }
        }
        sums
    }

    /// A histogram, summed over all series with (at least) these labels.
    #[track_caller]
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Histogram {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.matching(&format!("{name}_bucket"), labels) {
            let bound = sample.labels.get("le").and_then(|le| parse_number(le));
            let bound = bound.unwrap_or_else(|| panic!("a bucket without le: {sample:?}"));
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((bound, sample.value)),
            }
        }
        assert!(!buckets.is_empty(), "no histogram {name}{labels:?}");
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Histogram {
            buckets,
            sum: self.sum(&format!("{name}_sum"), labels),
            count: self.sum(&format!("{name}_count"), labels),
        }
    }

    /// The names of all samples, as they stand in the text.
    pub fn names(&self) -> std::collections::BTreeSet<&str> {
        self.samples
            .iter()
            .map(|sample| sample.name.as_str())
            .collect()
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|is| is == value))
        })
    }

    fn like(&self, name: &str) -> Vec<&Sample> {
        self.matching(name, &[]).collect()
    }
}

fn parse_sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        while !inside.starts_with('}') {
            let (key, after) = inside.split_once("=\"")?;
            let (value, after) = parse_quoted(after)?;
            labels.insert(key.to_owned(), value);
            inside = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &inside[1..];
    }
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: parse_number(rest.trim())?,
    })
}

/// A label's value up to its closing quote, unescaped, and what comes after the quote.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

fn parse_number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        other => other.parse().ok(),
    }
}

#[test]
fn the_text_format_is_read() {
    let scrape = Scrape::parse(
        "# HELP a_total What \"it\" is.\n# TYPE a_total counter\n\
         a_total{pool=\"u@h:1/d\",outcome=\"direct\"} 3\n\
         a_total{pool=\"with \\\"quotes\\\", {braces} and \\\\\",outcome=\"waited\"} 4.5\n\
         up 1\n\
         s_bucket{le=\"0.1\"} 1\ns_bucket{le=\"+Inf\"} 2\ns_sum 0.35\ns_count 2\n",
    );
    assert_eq!(scrape.value("a_total", &[("outcome", "direct")]), 3.0);
    let odd = [("pool", "with \"quotes\", {braces} and \\")];
    assert_eq!(scrape.value("a_total", &odd), 4.5);
    assert_eq!(scrape.sum("a_total", &[]), 7.5);
    assert_eq!(scrape.sum("a_total", &[("outcome", "timeout")]), 0.0);
    assert_eq!(scrape.find("b", &[]), None);
    assert_eq!(scrape.by("a_total", "outcome")["waited"], 4.5);
    assert_eq!(
        scrape.histogram("s", &[]),
        Histogram {
            buckets: vec![(0.1, 1.0), (f64::INFINITY, 2.0)],
            sum: 0.35,
            count: 2.0
        }
    );
}
