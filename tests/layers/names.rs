//! The names of types and the heads of modules, read from the sources of the workspace.
//!
//! A reader who knows the field guesses a name right. So no type name stands for two things, no type
//! is called by a bare participle, and the first line of a module is a noun phrase.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names that may stand more than once: at most ten.
const SHARED: &[&str] = &["Args", "BoxError", "Command", "Error", "Reply", "Row", "Settings"];

const _: () = assert!(SHARED.len() <= 10, "a list that grows holds nothing");

/// Nouns that look like participles.
const NOUNS: &[&str] =
    &["Coding", "Framing", "Grouping", "Keyring", "Listing", "Ping", "Routing", "Setting"];

/// Names of the ledger that still break these rules. A name leaves the list when it is mended; none
/// is added.
const UNMENDED: &[&str] = &[
    "Accepted",
    "Asked",
    "Asking",
    "Batch",
    "Blocked",
    "Book",
    "Canceled",
    "Claim",
    "Claimed",
    "Column",
    "Columns",
    "Counted",
    "Declared",
    "Divided",
    "Emptied",
    "Freeing",
    "Handed",
    "Held",
    "Judged",
    "Kind",
    "Leased",
    "Leaving",
    "Lent",
    "Listed",
    "Opened",
    "Opening",
    "Overlooked",
    "Owned",
    "Parents",
    "Part",
    "Passed",
    "Paused",
    "Pausing",
    "Placed",
    "Progressed",
    "Promised",
    "Pruned",
    "Read",
    "Reading",
    "Recounted",
    "Resealed",
    "Retried",
    "Shared",
    "Sorted",
    "StoredBody",
    "Standing",
    "Stepped",
    "Tasks",
    "Timed",
    "Unblocked",
    "Values",
    "Waiting",
    "Watched",
];

/// Participles that do not end in "ed" or "ing".
const IRREGULAR: &[&str] = &[
    "begun",
    "bound",
    "broken",
    "brought",
    "built",
    "chosen",
    "cut",
    "done",
    "drawn",
    "fallen",
    "felt",
    "found",
    "given",
    "gone",
    "got",
    "held",
    "hidden",
    "kept",
    "known",
    "led",
    "left",
    "lent",
    "lost",
    "made",
    "meant",
    "met",
    "paid",
    "put",
    "read",
    "run",
    "said",
    "seen",
    "sent",
    "set",
    "shown",
    "sold",
    "spent",
    "stood",
    "taken",
    "taught",
    "thought",
    "told",
    "understood",
    "won",
    "written",
];

/// Words that begin a clause and no noun phrase.
const QUESTIONS: &[&str] =
    &["What", "Who", "Whom", "Whose", "How", "Where", "When", "Why", "Which", "Whether", "That"];

/// Nouns and adjectives at the begin of a module's head that look like verbs.
const BEGINS: &[&str] = &["Accepting", "Outgoing", "Pending", "Routing", "Signing"];

/// The most uses of a pronoun for a subject that has a name.
const MOST_PRONOUNS: usize = 60;

/// A file of the workspace.
struct Source {
    path: String,
    text: String,
}

/// The files with that ending below these folders.
fn sources(folders: &[&str], endings: &[&str]) -> Vec<Source> {
    let mut open: Vec<_> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut found = Vec::new();
    while let Some(place) = open.pop() {
        let is_wanted = |path: &Path| {
            path.extension().is_some_and(|it| endings.iter().any(|ending| it == *ending))
        };
        if place.is_dir() {
            let inside = std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path());
            open.extend(inside.filter(|path| !path.ends_with("target")));
        } else if is_wanted(&place) {
            let path = place.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            found.push(Source { path, text: std::fs::read_to_string(&place).unwrap() });
        }
    }
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The type that a line declares, if it does; associated types are none.
fn declared(line: &str) -> Option<&str> {
    let plain = line.trim_start();
    let plain = match plain.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) => rest.trim_start(),
        None => plain,
    };
    let (kind, rest) = plain.split_once(' ')?;
    let is_type = ["struct", "enum", "trait"].contains(&kind);
    let is_alias = kind == "type" && !line.starts_with(' ');
    let name = rest.split(|it: char| !it.is_alphanumeric() && it != '_').next()?;
    let is_name = name.starts_with(|it: char| it.is_ascii_uppercase());
    ((is_type || is_alias) && is_name).then_some(name)
}

