//! What counts when, with the server's answers made up.

use super::*;

fn left(state: &State) -> Vec<&'static str> {
    let more = state.more.as_ref();
    more.map_or_else(Vec::new, |more| {
        more.left.reasons().map(|reason| reason.label()).collect()
    })
}

fn done(state: &mut State, tag: &str) {
    state.on_done(Some(tag.as_bytes()), &Parameters::default());
}

fn query(state: &mut State, text: &str) {
    state.on_query(format!("{text}\0").as_bytes(), true);
}

fn bind(state: &mut State, portal: &str, name: &str) {
    state.on_bind(format!("{portal}\0{name}\0\0\0\0\0").as_bytes());
}

fn execute(state: &mut State, portal: &str) {
    state.on_execute(format!("{portal}\0\0\0\0\0").as_bytes());
}

#[test]
fn each_statement_of_a_query_has_a_tag() {
    let mut state = State::default();
    query(&mut state, "SELECT 1; SET work_mem = 1; ; LISTEN a");
    done(&mut state, "SELECT 1");
    assert!(left(&state).is_empty());
    done(&mut state, "SET");
    assert_eq!(left(&state), ["set_parameter"]);
    done(&mut state, "LISTEN");
    assert_eq!(left(&state), ["set_parameter", "listen"]);
    state.on_ready(TxStatus::Idle, true, true);
    assert!(state.flights.is_empty());
    // An error takes back what went before it in its Query.
    query(&mut state, "UNLISTEN *; SELECT 1/0");
    done(&mut state, "UNLISTEN");
    state.on_failed(Ended::Query);
    state.on_ready(TxStatus::Idle, true, true);
    assert_eq!(left(&state), ["set_parameter", "listen"]);
}

#[test]
fn a_lock_of_a_statement_that_failed_counts() {
    let mut state = State::default();
    query(&mut state, "SELECT pg_advisory_lock(1), 1/0");
    state.on_failed(Ended::Query);
    state.on_ready(TxStatus::Idle, true, true);
    assert_eq!(left(&state), ["advisory_lock"]);
}

#[test]
fn a_transaction_counts_at_its_end() {
    let mut state = State::default();
    query(&mut state, "BEGIN");
    done(&mut state, "BEGIN");
    state.on_ready(TxStatus::InTransaction, true, true);
    query(&mut state, "SET work_mem = 1");
    done(&mut state, "SET");
    state.on_ready(TxStatus::InTransaction, true, true);
    assert!(state.reset().has(Reset::PARAMETERS));
    query(&mut state, "COMMIT");
    // It had failed meanwhile.
    done(&mut state, "ROLLBACK");
    state.on_ready(TxStatus::Idle, true, true);
    assert_eq!(state.reset(), Reset::NOTHING);
}

#[test]
fn an_execute_runs_what_its_portal_was_bound_to() {
    let mut state = State::default();
    state.on_parse(b"s", b"LISTEN a", true);
    state.on_parse(b"", b"SELECT 1", true);
    bind(&mut state, "p", "s");
    bind(&mut state, "", "");
    execute(&mut state, "");
    execute(&mut state, "p");
    done(&mut state, "SELECT 1");
    assert!(left(&state).is_empty());
    assert_eq!(
        state.reset(),
        Reset::EVERYTHING,
        "what is under way may do anything"
    );
    done(&mut state, "LISTEN");
    assert_eq!(left(&state), ["listen"]);
    state.on_ready(TxStatus::Idle, false, true);
    assert_eq!(state.reset(), Reset::CHANNELS);
}

#[test]
fn an_error_takes_the_executes_behind_it() {
    let mut state = State::default();
    state.on_parse(b"", b"SET work_mem = 1", true);
    for _ in 0..3 {
        bind(&mut state, "", "");
        execute(&mut state, "");
    }
    done(&mut state, "SET");
    state.on_failed(Ended::Execute(1));
    assert_eq!(state.flights.len(), 1, "that of the next batch");
    state.on_ready(TxStatus::Idle, false, false);
    assert!(left(&state).is_empty());
    done(&mut state, "SET");
    state.on_ready(TxStatus::Idle, false, true);
    assert_eq!(left(&state), ["set_parameter"]);
}

#[test]
fn a_name_that_may_stand_for_either_counts_for_both() {
    let mut state = State::default();
    state.on_parse(b"", b"SELECT set_config('a', 'b', false)", true);
    state.on_ready(TxStatus::Idle, false, true);
    // The server skips this one.
    state.on_parse(b"", b"SELECT 1", true);
    state.on_failed(Ended::Other(0));
    state.on_ready(TxStatus::Idle, false, true);
    bind(&mut state, "", "");
    execute(&mut state, "");
    done(&mut state, "SELECT 1");
    assert_eq!(left(&state), ["set_config"]);
}

#[test]
fn the_tag_tells_which_of_several_was_run() {
    let mut state = State::default();
    state.on_parse(b"s", b"RESET ALL", true);
    // The name is taken.
    state.on_parse(b"s", b"SET work_mem = 1", true);
    state.on_failed(Ended::Other(0));
    state.on_ready(TxStatus::Idle, false, true);
    bind(&mut state, "", "s");
    execute(&mut state, "");
    done(&mut state, "RESET");
    assert!(left(&state).is_empty());
    assert!(state.is_defaulting(), "its defaults are known to be there");
}

#[test]
fn a_text_that_comes_in_pieces_counts_as_a_whole() {
    let mut state = State::default();
    state.on_query(b"SELECT 'long", false);
    state.on_piece(b"'; LIS", false);
    state.on_piece(b"TEN a\0", true);
    done(&mut state, "SELECT 1");
    done(&mut state, "LISTEN");
    assert_eq!(left(&state), ["listen"]);
}

