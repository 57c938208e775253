//! `poolwatch init` killed (SIGKILL) at every step: whatever is left, the next run makes the whole of it.
//!
//! Between it and PostgreSQL stands a tap that lets a number of requests through and then none, so "every step" is every
//! request that it sends, found by counting and not by a list of them.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::init::{Pair, WHOLE, superuser};
use crate::support::Postgres;
use crate::support::program::poolwatch;

/// More than `init` sends by far; a run that gets there would be stuck in a loop.
const MOST: u32 = 200;
/// For one run on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// When the process is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    /// As soon as the last request is on its way: PostgreSQL works on it while the client dies.
    Sent,
    /// When it wants to send the next one: the last one was answered.
    Answered,
}

/// Counts requests (Query or Sync) of all connections, and stops before the one after the last that may pass.
struct Tap {
    port: u16,
    counter: Arc<Counter>,
    accepting: JoinHandle<()>,
}

struct Counter {
    passed: AtomicU32,
    allowed: u32,
    when: When,
    reached: Notify,
}

impl Tap {
    async fn before(port: u16, allowed: u32, when: When) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("it works");
        let own = listener.local_addr().expect("it works").port();
        let counter = Arc::new(Counter {
            passed: AtomicU32::new(0),
            allowed,
            when,
            reached: Notify::new(),
        });
        let shared = counter.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port))
                    .await
                    .expect("it works");
                tokio::spawn(relay(client, server, shared.clone()));
            }
        });
        Self {
            port: own,
            counter,
            accepting,
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn relay(client: TcpStream, server: TcpStream, counter: Arc<Counter>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    // Until the client is gone. Then the server learns it at once, as it would of a process that was killed.
    let _ = forward(&mut from_client, &mut to_server, &counter).await;
    let _ = to_server.shutdown().await;
    back.abort();
}

async fn forward(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    counter: &Counter,
) -> std::io::Result<()> {
    let mut startup = true;
    loop {
        let tag = if startup {
            None
        } else {
            Some(from.read_u8().await?)
        };
        let length = from.read_u32().await?;
        let mut message: Vec<u8> = tag.into_iter().chain(length.to_be_bytes()).collect();
        let head = message.len();
        message.resize(head + length as usize - 4, 0);
        from.read_exact(&mut message[head..]).await?;
        startup = false;
        if counter.passed.load(Ordering::SeqCst) >= counter.allowed {
            counter.reached.notify_one();
            // Held for ever: what ends this is the end of the client.
            return tokio::io::copy(from, &mut tokio::io::sink())
                .await
                .map(|_| ());
        }
        to.write_all(&message).await?;
        if matches!(tag, Some(b'Q' | b'S')) {
            let passed = counter.passed.fetch_add(1, Ordering::SeqCst) + 1;
            if passed == counter.allowed && counter.when == When::Sent {
                counter.reached.notify_one();
            }
        }
    }
}

/// Kills a run after so many requests; whether it ended by itself before.
async fn killed(server: &Postgres, pair: &Pair, allowed: u32, when: When) -> bool {
    let tap = Tap::before(server.port(), allowed, when).await;
    let url = format!(
        "postgres://{}@127.0.0.1:{}/postgres?sslmode=disable",
        server.user(),
        tap.port
    );
    let arguments = [
        "init",
        "--upstream-url",
        &url,
        "--vector",
        "off",
        "--sidecar",
        "--user",
        &pair.role,
        "--database",
        &pair.database,
    ];
    let mut command = poolwatch(&arguments, &[("POSTGRES_PASSWORD", "hunter2")]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it works");
    let ended = tokio::select! {
        status = child.wait() => Some(status.expect("it works")),
        () = tap.counter.reached.notified() => None,
        () = tokio::time::sleep(LIMIT) => panic!("{allowed} {when:?}: neither the end nor the step came"),
    };
    if let Some(status) = ended {
        assert!(status.success(), "{allowed} {when:?}: {status}");
        return true;
    }
    child.kill().await.expect("it works");
    false
}

async fn at_every_step(when: When) {
    let server = Postgres::shared().await;
    let url = superuser(server);
    let mut seen = std::collections::BTreeSet::new();
    for allowed in 0..MOST {
        let pair = Pair::new();
        let whole = killed(server, &pair, allowed, when).await;
        let left = pair.state(server).await;
        let again = pair.init(&url, &["--sidecar"]).await.expect(0);
        let expected = WHOLE
            .replace("\ndatabase", "\nmember of poolwatch\ndatabase")
            .replace("CTc/ROLE", "CTc/ROLE,poolwatch=c/ROLE")
            .replace(
                "\nsetting",
                "\nschema poolwatch owner=poolwatch acl=\nsetting",
            );
        assert_eq!(
            pair.state(server).await,
            expected,
            "{allowed} {when:?} left\n{left}"
        );
        seen.insert(left);
        if whole {
            assert!(!again.out.contains("done"), "{}", again.out);
            // Nothing, the roles, the database without and with what is in it: all or nothing within each.
            assert_eq!(seen.len(), 4, "{seen:#?}");
            return;
        }
    }
    panic!("{MOST} requests were not enough");
}

#[tokio::test]
async fn killed_after_any_answer_the_next_run_makes_the_rest() {
    at_every_step(When::Answered).await;
}

#[tokio::test]
async fn killed_while_postgresql_works_the_next_run_makes_the_rest() {
    at_every_step(When::Sent).await;
}
