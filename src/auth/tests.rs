use std::time::Duration;

use super::*;
use crate::backend::Credential;
use crate::error::{Class, ClientError};
use crate::md5;
use crate::scram::{ClientExchange, ClientProof, Verifier};

const WAIT: Duration = Duration::from_secs(5);

fn admission(method: Method, users: &[(&str, Stored)]) -> Admission {
    Admission::new(Config {
        method,
        users: Users::new(
            users
                .iter()
                .map(|(user, stored)| ((*user).to_owned(), stored.clone())),
        ),
        lookup: None,
        upstream: None,
        longest_wait: WAIT,
    })
}

fn plain(password: &str) -> Stored {
    Stored::password(Secret::from(password))
}

fn over_tls() -> Channel {
    Channel {
        source: Source::Local,
        encrypted: true,
        end_point: Some(b"certificate"[..].into()),
        common_name: None,
    }
}

fn in_clear() -> Channel {
    Channel {
        encrypted: false,
        end_point: None,
        ..over_tls()
    }
}

async fn scram_login(admission: &Admission, user: &str) -> ScramLogin {
    match admission.begin(user, &in_clear()).await {
        Ok(Step::Scram(login)) => login,
        other => panic!("{other:?}"),
    }
}

/// A whole SCRAM login in clear.
async fn scram(
    admission: &Admission,
    user: &str,
    password: &str,
) -> Result<Credentials, AuthError> {
    let login = scram_login(admission, user).await;
    let proof = ClientProof::Password(Secret::from(password));
    let client = ClientExchange::new(proof, b"SCRAM-SHA-256\0\0", None).unwrap();
    let begun = login.begin(client.mechanism().as_bytes(), client.message().as_bytes())?;
    let (challenge, answer) = begun;
    let (expected, proof) = client.prove(answer.as_bytes()).unwrap();
    let (last, credentials) = challenge.finish(proof.as_bytes())?;
    expected.check(last.as_bytes()).unwrap();
    Ok(credentials)
}

async fn password(
    admission: &Admission,
    user: &str,
    password: &str,
) -> Result<Credentials, AuthError> {
    match admission.begin(user, &over_tls()).await? {
        Step::Password(login) => login.finish(Secret::from(password)).await,
        other => panic!("{other:?}"),
    }
}

fn parameters(pairs: &[(&str, &str)]) -> StartupParameters {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    StartupParameters(pairs.iter().map(owned).collect())
}

#[test]
fn the_database_is_by_default_the_users_namesake() {
    let admission = admission(Method::Trust, &[]);
    let database = |pairs: &[(&str, &str)]| {
        let identity = admission.identify(&parameters(pairs));
        identity.map(|identity| identity.database)
    };
    assert_eq!(database(&[("user", "app")]).unwrap(), "app");
    assert_eq!(
        database(&[("user", "app"), ("database", "other")]).unwrap(),
        "other"
    );
    assert!(matches!(database(&[("user", "")]), Err(AuthError::NoUser)));
}

#[tokio::test]
async fn under_trust_the_served_users_come_in_and_no_others() {
    let admission = admission(Method::Trust, &[("app", plain("secret"))]);
    let Ok(Step::Granted(credentials)) = admission.begin("app", &in_clear()).await else {
        panic!("not granted");
    };
    assert_eq!(
        credentials.get(),
        Credential::Password(Secret::from("secret"))
    );
    let error = admission.begin("root", &in_clear()).await.unwrap_err();
    assert_eq!(error.sqlstate(), "28000");
    assert!(error.client_hint().is_some());
}

