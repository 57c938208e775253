//! The parameters a server reports of itself (ParameterStatus).

/// Reported parameters with their values, spelled and ordered as the server did.
///
/// A list, not a map: PostgreSQL reports about fifteen, and the order is what a client would have seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(Box<str>, Box<str>)>);

impl Parameters {
    /// The value of a parameter; names are compared without case, as PostgreSQL does.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// All of them, in the order of their first report.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was reported.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in a report. A peer that reports more names than PostgreSQL could have is not kept account of.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        /// Far above PostgreSQL's fifteen and what extensions add.
        const MOST: usize = 256;
        let known = self
            .0
            .iter()
            .position(|(known, _)| known.eq_ignore_ascii_case(name));
        match known {
            Some(at) if *self.0[at].1 == *value => {}
            Some(at) => self.0[at].1 = value.into(),
            None if self.0.len() < MOST => self.0.push((name.into(), value.into())),
            None => tracing::debug!("server reports too many parameters, ignoring the rest"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_spelling_are_the_servers_and_a_report_replaces_the_value() {
        let mut parameters = Parameters::default();
        parameters.set("TimeZone", "UTC");
        parameters.set("DateStyle", "ISO");
        parameters.set("TimeZone", "Europe/Paris");
        assert_eq!(parameters.get("timezone"), Some("Europe/Paris"));
        let all: Vec<_> = parameters.iter().collect();
        assert_eq!(all, [("TimeZone", "Europe/Paris"), ("DateStyle", "ISO")]);
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        let mut parameters = Parameters::default();
        for number in 0..1000 {
            parameters.set(&format!("p{number}"), "x");
        }
        assert_eq!(parameters.len(), 256);
    }
}
