//! Throw-away PostgreSQL servers, for the demo and the tests.
//!
//! A server is made in a temporary directory, listens on a port of 127.0.0.1 that the system chose and on a Unix
//! socket in that directory, and is gone with its directory when [`Postgres`] is dropped, or when our process ends in
//! any way. PostgreSQL refuses to run as root: as root it runs as `postgres`, else `nobody`.
//!
//! - [`Binaries`]: where the programs are found, or fetched;
//! - `account`: who runs them; `guard`: how they die with us; `files`: the directory; `port`: the port;
//! - this file: the life of a server.

mod account;
mod binaries;
mod error;
#[cfg(feature = "fetch-postgres")]
mod fetch;
mod files;
mod guard;
mod port;
mod processes;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};

use self::account::Account;
use self::files::Directory;
use self::guard::Guard;
use self::port::Port;
use crate::secret::Secret;

pub use self::binaries::Binaries;
pub use self::error::LaunchError;

/// Surviving a power cut is what a throw-away server does not need; with it, starting takes several times as long.
/// `synchronous_commit` stays on, so that what was committed survives [`Mode::Immediate`].
const THROW_AWAY: &str = "\
fsync = off
full_page_writes = off
shared_buffers = 32MB
max_wal_size = 256MB
logging_collector = off
log_destination = 'stderr'
log_line_prefix = '%m [%p] '
";
/// How often another port is tried when somebody took the one we were given.
const PORT_ATTEMPTS: u32 = 5;
/// Between two looks at a starting server. It is ready after 50 to 300 ms.
const READY_POLL: Duration = Duration::from_millis(15);
/// One attempt to connect to a starting server.
const ATTEMPT: Duration = Duration::from_secs(2);

/// How a throw-away server is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The superuser's name. Default `postgres`.
    pub user: String,
    /// The superuser's password; none by default.
    pub password: Option<Secret>,
    /// The method in `pg_hba.conf` for every address: `trust` (default), `password`, `md5`, `scram-sha-256`.
    pub auth: String,
    /// Lines for `postgresql.conf`, after our own.
    pub conf: String,
    /// The whole `pg_hba.conf`, instead of the one `auth` gives.
    pub hba: Option<String>,
    /// Certificate and key for TLS, which is off without them.
    pub tls: Option<ServerCertificate>,
    /// The longest `initdb` and a start may take, each. Default 60 s: a busy machine with two cores needs ten.
    pub limit: Duration,
    /// Which programs to run; found on the machine by default.
    pub binaries: Option<Binaries>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            user: "postgres".to_owned(),
            password: None,
            auth: "trust".to_owned(),
            conf: String::new(),
            hba: None,
            tls: None,
            limit: Duration::from_secs(60),
            binaries: None,
        }
    }
}

/// What a server shows to clients that ask for TLS.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    /// The certificate, then its chain, as PEM.
    pub certificate: String,
    /// The private key as PEM.
    pub key: Secret,
}

/// How a server is told to stop (PostgreSQL, "Shutting Down the Server").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// SIGTERM: waits for every client to leave.
    Smart,
    /// SIGINT: rolls back and closes every session, then shuts down cleanly.
    Fast,
    /// SIGQUIT: aborts at once; the next start recovers.
    Immediate,
}

impl Mode {
    fn signal(self) -> Signal {
        match self {
            Mode::Smart => Signal::SIGTERM,
            Mode::Fast => Signal::SIGINT,
            Mode::Immediate => Signal::SIGQUIT,
        }
    }
}

/// A throw-away server. Dropping it kills the server and removes its directory; that takes some tens of milliseconds,
/// during which the thread waits.
#[derive(Debug)]
pub struct Postgres {
    /// The running server. Before `directory`, so that it is dropped first.
    server: Option<Running>,
    directory: Directory,
    port: Port,
    account: Account,
    binaries: Binaries,
    options: Options,
}

#[derive(Debug)]
struct Running {
    guard: Guard,
    postmaster: i32,
    /// The processes that [`Postgres::pause`] stopped.
    stopped: Vec<i32>,
}

