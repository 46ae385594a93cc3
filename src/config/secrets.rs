//! `[secrets]`: the keys that seal stored secrets.
//!
//! Owns where such a key is read from. Its invariant: a key is never shown.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{raw_value::RawValue, reader::Section, setting::Setting};
use cloakroom_domain::sealing::{Keyring, SealingKey};

/// The keys that seal stored secrets.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SecretsConfig {
    /// The key for new secrets; without it nothing is sealed.
    pub key: Option<SealingKey>,
    /// Keys that still open what they sealed.
    pub previous: Vec<SealingKey>,
}

impl SecretsConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let key = section.get::<Option<SealingKeySetting>>("key", None).map(|written| written.key);
        let previous = section.get::<Vec<SealingKeySetting>>("previous", Vec::new());
        Self { key, previous: previous.into_iter().map(|written| written.key).collect() }
    }

    /// The keys, ready to be used.
    pub fn keyring(&self) -> Keyring {
        Keyring::new(self.key.clone(), self.previous.clone())
    }
}

/// A key as it is written: in base64, or where it is found.
struct SealingKeySetting {
    key: SealingKey,
    file: Option<String>,
}

const RIGHT: &str = "32 random bytes in base64, as `openssl rand -base64 32` prints them, or \
                     file:PATH of a file that holds them";

impl Setting for SealingKeySetting {
    fn read(given: &RawValue) -> Result<Self, String> {
        // Nothing of what was written may be repeated.
        let text = given.text().map_err(|_| format!("a key is {RIGHT}"))?;
        let Some(path) = text.strip_prefix("file:") else {
            let key = decoded(text).ok_or_else(|| format!("this is no key; write {RIGHT}"))?;
            return Ok(Self { key, file: None });
        };
        let content = std::fs::read_to_string(path).map(Zeroizing::new);
        let content = content.map_err(|why| format!("the file {path} cannot be read: {why}"))?;
        let key = decoded(&content).ok_or_else(|| format!("{path} holds no key; write {RIGHT}"))?;
        Ok(Self { key, file: Some(text.to_owned()) })
    }

    fn show(&self) -> String {
        self.file.clone().unwrap_or_else(|| "(hidden)".to_owned())
    }
}

impl fmt::Debug for SealingKeySetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written(..)")
    }
}

fn decoded(text: &str) -> Option<SealingKey> {
    let octets = Zeroizing::new(STANDARD.decode(text.trim()).ok()?);
    Some(SealingKey::new(octets.as_slice().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, load, load_with, rows};
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn key() -> SealingKey {
        SealingKey::new(std::array::from_fn(|n| n as u8))
    }

    #[test]
    fn a_key_comes_from_the_environment_or_a_file_and_is_never_shown() {
        let loaded = load_with("", &[("CLOAKROOM_SECRETS_KEY", KEY)]).unwrap();
        assert_eq!(loaded.config.secrets.key, Some(key()));
        assert_eq!(rows(&loaded)["secrets.key"].value, "(hidden)");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, format!("{KEY}\n")).unwrap();
        let text = format!("[secrets]\nkey = {KEY:?}\nprevious = [\"file:{}\"]", path.display());
        let loaded = load(&text).unwrap();
        assert_eq!(loaded.config.secrets.previous, [key()]);
        let shown = format!("{:?} {:?}", loaded.config.secrets, loaded.sources);
        assert!(shown.contains("file:") && !shown.contains("AAECAw"), "{shown}");
    }

    #[test]
    fn what_is_no_key_is_told_without_repeating_it() {
        for wrong in ["hunter2", "AAECAw==", "file:/nowhere/at/all"] {
            let says = faults(&format!("[secrets]\nkey = {wrong:?}"));
            assert!(says.contains("secrets.key") && !says.contains("hunter2"), "{says}");
        }
        let says = faults("[secrets]\nkey = 5");
        assert!(says.contains("openssl rand -base64 32"), "{says}");
    }
}
