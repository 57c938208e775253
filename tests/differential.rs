//! poolwatch's pool against SQLAlchemy's own QueuePool: the same random sequences of operations, equality at every
//! step, without exceptions.
//!
//! `differential/trace.py` carries the sequences out and prints what it saw; here they are replayed under paused time.
//! The seed is printed; `POOLWATCH_TEST_SEED` repeats a run.

#[path = "differential/python.rs"]
mod python;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;

use poolwatch::pool::{Checkout, CheckoutError, CloseReason, Config, Pool, Unobserved};

const SEQUENCES: usize = 2_500;

/// One line of the script's output.
#[derive(Deserialize)]
struct Sequence {
    config: Settings,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Settings {
    size: u32,
    max_overflow: i32,
    use_lifo: bool,
    pre_ping: bool,
    recycle: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Step {
    #[serde(flatten)]
    op: Op,
    result: String,
    #[serde(flatten)]
    seen: Seen,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Op {
    Checkout {
        connect_fails: bool,
        ping: Ping,
        got: Option<u32>,
        text: Option<String>,
    },
    Advance {
        seconds: u64,
    },
    Return {
        id: u32,
    },
    Invalidate {
        id: u32,
    },
    Disconnect {
        id: u32,
    },
}

/// What a ping is ordered to do.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ping {
    #[default]
    Ok,
    Dead,
    Error,
}

/// What both pools show after a step.
#[derive(Debug, PartialEq, Deserialize)]
struct Seen {
    checkedin: u32,
    overflow: i32,
    checkedout: u32,
    open: BTreeSet<u32>,
    pings: u32,
}

/// The fake database.
#[derive(Default)]
struct World {
    opened: u32,
    pings: u32,
    open: BTreeSet<u32>,
    connect_fails: bool,
    ping: Ping,
}

struct Conn {
    id: u32,
    dead: AtomicBool,
    world: Arc<Mutex<World>>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.world.lock().open.remove(&self.id);
    }
}

struct Fake(Arc<Mutex<World>>);

impl bb8::ManageConnection for Fake {
    type Connection = Conn;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<Conn> {
        let mut world = self.0.lock();
        if world.connect_fails {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        world.opened += 1;
        let id = world.opened;
        world.open.insert(id);
        Ok(Conn {
            id,
            dead: AtomicBool::new(false),
            world: Arc::clone(&self.0),
        })
    }

    async fn is_valid(&self, conn: &mut Conn) -> io::Result<()> {
        let mut world = self.0.lock();
        world.pings += 1;
        match world.ping {
            Ping::Ok => Ok(()),
            Ping::Error => Err(io::ErrorKind::Other.into()),
            Ping::Dead => {
                conn.dead.store(true, SeqCst);
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        conn.dead.load(SeqCst)
    }
}

/// Our pool in the place of SQLAlchemy's.
struct Replay {
    pool: Pool<Fake>,
    world: Arc<Mutex<World>>,
    held: HashMap<u32, Checkout<Fake>>,
}

impl Replay {
    fn new(settings: &Settings) -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let config = Config {
            size: settings.size,
            max_overflow: settings.max_overflow,
            timeout: Duration::ZERO,
            recycle: settings.recycle.map(Duration::from_secs_f64),
            pre_ping: settings.pre_ping,
            pre_ping_after: Duration::ZERO,
            use_lifo: settings.use_lifo,
            ..Config::default()
        };
        let pool =
            Pool::new(Fake(Arc::clone(&world)), config, Arc::new(Unobserved)).expect("a pool");
        Self {
            pool,
            world,
            held: HashMap::new(),
        }
    }

    /// Does a step; says how it ended, in the script's words.
    async fn carry_out(&mut self, op: &Op) -> &'static str {
        match op {
            Op::Checkout {
                connect_fails,
                ping,
                got,
                text,
            } => {
                {
                    let mut world = self.world.lock();
                    world.connect_fails = *connect_fails;
                    world.ping = *ping;
                }
                return self.checkout(*got, text.as_deref()).await;
            }
            Op::Advance { seconds } => tokio::time::advance(Duration::from_secs(*seconds)).await,
            Op::Return { id } => drop(self.held.remove(id).expect("it is out")),
            Op::Invalidate { id } => {
                let mut conn = self.held.remove(id).expect("it is out");
                conn.discard_on_drop(CloseReason::Broken);
            }
            Op::Disconnect { id } => self.held.remove(id).expect("it is out").invalidate_pool(),
        }
        "ok"
    }

    async fn checkout(&mut self, got: Option<u32>, text: Option<&str>) -> &'static str {
        match self.pool.checkout().await {
            Ok(conn) => {
                assert_eq!(Some(conn.id), got, "the connection handed out");
                self.held.insert(conn.id, conn);
                "ok"
            }
            Err(error @ CheckoutError::Timeout { .. }) => {
                assert_eq!(Some(error.to_string().as_str()), text, "the error's words");
                "timeout"
            }
            Err(CheckoutError::Connect(_)) => "connect_error",
            Err(CheckoutError::Ping(_)) => "ping_error",
            Err(other) => panic!("SQLAlchemy knows no {other:?}"),
        }
    }

    fn seen(&self) -> Seen {
        let status = self.pool.status();
        let world = self.world.lock();
        // SQLAlchemy shows no overflow where it sets no limit on what it keeps.
        let overflow = match status.size {
            0 => 0,
            size => status.live().cast_signed() - size.cast_signed(),
        };
        Seen {
            checkedin: status.idle,
            overflow,
            checkedout: status.in_use,
            open: world.open.clone(),
            pings: world.pings,
        }
    }
}

#[test]
fn every_step_of_random_sequences_agrees_with_sqlalchemy() {
    let seed = match std::env::var("POOLWATCH_TEST_SEED") {
        Ok(given) => given.parse().expect("a seed is a number"),
        Err(_) => rand::random::<u32>(),
    };
    println!("POOLWATCH_TEST_SEED={seed}");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/trace.py");
    let mut command = Command::new(python::with_sqlalchemy());
    let output = command
        .arg(script)
        .args([seed.to_string(), SEQUENCES.to_string()])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let mut results: HashMap<String, usize> = HashMap::new();
    let mut replayed = 0;
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let sequence: Sequence = serde_json::from_str(line).unwrap();
        runtime.block_on(async {
            let mut replay = Replay::new(&sequence.config);
            for (number, step) in sequence.steps.iter().enumerate() {
                let place =
                    || format!("seed {seed}, sequence {replayed}, step {number}: {step:?}\n{line}");
                let result = replay.carry_out(&step.op).await;
                assert_eq!(result, step.result, "{}", place());
                assert_eq!(replay.seen(), step.seen, "{}", place());
                *results.entry(step.result.clone()).or_default() += 1;
            }
        });
        replayed += 1;
    }
    println!("{replayed} sequences, steps by result: {results:?}");
    assert_eq!(replayed, SEQUENCES);
    for result in ["ok", "timeout", "connect_error", "ping_error"] {
        let count = results.get(result).copied().unwrap_or(0);
        assert!(
            count > SEQUENCES / 10,
            "{count} steps ended in {result}: that compares little"
        );
    }
}
