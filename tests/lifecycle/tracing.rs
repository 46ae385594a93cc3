//! The log lines of requests.

use crate::support::{Setup, Upstream, get, post, time};

#[tokio::test]
async fn an_answer_is_a_line_that_repeats_nothing_of_what_the_client_sent() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).principal("authorization");
    let process = setup.set("log", "filter = \"debug\"").spawn().await;
    let credential = "Bearer secret-credential";
    let accepted = post("/orders?q=secret-query")
        .field("Authorization", credential)
        .field("Idempotency-Key", "\"secret-key\"")
        .body("text/plain", "secret-body");
    let ticket = process.accept(accepted).await;
    let monitor = get(&*ticket.monitor).field("Authorization", credential);
    let monitored = process.send(monitor).await;
    let passed = get("/secret-path?q=secret-query").field("Authorization", credential);
    process.send(passed).await;
    process.admin(get("/-/operations?tag=secret-tag")).await.expect(200);
    let line = |listener: &str, method: &str, status: u16| {
        let logged = process.stderr();
        let mut lines = logged.lines().filter(|line| line.contains("answered a request"));
        lines.any(|line| {
            let words = [listener, method, &status.to_string()];
            words.iter().all(|word| line.contains(*word))
        })
    };
    time::until("the lines of the answers", || async {
        let told = [
            line("public", "POST", 202),
            line("public", "GET", monitored.status),
            line("admin", "GET", 200),
        ];
        told.iter().all(|told| *told).then_some(())
    })
    .await;
    let logged = process.stderr();
    let secret_ticket = ticket.monitor.rsplit('/').next().unwrap();
    for secret in ["secret-", secret_ticket] {
        let lines: Vec<_> = logged.lines().filter(|line| line.contains(secret)).collect();
        assert!(lines.is_empty(), "{lines:#?}");
    }
}
