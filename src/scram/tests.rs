use proptest::prelude::*;

use super::keys::work;
use super::*;
use crate::secret::{Key, Secret};

const END_POINT: &[u8] = b"the hash of a certificate";

fn verifier() -> Verifier {
    Verifier::of_salted("pencil", b"0123456789abcdef", ITERATIONS)
}

fn bound() -> Option<std::sync::Arc<[u8]>> {
    Some(END_POINT.into())
}

/// The offer as it stands in AuthenticationSASL.
fn offer(exchange: &ServerExchange) -> Vec<u8> {
    let mut offer = exchange.mechanisms().join("\0").into_bytes();
    offer.extend_from_slice(b"\0\0");
    offer
}

/// Both sides against each other.
fn meet(
    verifier: Verifier,
    ours: Option<std::sync::Arc<[u8]>>,
    proof: ClientProof,
    theirs: Option<Vec<u8>>,
) -> Result<(&'static str, ScramKeys), ClientFault> {
    let server = ServerExchange::new(verifier, ours);
    let client = ClientExchange::new(proof, &offer(&server), theirs).unwrap();
    let mechanism = client.mechanism();
    let (challenge, first) = server.begin(mechanism.as_bytes(), client.message().as_bytes())?;
    let (expected, proof) = client.prove(first.as_bytes()).unwrap();
    let proved = challenge.finish(proof.as_bytes())?;
    expected.check(proved.message.as_bytes()).unwrap();
    Ok((mechanism, proved.keys))
}

fn password(text: &str) -> ClientProof {
    ClientProof::Password(Secret::from(text))
}

