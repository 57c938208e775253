//! `docs/metrics.md` as values, and the same of the code and of a scrape, so that the three can be compared.

use std::collections::{BTreeMap, BTreeSet};

use poolwatch::metrics::families;

use crate::exposition::Scrape;

/// The page.
pub(crate) const PAGE: &str = include_str!("../../docs/metrics.md");

/// The rows of the tables under headings that `wanted` accepts, as cells.
pub(crate) fn rows(wanted: impl Fn(&str) -> bool) -> Vec<Vec<&'static str>> {
    let mut heading = "";
    let mut rows = Vec::new();
    for line in PAGE.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title;
        } else if line.starts_with("| `") && wanted(heading) {
            let cells = line.trim_matches('|').split('|').map(str::trim);
            rows.push(cells.collect());
        }
    }
    rows
}

/// The words of a cell that stand in backticks; two backticks side by side are the empty word.
pub(crate) fn words(cell: &str) -> BTreeSet<&str> {
    cell.split(' ')
        .filter_map(|word| word.strip_prefix('`')?.strip_suffix('`'))
        .collect()
}

/// What a page, a scrape or the code says of a metric: its type and the names of its labels.
pub(crate) type Contract = BTreeMap<String, (String, BTreeSet<String>)>;

pub(crate) fn documented() -> Contract {
    let tables = rows(|heading| heading != "Label values" && heading != "Buckets");
    let contract: Contract = tables
        .iter()
        .map(|row| {
            let [name, kind, labels, unit, says, moves] = row[..] else {
                panic!("not six cells: {row:?}");
            };
            assert!(![unit, says, moves].contains(&""), "an empty cell: {row:?}");
            let labels = words(labels).into_iter().map(String::from).collect();
            (name.trim_matches('`').to_owned(), (kind.to_owned(), labels))
        })
        .collect();
    assert_eq!(contract.len(), tables.len(), "a metric has two rows");
    contract
}

pub(crate) fn declared() -> Contract {
    families::ALL
        .iter()
        .map(|family| {
            let labels = family.labels.iter().map(ToString::to_string).collect();
            (family.name.into(), (family.kind.label().into(), labels))
        })
        .collect()
}

pub(crate) fn scraped(scrape: &Scrape) -> Contract {
    let mut contract = Contract::new();
    for sample in &scrape.samples {
        let family = &sample.series.family;
        let mut labels: BTreeSet<String> = sample.series.labels.keys().cloned().collect();
        labels.remove("le");
        let entry = (scrape.types[family].clone(), labels);
        let known = contract.entry(family.clone()).or_insert(entry.clone());
        assert_eq!(*known, entry, "{family} has series with different labels");
    }
    contract
}
