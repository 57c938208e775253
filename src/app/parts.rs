//! Settings become the configurations of the parts.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::{bind_error, control_labels};
use crate::auth::{self, Admission, Lookup, Method, Stored, UserlistError, Users};
use crate::backend::{Credentials, OpenTransaction, Protocol, Target};
use crate::clients;
use crate::cluster::{self, OwnServers, PoolHandle};
use crate::config::{
    AuthMethod, PoolMode, ROWS, ResetOnReturn, Row, ServerReset, Settings, TlsVersion,
};
use crate::console;
use crate::control::{self, Control};
use crate::dsn::{Dsn, Host, HostPort};
use crate::http::{self, Access};
use crate::metrics::Metrics;
use crate::pool;
use crate::proxy::{self, Bound, Link, Listener};
use crate::secret::Secret;
use crate::status::{Holding, PoolServer, PoolTotals, PoolView};
use crate::tls::{ClientTls, MinVersion, ServerFiles, TlsError, TlsFiles};

/// Why poolwatch could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No upstream is set.
    #[error(
        "no PostgreSQL to connect to: set upstream.url, POOLWATCH_UPSTREAM__URL or DATABASE_URL"
    )]
    NoUpstream,
    /// An address of ours is taken, or not ours.
    #[error("could not listen on {address}")]
    Bind {
        /// The address.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An address beyond this machine, which must not be served without asking for a proof.
    #[error(
        "{0} is not a loopback address: clients are trusted without a proof (auth.method), so poolwatch listens on \
         loopback and Unix sockets only"
    )]
    NotLoopback(SocketAddr),
    /// HTTP beyond this machine, and nobody could be asked who they are.
    #[error(
        "{0} is not a loopback address: set http.reader_token_file, a file with the token that the JSON API asks for, or \
         let http.address be loopback"
    )]
    NoReaderToken(SocketAddr),
    /// A file with a token cannot be used.
    #[error("could not use {key} {path}", path = path.display())]
    Token {
        /// The setting that names it.
        key: &'static str,
        /// It.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file of users cannot be used.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The operating system refused something else.
    #[error("the operating system refused")]
    Io(#[source] io::Error),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The pool's rules contradict themselves.
    #[error(transparent)]
    Pool(#[from] pool::ConfigError),
}

/// Why `auth.users_file` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It cannot be read.
    #[error("could not read auth.users_file {path}", path = path.display())]
    File {
        /// It.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no list of users.
    #[error("auth.users_file {path} is not used", path = path.display())]
    List {
        /// It.
        path: PathBuf,
        /// The first mistake.
        #[source]
        source: UserlistError,
    },
}

/// Where PostgreSQL is.
pub(super) fn upstream(settings: &Settings) -> Result<Target, StartError> {
    let dsn = settings
        .upstream
        .url
        .as_ref()
        .ok_or(StartError::NoUpstream)?;
    let user = dsn.user.clone().unwrap_or_else(operating_system_user);
    Ok(Target {
        hosts: dsn.hosts.clone(),
        database: dsn.database.clone().unwrap_or_else(|| user.clone()),
        user,
        credentials: Credentials::password(dsn.password.clone()),
        tls: ClientTls::new(dsn.ssl_mode, &TlsFiles::from(dsn))?,
        connect_timeout: settings.upstream.connect_limit(),
        startup: startup(dsn),
        protocol: Protocol::default(),
    })
}

/// The upstream URL's own.
fn password(settings: &Settings) -> Option<Secret> {
    settings.upstream.url.as_ref()?.password.clone()
}

/// libpq's default for a URL without a user.
pub(crate) fn operating_system_user() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten();
    user.map_or_else(|| "postgres".to_owned(), |user| user.name)
}

/// What every server is opened with. `client_encoding` is fixed so that what poolwatch reads is UTF-8 by default; a
/// client that asks for another gets it. A name of ours would be what a client without one sees as its own.
fn startup(dsn: &Dsn) -> Vec<(String, String)> {
    let mut startup = vec![("client_encoding".to_owned(), "UTF8".to_owned())];
    let named = [
        ("application_name", &dsn.application_name),
        ("options", &dsn.options),
    ];
    startup.extend(
        named
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))),
    );
    startup
}

