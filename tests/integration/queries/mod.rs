//! Queries by fingerprint: how many there were, what they came to and where their time went.

mod api;
mod counts;
mod leaks;
mod phases;
mod secrets;
mod slow;
mod statements;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::support::raw::Raw;
use crate::support::{Sidecar, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// The rows of an answer, by the names of their columns.
type Rows = Vec<BTreeMap<String, String>>;

/// The rows that the console answers; NULL is `~`.
async fn shown(address: SocketAddr, command: &str) -> Rows {
    let mut console = Raw::login(address, "pgbouncer").await;
    let messages = console.ask(&crate::support::raw::query(command)).await;
    let columns = messages
        .iter()
        .find(|message| message.tag == 'T')
        .unwrap_or_else(|| panic!("no columns: {messages:?}"));
    let names = names(&columns.body);
    let rows = messages.iter().filter(|message| message.tag == 'D');
    rows.map(|row| names.iter().cloned().zip(row.row()).collect())
        .collect()
}

/// The names in a RowDescription.
fn names(mut body: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    body = &body[2..];
    while !body.is_empty() {
        let end = body.iter().position(|byte| *byte == 0).expect("a name");
        names.push(String::from_utf8_lossy(&body[..end]).into_owned());
        body = &body[end + 1 + 18..];
    }
    names
}

/// A query by fingerprint.
#[derive(Debug, Clone, Default)]
struct Shown(BTreeMap<String, String>);

impl Shown {
    /// The one whose text has this word in it; one that has not run yet has only zeros.
    async fn of(sidecar: &Sidecar, word: &str) -> Self {
        let found = Self::all(sidecar).await.into_iter();
        let mut found = found.filter(|query| query.0["query"].contains(word));
        let one = found.next().unwrap_or_default();
        if let Some(other) = found.next() {
            panic!("two with {word:?}: {one:?} {other:?}");
        }
        one
    }

    async fn all(sidecar: &Sidecar) -> Vec<Self> {
        let rows = shown(sidecar.proxy_addr(), "SHOW QUERIES").await;
        rows.into_iter().map(Self).collect()
    }

    fn number(&self, column: &str) -> u64 {
        let cell = self.0.get(column).map_or("0", String::as_str);
        if cell == "~" {
            return 0;
        }
        cell.parse()
            .unwrap_or_else(|_| panic!("{column} is {cell:?}"))
    }

    /// A time, in the console's microseconds.
    fn time(&self, column: &str) -> Duration {
        Duration::from_micros(self.number(column))
    }

    fn calls(&self) -> u64 {
        self.number("calls")
    }
}

/// Waits until a query with this word in its text has ended so often, and returns it.
async fn ended(sidecar: &Sidecar, word: &str, calls: u64) -> Shown {
    eventually(LIMIT, || async {
        let shown = Shown::of(sidecar, word).await;
        match shown.calls() {
            found if found == calls => Ok(shown),
            found => Err(format!("{word}: {found} calls, not {calls}")),
        }
    })
    .await
}
