//! A pooler that has lost the server behind it, and says so as pgpool does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::gateway::order;
use crate::support::postgres::cluster;
use crate::support::{Setup, Upstream, get, time};

/// The fields of pgpool 4.3's error: the connection ends, and the code is that of any internal error.
const FIELDS: &[u8] = b"SFATAL\0CXX000\0Munable to read data from DB node 0\0\0";
/// What asks for TLS.
const WITH_TLS: u32 = 80_877_103;

/// Passes everything on, but for the time in which the server is lost.
struct Pooler {
    address: SocketAddr,
    lost: watch::Sender<bool>,
    refused: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Pooler {
    async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (lost, told) = watch::channel(false);
        let refused = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&refused);
        let accepting = time::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(serve(client, port, told.clone(), Arc::clone(&counted)));
            }
        });
        Self { address, lost, refused, accepting }
    }

    fn url(&self, direct: &str) -> String {
        let name = direct.rsplit('/').next().unwrap();
        format!("postgres://postgres@{}/{name}", self.address)
    }

    /// How many clients were told that the server is lost.
    fn refused(&self) -> usize {
        self.refused.load(Ordering::Acquire)
    }
}

async fn serve(
    mut client: TcpStream,
    port: u16,
    mut lost: watch::Receiver<bool>,
    refused: Arc<AtomicUsize>,
) {
    if *lost.borrow() {
        startup(&mut client).await;
    } else {
        let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => return,
            _ = lost.wait_for(|lost| *lost) => {}
        }
    }
    let length = u32::try_from(FIELDS.len() + 4).unwrap();
    let told = [b"E", &length.to_be_bytes()[..], FIELDS].concat();
    _ = client.write_all(&told).await;
    refused.fetch_add(1, Ordering::AcqRel);
}

/// Reads what a client begins with.
async fn startup(client: &mut TcpStream) {
    while let Ok(length) = client.read_u32().await {
        let mut rest = vec![0; length as usize - 4];
        _ = client.read_exact(&mut rest).await;
        if rest.first_chunk().copied().map(u32::from_be_bytes) != Some(WITH_TLS) {
            return;
        }
        _ = client.write_u8(b'N').await;
    }
}

#[tokio::test]
async fn a_pooler_that_has_lost_the_server_is_a_503_until_it_has_one_again() {
    let upstream = Upstream::start().await;
    let pooler = Pooler::before(cluster().port()).await;
    let url = pooler.url(&cluster().database());
    let gateway = Setup::before(&upstream).on(&url).spawn().await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    pooler.lost.send_replace(true);
    for _ in 0..5 {
        for request in [get(ticket.at("result")), get(&*ticket.monitor), order()] {
            gateway.send(request).await.expect(503).expect_field("retry-after");
        }
    }
    pooler.lost.send_replace(false);
    let answer = time::until("the result", || async {
        let answer = gateway.get(&ticket.at("result")).await;
        (answer.status != 503).then_some(answer)
    });
    answer.await.expect(200);
    gateway.settled(&gateway.post_order().await).await;
}

#[tokio::test]
async fn a_start_waits_for_a_pooler_that_has_lost_the_server() {
    let upstream = Upstream::start().await;
    let pooler = Pooler::before(cluster().port()).await;
    let url = pooler.url(&cluster().database());
    pooler.lost.send_replace(true);
    let found = async {
        time::until("a second try", || async { (pooler.refused() > 1).then_some(()) }).await;
        pooler.lost.send_replace(false);
    };
    let (gateway, ()) = tokio::join!(Setup::before(&upstream).on(&url).spawn(), found);
    gateway.settled(&gateway.post_order().await).await;
}