/// The rules of each pool.
pub(super) fn pool(settings: &Settings) -> pool::Config {
    let rules = &settings.pool;
    pool::Config {
        size: rules.size,
        max_overflow: rules.max_overflow,
        timeout: rules.timeout,
        recycle: rules.recycle,
        pre_ping: rules.pre_ping,
        pre_ping_after: rules.pre_ping_after,
        pre_ping_timeout: rules.pre_ping_timeout,
        // The manager's own limit names the phase; the pool's is the net beneath it.
        connect_timeout: settings.upstream.connect_limit() + Duration::from_millis(500),
        use_lifo: rules.use_lifo,
        enabled: rules.enabled,
        ..pool::Config::default()
    }
}

pub(super) fn cluster(settings: &Settings, upstream: &Target) -> cluster::Config {
    cluster::Config {
        upstream: upstream.clone(),
        pool: pool(settings),
        max_pools: usize::try_from(settings.pool.max_pools).unwrap_or(usize::MAX),
        servers: match at_most(settings.limits.servers) {
            usize::MAX => None,
            limit => Some(limit),
        },
    }
}

pub(super) fn client_limits(settings: &Settings) -> clients::Limits {
    clients::Limits {
        in_all: at_most(settings.listen.max_clients),
        per_user: at_most(settings.limits.clients_per_user),
    }
}

/// A limit as it is written: 0 is none.
fn at_most(limit: u32) -> usize {
    match limit {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    }
}

/// Who may come in. Questions about users are asked on `runtime`.
pub(super) fn admission(
    settings: &Settings,
    upstream: &Target,
    control: &Control,
    runtime: Handle,
) -> Result<Admission, StartError> {
    let password = password(settings);
    let method = match settings.auth.method {
        _ if settings.trusts_clients() => Method::Trust,
        AuthMethod::Auto | AuthMethod::Trust => Method::Auto,
        AuthMethod::ScramSha256 => Method::Scram,
        AuthMethod::Password => Method::Password,
        AuthMethod::Cert => Method::Cert,
    };
    if method == Method::Trust {
        tracing::info!(
            "clients are trusted without a proof; loopback and Unix sockets only (auth.method, auth.users_file)"
        );
    }
    let query = settings.auth.query.clone();
    let lookup = query.map(|query| Lookup::new(control.clone(), query, runtime));
    let only = match &password {
        _ if settings.auth.users_file.is_some() || lookup.is_some() => None,
        Some(password) => Some(Stored::password(password.clone())),
        None => Some(Stored::Nothing),
    };
    let admission = Admission::new(auth::Config {
        method,
        users: Users::new(only.map(|stored| (upstream.user.clone(), stored))),
        lookup,
        upstream: password.map(|password| (upstream.user.clone(), password)),
        longest_wait: settings.auth.max_failure_delay,
    });
    read_users(settings, &admission)?;
    Ok(admission)
}

/// Reads the file of users, if there is one. A mistake leaves the users as they are.
pub(super) fn read_users(settings: &Settings, admission: &Admission) -> Result<(), UsersError> {
    let Some(path) = settings.auth.users_file.clone() else {
        return Ok(());
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(UsersError::File { path, source }),
    };
    let read = admission.read_userlist(&text);
    read.map_err(|source| UsersError::List { path, source })
}

pub(super) fn proxy(settings: &Settings) -> proxy::Config {
    proxy::Config {
        mode: match settings.pool.mode {
            PoolMode::Transaction => proxy::PoolMode::Transaction,
            PoolMode::Session => proxy::PoolMode::Session,
        },
        login_timeout: settings.listen.login_timeout,
        reset_timeout: settings.pool.reset_timeout,
        open_transaction: match settings.pool.reset_on_return {
            ResetOnReturn::Rollback => OpenTransaction::Rollback,
            ResetOnReturn::Commit => OpenTransaction::Commit,
            ResetOnReturn::None => OpenTransaction::Close,
        },
        statements: proxy::StatementLimits {
            server: settings.pool.max_prepared_statements as usize,
            client: settings.pool.max_client_prepared_statements as usize,
        },
        pinning: settings.pool.pinning,
        reset_always: settings.pool.server_reset == ServerReset::Always,
        limits: proxy::Limits {
            idle_client: settings.limits.idle_client,
            idle_in_transaction: settings.limits.idle_in_transaction,
            transaction: settings.limits.transaction_time,
            query: settings.limits.query_time,
            message: at_most(settings.limits.message_size),
        },
    }
}

