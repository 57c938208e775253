//! The run-time parameters that a server reports.

/// Names and values as the server spelled them, in the order of their first report.
///
/// A list and not a map: there are about fifteen, and they are walked more often than looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The value of a parameter; its name in either case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Notes a report. Returns whether it changed anything.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) if known == value => false,
            Some((_, known)) => {
                value.clone_into(known);
                true
            }
            None => {
                self.0.push((name.to_owned(), value.to_owned()));
                true
            }
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
