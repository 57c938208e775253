//! Settings become the configurations of the parts.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::{bind_error, control_labels};
use crate::auth::Admission;
use crate::backend::{Credentials, OpenTransaction, Target};
use crate::cluster;
use crate::config::{PoolMode, ResetOnReturn, ServerReset, Settings};
use crate::control::{self, Control};
use crate::dsn::{Dsn, Host, HostPort};
use crate::metrics::Metrics;
use crate::pool;
use crate::proxy::{self, Listener};
use crate::secret::Secret;
use crate::status::PoolView;
use crate::tls::{ClientTls, ServerTls, TlsError, TlsFiles};

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
    /// An address beyond this machine, which this version must not serve.
    #[error(
        "{0} is not a loopback address: clients are not authenticated yet, so poolwatch listens on loopback and Unix \
         sockets only"
    )]
    NotLoopback(SocketAddr),
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

/// Where PostgreSQL is.
pub(super) fn upstream(settings: &Settings) -> Result<Target, StartError> {
    let dsn = settings
        .upstream
        .url
        .as_ref()
        .ok_or(StartError::NoUpstream)?;
    let files = TlsFiles {
        root: dsn.ssl_root_cert.clone(),
        certificate: dsn.ssl_cert.clone(),
        key: dsn.ssl_key.clone(),
    };
    let user = dsn.user.clone().unwrap_or_else(operating_system_user);
    Ok(Target {
        hosts: dsn.hosts.clone(),
        database: dsn.database.clone().unwrap_or_else(|| user.clone()),
        user,
        credentials: Credentials::password(dsn.password.clone()),
        tls: ClientTls::new(dsn.ssl_mode, &files)?,
        connect_timeout: settings.upstream.connect_limit(),
        startup: startup(dsn),
    })
}

/// The upstream URL's own.
fn password(settings: &Settings) -> Option<Secret> {
    settings.upstream.url.as_ref()?.password.clone()
}

/// libpq's default for a URL without a user.
fn operating_system_user() -> String {
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
    }
}

pub(super) fn max_clients(settings: &Settings) -> usize {
    usize::try_from(settings.listen.max_clients).unwrap_or(usize::MAX)
}

pub(super) fn admission(upstream: &Target) -> Admission {
    Admission::new(upstream.user.clone())
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
        reset_always: settings.pool.server_reset == ServerReset::Always,
    }
}

pub(super) fn server_tls(settings: &Settings) -> Result<ServerTls, StartError> {
    Ok(
        match (&settings.listen.tls_cert, &settings.listen.tls_key) {
            (Some(certificate), Some(key)) => ServerTls::from_files(certificate, key)?,
            (None, None) => ServerTls::self_signed()?,
            (Some(_), None) => return Err(TlsError::Half("listen.tls_key").into()),
            (None, Some(_)) => return Err(TlsError::Half("listen.tls_cert").into()),
        },
    )
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
    }
}

/// Binds every address that clients connect to.
pub(super) fn listeners(settings: &Settings) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    for host in &settings.listen.address.0 {
        for address in loopback(host)? {
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
    let listener = std::net::TcpListener::bind(address).map_err(bind_error(address))?;
    listener.set_nonblocking(true).map_err(StartError::Io)?;
    Ok(listener)
}

fn loopback(host: &HostPort) -> Result<Vec<SocketAddr>, StartError> {
    let addresses = addresses(host)?;
    match addresses.iter().find(|address| !address.ip().is_loopback()) {
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
