//! From an accepted connection to a session, or to a clear refusal.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::authenticate::Refused;
use super::handshake::{Login, handshake};
use super::newcomer::{Newcomer, channel, prove};
use super::session::Session;
use super::sharing::Sharing;
use super::traffic::Traffic;
use super::{PoolMode, Shared, replication, visit};
use crate::auth::{AuthError, Identity};
use crate::backend::{ConnectError, Credentials, Lease, Server};
use crate::clients::{
    ClientAddr, ClientGuard, ClientInfo, ClientState, Connection, TooManyClients,
};
use crate::cluster::{Base, CheckoutFailure, PoolHandle, RouteError};
use crate::console::{self, Console};
use crate::error::{Class, ClientError};
use crate::metrics::{Limit, LoginOutcome, PinReason};
use crate::pgwire::{CancelKey, Replies, ServerMessage, Severity, StartupParameters};
use crate::pool::Outside;
use crate::tls::Stream;

/// What a login came to.
enum Outcome {
    /// A session that can run.
    Session(Box<Session>, Option<Lease>),
    /// A replication connection.
    Replication(Box<replication::Replication>),
    /// A session at the console.
    Console(Box<console::Session>),
    /// Nothing more to do: a cancel request, a refusal that was told, or a client that left.
    Over,
}

/// Serves one accepted connection to its end.
pub(super) async fn serve(shared: Arc<Shared>, stream: Stream, address: ClientAddr) {
    let limit = shared.settings.login_timeout;
    let mut login = Box::pin(tokio::time::timeout(
        limit,
        log_in(&shared, stream, address),
    ));
    let outcome = login.as_mut().await;
    if outcome.is_err() {
        // Counted before the client sees its connection closed, which dropping the login does.
        shared.metrics.login(LoginOutcome::Timeout);
        tracing::info!(?limit, "login not finished in time");
    }
    drop(login);
    match outcome {
        Ok(Outcome::Session(session, held)) => session.run(held).await,
        Ok(Outcome::Replication(replication)) => replication.run().await,
        Ok(Outcome::Console(visitor)) => visitor.start(),
        Ok(Outcome::Over) | Err(_) => {}
    }
}

async fn log_in(shared: &Arc<Shared>, stream: Stream, address: ClientAddr) -> Outcome {
    let handshake = tokio::select! {
        handshake = handshake(stream, &shared.tls) => handshake,
        // What is lost is a client that has not said what it wants: nothing can be told to it, and it is not waited for.
        () = shared.tasks.stopping() => {
            shared.metrics.login(LoginOutcome::Unavailable);
            return Outcome::Over;
        }
    };
    match handshake {
        Ok(Login::Session {
            stream,
            end_point,
            minor,
            parameters,
        }) => {
            let channel = channel(&stream, end_point, address);
            let client = Newcomer {
                stream,
                minor,
                parameters,
                channel,
                address,
            };
            open(shared, client).await
        }
        Ok(Login::Cancel { key, mut stream }) => {
            cancel(shared, &key).await;
            // libpq takes an end of TLS that was not announced for a failed request.
            let _ = stream.shutdown().await;
            Outcome::Over
        }
        Err((error, stream)) => {
            tracing::debug!(error = crate::error::chain(&error), "handshake failed");
            shared.metrics.login(if stream.is_some() {
                LoginOutcome::Protocol
            } else {
                LoginOutcome::Gone
            });
            if let Some(mut stream) = stream {
                refuse(shared, &mut stream, &error).await;
            }
            Outcome::Over
        }
    }
}

async fn cancel(shared: &Shared, key: &CancelKey) {
    if let Some(aim) = shared.controls.cancel(key)
        && let Err(error) = aim.send().await
    {
        tracing::warn!(
            error = crate::error::chain(&error),
            "cancel request could not be passed on"
        );
    }
}

async fn open(shared: &Arc<Shared>, mut client: Newcomer) -> Outcome {
    let proved = tokio::select! {
        proved = prove(shared, &mut client) => proved,
        // What is lost is a login that is told so and may begin elsewhere.
        () = shared.tasks.stopping() => {
            return deny(shared, &mut client.stream, &RouteError::Closed).await;
        }
    };
    let (identity, credentials) = match proved {
        Ok(proved) => proved,
        Err(Refused::Auth(error)) => return unproved(shared, &mut client.stream, &error).await,
        Err(Refused::Gone(error)) => return gone(shared, &error),
    };
    if Console::is_meant(&identity.database) {
        return match visit::enter(shared, client, identity) {
            Ok(mut session) => match session.greet().await {
                Ok(()) => {
                    shared.metrics.login(LoginOutcome::Ok);
                    Outcome::Console(Box::new(session))
                }
                Err(error) => gone(shared, &error),
            },
            Err((error, mut stream)) => deny(shared, &mut stream, &error).await,
        };
    }
    match admit(shared, &client, &identity, &credentials).await {
        Ok(admitted) => match greet(shared, client, admitted).await {
            Ok(outcome) => {
                shared.metrics.login(LoginOutcome::Ok);
                outcome
            }
            Err(error) => gone(shared, &error),
        },
        Err(error) => deny(shared, &mut client.stream, error.told()).await,
    }
}

