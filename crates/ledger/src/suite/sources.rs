//! The statements that stand in sources, read from there so that none can be forgotten.
//!
//! Owns as much of the language as statements are written in: texts, what `concat!` joins,
//! macros that stand for a part of one, and calls that make a statement of texts. What it
//! does not understand it says, and a statement is to be written so that it does.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A statement, and where it stands.
#[derive(Debug)]
pub(crate) struct Found {
    /// What makes a statement of these texts, as in `Statement::insert` or `table`; empty
    /// where it is one text.
    pub(crate) call: String,
    pub(crate) texts: Vec<String>,
}

const VERBS: [&str; 5] = ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "];

/// Macros that make statements of texts.
const MAKERS: [&str; 2] = ["locking", "table"];

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

/// What a macro stands for: names of its parameters, and a body.
type Macros = HashMap<String, (Vec<String>, Vec<Token>)>;

/// Every statement of a backend in these files and folders, but for their tests.
pub(crate) fn statements(backend: &str, places: &[&str]) -> Vec<Found> {
    let files: Vec<_> = places.iter().flat_map(|place| sources(backend, place)).collect();
    let mut macros = Macros::new();
    let shared = ["rows", "webhooks"].into_iter().flat_map(|place| sources(backend, place));
    for (_, tokens) in files.iter().cloned().chain(shared) {
        collect_macros(&tokens, &mut macros);
    }
    files.iter().flat_map(|(file, tokens)| found(file, &without_macros(tokens), &macros)).collect()
}

/// A file of the ledger, or all below a folder, in tokens. A file that is named after a backend is
/// of that backend alone.
fn sources(backend: &str, place: &str) -> Vec<(String, Vec<Token>)> {
    let mut paths = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(place), &mut paths);
    let of_another = ["sqlite", "postgres"].into_iter().find(|other| *other != backend);
    let is_of_another = |path: &PathBuf| {
        path.file_stem().is_some_and(|name| of_another.is_some_and(|it| it == name))
    };
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        (path.file_name().unwrap().to_string_lossy().into_owned(), tokens(code))
    };
    paths.into_iter().filter(|path| !is_of_another(path)).map(read).collect()
}

fn walk(place: &Path, found: &mut Vec<PathBuf>) {
    match std::fs::read_dir(place) {
        Ok(folder) => folder.for_each(|entry| walk(&entry.unwrap().path(), found)),
        Err(_) if place.extension().is_some_and(|it| it == "rs") => found.push(place.to_owned()),
        Err(_) => {}
    }
}

fn tokens(code: &str) -> Vec<Token> {
    let (mut found, mut rest) = (Vec::new(), code.chars().peekable());
    while let Some(next) = rest.next() {
        match next {
            '/' if rest.peek() == Some(&'/') => while rest.next().is_some_and(|it| it != '\n') {},
            '"' => found.push(Token::Text(text(&mut rest))),
            '\'' => {
                // A character, or a lifetime.
                let mut ahead = rest.clone();
                let escaped = ahead.next() == Some('\\');
                if escaped || ahead.next() == Some('\'') {
                    rest.next();
                    while rest.next().is_some_and(|it| it != '\'') {}
                }
            }
            it if it.is_alphanumeric() || it == '_' => {
                let mut word = String::from(it);
                while let Some(more) = rest.next_if(|it| it.is_alphanumeric() || *it == '_') {
                    word.push(more);
                }
                found.push(Token::Word(word));
            }
            it if it.is_whitespace() => {}
            it => found.push(Token::Mark(it)),
        }
    }
    found
}

/// A text up to its end.
fn text(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(next) = rest.next() {
        match next {
            '"' => return text,
            '\\' => match rest.next() {
                Some('\n') => while rest.next_if(|it| it.is_whitespace()).is_some() {},
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => {}
            },
            other => text.push(other),
        }
    }
    text
}

/// Where what opens at `from` is closed, and what is between.
fn inside(tokens: &[Token], from: usize) -> (usize, &[Token]) {
    let mut depth = 0;
    for (place, token) in tokens.iter().enumerate().skip(from) {
        match token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (place, &tokens[from + 1..place]);
        }
    }
    (tokens.len(), &tokens[tokens.len()..])
}

fn is_call(tokens: &[Token], place: usize) -> bool {
    tokens.get(place) == Some(&Token::Mark('!'))
        && matches!(tokens.get(place + 1), Some(Token::Mark('(' | '[' | '{')))
}

fn collect_macros(tokens: &[Token], macros: &mut Macros) {
    for (place, _) in tokens.iter().enumerate().filter(|(_, it)| **it == word("macro_rules")) {
        let Some(Token::Word(name)) = tokens.get(place + 2) else { continue };
        let (_, rule) = inside(tokens, place + 3);
        let (pattern_ends, pattern) = inside(rule, 0);
        let (_, body) = inside(rule, pattern_ends + 3);
        let named = pattern.windows(2).filter(|pair| pair[0] == Token::Mark('$'));
        let named = named.filter_map(|pair| match &pair[1] {
            Token::Word(name) => Some(name.clone()),
            _ => None,
        });
        macros.insert(name.clone(), (named.collect(), body.to_vec()));
    }
}

