//! The allowed imports between modules. `src/lib.rs` states the rule; these tests read the source.
//!
//! Text is looked at, not the compiler's view of it: comments and literals are left out
//! first, and `#[cfg(test)]` is held to the rule like everything else.

mod names;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each module of the root package and the modules of it that it may name. A module that is in
/// no row may not be named: a new one has to be given its place here. The crates below `crates/`
/// are held by the compiler.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("lib", &[]),
    ("cli", &["app", "config", "hyper_timer", "telemetry"]),
    (
        "app",
        &[
            "api",
            "config",
            "console",
            "webhooks",
            "engine",
            "front",
            "listener",
            "open_files",
            "telemetry",
            "upstream",
        ],
    ),
    ("front", &["api", "config", "listener", "telemetry", "upstream"]),
    ("console", &["api", "config", "listener", "telemetry", "upstream"]),
    ("engine", &["config", "telemetry", "upstream"]),
    ("webhooks", &["config", "hyper_timer", "open_files", "telemetry", "wire"]),
    ("api", &["config", "telemetry", "upstream"]),
    ("upstream", &["config", "open_files", "telemetry", "wire"]),
    ("wire", &[]),
    // It answers octets that cannot be read as a request, with the problems of the API.
    ("listener", &["api", "config", "hyper_timer", "telemetry"]),
    ("config", &[]),
    ("hyper_timer", &[]),
    ("open_files", &[]),
    ("telemetry", &["config"]),
];

/// Crates that belong to a few modules of the root package.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("cloakroom_ledger", &["cli", "app", "front", "console", "engine", "webhooks", "api"]),
    ("axum", &["front", "console", "api", "listener"]),
    ("clap", &["cli"]),
    // What clients choose the destination of goes to checked addresses, and what is sent to
    // upstreams is accounted for; this client does neither.
    ("reqwest", &["cli"]),
    ("tower_http", &["front", "console", "listener"]),
];

