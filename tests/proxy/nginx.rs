//! The gateway behind nginx, as the README says to set that up.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::support::{Authority, Gateway, Setup, Upstream, postgres::free_port, time};

/// The name that the README's example has.
const NAME: &str = "api.example.com";

/// An nginx in front of a gateway. Dropping it ends it.
struct Nginx {
    port: u16,
    folder: TempDir,
    _child: Child,
}

/// Debian puts it where only root looks.
fn program() -> PathBuf {
    let there = Path::new("/usr/sbin/nginx");
    if there.exists() { there.to_owned() } else { PathBuf::from("nginx") }
}

/// The README's block, word by word but for the addresses.
fn block(gateway: &Gateway, port: u16) -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let readme = readme.expect("the README");
    let (_, rest) = readme.split_once("```nginx\n").expect("a block for nginx");
    let (block, _) = rest.split_once("```").expect("its end");
    let mut text = block.to_owned();
    for (said, here) in [
        (
            "listen 443 ssl;",
            format!(
                "listen 127.0.0.1:{port} ssl http2; ssl_certificate certificate.pem; ssl_certificate_key key.pem;"
            ),
        ),
        ("proxy_pass http://127.0.0.1:8080;", format!("proxy_pass http://{};", gateway.public)),
    ] {
        assert!(text.contains(said), "{said} in {text}");
        text = text.replace(said, &here);
    }
    text
}

impl Nginx {
    async fn before(gateway: &Gateway) -> Self {
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let (certificate, key) = Authority::new().certify(NAME).pem();
        let conf = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n\
             client_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n{}\n}}\n",
            block(gateway, port)
        );
        for (name, text) in
            [("nginx.conf", conf), ("certificate.pem", certificate), ("key.pem", key)]
        {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let at = |name: &str| folder.path().join(name);
        let mut command = Command::new(program());
        command.arg("-p").arg(folder.path()).arg("-c").arg(at("nginx.conf"));
        command.arg("-e").arg(at("error.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.kill_on_drop(true).spawn().expect("nginx is installed");
        let listens = || async { TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok() };
        time::until("nginx to listen", listens).await;
        Self { port, folder, _child: child }
    }

    /// Posts that many octets with these fields; the status, the version of HTTP, and the head
    /// of the answer.
    async fn post(
        &self,
        version: &str,
        path: &str,
        octets: usize,
        expect: &str,
    ) -> (String, String) {
        let body = self.folder.path().join("request");
        std::fs::write(&body, vec![b'x'; octets]).unwrap();
        let mut curl = Command::new("curl");
        curl.args(["-q", "-sSk", version, "--max-time", "20", "-o", "/dev/null", "-D", "-"]);
        curl.args(["-w", "%{http_code} %{http_version}", "-H", "Content-Type: text/plain"]);
        curl.arg("--connect-to").arg(format!("{NAME}:443:127.0.0.1:{}", self.port));
        curl.arg("--data-binary").arg(format!("@{}", body.display()));
        curl.args(["-H", expect]).arg(format!("https://{NAME}{path}"));
        let answered = time::within("an answer", curl.output()).await.expect("curl is installed");
        let told = String::from_utf8_lossy(&answered.stdout).into_owned();
        assert!(answered.status.success(), "{}{told}", String::from_utf8_lossy(&answered.stderr));
        let (head, summary) = told.rsplit_once("\r\n").expect("a head");
        (summary.to_owned(), head.to_ascii_lowercase())
    }
}

const VERSIONS: [(&str, &str); 2] = [("--http1.1", "1.1"), ("--http2", "2")];

async fn scene() -> (Upstream, Gateway, Nginx) {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .set("server", &format!("public_url = \"https://{NAME}\""))
        .set("server", "trusted_proxies = [\"127.0.0.1/32\"]")
        .route("POST /orders", "")
        .route("POST /quick", "mode = \"sync\"\nallow = [\"sync\", \"async\"]")
        .start()
        .await;
    let nginx = Nginx::before(&gateway).await;
    (upstream, gateway, nginx)
}

#[tokio::test]
async fn a_large_upload_that_expects_100_continue_is_accepted_behind_nginx() {
    let (upstream, _gateway, nginx) = scene().await;
    for (number, (flag, version)) in VERSIONS.into_iter().enumerate() {
        let answer = nginx.post(flag, "/orders", 4_000_000, "Expect: 100-continue").await;
        assert_eq!(answer.0, format!("202 {version}"), "{}", answer.1);
        let location = format!("location: https://{NAME}/-/operations/");
        assert!(answer.1.contains(&location), "{}", answer.1);
        let received = upstream.until_received("/orders", number + 1).await;
        assert_eq!(received[number].body.len(), 4_000_000);
    }
}

#[tokio::test]
async fn every_other_expectation_passes_nginx_whatever_stands_beside_it() {
    let (_upstream, _gateway, nginx) = scene().await;
    for (flag, version) in VERSIONS {
        for (expect, status) in [
            ("Expect: 202-accepted", 202),
            ("Expect: 100-continue, 202-accepted", 202),
            ("Expect: 202-accepted , 100-Continue", 202),
            ("Expect: 202-accepted, 100-continue, 200-ok", 201),
            ("Expect: 100-continue", 201),
            ("Expect: tea, 100-continue", 417),
            ("Operation-Expect: 100-continue, 202-accepted", 202),
            ("X-Nothing: expected", 201),
        ] {
            let answer = nginx.post(flag, "/quick", 2_000_000, expect).await;
            assert_eq!(answer.0, format!("{status} {version}"), "{expect}: {}", answer.1);
        }
    }
}
