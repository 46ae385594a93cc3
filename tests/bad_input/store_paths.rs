//! Paths where no ledger can be kept, and other files in the place of its reserve.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::process::Command;

use crate::support::gateway::{cloakroom, order, without_rights};
use crate::support::{Setup, Upstream, time};

fn pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A folder that every user may write to.
fn common_folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    allow(folder.path(), 0o777);
    folder
}

/// Whether a user without rights can run the program where it was built.
async fn can_run_without_rights() -> bool {
    let ran = without_rights().arg("--version").output().await;
    let can = ran.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("not run: a user without rights cannot run the program here");
    }
    can
}

/// `doctor` and `serve` both refuse the place, in the same words.
async fn refused(program: fn() -> Command, ledger: &Path, says: &[&str]) {
    let store = format!("sqlite:{}", ledger.display());
    for command in ["doctor", "serve"] {
        let flags = ["--upstream", "http://127.0.0.1:1", "--store", &*store];
        let listening = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let mut run = program();
        run.arg(command).args(flags).args(listening);
        let output = time::within(&format!("{command} of {store}"), run.output()).await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(1), "{command} of {store}: {said}");
        for part in says {
            assert!(said.contains(part), "{part} of {command}: {said}");
        }
    }
    assert!(!ledger.with_extension("db.lock").is_file(), "{store} has a lock");
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_before_it_is_opened() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    pipe(&at("pipe.db"));
    std::fs::create_dir(at("folder.db")).unwrap();
    std::fs::write(at("file"), "").unwrap();
    let there = |name: &str| at(name).display().to_string();
    for (name, says) in [
        ("pipe.db", "it is a named pipe, not a file: name another file with store.url (--store)"),
        ("folder.db", "it is a folder, not a file: name another file with store.url (--store)"),
        ("none/x.db", &*format!("its folder {} does not exist: make it", there("none"))),
        ("file/x.db", &*format!("its folder {} is a file, not a folder", there("file"))),
    ] {
        refused(cloakroom, &at(name), &[says, &*there(name)]).await;
    }
    pipe(&at("locked.db.lock"));
    refused(cloakroom, &at("locked.db"), &["locked.db.lock beside it is a named pipe"]).await;
}

#[tokio::test]
async fn a_place_that_may_not_be_written_is_refused_with_what_to_do() {
    if !can_run_without_rights().await {
        return;
    }
    let folder = common_folder();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("read-only.db"), "").unwrap();
    std::fs::write(at("other.db.lock"), "").unwrap();
    std::fs::create_dir(at("closed")).unwrap();
    for (name, mode) in [("read-only.db", 0o444), ("other.db.lock", 0o444), ("closed", 0o555)] {
        allow(&at(name), mode);
    }
    let to_do = "give the gateway's user the right to";
    refused(without_rights, &at("read-only.db"), &["it cannot be written to", to_do]).await;
    let closed = format!("its folder {} cannot be written to", at("closed").display());
    refused(without_rights, &at("closed/x.db"), &[&closed, to_do]).await;
    let lock = format!("the file {} beside it cannot be", at("other.db.lock").display());
    let said = [&*lock, to_do];
    let (store, mut run) = (format!("sqlite:{}", at("other.db").display()), without_rights());
    run.args(["serve", "--upstream", "http://127.0.0.1:1", "--store", &store]);
    let output = time::within("a refusal", run.output()).await.unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(said.iter().all(|part| words.contains(part)), "{words}");
}

/// Puts something at a path.
type Put = Box<dyn Fn(&Path)>;

#[tokio::test]
async fn a_reserve_that_cannot_be_made_refuses_nothing_and_the_log_tells_why() {
    if !can_run_without_rights().await {
        return;
    }
    let upstream = Upstream::start().await;
    let elsewhere = common_folder();
    let theirs = elsewhere.path().join("letter");
    std::fs::write(&theirs, "a letter").unwrap();
    allow(&theirs, 0o666);
    let target = theirs.clone();
    let puts: [(Put, &str); 5] = [
        (Box::new(|path| std::fs::create_dir(path).unwrap()), "it is a folder"),
        (Box::new(pipe), "it is a named pipe"),
        (
            Box::new(|path| std::os::unix::fs::symlink("/nowhere/x", path).unwrap()),
            "it is a symbolic link",
        ),
        (
            Box::new(move |path| std::os::unix::fs::symlink(&target, path).unwrap()),
            "it is a symbolic link",
        ),
        (
            Box::new(|path| {
                std::fs::write(path, "1").unwrap();
                allow(path, 0o444);
            }),
            "Permission denied",
        ),
    ];
    for (put, says) in puts {
        let folder = Arc::new(common_folder());
        put(&folder.path().join("cloakroom.db.reserve"));
        let process = Setup::before(&upstream).spawn_without_rights(folder).await;
        let ticket = process.accept(order()).await;
        process.settled(&ticket).await;
        process.accept(order()).await;
        let logged = time::until("the cause in the log", || async {
            Some(process.stderr()).filter(|logged| logged.contains(says))
        });
        let logged = logged.await;
        for part in ["cloakroom.db.reserve", "remove what lies there"] {
            assert!(logged.contains(part), "{part}: {logged}");
        }
        assert!(!logged.contains("no room"), "{logged}");
    }
    assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "a letter");
}
