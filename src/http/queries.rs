//! `GET /api/v1/queries` and `/slow-queries`: which queries there are, and which were slow.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::openapi::{Refused, RefusedPage};
use super::paging::Paging;
use super::problem::Problem;
use super::server::HttpState;
use crate::status::{Figures, Queries, QueryView, SlowQuery, SqlState, Window};

/// Which queries are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// How far back figures go: since the start, or the last minutes.
    window: Option<Back>,
    /// What they are ordered by, the largest in front.
    sort: Option<Sort>,
    /// Only those with this verb, such as `SELECT`.
    #[param(max_length = 63)]
    operation: Option<String>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 10_000, default = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; without it the list begins.
    #[param(max_length = 1000, pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// How far back.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
enum Back {
    /// Since the start.
    #[default]
    #[serde(rename = "start")]
    Start,
    #[serde(rename = "1m")]
    Minute,
    #[serde(rename = "5m")]
    Minutes5,
    #[serde(rename = "15m")]
    Minutes15,
    #[serde(rename = "60m")]
    Hour,
}

/// By what.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Sort {
    /// Their time together.
    #[default]
    Total,
    Calls,
    Mean,
    P99,
    Rows,
    Errors,
}

/// Queries by fingerprint.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueryList {
    window: Back,
    /// All queries.
    total: FiguresBody,
    /// Those of fingerprints that have lost their places in the table, together.
    rest: FiguresBody,
    /// Fingerprints that have a place.
    fingerprints: usize,
    /// How many can have one.
    fingerprint_limit: usize,
    queries: Vec<QueryBody>,
    /// The cursor of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// One fingerprint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Query)]
struct QueryBody {
    /// 16 hexadecimal digits.
    fingerprint: String,
    /// Verbs and tables.
    summary: String,
    operation: String,
    /// The text without its literals.
    text: String,
    figures: FiguresBody,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    first_seen: String,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    last_seen: String,
    /// The SQLSTATE of the last error; null where there was none.
    last_error: Option<String>,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    last_error_at: Option<String>,
    /// How many were left by their clients, or lost with their servers. They are in no other figure.
    unfinished: u64,
    /// What they may have taken before the fingerprint had a place, at most.
    missed_at_most_seconds: f64,
    /// The most frequent sets of SQLCommenter's tags.
    tags: Vec<TagsBody>,
}

/// A set of tags.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tags)]
struct TagsBody {
    tags: String,
    /// How often it came, at most.
    calls: u64,
}

/// What some queries come to. Times are their time in poolwatch, the wait for a server included.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Figures)]
struct FiguresBody {
    calls: u64,
    errors: u64,
    /// Returned or changed.
    rows: u64,
    received_bytes: u64,
    sent_bytes: u64,
    total_seconds: f64,
    wait_seconds: f64,
    connect_seconds: f64,
    execute_seconds: f64,
    transfer_seconds: f64,
    /// Null where none has ended, as are the next ones.
    mean_seconds: Option<f64>,
    min_seconds: Option<f64>,
    max_seconds: Option<f64>,
    /// Within 1/32 of the true value, as are the next two.
    p50_seconds: Option<f64>,
    p95_seconds: Option<f64>,
    p99_seconds: Option<f64>,
}

/// Which slow queries are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WantedSlow {
    /// Only of this user.
    #[param(max_length = 256)]
    user: Option<String>,
    /// Only in this database.
    #[param(max_length = 256)]
    database: Option<String>,
    /// Only with this verb, such as `SELECT`.
    #[param(max_length = 63)]
    operation: Option<String>,
    /// Only of this fingerprint.
    #[param(max_length = 16)]
    fingerprint: Option<String>,
    /// Only those that took so long or longer.
    #[param(minimum = 0, maximum = 1_000_000_000)]
    min_seconds: Option<f64>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 10_000, default = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; without it the list begins.
    #[param(max_length = 1000, pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// Slow queries.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SlowList {
    /// From when on a query is slow, where no rule says otherwise.
    threshold_seconds: f64,
    /// How many there were since the start.
    seen: u64,
    /// Of these, how many were not kept, since there were too many at once.
    left_out: u64,
    slow_queries: Vec<SlowBody>,
    /// The cursor of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// One slow query.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SlowQuery)]
