//! A table that is shown: each column has its name, its type and where its value comes from in one place.

use std::time::{Duration, SystemTime};

use crate::pgwire::{ColumnType, Replies};

/// A value as text; `None` is NULL.
pub(super) type Cell = Option<String>;

/// One column of rows made of `T`.
pub(super) struct Column<T>(
    pub(super) &'static str,
    pub(super) ColumnType,
    pub(super) fn(&T) -> Cell,
);

/// Rows that are ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) columns: Vec<(String, ColumnType)>,
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Each of these with these columns.
    pub(super) fn of<T>(columns: &[Column<T>], items: impl IntoIterator<Item = T>) -> Self {
        let row = |item: T| columns.iter().map(|column| (column.2)(&item)).collect();
        Self {
            columns: columns
                .iter()
                .map(|column| (column.0.to_owned(), column.1))
                .collect(),
            rows: items.into_iter().map(row).collect(),
        }
    }

    /// Appends it to what is sent.
    pub(super) fn send(&self, replies: &mut Replies) {
        replies.row_description(&self.columns);
        for row in &self.rows {
            replies.data_row(row);
        }
    }
}

pub(super) fn text(value: impl Into<String>) -> Cell {
    Some(value.into())
}

/// An `int4`, which is as large as it can be at most.
pub(super) fn int(value: impl TryInto<i32>) -> Cell {
    Some(value.try_into().unwrap_or(i32::MAX).to_string())
}

/// A whole number of any size.
pub(super) fn number(value: u64) -> Cell {
    Some(value.to_string())
}

/// A time, as PgBouncer writes it; always UTC.
pub(super) fn time(value: SystemTime) -> Cell {
    let text = humantime::format_rfc3339_seconds(value).to_string();
    Some(text.replace('T', " ").replace('Z', " UTC"))
}

/// The whole seconds of a duration.
pub(super) fn seconds(value: Duration) -> Cell {
    int(value.as_secs())
}

/// And the microseconds beyond them.
pub(super) fn microseconds(value: Duration) -> Cell {
    int(value.subsec_micros())
}
