//! Pages of lists, and the tokens that lead from one to the next.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::RegistryError;
use crate::model::limits;

/// Which page of a list is wanted.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// Most entries of the page.
    pub max_results: Option<usize>,
    /// The token that the page before ended with.
    pub next_token: Option<String>,
}

/// A page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// Its entries.
    pub items: Vec<T>,
    /// Leads to the next page, when there is one.
    pub next_token: Option<String>,
}

/// Cuts a page out of entries that come in the order of their keys.
///
/// The token holds the list's name and the last key that was given, not a count: entries that come
/// and go in between neither repeat nor hide others. A token of another list is refused.
pub(super) fn cut<T>(
    list: &str,
    request: &PageRequest,
    entries: impl Iterator<Item = T>,
    key: impl Fn(&T) -> String,
    is_after: impl Fn(&T, &str) -> Option<bool>,
) -> Result<Page<T>, RegistryError> {
    let after = request.next_token.as_deref().map(|token| read_token(list, token)).transpose()?;
    let size = request.max_results.unwrap_or(limits::DEFAULT_PAGE_SIZE).clamp(1, limits::DEFAULT_PAGE_SIZE);
    let mut items = Vec::new();
    let mut more = false;
    for entry in entries {
        if let Some(after) = &after
            && !is_after(&entry, after).ok_or(RegistryError::PageToken)?
        {
            continue;
        }
        if items.len() == size {
            more = true;
            break;
        }
        items.push(entry);
    }
    let next_token = items.last().filter(|_| more).map(|last| write_token(list, &key(last)));
    Ok(Page { items, next_token })
}

fn write_token(list: &str, key: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list} {key}"))
}

fn read_token(list: &str, token: &str) -> Result<String, RegistryError> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| RegistryError::PageToken)?;
    let text = String::from_utf8(bytes).map_err(|_| RegistryError::PageToken)?;
    match text.rsplit_once(' ') {
        Some((of, key)) if of == list => Ok(key.to_owned()),
        _ => Err(RegistryError::PageToken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(numbers: &[u32], size: usize, token: Option<String>) -> Result<Page<u32>, RegistryError> {
        let request = PageRequest { max_results: Some(size), next_token: token };
        let is_after = |n: &u32, after: &str| Some(*n > after.parse().ok()?);
        cut("numbers", &request, numbers.iter().copied(), u32::to_string, is_after)
    }

    #[test]
    fn pages_follow_each_other_while_the_list_changes() {
        let first = page(&[1, 2, 3, 4, 5], 2, None).unwrap();
        assert_eq!(first.items, [1, 2]);
        // 2, the last one given, has gone; 6 has come.
        let second = page(&[1, 3, 4, 5, 6], 2, first.next_token).unwrap();
        assert_eq!(second.items, [3, 4]);
        let last = page(&[1, 3, 4, 5, 6], 2, second.next_token).unwrap();
        assert_eq!((last.items.as_slice(), last.next_token), (&[5, 6][..], None));
        assert_eq!(page(&[], 2, None).unwrap().next_token, None);
    }

    #[test]
    fn foreign_tokens_are_refused() {
        for bad in ["", "x", "!!", &write_token("letters", "1"), &write_token("numbers", "one")] {
            assert!(matches!(page(&[1], 1, Some(bad.to_owned())), Err(RegistryError::PageToken)), "{bad}");
        }
    }
}
