use super::*;

const READER: &str = "the-reader's-token";
const OPERATOR: &str = "the-operator's-token";

fn access(loopback: bool) -> Access {
    Access {
        reader: Some(READER.into()),
        operator: Some(OPERATOR.into()),
        loopback,
        protect_metrics: false,
    }
}

fn headers(of: &[(&'static str, String)]) -> HeaderMap {
    let pairs = of.iter();
    pairs
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect()
}

fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}

fn host(name: &str) -> (&'static str, String) {
    ("host", name.to_owned())
}

fn origin(name: &str) -> (&'static str, String) {
    ("origin", name.to_owned())
}

/// 200 where it may.
fn asked(access: &Access, needed: Role, with: &[(&'static str, String)]) -> u16 {
    let checked = access.check(&headers(with), needed);
    checked.map_or_else(|problem| problem.status().as_u16(), |()| 200)
}

#[test]
fn who_may_read_and_who_may_change() {
    use Role::{Operator, Reader};
    let at = host("localhost:9432");
    for (loopback, token, reads, changes) in [
        (true, None, 200, 401),
        (true, Some(READER), 200, 403),
        (true, Some(OPERATOR), 200, 200),
        (true, Some("another"), 401, 401),
        (true, Some(""), 401, 401),
        (false, None, 401, 401),
        (false, Some(READER), 200, 403),
        (false, Some(OPERATOR), 200, 200),
        (false, Some("another"), 401, 401),
    ] {
        let mut with = vec![at.clone()];
        with.extend(token.map(bearer));
        let case = format!("{loopback} {token:?}");
        assert_eq!(asked(&access(loopback), Reader, &with), reads, "{case}");
        assert_eq!(asked(&access(loopback), Operator, &with), changes, "{case}");
    }
}

#[test]
fn nobody_is_an_operator_where_no_token_is_set() {
    let access = Access {
        loopback: true,
        ..Access::default()
    };
    assert_eq!(asked(&access, Role::Operator, &[host("localhost")]), 403);
    let empty = [host("localhost"), bearer("")];
    assert_eq!(asked(&access, Role::Operator, &empty), 401);
}

#[test]
fn a_name_that_was_made_to_point_at_loopback_reads_nothing() {
    for (name, status) in [
        ("localhost", 200),
        ("LOCALHOST:9432", 200),
        ("127.0.0.1:9432", 200),
        ("127.9.9.9", 200),
        ("[::1]:9432", 200),
        ("evil.example:9432", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("10.0.0.1", 403),
        ("a b", 403),
    ] {
        let asked = asked(&access(true), Role::Reader, &[host(name)]);
        assert_eq!(asked, status, "{name}");
    }
    assert_eq!(asked(&access(true), Role::Reader, &[]), 403, "no Host");
    let proxied = [host("pools.example"), bearer(READER)];
    assert_eq!(asked(&access(true), Role::Reader, &proxied), 200);
}

#[test]
fn a_page_of_another_origin_changes_nothing_even_with_the_token() {
    let at = host("localhost:9432");
    for (name, status) in [
        ("http://localhost:9432", 200),
        ("https://localhost:9432", 200),
        ("http://localhost:3000", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
    ] {
        let with = [at.clone(), bearer(OPERATOR), origin(name)];
        assert_eq!(
            asked(&access(true), Role::Operator, &with),
            status,
            "{name}"
        );
        assert_eq!(
            asked(&access(false), Role::Operator, &with),
            status,
            "{name}"
        );
    }
}
