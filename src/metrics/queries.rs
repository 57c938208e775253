//! The figures of queries by fingerprint, asked for at the scrape.

use super::families as f;
use super::scrape::Scrape;

/// The label of what has no series of its own.
const OTHER: &str = "other";

/// What some queries came to, for ever growing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct QuerySeries {
    /// Queries that ended.
    pub calls: u64,
    /// Those with an error.
    pub errors: u64,
    /// Rows that they returned or changed.
    pub rows: u64,
    /// Their time, the wait for a server included.
    pub seconds: f64,
}

/// The queries of this process at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QuerySamples {
    /// Fingerprint, summary and figures of those that have series of their own. Their number is bounded by a setting, and no
    /// literal is in them.
    pub top: Vec<(String, String, QuerySeries)>,
    /// The others together.
    pub other: QuerySeries,
    /// All together.
    pub all: QuerySeries,
    /// Queries that were slow.
    pub slow_queries: u64,
    /// Of these, those that were not kept.
    pub slow_left_out: u64,
    /// Fingerprints that are told apart.
    pub fingerprints: usize,
    /// How many can be.
    pub limit: usize,
}

impl QuerySamples {
    pub(super) fn collect(&self, out: &mut Scrape) {
        let by_fingerprint = |out: &mut Scrape, fingerprint: &str, series: &QuerySeries| {
            let labels = [fingerprint];
            out.counter(&f::QUERY_CALLS, &labels, series.calls);
            out.counter(&f::QUERY_ERRORS, &labels, series.errors);
            out.counter(&f::QUERY_ROWS, &labels, series.rows);
            out.seconds(&f::QUERY_SECONDS, &labels, series.seconds);
        };
        for (fingerprint, summary, series) in &self.top {
            by_fingerprint(out, fingerprint, series);
            out.gauge(&f::QUERY_INFO, &[fingerprint, summary], 1.0);
        }
        by_fingerprint(out, OTHER, &self.other);
        out.counter(&f::QUERIES, &[], self.all.calls);
        out.counter(&f::QUERIES_ERRORS, &[], self.all.errors);
        out.counter(&f::QUERIES_ROWS, &[], self.all.rows);
        out.seconds(&f::QUERIES_SECONDS, &[], self.all.seconds);
        out.counter(&f::SLOW_QUERIES, &[], self.slow_queries);
        out.counter(&f::SLOW_QUERIES_LEFT_OUT, &[], self.slow_left_out);
        out.gauge(&f::QUERY_FINGERPRINTS, &[], self.fingerprints as f64);
        out.gauge(&f::QUERY_FINGERPRINTS_LIMIT, &[], self.limit as f64);
    }
}
