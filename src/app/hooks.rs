//! What the console and the JSON API show and steer: their way to the parts above them.

use std::sync::Arc;

use super::asks::Asking;
use super::{AFTER_CANCEL, App, parts};
use crate::console::{self, Console};
use crate::http::{self, HttpState, Orders};
use crate::metrics::Metrics;
use crate::status::Status;

impl App {
    /// Connects the JSON API with what it shows and steers: the console's orders, by another way.
    pub(super) fn open_http(&self, state: &mut HttpState, asking: Asking) {
        let settings = self.settings.clone();
        state.settings = Arc::new(move || parts::http_settings(&settings.lock()));
        let (ending, cancelling) = (self.proxy.sessions(), self.proxy.sessions());
        let logins = self.clients.clone();
        state.orders = Some(Arc::new(Orders {
            cluster: self.cluster.clone(),
            ask: Box::new(move |ask| {
                let asking = asking.clone();
                Box::pin(async move {
                    let asks = match ask {
                        http::Ask::Reload => vec![console::Ask::Reload],
                        http::Ask::Set(settings) => settings
                            .into_iter()
                            .map(|(key, value)| console::Ask::Set {
                                key: key.to_owned(),
                                value,
                            })
                            .collect(),
                    };
                    for ask in asks {
                        asking.ask(ask).await?;
                    }
                    Ok(())
                })
            }),
            end_client: Box::new(move |client| {
                let (sessions, logins) = (ending.clone(), logins.clone());
                Box::pin(async move {
                    sessions.end(client, AFTER_CANCEL).await
                        || logins.end_logins(|id, _| id == client) > 0
                })
            }),
            cancel: Box::new(move |client| {
                let sessions = cancelling.clone();
                Box::pin(async move { sessions.cancel(client, AFTER_CANCEL).await })
            }),
        }));
    }

    /// Connects the console with what it shows and steers.
    pub(super) fn open_console(
        &self,
        console: &Console,
        status: Arc<Status>,
        asking: Asking,
        metrics: &Metrics,
    ) {
        let settings = self.settings.clone();
        let sessions = self.proxy.sessions();
        let (changing, reading) = (sessions.clone(), sessions.clone());
        let (ending, ending_all) = (sessions.clone(), sessions);
        let (logins, all_logins) = (self.clients.clone(), self.clients.clone());
        let (tasks, runtime) = (self.sessions.clone(), self.control_path.first());
        console.attach(console::Hooks {
            status,
            host: Box::new(move |session| {
                drop(tasks.spawn_on(&runtime, "console", session.run()));
            }),
            settings: Box::new(move || parts::shown(&settings.lock())),
            ask: Box::new(move |ask| asking.ask(ask)),
            change_reading: Box::new(move |from, to| changing.change_reading(from, to)),
            reading: Box::new(move || reading.reading()),
            end_client: Box::new(move |client| {
                let (sessions, logins) = (ending.clone(), logins.clone());
                Box::pin(async move {
                    sessions.end(client, AFTER_CANCEL).await
                        || logins.end_logins(|id, _| id == client) > 0
                })
            }),
            end_clients: Box::new(move |database| {
                let (sessions, logins) = (ending_all.clone(), all_logins.clone());
                Box::pin(async move {
                    let database = database.as_deref();
                    let logins =
                        logins.end_logins(|_, of| database.is_none_or(|d| d == of.database));
                    logins + sessions.end_all(database, AFTER_CANCEL).await
                })
            }),
        });
        let compat = self.settings.lock().metrics.compat;
        if compat.pgbouncer {
            let exported = console.clone();
            metrics.watch_compat(move || exported.exported());
        }
        if compat.letta {
            metrics.show_as_letta();
        }
        let (averages, stopping) = (console.clone(), self.background.stopping());
        self.background
            .spawn_on(&self.control_path.first(), "averages", async move {
                tokio::select! {
                    () = stopping => {}
                    () = averages.keep_averages() => {}
                }
            });
    }
}