#[tokio::test]
async fn who_is_refused_is_told_the_same_whatever_the_reason() {
    let hash = Stored::Md5(md5::stored("secret", "md"));
    let users = [
        ("ann", plain("secret")),
        ("none", Stored::Nothing),
        ("md", hash),
    ];
    let by_scram = admission(Method::Scram, &users);
    let by_password = admission(Method::Password, &users);
    assert!(scram(&by_scram, "ann", "secret").await.is_ok());
    assert!(password(&by_password, "ann", "secret").await.is_ok());
    for (user, tried, expected) in [
        ("ann", "wrong", Failure::WrongPassword),
        ("ann", "", Failure::WrongPassword),
        ("nobody", "secret", Failure::UnknownUser),
        ("none", "", Failure::NoPassword),
        ("md", "secret", Failure::NoPassword),
    ] {
        let mut errors = vec![scram(&by_scram, user, tried).await.unwrap_err()];
        if user != "md" {
            errors.push(password(&by_password, user, tried).await.unwrap_err());
        }
        for error in errors {
            assert_eq!(error.failure(), expected, "{user}");
            assert_eq!(
                (error.sqlstate(), error.client_message()),
                (
                    "28P01",
                    format!("password authentication failed for user \"{user}\"")
                )
            );
        }
    }
}

#[tokio::test]
async fn who_is_unknown_is_asked_for_the_same_proof() {
    let admission = admission(Method::Auto, &[("ann", plain("secret"))]);
    let mut lengths = Vec::new();
    for user in ["ann", "nobody"] {
        let login = scram_login(&admission, user).await;
        assert_eq!(login.mechanisms(), ["SCRAM-SHA-256"]);
        let (_, answer) = login.begin(b"SCRAM-SHA-256", b"n,,n=,r=abc").unwrap();
        assert!(answer.ends_with(",i=4096"), "{answer}");
        lengths.push(answer.len());
    }
    assert_eq!(lengths[0], lengths[1]);
}

#[tokio::test]
async fn a_proof_against_a_verifier_alone_opens_servers_until_it_changes() {
    let made = postgres_protocol::password::scram_sha_256(b"secret");
    let admission = admission(Method::Auto, &[]);
    let list = |secret: &str| format!("\"ann\" \"{secret}\"");
    admission.read_userlist(&list(&made)).unwrap();
    let credentials = scram(&admission, "ann", "secret").await.unwrap();
    let Credential::Scram(keys) = credentials.get() else {
        panic!("{credentials:?}");
    };
    assert_eq!(keys.verifier, Verifier::parse(&made).unwrap());
    // Nothing new: it stays.
    admission.read_userlist(&list(&made)).unwrap();
    assert!(matches!(credentials.get(), Credential::Scram(_)));
    // A mistake changes nothing.
    assert!(admission.read_userlist("\"ann\"").is_err());
    assert!(matches!(credentials.get(), Credential::Scram(_)));
    // The same password with another salt.
    let other = postgres_protocol::password::scram_sha_256(b"secret");
    admission.read_userlist(&list(&other)).unwrap();
    assert_eq!(credentials.get(), Credential::None);
    scram(&admission, "ann", "secret").await.unwrap();
    assert!(matches!(credentials.get(), Credential::Scram(_)));
    // In clear it is the same proof.
    admission.read_userlist("").unwrap();
    assert_eq!(credentials.get(), Credential::None);
}

#[tokio::test]
async fn a_password_in_clear_opens_servers_as_its_proof_does() {
    let made = postgres_protocol::password::scram_sha_256(b"secret");
    let admission = admission(Method::Password, &[("ann", Stored::read(&made).unwrap())]);
    let credentials = password(&admission, "ann", "secret").await.unwrap();
    assert!(matches!(credentials.get(), Credential::Scram(_)));
    let error = admission.begin("ann", &in_clear()).await.unwrap_err();
    assert!(matches!(error, AuthError::TlsRequired));
    assert_eq!(error.sqlstate(), "28000");
}

#[tokio::test]
async fn a_secret_that_is_replaced_during_a_login_proves_nothing() {
    for meanwhile in ["\"ann\" \"two\"", "\"bob\" \"one\""] {
        let admission = admission(Method::Auto, &[("ann", plain("one"))]);
        let login = scram_login(&admission, "ann").await;
        let proof = ClientProof::Password(Secret::from("one"));
        let client = ClientExchange::new(proof, b"SCRAM-SHA-256\0\0", None).unwrap();
        let begun = login.begin(b"SCRAM-SHA-256", client.message().as_bytes());
        let (challenge, answer) = begun.unwrap();
        let (_, proof) = client.prove(answer.as_bytes()).unwrap();
        admission.read_userlist(meanwhile).unwrap();
        let error = challenge.finish(proof.as_bytes()).unwrap_err();
        assert_eq!(error.sqlstate(), "28P01");
    }
}