/// RFC 7677 §3.
#[test]
fn the_rfcs_example() {
    let salt = super::attributes::decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let verifier = Verifier::of_salted("pencil", &salt, 4096);
    let (challenge, first) = ServerExchange::new(verifier, None)
        .begin_with(
            b"SCRAM-SHA-256",
            b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        )
        .unwrap();
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    assert_eq!(
        first,
        format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    );
    let proof = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    let proved = challenge.finish(proof.as_bytes()).unwrap();
    assert_eq!(
        proved.message,
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
}

#[test]
fn the_right_password_proves_itself_and_reveals_keys_that_log_in_elsewhere() {
    let (mechanism, keys) = meet(verifier(), None, password("pencil"), None).unwrap();
    assert_eq!(mechanism, SCRAM_SHA_256);
    // The same verifier elsewhere is satisfied with the keys alone, and they cost no PBKDF2.
    let again = || {
        meet(
            verifier(),
            bound(),
            ClientProof::Keys(keys.clone()),
            Some(END_POINT.to_vec()),
        )
    };
    let made = work::of(verifier).1;
    let ((mechanism, revealed), cost) = work::of(|| again().unwrap());
    assert_eq!(
        (mechanism, cost),
        (SCRAM_SHA_256_PLUS, made),
        "only the test's own verifier is computed"
    );
    assert_eq!(revealed, keys);
}

#[test]
fn keys_are_of_no_use_with_another_salt() {
    let (_, keys) = meet(verifier(), None, password("pencil"), None).unwrap();
    let other = Verifier::of_password("pencil");
    let server = ServerExchange::new(other, None);
    let client = ClientExchange::new(ClientProof::Keys(keys), &offer(&server), None).unwrap();
    let (_, first) = server
        .begin(b"SCRAM-SHA-256", client.message().as_bytes())
        .unwrap();
    assert_eq!(
        client.prove(first.as_bytes()).unwrap_err(),
        ServerFault::OtherVerifier
    );
}

#[test]
fn a_wrong_password_and_a_user_that_is_none_are_refused_alike() {
    let secret = Key::new([9; 32]);
    let wrong = meet(verifier(), None, password("pen"), None).unwrap_err();
    let nobody = meet(
        Verifier::mock("nobody", &secret),
        None,
        password("pencil"),
        None,
    )
    .unwrap_err();
    assert_eq!((wrong, nobody), (ClientFault::Proof, ClientFault::Proof));
    // Somebody who asks twice sees the same salt, and another user another one.
    let salt = |user: &str| Verifier::mock(user, &secret).salt_and_iterations();
    assert_eq!(salt("nobody"), salt("nobody"));
    assert_ne!(salt("nobody"), salt("no one"));
    assert_eq!(salt("nobody").len(), verifier().salt_and_iterations().len());
}

/// Structure, not a clock: the work is counted in iterations of PBKDF2.
#[test]
fn a_user_that_is_none_costs_the_same_work() {
    let mock = Verifier::mock("nobody", &Key::new([9; 32]));
    let real = verifier();
    let sent = |verifier: &Verifier, text: &str| work::of(|| verifier.check(text).is_some());
    assert_eq!(sent(&real, "pencil"), (true, u64::from(ITERATIONS)));
    assert_eq!(sent(&real, "wrong"), (false, u64::from(ITERATIONS)));
    assert_eq!(sent(&mock, "wrong"), (false, u64::from(ITERATIONS)));
    // In SCRAM it is the client that works.
    let serve = |verifier: Verifier| {
        let (challenge, _) = ServerExchange::new(verifier, None)
            .begin_with(b"SCRAM-SHA-256", b"n,,n=,r=abc", "def")
            .unwrap();
        let proof = format!("c=biws,r=abcdef,p={}", super::attributes::encode(&[0; 32]));
        work::of(|| challenge.finish(proof.as_bytes()).unwrap_err())
    };
    assert_eq!(serve(real), (ClientFault::Proof, 0));
    assert_eq!(serve(mock), (ClientFault::Proof, 0));
}

/// Even who finds the preimage of the made-up StoredKey does not come in.
#[test]
fn a_made_up_verifier_accepts_nothing() {
    let client_key = Key::new([1; 32]);
    let mut mock = Verifier::mock("nobody", &Key::new([9; 32]));
    mock.stored_key = super::keys::stored_key(&client_key);
    assert_eq!(mock.accept(client_key.clone()), None);
    mock.mock = false;
    assert!(mock.accept(client_key).is_some());
}

#[test]
fn the_channel_is_bound_to_the_certificate_that_the_client_saw() {
    let theirs = Some(END_POINT.to_vec());
    let (mechanism, _) = meet(verifier(), bound(), password("pencil"), theirs).unwrap();
    assert_eq!(mechanism, SCRAM_SHA_256_PLUS);
    let other = Some(b"somebody else's certificate".to_vec());
    let fault = meet(verifier(), bound(), password("pencil"), other).unwrap_err();
    assert_eq!(fault, ClientFault::Binding);
    // A client that cannot bind comes in without: it says so itself, under the proof.
    let (mechanism, _) = meet(verifier(), bound(), password("pencil"), None).unwrap();
    assert_eq!(mechanism, SCRAM_SHA_256);
}

#[test]
fn a_taken_away_offer_is_found_out() {
    let client = ClientExchange::new(
        password("pencil"),
        b"SCRAM-SHA-256\0\0",
        Some(END_POINT.to_vec()),
    )
    .unwrap();
    let said = client.message();
    let begin = |ours| {
        ServerExchange::new(verifier(), ours).begin(client.mechanism().as_bytes(), said.as_bytes())
    };
    assert_eq!(begin(bound()).unwrap_err(), ClientFault::Downgrade);
    assert!(begin(None).is_ok(), "nobody took anything away");
}

#[test]
fn first_messages_that_are_none() {
    let plain = ServerExchange::new(verifier(), None);
    assert_eq!(plain.mechanisms(), [SCRAM_SHA_256]);
    for (mechanism, message, expected) in [
        ("SCRAM-SHA-1", "n,,n=,r=a", "invalid SASL"),
        (
            "SCRAM-SHA-256-PLUS",
            "p=tls-server-end-point,,n=,r=a",
            "invalid SASL",
        ),
        ("SCRAM-SHA-256", "", "no channel binding flag"),
        ("SCRAM-SHA-256", "x,,n=,r=a", "unknown channel binding flag"),
        (
            "SCRAM-SHA-256",
            "p=tls-server-end-point,,n=,r=a",
            "without channel binding",
        ),
        ("SCRAM-SHA-256", "n,a=root,n=,r=a", "authorization identity"),
        ("SCRAM-SHA-256", "n,b,n=,r=a", "GS2"),
        ("SCRAM-SHA-256", "n,,m=x,n=,r=a", "extension"),
        ("SCRAM-SHA-256", "n,,r=a", "no user name"),
        ("SCRAM-SHA-256", "n,,n=", "no nonce"),
        ("SCRAM-SHA-256", "n,,n=,r=", "nonce"),
        ("SCRAM-SHA-256", "n,,n=,r=a b", "nonce"),
        ("SCRAM-SHA-256", "n,,n=,r=a,=", "extensions"),
    ] {
        let exchange = ServerExchange::new(verifier(), None);
        let fault = exchange.begin(mechanism.as_bytes(), message.as_bytes());
        let text = fault.unwrap_err().to_string();
        assert!(text.contains(expected), "{message}: {text}");
    }
    for (mechanism, message) in [
        ("SCRAM-SHA-256-PLUS", "n,,n=,r=a"),
        ("SCRAM-SHA-256-PLUS", "p=tls-unique,,n=,r=a"),
        ("SCRAM-SHA-256", "p=tls-server-end-point,,n=,r=a"),
    ] {
        let exchange = ServerExchange::new(verifier(), bound());
        let fault = exchange.begin(mechanism.as_bytes(), message.as_bytes());
        assert!(matches!(fault, Err(ClientFault::Malformed(_))), "{message}");
    }
    let first = b"n,,n=somebody,r=a,x=extension";
    assert!(plain.begin(b"SCRAM-SHA-256", first).is_ok());
}

#[test]
fn verifiers_are_postgresqls() {
    // Made as libpq makes them for ALTER ROLE … PASSWORD.
    let made = postgres_protocol::password::scram_sha_256("päncil ª".as_bytes());
    let verifier = Verifier::parse(&made).unwrap();
    // SASLprep: ª is the letter a.
    assert!(verifier.check("päncil a").is_some());
    assert!(verifier.check("pancil a").is_none());
    assert_eq!(format!("{verifier:?}"), "Verifier [hidden]");
    for broken in [
        "",
        "SCRAM-SHA-256$",
        "SCRAM-SHA-256$4096:c2FsdA==",
        "SCRAM-SHA-256$0:c2FsdA==$AAAA:AAAA",
        "SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA",
        "SCRAM-SHA-256$4096:not base64$AAAA:AAAA",
        "SCRAM-SHA-1$4096:c2FsdA==$AAAA:AAAA",
        &made[..made.len() - 2],
        &format!("{made}:x"),
    ] {
        assert_eq!(Verifier::parse(broken), Err(MalformedVerifier), "{broken}");
    }
}

/// Control characters forbid SASLprep; the password then counts as it is.
#[test]
fn a_password_that_saslprep_forbids_is_taken_as_it_is() {
    let odd = "tab\there";
    let made = postgres_protocol::password::scram_sha_256(odd.as_bytes());
    assert!(Verifier::parse(&made).unwrap().check(odd).is_some());
}

#[test]
fn a_server_is_not_believed_without_proof() {
    let exchange = || {
        let client = ClientExchange::new(password("pencil"), b"SCRAM-SHA-256\0\0", None).unwrap();
        let nonce = client.message().rsplit_once("r=").unwrap().1.to_owned();
        (client, nonce)
    };
    let (client, nonce) = exchange();
    let first = format!("r={nonce}x,s=c2FsdA==,i=1");
    let (expected, _) = client.prove(first.as_bytes()).unwrap();
    let signature = format!("v={}", super::attributes::encode(&[0; 32]));
    let fault = expected.check(signature.as_bytes()).unwrap_err();
    assert_eq!(fault, ServerFault::Signature);
    for (answer, expected) in [
        ("r=other,s=c2FsdA==,i=4096", "another nonce"),
        ("r=NONCE,s=c2FsdA==,i=4096", "another nonce"),
        ("r=NONCEx,i=4096", "no salt"),
        ("r=NONCEx,s=c2FsdA==,i=0", "no iteration count"),
        ("r=NONCEx,s=c2FsdA==,i=-1", "no iteration count"),
        ("r=NONCEx,s=c2FsdA==,i=100001", "100001 iterations"),
        ("e=other-error", "no nonce"),
    ] {
        let (client, nonce) = exchange();
        let fault = client.prove(answer.replace("NONCE", &nonce).as_bytes());
        let text = fault.unwrap_err().to_string();
        assert!(text.contains(expected), "{answer}: {text}");
    }
    let none = ClientExchange::new(password("x"), b"SCRAM-SHA-1\0\0", None);
    assert!(none.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn hostile_first_messages_are_faults(message in prop::collection::vec(any::<u8>(), 0..80), plus: bool) {
        let mechanism = if plus { SCRAM_SHA_256_PLUS } else { SCRAM_SHA_256 };
        let exchange = ServerExchange::new(Verifier::mock("x", &Key::new([0; 32])), bound());
        let _ = exchange.begin(mechanism.as_bytes(), &message);
    }

    #[test]
    fn almost_good_first_messages_never_panic(message in "[npy](=[a-z-]{0,22})?,?(a=)?,{0,2}[nrm]?=?[a-zé,=]{0,9},?r=?[ -~é]{0,12}") {
        let exchange = ServerExchange::new(Verifier::mock("x", &Key::new([0; 32])), None);
        if let Ok((challenge, first)) = exchange.begin(SCRAM_SHA_256.as_bytes(), message.as_bytes()) {
            prop_assert!(first.starts_with("r="));
            prop_assert!(challenge.finish(message.as_bytes()).is_err());
        }
    }

    #[test]
    fn no_proof_but_the_right_one_comes_in(proof in prop::array::uniform32(any::<u8>()), tail in "[ -~]{0,10}") {
        let real = Verifier::parse(
            "SCRAM-SHA-256$4096:c2FsdA==$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        ).unwrap();
        let begin = || ServerExchange::new(real.clone(), None)
            .begin_with(SCRAM_SHA_256.as_bytes(), b"n,,n=,r=abc", "def").unwrap().0;
        let good = format!("c=biws,r=abcdef,p={}", super::attributes::encode(&proof));
        prop_assert_eq!(begin().finish(good.as_bytes()).unwrap_err(), ClientFault::Proof);
        let longer = [good.as_str(), &tail].concat();
        prop_assert!(begin().finish(longer.as_bytes()).is_err());
        prop_assert!(begin().finish(tail.as_bytes()).is_err());
    }

    #[test]
    fn hostile_servers_are_faults(first in prop::collection::vec(any::<u8>(), 0..80), last in prop::collection::vec(any::<u8>(), 0..60)) {
        let client = ClientExchange::new(password("x"), b"SCRAM-SHA-256\0\0", None).unwrap();
        prop_assert!(client.prove(&first).is_err());
        let client = ClientExchange::new(password("x"), b"SCRAM-SHA-256\0\0", None).unwrap();
        let nonce = client.message().rsplit_once("r=").unwrap().1.to_owned();
        let good = format!("r={nonce}x,s=c2FsdA==,i=1");
        let (expected, _) = client.prove(good.as_bytes()).unwrap();
        prop_assert!(expected.check(&last).is_err());
    }
}
