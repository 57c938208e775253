//! A client between its startup packet and its session: what it is known by, and having it prove who it is.

use std::sync::Arc;

use super::Shared;
use super::authenticate::{Conversation, Refused};
use crate::auth::{Channel, Identity, Source};
use crate::backend::Credentials;
use crate::clients::ClientAddr;
use crate::console::Console;
use crate::pgwire::{MINOR, Replies, StartupParameters};
use crate::tls::Stream;

/// A client that said what it wants and is not let in yet.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) stream: Stream,
    /// The protocol's minor version that it asked for.
    pub(super) minor: u16,
    pub(super) parameters: StartupParameters,
    pub(super) channel: Channel,
    pub(super) address: ClientAddr,
}

/// What is known of its connection.
pub(super) fn channel(
    stream: &Stream,
    end_point: Option<Arc<[u8]>>,
    address: ClientAddr,
) -> Channel {
    Channel {
        source: match address {
            ClientAddr::Tcp(address) => Source::Remote(address.ip()),
            ClientAddr::Unix => Source::Local,
        },
        encrypted: stream.is_tls(),
        end_point,
        common_name: stream.client_common_name(),
    }
}

/// Finds out who the client is, and has it prove that.
pub(super) async fn prove(
    shared: &Shared,
    client: &mut Newcomer,
) -> Result<(Identity, Credentials), Refused> {
    let mut conversation = Conversation {
        stream: &mut client.stream,
        metrics: &shared.metrics,
    };
    negotiate(&mut conversation, client.minor, &client.parameters).await?;
    let identity = shared.admission.identify(&client.parameters)?;
    if Console::is_meant(&identity.database) && shared.admission.trusts() {
        // No server is opened for who comes to the console, so there is nothing that it must be known by.
        return Ok((identity, Credentials::default()));
    }
    let credentials = conversation
        .authenticate(&shared.admission, &identity.user, &client.channel)
        .await?;
    Ok((identity, credentials))
}

/// Settles what is spoken, before anything is asked, as PostgreSQL does.
async fn negotiate(
    client: &mut Conversation<'_>,
    minor: u16,
    parameters: &StartupParameters,
) -> std::io::Result<()> {
    let unknown: Vec<&str> = parameters
        .0
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("_pq_."))
        .collect();
    if minor <= MINOR && unknown.is_empty() {
        return Ok(());
    }
    let mut replies = Replies::default();
    replies.negotiate_protocol_version(minor.min(MINOR), &unknown);
    client.send(&replies).await
}
