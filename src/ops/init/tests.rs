//! What is planned for what is there.

use super::facts::{Database, Inside, Role, Server, Wanted};
use super::names::{Found, Names};
use super::plan::{Step, Verdict, inside, outside};
use super::refusal::{Refusal, refusals};
use crate::config::{DropPublic, Origin, VectorMode};
use crate::scram::Verifier;
use crate::secret::Secret;

fn found<T>(value: T) -> Found<T> {
    let name = "TEST".to_owned();
    Found {
        value,
        origin: Origin::DropIn { name },
    }
}

fn wanted() -> Wanted {
    Wanted {
        names: Names {
            role: found("ann".to_owned()),
            password: found(Secret::new("hunter2")),
            database: found("shop".to_owned()),
        },
        vector: VectorMode::Required,
        drop_public: DropPublic::Empty,
        sidecar: false,
        local: true,
    }
}

/// A server with pgvector on which nothing was made yet.
fn server() -> Server {
    Server {
        user: "postgres".to_owned(),
        superuser: true,
        has_vector: true,
        ..Server::default()
    }
}

fn statements(steps: &[(Step, Verdict)], wanted: Step) -> Vec<String> {
    let verdict = steps.iter().find(|(step, _)| *step == wanted);
    match verdict {
        Some((_, Verdict::Do(statements, _))) => statements
            .iter()
            .map(|statement| statement.0.expose().to_owned())
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn verdict(steps: Vec<(Step, Verdict)>, wanted: Step) -> Verdict {
    let verdict = steps.into_iter().find(|(step, _)| *step == wanted);
    verdict.map(|(_, verdict)| verdict).expect("the step")
}

#[test]
fn a_role_gets_a_verifier_of_the_password() {
    let made = |wanted: &Wanted| {
        let sql = statements(&outside(wanted, &server()), Step::Role).remove(0);
        let (_, verifier) = sql.split_once("PASSWORD '").unwrap();
        verifier.trim_end_matches('\'').to_owned()
    };
    let mut wanted = wanted();
    let verifier = made(&wanted);
    assert!(
        Verifier::parse(&verifier)
            .unwrap()
            .check("hunter2")
            .is_some()
    );
    assert_ne!(made(&wanted), verifier, "the salt is used twice");
    wanted.names.password = found(Secret::new(verifier.clone()));
    assert_eq!(made(&wanted), verifier, "a verifier is no password");
}

#[test]
fn pgvector_goes_where_it_belongs() {
    let cases = [
        (
            VectorMode::Required,
            true,
            None,
            "CREATE EXTENSION vector WITH SCHEMA \"shop\"",
        ),
        (
            VectorMode::Optional,
            true,
            None,
            "CREATE EXTENSION vector WITH SCHEMA \"shop\"",
        ),
        (
            VectorMode::Required,
            true,
            Some("public"),
            "ALTER EXTENSION vector SET SCHEMA \"shop\"",
        ),
        (VectorMode::Required, false, Some("shop"), "was so"),
        (VectorMode::Required, true, Some("elsewhere"), "was so"),
        (VectorMode::Optional, false, None, "skip"),
        (VectorMode::Off, true, Some("public"), "skip"),
    ];
    for (vector, has_vector, there, expected) in cases {
        let wanted = Wanted { vector, ..wanted() };
        let server = Server {
            has_vector,
            ..server()
        };
        let there = Inside {
            vector: there.map(str::to_owned),
            ..Inside::fresh("shop")
        };
        let planned = match verdict(inside(&wanted, &server, &there), Step::Vector) {
            Verdict::Do(statements, _) => statements[0].0.expose().to_owned(),
            Verdict::WasSo(_) => "was so".to_owned(),
            Verdict::Skip(_) => "skip".to_owned(),
            Verdict::Differs(what) => what,
        };
        assert_eq!(planned, expected, "{vector} {has_vector} {there:?}");
    }
}

#[test]
fn pgvector_in_public_keeps_it_only_if_it_stays_there() {
    let there = Inside {
        vector: Some("public".to_owned()),
        public: Some(vec!["extension vector".to_owned()]),
        ..Inside::fresh("shop")
    };
    assert_eq!(refusals(&wanted(), &server(), &there), []);
    let off = Wanted {
        vector: VectorMode::Off,
        ..wanted()
    };
    let objects = vec!["extension vector".to_owned()];
    assert_eq!(
        refusals(&off, &server(), &there),
        [Refusal::PublicHolds { objects }]
    );
}

#[test]
fn all_refusals_are_told_at_once_and_a_standby_alone() {
    let mut wanted = wanted();
    wanted.names.password.origin = Origin::Default;
    wanted.local = false;
    let mut server = Server {
        superuser: false,
        has_vector: false,
        ..server()
    };
    let there = Inside {
        public: Some((0..25).map(|at| format!("table t{at}")).collect()),
        ..Inside::fresh("shop")
    };
    let told = refusals(&wanted, &server, &there);
    assert_eq!(told.len(), 5, "{told:#?}");
    let last = told.last().unwrap().to_string();
    assert!(last.contains("table t19 and 5 more"), "{last}");
    server.standby = true;
    assert_eq!(refusals(&wanted, &server, &there), [Refusal::Standby]);
}

#[test]
fn rights_that_are_not_needed_are_not_asked_for() {
    let there = Server {
        superuser: false,
        role: Some(Role {
            may_log_in: true,
            ours: true,
            ..Role::default()
        }),
        database: Some(Database {
            owner: "ann".to_owned(),
            encoding: "UTF8".to_owned(),
        }),
        ..server()
    };
    let wanted = wanted();
    assert_eq!(refusals(&wanted, &there, &Inside::fresh("shop")), []);
    for (step, verdict) in outside(&wanted, &there) {
        assert!(matches!(verdict, Verdict::WasSo(_)), "{step:?} {verdict:?}");
    }
    let maker = Server {
        creates_roles: true,
        creates_databases: true,
        superuser: false,
        ..server()
    };
    assert_eq!(refusals(&wanted, &maker, &Inside::fresh("shop")), []);
    assert_eq!(
        statements(&outside(&wanted, &maker), Step::Membership),
        ["GRANT \"ann\" TO \"postgres\""]
    );
}

#[test]
fn everybody_is_shut_out_only_of_a_database_that_nobody_has_touched() {
    let access = |there: &Inside| verdict(inside(&wanted(), &server(), there), Step::Access);
    let fresh = Inside::fresh("shop");
    assert_eq!(
        statements(&inside(&wanted(), &server(), &fresh), Step::Access),
        ["REVOKE ALL ON DATABASE \"shop\" FROM PUBLIC"]
    );
    let granted = Inside {
        untouched: false,
        ..fresh.clone()
    };
    assert!(matches!(access(&granted), Verdict::WasSo(_)));
    let in_use = Inside {
        schema: Some("ann".to_owned()),
        ..fresh.clone()
    };
    assert!(matches!(access(&in_use), Verdict::WasSo(_)));
    let somebody_elses = Inside {
        role_connects: false,
        ..fresh
    };
    assert_eq!(
        statements(&inside(&wanted(), &server(), &somebody_elses), Step::Access),
        [
            "REVOKE ALL ON DATABASE \"shop\" FROM PUBLIC",
            "GRANT CONNECT, TEMPORARY ON DATABASE \"shop\" TO \"ann\""
        ]
    );
}

#[test]
fn a_statement_is_not_printed() {
    let steps = outside(&wanted(), &server());
    let shown = format!("{steps:?}");
    assert!(!shown.contains("SCRAM-SHA-256$"), "{shown}");
}
