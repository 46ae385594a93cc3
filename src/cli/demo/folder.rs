//! A temporary folder for the demo's ledger.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A temporary folder; dropping it removes it with everything in it.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// A new folder that only its owner can look into.
    pub(super) fn make() -> std::io::Result<Self> {
        let name = format!("cloakroom-demo-{:016x}", rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// A file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        Path::join(&self.0, name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_it() {
        let folder = Folder::make().unwrap();
        let file = folder.file("a.db");
        std::fs::write(&file, "x").unwrap();
        assert!(file.exists());
        drop(folder);
        assert!(!file.parent().unwrap().exists());
    }
}
