//! The same for psql: what the container of PostgreSQL runs at its first start.

use crate::config::{DropPublic, VectorMode};

/// With the defaults of every flag.
const SCRIPT: &str = include_str!("script.sql");

/// The script with these choices.
pub(super) fn script(vector: VectorMode, drop_public: DropPublic, sidecar: bool) -> String {
    let sidecar = if sidecar { "on" } else { "off" };
    let choices = [
        ("vector", vector.as_str()),
        ("drop_public", drop_public.as_str()),
        ("sidecar", sidecar),
    ];
    let mut text = String::with_capacity(SCRIPT.len());
    for line in SCRIPT.lines() {
        let chosen = choices
            .iter()
            .find(|(name, _)| line.starts_with(&format!("\\set {name} ")));
        match chosen {
            Some((name, value)) => text.push_str(&format!("\\set {name} {value}")),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::LOCK;

    #[test]
    fn the_script_for_containers_is_the_one_that_is_printed() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/init.sql");
        let printed = script(VectorMode::default(), DropPublic::default(), false);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &printed).unwrap();
        }
        let file = std::fs::read_to_string(&path).unwrap();
        assert!(
            file == printed,
            "config/init.sql is not what `poolwatch init --print-sql` prints; UPDATE_DOCS=1 cargo test --lib ops::init writes it anew"
        );
    }

    #[test]
    fn choices_replace_their_lines_and_nothing_else() {
        let plain = script(VectorMode::default(), DropPublic::default(), false);
        let chosen = script(VectorMode::Off, DropPublic::Cascade, true);
        let different: Vec<_> = plain
            .lines()
            .zip(chosen.lines())
            .filter(|(plain, chosen)| plain != chosen)
            .map(|(_, chosen)| chosen)
            .collect();
        assert_eq!(
            different,
            [
                "\\set vector off",
                "\\set drop_public cascade",
                "\\set sidecar on"
            ]
        );
    }

    #[test]
    fn the_script_takes_the_lock_that_we_take() {
        assert!(
            SCRIPT.contains(&format!("pg_try_advisory_lock({LOCK})"))
                || SCRIPT.contains(&format!("pg_advisory_lock({LOCK})"))
        );
    }
}
