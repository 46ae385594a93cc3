//! The reference libraries of other languages, as receivers use them.
//!
//! They run what `docs/guides/receiving.md` shows: its examples are what is tested.
//! `scripts/judges` installs them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;

/// One of them, ready to judge.
#[derive(Debug)]
pub struct Judge {
    program: PathBuf,
    /// What its program is called, and what it makes of the example.
    script: (&'static str, String),
    folder: PathBuf,
}

pub const GUIDE: &str = include_str!("../../docs/guides/receiving.md");

/// Reads a question from the standard input, and prints whether the example believes it.
const PYTHON: &str = r#"
import json, sys
question = json.load(sys.stdin)
try:
    verified(question["secret"], question["fields"], question["body"].encode())
    print("believed")
except WebhookVerificationError as error:
    print("not believed:", error)
"#;

const JAVASCRIPT: &str = r#"
const question = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
try {
  verified(question.secret, question.fields, question.body);
  console.log("believed");
} catch (error) {
  if (!(error instanceof WebhookVerificationError)) throw error;
  console.log("not believed:", error.message);
}
"#;

impl Judge {
    pub fn python() -> Self {
        let folder = installed();
        let script = format!("{}{PYTHON}", example("python"));
        Self { program: folder.join("python/bin/python3"), script: ("-c", script), folder }
    }

    pub fn javascript() -> Self {
        let folder = installed();
        let script = format!("{}{JAVASCRIPT}", example("javascript"));
        Self { program: "node".into(), script: ("-e", script), folder: folder.join("javascript") }
    }

    /// Whether it believes a delivery. Fails the test where it breaks down instead.
    pub fn believes(&self, secret: &str, fields: &[(&str, String)], body: &[u8]) -> bool {
        let fields: serde_json::Map<_, _> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect();
        let body = std::str::from_utf8(body).unwrap();
        let question = serde_json::json!({ "secret": secret, "fields": fields, "body": body });
        let mut judge = Command::new(&self.program)
            .arg(self.script.0)
            .arg(&self.script.1)
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        judge.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
        let judged = judge.wait_with_output().unwrap();
        let says = String::from_utf8_lossy(&judged.stdout);
        assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
        says.trim() == "believed"
    }
}

/// Where `scripts/judges` has put them.
fn installed() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_cloakroom")).ancestors().nth(2).unwrap();
    let folder = target.join("judges");
    assert!(
        folder.join("installed").exists(),
        "the reference libraries of Standard Webhooks are not in {}: run scripts/judges, which \
         needs python3 with venv, and npm",
        folder.display()
    );
    folder
}

/// The first example of that language in the guide.
fn example(language: &str) -> &'static str {
    let fence = format!("```{language}\n");
    let begun = GUIDE.split_once(&fence).expect("the guide has an example").1;
    begun.split_once("```").unwrap().0
}

pub fn decoded(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