#[test]
fn a_tag_that_is_not_known_or_does_not_fit_counts() {
    for (text, tag) in [
        ("SELECT 1", "SET"),
        ("FROB x", "FROB"),
        ("SET x = 1", "LISTEN"),
        ("SET x = 1; SELECT 1", "LOAD"),
    ] {
        let mut state = State::default();
        query(&mut state, text);
        done(&mut state, tag);
        assert!(left(&state).contains(&"command"), "{text}: {tag}");
    }
    for tag in [
        "SELECT 1",
        "INSERT 0 1",
        "CREATE TABLE",
        "VACUUM",
        "EXPLAIN",
        "TRUNCATE TABLE",
        "GRANT",
        "REFRESH MATERIALIZED VIEW",
        "CALL",
        "LOCK TABLE",
        "FETCH 1",
        "SET CONSTRAINTS",
        "ROLLBACK",
        "ROLLBACK PREPARED",
        "ALTER TABLE",
        "NOTIFY",
        "START TRANSACTION",
    ] {
        let mut state = State::default();
        query(&mut state, "SELECT 1");
        done(&mut state, tag);
        assert!(left(&state).is_empty(), "{tag}");
    }
}

#[test]
fn a_backslash_counts_where_it_ends_no_literal() {
    let mut off = Parameters::default();
    off.set("standard_conforming_strings", "off");
    for (reported, expected) in [(Parameters::default(), 0), (off, 1)] {
        let mut state = State::default();
        query(
            &mut state,
            r"CREATE TABLE t (a text DEFAULT 'x\'); SET x = 1; --')",
        );
        state.on_done(Some(b"CREATE TABLE"), &reported);
        assert_eq!(left(&state).len(), expected);
    }
}

#[test]
fn nothing_is_kept_of_a_session_that_leaves_nothing() {
    let mut state = State::default();
    let metrics = crate::metrics::Metrics::new().pool(crate::metrics::PoolLabels {
        name: "p".to_owned(),
        namespace: "d".to_owned(),
        host: "h".to_owned(),
        port: 1,
    });
    let mut pins = Pins::default();
    state.pinning = true;
    query(&mut state, "LISTEN a");
    done(&mut state, "LISTEN");
    state.on_ready(TxStatus::Idle, true, true);
    state.pin(&mut pins, &metrics);
    assert!(pins.any());
    query(&mut state, "UNLISTEN a");
    done(&mut state, "UNLISTEN");
    state.on_ready(TxStatus::Idle, true, true);
    state.pin(&mut pins, &metrics);
    assert!(!pins.any());
    assert!(state.more.is_none());
}

#[test]
fn a_query_that_was_skipped_is_not_waited_for() {
    let mut state = State::default();
    // The Parse in front failed, and the server skips to the Sync.
    query(&mut state, "LISTEN a");
    state.on_failed(Ended::Other(1));
    state.on_ready(TxStatus::Idle, false, true);
    assert!(state.flights.is_empty());
    query(&mut state, "SET work_mem = 1");
    done(&mut state, "SET");
    assert_eq!(left(&state), ["set_parameter"]);
}

#[test]
fn what_never_ran_holds_no_lock() {
    let mut state = State::default();
    state.on_parse(b"", b"SELECT pg_advisory_lock(1)", true);
    bind(&mut state, "", "");
    execute(&mut state, "");
    state.on_failed(Ended::Other(1));
    state.on_ready(TxStatus::Idle, false, true);
    assert!(left(&state).is_empty());
}

#[test]
fn a_statement_counts_with_its_first_rows_and_once() {
    let mut state = State::default();
    state.on_parse(b"", b"SELECT pg_advisory_lock(1)", true);
    bind(&mut state, "", "");
    execute(&mut state, "");
    execute(&mut state, "");
    state.on_suspended(&Parameters::default());
    assert_eq!(left(&state), ["advisory_lock"]);
    done(&mut state, "SELECT 0");
    state.on_parse(b"", b"SELECT pg_advisory_unlock(1)", true);
    bind(&mut state, "", "");
    execute(&mut state, "");
    state.on_suspended(&Parameters::default());
    assert!(left(&state).is_empty());
}

#[test]
fn what_a_name_of_too_many_does_is_never_known() {
    let mut state = State::default();
    for number in 0..=2_000 {
        state.on_parse(format!("s{number}").as_bytes(), b"LISTEN a", true);
    }
    query(&mut state, "DISCARD ALL");
    done(&mut state, "DISCARD ALL");
    assert_eq!(left(&state), ["command"]);
}

#[test]
fn half_of_a_character_is_no_backslash() {
    let mut sjis = Parameters::default();
    sjis.set("client_encoding", "SJIS");
    for (reported, expected) in [(Parameters::default(), 0), (sjis, 1)] {
        let mut state = State::default();
        let text = [
            &b"SELECT E'\x95"[..],
            b"\\', set_config('a', 'b', false), E'\x95\\'\0",
        ]
        .concat();
        state.on_query(&text, true);
        state.on_done(Some(b"SELECT 1"), &reported);
        assert_eq!(left(&state).len(), expected);
    }
}

#[test]
fn what_is_under_way_may_leave_anything() {
    let mut state = State::default();
    query(&mut state, "SET work_mem = 1");
    assert_eq!(state.reset(), Reset::EVERYTHING);
    done(&mut state, "SET");
    state.on_ready(TxStatus::Idle, true, true);
    assert_eq!(state.reset(), Reset::PARAMETERS);
}

#[test]
fn the_end_of_a_transaction_is_nothing_to_a_session_that_left_nothing() {
    let mut state = State::default();
    query(&mut state, "COMMIT");
    done(&mut state, "COMMIT");
    assert!(state.more.is_none());
}
