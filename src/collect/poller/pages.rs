//! From page to page: where the next one is. Pure.
//!
//! # Invariants
//! - A next page is asked of the node that named it and of no other server: secrets go nowhere else.
//! - A page that names itself as the next is an error, not a loop.

use outrider_protocol::collect::apis::Pages;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use serde_json::Value;

use super::shape;

/// Where the pages of one list are.
#[derive(Debug)]
pub struct Pager<'p> {
    pages: &'p Pages,
    base: String,
    seen: u64,
    elements: u64,
    last: Option<String>,
}

/// What was seen of a page.
#[derive(Debug)]
pub struct Seen<'s> {
    /// The answer.
    pub answer: &'s Value,
    /// Its header `Link`.
    pub link: Option<&'s str>,
    /// How many elements it has.
    pub elements: u64,
    /// Where it was found.
    pub url: &'s Url,
    /// The node, which may have a path of its own.
    pub node: &'s Url,
}

impl<'p> Pager<'p> {
    /// Of a list at a path.
    #[must_use]
    pub fn new(pages: &'p Pages, base: String) -> Self {
        Self { pages, base, seen: 0, elements: 0, last: None }
    }

    /// How many pages were seen.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Path and query of the first page.
    #[must_use]
    pub fn first(&self) -> String {
        match self.pages {
            Pages::Offset { query, size_query, size } => self.sized(query, 0, size_query.as_deref(), *size),
            Pages::Number { query, first, size_query, size, .. } => {
                self.sized(query, *first, size_query.as_deref(), *size)
            }
            _ => self.base.clone(),
        }
    }

    /// Path and query of the page after one.
    ///
    /// # Errors
    /// When it is at another server, or the same again.
    pub fn next(&mut self, page: &Seen<'_>) -> Result<Option<String>, String> {
        self.seen += 1;
        self.elements += page.elements;
        let next = match self.pages {
            Pages::One => None,
            Pages::NextField(field) => match found(page.answer, field) {
                Some(Value::String(link)) if !link.is_empty() => Some(below(link, page)?),
                _ => None,
            },
            Pages::LinkHeader => page.link.and_then(next_of).map(|it| below(&it, page)).transpose()?,
            Pages::Token { field, query } => match found(page.answer, field) {
                Some(Value::String(token)) if !token.is_empty() => Some(self.with(&[(query, token.clone())])),
                Some(Value::Number(token)) => Some(self.with(&[(query, token.to_string())])),
                _ => None,
            },
            Pages::Offset { query, size_query, size } => (page.elements >= *size)
                .then(|| self.sized(query, self.elements, size_query.as_deref(), *size)),
            Pages::Number { query, first, size_query, size, last_field } => {
                let number = first + self.seen;
                let last = last_field.as_ref().and_then(|it| found(page.answer, it)?.as_u64());
                let more = last.map_or(page.elements >= *size, |last| number <= last && page.elements > 0);
                more.then(|| self.sized(query, number, size_query.as_deref(), *size))
            }
        };
        if next.is_some() && next == self.last {
            return Err("a page names itself as the next one".to_owned());
        }
        self.last.clone_from(&next);
        Ok(next)
    }

    fn sized(&self, query: &str, number: u64, size_query: Option<&str>, size: u64) -> String {
        let size = size_query.map(|it| (it, size.to_string()));
        let all: Vec<_> = std::iter::once((query, number.to_string())).chain(size).collect();
        self.with(&all)
    }

    fn with<N: AsRef<str>>(&self, query: &[(N, String)]) -> String {
        let mut path = self.base.clone();
        for (name, value) in query {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(name.as_ref());
            path.push('=');
            path.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
        path
    }
}

fn found<'v>(answer: &'v Value, field: &str) -> Option<&'v Value> {
    shape::at(answer.as_object()?, field)
}

/// The address with `rel="next"` of a header `Link`.
fn next_of(header: &str) -> Option<String> {
    header.split(',').find_map(|link| {
        let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = rest.split(';').any(|it| {
            let word = it.trim().strip_prefix("rel=").map(|it| it.trim_matches('"'));
            word.is_some_and(|it| it.split(' ').any(|it| it.eq_ignore_ascii_case("next")))
        });
        is_next.then(|| address.to_owned())
    })
}

