//! Connection URLs of every dialect.

use poolwatch::dsn::{Dsn, Form};

/// Reads a URL. What was read can be written and read again, and is the same; an error repeats nothing of a secret.
pub fn dsn(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let dsn = match Dsn::parse(text) {
        Ok(dsn) => dsn,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(!dsn.hosts.is_empty());
    for form in Form::ALL {
        let _ = dsn.render(form);
    }
    let written = dsn.render_exposing_password(Form::Postgres);
    let again = Dsn::parse(written.expose()).expect("what was written is read");
    assert_eq!(again.hosts, dsn.hosts);
    assert_eq!(again.user, dsn.user);
    assert!(again.password == dsn.password);
    assert_eq!(again.database, dsn.database);
    assert_eq!(again.ssl_mode, dsn.ssl_mode);
}
