use super::*;

fn sent(pipeline: &mut Pipeline, messages: &[Owed]) {
    let now = Instant::now();
    for message in messages {
        pipeline.on_client(*message, now);
    }
}

fn answered(pipeline: &mut Pipeline, tags: &[u8]) -> Vec<Reply> {
    tags.iter().map(|tag| pipeline.on_server(*tag)).collect()
}

#[test]
fn an_extended_query_is_owed_reply_by_reply() {
    let mut pipeline = Pipeline::default();
    sent(
        &mut pipeline,
        &[
            Owed::ParseUnnamed,
            Owed::Bind,
            Owed::Describe,
            Owed::Execute,
            Owed::Sync,
        ],
    );
    let replies = answered(&mut pipeline, b"12TDDC");
    assert_eq!(replies[0], Reply::UnnamedParsed);
    assert!(matches!(replies[5], Reply::StatementDone(_)));
    assert!(!pipeline.is_empty());
    assert_eq!(
        pipeline.on_server(b'Z'),
        Reply::Ready {
            executed: true,
            simple: false
        }
    );
    assert!(pipeline.is_empty());
}

#[test]
fn a_describe_of_a_statement_is_answered_twice_and_taken_once() {
    let mut pipeline = Pipeline::default();
    sent(&mut pipeline, &[Owed::ParseUnnamed, Owed::Describe]);
    answered(&mut pipeline, b"1t");
    assert!(!pipeline.is_empty());
    answered(&mut pipeline, b"n");
    assert!(pipeline.is_empty());
}

#[test]
fn an_error_skips_to_the_sync_and_no_further() {
    let mut pipeline = Pipeline::default();
    sent(
        &mut pipeline,
        &[
            Owed::Bind,
            Owed::Execute,
            Owed::ParseUnnamed,
            Owed::Sync,
            Owed::ParseUnnamed,
            Owed::Sync,
        ],
    );
    let Reply::StatementFailed(failure) = pipeline.on_server(b'E') else {
        panic!()
    };
    assert_eq!((failure.dropped_parses, failure.unnamed_lost), (1, false));
    assert_eq!(
        pipeline.on_server(b'Z'),
        Reply::Ready {
            executed: false,
            simple: false
        }
    );
    assert_eq!(answered(&mut pipeline, b"1Z").len(), 2);
    assert!(pipeline.is_empty());
}

#[test]
fn what_follows_an_error_before_the_sync_is_not_owed() {
    let mut pipeline = Pipeline::default();
    sent(&mut pipeline, &[Owed::ParseUnnamed]);
    assert!(matches!(
        pipeline.on_server(b'E'),
        Reply::StatementFailed(Failure {
            unnamed_lost: true,
            ..
        })
    ));
    assert!(!pipeline.is_empty(), "the server waits for a Sync");
    assert!(!pipeline.on_client(Owed::Bind, Instant::now()));
    sent(&mut pipeline, &[Owed::Sync]);
    assert_eq!(
        pipeline.on_server(b'Z'),
        Reply::Ready {
            executed: false,
            simple: false
        }
    );
    assert!(pipeline.is_empty());
}

#[test]
fn syncs_inside_a_copy_are_not_answered() {
    // libpq's order: the Sync after Execute is under way before the server asks for data.
    let mut pipeline = Pipeline::default();
    sent(&mut pipeline, &[Owed::Bind, Owed::Execute, Owed::Sync]);
    assert_eq!(answered(&mut pipeline, b"2G")[1], Reply::CopyIn);
    assert!(
        !pipeline.on_client(Owed::Sync, Instant::now()),
        "ignored during COPY"
    );
    sent(&mut pipeline, &[Owed::CopyEnd, Owed::Sync]);
    assert!(matches!(
        answered(&mut pipeline, b"CZ")[..],
        [Reply::StatementDone(_), Reply::Ready { .. }]
    ));
    assert!(pipeline.is_empty());
}

#[test]
fn a_copy_sent_in_one_go_keeps_the_sync_after_its_end() {
    let mut pipeline = Pipeline::default();
    sent(
        &mut pipeline,
        &[Owed::Execute, Owed::Sync, Owed::CopyEnd, Owed::Sync],
    );
    answered(&mut pipeline, b"GC");
    assert_eq!(pipeline.ready_owed(), 1);
    answered(&mut pipeline, b"Z");
    assert!(pipeline.is_empty());
}

#[test]
fn a_failed_copy_leaves_nothing_owed() {
    let mut pipeline = Pipeline::default();
    sent(&mut pipeline, &[Owed::Query]);
    answered(&mut pipeline, b"G");
    sent(&mut pipeline, &[Owed::CopyEnd]);
    answered(&mut pipeline, b"EZ");
    assert!(pipeline.is_empty());
}

#[test]
fn every_statement_of_a_simple_query_ends_by_itself() {
    let mut pipeline = Pipeline::default();
    sent(&mut pipeline, &[Owed::Query]);
    let replies = answered(&mut pipeline, b"TDCCI");
    assert_eq!(
        replies
            .iter()
            .filter(|reply| matches!(reply, Reply::StatementDone(_)))
            .count(),
        3
    );
    assert_eq!(
        pipeline.on_server(b'Z'),
        Reply::Ready {
            executed: true,
            simple: true
        }
    );
}

#[test]
fn an_answer_to_nothing_is_unexpected() {
    let mut pipeline = Pipeline::default();
    assert_eq!(answered(&mut pipeline, b"Z12CG"), [Reply::Unexpected; 5]);
}

#[test]
fn each_copy_of_one_query_has_its_own_end() {
    let mut pipeline = Pipeline::default();
    sent(&mut pipeline, &[Owed::Query]);
    answered(&mut pipeline, b"G");
    sent(&mut pipeline, &[Owed::CopyEnd]);
    answered(&mut pipeline, b"CG");
    assert!(pipeline.is_copying(), "the second waits for its end");
    sent(&mut pipeline, &[Owed::CopyEnd]);
    answered(&mut pipeline, b"CZ");
    assert!(pipeline.is_empty());
}

#[test]
fn the_end_of_a_copy_that_was_answered_is_not_owed() {
    let mut pipeline = Pipeline::default();
    sent(&mut pipeline, &[Owed::Query]);
    answered(&mut pipeline, b"GEZ");
    sent(&mut pipeline, &[Owed::CopyEnd]);
    assert!(pipeline.is_empty());
}