pub(super) fn console(settings: &Settings, bound: &[Bound]) -> console::Config {
    let port = bound.iter().find_map(|bound| match bound {
        Bound::Tcp(address) => Some(address.port()),
        Bound::Unix(_) => None,
    });
    let unix = settings.listen.unix_socket().map(|socket| socket.port);
    console::Config {
        admin_users: settings.admin.users.0.clone(),
        stats_users: settings.admin.stats_users.0.clone(),
        trusted: settings.trusts_clients(),
        wait_limit: settings.admin.wait_timeout,
        max_clients: settings.listen.max_clients,
        max_clients_per_user: settings.limits.clients_per_user,
        transaction_pooling: settings.pool.mode == PoolMode::Transaction,
        port: port.or(unix).unwrap_or_default(),
    }
}

/// Every setting, as the console shows it.
pub(super) fn shown(settings: &Settings) -> Vec<console::Setting> {
    let defaults = Settings::default();
    let setting = |row: &Row| console::Setting {
        key: row.name.to_owned(),
        value: row.show(settings),
        default: row.show(&defaults),
        changeable: row.reloadable,
    };
    ROWS.iter().map(setting).collect()
}

/// The files of TLS with clients.
pub(super) fn server_files(settings: &Settings) -> Result<ServerFiles, TlsError> {
    let listen = &settings.listen;
    // A reload could take the one away and leave the other.
    if settings.auth.method == AuthMethod::Cert && listen.tls_client_ca.is_none() {
        return Err(TlsError::ClientCaNeeded);
    }
    Ok(ServerFiles {
        identity: match (&listen.tls_cert, &listen.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => return Err(TlsError::Half("listen.tls_key")),
            (None, Some(_)) => return Err(TlsError::Half("listen.tls_cert")),
        },
        client_ca: listen.tls_client_ca.clone(),
        min_version: match listen.tls_min_version {
            TlsVersion::Tls12 => MinVersion::Tls12,
            TlsVersion::Tls13 => MinVersion::Tls13,
        },
    })
}

pub(super) fn control(
    upstream: &Target,
    settings: &Settings,
    metrics: &Metrics,
) -> Result<Control, StartError> {
    let config = control::Config {
        hosts: upstream.hosts.clone(),
        user: upstream.user.clone(),
        password: password(settings),
        database: upstream.database.clone(),
        tls: upstream.tls.clone(),
        connect_timeout: settings.upstream.connect_limit(),
    };
    let observer = metrics.pool(control_labels(upstream.host(), &upstream.database));
    let control = Control::new(config, observer.clone())?;
    let watched = control.clone();
    observer.watch(move || watched.status());
    Ok(control)
}

pub(super) fn control_view(control: &Control) -> PoolView {
    let host = control.host();
    PoolView {
        name: "control".to_owned(),
        user: control.config().user.clone(),
        host: host.host.to_string(),
        port: host.port,
        database: control.config().database.clone(),
        status: control.status(),
        totals: PoolTotals::default(),
    }
}

/// Where clients connect.
pub(super) fn bound(listeners: &[Listener]) -> Result<Vec<Bound>, StartError> {
    let bound: io::Result<_> = listeners.iter().map(Listener::bound).collect();
    bound.map_err(StartError::Io)
}

/// The servers through which poolwatch itself asks.
pub(super) fn own_servers(upstream: &Target, control: &Control) -> OwnServers {
    let own = control.clone();
    OwnServers {
        database: upstream.database.clone(),
        close_idle: Arc::new(move || own.close_idle()),
    }
}

/// The servers of one pool.
pub(super) fn servers(pool: &Arc<PoolHandle>) -> Vec<PoolServer> {
    let target = pool.target();
    let servers = pool.roster.snapshot().into_iter();
    let of_pool = |server| PoolServer {
        pool: pool.name().to_owned(),
        user: target.user.clone(),
        database: target.database.clone(),
        port: target.host().port,
        server,
    };
    servers.map(of_pool).collect()
}

