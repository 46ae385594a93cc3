//! `[admin]`: the operators' listener.
//!
//! Owns where it listens and which hosts it answers for. It must not know what it serves.

use std::net::SocketAddr;

use super::{raw_value::RawValue, reader::Section, setting::Setting};

/// The operators' listener.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    /// Where operators are listened to; none: not at all.
    pub listen: Option<SocketAddr>,
    /// Names, in lower case and without a port, that it answers to besides localhost and
    /// IP literals.
    pub hosts: Vec<String>,
}

impl AdminConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let listen = AdminListen(Some(SocketAddr::from(([127, 0, 0, 1], 8081))));
        let hosts = section.get::<Vec<HostName>>("hosts", Vec::new());
        Self {
            listen: section.get("listen", listen).0,
            hosts: hosts.into_iter().map(|host| host.0).collect(),
        }
    }
}

struct AdminListen(Option<SocketAddr>);

impl Setting for AdminListen {
    fn read(given: &RawValue) -> Result<Self, String> {
        if given.text()? == "off" {
            return Ok(Self(None));
        }
        let address = SocketAddr::read(given).map_err(|says| format!("{says}, or off"))?;
        Ok(Self(Some(address)))
    }

    fn show(&self) -> String {
        self.0.map_or_else(|| "off".to_owned(), |address| address.to_string())
    }
}

struct HostName(String);

impl Setting for HostName {
    fn read(given: &RawValue) -> Result<Self, String> {
        let name = given.text()?.to_ascii_lowercase();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            return Err(format!(
                "`{name}` is not a host's name; write it without scheme and port, like \
                 admin.example.com"
            ));
        }
        Ok(Self(name))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, read};

    #[test]
    fn operators_are_listened_to_on_loopback_unless_told() {
        assert_eq!(read("").admin.listen.unwrap().to_string(), "127.0.0.1:8081");
        assert_eq!(read("[admin]\nlisten = \"off\"").admin.listen, None);
        assert!(faults("[admin]\nlisten = \"on\"").contains("or off"));
    }

    #[test]
    fn hosts_are_bare_names() {
        let admin = read("[admin]\nhosts = [\"Admin.Example.com\"]").admin;
        assert_eq!(admin.hosts, ["admin.example.com"]);
        for bad in ["", "https://a.example", "a.example:8081", "*"] {
            let says = faults(&format!("[admin]\nhosts = [\"{bad}\"]"));
            assert!(says.contains("admin.hosts"), "{bad}: {says}");
        }
    }
}
