//! The commands that change something. Each answers when what it ordered has come about, or says after
//! `admin.wait_timeout` what has not; the order stays then.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::commands::Argument;
use super::refusal::Refusal;
use super::{Answer, Ask, Console, Hooks, Shared, Shutdown};
use crate::clients::{ClientState, Reading};

type Done = Answer<Result<(), Refusal>>;

/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn pause(shared: Arc<Shared>, argument: Argument) -> Done {
    Box::pin(async move {
        let database = shared.database(argument)?;
        let database = database.as_deref();
        if database.is_none() && shared.hooks()?.suspended() {
            return Err(Refusal::Paused);
        }
        // A database that is paused already is waited for once more, as PgBouncer does.
        if !shared.cluster.pause(database) && database.is_none() {
            return Err(Refusal::Paused);
        }
        let limit = shared.config.wait_limit;
        tokio::select! {
            released = shared.cluster.released(database, limit) => Ok(released?),
            // What is lost is the wait, for what nobody wants any more.
            () = resumed(&shared, database) => Err(Refusal::Resumed),
        }
    })
}

/// Waits until somebody else has ended this pause.
async fn resumed(shared: &Shared, database: Option<&str>) {
    loop {
        let ordered = shared.cluster.ordered();
        match database {
            None if !ordered.all_paused => return,
            Some(name) if !ordered.paused.contains(name) => return,
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

pub(super) fn resume(shared: Arc<Shared>, argument: Argument) -> Done {
    Box::pin(async move {
        let database = shared.database(argument)?;
        let resumed = shared.cluster.resume(database.as_deref());
        match database {
            None if shared.hooks()?.listen_again() || resumed => Ok(()),
            None => Err(Refusal::NotPaused),
            Some(_) if resumed => Ok(()),
            Some(name) => Err(Refusal::DatabaseNotPaused(name)),
        }
    })
}

/// What has begun is read to its end first: a client in the middle of a transaction has a server that others wait for.
pub(super) fn suspend(shared: Arc<Shared>, _: Argument) -> Done {
    Box::pin(async move {
        let hooks = shared.hooks()?;
        let change = |from, to| match (hooks.change_reading)(&[from], to) {
            true => Ok(()),
            false => Err(Refusal::Resumed),
        };
        if shared.cluster.ordered().all_paused || hooks.suspended() {
            return Err(Refusal::Paused);
        }
        change(Reading::Everything, Reading::Begun).map_err(|_| Refusal::Paused)?;
        let deadline = Instant::now() + shared.config.wait_limit;
        loop {
            let late = Instant::now() >= deadline;
            if late || shared.busy() == 0 {
                change(Reading::Begun, Reading::Nothing)?;
                // Time for what was being read at that moment to show.
                tokio::time::sleep(PAUSE).await;
                match shared.busy() {
                    0 => return Ok(()),
                    busy if late => return Err(Refusal::StillBusy(busy)),
                    _ => change(Reading::Nothing, Reading::Begun)?,
                }
            }
            tokio::time::sleep(PAUSE).await;
            if !hooks.suspended() {
                return Err(Refusal::Resumed);
            }
        }
    })
}

pub(super) fn disable(shared: Arc<Shared>, argument: Argument) -> Done {
    set_disabled(shared, argument, true)
}

pub(super) fn enable(shared: Arc<Shared>, argument: Argument) -> Done {
    set_disabled(shared, argument, false)
}

fn set_disabled(shared: Arc<Shared>, argument: Argument, disabled: bool) -> Done {
    Box::pin(async move {
        let database = shared.database(argument)?;
        let database = database.ok_or(Refusal::DatabaseRequired)?;
        shared.cluster.set_disabled(&database, disabled);
        Ok(())
    })
}

pub(super) fn reconnect(shared: Arc<Shared>, argument: Argument) -> Done {
    Box::pin(async move {
        let database = shared.database(argument)?;
        shared.cluster.reconnect(database.as_deref());
        Ok(())
    })
}

pub(super) fn wait_close(shared: Arc<Shared>, argument: Argument) -> Done {
    Box::pin(async move {
        let database = shared.database(argument)?;
        let limit = shared.config.wait_limit;
        Ok(shared.cluster.replaced(database.as_deref(), limit).await?)
    })
}

/// Those who come later wait, until RESUME.
pub(super) fn kill(shared: Arc<Shared>, argument: Argument) -> Done {
    Box::pin(async move {
        let database = shared.database(argument)?;
        shared.cluster.pause(database.as_deref());
        (shared.hooks()?.end_clients)(database.clone()).await;
        let limit = shared.config.wait_limit;
        Ok(shared.cluster.released(database.as_deref(), limit).await?)
    })
}

pub(super) fn kill_client(shared: Arc<Shared>, argument: Argument) -> Done {
    Box::pin(async move {
        let Argument::Word(word) = argument else {
            return Err(Refusal::NoId);
        };
        let id = word.parse().map_err(|_| Refusal::NoId)?;
        match (shared.hooks()?.end_client)(id).await {
            true => Ok(()),
            false => Err(Refusal::NoClient),
        }
    })
}

pub(super) fn reload(shared: Arc<Shared>, _: Argument) -> Done {
    ask(shared, Ask::Reload)
}

pub(super) fn set(shared: Arc<Shared>, argument: Argument) -> Done {
    match argument {
        Argument::Setting(key, value) => ask(shared, Ask::Set { key, value }),
        Argument::None | Argument::Word(_) => Box::pin(async { Err(usage("SET key = value")) }),
    }
}

pub(super) fn shutdown(shared: Arc<Shared>, argument: Argument) -> Done {
    let word = match argument {
        Argument::Word(word) => word.to_ascii_uppercase(),
        Argument::None | Argument::Setting(..) => String::new(),
    };
    let how = match word.as_str() {
        "" => Shutdown::Immediate,
        "WAIT_FOR_SERVERS" => Shutdown::WaitForServers,
        "WAIT_FOR_CLIENTS" => Shutdown::WaitForClients,
        _ => {
            let usage = usage("SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]");
            return Box::pin(async { Err(usage) });
        }
    };
    ask(shared, Ask::Shutdown(how))
}

fn usage(of: &str) -> Refusal {
    Refusal::Usage(of.to_owned())
}

fn ask(shared: Arc<Shared>, ask: Ask) -> Done {
    Box::pin(async move {
        let asked = (shared.hooks()?.ask)(ask);
        asked.await.map_err(Refusal::Process)
    })
}

impl Hooks {
    /// Ends a suspension. False if there was none.
    fn listen_again(&self) -> bool {
        (self.change_reading)(&[Reading::Begun, Reading::Nothing], Reading::Everything)
    }
}

impl Shared {
    /// Clients whose request is not answered yet.
    fn busy(&self) -> usize {
        let counts = self.clients.counts();
        counts[ClientState::Active as usize] + counts[ClientState::Waiting as usize]
    }

    pub(super) fn hooks(&self) -> Result<&Hooks, Refusal> {
        self.hooks.get().ok_or(Refusal::Starting)
    }

    /// The database that a command names, if it names one; it must be known.
    fn database(&self, argument: Argument) -> Result<Option<String>, Refusal> {
        match argument {
            Argument::Word(name) if Console::is_meant(&name) => Err(Refusal::Console(name)),
            Argument::Word(name) if self.cluster.knows(&name) => Ok(Some(name)),
            Argument::Word(name) => Err(Refusal::NoDatabase(name)),
            Argument::None | Argument::Setting(..) => Ok(None),
        }
    }
}