/// A link as path and query below the node.
fn below(link: &str, page: &Seen<'_>) -> Result<String, String> {
    let url =
        page.url.join(link).map_err(|err| format!("the link to the next page is no address ({err})"))?;
    if url.origin() != page.node.origin() {
        let there = url.origin().ascii_serialization();
        return Err(format!("the next page is at another server, {there}, to which no secret is sent"));
    }
    let above = page.node.path().trim_end_matches('/');
    let path = url.path().strip_prefix(above).filter(|it| it.starts_with('/'));
    let path = path.ok_or_else(|| "the next page is not below the node's address".to_owned())?;
    Ok(url.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn follow(pages: &Pages, answers: &[(Value, Option<&str>, u64)]) -> Result<Vec<String>, String> {
        let node = Url::parse("http://h:1/base").unwrap();
        let mut pager = Pager::new(pages, "/list?a=b".into());
        let mut all = vec![pager.first()];
        for (answer, link, elements) in answers {
            let url = Url::parse(&format!("http://h:1/base{}", all.last().unwrap())).unwrap();
            let seen = Seen { answer, link: *link, elements: *elements, url: &url, node: &node };
            let Some(next) = pager.next(&seen)? else { break };
            all.push(next);
        }
        Ok(all)
    }

    #[test]
    fn links_are_followed_below_the_node_only() {
        let pages = Pages::NextField("next.href".into());
        let found = follow(
            &pages,
            &[(json!({ "next": { "href": "/base/list?p=2" } }), None, 1), (json!({}), None, 1)],
        );
        assert_eq!(found, Ok(vec!["/list?a=b".into(), "/list?p=2".into()]));
        let elsewhere = |link: &str| follow(&pages, &[(json!({ "next.href": link }), None, 1)]).unwrap_err();
        assert!(elsewhere("https://evil.example/x?t=1").contains("https://evil.example,"));
        assert!(elsewhere("http://h:2/base/list").contains("another server"));
        assert!(elsewhere("/other").contains("not below"));
        let same = json!({ "next.href": "/base/x" });
        assert!(follow(&pages, &[(same.clone(), None, 1), (same, None, 1)]).unwrap_err().contains("itself"));
    }

    #[test]
    fn the_header_link_is_read() {
        let link = r#"<http://h:1/base/list?p=1>; rel="prev", <list?p=3>; title=x; rel="next last""#;
        let found = follow(&Pages::LinkHeader, &[(json!([]), Some(link), 1), (json!([]), None, 1)]);
        assert_eq!(found, Ok(vec!["/list?a=b".into(), "/list?p=3".into()]));
    }

    #[test]
    fn tokens_offsets_and_numbers() {
        let token = Pages::Token { field: "Next".into(), query: "marker".into() };
        let found = follow(&token, &[(json!({ "Next": "a&b" }), None, 9), (json!({ "Next": "" }), None, 9)]);
        assert_eq!(found, Ok(vec!["/list?a=b".into(), "/list?a=b&marker=a%26b".into()]));
        let offset = Pages::Offset { query: "o".into(), size_query: Some("n".into()), size: 2 };
        let found = follow(&offset, &[(json!([]), None, 2), (json!([]), None, 1)]);
        assert_eq!(found, Ok(vec!["/list?a=b&o=0&n=2".into(), "/list?a=b&o=2&n=2".into()]));
        let last_field = Some("page_count".into());
        let (query, size_query) = ("page".into(), Some("page_size".into()));
        let number = Pages::Number { query, first: 1, size_query, size: 2, last_field };
        let found =
            follow(&number, &[(json!({ "page_count": 2 }), None, 2), (json!({ "page_count": 2 }), None, 2)]);
        let expected = ["/list?a=b&page=1&page_size=2", "/list?a=b&page=2&page_size=2"].map(String::from);
        assert_eq!(found, Ok(expected.into()));
    }
}