pub(super) fn holding(link: Link) -> Holding {
    Holding {
        client: link.client,
        server: link.server,
        held: link.since.elapsed(),
    }
}

/// Binds every address that clients connect to.
pub(super) fn listeners(settings: &Settings) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    for host in &settings.listen.address.0 {
        for address in reachable(host, settings.trusts_clients())? {
            listeners.push(Listener::tcp(address).map_err(bind_error(address))?);
        }
    }
    if let Some(HostPort {
        host: Host::Unix(directory),
        port,
    }) = settings.listen.unix_socket()
    {
        listeners.push(Listener::unix(&directory, port).map_err(bind_error(directory.display()))?);
    }
    Ok(listeners)
}

/// Who may ask for what over HTTP, where it is served at this address.
pub(super) fn http_access(settings: &Settings, address: SocketAddr) -> Result<Access, StartError> {
    let http = &settings.http;
    if http.protect_metrics && http.reader_token_file.is_none() {
        tracing::warn!(
            "http.protect_metrics without http.reader_token_file: only an operator can scrape"
        );
    }
    Ok(Access {
        reader: token("http.reader_token_file", http.reader_token_file.as_ref())?,
        operator: token(
            "http.operator_token_file",
            http.operator_token_file.as_ref(),
        )?,
        loopback: address.ip().is_loopback(),
        protect_metrics: http.protect_metrics,
    })
}

/// The content of a file, without the white space around it. Shorter ones than this can be guessed.
fn token(key: &'static str, path: Option<&PathBuf>) -> Result<Option<Secret>, StartError> {
    const SHORTEST: usize = 16;
    let Some(path) = path else {
        return Ok(None);
    };
    let unusable = |source| StartError::Token {
        key,
        path: path.clone(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(unusable)?;
    let token = text.trim();
    let why = match token {
        _ if token.len() < SHORTEST => Some("a token has at least 16 characters"),
        _ if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Some("a token has no spaces, and ASCII characters only")
        }
        _ => None,
    };
    match why {
        Some(why) => Err(unusable(io::Error::new(io::ErrorKind::InvalidData, why))),
        None => Ok(Some(Secret::new(token))),
    }
}

/// Every setting, as the JSON API shows it.
pub(super) fn http_settings(settings: &Settings) -> Vec<http::Setting> {
    let setting = |of: console::Setting| http::Setting {
        key: of.key,
        value: of.value,
        default: of.default,
        changeable: of.changeable,
    };
    shown(settings).into_iter().map(setting).collect()
}

/// Binds the HTTP address.
pub(super) fn http_listener(settings: &Settings) -> Result<std::net::TcpListener, StartError> {
    let host = &settings.http.address;
    let address = addresses(host)?.into_iter().next().ok_or_else(|| {
        let source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        StartError::Bind {
            address: host.to_string(),
            source,
        }
    })?;
    if !address.ip().is_loopback() && settings.http.reader_token_file.is_none() {
        return Err(StartError::NoReaderToken(address));
    }
    let listener = std::net::TcpListener::bind(address).map_err(bind_error(address))?;
    listener.set_nonblocking(true).map_err(StartError::Io)?;
    Ok(listener)
}

/// The addresses of a name. Where clients are trusted, all of them must be this machine's.
fn reachable(host: &HostPort, trusted: bool) -> Result<Vec<SocketAddr>, StartError> {
    let addresses = addresses(host)?;
    let outside = addresses.iter().find(|address| !address.ip().is_loopback());
    match outside.filter(|_| trusted) {
        Some(address) => Err(StartError::NotLoopback(*address)),
        None => Ok(addresses),
    }
}

/// The addresses of a name; of several with port 0 only the first, or each would get a port of its own.
fn addresses(host: &HostPort) -> Result<Vec<SocketAddr>, StartError> {
    let Host::Tcp(name) = &host.host else {
        return Ok(Vec::new());
    };
    let found: Vec<_> = (name.as_str(), host.port)
        .to_socket_addrs()
        .map_err(bind_error(host))?
        .collect();
    Ok(if host.port == 0 {
        found.into_iter().take(1).collect()
    } else {
        found
    })
}
