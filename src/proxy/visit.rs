//! A login to the console's database.

use std::sync::Arc;
use std::task::Poll;

use super::Shared;
use super::login::connection;
use super::newcomer::Newcomer;
use crate::auth::Identity;
use crate::console::{EntryError, Interrupt, Session, Visit};
use crate::tls::Stream;

/// Lets a client that has proved who it is into the console, if it may.
pub(super) fn enter(
    shared: &Arc<Shared>,
    client: Newcomer,
    identity: Identity,
) -> Result<Session, (EntryError, Stream)> {
    let peer = client.stream.peer_process();
    let own = peer.is_some_and(|(user, _)| user == nix::unistd::geteuid().as_raw());
    let role = match shared.console.role(&identity.user, own) {
        Ok(role) => role,
        Err(error) => return Err((error, client.stream)),
    };
    let connection = connection(&client);
    let name = client.parameters.value("application_name");
    let registered = shared.controls.register(client.minor, None);
    let (process_id, secret) = (registered.key.process_id, registered.key.secret.clone());
    let visit = Visit {
        user: identity.user,
        role,
        application_name: name.unwrap_or_default().to_owned(),
        addr: client.address,
        connection,
        process_id,
        secret,
        stream: client.stream,
        interrupts: Box::new(move |cx| {
            let control = &registered.control;
            control.register(cx.waker());
            if control.stopping() {
                return Poll::Ready(Interrupt::Stopping);
            }
            match control.take_cancel() {
                true => Poll::Ready(Interrupt::Cancelled),
                false => Poll::Pending,
            }
        }),
    };
    let entered = shared.console.enter(visit);
    entered.map_err(|(error, visit)| (error, visit.stream))
}