struct SlowBody {
    /// Ascending.
    number: u64,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    ended_at: String,
    fingerprint: String,
    summary: String,
    /// Without its literals.
    text: String,
    /// As it was sent; null unless `queries.log_literals` is on.
    literal_text: Option<String>,
    total_seconds: f64,
    wait_seconds: f64,
    connect_seconds: f64,
    execute_seconds: f64,
    transfer_seconds: f64,
    rows: u64,
    received_bytes: u64,
    sent_bytes: u64,
    sqlstate: Option<String>,
    user: String,
    database: String,
    application_name: String,
    pool: String,
    /// The client's id.
    client: u64,
    /// Of the server that ran it, as in `pg_stat_activity`.
    server_process_id: Option<i32>,
    /// Whether the session kept its server beyond the transaction.
    pinned: bool,
    /// SQLCommenter's.
    tags: Option<String>,
    /// Of `traceparent`.
    trace_id: Option<String>,
}

/// Queries by fingerprint.
///
/// `total` is the sum over all fingerprints and `rest`.
#[utoipa::path(get, path = "/api/v1/queries", tag = "queries", operation_id = "queries", params(Wanted),
    responses((status = 200, body = QueryList), Refused, RefusedPage))]
pub(super) async fn queries(
    State(state): State<HttpState>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<QueryList>, Problem> {
    let Wanted {
        window,
        sort,
        operation,
        limit,
        cursor,
    } = given(wanted)?;
    let (window, sort) = (window.unwrap_or_default(), sort.unwrap_or_default());
    let paging = Paging::checked(limit, cursor)?;
    let mut view = told_apart(&state)?.view(window.into());
    if let Some(operation) = &operation {
        let has = |query: &QueryView| query.description.operation.eq_ignore_ascii_case(operation);
        view.queries.retain(has);
    }
    let key = |query: &QueryView| {
        let value = sort.of(&query.figures);
        (u64::MAX - value, query.description.fingerprint.0)
    };
    let (page, next_cursor) = paging.page("queries", view.queries, key)?;
    Ok(Json(QueryList {
        window,
        total: (&view.total).into(),
        rest: (&view.rest).into(),
        fingerprints: view.fingerprints,
        fingerprint_limit: view.limit,
        queries: page.into_iter().map(QueryBody::from).collect(),
        next_cursor,
    }))
}

/// The slow queries that are kept, the newest in front.
#[utoipa::path(get, path = "/api/v1/slow-queries", tag = "queries", operation_id = "slow_queries", params(WantedSlow),
    responses((status = 200, body = SlowList), Refused, RefusedPage))]
pub(super) async fn slow_queries(
    State(state): State<HttpState>,
    wanted: Result<Query<WantedSlow>, QueryRejection>,
) -> Result<Json<SlowList>, Problem> {
    let wanted = given(wanted)?;
    let paging = Paging::checked(wanted.limit, wanted.cursor.clone())?;
    let queries = told_apart(&state)?;
    let slow = queries.slow(usize::MAX, |slow| wanted.fits(slow));
    let key = |slow: &Arc<SlowQuery>| u64::MAX - slow.number;
    let (page, next_cursor) = paging.page("slow-queries", slow, key)?;
    let (seen, left_out) = queries.slow_counts();
    Ok(Json(SlowList {
        threshold_seconds: queries.slow_thresholds().threshold.as_secs_f64(),
        seen,
        left_out,
        slow_queries: page.iter().map(|slow| SlowBody::from(&**slow)).collect(),
        next_cursor,
    }))
}

fn given<T>(wanted: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    let Query(wanted) = wanted.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    Ok(wanted)
}

fn told_apart(state: &HttpState) -> Result<&Queries, Problem> {
    state.status.queries().ok_or_else(|| {
        Problem::with(
            StatusCode::NOT_FOUND,
            "Queries are not told apart: queries.enabled is off.",
        )
    })
}

impl From<Back> for Window {
    fn from(back: Back) -> Self {
        match back {
            Back::Start => Window::Start,
            Back::Minute => Window::Minute,
            Back::Minutes5 => Window::Minutes5,
            Back::Minutes15 => Window::Minutes15,
            Back::Hour => Window::Hour,
        }
    }
}

