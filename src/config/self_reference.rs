//! The check for upstreams that are the gateway itself.
//!
//! Owns how that is told from a URL alone. Its invariant: what is refused here is a loop on every
//! machine, because nothing else can listen on the address; what another name may lead to is only
//! doubted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::{Host, Url};

use super::{AdminConfig, EngineConfig, ServerConfig, reader::ConfigReader};

/// Refuses an upstream at an address that the gateway listens on, and doubts one by a name of the
/// gateway's own.
pub(super) fn check<'u>(
    reading: &mut ConfigReader,
    (server, admin, engine): (&ServerConfig, &AdminConfig, &EngineConfig),
    upstreams: impl Iterator<Item = (&'u String, &'u Url)>,
) {
    let public = engine.role.answers().then_some(("server.listen", server.listen));
    let listeners = public.into_iter().chain(admin.listen.map(|it| ("admin.listen", it)));
    let listeners: Vec<_> = listeners.collect();
    let names =
        [("server.public_url", &server.public_url), ("server.internal_url", &server.internal_url)];
    for (name, url) in upstreams {
        let key = format!("upstreams.{name}.url");
        if let Some((setting, listen)) = listeners.iter().find(|(_, it)| leads_to(url, *it)) {
            let says = format!(
                "the gateway itself listens there ({setting} is {listen}), so that every request would \
                 come back to it (508); name the service behind it, or let the gateway listen on \
                 another port"
            );
            reading.fault_about(key, says);
        } else if let Some((setting, _)) =
            names.iter().find(|(_, own)| is_origin_of(own.as_ref(), url))
        {
            let says = format!(
                "this is {setting}, so that every request comes back to the gateway (508) unless that \
                 name leads to the service from here; name the service by an address of its own"
            );
            reading.doubt_about(key, says);
        }
    }
}

/// Whether a connection to a URL's host and port opens at this listener.
fn leads_to(url: &Url, listen: SocketAddr) -> bool {
    // Port 0 is a different free port each time.
    if listen.port() == 0 || url.port_or_known_default() != Some(listen.port()) {
        return false;
    }
    match url.host() {
        Some(Host::Ipv4(address)) => is_heard(IpAddr::V4(address), listen.ip()),
        Some(Host::Ipv6(address)) => is_heard(IpAddr::V6(address), listen.ip()),
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            let is_local = name == "localhost" || name.ends_with(".localhost");
            let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            is_local && loopback.into_iter().any(|address| is_heard(address, listen.ip()))
        }
        None => false,
    }
}

/// Whether what is sent to `address` from this machine comes to who listens on `listen`.
fn is_heard(address: IpAddr, listen: IpAddr) -> bool {
    let (address, listen) = (address.to_canonical(), listen.to_canonical());
    // Who connects to no address in particular reaches loopback.
    let address = match address {
        IpAddr::V4(it) if it.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(it) if it.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    };
    match listen {
        // Of both families.
        IpAddr::V6(it) if it.is_unspecified() => address.is_loopback(),
        IpAddr::V4(it) if it.is_unspecified() => address.is_ipv4() && address.is_loopback(),
        one => one == address,
    }
}

fn is_origin_of(own: Option<&Url>, upstream: &Url) -> bool {
    // Under a path of its own, the gateway has its host from a proxy that leads elsewhere too.
    own.is_some_and(|own| own.path() == "/" && own.origin() == upstream.origin())
}

#[cfg(test)]
mod tests {
    use super::super::read as load;
    use super::super::{Config, Overrides, testing::lines};

    fn loaded(url: &str, more: &str) -> Result<Config, String> {
        let text = format!("{more}\n[upstreams.orders]\nurl = \"{url}\"");
        let loaded = load("test.toml", &text, std::iter::empty(), Overrides::default());
        loaded.map(|loaded| loaded.config).map_err(lines)
    }

    #[test]
    fn an_upstream_at_an_address_of_the_gateway_is_refused() {
        for (listen, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("127.0.0.1:8080", "http://localhost:8080"),
            ("127.0.0.1:8080", "http://LOCALHOST.:8080"),
            ("127.0.0.1:8080", "https://127.1:8080"),
            ("127.0.0.1:8080", "http://0.0.0.0:8080"),
            ("127.0.0.1:8080", "http://[::ffff:127.0.0.1]:8080"),
            ("0.0.0.0:8080", "http://127.0.0.9:8080"),
            (":8080", "http://[::1]:8080"),
            (":8080", "http://127.0.0.1:8080"),
            ("[::1]:80", "http://localhost"),
            ("10.0.0.1:8080", "http://10.0.0.1:8080"),
        ] {
            let says = loaded(url, &format!("[server]\nlisten = \"{listen}\"")).unwrap_err();
            let is_named = says.contains("upstreams.orders.url") && says.contains("server.listen");
            assert!(is_named && says.contains("508"), "{listen} {url}: {says}");
        }
        let says = loaded("http://localhost:8081", "").unwrap_err();
        assert!(says.contains("admin.listen"), "{says}");
    }

    #[test]
    fn an_upstream_elsewhere_is_not() {
        for (listen, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:9000"),
            ("127.0.0.1:8080", "http://127.0.0.2:8080"),
            ("127.0.0.1:8080", "http://[::1]:8080"),
            ("127.0.0.1:8080", "http://orders:8080"),
            ("127.0.0.1:8080", "http://10.0.0.1:8080"),
            ("0.0.0.0:8080", "http://10.0.0.1:8080"),
            ("0.0.0.0:8080", "http://[::1]:8080"),
            ("10.0.0.1:8080", "http://localhost:8080"),
            ("127.0.0.1:0", "http://127.0.0.1:80"),
        ] {
            let config = loaded(url, &format!("[server]\nlisten = \"{listen}\"")).unwrap();
            assert_eq!(config.doubts, [], "{listen} {url}");
        }
        // A worker listens to no client.
        let worker = "[engine]\nrole = \"worker\"\n[store]\nurl = \"postgres://db/x\"";
        assert!(loaded("http://localhost:8080", worker).is_ok());
    }

    #[test]
    fn an_upstream_by_a_public_name_of_the_gateway_is_doubted() {
        for (setting, own, url, doubted) in [
            ("public_url", "https://api.example.com", "https://API.example.com:443", true),
            ("internal_url", "http://gateway:8080", "http://gateway:8080", true),
            ("public_url", "https://api.example.com/async", "https://api.example.com", false),
            ("public_url", "https://api.example.com", "http://api.example.com", false),
            ("public_url", "https://api.example.com", "https://orders.example.com", false),
        ] {
            let config = loaded(url, &format!("[server]\n{setting} = \"{own}\"")).unwrap();
            assert_eq!(config.doubts.len(), usize::from(doubted), "{own} {url}");
            if let Some(doubt) = config.doubts.first() {
                let says = doubt.to_string();
                assert!(says.contains("test.toml:") && says.contains(setting), "{says}");
                assert!(says.contains("508"), "{says}");
            }
        }
    }
}
