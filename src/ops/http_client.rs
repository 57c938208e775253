//! A GET over plain HTTP to ourselves: what `health`, `demo` and the tests need, and no more.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// More than any answer of ours; a stranger on that port must not fill our memory.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, lossily as text.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// Nothing within the limit.
    #[error("no answer from {address} within {limit:?}")]
    Timeout {
        /// Who was asked.
        address: SocketAddr,
        /// How long was waited.
        limit: Duration,
    },
    /// The connection failed.
    #[error("could not ask {address}")]
    Io {
        /// Who was asked.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Something else than HTTP answered.
    #[error("{address} does not speak HTTP")]
    NotHttp {
        /// Who was asked.
        address: SocketAddr,
    },
}

/// Gets a path. `limit` covers all of it: connecting, asking and reading the whole body.
///
/// Asks by HTTP/1.0, so that the body comes unchunked and ends with the connection.
///
/// # Errors
/// See [`GetError`]. A status that is not 200 is no error.
pub async fn get(address: SocketAddr, path: &str, limit: Duration) -> Result<Answer, GetError> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.take(MOST_BYTES).read_to_end(&mut bytes).await?;
        Ok(bytes)
    };
    let bytes = tokio::time::timeout(limit, exchange)
        .await
        .map_err(|_| GetError::Timeout { address, limit })?
        .map_err(|source| GetError::Io { address, source })?;
    parse(&bytes).ok_or(GetError::NotHttp { address })
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status_line = head.strip_prefix("HTTP/1.")?;
    let status = status_line.split(' ').nth(1)?.get(..3)?.parse().ok()?;
    Some(Answer {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = parse(b"HTTP/1.0 503 Service Unavailable\r\nX: y\r\n\r\nno\r\n\r\nyes");
        let expected = Answer {
            status: 503,
            body: "no\r\n\r\nyes".to_owned(),
        };
        assert_eq!(answer, Some(expected));
        assert_eq!(parse(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), None);
        assert_eq!(parse(b"HTTP/1.1 \r\n\r\n"), None);
        assert_eq!(parse(b""), None);
    }
}
