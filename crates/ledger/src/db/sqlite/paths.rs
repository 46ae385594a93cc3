//! The place of a ledger in a file: its folder, the file, and the files beside it.
//!
//! Owns the look at what lies there before anything is opened. Its invariant: the look opens
//! nothing and changes nothing. Opening a named pipe would wait for its other end.

use std::fs::FileType;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::db::sqlite::open::{beside_as, unreadable};
use crate::error::OpenError;

/// The files beside a ledger that the gateway cannot do without.
const BESIDE: [&str; 3] = [".lock", "-wal", "-shm"];

/// The folder that a ledger lies in.
pub fn folder_of(ledger: &Path) -> PathBuf {
    match ledger.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Refuses a place where no ledger can be kept.
pub(crate) fn check_place(ledger: &Path) -> Result<(), OpenError> {
    if ledger.as_os_str().as_encoded_bytes().ends_with(b"/") && !ledger.exists() {
        let says = "its path ends with a slash, as that of a folder does: name a file with \
                    store.url (--store)";
        return Err(unreadable(ledger, says));
    }
    let folder = folder_of(ledger);
    let of_folder = check_folder(&folder)
        .map_err(|says| unreadable(ledger, format!("its folder {} {says}", folder.display())));
    let of_file = check_regular(ledger, "name another file with store.url (--store)")
        .map_err(|says| unreadable(ledger, format!("it {says}")));
    // Of a path where nothing can lie, the folder tells more.
    let found = if ledger.exists() { [of_file, of_folder] } else { [of_folder, of_file] };
    found.into_iter().collect::<Result<(), _>>()?;
    BESIDE.iter().try_for_each(|added| {
        let path = beside_as(ledger, added);
        check_regular(&path, "move it away while no gateway runs").map_err(|says| {
            unreadable(ledger, format!("the file {} beside it {says}", path.display()))
        })
    })
}

/// Says of a folder why no ledger can lie in it, and what to do.
pub fn check_folder(folder: &Path) -> Result<(), String> {
    const ELSEWHERE: &str = "name another place with store.url (--store)";
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => {}
        Ok(found) => {
            return Err(format!("is {}, not a folder: {ELSEWHERE}", kind(found.file_type())));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(format!("does not exist: make it, or {ELSEWHERE}"));
        }
        Err(error) => return Err(format!("cannot be looked at ({error}): {ELSEWHERE}")),
    }
    let rights = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    access(folder, rights).map_err(|error| {
        format!(
            "cannot be written to ({error}): give the gateway's user the right to, or {ELSEWHERE}"
        )
    })
}

/// Says of a file why the gateway cannot use it, and what to do. A file that is not there will be
/// made.
fn check_regular(path: &Path, otherwise: &str) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(found) => {
            return Err(format!("is {}, not a file: {otherwise}", kind(found.file_type())));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("cannot be looked at ({error}): {otherwise}")),
    }
    access(path, Access::READ_OK | Access::WRITE_OK).map_err(|error| {
        format!(
            "cannot be written to ({error}): give the gateway's user the right to, or {otherwise}"
        )
    })
}

/// What lies at a path, in words.
pub(crate) fn kind(found: FileType) -> &'static str {
    match found {
        _ if found.is_dir() => "a folder",
        _ if found.is_symlink() => "a symbolic link",
        _ if found.is_fifo() => "a named pipe",
        _ if found.is_socket() => "a socket",
        _ if found.is_block_device() || found.is_char_device() => "a device",
        _ => "a file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(path: &Path) {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    #[test]
    fn a_ledger_is_a_file_in_a_folder_and_so_is_all_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        pipe(&at("pipe.db"));
        pipe(&at("piped.db.lock"));
        std::fs::create_dir(at("folder.db")).unwrap();
        std::fs::create_dir(at("logged.db-wal")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink(at("pipe.db"), at("link.db")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket.db")).unwrap();
        for (path, says) in [
            (at("pipe.db"), "it is a named pipe, not a file"),
            (at("link.db"), "it is a named pipe, not a file"),
            (at("folder.db"), "it is a folder, not a file"),
            (at("socket.db"), "it is a socket, not a file"),
            (PathBuf::from("/dev/null"), "it is a device, not a file"),
            (at("piped.db"), "piped.db.lock beside it is a named pipe"),
            (at("logged.db"), "logged.db-wal beside it is a folder"),
            (at("none/x.db"), "/none does not exist: make it"),
            (at("none/"), "its path ends with a slash"),
            (at("file/x.db"), "/file is a file, not a folder"),
        ] {
            let told = check_place(&path).unwrap_err().to_string();
            assert!(told.contains(says), "{says}: {told}");
        }
        assert!(check_place(&at("new.db")).is_ok() && check_place(&at("file")).is_ok());
        assert!(check_place(Path::new("surely-not-there.db")).is_ok());
    }
}
