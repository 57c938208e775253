//! Settings: what the program runs on, where each value came from, and what is wrong with those that cannot be.
//!
//! [`Settings`] is the typed tree, with its defaults. [`ROWS`] has one row a key (meaning, unit, reloadable or not, the
//! names that other programs give it); everything that treats keys alike goes through it: reading, `config show`,
//! `docs/settings.md`, `config/default.toml`, and the difference that a reload makes.
//!
//! [`load()`] reads the layers in this order, a later one winning over an earlier one, and reports every bad or unknown
//! key at once, each with its origin:
//!
//! 1. the defaults,
//! 2. drop-in names: variables that the application has already (`DATABASE_URL`, `LETTA_PG_POOL_SIZE`, `PGHOST` …),
//! 3. the files given with `--config`, in their order,
//! 4. secrets: `/run/secrets/NAME`, then `NAME_FILE`, where `NAME` is the variable of the next layer,
//! 5. the environment, `POOLWATCH_SECTION__KEY`,
//! 6. the command line.
//!
//! Only `app` and `ops` see this module; every other part is given its own settings by them.

mod check;
mod diff;
#[cfg(test)]
mod docs;
mod drop_in;
mod environment;
mod file;
mod load;
mod origin;
mod problem;
mod settings;
mod sources;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use diff::Change;
pub use load::{Loaded, load};
pub use origin::Origin;
pub use problem::{Problem, Problems, Wrong};
pub use settings::{
    Admin, Auth, Http, Init, Limits, Listen, Log, Migrate, Pool, Queries, Settings, Shutdown,
    Threads, Upstream,
};
pub use sources::{Argument, ReadFile, Sources};
pub use table::{DropIn, ROWS, Row, Rule};
pub use value::{
    Addresses, AuthMethod, DropPublic, LogFormat, LogLevel, Names, PoolMode, ResetOnReturn,
    ServerReset, SlowRules, TlsVersion, ValueError, VectorMode,
};
