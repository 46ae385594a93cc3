//! `cloakroom health`: the probe of a container.

use super::{run, stdout, words};
use crate::support::Upstream;
use crate::support::gateway::Process;

#[tokio::test]
async fn health_is_fine_where_a_gateway_is_ready() {
    let upstream = Upstream::start().await;
    let process = Process::with_flags(&["--upstream", &upstream.url()]).await;
    let admin = format!("http://{}", process.admin);
    for arguments in [&["health"][..], &["health", "--alive"]] {
        let output = run(&[arguments, &["--admin", &admin]].concat(), None).await;
        assert!(output.status.success(), "{}", words(&output));
        assert_ne!(stdout(&output), "");
    }
}

#[tokio::test]
async fn health_fails_where_nobody_answers_and_says_where_it_looked() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(&["health", "--admin", &format!("http://{nobody}")], None).await;
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(words(&output).contains(&nobody.to_string()), "{}", words(&output));
}
