//! Kong's router, as far as `deploy/kong/kong.yml` uses it.
//!
//! After Kong 3's `traditional_compatible` router: of the routes that match, one with more kinds of
//! conditions wins, then a regular expression over a prefix, then the higher `regex_priority`, then
//! the longer prefix. What is beyond that is refused here, so that nothing is judged by half.

use regex::Regex;
use serde_json::Value;

use super::{object, texts};

/// Keys of a route that don't take part in routing.
const INDIFFERENT: [&str; 7] = [
    "name",
    "plugins",
    "preserve_host",
    "request_buffering",
    "response_buffering",
    "strip_path",
    "tags",
];

/// A route: its conditions, and where it leads.
#[derive(Debug)]
pub(crate) struct Route {
    /// Its name.
    pub(crate) name: String,
    /// The service it leads to; none if it is answered by a plugin.
    pub(crate) service: Option<String>,
    /// The route as it stands in the file.
    pub(crate) settings: Value,
    methods: Vec<String>,
    paths: Vec<Matcher>,
    regex_priority: i64,
}

#[derive(Debug)]
enum Matcher {
    Pattern(Regex),
    Prefix(String),
}

/// How a match ranks among others; the greatest wins.
type Rank = (usize, bool, i64, usize);

impl Route {
    fn new(settings: &Value, service: Option<&str>) -> Self {
        let name = settings["name"].as_str().expect("a route's name").to_owned();
        for key in object(settings).keys() {
            let routing = ["methods", "paths", "regex_priority"].contains(&key.as_str());
            assert!(routing || INDIFFERENT.contains(&key.as_str()), "route {name}: {key}");
        }
        let paths = texts(&settings["paths"]).iter().map(|path| Matcher::new(path)).collect();
        Self {
            service: service.map(str::to_owned),
            methods: texts(&settings["methods"]),
            paths,
            regex_priority: settings["regex_priority"].as_i64().unwrap_or(0),
            settings: settings.clone(),
            name,
        }
    }

    fn rank(&self, method: &str, path: &str) -> Option<Rank> {
        if !self.methods.is_empty() && !self.methods.iter().any(|one| one == method) {
            return None;
        }
        let kinds = usize::from(!self.methods.is_empty()) + usize::from(!self.paths.is_empty());
        self.paths
            .iter()
            .filter_map(|matcher| match matcher {
                Matcher::Pattern(pattern) => {
                    pattern.is_match(path).then_some((kinds, true, self.regex_priority, 0))
                }
                Matcher::Prefix(prefix) => {
                    path.starts_with(prefix).then_some((kinds, false, 0, prefix.len()))
                }
            })
            .max()
    }
}

impl Matcher {
    /// A path of a route: a prefix, or after a `~` a regular expression, which is anchored at the
    /// beginning only.
    fn new(path: &str) -> Self {
        match path.strip_prefix('~') {
            Some(pattern) => {
                let anchored = format!("^(?:{pattern})");
                Self::Pattern(Regex::new(&anchored).unwrap_or_else(|e| panic!("{path}: {e}")))
            }
            None => Self::Prefix(path.to_owned()),
        }
    }
}

/// All routes of a declarative file.
#[derive(Debug)]
pub(crate) struct Router {
    routes: Vec<Route>,
}

impl Router {
    /// Of the file's content.
    pub(crate) fn new(file: &Value) -> Self {
        let mut routes = Vec::new();
        for service in file["services"].as_array().expect("services") {
            for route in service["routes"].as_array().expect("routes of a service") {
                routes.push(Route::new(route, service["name"].as_str()));
            }
        }
        for route in file["routes"].as_array().into_iter().flatten() {
            routes.push(Route::new(route, None));
        }
        Self { routes }
    }

    /// The route that a request takes. `path` is what it is after normalisation: without dot
    /// segments and doubled slashes.
    ///
    /// # Panics
    /// If two routes match equally well: Kong would then go by their age.
    pub(crate) fn route(&self, method: &str, path: &str) -> Option<&Route> {
        let mut matches: Vec<(Rank, &Route)> = self
            .routes
            .iter()
            .filter_map(|route| Some((route.rank(method, path)?, route)))
            .collect();
        matches.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        if let [(first, one), (second, other), ..] = matches[..] {
            assert_ne!(first, second, "{path}: {} or {}", one.name, other.name);
        }
        matches.first().map(|(_, route)| *route)
    }
}