#[test]
fn each_module_names_only_what_lies_beneath_it() {
    let mut faults = Vec::new();
    for file in files("src") {
        let Some((_, may_name)) = MAY_NAME.iter().find(|(module, _)| *module == file.module) else {
            faults.push(format!("{}: the module {} has no place", file.path, file.module));
            continue;
        };
        // The binary names the library by the crate's name.
        let root = if file.module == "main" { "cloakroom" } else { "crate" };
        for named in file.named_beneath(root) {
            if named != file.module && !may_name.contains(&named.as_str()) {
                faults.push(format!("{}: {} may not name {named}", file.path, file.module));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn crates_stay_where_they_belong() {
    let mut faults = Vec::new();
    for file in files("src") {
        for (foreign, modules) in ONLY_IN {
            if file.names_root(foreign) && !modules.contains(&file.module.as_str()) {
                faults.push(format!("{}: {foreign} is not for {}", file.path, file.module));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_environment_is_read_in_config_only() {
    // The folder for temporary files is no setting.
    let read = ["var", "vars", "var_os", "vars_os"];
    let others = files("src").into_iter().filter(|file| file.module != "config");
    for file in others.chain(files("crates")) {
        for named in file.named_beneath("env") {
            assert!(!read.contains(&named.as_str()), "{}: env::{named}", file.path);
        }
    }
}

#[test]
fn every_module_that_has_a_place_is_there() {
    let there: BTreeSet<String> = files("src").into_iter().map(|file| file.module).collect();
    for (module, _) in MAY_NAME {
        assert!(there.contains(*module), "{module} has a place and is not there");
    }
}

#[test]
fn the_reader_sees_every_way_to_name_a_module() {
    let file = File {
        path: String::new(),
        module: String::new(),
        words: words(
            "use crate::{ledger::Ledger, api::{self, own}, clock};\n\
             use crate::domain::Ticket; // crate::front\n\
             /* crate::console /* crate::cli */ */\n\
             fn a(x: crate::upstream::Client) -> &'static str { \"crate::config \\\" crate::app\" }\n\
             fn b() -> char { let r = r#\"crate::main \"quoted\" \"#; '\"' }\n\
             pub use sqlx::query; let hyper_util = 1;",
        ),
    };
    let named: Vec<String> = file.named_beneath("crate").into_iter().collect();
    assert_eq!(named, ["api", "clock", "domain", "ledger", "upstream"]);
    assert!(file.names_root("sqlx"));
    assert!(!file.names_root("hyper"));
}

/// A source file: which module it belongs to, and its text in words and signs.
struct File {
    path: String,
    module: String,
    words: Vec<String>,
}

impl File {
    /// What follows `root::`, directly or in braces.
    fn named_beneath(&self, root: &str) -> BTreeSet<String> {
        let mut named = BTreeSet::new();
        for at in self.positions(root) {
            match self.words.get(at + 2).map(String::as_str) {
                Some("{") => named.extend(self.first_in_braces(at + 3)),
                Some(word) => {
                    named.insert(word.to_owned());
                }
                None => {}
            }
        }
        named
    }

    /// Whether a path begins with that crate.
    fn names_root(&self, name: &str) -> bool {
        self.positions(name).any(|at| at == 0 || self.words[at - 1] != "::")
            || self.words.windows(2).any(|pair| pair[0] == "use" && pair[1] == name)
    }

    fn positions(&self, name: &str) -> impl Iterator<Item = usize> {
        let is = move |at: &usize| {
            self.words[*at] == name && self.words.get(at + 1).is_some_and(|next| next == "::")
        };
        (0..self.words.len()).filter(is)
    }

    /// The first word of each member of a list in braces that begins at `at`.
    fn first_in_braces(&self, at: usize) -> Vec<String> {
        let (mut depth, mut first, mut found) = (1, true, Vec::new());
        for word in &self.words[at..] {
            match word.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                "," if depth == 1 => first = true,
                word if depth == 1 && first => {
                    found.push(word.to_owned());
                    first = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        found
    }
}

/// The source files below a folder of the repository.
fn files(folder: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    let read = |path: PathBuf| {
        let beneath = path.strip_prefix(&root).unwrap();
        let first = beneath.components().next().unwrap().as_os_str().to_string_lossy();
        File {
            path: path.display().to_string(),
            module: first.trim_end_matches(".rs").to_owned(),
            words: words(&std::fs::read_to_string(&path).unwrap()),
        }
    };
    paths.into_iter().map(read).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Names and signs, without comments, literals and white space; `::` is one sign.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        rest = if rest.starts_with("//") {
            rest.find('\n').map_or("", |end| &rest[end..])
        } else if rest.starts_with("/*") {
            after_comment(rest)
        } else if let Some(after) = after_literal(rest) {
            after
        } else if next.is_alphanumeric() || next == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            &rest[end..]
        } else {
            let length = if rest.starts_with("::") { 2 } else { next.len_utf8() };
            if !next.is_whitespace() {
                words.push(rest[..length].to_owned());
            }
            &rest[length..]
        };
    }
    words
}

/// What stands behind the comment that the text begins with; comments nest.
fn after_comment(text: &str) -> &str {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    &text[at..]
}

/// What stands behind the string or character that the text begins with, if it does.
fn after_literal(text: &str) -> Option<&str> {
    let plain = text.strip_prefix('b').unwrap_or(text);
    if let Some(raw) = plain.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if let Some(inside) = raw[hashes..].strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            return inside.split_once(&end).map(|(_, after)| after);
        }
    }
    let sign = plain.chars().next().filter(|sign| matches!(sign, '"' | '\''))?;
    let inside = &plain[1..];
    // A lifetime has no second quote behind its first character.
    if sign == '\'' && !inside.starts_with('\\') {
        let second = inside.chars().nth(1)?;
        if second != '\'' {
            return None;
        }
    }
    let mut escaped = false;
    for (at, character) in inside.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == sign => return Some(&inside[at + 1..]),
            _ => {}
        }
    }
    None
}