fn gone(shared: &Shared, error: &std::io::Error) -> Outcome {
    tracing::debug!(%error, "the client left during its login");
    shared.metrics.login(LoginOutcome::Gone);
    Outcome::Over
}

async fn deny(
    shared: &Shared,
    stream: &mut Stream,
    error: &(dyn ClientError + Send + Sync),
) -> Outcome {
    shared.metrics.login(refused(error.class()));
    tracing::warn!(
        class = error.class().label(),
        sqlstate = error.sqlstate(),
        error = error.client_message(),
        "login refused"
    );
    refuse(shared, stream, error).await;
    Outcome::Over
}

/// Counts and logs why a client did not prove who it is, and tells it less.
async fn unproved(shared: &Shared, stream: &mut Stream, error: &AuthError) -> Outcome {
    shared.metrics.login(refused(error.class()));
    shared.metrics.authentication_failed(error.failure());
    if matches!(error, AuthError::TooManyWaiting(_)) {
        shared.metrics.limit_rejected(Limit::FailedLogins);
    }
    tracing::warn!(
        class = error.class().label(),
        sqlstate = error.sqlstate(),
        reason = error.failure().label(),
        error = crate::error::chain(error),
        "authentication failed"
    );
    refuse(shared, stream, error).await;
    Outcome::Over
}

/// What a refusal of this kind is counted as.
fn refused(class: Class) -> LoginOutcome {
    match class {
        Class::Limit | Class::PoolTimeout | Class::Cancelled => LoginOutcome::Limit,
        Class::Authentication => LoginOutcome::AuthenticationFailed,
        Class::Rejected | Class::Unsupported => LoginOutcome::Rejected,
        Class::Protocol => LoginOutcome::Protocol,
        Class::Connect | Class::ServerLost | Class::Internal => LoginOutcome::Upstream,
        Class::Starting | Class::Shutdown | Class::Paused => LoginOutcome::Unavailable,
    }
}

/// A client that may come in, with all that a session needs.
struct Admitted {
    pool: Arc<PoolHandle>,
    registration: ClientGuard,
    kind: Kind,
}

enum Kind {
    Session(Arc<Base>, Option<Lease>),
    Replication(Box<crate::backend::Server>, Outside),
}