/// Every type of the workspace but those of tests, with the files that declare it.
fn types() -> BTreeMap<String, Vec<String>> {
    let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Source { path, text } in sources(&["src", "crates"], &["rs"]) {
        let is_test = ["/suite", "/tests", "/conformance"].iter().any(|it| path.contains(it));
        if is_test || path.ends_with("tests.rs") {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for name in code.lines().filter_map(declared) {
            types.entry(name.to_owned()).or_default().push(path.clone());
        }
    }
    types
}

fn is_bare_participle(name: &str) -> bool {
    let is_one_word = name.chars().skip(1).all(|it| it.is_ascii_lowercase());
    let word = name.to_ascii_lowercase();
    let ends = word.ends_with("ed") || word.ends_with("ing");
    is_one_word && !NOUNS.contains(&name) && (ends || IRREGULAR.contains(&&*word))
}

fn is_noun_phrase(head: &str) -> bool {
    let first = head.split(|it: char| !it.is_alphanumeric()).next().unwrap_or_default();
    let is_verb = first.ends_with("ing") && !BEGINS.contains(&first);
    !QUESTIONS.contains(&first) && !is_verb
}

#[test]
fn a_type_name_stands_for_one_thing() {
    let may = |name: &str| SHARED.contains(&name) || UNMENDED.contains(&name);
    let twice = |(name, files): &(String, Vec<String>)| files.len() > 1 && !may(name);
    let found: Vec<_> = types().into_iter().filter(twice).collect();
    assert!(found.is_empty(), "name each by its subject: {found:#?}");
}

#[test]
fn a_type_is_called_by_a_noun() {
    let bad = |name: &str| is_bare_participle(name) && !UNMENDED.contains(&name);
    let found: Vec<_> = types().into_iter().filter(|(name, _)| bad(name)).collect();
    assert!(found.is_empty(), "name the thing, as in `PausedQueues`: {found:#?}");
}

#[test]
fn the_head_of_a_module_is_a_noun_phrase() {
    let head = |source: &Source| {
        let head = source.text.strip_prefix("//! ")?.lines().next()?.to_owned();
        (!is_noun_phrase(&head)).then(|| format!("{}: {head}", source.path))
    };
    let found: Vec<_> =
        sources(&["src", "crates", "tests", "bench"], &["rs"]).iter().filter_map(head).collect();
    assert!(found.is_empty(), "write what would stand in a table of contents: {found:#?}");
}

#[test]
fn sentences_name_their_subjects() {
    // So that this file counts for nothing.
    let pronouns = ["who", "no", "some"]
        .map(|it| format!("{it}{}", ["ever", "body"][usize::from(it != "who")]));
    let folders = [
        "src",
        "crates",
        "tests",
        "bench",
        "docs",
        "findings",
        "scripts",
        "README.md",
        "CONTRIBUTING.md",
    ];
    let all = sources(&folders, &["rs", "md", "sh", "sql"]);
    let uses = |source: &Source| {
        let text = source.text.to_lowercase();
        let words = text.split(|it: char| !it.is_alphanumeric() && it != '_');
        words.filter(|word| pronouns.iter().any(|pronoun| word == pronoun)).count()
    };
    let count: usize = all.iter().map(uses).sum();
    assert!(count <= MOST_PRONOUNS, "{count} sentences say {pronouns:?}: name the subject");
}

#[test]
fn a_declaration_is_found_however_it_is_written() {
    for (line, name) in [
        ("pub struct Given;", Some("Given")),
        ("pub(crate) enum Told {", Some("Told")),
        ("    trait Found<T>: Send {", Some("Found")),
        ("type Held = u8;", Some("Held")),
        ("    type Row = Row;", None),
        ("// struct Taken", None),
        ("let x = struct_of(Made);", None),
    ] {
        assert_eq!(declared(line), name, "{line}");
    }
}

#[test]
fn a_participle_and_a_clause_are_told_from_nouns() {
    for bad in ["Given", "Asked", "Waiting", "Held"] {
        assert!(is_bare_participle(bad), "{bad}");
    }
    for good in ["Routing", "PausedQueues", "LeasedFrom", "Lease"] {
        assert!(!is_bare_participle(good), "{good}");
    }
    for bad in ["What lies in lanes.", "Looking for faults.", "How it ends."] {
        assert!(!is_noun_phrase(bad), "{bad}");
    }
    for good in ["The dispatcher: claims operations.", "Signing keys.", "`Expect`."] {
        assert!(is_noun_phrase(good), "{good}");
    }
}
