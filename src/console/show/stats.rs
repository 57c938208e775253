//! SHOW STATS and its variants: one list of figures, under the names that each of them has for it.

use std::time::Duration;

use tokio::time::Instant;

use super::{View, by_database};
use crate::console::averages::plus;
use crate::console::table::{Cell, Table, number, text};
use crate::pgwire::ColumnType;
use crate::status::{PoolTotals, StatementMessage};

/// One figure.
struct Figure {
    /// In `SHOW STATS`, behind `total_`.
    name: &'static str,
    /// And behind `avg_`.
    average: &'static str,
    /// In `SHOW STATS_TOTALS`.
    total_column: &'static str,
    /// In `SHOW STATS_AVERAGES`.
    average_column: &'static str,
    /// In `SHOW TOTALS`, behind `total_` and `avg_`.
    row: &'static str,
    value: fn(&PoolTotals) -> u64,
    per: Per,
}

/// What a figure is divided by for its average.
enum Per {
    /// By the seconds that have passed.
    Second,
    /// By how often something was counted in that time.
    Each(fn(&PoolTotals) -> u64),
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

const fn counted(name: &'static str, value: fn(&PoolTotals) -> u64, per: Per) -> Figure {
    Figure {
        name,
        average: name,
        total_column: name,
        average_column: name,
        row: name,
        value,
        per,
    }
}

/// In PgBouncer's order.
static FIGURES: [Figure; 12] = [
    counted("server_assignment_count", |t| t.assignments, Per::Second),
    counted("xact_count", |t| t.transactions, Per::Second),
    counted("query_count", |t| t.queries, Per::Second),
    Figure {
        average: "recv",
        total_column: "bytes_received",
        average_column: "bytes_received",
        row: "client_bytes",
        ..counted("received", |t| t.received, Per::Second)
    },
    Figure {
        total_column: "bytes_sent",
        average_column: "bytes_sent",
        row: "server_bytes",
        ..counted("sent", |t| t.sent, Per::Second)
    },
    counted(
        "xact_time",
        |t| microseconds(t.transaction_time),
        Per::Each(|t| t.transactions),
    ),
    counted(
        "query_time",
        |t| microseconds(t.query_time),
        Per::Each(|t| t.queries),
    ),
    counted(
        "wait_time",
        |t| microseconds(t.wait_time),
        Per::Each(|t| t.assignments),
    ),
    Figure {
        average_column: "avg_client_parse_count",
        row: "ps_client_parse_count",
        ..counted(
            "client_parse_count",
            |t| t.statements[StatementMessage::ClientParse as usize],
            Per::Second,
        )
    },
    Figure {
        average_column: "avg_server_parse_count",
        row: "ps_server_parse_count",
        ..counted(
            "server_parse_count",
            |t| t.statements[StatementMessage::ServerParse as usize],
            Per::Second,
        )
    },
    Figure {
        average_column: "avg_bind_count",
        row: "ps_bind_count",
        ..counted(
            "bind_count",
            |t| t.statements[StatementMessage::Bind as usize],
            Per::Second,
        )
    },
    Figure {
        average_column: "avg_client_login_count",
        row: "client_connect_count",
        ..counted("client_login_count", |t| t.logins, Per::Second)
    },
];

impl Figure {
    fn average_of(&self, (since, over): &(PoolTotals, Duration)) -> u64 {
        let value = (self.value)(since);
        match &self.per {
            Per::Second => {
                let over = over.as_micros().max(1);
                u64::try_from(u128::from(value) * 1_000_000 / over).unwrap_or(u64::MAX)
            }
            Per::Each(count) => value.checked_div(count(since)).unwrap_or_default(),
        }
    }
}

/// What was counted in one database, in all and of late.
struct Counted {
    database: String,
    totals: PoolTotals,
    lately: (PoolTotals, Duration),
}

fn counts(view: &View<'_>) -> Vec<Counted> {
    let now = Instant::now();
    let by_database = by_database(view.shared);
    let averages = view.shared.averages.lock();
    let counted = |(database, totals): (String, PoolTotals)| Counted {
        lately: averages.since(&database, &totals, now),
        database,
        totals,
    };
    by_database.into_iter().map(counted).collect()
}

type Names = fn(&Figure) -> String;

/// A table of a row a database, with these columns of each figure.
fn table(view: &View<'_>, totals: Option<Names>, averages: Option<Names>) -> Table {
    let mut columns = vec![("database".to_owned(), ColumnType::Text)];
    for names in [totals, averages].into_iter().flatten() {
        columns.extend(FIGURES.iter().map(|f| (names(f), ColumnType::Numeric)));
    }
    let row = |counted: Counted| {
        let mut row = vec![text(counted.database)];
        if totals.is_some() {
            row.extend(FIGURES.iter().map(|f| number((f.value)(&counted.totals))));
        }
        if averages.is_some() {
            row.extend(
                FIGURES
                    .iter()
                    .map(|f| number(f.average_of(&counted.lately))),
            );
        }
        row
    };
    Table {
        columns,
        rows: counts(view).into_iter().map(row).collect(),
    }
}

pub(in crate::console) fn stats(view: &View<'_>) -> Table {
    table(
        view,
        Some(|figure| format!("total_{}", figure.name)),
        Some(|figure| format!("avg_{}", figure.average)),
    )
}

pub(in crate::console) fn stats_totals(view: &View<'_>) -> Table {
    table(view, Some(|figure| figure.total_column.to_owned()), None)
}

pub(in crate::console) fn stats_averages(view: &View<'_>) -> Table {
    table(view, None, Some(|figure| figure.average_column.to_owned()))
}

/// All databases together, a row a figure.
pub(in crate::console) fn totals(view: &View<'_>) -> Table {
    let counts = counts(view);
    let sum = |of: fn(&Counted) -> &PoolTotals| {
        let all = counts.iter().map(of);
        all.fold(PoolTotals::default(), |sum, one| plus(&sum, one))
    };
    let over = counts.iter().map(|counted| counted.lately.1).max();
    let lately = (sum(|counted| &counted.lately.0), over.unwrap_or_default());
    let totals = sum(|counted| &counted.totals);
    let row = |kind: &str, figure: &Figure, value| -> Vec<Cell> {
        vec![text(format!("{kind}_{}", figure.row)), number(value)]
    };
    let in_all = FIGURES.iter().map(|f| row("total", f, (f.value)(&totals)));
    let of_late = FIGURES.iter().map(|f| row("avg", f, f.average_of(&lately)));
    Table {
        columns: vec![
            ("name".to_owned(), ColumnType::Text),
            ("value".to_owned(), ColumnType::Numeric),
        ],
        rows: in_all.chain(of_late).collect(),
    }
}