/// Why a client does not come in.
#[derive(Debug, thiserror::Error)]
enum LoginError {
    #[error(transparent)]
    Clients(#[from] TooManyClients),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error(transparent)]
    Checkout(#[from] CheckoutFailure),
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl LoginError {
    /// What PostgreSQL itself said, if it is its refusal.
    fn server_error(&self) -> Option<&ServerMessage> {
        match self {
            LoginError::Checkout(error) => error.server_error(),
            LoginError::Connect(error) => error.server_error(),
            LoginError::Clients(_) | LoginError::Route(_) => None,
        }
    }

    /// Each of them says itself what the client may be told.
    fn told(&self) -> &(dyn ClientError + Send + Sync) {
        match self {
            LoginError::Clients(error) => error,
            LoginError::Route(error) => error,
            LoginError::Checkout(error) => error,
            LoginError::Connect(error) => error,
        }
    }
}

/// Takes what a session needs. Only now: who has proved nothing takes no place of those who have.
async fn admit(
    shared: &Arc<Shared>,
    client: &Newcomer,
    identity: &Identity,
    credentials: &Credentials,
) -> Result<Admitted, LoginError> {
    let parameters = &client.parameters;
    let registration = shared.clients.register(info(identity, client))?;
    let pool = shared
        .cluster
        .pool(&identity.user, &identity.database, credentials)
        .inspect_err(|error| {
            if error.class() == Class::Limit {
                shared.metrics.limit_rejected(Limit::Pools);
            }
        })?;
    let entering = shared.cluster.entering(&pool);
    let kind = tokio::select! {
        kind = enter(shared, &pool, parameters) => kind,
        // What is lost is a login: its place in a queue, or a server, which is closed.
        () = registration.ended() => Err(LoginError::Route(RouteError::Closed)),
    };
    match &kind {
        Ok(_) => entering.succeeded(),
        Err(error) => {
            if matches!(error, LoginError::Checkout(failure) if failure.no_room()) {
                shared.metrics.limit_rejected(Limit::Servers);
            }
            entering.failed(error.server_error());
        }
    }
    Ok(Admitted {
        kind: kind?,
        pool,
        registration,
    })
}

async fn enter(
    shared: &Shared,
    pool: &PoolHandle,
    parameters: &StartupParameters,
) -> Result<Kind, LoginError> {
    if replication::kind(parameters).is_some() {
        let room = pool.pool.outside().await.map_err(CheckoutFailure::from)?;
        let server = replication::connect(pool, parameters).await?;
        return Ok(Kind::Replication(Box::new(server), room));
    }
    let (base, held) = first_lease(shared, pool, parameters).await?;
    Ok(Kind::Session(base, held))
}

async fn first_lease(
    shared: &Shared,
    pool: &PoolHandle,
    parameters: &StartupParameters,
) -> Result<(Arc<Base>, Option<Lease>), CheckoutFailure> {
    let limit = shared.settings.reset_timeout;
    let base = pool.base(parameters, limit).await?;
    if shared.settings.mode == PoolMode::Transaction {
        return Ok((base, None));
    }
    let mut lease = pool.checkout().await?;
    pool.align(&base, &mut lease, limit).await?;
    Ok((base, Some(lease)))
}

fn info(identity: &Identity, client: &Newcomer) -> ClientInfo {
    ClientInfo {
        user: identity.user.clone(),
        database: identity.database.clone(),
        application_name: client
            .parameters
            .value("application_name")
            .unwrap_or_default()
            .to_owned(),
        addr: client.address,
        connection: connection(client),
    }
}

/// What is known of a client's connection.
pub(super) fn connection(client: &Newcomer) -> Connection {
    let stream = &client.stream;
    Connection {
        local: stream.addresses().map(|(_, ours)| ours),
        tls: stream.tls_description(),
        process_id: stream.peer_process().and_then(|(_, process)| process),
        replication: replication::kind(&client.parameters),
    }
}

/// Tells the client that it is in, and makes its session.
async fn greet(
    shared: &Arc<Shared>,
    client: Newcomer,
    admitted: Admitted,
) -> std::io::Result<Outcome> {
    let (minor, mut stream) = (client.minor, client.stream);
    let Admitted {
        pool,
        registration,
        kind,
    } = admitted;
    // The server that is this client's until it leaves, as if it had connected there.
    let own_server = match &kind {
        Kind::Session(_, held) => held
            .as_ref()
            .filter(|_| shared.settings.mode == PoolMode::Session)
            .map(|lease| lease.server_ref()),
        Kind::Replication(server, _) => Some(&**server),
    };
    let process_id = own_server.map(Server::process_id);
    let registered = shared.controls.register(minor, process_id);
    let mut replies = Replies::default();
    replies.authentication_ok();
    replies.pass(own_server.map(Server::start_notices).unwrap_or_default());
    let reported: Vec<(String, String)> = match &kind {
        Kind::Session(base, _) => base.reported().to_vec(),
        Kind::Replication(server, _) => server
            .parameters()
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    };
    for (name, value) in &reported {
        replies.parameter_status(name, value);
    }
    replies
        .backend_key_data(registered.key.process_id, &registered.key.secret)
        .ready_for_query(b'I');
    stream.write_all(replies.bytes()).await?;
    stream.flush().await?;
    shared.metrics.bytes_sent_to_client(replies.bytes().len());
    pool.metrics.logged_in();
    registered.control.watch(registration.watch());
    Ok(match kind {
        Kind::Session(base, held) => {
            let session_pooling = shared.settings.mode == PoolMode::Session;
            let limits = (!session_pooling).then_some(shared.settings.statements);
            let sharing = Sharing::new(limits, pool.statements.clone());
            let mut session = Session {
                client: stream,
                context: shared.clone(),
                pool,
                base,
                registration,
                registered,
                traffic: Traffic::new(sharing),
                session_pooling,
                refusal: Default::default(),
                leased: Instant::now(),
                now: Instant::now(),
                asked: Instant::now(),
                asked_shown: None,
            };
            session.traffic.message_limit = shared.settings.limits.message;
            session.watch_state();
            session.observe();
            session.registration.set_state(ClientState::Idle);
            if session_pooling {
                session
                    .traffic
                    .pins
                    .pin(PinReason::SessionMode, &session.pool.metrics);
            }
            Outcome::Session(Box::new(session), held)
        }
        Kind::Replication(server, room) => {
            Outcome::Replication(Box::new(replication::Replication {
                client: stream,
                server: *server,
                shared: shared.clone(),
                registered,
                _registration: registration,
                _pin: pool.metrics.pinned(PinReason::Replication),
                _room: room,
            }))
        }
    })
}

/// Tells the client why it does not come in.
async fn refuse(shared: &Shared, stream: &mut Stream, error: &(dyn ClientError + Send + Sync)) {
    shared.metrics.error(error.class(), error.sqlstate());
    let mut replies = Replies::default();
    let hint = error.client_hint();
    replies.error(
        Severity::Fatal,
        error.sqlstate(),
        &error.client_message(),
        hint.as_deref(),
    );
    // A client that does not read its refusal is no concern of ours; the login's own limit bounds this.
    let _ = stream.write_all(replies.bytes()).await;
    let _ = stream.flush().await;
    let _ = stream.shutdown().await;
}
