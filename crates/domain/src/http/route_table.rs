//! The route table: finds the route of a request.
//!
//! Owns the order in which routes are tried: the most specific path first, segment by segment (a
//! literal before `{name}` before `{*rest}`), then a named method before any method, then the order of
//! definition. It must not know what a route is.

use std::fmt;

use ::http::Method;

use super::path::{loose, normalize};
use super::pattern::{Captures, PathPattern, PatternError};

/// The method and path that a route takes, as in `POST /orders/{id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePattern {
    /// The method; `None` stands for every method, written `*`.
    pub method: Option<Method>,
    /// The path.
    pub path: PathPattern,
}

/// Why the `match` of a route is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoutePatternError {
    /// Not a method, a space and a path.
    #[error("`{0}` is not a method and a path: write it as in `POST /orders`, `*` for any method")]
    NotTwoParts(String),
    /// Not a method, or one that names no path.
    #[error("`{0}` is not a method that a route can take: methods are written in capitals")]
    Method(String),
    /// The path is wrong.
    #[error(transparent)]
    Path(#[from] PatternError),
}

impl RoutePattern {
    /// Reads `METHOD /path`; the method `*` is every method. Methods are case-sensitive
    /// (RFC 9110 section 9.1), so one in small letters is a mistake. CONNECT has no path to
    /// match, and TRACE is never passed on.
    pub fn parse(text: &str) -> Result<Self, RoutePatternError> {
        let mut words = text.split_whitespace();
        let (Some(method), Some(path), None) = (words.next(), words.next(), words.next()) else {
            return Err(RoutePatternError::NotTwoParts(text.to_owned()));
        };
        Ok(Self { method: parse_method(method)?, path: PathPattern::parse(path)? })
    }

    fn overlaps(&self, other: &Self) -> bool {
        let of_one_method = match (&self.method, &other.method) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        };
        of_one_method && self.path.overlaps(&other.path)
    }

    fn takes(&self, method: &Method) -> bool {
        self.method.as_ref().is_none_or(|own| own == method)
    }
}

fn parse_method(text: &str) -> Result<Option<Method>, RoutePatternError> {
    if text == "*" {
        return Ok(None);
    }
    let refused = || RoutePatternError::Method(text.to_owned());
    let method = Method::from_bytes(text.as_bytes()).map_err(|_| refused())?;
    let small = text.bytes().any(|octet| octet.is_ascii_lowercase());
    let is_barred = [Method::CONNECT, Method::TRACE].contains(&method);
    if small || is_barred { Err(refused()) } else { Ok(Some(method)) }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.as_ref().map_or("*", Method::as_str), self.path)
    }
}

/// The methods that routes use: on these, paths are screened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutedMethods {
    /// Some route takes every method.
    All,
    /// These.
    Only(Vec<Method>),
}

impl RoutedMethods {
    /// Whether the method is one of them.
    pub fn contains(&self, method: &Method) -> bool {
        match self {
            Self::All => true,
            Self::Only(methods) => methods.contains(method),
        }
    }
}

/// All routes, in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct RouteTable<T> {
    routes: Vec<(RoutePattern, T)>,
    // Their paths for [`RouteTable::resembles`], in the same order.
    loose: Vec<PathPattern>,
}

impl<T> RouteTable<T> {
    /// The table of these routes, given in the order of definition.
    pub fn new(routes: impl IntoIterator<Item = (RoutePattern, T)>) -> Self {
        let mut routes: Vec<_> = routes.into_iter().collect();
        // The sort is stable: what is equally specific stays in the order of definition.
        routes.sort_by_cached_key(|(pattern, _)| (pattern.path.rank(), pattern.method.is_none()));
        let loose = routes.iter().map(|(pattern, _)| pattern.path.loosened()).collect();
        Self { routes, loose }
    }

    /// The most specific route for a method and a path as received. A path that only
    /// other methods' routes match is as unrouted as any other.
    pub fn find(&self, method: &Method, raw_path: &str) -> Option<(&T, Captures)> {
        let path = normalize(raw_path);
        self.routes
            .iter()
            .filter(|(pattern, _)| pattern.takes(method))
            .find_map(|(pattern, route)| Some((route, pattern.path.matches_normalized(&path)?)))
    }

