//! A world for settings: an environment and files, nothing of this machine.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use crate::config::*;

#[derive(Default)]
pub(super) struct World {
    environment: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, String>,
    pub(super) config_files: Vec<PathBuf>,
    arguments: Vec<Argument>,
    upstream_required: bool,
}

impl World {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(super) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(PathBuf::from(path), text.to_owned());
        self
    }

    pub(super) fn config(mut self, path: &str, text: &str) -> Self {
        self.config_files.push(PathBuf::from(path));
        self.file(path, text)
    }

    pub(super) fn set(mut self, key: &str, value: &str) -> Self {
        self.arguments.push(Argument {
            flag: format!("--set {key}"),
            key: key.to_owned(),
            value: value.to_owned(),
        });
        self
    }

    pub(super) fn upstream_required(mut self) -> Self {
        self.upstream_required = true;
        self
    }

    pub(super) fn load(self) -> Result<Loaded, Problems> {
        let files = self.files;
        load(&Sources {
            environment: self.environment,
            config_files: self.config_files,
            arguments: self.arguments,
            upstream_required: self.upstream_required,
            read: Box::new(move |path| {
                files
                    .get(path)
                    .cloned()
                    .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
            }),
        })
    }

    pub(super) fn loaded(self) -> Loaded {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    pub(super) fn problems(self) -> Vec<String> {
        let problems = self.load().expect_err("it was to be refused");
        problems.0.iter().map(Problem::to_string).collect()
    }

    /// The upstream's host and the place it came from.
    pub(super) fn upstream(self) -> (String, String) {
        let loaded = self.loaded();
        let dsn = loaded.settings.upstream.url.as_ref().expect("an upstream");
        (
            dsn.first_host().to_string(),
            loaded.origin("upstream.url").to_string(),
        )
    }
}