impl Sort {
    fn of(self, figures: &Figures) -> u64 {
        let nanoseconds = |duration: Option<Duration>| {
            u64::try_from(duration.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
        };
        match self {
            Sort::Total => nanoseconds(Some(figures.total())),
            Sort::Calls => figures.calls,
            Sort::Mean => nanoseconds(figures.mean()),
            Sort::P99 => nanoseconds(figures.p99),
            Sort::Rows => figures.rows,
            Sort::Errors => figures.errors,
        }
    }
}

impl WantedSlow {
    fn fits(&self, slow: &SlowQuery) -> bool {
        let is = |wanted: &Option<String>, has: &str| {
            wanted
                .as_deref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(has))
        };
        let exactly = |wanted: &Option<String>, has: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == has)
        };
        exactly(&self.user, &slow.origin.user)
            && exactly(&self.database, &slow.origin.database)
            && is(&self.operation, &slow.description.operation)
            && is(&self.fingerprint, &slow.description.fingerprint.to_string())
            && self
                .min_seconds
                .is_none_or(|least| slow.phases.total().as_secs_f64() >= least)
    }
}

impl From<QueryView> for QueryBody {
    fn from(query: QueryView) -> Self {
        let error = query.last_error;
        Self {
            fingerprint: query.description.fingerprint.to_string(),
            summary: query.description.summary.to_string(),
            operation: query.description.operation.to_string(),
            text: query.description.text.to_string(),
            figures: (&query.figures).into(),
            first_seen: time(query.first_seen),
            last_seen: time(query.last_seen),
            last_error: error.map(|(state, _)| state.as_str().to_owned()),
            last_error_at: error.map(|(_, at)| time(at)),
            unfinished: query.unfinished,
            missed_at_most_seconds: query.missed_at_most.as_secs_f64(),
            tags: query
                .tags
                .into_iter()
                .map(|(tags, calls)| TagsBody {
                    tags: tags.into(),
                    calls,
                })
                .collect(),
        }
    }
}

impl From<&Figures> for FiguresBody {
    fn from(figures: &Figures) -> Self {
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
        let phases = figures.phases;
        Self {
            calls: figures.calls,
            errors: figures.errors,
            rows: figures.rows,
            received_bytes: figures.received,
            sent_bytes: figures.sent,
            total_seconds: figures.total().as_secs_f64(),
            wait_seconds: phases.wait.as_secs_f64(),
            connect_seconds: phases.connect.as_secs_f64(),
            execute_seconds: phases.execute.as_secs_f64(),
            transfer_seconds: phases.transfer.as_secs_f64(),
            mean_seconds: seconds(figures.mean()),
            min_seconds: seconds(figures.min),
            max_seconds: seconds(figures.max),
            p50_seconds: seconds(figures.p50),
            p95_seconds: seconds(figures.p95),
            p99_seconds: seconds(figures.p99),
        }
    }
}

impl From<&SlowQuery> for SlowBody {
    fn from(slow: &SlowQuery) -> Self {
        let (phases, more) = (slow.phases, &slow.circumstances);
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        Self {
            number: slow.number,
            ended_at: time(slow.at),
            fingerprint: slow.description.fingerprint.to_string(),
            summary: slow.description.summary.to_string(),
            text: slow.description.text.to_string(),
            literal_text: text(&more.literal),
            total_seconds: phases.total().as_secs_f64(),
            wait_seconds: phases.wait.as_secs_f64(),
            connect_seconds: phases.connect.as_secs_f64(),
            execute_seconds: phases.execute.as_secs_f64(),
            transfer_seconds: phases.transfer.as_secs_f64(),
            rows: slow.rows,
            received_bytes: slow.received,
            sent_bytes: slow.sent,
            sqlstate: slow
                .failure
                .as_ref()
                .map(SqlState::as_str)
                .map(str::to_owned),
            user: slow.origin.user.clone(),
            database: slow.origin.database.clone(),
            application_name: slow.origin.application.clone(),
            pool: slow.origin.pool.clone(),
            client: more.client,
            server_process_id: more.server_pid,
            pinned: more.pinned,
            tags: text(&more.tags),
            trace_id: text(&more.trace_id),
        }
    }
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