    /// Whether a route names this very method.
    pub fn names(&self, method: &Method) -> bool {
        self.routes.iter().any(|(pattern, _)| pattern.method.as_ref() == Some(method))
    }

    /// Whether the route for a method and a path names that very method.
    pub fn is_named(&self, method: &Method, raw_path: &str) -> bool {
        let path = normalize(raw_path);
        let of_path = |pattern: &RoutePattern| pattern.path.matches_normalized(&path).is_some();
        let mut patterns = self.routes.iter().map(|(pattern, _)| pattern);
        let found = patterns.find(|pattern| pattern.takes(method) && of_path(pattern));
        found.is_some_and(|pattern| pattern.method.is_some())
    }

    /// Whether some servers take the path for one that any route matches, for whatever method.
    pub fn resembles_path(&self, raw_path: &str) -> bool {
        self.resembles_where(raw_path, |_| true)
    }

    /// Whether some servers take the path for one that a route for this method matches: many
    /// make no difference between cases, or leave out what stands at the end of a segment.
    pub fn resembles(&self, method: &Method, raw_path: &str) -> bool {
        self.resembles_where(raw_path, |pattern| pattern.takes(method))
    }

    fn resembles_where(&self, raw_path: &str, counts: impl Fn(&RoutePattern) -> bool) -> bool {
        let (path, behind) = loose(raw_path);
        let is_like = |loose: &PathPattern| {
            let mut readings = std::iter::once(&path).chain(&behind);
            readings.any(|path| loose.matches_normalized(path).is_some())
        };
        let mut routes = self.routes.iter().zip(&self.loose);
        routes.any(|((pattern, _), loose)| counts(pattern) && is_like(loose))
    }

    /// The methods that the routes use.
    pub fn methods(&self) -> RoutedMethods {
        let mut methods = Vec::new();
        for (pattern, _) in &self.routes {
            match &pattern.method {
                None => return RoutedMethods::All,
                Some(method) if !methods.contains(method) => methods.push(method.clone()),
                Some(_) => {}
            }
        }
        RoutedMethods::Only(methods)
    }

    /// Every route that takes less than it matches, with those that go before it where they
    /// match, too.
    pub fn overlaps(&self) -> Vec<(&RoutePattern, Vec<&RoutePattern>)> {
        let patterns = || self.routes.iter().map(|(pattern, _)| pattern);
        let before = |(place, pattern): (usize, _)| {
            let earlier = patterns().take(place).filter(|earlier| earlier.overlaps(pattern));
            (pattern, earlier.collect::<Vec<_>>())
        };
        patterns().enumerate().map(before).filter(|(_, earlier)| !earlier.is_empty()).collect()
    }

