//! Messages of a result set of ours, for what poolwatch answers itself: columns, rows, and the tag at the end. All values
//! are text.

use super::Replies;
use super::frame::backend;
use super::replies::push_cstr;

/// The type that a column is described as (PostgreSQL, `src/include/catalog/pg_type.dat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// `int4`.
    Int4,
    /// `int8`.
    Int8,
    /// `text`.
    Text,
    /// `numeric`.
    Numeric,
}

impl ColumnType {
    /// The type's OID.
    pub fn oid(self) -> u32 {
        match self {
            ColumnType::Int8 => 20,
            ColumnType::Int4 => 23,
            ColumnType::Text => 25,
            ColumnType::Numeric => 1700,
        }
    }

    /// The type's size, or -1 where that varies.
    fn size(self) -> i16 {
        match self {
            ColumnType::Int4 => 4,
            ColumnType::Int8 => 8,
            ColumnType::Text | ColumnType::Numeric => -1,
        }
    }
}

impl Replies {
    /// RowDescription.
    pub fn row_description(&mut self, columns: &[(String, ColumnType)]) -> &mut Self {
        self.message(backend::ROW_DESCRIPTION, |body| {
            push_count(body, columns.len());
            for (name, kind) in columns {
                push_cstr(body, name);
                // Of no table.
                body.extend_from_slice(&[0; 6]);
                body.extend_from_slice(&kind.oid().to_be_bytes());
                body.extend_from_slice(&kind.size().to_be_bytes());
                body.extend_from_slice(&(-1_i32).to_be_bytes());
                // As text.
                body.extend_from_slice(&[0; 2]);
            }
        })
    }

    /// DataRow; `None` is NULL.
    pub fn data_row(&mut self, values: &[Option<String>]) -> &mut Self {
        self.message(backend::DATA_ROW, |body| {
            push_count(body, values.len());
            for value in values {
                match value {
                    None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
                    Some(text) => {
                        let length = i32::try_from(text.len()).unwrap_or(i32::MAX);
                        body.extend_from_slice(&length.to_be_bytes());
                        body.extend_from_slice(text.as_bytes());
                    }
                }
            }
        })
    }

    /// CommandComplete.
    pub fn command_complete(&mut self, tag: &str) -> &mut Self {
        self.message(backend::COMMAND_COMPLETE, |body| push_cstr(body, tag))
    }

    /// NoticeResponse, of the severity NOTICE.
    pub fn notice(&mut self, message: &str, detail: Option<&str>) -> &mut Self {
        self.message(backend::NOTICE, |body| {
            let detail = detail.map(|detail| (b'D', detail));
            let fields = [(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000")];
            for (field, text) in fields.into_iter().chain([(b'M', message)]).chain(detail) {
                body.push(field);
                push_cstr(body, text);
            }
            body.push(0);
        })
    }
}

/// A count of columns: tables of ours have few.
fn push_count(body: &mut Vec<u8>, count: usize) {
    body.extend_from_slice(&i16::try_from(count).unwrap_or(i16::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_rows_are_as_the_protocol_says() {
        let mut replies = Replies::default();
        replies.row_description(&[("a".to_owned(), ColumnType::Int4)]);
        let expected = b"T\0\0\0\x1a\0\x01a\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
        assert_eq!(replies.bytes(), expected);
        let mut replies = Replies::default();
        replies.data_row(&[Some("xy".to_owned()), None]);
        assert_eq!(
            replies.bytes(),
            b"D\0\0\0\x10\0\x02\0\0\0\x02xy\xff\xff\xff\xff"
        );
    }
}
