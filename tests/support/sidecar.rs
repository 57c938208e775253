//! poolwatch as a process of its own: started, asked, signalled, waited for.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use poolwatch::ops::http_client;
use tokio_postgres::Client;

use super::postgres::connect;
use super::{Database, Scrape, eventually};

/// The longest a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The longest an answer to one request may take.
const HTTP_LIMIT: Duration = Duration::from_secs(10);

/// A running poolwatch in front of a database. Dropping it kills it.
#[derive(Debug)]
pub struct Sidecar {
    child: Child,
    logs: Arc<Mutex<Vec<String>>>,
    proxy: SocketAddr,
    http: SocketAddr,
    user: String,
    password: Option<String>,
    database: String,
    psql: PathBuf,
}

/// How the process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
}

impl Sidecar {
    /// Starts it with default settings.
    pub async fn start(database: &Database) -> Self {
        Self::start_with(database, &database.url, &[], &[]).await
    }

    /// Starts it with further arguments and environment variables. `upstream` is where it connects to: the database's
    /// own URL, or one through [`Faults`](super::Faults).
    pub async fn start_with(
        database: &Database,
        upstream: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_poolwatch"));
        command.args(["serve", "--upstream-url", upstream]);
        command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        command.args(arguments);
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            let steers = ["PG", "LETTA_", "POOLWATCH_", "DATABASE_URL"];
            if steers.iter().any(|prefix| name_text.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("start poolwatch");
        let logs = capture(&mut child);
        let mut running = Starting {
            child: Some(child),
            logs,
        };
        let (proxy, http) = running.addresses().await;
        let (user, password) = login_of(upstream);
        Self {
            child: running.child.take().expect("just started"),
            logs: running.logs.clone(),
            proxy,
            http,
            user,
            password,
            database: database.name.clone(),
            psql: database.program.clone(),
        }
    }

    /// Where PostgreSQL clients connect.
    pub fn proxy_addr(&self) -> SocketAddr {
        self.proxy
    }

    /// Where HTTP is served.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How tokio-postgres connects through it.
    pub fn client_config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host(self.proxy.ip().to_string())
            .port(self.proxy.port())
            .user(&self.user)
            .dbname(&self.database);
        if let Some(password) = &self.password {
            config.password(password);
        }
        config
    }

    /// A `postgres://` URL that leads through it.
    pub fn url(&self) -> String {
        let password = self.password.as_deref().map(|text| format!(":{text}"));
        format!(
            "postgres://{}{}@{}/{}",
            self.user,
            password.unwrap_or_default(),
            self.proxy,
            self.database
        )
    }

    /// A client through it.
    pub async fn connect(&self) -> Client {
        connect(&self.client_config()).await
    }

    /// Runs psql through it: unaligned, tuples only, stopping at the first error.
    pub async fn psql(&self, sql: &str) -> Output {
        let mut command = tokio::process::Command::new(&self.psql);
        command
            .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg(self.url())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        tokio::time::timeout(Duration::from_secs(60), command.output())
            .await
            .expect("psql took more than a minute")
            .expect("start psql")
    }

    /// `GET` of a path of its HTTP side: status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        match http_client::get(self.http, path, HTTP_LIMIT).await {
            Ok(answer) => (answer.status, answer.body),
            Err(error) => panic!("GET {path}: {error}; log:\n{}", self.log_text()),
        }
    }

    /// A scrape.
    pub async fn scrape(&self) -> Scrape {
        let (status, body) = self.get("/metrics").await;
        assert_eq!(status, 200, "{body}");
        Scrape::parse(&body)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("signal poolwatch");
    }

    /// Waits for its end.
    pub async fn wait_exit(&mut self, limit: Duration) -> Exit {
        let (child, logs) = (Mutex::new(&mut self.child), &self.logs);
        let status = eventually(limit, || async {
            match child.lock().try_wait() {
                Ok(Some(status)) => Ok(status),
                _ => Err(format!("it still runs; log:\n{}", logs.lock().join("\n"))),
            }
        })
        .await;
        Exit {
            code: status.code(),
        }
    }

    /// The lines it logged so far.
    pub fn logs(&self) -> Vec<String> {
        self.logs.lock().clone()
    }

    fn log_text(&self) -> String {
        self.logs.lock().join("\n")
    }
}

#[expect(clippy::print_stderr, reason = "the report of a failed test")]
impl Drop for Sidecar {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("poolwatch's log:\n{}", self.log_text());
        }
    }
}

/// A started process whose addresses are not known yet; killed if they never come.
struct Starting {
    child: Option<Child>,
    logs: Arc<Mutex<Vec<String>>>,
}

impl Starting {
    /// Waits for the two lines that say where it listens.
    async fn addresses(&mut self) -> (SocketAddr, SocketAddr) {
        let child = Mutex::new(&mut self.child);
        let logs = &self.logs;
        eventually(START_LIMIT, || async {
            let lines = logs.lock().clone();
            if let (Some(proxy), Some(http)) =
                (listening(&lines, "proxy"), listening(&lines, "http"))
            {
                return Ok((proxy, http));
            }
            let mut child = child.lock();
            let ended = child
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            let log = lines.join("\n");
            // Panics rather than polls on: it will not come back.
            assert!(
                ended.is_none(),
                "poolwatch ended ({ended:?}) before it listened:\n{log}"
            );
            Err(format!("it does not listen yet; log:\n{log}"))
        })
        .await
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Collects standard error by line, in a thread: it must be read even while the test waits for something else.
fn capture(child: &mut Child) -> Arc<Mutex<Vec<String>>> {
    let logs = Arc::new(Mutex::new(Vec::new()));
    let stderr = child.stderr.take().expect("standard error is a pipe");
    let lines = logs.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            lines.lock().push(line);
        }
    });
    logs
}

/// The address in the line `listening part="proxy" address=127.0.0.1:5432`.
fn listening(lines: &[String], part: &str) -> Option<SocketAddr> {
    let quoted = format!("part=\"{part}\"");
    let bare = format!("part={part}");
    lines.iter().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let ours = words.contains(&"listening")
            && (words.contains(&quoted.as_str()) || words.contains(&bare.as_str()));
        let address = words
            .iter()
            .find_map(|word| word.strip_prefix("address="))?;
        ours.then(|| address.trim_matches('"').parse().ok())
            .flatten()
    })
}

fn login_of(url: &str) -> (String, Option<String>) {
    // Its parameters may be such as tokio-postgres does not know.
    let login = url.split('?').next().unwrap_or_default();
    let config: tokio_postgres::Config = login.parse().expect("an upstream URL");
    let password = config
        .get_password()
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (
        config.get_user().expect("a user in the URL").to_owned(),
        password,
    )
}

#[test]
fn the_addresses_are_read_from_the_log() {
    let lines = [
        "2024-05-01T10:00:00Z  INFO poolwatch::app: starting".to_owned(),
        "2024-05-01T10:00:00Z  INFO poolwatch::app: listening part=\"proxy\" address=127.0.0.1:40001".to_owned(),
    ];
    assert_eq!(listening(&lines, "proxy"), "127.0.0.1:40001".parse().ok());
    assert_eq!(listening(&lines, "http"), None);
}
