//! Collects the samples of one scrape.

use std::collections::BTreeMap;

use prometheus::Histogram;
use prometheus::core::Metric as _;
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};

use super::family::{Family, Kind};

/// The samples of one scrape, by name. The registry sorts and the encoder escapes.
#[derive(Default)]
pub(super) struct Scrape {
    families: BTreeMap<&'static str, MetricFamily>,
}

impl Scrape {
    /// One counter's value.
    pub(super) fn counter(&mut self, family: &Family, labels: &[&str], value: u64) {
        self.seconds(family, labels, value as f64);
    }

    /// One counter's value that is no whole number.
    pub(super) fn seconds(&mut self, family: &Family, labels: &[&str], value: f64) {
        debug_assert_eq!(family.kind, Kind::Counter);
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        let mut metric = Metric::default();
        metric.set_counter(counter);
        self.push(family, labels, metric);
    }

    /// One gauge's value.
    pub(super) fn gauge(&mut self, family: &Family, labels: &[&str], value: f64) {
        debug_assert_eq!(family.kind, Kind::Gauge);
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        self.push(family, labels, Metric::from_gauge(gauge));
    }

    /// One histogram's buckets, sum and count.
    pub(super) fn histogram(&mut self, family: &Family, labels: &[&str], histogram: &Histogram) {
        debug_assert!(matches!(family.kind, Kind::Histogram(_)));
        self.push(family, labels, histogram.metric());
    }

    /// One counter's or gauge's value, by its family's own kind.
    pub(super) fn sample(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        match family.kind {
            Kind::Counter => self.seconds(family, labels, value),
            Kind::Gauge | Kind::Histogram(_) => self.gauge(family, labels, value),
        }
    }

    /// A histogram whose bounds and sum are so many times those of another.
    pub(super) fn scaled(
        &mut self,
        family: &Family,
        labels: &[&str],
        histogram: &Histogram,
        factor: f64,
    ) {
        let mut metric = histogram.metric();
        let mut scaled = metric.get_histogram().clone();
        scaled.set_sample_sum(scaled.get_sample_sum() * factor);
        let buckets = scaled.get_bucket().iter().cloned().map(|mut bucket| {
            bucket.set_upper_bound(bucket.upper_bound() * factor);
            bucket
        });
        let buckets = buckets.collect();
        scaled.set_bucket(buckets);
        metric.set_histogram(scaled);
        self.push(family, labels, metric);
    }

    /// What was collected.
    pub(super) fn finish(self) -> Vec<MetricFamily> {
        self.families.into_values().collect()
    }

    fn push(&mut self, family: &Family, labels: &[&str], mut metric: Metric) {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let pairs = family.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        metric.set_label(pairs.collect());
        self.families
            .entry(family.name)
            .or_insert_with(|| empty(family))
            .mut_metric()
            .push(metric);
    }
}

fn empty(family: &Family) -> MetricFamily {
    let mut empty = MetricFamily::default();
    empty.set_name(family.name.to_owned());
    empty.set_help(family.help.to_owned());
    empty.set_field_type(match family.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram(_) => MetricType::HISTOGRAM,
    });
    empty
}

/// A histogram without labels; they are put on at the scrape.
pub(super) fn new_histogram(family: &Family) -> Histogram {
    let bounds = match family.kind {
        Kind::Histogram(bounds) => bounds.to_vec(),
        Kind::Counter | Kind::Gauge => Vec::new(),
    };
    let options = prometheus::HistogramOpts::new(family.name, family.help).buckets(bounds);
    // Fails for a bad name or unsorted bounds; both are constants, and tests build every one of them.
    Histogram::with_opts(options).expect("constant name and bounds are valid")
}
