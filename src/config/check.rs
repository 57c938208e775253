//! What must hold between keys, and the bounds that their types do not know.

use std::net::IpAddr;
use std::time::Duration;

use super::load::Reading;
use super::problem::Wrong;
use super::sources::Sources;
use super::value::AuthMethod;
use crate::dsn::{Host, HostPort};

/// Notes everything that does not fit.
pub(super) fn check(sources: &Sources, reading: &mut Reading) {
    bounds(reading);
    listeners(reading);
    upstream(sources, reading);
}

fn bounds(reading: &mut Reading) {
    const POSITIVE: &str = "it must be at least 1";
    const TIMED: &str = "it must be longer than 0s";
    let settings = &reading.settings;
    let (pool, listen, limits) = (&settings.pool, &settings.listen, &settings.limits);
    let runs = |limit: Option<Duration>| limit.is_none_or(|limit| !limit.is_zero());
    let rules = [
        (
            "pool.max_overflow",
            pool.max_overflow >= -1,
            "it must be -1 (no limit) or more",
        ),
        (
            "pool.pre_ping_timeout",
            !pool.pre_ping_timeout.is_zero(),
            TIMED,
        ),
        ("pool.reset_timeout", !pool.reset_timeout.is_zero(), TIMED),
        ("pool.max_pools", pool.max_pools > 0, POSITIVE),
        (
            "upstream.connect_timeout",
            !settings.upstream.connect_timeout.is_zero(),
            TIMED,
        ),
        ("listen.max_clients", listen.max_clients > 0, POSITIVE),
        (
            "listen.login_timeout",
            !listen.login_timeout.is_zero(),
            TIMED,
        ),
        (
            "admin.wait_timeout",
            !settings.admin.wait_timeout.is_zero(),
            TIMED,
        ),
        ("limits.idle_client", runs(limits.idle_client), TIMED),
        (
            "limits.idle_in_transaction",
            runs(limits.idle_in_transaction),
            TIMED,
        ),
        (
            "limits.transaction_time",
            runs(limits.transaction_time),
            TIMED,
        ),
        ("limits.query_time", runs(limits.query_time), TIMED),
        ("limits.idle_pool", runs(limits.idle_pool), TIMED),
        ("threads.data", settings.threads.data > 0, POSITIVE),
        ("threads.control", settings.threads.control > 0, POSITIVE),
        (
            "listen.tls_key",
            listen.tls_cert.is_none() || listen.tls_key.is_some(),
            "listen.tls_cert is set, so its key must be too",
        ),
        (
            "listen.tls_cert",
            listen.tls_key.is_none() || listen.tls_cert.is_some(),
            "listen.tls_key is set, so its certificate must be too",
        ),
        (
            "auth.method",
            settings.auth.method != AuthMethod::Cert || listen.tls_client_ca.is_some(),
            "cert needs listen.tls_client_ca, which says whose certificates are good",
        ),
        (
            "auth.method",
            !settings.has_nothing_to_check(),
            "there is no password to check: give upstream.url one, or set auth.users_file or auth.query",
        ),
        (
            "listen.address",
            !listen.address.0.is_empty() || listen.unix_socket_dir.is_some(),
            "give an address, or a directory for a Unix socket in listen.unix_socket_dir",
        ),
        (
            "http.address",
            !listen
                .address
                .0
                .iter()
                .any(|address| same_place(address, &settings.http.address)),
            "applications connect there already (listen.address); give another port",
        ),
    ];
    let broken: Vec<_> = rules.into_iter().filter(|(_, holds, _)| !holds).collect();
    for (key, _, must) in broken {
        let origin = reading.origin(key);
        reading.wrong(origin, Some(key.to_owned()), Wrong::Unfit { must });
    }
}

/// Where clients prove nothing, whoever can connect is let in: only this machine may.
fn listeners(reading: &mut Reading) {
    if !reading.settings.trusts_clients() {
        return;
    }
    let reachable = |address: &HostPort| match &address.host {
        Host::Tcp(name) => !is_this_machine(name) || is_wildcard(name),
        Host::Unix(_) => false,
    };
    if reading.settings.listen.address.0.iter().any(reachable) {
        const KEY: &str = "listen.address";
        let must = "it must be a loopback address (127.0.0.1, [::1], localhost), because clients are trusted without a proof: \
                    give upstream.url a password, or set auth.users_file, auth.query or auth.method";
        let origin = reading.origin(KEY);
        reading.wrong(origin, Some(KEY.to_owned()), Wrong::Unfit { must });
    }
}

fn upstream(sources: &Sources, reading: &mut Reading) {
    const KEY: &str = "upstream.url";
    let Some(dsn) = &reading.settings.upstream.url else {
        if sources.upstream_required && !reading.is_set(KEY) {
            let origin = reading.origin(KEY);
            reading.wrong(origin, Some(KEY.to_owned()), Wrong::NoUpstream);
        }
        return;
    };
    let listen = &reading.settings.listen;
    let ours: Vec<_> = listen
        .address
        .0
        .iter()
        .cloned()
        .chain(listen.unix_socket())
        .collect();
    let meets = dsn
        .hosts
        .iter()
        .find_map(|host| ours.iter().find(|ours| same_place(ours, host)));
    if let Some(listener) = meets {
        let listener = listener.to_string();
        let origin = reading.origin(KEY);
        reading.wrong(
            origin,
            Some(KEY.to_owned()),
            Wrong::OwnListener { listener },
        );
    }
}

/// Whether connecting to `there` reaches a listener at `here`, as far as can be told without asking the network.
fn same_place(here: &HostPort, there: &HostPort) -> bool {
    if here.port != there.port || here.port == 0 {
        return false;
    }
    match (&here.host, &there.host) {
        (Host::Tcp(here), Host::Tcp(there)) => {
            here.eq_ignore_ascii_case(there)
                || is_local(here) && is_local(there) && !both_addresses(here, there)
                || is_wildcard(here) && is_this_machine(there)
                || is_this_machine(here) && is_wildcard(there)
        }
        (Host::Unix(here), Host::Unix(there)) => here.components().eq(there.components()),
        _ => false,
    }
}

/// Two addresses that are written differently are two places; a name may stand for either.
fn both_addresses(a: &str, b: &str) -> bool {
    match (a.parse::<IpAddr>(), b.parse::<IpAddr>()) {
        (Ok(a), Ok(b)) => a.to_canonical() != b.to_canonical(),
        _ => false,
    }
}

/// A loopback address or its name.
fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

/// A loopback address, its name, or all addresses.
fn is_this_machine(name: &str) -> bool {
    is_local(name) || is_wildcard(name)
}

fn is_wildcard(name: &str) -> bool {
    name.parse::<IpAddr>()
        .is_ok_and(|address| address.is_unspecified())
}
