//! Who is counted, and as what.

use super::*;
use crate::error::ClientError;

fn info(user: &str) -> ClientInfo {
    ClientInfo {
        user: user.to_owned(),
        database: "app".to_owned(),
        application_name: String::new(),
        addr: ClientAddr::Tcp(SocketAddr::from(([192, 0, 2, 7], 4711))),
        connection: Connection::default(),
    }
}

#[test]
fn a_client_is_in_the_table_as_long_as_its_guard() {
    let clients = Clients::new(10, &Metrics::new());
    let first = clients.register(info("a")).unwrap();
    let second = clients.register(info("b")).unwrap();
    assert!(first.id() < second.id());
    assert_eq!(clients.len(), 2);
    drop(first);
    let left = clients.snapshot();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].info.user, "b");
    drop(second);
    assert!(clients.is_empty());
}

#[test]
fn counts_follow_the_states() {
    let clients = Clients::new(10, &Metrics::new());
    let guards: Vec<_> = ClientState::ALL
        .iter()
        .map(|_| clients.register(info("a")).unwrap())
        .collect();
    assert_eq!(clients.counts()[ClientState::Login as usize], guards.len());
    for (guard, state) in guards.iter().zip(ClientState::ALL) {
        guard.set_state(state);
    }
    assert_eq!(clients.counts(), [1; ClientState::COUNT]);
    let states: Vec<_> = clients.snapshot().iter().map(|c| c.state).collect();
    assert_eq!(states, ClientState::ALL);
}

#[test]
fn the_limit_is_kept_counted_and_told_in_postgresqls_words() {
    let metrics = Metrics::new();
    let clients = Clients::new(1, &metrics);
    let held = clients.register(info("a")).unwrap();
    let error = clients.register(info("b")).unwrap_err();
    assert_eq!(error, TooManyClients::InAll { limit: 1 });
    assert_eq!(error.sqlstate(), "53300");
    assert_eq!(error.client_message(), "sorry, too many clients already");
    let text = metrics.encode().unwrap();
    assert!(text.contains("poolwatch_limit_rejections_total{limit=\"clients\"} 1\n"));
    assert!(text.contains("poolwatch_clients{state=\"login\"} 1\n"));
    drop(held);
    assert!(clients.register(info("b")).is_ok());
}

#[test]
fn one_user_has_a_limit_of_its_own() {
    let metrics = Metrics::new();
    let limits = Limits {
        in_all: 3,
        per_user: 1,
    };
    let clients = Clients::new(limits, &metrics);
    let held = clients.register(info("a")).unwrap();
    let error = clients.register(info("a")).unwrap_err();
    assert_eq!(error.sqlstate(), "53300");
    let text = "too many connections for role \"a\"";
    assert_eq!(error.client_message(), text);
    let _other = clients.register(info("b")).unwrap();
    let text = metrics.encode().unwrap();
    assert!(text.contains("poolwatch_limit_rejections_total{limit=\"clients_per_user\"} 1\n"));
    drop(held);
    let _again = clients.register(info("a")).unwrap();
    assert_eq!(clients.0.live.lock().by_user.len(), 2);
}

#[test]
fn what_lasts_is_told_from_what_is_there_again() {
    let clients = Clients::new(1, &Metrics::new());
    let guard = clients.register(info("a")).unwrap();
    guard.set_state(ClientState::Active);
    let asked = guard.activity();
    assert_eq!(guard.watch().activity(), asked);
    guard.set_state(ClientState::IdleInTransaction);
    guard.set_state(ClientState::Active);
    let again = guard.activity();
    assert_eq!(
        (again.state, again.transaction),
        (asked.state, asked.transaction)
    );
    assert_ne!(again.step, asked.step);
    guard.next_request(true);
    assert_eq!(guard.activity().state, ClientState::Active);
    assert_ne!(guard.activity().transaction, again.transaction);
    // It begins anew, and the fields do not run into each other.
    let last = Activity {
        state: ClientState::Waiting,
        step: (1 << 28) - 1,
        transaction: (1 << 28) - 1,
    };
    let next = Activity::unpack(last.moved(ClientState::Active, true).pack());
    assert_eq!(
        (next.state, next.step, next.transaction),
        (ClientState::Active, 0, 0)
    );
}

#[test]
fn debug_hides_the_address() {
    let text = format!("{:?}", info("a"));
    assert!(
        !text.contains("192.0.2.7") && !text.contains("4711"),
        "{text}"
    );
}
