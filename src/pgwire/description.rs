//! What a prepared statement takes and gives, as a server describes it.
//!
//! Read from ParameterDescription and from RowDescription or NoData, in pieces of any size: a row of 1,600 columns need
//! not fit into a buffer.

/// A statement's parameters and columns. Two that are equal look the same to a client, whatever it cached of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// The body of ParameterDescription, which is also the end of a Parse: a count of 16 bits and that many type OIDs.
    pub parameters: Box<[u8]>,
    /// Of each column its name, type and type modifier: what PostgreSQL itself compares
    /// (`src/backend/utils/cache/plancache.c`, `RevalidateCachedQuery`). `None` for a statement without rows.
    pub columns: Option<Box<[u8]>>,
}

/// Bytes of a field of RowDescription after its name: table, attribute, type, size, modifier, format.
const TAIL: usize = 18;
/// Where the type stands in it.
const TYPE: std::ops::Range<usize> = 6..10;
/// Where the type modifier stands in it.
const MODIFIER: std::ops::Range<usize> = 12..16;

/// Reads one description.
#[derive(Debug, Default)]
pub struct DescriptionReader {
    parameters: Vec<u8>,
    columns: Option<Vec<u8>>,
    /// Bytes of the RowDescription's count that were seen.
    counted: usize,
    /// The field's name is over, and this many bytes of its tail were seen.
    tail: Option<usize>,
}

impl DescriptionReader {
    /// A piece of ParameterDescription's body.
    pub fn parameters(&mut self, piece: &[u8]) {
        self.parameters.extend_from_slice(piece);
    }

    /// A piece of RowDescription's body.
    pub fn columns(&mut self, piece: &[u8]) {
        let columns = self.columns.get_or_insert_default();
        for &byte in piece {
            if self.counted < 2 {
                self.counted += 1;
                continue;
            }
            match &mut self.tail {
                None => {
                    columns.push(byte);
                    if byte == 0 {
                        self.tail = Some(0);
                    }
                }
                Some(at) => {
                    if TYPE.contains(at) || MODIFIER.contains(at) {
                        columns.push(byte);
                    }
                    *at += 1;
                    if *at == TAIL {
                        self.tail = None;
                    }
                }
            }
        }
    }

    /// The end: what was read, and nothing read any more.
    pub fn finish(&mut self) -> Description {
        let read = std::mem::take(self);
        Description {
            parameters: read.parameters.into(),
            columns: read.columns.map(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, table: i32, oid: i32, modifier: i32) -> Vec<u8> {
        let mut field = [name.as_bytes(), &[0]].concat();
        field.extend(table.to_be_bytes());
        field.extend(1_i16.to_be_bytes());
        field.extend(oid.to_be_bytes());
        field.extend(4_i16.to_be_bytes());
        field.extend(modifier.to_be_bytes());
        field.extend(0_i16.to_be_bytes());
        field
    }

    fn of(fields: &[Vec<u8>], pieces: usize) -> Description {
        let body = [&2_i16.to_be_bytes()[..], &fields.concat()].concat();
        let mut reader = DescriptionReader::default();
        for piece in body.chunks(pieces) {
            reader.columns(piece);
        }
        reader.finish()
    }

    #[test]
    fn names_types_and_modifiers_count_and_tables_do_not() {
        let one = of(&[field("a", 1, 23, -1), field("b", 1, 25, -1)], 1000);
        let moved = of(&[field("a", 2, 23, -1), field("b", 2, 25, -1)], 1000);
        assert_eq!(one, moved);
        for other in [
            of(&[field("a", 1, 20, -1), field("b", 1, 25, -1)], 1000),
            of(&[field("a", 1, 23, -1), field("c", 1, 25, -1)], 1000),
            of(&[field("a", 1, 23, -1), field("b", 1, 25, 8)], 1000),
            of(&[field("a", 1, 23, -1)], 1000),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn pieces_make_no_difference() {
        let fields = [field("alpha", 1, 23, -1), field("", 0, 1043, 12)];
        for pieces in 1..60 {
            assert_eq!(of(&fields, pieces), of(&fields, 1000), "{pieces}");
        }
    }

    #[test]
    fn no_data_is_not_a_row_without_columns() {
        let mut reader = DescriptionReader::default();
        reader.parameters(&[0, 0]);
        let nothing = reader.finish();
        reader.parameters(&[0, 0]);
        reader.columns(&[0, 0]);
        assert_ne!(nothing, reader.finish());
    }
}
