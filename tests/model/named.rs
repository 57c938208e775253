//! Programs that are worth a name: what was found to differ once, made small, and what must never differ.

use crate::catalogue::Effect;
use crate::compare::{Bed, Mode};
use crate::program::{Action, Message, Program, Startup, Statement, Step};
use crate::{SESSION, TRANSACTION};

/// Runs a program and fails if anything differs at all.
async fn same(mode: Mode, clients: &[Startup], steps: Vec<Step>) {
    let bed = Bed::new(mode).await;
    let said = bed.both(&program(clients, steps)).await;
    assert!(said.straight == said.pooled, "{said}");
    bed.well().await;
}

fn program(clients: &[Startup], steps: Vec<Step>) -> Program {
    Program {
        first: 0,
        clients: clients.to_vec(),
        steps,
    }
}

fn text(text: &str) -> Statement {
    const NONE: &[Effect] = &[];
    Statement {
        text: text.to_owned(),
        parameters: 0,
        effects: NONE,
    }
}

fn send(client: usize, messages: Vec<Message>) -> Step {
    Step {
        client,
        action: Action::Send(messages),
    }
}

fn query(client: usize, sql: &str) -> Step {
    send(client, vec![Message::Query(text(sql))])
}

fn parse(name: &str, sql: &str) -> Message {
    Message::Parse {
        name: name.to_owned(),
        statement: text(sql),
    }
}

fn bind(portal: &str, name: &str) -> Message {
    Message::Bind {
        portal: portal.to_owned(),
        name: name.to_owned(),
        arguments: Vec::new(),
        binary: false,
    }
}

fn describe(kind: u8, name: &str) -> Message {
    Message::Describe {
        kind,
        name: name.to_owned(),
    }
}

fn execute(portal: &str, rows: u32) -> Message {
    Message::Execute {
        portal: portal.to_owned(),
        rows,
    }
}

#[tokio::test]
async fn the_rule_of_waiting_is_kept_by_the_harness_itself() {
    // Three transactions at once: the third would wait for ever.
    let begin = Statement {
        effects: &[Effect::Begins],
        ..text("BEGIN")
    };
    let steps = (0..3).map(|client| send(client, vec![Message::Query(begin.clone())]));
    let program = program(&[&[], &[], &[]], steps.collect());
    assert!(!crate::holding::Holding::admits(&program, false));
}

/// On a direct connection the statement fails from then on. Through poolwatch it may, and may as well be prepared anew.
#[tokio::test]
async fn a_result_type_that_changes_under_a_statement() {
    for name in ["", "s"] {
        let uses = vec![
            bind("", name),
            describe(b'P', ""),
            execute("", 0),
            Message::Sync,
        ];
        let steps = vec![
            send(
                0,
                vec![parse(name, "SELECT * FROM t0 ORDER BY n"), Message::Sync],
            ),
            send(0, uses.clone()),
            query(1, "ALTER TABLE t0 ADD COLUMN x int DEFAULT 5"),
            send(0, uses),
        ];
        let program = program(&[&[], &[]], steps);
        let said = Bed::new(TRANSACTION).await.both(&program).await;
        let [straight, pooled] = [&said.straight, &said.pooled].map(|side| &side.steps[3]);
        assert!(straight[0].contains("|C0A000|"), "{said}");
        let anew = [
            "2 ",
            "T n(own.1 23/4/-1/0) v(own.2 25/-1/-1/0) x(own.3 23/4/-1/0)",
            "D 1 | a | 5",
            "D 2 | b | 5",
            "D 3 | NULL | 5",
            "C SELECT 3|",
            "Z I",
        ];
        assert!(straight == pooled || *pooled == anew, "{said}");
    }
}

#[tokio::test]
async fn portals_are_read_in_pieces_over_several_syncs() {
    let steps = vec![
        query(0, "BEGIN"),
        send(
            0,
            vec![
                parse("s", "SELECT generate_series(1, 9)"),
                bind("a", "s"),
                bind("b", "s"),
                execute("a", 2),
                Message::Sync,
                execute("b", 4),
                execute("a", 3),
                Message::Flush,
            ],
        ),
        query(1, "SELECT 'meanwhile'"),
        send(
            0,
            vec![
                execute("a", 0),
                execute("a", 0),
                Message::Sync,
                execute("b", 0),
                Message::Sync,
            ],
        ),
        query(0, "COMMIT"),
        send(0, vec![execute("a", 1), Message::Sync]),
    ];
    same(TRANSACTION, &[&[], &[]], steps.clone()).await;
    same(SESSION, &[&[], &[]], steps).await;
}

/// The end of a cancel connection says that the signal was sent. Here it comes before: the handshake gives up the stream
/// when it returns `Login::Cancel` (proxy/handshake.rs), so the request is passed on after its client saw the end, and hits
/// what that client runs next.
#[tokio::test]
async fn a_cancel_while_nothing_runs_cancels_nothing() {
    let cancel = Step {
        client: 0,
        action: Action::CancelIdle,
    };
    let rounds = (0..200).flat_map(|_| [cancel.clone(), query(0, "SELECT 1")]);
    for (mode, first) in [
        (TRANSACTION, "SELECT 'held by nobody'"),
        (TRANSACTION, "BEGIN"),
        (TRANSACTION, "SET work_mem = '5MB'"),
        (SESSION, "SELECT 'held from the login on'"),
    ] {
        let steps = [query(0, first)]
            .into_iter()
            .chain(rounds.clone())
            .collect();
        same(mode, &[&[]], steps).await;
    }
}

/// The Sync behind the Parse was sent before its answer came, so the Parse counts as unconfirmed (proxy/prepared.rs,
/// `on_sync`) and is sent again ahead of the next use: in a failed transaction that is refused, where the use itself would not have been.
#[tokio::test]
async fn an_unnamed_statement_is_described_in_a_failed_transaction() {
    let steps = vec![
        query(0, "BEGIN"),
        send(
            0,
            vec![
                parse("", "INSERT INTO t0 VALUES (7, 'g')"),
                execute("none", 0),
                Message::Sync,
            ],
        ),
        send(0, vec![describe(b'S', ""), Message::Sync]),
        query(0, "ROLLBACK"),
    ];
    same(TRANSACTION, &[&[]], steps).await;
}

/// As above: the Parse that is sent again takes a snapshot, and the transaction's isolation level cannot be set any more.
#[tokio::test]
async fn an_unnamed_statement_is_described_ahead_of_a_transaction() {
    let steps = vec![
        send(0, vec![parse("", "SELECT current_user"), Message::Sync]),
        send(
            0,
            vec![
                describe(b'S', ""),
                parse("", "START TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
                bind("", ""),
                execute("", 0),
                Message::Sync,
            ],
        ),
        query(0, "ROLLBACK"),
    ];
    same(SESSION, &[&[]], steps).await;
}