#[tokio::test]
async fn md5_is_for_those_of_whom_only_a_hash_is_known() {
    let hash = md5::stored("secret", "ann");
    let admission = admission(Method::Auto, &[("ann", Stored::Md5(hash.clone()))]);
    let login = || async {
        match admission.begin("ann", &in_clear()).await {
            Ok(Step::Md5(login)) => login,
            other => panic!("{other:?}"),
        }
    };
    let answer = |password: &str, salt| {
        Secret::from(postgres_protocol::authentication::md5_hash(
            b"ann",
            password.as_bytes(),
            salt,
        ))
    };
    let right = login().await;
    let said = answer("secret", right.salt());
    let credentials = right.finish(&said).unwrap();
    assert_eq!(credentials.get(), Credential::Md5(hash));
    let wrong = login().await;
    let said_wrong = answer("wrong", wrong.salt());
    assert_eq!(wrong.finish(&said_wrong).unwrap_err().sqlstate(), "28P01");
    // An answer to another salt is worth nothing.
    assert!(login().await.finish(&said).is_err());
}

#[tokio::test]
async fn a_certificate_is_good_for_the_user_it_names() {
    let admission = admission(Method::Cert, &[("ann", Stored::Nothing)]);
    let showing = |name: Option<&str>| Channel {
        common_name: name.map(str::to_owned),
        ..over_tls()
    };
    let granted = admission.begin("ann", &showing(Some("ann"))).await;
    assert!(matches!(granted, Ok(Step::Granted(_))), "{granted:?}");
    for (name, expected) in [
        (
            Some("bob"),
            "certificate authentication failed for user \"ann\"",
        ),
        (
            Some("Ann"),
            "certificate authentication failed for user \"ann\"",
        ),
        (None, "connection requires a valid client certificate"),
    ] {
        let error = admission.begin("ann", &showing(name)).await.unwrap_err();
        assert_eq!(
            (error.sqlstate(), error.client_message().as_str()),
            ("28000", expected)
        );
        assert_eq!(error.failure(), Failure::Certificate);
    }
    // Whoever is not among the users does not come in by a certificate either.
    let error = admission.begin("bob", &showing(Some("bob"))).await;
    assert!(matches!(error, Err(AuthError::NotServed(_))), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn failed_logins_slow_down_the_next_and_success_ends_it() {
    let admission = admission(Method::Auto, &[("ann", plain("secret"))]);
    let took = || async {
        let started = tokio::time::Instant::now();
        drop(scram_login(&admission, "ann").await);
        started.elapsed()
    };
    for _ in 0..5 {
        scram(&admission, "ann", "wrong").await.unwrap_err();
    }
    assert_eq!(took().await, Duration::from_millis(500));
    // A login that is begun and not finished is no failure: psql asks for a password in this way.
    assert_eq!(took().await, Duration::from_millis(500));
    scram(&admission, "ann", "secret").await.unwrap();
    assert_eq!(took().await, Duration::ZERO);
}

#[tokio::test]
async fn what_breaks_the_protocol_is_told_as_that() {
    let admission = admission(Method::Auto, &[("ann", plain("secret"))]);
    let begin = |message: &'static [u8]| {
        let admission = &admission;
        async move {
            let login = scram_login(admission, "ann").await;
            login.begin(b"SCRAM-SHA-256", message).unwrap_err()
        }
    };
    let error = begin(b"nonsense").await;
    assert_eq!(
        (error.class(), error.sqlstate()),
        (Class::Protocol, "08P01")
    );
    let error = begin(b"n,a=root,n=,r=a").await;
    assert_eq!(error.sqlstate(), "0A000");
    let Ok(Step::Scram(login)) = admission.begin("ann", &over_tls()).await else {
        panic!("no SCRAM");
    };
    let error = login.begin(b"SCRAM-SHA-256", b"y,,n=,r=a").unwrap_err();
    assert_eq!(
        (error.sqlstate(), error.failure()),
        ("28000", Failure::ChannelBinding)
    );
}
