//! Histogram bounds, in seconds but for rows, each list with its reason.

/// The bounds OpenTelemetry gives for `db.client.operation.duration` (semantic conventions, database metrics), so that
/// dashboards made for any OpenTelemetry client fit.
pub(super) const OPERATION: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// What a pool does takes from microseconds (an idle connection is there) to the checkout timeout, 30 s by default.
///
/// The conventions give no bounds for these, so: the operation's, finer below 5 ms where a healthy pool lives and where
/// a local PostgreSQL accepts a connection, a step at each quarter, and 30 s and 60 s so that a timeout is not lost
/// in `+Inf`.
pub(super) const POOL: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// The bounds OpenTelemetry gives for `db.client.response.returned_rows`.
pub(super) const ROWS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ascend_and_pool_bounds_contain_the_operations() {
        for list in [OPERATION, POOL, ROWS] {
            assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "{list:?}");
        }
        assert!(OPERATION.iter().all(|bound| POOL.contains(bound)));
    }
}
