//! Every statement of the ledger, as the files declare them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::db::statements::{Backend, Declared};

/// The files that declare statements.
static DECLARED: &[&Declared] = &[
    &crate::cluster::limits::postgres::STATEMENTS,
    &crate::cluster::limits::shares::STATEMENTS,
    &crate::cluster::limits::sqlite::STATEMENTS,
    &crate::cluster::nodes::postgres::STATEMENTS,
    &crate::cluster::nodes::sqlite::STATEMENTS,
    &crate::cluster::sweep::postgres::STATEMENTS,
    &crate::db::postgres::catalog::STATEMENTS,
    &crate::db::postgres::inspect::STATEMENTS,
    &crate::db::postgres::STATEMENTS,
    &crate::db::postgres::notifications::STATEMENTS,
    &crate::db::postgres::open::STATEMENTS,
    &crate::db::postgres::pool::STATEMENTS,
    &crate::db::postgres::refusals::STATEMENTS,
    &crate::db::postgres::transaction::STATEMENTS,
    &crate::db::sqlite::inspect::STATEMENTS,
    &crate::db::sqlite::start::STATEMENTS,
    &crate::operations::accept::insert::STATEMENTS,
    &crate::operations::accept::postgres::STATEMENTS,
    &crate::operations::accept::sqlite::STATEMENTS,
    &crate::operations::bodies::STATEMENTS,
    &crate::operations::cancel::postgres::STATEMENTS,
    &crate::operations::cancel::sqlite::STATEMENTS,
    &crate::operations::capacity::STATEMENTS,
    &crate::operations::claim::postgres::STATEMENTS,
    &crate::operations::claim::sqlite::STATEMENTS,
    &crate::operations::finish::postgres::STATEMENTS,
    &crate::operations::finish::sqlite::STATEMENTS,
    &crate::operations::pause::STATEMENTS,
    &crate::operations::prune::postgres::STATEMENTS,
    &crate::operations::prune::sqlite::STATEMENTS,
    &crate::operations::read::answer::STATEMENTS,
    &crate::operations::read::descendants::STATEMENTS,
    &crate::operations::read::events::STATEMENTS,
    &crate::operations::read::find::postgres::STATEMENTS,
    &crate::operations::read::find::sqlite::STATEMENTS,
    &crate::operations::read::lanes::STATEMENTS,
    &crate::operations::read::lanes::postgres::STATEMENTS,
    &crate::operations::read::lanes::sqlite::STATEMENTS,
    &crate::operations::read::list::STATEMENTS,
    &crate::operations::read::promised::STATEMENTS,
    &crate::operations::reconcile::findings::STATEMENTS,
    &crate::operations::reconcile::sqlite::STATEMENTS,
    &crate::operations::reseal::walk::STATEMENTS,
    &crate::operations::retried::STATEMENTS,
    &crate::operations::retried::postgres::STATEMENTS,
    &crate::operations::sealing_keys::STATEMENTS,
    &crate::operations::serial_keys::STATEMENTS,
    &crate::operations::serial_keys::postgres::STATEMENTS,
    &crate::operations::serial_keys::sqlite::STATEMENTS,
    &crate::operations::settle::postgres::STATEMENTS,
    &crate::operations::settle::sqlite::STATEMENTS,
    &crate::operations::verdict::postgres::STATEMENTS,
    &crate::operations::verdict::sqlite::STATEMENTS,
    &crate::rows::node::STATEMENTS,
    &crate::webhooks::fan_out::STATEMENTS,
    &crate::webhooks::postgres::STATEMENTS,
    &crate::webhooks::publish::STATEMENTS,
    &crate::webhooks::read::STATEMENTS,
    &crate::webhooks::replay::STATEMENTS,
    &crate::webhooks::settle::STATEMENTS,
    &crate::webhooks::sqlite::STATEMENTS,
    &crate::webhooks::subscriptions::STATEMENTS,
];

/// What builds its statements at run time, and why none can be declared.
const BUILDS: [&str; 2] = [
    // The tables and columns are those that the source has.
    "copy.rs",
    // A batch has as many forms as its columns travel in: it declares all of them together.
    "operations/accept/insert.rs",
];

/// All that a backend is asked.
pub(super) fn asked_of(backend: Backend) -> BTreeSet<String> {
    let of_it = DECLARED.iter().filter(|declared| !is_of_another(declared.file, backend));
    of_it.flat_map(|declared| declared.all).flat_map(|it| it.texts(backend)).collect()
}

/// Whether a file is of another backend alone.
fn is_of_another(file: &str, backend: Backend) -> bool {
    let other = if backend == Backend::Sqlite { "postgres" } else { "sqlite" };
    Path::new(file).with_extension("").iter().any(|part| part == other)
}

/// The files below the sources of this crate, but for its tests.
fn sources(place: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
        let name = name.to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "suite" {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|end| end == "rs") && !name.ends_with("_tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
            found.push((name, code));
        }
    }
}

fn all_sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

#[test]
fn every_file_that_declares_statements_is_in_the_list() {
    let begins = ["statements! {", "pub(crate) static STATEMENTS: Declared"];
    let declares =
        |code: &str| code.lines().any(|line| begins.iter().any(|it| line.starts_with(it)));
    let found: BTreeSet<_> = all_sources()
        .into_iter()
        .filter(|(_, code)| declares(code))
        .map(|(name, _)| name)
        .collect();
    let below = |declared: &&Declared| declared.file.split_once("src/").unwrap().1.to_owned();
    let listed: BTreeSet<_> = DECLARED.iter().map(below).collect();
    assert_eq!(found, listed);
}

/// The lines of a file that are in no declaration of statements, in no macro that makes a part of
/// one, and no comment.
fn outside(code: &str) -> String {
    let (mut kept, mut inside) = (String::new(), false);
    for line in code.lines() {
        inside |= line.starts_with("statements! {") || line.starts_with("macro_rules! ");
        if !inside && !line.trim_start().starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
        inside &= line != "}";
    }
    kept
}

/// Texts that begin like a statement.
fn statements_in(code: &str) -> impl Iterator<Item = &str> {
    let verbs = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"];
    code.split('"').filter(|text| !text.starts_with(' ')).filter(move |text| {
        let words = &mut text.split_whitespace();
        words.next().is_some_and(|first| verbs.contains(&first)) && words.next().is_some()
    })
}

#[test]
fn no_statement_stands_outside_a_declaration() {
    for (name, code) in all_sources() {
        if BUILDS.contains(&&*name) {
            continue;
        }
        let found: Vec<String> = statements_in(&outside(&code)).map(str::to_owned).collect();
        assert_eq!(found, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_statement_outside_is_found_however_it_is_written() {
    for code in
        ["run(\"SELECT 1\")", "run(r\"\n    UPDATE x\")", "format!(\"DELETE FROM {table}\")"]
    {
        assert_eq!(statements_in(&outside(code)).count(), 1, "{code}");
    }
    let inside = "statements! {\n    const A: &str = r\"SELECT 1\";\n}\n// \"SELECT 2\"\n";
    assert_eq!(statements_in(&outside(inside)).count(), 0);
}
