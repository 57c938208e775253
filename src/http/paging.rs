//! Pages of a list, by a cursor that says behind what the next page begins. It stays right while the list changes:
//! nothing is shown twice, and nothing is passed over that was there all the time.

use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::Problem;

/// Entries of a page where the request does not say.
const USUAL: u32 = 1000;
/// And at most.
const MOST: u32 = 10_000;

/// Which page is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// Entries at most.
    #[param(minimum = 1, maximum = 10_000, default = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; without it the list begins.
    #[param(max_length = 1000, pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<Self>::from_request_parts(parts, state).await;
        let Query(paging) =
            query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
        Self::checked(paging.limit, paging.cursor)
    }
}

impl Paging {
    /// Of parameters that stand among others.
    ///
    /// # Errors
    /// The limit is out of bounds.
    pub(super) fn checked(limit: Option<u32>, cursor: Option<String>) -> Result<Self, Problem> {
        match limit {
            Some(limit) if !(1..=MOST).contains(&limit) => {
                let detail = format!("limit must be from 1 to {MOST}.");
                Err(Problem::bad_request(detail))
            }
            _ => Ok(Self { limit, cursor }),
        }
    }

    /// The page of these entries, which `key` puts in order, and the cursor of the next one. `list` names the list, so that
    /// a cursor of another one is refused.
    ///
    /// # Errors
    /// The cursor is none of this list.
    pub(super) fn page<T, K: Ord + Key>(
        self,
        list: &str,
        mut entries: Vec<T>,
        key: impl Fn(&T) -> K,
    ) -> Result<(Vec<T>, Option<String>), Problem> {
        let behind = self.cursor.map(|cursor| decode::<K>(list, &cursor));
        let behind = behind.transpose()?;
        if let Some(behind) = behind {
            entries.retain(|entry| key(entry) > behind);
        }
        entries.sort_by_key(&key);
        let limit = self.limit.unwrap_or(USUAL) as usize;
        let more = entries.len() > limit;
        entries.truncate(limit);
        let last = entries.last().filter(|_| more);
        let next = last.map(|entry| encode(list, &key(entry)));
        Ok((entries, next))
    }
}

/// What entries are ordered by.
pub(super) trait Key: Sized {
    fn write(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

impl Key for u64 {
    fn write(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Key for (u64, u64) {
    fn write(&self) -> String {
        format!("{}.{}", self.0, self.1)
    }

    fn read(text: &str) -> Option<Self> {
        let (one, two) = text.split_once('.')?;
        Some((one.parse().ok()?, two.parse().ok()?))
    }
}

impl Key for String {
    fn write(&self) -> String {
        self.clone()
    }

    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

fn encode<K: Key>(list: &str, key: &K) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list}\n{}", key.write()))
}

fn decode<K: Key>(list: &str, cursor: &str) -> Result<K, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let key = text.as_deref().and_then(|text| {
        let (of, key) = text.split_once('\n')?;
        (of == list).then(|| K::read(key)).flatten()
    });
    key.ok_or_else(|| {
        // It is written as cursors are; there is only no page behind it.
        Problem::with(
            StatusCode::NOT_FOUND,
            "cursor is not one of this list; give next_cursor of its page before, or none.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paging(limit: u32, cursor: Option<String>) -> Paging {
        let limit = Some(limit);
        Paging { limit, cursor }
    }

    #[test]
    fn pages_follow_each_other_while_entries_come_and_go() {
        let key = |entry: &u64| *entry;
        let (first, next) = paging(2, None).page("a", vec![4, 1, 2, 9], key).unwrap();
        assert_eq!(first, [1, 2]);
        let (second, next) = paging(2, next).page("a", vec![9, 4, 3], key).unwrap();
        assert_eq!(second, [3, 4]);
        let (third, next) = paging(2, next).page("a", vec![9], key).unwrap();
        assert_eq!((third, next), (vec![9], None));
    }

    #[test]
    fn a_cursor_of_another_list_or_none_is_refused() {
        let (_, next) = paging(1, None)
            .page("a", vec![1, 2], |entry: &u64| *entry)
            .unwrap();
        for cursor in [next.unwrap(), "%%".to_owned(), "YWJj".to_owned()] {
            let page = paging(1, Some(cursor)).page("b", vec![1_u64], |entry| *entry);
            assert_eq!(page.unwrap_err().status(), 404);
        }
    }
}
