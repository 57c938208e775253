//! `poolwatch health`: asks a running poolwatch whether it lives, for a HEALTHCHECK in an image without curl.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::http_client::{GetError, get};
use crate::cli::{Exit, HealthArgs};
use crate::config::load;
use crate::dsn::{Host, HostPort};
use crate::error::chain;

/// Where a poolwatch with default settings answers.
pub const DEFAULT_URL: &str = "http://127.0.0.1:9432/healthz";

/// Why the answer to "does it live?" is no.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// Not a URL this can ask. Wrong usage, where the others are findings.
    #[error("{url:?} cannot be asked: it must look like {DEFAULT_URL}")]
    Url {
        /// What was given.
        url: String,
    },
    /// The host's name has no address.
    #[error("no address found for {host}")]
    NoAddress {
        /// Host and port.
        host: String,
        /// The cause, where the resolver gave one.
        #[source]
        source: Option<std::io::Error>,
    },
    /// No answer.
    #[error(transparent)]
    Get(#[from] GetError),
    /// An answer, but not 200.
    #[error("{url} answered {status}: {body}")]
    Status {
        /// What was asked.
        url: String,
        /// The status code.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
}

impl HealthError {
    /// The exit code: 1 found a problem, 2 wrong usage.
    pub fn exit_code(&self) -> u8 {
        match self {
            HealthError::Url { .. } => 2,
            HealthError::NoAddress { .. } | HealthError::Get(_) | HealthError::Status { .. } => 1,
        }
    }
}

/// `poolwatch health`: asks the one that runs with these settings whether it is alive.
///
/// # Errors
/// `err` cannot be written to.
pub fn run(arguments: &HealthArgs, err: &mut dyn Write) -> anyhow::Result<Exit> {
    let settings = match load(&arguments.settings.sources()) {
        Ok(loaded) => loaded.settings,
        Err(problems) => {
            writeln!(err, "{problems}")?;
            return Ok(Exit::Usage);
        }
    };
    let url = format!("http://{}/healthz", reachable(&settings.http.address));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match runtime.block_on(check(&url, arguments.timeout)) {
        Ok(()) => Ok(Exit::Fine),
        Err(error) => {
            writeln!(err, "poolwatch: {}", chain(&error))?;
            Ok(if error.exit_code() == 2 {
                Exit::Usage
            } else {
                Exit::Problem
            })
        }
    }
}

/// An address that listens everywhere is reached on loopback.
fn reachable(address: &HostPort) -> HostPort {
    match &address.host {
        Host::Tcp(name) if name == "0.0.0.0" => HostPort::tcp("127.0.0.1", address.port),
        Host::Tcp(name) if name == "::" => HostPort::tcp("::1", address.port),
        _ => address.clone(),
    }
}

/// Asks `url`, which is fine when it answers 200 within `limit`. The limit covers finding the address, connecting and
/// reading the answer.
///
/// # Errors
/// See [`HealthError`].
pub async fn check(url: &str, limit: Duration) -> Result<(), HealthError> {
    let (host, path) = parse(url).ok_or_else(|| HealthError::Url {
        url: url.to_owned(),
    })?;
    let begun = tokio::time::Instant::now();
    let address = resolve(&host, limit).await?;
    let answer = get(address, path, limit.saturating_sub(begun.elapsed())).await?;
    if answer.status == 200 {
        return Ok(());
    }
    Err(HealthError::Status {
        url: url.to_owned(),
        status: answer.status,
        // Enough to see who answered; a stranger's page need not fill the screen.
        body: answer.body.chars().take(200).collect(),
    })
}

async fn resolve(host: &str, limit: Duration) -> Result<SocketAddr, HealthError> {
    let no_address = |source| HealthError::NoAddress {
        host: host.to_owned(),
        source,
    };
    match tokio::time::timeout(limit, tokio::net::lookup_host(host)).await {
        Ok(Ok(mut addresses)) => addresses.next().ok_or_else(|| no_address(None)),
        Ok(Err(source)) => Err(no_address(Some(source))),
        Err(_) => Err(no_address(Some(std::io::ErrorKind::TimedOut.into()))),
    }
}

/// `http://host[:port][/path]` as `host:port` and the path.
fn parse(url: &str) -> Option<(String, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    // A line break would end the request's first line early; a user's name and password have no place here.
    let strange = |c: char| c.is_whitespace() || c.is_control() || c == '@';
    if host.is_empty() || url.contains(strange) {
        return None;
    }
    // An IPv6 address stands in brackets, so a colon after them, or any without them, begins the port.
    let has_port = match host.rfind(']') {
        Some(bracket) => host[bracket..].contains(':'),
        None => host.contains(':'),
    };
    match has_port {
        true => Some((host.to_owned(), path)),
        false => Some((format!("{host}:80"), path)),
    }
}

#[cfg(test)]
mod tests {
    /// Far above what an answer from memory takes.
    const LIMIT: Duration = Duration::from_secs(3);

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parsed = |url| parse(url).map(|(host, path)| (host, path.to_owned()));
        let some = |host: &str, path: &str| Some((host.to_owned(), path.to_owned()));
        assert_eq!(parsed(DEFAULT_URL), some("127.0.0.1:9432", "/healthz"));
        assert_eq!(parsed("http://[::1]:1/a/b"), some("[::1]:1", "/a/b"));
        assert_eq!(parsed("http://[::1]"), some("[::1]:80", "/"));
        assert_eq!(parsed("http://localhost"), some("localhost:80", "/"));
        for bad in [
            "",
            "https://localhost/",
            "localhost:9432",
            "http://",
            "http:///healthz",
            "http://u:p@localhost/",
            "http://localhost/a\r\nX: y",
        ] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
    }

    /// Answers one request with `response`, or keeps silent when there is none.
    async fn server(response: Option<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            match response {
                Some(response) => stream.write_all(response.as_bytes()).await.unwrap(),
                None => std::future::pending().await,
            }
        });
        address
    }

    #[tokio::test]
    async fn only_200_is_fine() {
        let ok = server(Some("HTTP/1.1 200 OK\r\n\r\nok\n")).await;
        check(&format!("http://{ok}/healthz"), LIMIT).await.unwrap();

        let bad = server(Some("HTTP/1.1 503 Service Unavailable\r\n\r\nnot now")).await;
        let error = check(&format!("http://{bad}/"), LIMIT).await.unwrap_err();
        assert!(
            matches!(&error, HealthError::Status { status: 503, body, .. } if body == "not now")
        );
        assert_eq!(error.exit_code(), 1);
    }

    #[tokio::test]
    async fn silence_and_refusal_are_found_and_bad_urls_are_wrong_usage() {
        let silent = server(None).await;
        let limit = Duration::from_millis(50);
        let error = check(&format!("http://{silent}/"), limit)
            .await
            .unwrap_err();
        assert!(matches!(error, HealthError::Get(GetError::Timeout { .. })));

        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        let error = check(&format!("http://{address}/"), LIMIT)
            .await
            .unwrap_err();
        assert!(matches!(error, HealthError::Get(GetError::Io { .. })));
        assert_eq!(error.exit_code(), 1);

        let error = check("nonsense", LIMIT).await.unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
