//! The text format, read strictly: what a scraper might forgive is a failure here.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Scrape {
    /// Type by family.
    pub(crate) types: BTreeMap<String, String>,
    pub(crate) help: BTreeMap<String, String>,
    /// Every sample, by family.
    pub(crate) samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) family: String,
    /// The sample's own name: with `_bucket`, `_sum` or `_count` for a histogram.
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) series: Series,
    pub(crate) value: f64,
}

impl Scrape {
    /// Every line must be a HELP, a TYPE or a sample of the family begun last, and no series may come twice.
    pub(crate) fn parse(text: &str) -> Self {
        let mut scrape = Scrape::default();
        let mut family = String::new();
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                assert!(scrape.help.insert(name.into(), help.into()).is_none());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                assert!(scrape.types.insert(name.into(), kind.into()).is_none());
                family = name.to_owned();
            } else {
                let sample = parse_sample(&family, &scrape.types[&family], line);
                assert!(seen.insert(sample.series.clone()), "twice: {line}");
                scrape.samples.push(sample);
            }
        }
        scrape
    }

    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut found = self.samples.iter().filter(|sample| {
            let has = |(k, v): &(&str, &str)| sample.series.labels.get(*k).is_some_and(|x| x == v);
            sample.series.name == name && labels.iter().all(has)
        });
        let value = found
            .next()
            .unwrap_or_else(|| panic!("no {name}{labels:?}"));
        assert!(found.next().is_none(), "several {name}{labels:?}");
        value.value
    }

    pub(crate) fn sum(&self, name: &str) -> f64 {
        let of_name = self.samples.iter().filter(|s| s.series.name == name);
        of_name.map(|sample| sample.value).sum()
    }

    pub(crate) fn series(&self) -> BTreeSet<Series> {
        self.samples.iter().map(|s| s.series.clone()).collect()
    }
}

fn parse_sample(family: &str, kind: &str, line: &str) -> Sample {
    let name_end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(name_end);
    let suffix = name.strip_prefix(family).expect(line);
    match kind {
        "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
        _ => assert_eq!(suffix, "", "{line}"),
    }
    let mut labels = BTreeMap::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        while !inside.starts_with('}') {
            let (key, after) = inside.split_once("=\"").expect(line);
            let (value, after) = unquote(after).expect(line);
            assert!(labels.insert(key.to_owned(), value).is_none(), "{line}");
            inside = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &inside[1..];
    }
    let value = rest.strip_prefix(' ').expect(line);
    Sample {
        series: Series {
            family: family.to_owned(),
            name: name.to_owned(),
            labels,
        },
        value: value.parse().expect(line),
    }
}

/// The text up to the closing quote, and what follows it. Only the three escapes of the format are allowed.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                same @ ('"' | '\\') => same,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
    None
}
