//! The place that a tunnel takes up, and its end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::upgrade::upgrade;
use crate::support::gateway::Process;
use crate::support::{Answer, Connection, Setup, Upstream, get, time};

/// A text frame of a server with five octets.
const FRAME: &[u8] = b"\x81\x05hello";
/// A server's close: going away.
const CLOSE: &[u8] = b"\x88\x02\x03\xe9";

#[tokio::test]
async fn a_tunnel_counts_as_a_connection_until_it_ends() {
    let upstream = Upstream::start().await;
    upstream.on("/live", Answer::Upgrade("websocket".into()));
    let gateway = Setup::before(&upstream).set("server", "max_connections = 2").start().await;
    let mut tunnel = Connection::open(gateway.public).await;
    tunnel.send_head(&upgrade(get("/live"), "websocket")).await;
    tunnel.head().await.expect(101);
    let mut other = Connection::open(gateway.public).await;
    other.send(&get("/other")).await.expect(200);
    let mut third = Connection::open(gateway.public).await;
    third.send_head(&get("/third")).await;
    for _ in 0..30 {
        other.send(&get("/other")).await.expect(200);
    }
    assert!(upstream.received_at("/third").is_empty());
    drop(tunnel);
    third.response().await.expect(200);
}

/// A tunnel through a gateway to an upstream that the test plays.
struct Scene {
    gateway: Process,
    client: Connection,
    upstream: TcpStream,
}

impl Scene {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let gateway = Setup::before_url(&url).spawn().await;
        let mut client = Connection::open(gateway.public).await;
        client.send_head(&upgrade(get("/live"), "websocket")).await;
        let mut upstream = time::within("the upgrade", Self::upgraded(&listener)).await;
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket";
        upstream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
        client.head().await.expect(101);
        Self { gateway, client, upstream }
    }

    /// The connection on which the gateway asks for an upgrade; others only look whether
    /// anybody is there.
    async fn upgraded(listener: &TcpListener) -> TcpStream {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(octet) = stream.read_u8().await else { break };
                head.push(octet);
            }
            if !head.is_empty() {
                return stream;
            }
        }
    }

    /// What the upstream gets until the gateway has closed.
    async fn upstream_gets(&mut self) -> Vec<u8> {
        let mut came = Vec::new();
        time::within("the end", self.upstream.read_to_end(&mut came)).await.unwrap();
        came
    }
}

/// A client's close, without its mask: going away.
fn closes(frame: &[u8]) -> bool {
    let [0x88, 0x82, mask @ .., high, low] = frame else { return false };
    mask.len() == 4 && [high ^ mask[0], low ^ mask[1]] == [0x03, 0xe9]
}

#[tokio::test]
async fn a_stop_closes_both_sides_of_a_websocket_in_good_order() {
    let mut scene = Scene::open().await;
    scene.upstream.write_all(FRAME).await.unwrap();
    assert_eq!(scene.client.exactly(FRAME.len()).await, FRAME);
    scene.client.send_raw(b"\x81\x80abcd").await;
    let mut sent = [0; 6];
    scene.upstream.read_exact(&mut sent).await.unwrap();
    scene.gateway.signal("TERM").await;
    assert_eq!(scene.client.closed().await, CLOSE);
    let came = scene.upstream_gets().await;
    assert!(closes(&came), "{came:x?}");
    drop((scene.client, scene.upstream));
    assert!(scene.gateway.ended().await.success());
}

#[tokio::test]
async fn a_frame_that_is_under_way_at_a_stop_is_finished_first() {
    let mut scene = Scene::open().await;
    let (begins, ends) = FRAME.split_at(4);
    scene.upstream.write_all(begins).await.unwrap();
    assert_eq!(scene.client.exactly(begins.len()).await, begins);
    scene.gateway.signal("TERM").await;
    // That the other way is closed says that the stop has begun.
    let came = scene.upstream_gets().await;
    assert!(closes(&came), "{came:x?}");
    scene.upstream.write_all(&[ends, FRAME].concat()).await.unwrap();
    assert_eq!(scene.client.closed().await, [ends, CLOSE].concat());
    drop((scene.client, scene.upstream));
    assert!(scene.gateway.ended().await.success());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_sides_that_keep_a_tunnel_open() {
    let mut scene = Scene::open().await;
    scene.upstream.write_all(&FRAME[..4]).await.unwrap();
    assert_eq!(scene.client.exactly(4).await, &FRAME[..4]);
    scene.gateway.signal("TERM").await;
    assert!(scene.gateway.ended().await.success());
}

#[tokio::test]
async fn the_kernel_watches_over_both_sides_of_a_tunnel() {
    let scene = Scene::open().await;
    let upstream = scene.upstream.local_addr().unwrap().port();
    let public = scene.gateway.public.port();
    // Which timer of a connection runs: the third is that of keeping it alive (proc(5)).
    let is_watched = |is_it: &dyn Fn(u16, u16) -> bool| {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().skip(1).any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let port = |address: &str| u16::from_str_radix(&address[9..], 16).unwrap();
            is_it(port(fields[1]), port(fields[2]))
                && fields[3] == "01"
                && fields[5].starts_with("02:")
        })
    };
    time::until("a watch over the client", || async {
        is_watched(&|local, _| local == public).then_some(())
    })
    .await;
    time::until("a watch over the upstream", || async {
        is_watched(&|_, remote| remote == upstream).then_some(())
    })
    .await;
}
