//! What of the figures is shown: a line each second, and the report.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::figures::{Distribution, Figures};

const CHECKOUTS: &str = "poolwatch_pool_checkouts_total";
const CONNECTIONS: &str = "db_client_connection_count";
const MOST: &str = "db_client_connection_max";
const WAITING: &str = "db_client_connection_pending_requests";
const TIMEOUTS: &str = "db_client_connection_timeouts_total";
const WAITS: &str = "db_client_connection_wait_time_seconds";
const QUERIES: &str = "db_client_operation_duration_seconds";
const TRANSACTIONS: &str = "poolwatch_transactions_total";
const OPENED: &str = "poolwatch_pool_connections_opened_total";
const CLOSED: &str = "poolwatch_pool_connections_closed_total";
const ERRORS: &str = "poolwatch_errors_total";

/// The looks at our own metrics so far.
#[derive(Debug, Default)]
pub(super) struct Watch {
    last: Figures,
    last_at: Duration,
    /// As they stood at the last line.
    line_before: Figures,
    line_at: Duration,
    looks: u32,
    most_used: f64,
    most_waiting: f64,
}

impl Watch {
    /// Takes a scrape, made so long after the start.
    pub(super) fn look(&mut self, figures: Figures, at: Duration) {
        self.most_used = self.most_used.max(used(&figures));
        self.most_waiting = self.most_waiting.max(figures.sum(WAITING));
        self.looks += 1;
        self.last = figures;
        self.last_at = at;
    }

    /// Takes the scrape that the report is made of.
    pub(super) fn finish(&mut self, figures: Figures) {
        self.look(figures, self.last_at);
    }

    /// How it stands, and what happened since the last line.
    pub(super) fn line(&mut self) -> String {
        let (now, before) = (&self.last, &self.line_before);
        let seconds = (self.last_at - self.line_at).as_secs_f64().max(0.001);
        let rate = (now.sum(TRANSACTIONS) - before.sum(TRANSACTIONS)) / seconds;
        let waits = now.distribution(WAITS).since(&before.distribution(WAITS));
        let line = format!(
            "{:>4} s  in use {:>2} of {:<2}  idle {:>2}  waiting {:>2}  {:>5.0} transactions/s  wait p99 {}  timeouts {}  \
             errors {}",
            self.last_at.as_secs(),
            used(now),
            now.sum(MOST),
            now.with(CONNECTIONS, "db_client_connection_state", "idle"),
            now.sum(WAITING),
            rate,
            time(waits.quantile(0.99)),
            now.sum(TIMEOUTS),
            now.sum(ERRORS),
        );
        self.line_before = self.last.clone();
        self.line_at = self.last_at;
        line
    }

    /// The report, of the last scrape.
    pub(super) fn report(&self) -> String {
        let figures = &self.last;
        let mut text = String::from("\nReport, from poolwatch's own /metrics\n");
        let mut row = |name: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {name:<24} {value}");
        };
        row("transactions", figures.sum(TRANSACTIONS).to_string());
        row(
            "queries",
            figures.sum(&format!("{QUERIES}_count")).to_string(),
        );
        row("query duration", spread(&figures.distribution(QUERIES)));
        row(
            "checkouts",
            total_and_parts(figures.sum(CHECKOUTS), &figures.by(CHECKOUTS, "outcome")),
        );
        row(
            "wait for a connection",
            spread(&figures.distribution(WAITS)),
        );
        row("timeouts", figures.sum(TIMEOUTS).to_string());
        row(
            "most seen in use",
            format!(
                "{} of {}, and {} waiting (of {} looks)",
                self.most_used,
                figures.sum(MOST),
                self.most_waiting,
                self.looks
            ),
        );
        row("connections opened", figures.sum(OPENED).to_string());
        row(
            "connections closed",
            total_and_parts(figures.sum(CLOSED), &figures.by(CLOSED, "reason")),
        );
        row(
            "errors told to clients",
            total_and_parts(figures.sum(ERRORS), &figures.by(ERRORS, "class")),
        );
        text
    }
}

fn used(figures: &Figures) -> f64 {
    figures.with(CONNECTIONS, "db_client_connection_state", "used")
}

/// `12 (direct 10, waited 2)`
fn total_and_parts(total: f64, parts: &BTreeMap<String, f64>) -> String {
    if parts.is_empty() {
        return total.to_string();
    }
    let parts: Vec<String> = parts
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    format!("{total} ({})", parts.join(", "))
}

fn spread(distribution: &Distribution) -> String {
    format!(
        "p50 {}, p99 {}",
        time(distribution.quantile(0.5)),
        time(distribution.quantile(0.99))
    )
}

/// Two bounds in seconds as a person reads them; `-` where nothing was observed.
fn time(bounds: Option<(f64, f64)>) -> String {
    let Some((lower, upper)) = bounds else {
        return "-".to_owned();
    };
    let shown = |seconds: f64| {
        if seconds < 1.0 {
            // Bounds are round numbers; a thousand times one of them need not be.
            format!("{} ms", (seconds * 1e6).round() / 1e3)
        } else {
            format!("{seconds} s")
        }
    };
    match (lower, upper) {
        (0.0, upper) => format!("≤ {}", shown(upper)),
        (lower, upper) if upper.is_infinite() => format!("> {}", shown(lower)),
        (lower, upper) => format!("{} to {}", shown(lower), shown(upper)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_shown_by_its_bounds() {
        assert_eq!(time(None), "-");
        assert_eq!(time(Some((0.0, 0.0001))), "≤ 0.1 ms");
        assert_eq!(time(Some((0.25, 0.5))), "250 ms to 500 ms");
        assert_eq!(time(Some((0.75, 2.5))), "750 ms to 2.5 s");
        assert_eq!(time(Some((10.0, f64::INFINITY))), "> 10 s");
    }

    #[test]
    fn the_report_has_the_last_figures_and_the_highest_gauges() {
        let figures = |used: u32, transactions: u32| {
            Figures::parse(&format!(
                "db_client_connection_count{{db_client_connection_state=\"used\"}} {used}\n\
                 db_client_connection_max 35\n\
                 poolwatch_transactions_total {transactions}\n\
                 poolwatch_errors_total{{class=\"query\",sqlstate_class=\"22\"}} 2\n"
            ))
        };
        let mut watch = Watch::default();
        watch.look(figures(35, 10), Duration::from_secs(1));
        assert!(watch.line().contains("   10 transactions/s"));
        watch.look(figures(3, 40), Duration::from_secs(3));
        let line = watch.line();
        assert!(line.contains("in use  3 of 35"), "{line}");
        assert!(line.contains("   15 transactions/s"), "{line}");
        watch.finish(figures(0, 41));
        let report = watch.report();
        assert!(report.contains("35 of 35"), "{report}");
        assert!(report.contains("transactions             41\n"), "{report}");
        assert!(report.contains("2 (query 2)"), "{report}");
    }
}