    /// The routes in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = (&RoutePattern, &T)> {
        self.routes.iter().map(|(pattern, route)| (pattern, route))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(patterns: &[&'static str]) -> RouteTable<&'static str> {
        RouteTable::new(patterns.iter().map(|text| (RoutePattern::parse(text).unwrap(), *text)))
    }

    fn found(
        table: &RouteTable<&'static str>,
        method: &Method,
        path: &str,
    ) -> Option<&'static str> {
        table.find(method, path).map(|(route, _)| *route)
    }

    #[test]
    fn the_most_specific_route_wins_whatever_the_order_of_definition() {
        let table = table(&[
            "POST /{*rest}",
            "POST /orders/{*rest}",
            "POST /orders/{id}",
            "POST /orders/{id}/items",
            "POST /orders/new",
            "POST /{a}/new",
        ]);
        for (path, route) in [
            ("/orders/new", Some("POST /orders/new")),
            ("/orders/7", Some("POST /orders/{id}")),
            ("/orders/7/items", Some("POST /orders/{id}/items")),
            ("/orders/7/other", Some("POST /orders/{*rest}")),
            ("/carts/new", Some("POST /{a}/new")),
            ("/carts", Some("POST /{*rest}")),
            ("/", None),
        ] {
            assert_eq!(found(&table, &Method::POST, path), route, "{path}");
        }
    }

    #[test]
    fn a_tie_goes_to_the_named_method_and_then_to_the_first_defined() {
        let tied = table(&["* /a/{x}", "PUT /a/{x}", "PUT /a/{y}"]);
        assert_eq!(found(&tied, &Method::PUT, "/a/1"), Some("PUT /a/{x}"));
        assert_eq!(found(&tied, &Method::GET, "/a/1"), Some("* /a/{x}"));
    }

    #[test]
    fn a_route_is_told_of_those_that_go_before_it() {
        let table = table(&["POST /{a}/new", "PUT /orders/new", "* /orders/{id}", "POST /other"]);
        let told: Vec<_> = table
            .overlaps()
            .into_iter()
            .map(|(route, earlier)| (route.to_string(), earlier[0].to_string(), earlier.len()))
            .collect();
        let any = "* /orders/{id}".to_owned();
        assert_eq!(
            told,
            [(any.clone(), "PUT /orders/new".to_owned(), 1), ("POST /{a}/new".to_owned(), any, 1),]
        );
    }

    #[test]
    fn a_route_of_another_method_leaves_the_request_unrouted() {
        let table = table(&["POST /orders"]);
        assert_eq!(found(&table, &Method::GET, "/orders"), None);
        assert!(table.resembles_path("/Orders/") && !table.resembles_path("/carts"));
        assert!(table.names(&Method::POST) && !table.names(&Method::GET));
    }

    #[test]
    fn what_servers_may_take_for_a_routed_path_resembles_it() {
        let table = table(&["POST /Orders/{id}/items", "PUT /files/{*rest}", "* /all/"]);
        for path in [
            "/orders/7/ITEMS",
            "/orders/7/items/",
            "/orders;v=1/7;x/items.",
            "/orders/7/items%20",
            "/orders/7/items.json",
            "/orders/7/items%0a%20",
            "/orders%09/7/items",
        ] {
            assert_eq!(found(&table, &Method::POST, path), None, "{path}");
            assert!(table.resembles(&Method::POST, path), "{path}");
            assert!(!table.resembles(&Method::PUT, path), "{path}");
        }
        assert!(table.resembles(&Method::PUT, "/Files/a") && table.resembles(&Method::GET, "/all"));
        for path in ["/orders", "/orders/7", "/orders/7/item", "/orders/7/items/8", "/"] {
            assert!(!table.resembles(&Method::POST, path), "{path}");
        }
    }

    #[test]
    fn the_routed_methods_are_those_of_the_routes() {
        let some = table(&["POST /a", "PUT /b", "POST /c"]).methods();
        assert!(some.contains(&Method::POST) && some.contains(&Method::PUT));
        assert!(!some.contains(&Method::GET));
        assert_eq!(table(&["POST /a", "* /b"]).methods(), RoutedMethods::All);
        assert!(!table(&[]).methods().contains(&Method::POST));
    }

    #[test]
    fn a_pattern_reads_and_prints_alike() {
        for text in ["POST /orders/{id}", "* /a/{*rest}", "PROPFIND /dav"] {
            assert_eq!(RoutePattern::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_method_and_path_is_refused() {
        use RoutePatternError as E;
        for text in ["", "POST", "/orders", "POST /a /b"] {
            assert!(matches!(RoutePattern::parse(text), Err(E::NotTwoParts(_))), "{text}");
        }
        for text in ["post /a", "CONNECT /a", "TRACE /a", "P(ST /a"] {
            assert!(matches!(RoutePattern::parse(text), Err(E::Method(_))), "{text}");
        }
        assert!(matches!(RoutePattern::parse("POST a"), Err(E::Path(_))));
    }

    proptest! {
        #[test]
        fn whatever_a_pattern_matches_is_found_in_a_table(path in "(/[ab]{0,2}){1,4}") {
            let table = table(&["POST /{*rest}", "POST /a/{x}", "POST /{x}/b", "POST /a/{*y}"]);
            let matching = |text: &str| RoutePattern::parse(text).unwrap().path.matches(&path).is_some();
            let any = table.iter().any(|(pattern, _)| matching(&pattern.to_string()));
            let found = found(&table, &Method::POST, &path);
            prop_assert_eq!(found.is_some(), any);
            prop_assert!(found.is_none_or(matching));
        }
    }
}
