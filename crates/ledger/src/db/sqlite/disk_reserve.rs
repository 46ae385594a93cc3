//! Room on the disk that is given up when nothing else is left, so that retention can go on.
//!
//! Whatever is deleted is written into the log first, so on a disk that is full to the last page
//! nothing could be deleted any more. A file beside the ledger keeps some room. It is removed when
//! a prune finds none, and made again when there is enough. Its invariants: while it is missing,
//! nothing that clients send takes what it gave up; and no file is written but its own. Where that
//! cannot be made though there is room, the ledger goes on without.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rustix::fs::{FallocateFlags, OFlags, StatVfs, fallocate, statvfs};
use rustix::io::Errno;

use crate::db::sqlite::open::beside;
use crate::db::sqlite::paths::kind;
use crate::db::sqlite::writer::Writer;

/// How much is kept: what the log may be ahead of the file on a disk with little room, and what a
/// small prune writes.
const RESERVE: u64 = 8 * 1024 * 1024;
/// A disk that is smaller than this in all is too small for that.
const SMALLEST_DISK: u64 = 8 * RESERVE;
/// Where less is free than this, the log is written back often, so that it is never far ahead of
/// the file.
const SCARCE: u64 = 1024 * 1024 * 1024;

/// The file that keeps the room.
pub(crate) struct Reserve {
    path: PathBuf,
    state: AtomicU8,
    /// While it is missing: whether the file has too few pages that nothing is stored in.
    tight: AtomicBool,
}

/// What there is of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum ReserveState {
    Kept,
    /// It was given up, or there was no room for it.
    Missing,
    /// The disk is too small for one.
    Needless,
    /// There is room for it, but its file cannot be made.
    Impossible,
}

impl Reserve {
    /// The reserve of a ledger; makes it if there is room.
    pub(crate) fn of(ledger: &Path) -> Self {
        let path = beside(ledger, "reserve");
        let state = if is_whole(&path) { ReserveState::Kept } else { ReserveState::Missing };
        let reserve =
            Self { path, state: AtomicU8::new(state as u8), tight: AtomicBool::new(false) };
        if reserve.disk().is_some_and(|disk| disk.f_blocks * disk.f_frsize < SMALLEST_DISK) {
            reserve.stands(ReserveState::Needless);
        } else if !reserve.make() {
            tracing::warn!(
                file = %reserve.path.display(),
                "there is no room for the ledger's reserve: make some, or a full disk cannot be freed by retention"
            );
        }
        reserve
    }

    /// Makes it where it is missing and there is twice the room; false if it is missing for want of
    /// room.
    fn make(&self) -> bool {
        if !self.is(ReserveState::Missing) {
            return true;
        }
        if self.is_short() {
            return false;
        }
        match self.write() {
            Ok(()) => self.stands(ReserveState::Kept),
            Err(error) if is_for_want_of_room(&error) => {
                tracing::debug!(%error, "the ledger's reserve could not be made");
                return false;
            }
            Err(error) => {
                self.stands(ReserveState::Impossible);
                tracing::warn!(
                    file = %self.path.display(),
                    %error,
                    "the ledger has no reserve, because its file cannot be made: remove what lies \
                     there, or let the gateway's user write it; without it, retention may not be able \
                     to free a full disk"
                );
            }
        }
        true
    }

    /// Makes it where it could not be made for another reason than want of room.
    pub(crate) fn retry(&self) {
        if !self.is(ReserveState::Impossible) || self.is_short() {
            return;
        }
        match self.write() {
            Ok(()) => {
                self.stands(ReserveState::Kept);
                tracing::info!(file = %self.path.display(), "the ledger has its reserve");
            }
            Err(error) => tracing::debug!(%error, "the ledger's reserve could not be made"),
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let mut file = self.open()?;
        let filled = fill(&mut file);
        if filled.is_err() {
            // A part of it would only be in the way.
            let _ = std::fs::remove_file(&self.path);
        }
        filled
    }

    /// Opens the file, but no other that lies in its place or that it has a name in common with.
    fn open(&self) -> std::io::Result<File> {
        match std::fs::symlink_metadata(&self.path) {
            Ok(found) if !found.is_file() => {
                return Err(std::io::Error::other(format!("it is {}", kind(found.file_type()))));
            }
            _ => {}
        }
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600).custom_flags(flags);
        let file = options.open(&self.path)?;
        let found = file.metadata()?;
        if !found.is_file() || found.nlink() > 1 {
            return Err(std::io::Error::other("it is a file that has another name, too"));
        }
        file.set_len(0)?;
        Ok(file)
    }

    /// Gives it up, if there is any.
    pub(crate) fn give_up(&self) {
        if !self.is(ReserveState::Kept) {
            return;
        }
        match std::fs::remove_file(&self.path) {
            Ok(()) => tracing::warn!(
                "the disk is full: the ledger's reserve was given up, so that what has expired can be deleted"
            ),
            Err(error) => tracing::warn!(%error, "the ledger's reserve could not be given up"),
        }
        self.stands(ReserveState::Missing);
        self.tight.store(true, Ordering::Relaxed);
    }

    /// Makes it again if there is room; otherwise sees whether what clients send would find room in
    /// the file.
    pub(crate) fn look(&self, writer: &mut Writer) {
        if !self.is(ReserveState::Missing) {
            return;
        }
        let tight = !self.make() && writer.unused_octets().is_ok_and(|unused| unused < RESERVE);
        self.tight.store(tight, Ordering::Relaxed);
    }

    /// Whether what clients send takes nothing of the room that was given up.
    pub(crate) fn has_room(&self) -> bool {
        !self.tight.load(Ordering::Relaxed) || self.make()
    }

    fn is(&self, state: ReserveState) -> bool {
        self.state.load(Ordering::Relaxed) == state as u8
    }

    /// Whether less is free than would leave as much again beside it.
    fn is_short(&self) -> bool {
        self.free().is_none_or(|free| free < 2 * RESERVE)
    }

    /// Whether little room is left on the disk.
    pub(crate) fn is_scarce(&self) -> bool {
        self.free().is_some_and(|free| free < SCARCE)
    }

    /// What is free for this process.
    fn free(&self) -> Option<u64> {
        self.disk().map(|disk| disk.f_bavail * disk.f_frsize)
    }

    fn disk(&self) -> Option<StatVfs> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        statvfs(folder.unwrap_or(Path::new("."))).ok()
    }

    fn stands(&self, state: ReserveState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }
}

/// Whether the file is there, with all of its room.
fn is_whole(path: &Path) -> bool {
    std::fs::symlink_metadata(path)
        .is_ok_and(|file| file.is_file() && file.nlink() == 1 && file.blocks() * 512 >= RESERVE)
}

fn fill(file: &mut File) -> std::io::Result<()> {
    match fallocate(&*file, FallocateFlags::empty(), 0, RESERVE) {
        Ok(()) => Ok(()),
        Err(Errno::NOSPC) => Err(ErrorKind::StorageFull.into()),
        // Not every file system can do that.
        Err(_) => {
            let zeros = vec![0; 1024 * 1024];
            (0..RESERVE / zeros.len() as u64).try_for_each(|_| file.write_all(&zeros))?;
            file.sync_all()
        }
    }
}

fn is_for_want_of_room(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
