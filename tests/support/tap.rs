//! Kills a command (SIGKILL) at any step of its conversation with PostgreSQL.
//!
//! Between the two stands a tap that lets a number of requests through and then none, so "every step" is every
//! request that the command sends, found by counting and not by a list of them.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// For one run on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// When the process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// As soon as the last request is on its way: PostgreSQL works on it while the client dies.
    Sent,
    /// When it wants to send the next one: the last one was answered.
    Answered,
}

/// Counts requests (Query or Sync) of all connections, and stops before the one after the last that may pass.
#[derive(Debug)]
pub struct Tap {
    /// Where to connect instead.
    pub port: u16,
    counter: Arc<Counter>,
    accepting: JoinHandle<()>,
    relays: TaskTracker,
}

#[derive(Debug)]
struct Counter {
    passed: AtomicU32,
    allowed: u32,
    when: When,
    reached: Notify,
}

impl Tap {
    /// Before a server; so many requests may pass.
    pub async fn before(port: u16, allowed: u32, when: When) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("it works");
        let own = listener.local_addr().expect("it works").port();
        let counter = Arc::new(Counter {
            passed: AtomicU32::new(0),
            allowed,
            when,
            reached: Notify::new(),
        });
        let shared = counter.clone();
        let relays = TaskTracker::new();
        let spawner = relays.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port))
                    .await
                    .expect("it works");
                spawner.spawn(relay(client, server, shared.clone()));
            }
        });
        Self {
            port: own,
            counter,
            accepting,
            relays,
        }
    }

    /// Runs a command that connects through this, kills it at its step, and waits until PostgreSQL has ended its sessions.
    /// Whether the command ended well before; any other end is a failure.
    pub async fn kills(&self, mut command: Command) -> bool {
        let counter = &self.counter;
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let ended = tokio::select! {
            status = child.wait() => Some(status.expect("it ends")),
            () = counter.reached.notified() => None,
            () = tokio::time::sleep(LIMIT) => panic!("{counter:?}: neither the end nor the step came"),
        };
        if let Some(status) = ended {
            assert!(status.success(), "{counter:?}: {status}");
            return true;
        }
        child.kill().await.expect("it can be killed");
        // PostgreSQL closes its end when it is done with what was sent.
        self.accepting.abort();
        self.relays.close();
        let done = tokio::time::timeout(LIMIT, self.relays.wait()).await;
        done.expect("PostgreSQL ends what it was told");
        false
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
    let back = async move {
        let mut buffer = vec![0; 8192];
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            // To nobody, once the client is gone.
            let _ = to_client.write_all(&buffer[..length]).await;
        }
    };
    // Until the client is gone. Then the server learns it at once, as it would of a process that was killed.
    let there = async move {
        let _ = forward(&mut from_client, &mut to_server, &counter).await;
        let _ = to_server.shutdown().await;
    };
    tokio::join!(back, there);
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
