//! What scripts and table say of each other.

use std::path::PathBuf;

use super::{Applied, Directory, Flaw, Problem, compare, problems};

struct Folder(PathBuf);

impl Folder {
    fn with(files: &[&str]) -> Self {
        let name = format!("poolwatch-directory-{:08x}", rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a temporary directory");
        for file in files {
            std::fs::write(path.join(file), file).expect("a script");
        }
        Self(path)
    }

    fn read(&self) -> Directory {
        Directory::read(&self.0).expect("a directory")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn applied(directory: &Directory, version: i64) -> Applied {
    let script = directory.up(version).expect("a script");
    Applied {
        version,
        description: script.migration.description.to_string(),
        installed_on: "2026-01-01T00:00:00Z".to_owned(),
        success: true,
        checksum: script.migration.checksum.to_vec(),
        seconds: None,
    }
}

#[test]
fn flaws_of_a_directory_are_found_without_a_database() {
    let folder = Folder::with(&[
        "0_zero.sql",
        "1_a.up.sql",
        "1_a.down.sql",
        "2_b.sql",
        "2_c.up.sql",
        "3_d.down.sql",
        "readme.md",
        "seed.sql",
    ]);
    let text = |text: &str| text.to_owned();
    assert_eq!(
        folder.read().flaws(),
        [
            Flaw::Version {
                file: text("0_zero.sql")
            },
            Flaw::DownAlone {
                version: 3,
                file: text("3_d.down.sql")
            },
            Flaw::Duplicate {
                version: 2,
                files: vec![text("2_b.sql"), text("2_c.up.sql")]
            },
            Flaw::Stray {
                file: text("seed.sql")
            },
        ]
    );
    assert_eq!(
        Folder::with(&["1_a.up.sql", "1_a.down.sql", "2_b.sql"])
            .read()
            .flaws(),
        []
    );
}

#[test]
fn every_way_not_to_fit_is_a_problem_of_its_own() {
    let folder = Folder::with(&["1_a.sql", "2_b.sql", "3_c.sql", "4_d.sql", "6_f.sql"]);
    let directory = folder.read();
    let mut rows = [1, 2, 4]
        .map(|version| applied(&directory, version))
        .to_vec();
    assert_eq!(problems(&compare(&directory, &rows[..2])), []);
    rows[1].checksum = vec![7];
    rows[2].success = false;
    rows.push(Applied {
        version: 5,
        description: "gone".to_owned(),
        ..rows[0].clone()
    });
    let found = problems(&compare(&directory, &rows));
    let text = |text: &str| text.to_owned();
    assert_eq!(
        found,
        [
            Problem::Changed {
                version: 2,
                file: text("2_b.sql")
            },
            Problem::OutOfOrder {
                version: 3,
                file: text("3_c.sql"),
                latest: 5
            },
            Problem::Unfinished {
                version: 4,
                description: text("d")
            },
            Problem::Missing {
                version: 5,
                description: text("gone")
            },
        ]
    );
}