fn without_macros(tokens: &[Token]) -> Vec<Token> {
    let (mut kept, mut place) = (Vec::new(), 0);
    while let Some(token) = tokens.get(place) {
        if *token == word("macro_rules") {
            place = inside(tokens, place + 3).0;
        } else {
            kept.push(token.clone());
        }
        place += 1;
    }
    kept
}

fn word(word: &str) -> Token {
    Token::Word(word.to_owned())
}

/// What is between commas that are in nothing else.
fn arguments(tokens: &[Token]) -> Vec<&[Token]> {
    let (mut found, mut from, mut place) = (Vec::new(), 0, 0);
    while place < tokens.len() {
        match tokens[place] {
            Token::Mark('(' | '[' | '{') => place = inside(tokens, place).0,
            Token::Mark(',') => {
                found.push(&tokens[from..place]);
                from = place + 1;
            }
            _ => {}
        }
        place += 1;
    }
    found.push(tokens.get(from..).unwrap_or_default());
    found.retain(|argument| !argument.is_empty());
    found
}

/// The text that an expression stands for; none if it stands for something else.
fn valued(expression: &[Token], macros: &Macros) -> Option<String> {
    match expression {
        [Token::Text(text)] => Some(text.clone()),
        [Token::Word(name), ..] if is_call(expression, 1) => {
            let given = arguments(inside(expression, 2).1);
            if name == "concat" {
                return given.into_iter().map(|part| valued(part, macros)).collect();
            }
            let (named, body) = macros.get(name)?;
            let mut filled = Vec::new();
            let mut rest = body.iter();
            while let Some(token) = rest.next() {
                match token {
                    Token::Mark('$') => {
                        let Some(Token::Word(parameter)) = rest.next() else { return None };
                        let place = named.iter().position(|name| name == parameter)?;
                        filled.extend_from_slice(given.get(place)?);
                    }
                    other => filled.push(other.clone()),
                }
            }
            valued(&filled, macros)
        }
        _ => None,
    }
}

/// What these arguments stand for, each of which is a text.
fn texts_of(file: &str, tokens: &[Token], macros: &Macros) -> Vec<String> {
    let read = |it: &[Token]| {
        valued(it, macros).unwrap_or_else(|| panic!("not understood: {file}: {it:?}"))
    };
    arguments(tokens).into_iter().map(read).collect()
}

/// Whether this begins the fields of a statement that each engine has words of its own for.
fn in_both_words(tokens: &[Token]) -> bool {
    matches!(tokens, [Token::Mark('{'), Token::Word(name), Token::Mark(':'), ..] if name == "sqlite")
}

fn is_statement(text: &str) -> bool {
    VERBS.iter().any(|verb| text.starts_with(verb) && text.len() > verb.len())
}

fn found(file: &str, tokens: &[Token], macros: &Macros) -> Vec<Found> {
    let (mut found, mut place) = (Vec::new(), 0);
    let mut add = |call: &str, texts| {
        found.push(Found { call: call.to_owned(), texts });
    };
    while place < tokens.len() {
        match &tokens[place] {
            Token::Text(text) if is_statement(text) => add("", vec![text.clone()]),
            // What is written to a String at run time is a format.
            Token::Word(name) if name == "format" && is_call(tokens, place + 1) => {
                let (end, inner) = inside(tokens, place + 2);
                if let Some(Token::Text(text)) = inner.first()
                    && is_statement(text)
                {
                    add("format", vec![text.clone()]);
                }
                place = end;
            }
            Token::Word(name) if name == "concat" && is_call(tokens, place + 1) => {
                let end = inside(tokens, place + 2).0;
                let texts = texts_of(file, &tokens[place..=end], macros);
                if is_statement(&texts[0]) {
                    add("", texts);
                }
                place = end;
            }
            // `locking!(…)`, `table!(…)`.
            Token::Word(name) if MAKERS.contains(&&**name) && is_call(tokens, place + 1) => {
                let (end, inner) = inside(tokens, place + 2);
                add(name, texts_of(file, inner, macros));
                place = end;
            }
            // `Sql { sqlite: …, postgres: … }`.
            Token::Word(name) if name == "Sql" && in_both_words(&tokens[place + 1..]) => {
                let (end, inner) = inside(tokens, place + 1);
                let fields: Vec<_> = arguments(inner).iter().map(|it| it[2..].to_vec()).collect();
                let fields = fields.join(&Token::Mark(','));
                add(name, texts_of(file, &fields, macros));
                place = end;
            }
            // `Statement::insert(…)`, `Among::new(…)`.
            Token::Word(name) if name == "Statement" || name == "Among" => {
                if let [Token::Mark(':'), Token::Mark(':'), Token::Word(kind), Token::Mark('('), ..] =
                    &tokens[place + 1..]
                    && let (end, inner) = inside(tokens, place + 4)
                    && let texts = arguments(inner).into_iter().map(|it| valued(it, macros))
                    && let Some(texts) = texts.collect::<Option<Vec<_>>>()
                {
                    add(&format!("{name}::{kind}"), texts);
                    place = end;
                }
            }
            _ => {}
        }
        place += 1;
    }
    found
}