impl Postgres {
    /// Initialises and starts a server, and waits until it accepts connections.
    ///
    /// # Errors
    /// See [`LaunchError`]. Nothing is left behind.
    pub async fn start(options: Options) -> Result<Self, LaunchError> {
        let account = Account::choose()?;
        let binaries = match &options.binaries {
            Some(binaries) => binaries.clone(),
            None => Binaries::find_for(&account).await?,
        };
        let mut postgres = Self {
            server: None,
            directory: Directory::create(&account)?,
            port: Port::reserve().map_err(LaunchError::Port)?,
            account,
            binaries,
            options,
        };
        postgres.initdb().await?;
        postgres.write_settings()?;
        let mut attempt = 1;
        loop {
            match postgres.launch().await {
                Err(LaunchError::Exited { log, .. })
                    if attempt < PORT_ATTEMPTS && log.contains("could not bind") =>
                {
                    postgres.port = Port::reserve().map_err(LaunchError::Port)?;
                    attempt += 1;
                }
                other => return other.map(|()| postgres),
            }
        }
    }

    /// Starts the server again, with the same data, port and settings. Does nothing if it runs.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub async fn start_again(&mut self) -> Result<(), LaunchError> {
        let running = match &mut self.server {
            Some(server) => server.guard.exited().is_none(),
            None => false,
        };
        if running {
            return Ok(());
        }
        self.server = None;
        self.launch().await
    }

    /// Stops the server and waits for its end, at most [`Options::limit`]. The data stays. A paused server is woken
    /// first. Does nothing if it is stopped.
    ///
    /// # Errors
    /// [`LaunchError::StillRunning`], as with [`Mode::Smart`] while a client stays.
    pub async fn stop(&mut self, mode: Mode) -> Result<(), LaunchError> {
        if self.server.is_none() {
            return Ok(());
        }
        self.resume()?;
        let limit = self.options.limit;
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        if server.guard.exited().is_none() {
            processes::send(server.postmaster, mode.signal())?;
        }
        match server.guard.wait(limit).await {
            Some(_) => {
                self.server = None;
                Ok(())
            }
            None => Err(LaunchError::StillRunning { waited: limit }),
        }
    }

    /// Stops all processes of the server (SIGSTOP): connections stay open, and nobody answers. The kernel goes on to
    /// accept connections into the listener's queue, so that connecting hangs too.
    ///
    /// # Errors
    /// [`LaunchError::NotRunning`], [`LaunchError::Signal`].
    pub fn pause(&mut self) -> Result<(), LaunchError> {
        let server = self.server.as_mut().ok_or(LaunchError::NotRunning)?;
        // The parent first: it makes no further children then.
        processes::send(server.postmaster, Signal::SIGSTOP)?;
        let mut pids = processes::children(server.postmaster);
        pids.push(server.postmaster);
        server
            .guard
            .note_stopped(&pids)
            .map_err(|source| LaunchError::Signal {
                pid: server.postmaster,
                source,
            })?;
        server.stopped.clone_from(&pids);
        for pid in pids {
            processes::send(pid, Signal::SIGSTOP)?;
        }
        Ok(())
    }

    /// Lets a paused server go on. Does nothing if it is not paused.
    ///
    /// # Errors
    /// [`LaunchError::NotRunning`], [`LaunchError::Signal`].
    pub fn resume(&mut self) -> Result<(), LaunchError> {
        let server = self.server.as_mut().ok_or(LaunchError::NotRunning)?;
        if server.stopped.is_empty() {
            return Ok(());
        }
        for pid in std::mem::take(&mut server.stopped) {
            processes::send(pid, Signal::SIGCONT)?;
        }
        server
            .guard
            .note_stopped(&[])
            .map_err(|source| LaunchError::Signal {
                pid: server.postmaster,
                source,
            })
    }

    /// Ends one session of the server as `pg_terminate_backend` does (SIGTERM): its client is told 57P01. It is no
    /// error if the process is gone.
    ///
    /// # Errors
    /// [`LaunchError::NotRunning`] if the process is none of this server's, [`LaunchError::Signal`].
    pub fn kill_backend(&self, pid: i32) -> Result<(), LaunchError> {
        let server = self.server.as_ref().ok_or(LaunchError::NotRunning)?;
        if !processes::children(server.postmaster).contains(&pid) {
            return Err(LaunchError::NotRunning);
        }
        processes::send(pid, Signal::SIGTERM)
    }

    /// Adds lines to `postgresql.conf`; the last line for a setting counts. They take effect at the next start, or at
    /// [`Postgres::reload`].
    ///
    /// # Errors
    /// [`LaunchError::File`].
    pub fn add_conf(&mut self, lines: &str) -> Result<(), LaunchError> {
        self.options.conf.push('\n');
        self.options.conf.push_str(lines);
        self.write_settings()
    }

    /// Replaces `pg_hba.conf`. Takes effect at the next start, or at [`Postgres::reload`].
    ///
    /// # Errors
    /// [`LaunchError::File`].
    pub fn replace_hba(&mut self, text: &str) -> Result<(), LaunchError> {
        self.options.hba = Some(text.to_owned());
        self.write_settings()
    }

    /// Has the server read its settings again (SIGHUP). It does so soon, not at once.
    ///
    /// # Errors
    /// [`LaunchError::NotRunning`], [`LaunchError::Signal`].
    pub fn reload(&self) -> Result<(), LaunchError> {
        let server = self.server.as_ref().ok_or(LaunchError::NotRunning)?;
        processes::send(server.postmaster, Signal::SIGHUP)
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The directory of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.directory.path()
    }

    /// The process id of the postmaster, if it runs.
    pub fn postmaster_pid(&self) -> Option<i32> {
        self.server.as_ref().map(|server| server.postmaster)
    }

    /// The process ids of the server's children: background processes and one for each session.
    pub fn children(&self) -> Vec<i32> {
        self.postmaster_pid()
            .map(processes::children)
            .unwrap_or_default()
    }

    /// The programs it was started from.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The superuser's name.
    pub fn user(&self) -> &str {
        &self.options.user
    }

    /// A `postgres://` URL over TCP. The superuser's carries the password, if it has one.
    pub fn url(&self, user: &str, database: &str) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut login = encode(user);
        if let Some(password) = self.password_of(user) {
            login.push(':');
            login.push_str(&encode(password.expose()));
        }
        let port = self.port();
        format!("postgres://{login}@127.0.0.1:{port}/{}", encode(database))
    }

    /// How tokio-postgres reaches it as the superuser over TCP.
    pub fn client_config(&self, database: &str) -> Config {
        let mut config = self.superuser_config(database);
        config.host("127.0.0.1");
        config
    }

    /// The end of the server's log, at most 4 KiB.
    pub fn log(&self) -> String {
        files::read_since(&self.log_path(), 0)
    }

    fn superuser_config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .port(self.port())
            .user(&self.options.user)
            .dbname(database)
            .connect_timeout(ATTEMPT);
        if let Some(password) = self.password_of(&self.options.user) {
            config.password(password.expose());
        }
        config
    }

    fn password_of(&self, user: &str) -> Option<&Secret> {
        self.options
            .password
            .as_ref()
            .filter(|_| user == self.options.user)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("server.log")
    }

    async fn initdb(&self) -> Result<(), LaunchError> {
        let directory = self.directory.path();
        let (data, log) = (self.data(), directory.join("initdb.log"));
        let password_file = directory.join("password");
        let data = data.to_string_lossy();
        let password_path = password_file.to_string_lossy();
        let mut arguments = vec![
            "--no-sync",
            "--no-locale",
            "--encoding=UTF8",
            "--username",
            &self.options.user,
            "--auth",
            &self.options.auth,
            "--pgdata",
            &data,
        ];
        if let Some(password) = &self.options.password {
            let line = format!("{}\n", password.expose());
            files::write_private(&password_file, &line, &self.account)?;
            arguments.extend(["--pwfile", &password_path]);
        }
        let program = self.binaries.program("initdb");
        let mut guard = Guard::run(&self.account, directory, &program, &arguments, &log)?;
        let ended = guard.wait(self.options.limit).await;
        // Nobody needs it any more; the whole directory goes later anyway.
        let _ = std::fs::remove_file(&password_file);
        match ended {
            Some((_, true)) => Ok(()),
            Some((status, false)) => Err(LaunchError::Initdb {
                status,
                output: files::read_since(&log, 0),
            }),
            None => Err(LaunchError::Initdb {
                status: format!("not done within {:?}", self.options.limit),
                output: files::read_since(&log, 0),
            }),
        }
    }

    /// Ours go into a file of their own that `postgresql.conf` includes, so that they can be written again.
    fn write_settings(&self) -> Result<(), LaunchError> {
        let data = self.data();
        let mut text = THROW_AWAY.to_owned();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'",
            self.directory.path().display()
        );
        if let Some(tls) = &self.options.tls {
            files::write_private(&data.join("server.crt"), &tls.certificate, &self.account)?;
            files::write_private(&data.join("server.key"), tls.key.expose(), &self.account)?;
            text.push_str("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n");
        }
        text.push_str(&self.options.conf);
        text.push('\n');
        files::write_private(&data.join("throw_away.conf"), &text, &self.account)?;
        files::write_private(
            &data.join("postgresql.conf"),
            "include 'throw_away.conf'\n",
            &self.account,
        )?;
        match &self.options.hba {
            Some(hba) => files::write_private(&data.join("pg_hba.conf"), hba, &self.account),
            None => Ok(()),
        }
    }

    /// Starts the server on the port we hold and waits until it is ready.
    async fn launch(&mut self) -> Result<(), LaunchError> {
        let started = Instant::now();
        let log = self.log_path();
        let log_before = files::length(&log);
        let data = self.data();
        let port = self.port().to_string();
        let mut guard = Guard::run(
            &self.account,
            self.directory.path(),
            &self.binaries.program("postgres"),
            &["-D", &data.to_string_lossy(), "-p", &port],
            &log,
        )?;
        let mut last = String::new();
        while started.elapsed() < self.options.limit {
            if let Some(status) = guard.exited() {
                return Err(LaunchError::Exited {
                    status,
                    log: files::read_since(&log, log_before),
                });
            }
            match self.is_ready().await {
                Ok(()) => {
                    let postmaster = read_pid(&data.join("postmaster.pid"))?;
                    self.server = Some(Running {
                        guard,
                        postmaster,
                        stopped: Vec::new(),
                    });
                    return Ok(());
                }
                Err(why) => last = why,
            }
            tokio::time::sleep(READY_POLL).await;
        }
        Err(LaunchError::NotReady {
            waited: started.elapsed(),
            last,
        })
    }

    /// Really connects, over the Unix socket, which is there whatever the settings say about TCP. Any answer but "the
    /// database system is starting up" means ready, a refused login too.
    async fn is_ready(&self) -> Result<(), String> {
        let mut config = self.superuser_config("postgres");
        config.host_path(self.directory.path());
        match tokio::time::timeout(ATTEMPT, config.connect(NoTls)).await {
            Err(_) => Err("no answer".to_owned()),
            Ok(Ok((client, connection))) => {
                drop(client);
                // Says goodbye; how that goes does not matter.
                let _ = tokio::time::timeout(ATTEMPT, connection).await;
                Ok(())
            }
            Ok(Err(error)) => match error.code() {
                Some(code) if *code != SqlState::CANNOT_CONNECT_NOW => Ok(()),
                _ => Err(crate::error::chain(&error)),
            },
        }
    }
}

/// The first line of `postmaster.pid` (PostgreSQL, `src/include/utils/pidfile.h`).
fn read_pid(path: &Path) -> Result<i32, LaunchError> {
    let file = |source| LaunchError::File {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(file)?;
    text.lines()
        .next()
        .and_then(|line| line.trim().parse().ok())
        .ok_or_else(|| file(std::io::Error::other("no process id in it")))
}
